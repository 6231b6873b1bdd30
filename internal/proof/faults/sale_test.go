package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The size of a trial's sale.
const (
	activities  = 4
	perActivity = 15
	items       = activities * perActivity
	units       = 150 // of each item: the most wanted ones sell out, the others don't
	price       = 1999
)

// sale is what is on sale in one trial.
type sale struct {
	activities []string
	items      []item // the most wanted first
}

// item is one of a sale. id and shard are 0 where the site has no PostgreSQL.
type item struct {
	activity, sku string
	id            int64
	shard         int
}

// name is the item's in an activity.
func (i *item) name() string { return i.activity + "/" + i.sku }

// openSale publishes a sale and returns when both gateways know it. starts is when it begins.
func (s *site) openSale(t testing.TB, name string, starts time.Time) *sale {
	t.Helper()
	s.trials++
	sold := new(sale)
	for a := range activities {
		activity := fmt.Sprintf("%s-%d-%d", name, s.trials, a)
		sold.activities = append(sold.activities, activity)
		var list []string
		for i := range perActivity {
			list = append(list, fmt.Sprintf(`{"sku":"s%d","price":%d,"currency":"CNY","quantity":%d,"per_user":1}`, i, price, units))
		}
		s.node().admin("PUT", "/admin/v1/activities/"+activity, fmt.Sprintf(
			`{"merchant":"acme","name":"Sale","starts_at":%q,"ends_at":%q,"payment_window":"1h","items":[%s]}`,
			starts.UTC().Format(time.RFC3339), starts.Add(2*time.Hour).UTC().Format(time.RFC3339), strings.Join(list, ",")))
		s.node().admin("POST", "/admin/v1/activities/"+activity+"/publish", "")
	}
	for rank := range items {
		sold.items = append(sold.items, item{activity: sold.activities[rank%activities], sku: fmt.Sprint("s", rank/activities)})
	}
	for i := range s.gateways {
		for _, activity := range sold.activities {
			eventually(t, "a gateway knows "+activity, func() bool {
				a, err := call(t.Context(), "GET", s.gateways[i].Load().public+"/v1/activities/"+activity, "", "Authorization", s.bearer)
				return err == nil && a.status == 200
			})
		}
	}
	if s.postgres != nil {
		s.place(t, sold)
	}
	return sold
}

// place reads the items' ids and shards.
func (s *site) place(t testing.TB, sold *sale) {
	t.Helper()
	conn, err := s.connect(t.Context())
	no(t, "connect to the database", err)
	defer conn.Close(t.Context())
	for i := range sold.items {
		it := &sold.items[i]
		err := conn.QueryRow(t.Context(), `SELECT i.id, s.shard FROM activities a JOIN items i ON i.sale = a.sale JOIN stock s ON s.item = i.id
			WHERE a.id = $1 AND i.sku = $2`, it.activity, it.sku).Scan(&it.id, &it.shard)
		no(t, "place "+it.name(), err)
	}
}

func decode(t testing.TB, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v: %.300s", err, text)
	}
}

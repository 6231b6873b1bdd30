package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/proof/servers"
)

// stockEvent is the value of a record of stock-status.
type stockEvent struct {
	Stock string `json:"stock"`
	Epoch int    `json:"epoch"`
	Seq   int    `json:"seq"`
}

// crossings returns the statuses that a consumer accepts, if it compares epoch and seq as
// docs/events.md asks.
func crossings(t testing.TB, records []servers.Record) string {
	t.Helper()
	var events []stockEvent
	for _, r := range records {
		var e stockEvent
		if err := json.Unmarshal([]byte(r.Value), &e); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		events = append(events, e)
	}
	slices.SortStableFunc(events, func(a, b stockEvent) int { return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq)) })
	var told []string
	for _, e := range events {
		if len(told) == 0 || told[len(told)-1] != e.Stock {
			told = append(told, e.Stock)
		}
	}
	return strings.Join(told, " ")
}

// TestEvents: other systems get every crossing and every step of every order, also when a worker is
// killed. A consumer that compares ids gets each event once.
func TestEvents(t *testing.T) {
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: 1, window: "15m"})
	stock := func(want string) {
		t.Helper()
		c.kafka.Records(t, "stock-status", func(got []servers.Record) bool { return crossings(t, got) == want })
	}
	first := s.mustBuy(c.gateway(0), "u-1", "k-1")
	stock("sold_out")
	if a := s.cancel(c.gateway(1), first); a.status != 200 {
		t.Fatal(a)
	}
	stock("sold_out in_stock")
	c.workers[0].kill()
	second := s.mustBuy(c.gateway(1), "u-2", "k-2")
	if a := s.pay(c.gateway(0), "p-1", second, price); a.status != 200 {
		t.Fatal(a)
	}
	stock("sold_out in_stock sold_out")

	want := []string{first + ".created", first + ".cancelled", second + ".created", second + ".paid"}
	steps := func(got []servers.Record) []string {
		var ids []string
		for _, r := range got {
			if id := r.Headers["ce_id"]; !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		// Each order has its own key, and so its own partition: events of two orders have no common
		// order.
		slices.SortStableFunc(ids, func(a, b string) int {
			return cmp.Compare(strings.Index(first+second, a[:40]), strings.Index(first+second, b[:40]))
		})
		return ids
	}
	records := c.kafka.Records(t, "order-events", func(got []servers.Record) bool { return len(steps(got)) == len(want) })
	if got := steps(records); !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	for _, r := range records {
		var value struct{ Order, User, Merchant string }
		if err := json.Unmarshal([]byte(r.Value), &value); err != nil || value.Order != r.Key || value.Merchant != s.merchant {
			t.Errorf("%s: %s, %v", r.Key, r.Value, err)
		}
		h := r.Headers
		if h["ce_specversion"] != "1.0" || h["ce_source"] != "/penstock" || h["ce_subject"] != r.Key || h["content-type"] != "application/json" {
			t.Errorf("headers %v", h)
		}
		if kind := fmt.Sprintf("penstock.order.%s.v1", strings.TrimPrefix(h["ce_id"], r.Key+".")); h["ce_type"] != kind {
			t.Errorf("type %s of %s", h["ce_type"], h["ce_id"])
		}
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// replayed is the report of a replay.
type replayed struct {
	Records, Promises, Existed, Made, Missing, Rejected, Parked, Skipped int
	Next                                                                 *string
}

// replay reads the log of the last hour again, in small parts.
func replay(n *node, dryRun bool) (sum replayed) {
	body := map[string]any{
		"from": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "to": time.Now().Add(time.Minute).UTC().Format(time.RFC3339),
		"dry_run": dryRun, "limit": 7, "reason": "a row is missing",
	}
	for {
		text, err := json.Marshal(body)
		if err != nil {
			n.t.Fatal(err)
		}
		var part replayed
		if err := json.Unmarshal(n.admin(200, "POST", "/admin/v1/replay", string(text)).body, &part); err != nil {
			n.t.Fatal(err)
		}
		sum.Records += part.Records
		sum.Promises += part.Promises
		sum.Existed += part.Existed
		sum.Made += part.Made
		sum.Missing += part.Missing
		sum.Skipped += part.Skipped + part.Rejected + part.Parked
		if part.Next == nil {
			return sum
		}
		body["after"] = *part.Next
	}
}

// TestL4_Replay: on real servers, the log of a sale is read again and nothing changes; a row that
// was deleted by hand comes back, once.
func TestL4_Replay(t *testing.T) {
	c := startCluster(t)
	n := c.gateway(0)
	s := openShop(n, terms{quantity: 1000, perUser: 0, window: "10m"})
	const orders = 30
	var ids []string
	for i := range orders {
		ids = append(ids, s.mustBuy(c.gateway(i), fmt.Sprint("u", i), "k"))
	}
	for _, id := range ids {
		eventually(t, "every order has its row", func() bool { return s.order(n, id).field("status") == "pending_payment" })
	}
	before := s.settled(n)
	for _, dry := range []bool{true, false} {
		if got := replay(n, dry); got.Promises != orders || got.Existed != orders || got.Made+got.Missing+got.Skipped != 0 {
			t.Fatalf("a healthy installation: %+v", got)
		}
	}
	if after := s.settled(n); after != before {
		t.Errorf("the stock is %+v, was %+v", after, before)
	}
	c.postgres.ExecuteIn(t, c.database, "DELETE FROM orders WHERE id = '"+ids[3]+"'")
	if got := replay(n, true); got.Missing != 1 || got.Existed != orders-1 {
		t.Fatalf("one row is missing, and seen is %+v", got)
	}
	if got := replay(n, false); got.Made != 1 || got.Existed != orders-1 {
		t.Fatalf("one row is missing, and made is %+v", got)
	}
	if got := n.admin(200, "GET", "/admin/v1/changes?limit=1", ""); !strings.Contains(string(got.body), ids[3]) {
		t.Errorf("the order that was made is no change on record: %s", got.body)
	}
	if got := s.order(n, ids[3]); got.field("status") != "pending_payment" {
		t.Errorf("the order is %v", got)
	}
	if got := replay(n, false); got.Made != 0 || got.Existed != orders {
		t.Errorf("the second time: %+v", got)
	}
	list := n.admin(200, "GET", "/admin/v1/orders?limit=1000", "")
	var found struct{ Orders []struct{ Order string } }
	if err := json.Unmarshal(list.body, &found); err != nil || len(found.Orders) != orders {
		t.Errorf("%d orders, %v; want %d", len(found.Orders), err, orders)
	}
}

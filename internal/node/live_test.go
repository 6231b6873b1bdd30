package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// liveShop is a node on embedded parts with a sale of two items.
type liveShop struct {
	*Node
	t   *testing.T
	key string
}

const liveToken = "token-of-the-live-test"

func openLiveShop(t *testing.T) *liveShop {
	c := testConfig(t)
	c.AdminToken = liveToken
	return openLiveShopOn(t, c)
}

// openLiveShopOn is openLiveShop with another configuration, whose token is liveToken.
func openLiveShopOn(t *testing.T, c Config) *liveShop {
	s := &liveShop{Node: start(t, c, RoleGateway|RoleWorker), t: t}
	s.call("PUT", s.AdminURL()+"/admin/v1/merchants/m1", `{"name":"Shop"}`, liveToken)
	var made struct{ Key string }
	if err := json.Unmarshal(s.call("POST", s.AdminURL()+"/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`, liveToken), &made); err != nil {
		t.Fatal(err)
	}
	s.key = made.Key
	now := time.Now().UTC()
	s.call("PUT", s.AdminURL()+"/admin/v1/activities/618", fmt.Sprintf(`{"merchant":"m1","name":"Sale","starts_at":%q,"ends_at":%q,
		"payment_window":"15m","items":[{"sku":"few","price":1,"currency":"CNY","quantity":2,"per_user":1},{"sku":"many","price":2,"currency":"CNY",
		"quantity":1000,"per_user":1}]}`, now.Add(-time.Hour).Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339)), liveToken)
	s.call("POST", s.AdminURL()+"/admin/v1/activities/618/publish", "", liveToken)
	return s
}

// call sends a request until the answer isn't a failure of the server.
func (s *liveShop) call(method, url, body, token string, header ...string) []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := client.Do(request)
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if _ = response.Body.Close(); err != nil {
			s.t.Fatal(err)
		}
		if response.StatusCode >= 400 && response.StatusCode < 500 && token == liveToken {
			s.t.Fatalf("%s %s: %d %s", method, url, response.StatusCode, text)
		}
		if response.StatusCode < 500 {
			return text
		}
		if !wait.For(ctx, 50*time.Millisecond) {
			s.t.Fatalf("%s %s: %d %s", method, url, response.StatusCode, text)
		}
	}
}

// buy buys one unit, and returns the order, "" where it was refused.
func (s *liveShop) buy(sku, user string) string {
	s.t.Helper()
	body := fmt.Sprintf(`{"activity":"618","sku":%q,"user":%q,"quantity":1}`, sku, user)
	var order struct{ Order string }
	if err := json.Unmarshal(s.call("POST", s.PublicURL()+"/v1/orders", body, s.key, "Idempotency-Key", "k"), &order); err != nil {
		s.t.Fatal(err)
	}
	return order.Order
}

// see reads snapshots until one matches.
func (s *liveShop) see(what string, fits func(*live.Snapshot) bool) *live.Snapshot {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	w, err := s.live.hub.Subscribe(live.Filter{Types: []string{live.EventLive}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer w.Close()
	var last *live.Snapshot
	for {
		select {
		case e, more := <-w.Events():
			if !more {
				s.t.Fatalf("the stream ended before %s", what)
			}
			if last = e.View.Snapshot(); fits(last) {
				return last
			}
		case <-ctx.Done():
			text, _ := json.Marshal(last)
			s.t.Fatalf("not seen: %s; the last snapshot is %s", what, text)
		}
	}
}

// TestLive_ShowsASale: the snapshots show what was bought, refused and cancelled, and what is left.
func TestLive_ShowsASale(t *testing.T) {
	s := openLiveShop(t)
	s.see("the sale without traffic", func(s *live.Snapshot) bool {
		return len(s.Activities) == 1 && s.Activities[0].State == live.StateOnSale && s.Activities[0].Ledger.Available == 1002
	})
	accepted, refused, cancelled := 0.0, 0.0, 0.0
	done := make(chan struct{})
	w, err := s.live.hub.Subscribe(live.Filter{Types: []string{live.EventLive}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		for e := range w.Events() {
			now := e.View.Snapshot()
			for i := range now.Activities {
				r := &now.Activities[i].Rates
				accepted, refused, cancelled = accepted+r.Accepted, refused+r.Refused["sold-out"], cancelled+r.Cancelled
			}
		}
	}()
	var orders []string
	for i := range 2 {
		orders = append(orders, s.buy("few", fmt.Sprint("u", i)))
	}
	for i := range 8 {
		s.buy("few", fmt.Sprint("late", i))
		s.buy("many", fmt.Sprint("u", i))
	}
	s.call("POST", s.PublicURL()+"/v1/orders/"+orders[0]+"/cancel", "", s.key)
	now := s.see("the stock, and the change", func(now *live.Snapshot) bool {
		if len(now.Activities) == 0 || now.LastChange == nil {
			return false
		}
		l := &now.Activities[0].Ledger
		return l.Available == 1002-9 && l.Held == 9 && l.Total == 1002 && now.Totals.Requests == 0
	})
	w.Close()
	<-done
	// Rates are per second, and seconds are a little longer on a busy machine: the sums are about
	// right.
	if accepted < 5 || accepted > 15 || refused < 4 || cancelled < 0.5 || cancelled > 1.5 {
		t.Errorf("accepted %v, refused %v, cancelled %v; want about 10, 8 and 1", accepted, refused, cancelled)
	}
	if now.LastChange.Text != "activity 618 went from draft to published" || now.LastChange.By != "configured" || now.LastChange.Merchant != "m1" {
		t.Errorf("the last change is %+v", now.LastChange)
	}
	if p99 := now.Hops[0].P99; p99 == nil {
		t.Error("no hop was measured")
	}
	if len(now.Nodes) != 1 || now.Nodes[0].Memory == 0 || now.Nodes[0].Lost || !now.Complete || now.Queue.Lag == nil {
		t.Errorf("nodes %+v, complete %v, queue %+v", now.Nodes, now.Complete, now.Queue)
	}
}

// TestLive_TellsOfFaults: an operator's actions and faults become events and alarms, with their
// ends.
func TestLive_TellsOfFaults(t *testing.T) {
	s := openLiveShop(t)
	w, err := s.live.hub.Subscribe(live.Filter{Types: []string{live.EventAlarm, live.EventChange, live.EventLevel}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	told := func(kind, part string) {
		t.Helper()
		late := time.NewTimer(time.Minute)
		defer late.Stop()
		for {
			select {
			case e := <-w.Events():
				if e.Type == kind && strings.Contains(string(e.Data), part) {
					return
				}
			case <-late.C:
				t.Fatalf("no %s with %q", kind, part)
			}
		}
	}
	s.see("that all is well", func(s *live.Snapshot) bool { return len(s.Abnormal) == 0 && len(s.Nodes) == 1 })
	s.call("PUT", s.AdminURL()+"/admin/v1/switches/wait", `{"value":"off","reason":"a test"}`, liveToken)
	told(live.EventAlarm, `"state":"raised","finding":{"kind":"switch-set"`)
	now := s.see("the switch", func(s *live.Snapshot) bool { return len(s.Switches) == 1 })
	if sw := now.Switches[0]; sw.Switch != "wait" || sw.Value != "off" || sw.Reason != "a test" || sw.By != "configured" || sw.Effect == "" {
		t.Errorf("the switch is %+v", sw)
	}
	s.call("PUT", s.AdminURL()+"/admin/v1/switches/wait", `{"value":null,"reason":"over"}`, liveToken)
	told(live.EventAlarm, `"state":"cleared","finding":{"kind":"switch-set"`)
	s.call("PUT", s.AdminURL()+"/admin/v1/merchants/m1", `{"name":"Other"}`, liveToken)
	told(live.EventChange, `"text":"merchant m1 was changed"`)
	s.call("PUT", s.AdminURL()+"/admin/v1/switches/level", `{"value":"D4","reason":"a test"}`, liveToken)
	told(live.EventLevel, `"state":"D4"`)
	told(live.EventAlarm, `"state":"raised","finding":{"kind":"level-raised","severity":"critical"`)
}

// TestMovedOrders_AreBounded: the sum is right with any number of activities and callers.
func TestMovedOrders_AreBounded(t *testing.T) {
	var m movedOrders
	for i := range 3 * maxMoved {
		o := &seckill.Order{Activity: seckill.ActivityID(fmt.Sprint(i)), State: seckill.OrderPaid}
		if i%3 == 0 {
			o.State = seckill.OrderCancelled
		}
		m.count(o)
	}
	got := m.take()
	if got.all != (movedCount{2 * maxMoved, maxMoved}) || len(got.activities) != maxMoved {
		t.Errorf("%+v, %d activities", got.all, len(got.activities))
	}
	if again := m.take(); again.all != (movedCount{}) || len(again.activities) != 0 {
		t.Errorf("taken twice: %+v", again)
	}
}

// TestLedgerOf: the sum of a wide activity has its hottest items as they are now, and the others as
// they were read last.
func TestLedgerOf(t *testing.T) {
	item := func(id inventory.ItemID) seckill.Item {
		return seckill.Item{ID: id, SKU: seckill.SKU(fmt.Sprint("s", id))}
	}
	sale := &seckill.Sale{Activity: &seckill.Activity{Items: []seckill.Item{item(1), item(2), item(3)}}}
	hot := []seckill.Offer{{Item: &sale.Items[0], Sale: sale}}
	left := func(n int64) live.Ledger { return live.Ledger{Total: 100, Available: n, Held: 100 - n} }
	then, now := time.Now().Add(-5*time.Second), time.Now()
	whole := map[inventory.ItemID]live.Ledger{1: left(90), 2: left(80), 3: left(70)}
	sum := live.Ledger{Total: 300, Available: 240, Held: 60, At: &then}
	for name, c := range map[string]struct {
		read map[inventory.ItemID]live.Ledger
		look wholeLook
		want int64 // available
	}{
		"the hottest is read":          {map[inventory.ItemID]live.Ledger{1: left(10)}, wholeLook{then, sum, whole}, 160},
		"nothing can be read now":      {nil, wholeLook{then, sum, whole}, 240},
		"too many items to remember":   {map[inventory.ItemID]live.Ledger{1: left(10)}, wholeLook{then, sum, nil}, 240},
		"it was never read as a whole": {map[inventory.ItemID]live.Ledger{1: left(10)}, wholeLook{}, -1},
	} {
		got := ledgerOf(hot, c.read, now, sale, c.look).All
		switch {
		case c.want < 0 && got == nil:
		case c.want < 0 || got == nil || got.Available != c.want || got.Total != 300 || got.Available+got.Held != 300:
			t.Errorf("%s: %+v, want %d", name, got, c.want)
		}
	}
}

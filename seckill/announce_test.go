package seckill

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"penstock/inventory"
)

// crier is an Announcer that remembers what it was told, and fails while it is told to.
type crier struct {
	mu      sync.Mutex // guards everything below, where a Run reads it
	fails   error
	stream  Stream
	batches [][]Announcement
}

func (c *crier) Announce(_ context.Context, stream Stream, events []Announcement) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails != nil {
		return c.fails
	}
	c.stream = stream
	c.batches = append(c.batches, slices.Clone(events))
	return nil
}

// fail has every announcement fail with err, nil none.
func (c *crier) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails = err
}

// ids returns the ids of all announcements.
func (c *crier) ids() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for _, batch := range c.batches {
		for i := range batch {
			ids = append(ids, batch[i].ID)
		}
	}
	return strings.Join(ids, " ")
}

// TestAnnouncementsAreTheContract pins what docs/events.md says.
func TestAnnouncementsAreTheContract(t *testing.T) {
	at := time.Date(2026, 6, 18, 8, 0, 0, 5e6, time.FixedZone("", 8*3600))
	order := Order{
		ID: "o1", Caller: CallerRef{"m1", "app"}, Activity: "618-phones", SKU: "phone-x", User: "u-42", Quantity: 2,
		Amount: Money{3998, "CNY"}, State: OrderPending, CreatedAt: at, PayBy: at.Add(15 * time.Minute), UpdatedAt: at,
	}
	f := func(state OrderState, reason Reason, id, eventType, status string) {
		t.Helper()
		order.State, order.Reason = state, reason
		got, err := announceOrder(&order)
		if err != nil {
			t.Fatal(err)
		}
		data := `{"order":"o1","merchant":"m1","activity":"618-phones","sku":"phone-x","user":"u-42","quantity":2,` + status +
			`,"amount":3998,"currency":"CNY","created_at":"2026-06-18T00:00:00.005Z","pay_by":"2026-06-18T00:15:00.005Z",` +
			`"updated_at":"2026-06-18T00:00:00.005Z"}`
		if got.ID != id || got.Type != eventType || got.Subject != "o1" || got.Key != "o1" || !got.Time.Equal(at) || string(got.Data) != data {
			t.Errorf("got  %+v %s\nwant %s %s %s", got, got.Data, id, eventType, data)
		}
	}
	f(OrderPending, ReasonNone, "o1.created", "penstock.order.created.v1", `"status":"pending_payment","reason":null`)
	f(OrderPaid, ReasonNone, "o1.paid", "penstock.order.paid.v1", `"status":"paid","reason":null`)
	f(OrderCancelled, ReasonBuyer, "o1.cancelled", "penstock.order.cancelled.v1", `"status":"cancelled","reason":"cancelled-by-buyer"`)
	f(OrderRejected, ReasonSoldOut, "o1.rejected", "penstock.order.rejected.v1", `"status":"rejected","reason":"sold-out"`)
	f(OrderRefundDue, ReasonBuyer, "o1.refund_due", "penstock.order.refund_due.v1", `"status":"refund_due","reason":"cancelled-by-buyer"`)

	status := StockStatus{
		Ref: inventory.Ref{Item: 7, Epoch: 2}, Seq: 99, InStock: true, Merchant: "m1", Activity: "618-phones", SKU: "phone-x", At: at,
	}
	got, err := announceStock(&status)
	if err != nil {
		t.Fatal(err)
	}
	data := `{"merchant":"m1","activity":"618-phones","sku":"phone-x","stock":"in_stock","epoch":2,"seq":99}`
	if got.ID != "7.2.99" || got.Type != "penstock.stock.in_stock.v1" || got.Key != "618-phones/phone-x" || string(got.Data) != data {
		t.Errorf("got %+v %s", got, got.Data)
	}
	status.InStock = false
	if got, err = announceStock(&status); err != nil || got.Type != "penstock.stock.sold_out.v1" || !strings.Contains(string(got.Data), `"sold_out"`) {
		t.Errorf("got %+v %s, error %v", got, got.Data, err)
	}
}

// stepStore is an EventStore of a list.
type stepStore struct {
	mu    sync.Mutex
	steps []Order // guarded by mu
}

func (s *stepStore) RelayEvents(ctx context.Context, limit int, deliver func(context.Context, []Order) error) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(limit, len(s.steps))
	if n == 0 {
		return 0, nil
	}
	if err := deliver(ctx, s.steps[:n]); err != nil {
		return 0, err
	}
	s.steps = s.steps[n:]
	return n, nil
}

func (s *stepStore) EventsWaiting(context.Context) (time.Duration, error) { return 0, nil }

// TestEventRelay announces every step in its order, again after a failure, and waits where there is nothing.
func TestEventRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &stepStore{steps: []Order{{ID: "a", State: OrderPending}, {ID: "b", State: OrderPending}, {ID: "a", State: OrderPaid}}}
		to := &crier{fails: errors.New("no broker")}
		relay := NewEventRelay(DefaultConfig(), store, to, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); relay.Run(ctx) }()
		time.Sleep(time.Minute)
		if failed := relay.Counts().Failed.Load(); failed < 20 || failed > 60 {
			t.Errorf("%d tries in a minute", failed)
		}
		to.fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := to.ids(); got != "a.created b.created a.paid" || to.stream != StreamOrders {
			t.Errorf("announced %q on stream %d", got, to.stream)
		}
		store.mu.Lock()
		store.steps = make([]Order, announceBatch+1)
		store.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(to.batches); n != 3 || len(to.batches[1]) != announceBatch {
			t.Errorf("%d batches", n)
		}
		if n := relay.Counts().Announced.Load(); n != announceBatch+4 {
			t.Errorf("%d announced", n)
		}
		cancel()
		<-done
	})
}

// heraldBed is a herald of two live items, a draft and an ended one.
type heraldBed struct {
	catalog *Catalog
	mu      sync.Mutex
	seen    map[inventory.ItemID]inventory.Sighting // guarded by mu, where a Run reads it
	to      *crier
	herald  *Herald
}

func newHeraldBed() *heraldBed {
	now := time.Now()
	sale := func(id ActivityID, state ActivityState, ends time.Time, items ...Item) Activity {
		return Activity{ID: id, Merchant: "m1", State: state, StartsAt: now.Add(-100 * time.Hour), EndsAt: ends, Items: items}
	}
	b := &heraldBed{
		seen: make(map[inventory.ItemID]inventory.Sighting), to: new(crier),
		catalog: NewCatalog(&CatalogData{Activities: []Activity{
			sale("sale", ActivityPublished, now.Add(time.Hour), Item{ID: 1, SKU: "a", Epoch: 1}, Item{ID: 2, SKU: "b", Epoch: 1}, Item{ID: 3, SKU: "c"}),
			sale("over", ActivityEnded, now.Add(-99*time.Hour), Item{ID: 4, SKU: "a", Epoch: 1}),
		}}, nil, now),
	}
	b.herald = NewHerald(DefaultConfig(), func() *Catalog { return b.catalog }, func(id inventory.ItemID) (inventory.Sighting, bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		s, ok := b.seen[id]
		return s, ok
	}, b.to, slog.New(slog.DiscardHandler))
	for id := range inventory.ItemID(4) {
		b.seen[id+1] = inventory.Sighting{Epoch: 1, Seq: 1, InStock: true}
	}
	return b
}

// see has the stock seen like this.
func (b *heraldBed) see(id inventory.ItemID, s inventory.Sighting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[id] = s
}

// TestHerald announces what it begins with and every crossing, nothing twice, and after a failure only what is true by then.
func TestHerald(t *testing.T) {
	b := newHeraldBed()
	says := func(want string) {
		t.Helper()
		b.to.batches = nil
		if err := b.herald.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := b.to.ids(); got != want {
			t.Errorf("announced %q, want %q", got, want)
		}
	}
	says("1.1.1 2.1.1")
	says("")
	b.seen[2] = inventory.Sighting{Epoch: 1, Seq: 2, InStock: true}
	says("")
	b.seen[1] = inventory.Sighting{Epoch: 1, Seq: 5}
	says("1.1.5")
	delete(b.seen, 1) // being rebuilt: nothing can be said
	says("")
	b.seen[1] = inventory.Sighting{Epoch: 2, Seq: 1}
	says("") // still sold out

	b.to.fails = errors.New("no broker")
	b.seen[1], b.seen[2] = inventory.Sighting{Epoch: 2, Seq: 2, InStock: true}, inventory.Sighting{Epoch: 1, Seq: 3}
	if err := b.herald.Step(t.Context()); err == nil {
		t.Error("a failure was swallowed")
	}
	b.to.fails = nil
	b.seen[1], b.seen[2] = inventory.Sighting{Epoch: 2, Seq: 3}, inventory.Sighting{Epoch: 1, Seq: 4}
	says("2.1.4") // item 1 is back to what was announced last

	// What is no longer live is forgotten, and told anew when it comes back.
	full := b.catalog
	b.catalog = NewCatalog(&CatalogData{}, nil, time.Now())
	says("")
	b.catalog = full
	says("1.2.3 2.1.4")
}

// TestHeraldRuns announces at once after a nudge, and at every tick without one.
func TestHeraldRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHeraldBed()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		b.herald.Nudge()
		b.herald.Nudge()
		go func() { defer close(done); b.herald.Run(ctx) }()
		synctest.Wait()
		if got := b.to.ids(); got != "1.1.1 2.1.1" || b.to.stream != StreamStock {
			t.Errorf("announced %q on stream %d", got, b.to.stream)
		}
		b.see(1, inventory.Sighting{Epoch: 1, Seq: 2})
		time.Sleep(DefaultConfig().Tick)
		synctest.Wait()
		if got := b.to.ids(); got != "1.1.1 2.1.1 1.1.2" {
			t.Errorf("announced %q", got)
		}
		b.to.fail(errors.New("no broker"))
		b.see(1, inventory.Sighting{Epoch: 1, Seq: 3, InStock: true})
		time.Sleep(time.Minute)
		if failed := b.herald.Counts().Failed.Load(); failed < 20 || failed > 60 {
			t.Errorf("%d tries in a minute", failed)
		}
		cancel()
		<-done
	})
}

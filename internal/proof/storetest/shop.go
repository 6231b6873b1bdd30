package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

// Open opens a new, empty store whose database clock is now. The store must be closed by the test's cleanup; closing twice is
// fine.
type Open func(t *testing.T, now func() time.Time) seckill.Store

// clock is the database's clock in these tests: it moves when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)}
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// The shop that most cases sell in.
const (
	merchant = seckill.MerchantID("m1")
	activity = seckill.ActivityID("618-phones")
	window   = 15 * time.Minute
)

var (
	caller = seckill.CallerRef{Merchant: merchant, Caller: "app"}
	author = seckill.Author{Actor: "ann", Reason: "the sale"}
	price  = seckill.Money{Minor: 1999, Currency: "CNY"}
)

// shop is a store with an activity, and the means to say things about it in a line.
type shop struct {
	t     reporter
	ctx   context.Context
	store seckill.Store
	clock *clock
	items []seckill.Item // of the activity, in order
}

// reporter is what a shop needs of *testing.T, *testing.B and *rapid.T.
type reporter interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// goods describes an item of the shop.
type goods struct {
	sku     seckill.SKU
	total   int64
	perUser int
}

// newShop opens a store with a published activity; every item is opened in epoch 1.
func newShop(t *testing.T, open Open, list ...goods) *shop {
	t.Helper()
	s := emptyShop(t, open)
	s.sell(list...)
	for i := range s.items {
		s.fence(s.ref(i, 1))
	}
	s.reload()
	return s
}

// emptyShop opens a store with nothing in it.
func emptyShop(t *testing.T, open Open) *shop {
	t.Helper()
	c := newClock()
	return &shop{t: t, ctx: t.Context(), store: open(t, c.read), clock: c}
}

// sell makes the merchant, the caller and the activity.
func (s *shop) sell(list ...goods) {
	s.t.Helper()
	s.must(s.store.PutMerchant(s.ctx, seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: "s3cret"}, author))
	app := seckill.Caller{CallerRef: caller, Name: "App", Rights: seckill.RightBuy, KeyHash: [32]byte{1}}
	s.must(s.store.AddCaller(s.ctx, app, author))
	a := s.draft(activity, list...)
	a.State = seckill.ActivityPublished
	s.items = s.putActivity(a).Items
}

// draft describes an activity as the shop would put it.
func (s *shop) draft(id seckill.ActivityID, list ...goods) *seckill.Activity {
	now := s.clock.read()
	a := &seckill.Activity{
		ID: id, Merchant: merchant, Name: "Sale of " + string(id), State: seckill.ActivityDraft,
		StartsAt: now, EndsAt: now.Add(time.Hour), PaymentWindow: window,
	}
	for _, g := range list {
		a.Items = append(a.Items, seckill.Item{SKU: g.sku, Price: price, Quantity: g.total, PerUser: g.perUser})
	}
	return a
}

func (s *shop) putActivity(a *seckill.Activity) *seckill.Activity {
	s.t.Helper()
	got, err := s.store.UpdateActivity(s.ctx, a.ID, author, func(*seckill.Activity) (*seckill.Activity, error) { return a, nil })
	s.must(err)
	return got
}

// reload reads the shop's items again, with their epochs.
func (s *shop) reload() {
	s.t.Helper()
	data, err := s.store.LoadCatalog(s.ctx, 0)
	s.must(err)
	for _, a := range data.Activities {
		if a.ID == activity {
			s.items = a.Items
		}
	}
}

func (s *shop) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) item(i int) inventory.ItemID { return s.items[i].ID }

func (s *shop) ref(i int, epoch inventory.Epoch) inventory.Ref {
	return inventory.Ref{Item: s.item(i), Epoch: epoch}
}

func (s *shop) fence(ref inventory.Ref) seckill.StockSnapshot {
	s.t.Helper()
	got, err := s.store.Fence(s.ctx, ref)
	s.must(err)
	return got
}

// record is the promise of quantity units of item i to user under key, granted in epoch 1.
func (s *shop) record(i int, user seckill.UserID, key string, quantity int) seckill.Record {
	return s.recordAt(i, 1, user, key, quantity)
}

func (s *shop) recordAt(i int, epoch inventory.Epoch, user seckill.UserID, key string, quantity int) seckill.Record {
	item := &s.items[i]
	return seckill.Record{
		Order: seckill.NewOrderID(item.ID, caller, activity, item.SKU, user, key), Caller: caller, Activity: activity, SKU: item.SKU,
		User: user, Quantity: quantity, Amount: seckill.Money{Minor: price.Minor * int64(quantity), Currency: price.Currency},
		Grant: seckill.Provenance{Shard: 3, Epoch: epoch, Seq: 1<<63 - 1}, Accepted: s.clock.read(),
	}
}

// hold is the hold behind such a record.
func (s *shop) hold(i int, user seckill.UserID, key string, quantity int) inventory.Hold {
	r := s.record(i, user, key, quantity)
	return r.Hold()
}

// accept accepts records and checks what became of each.
func (s *shop) accept(want []seckill.Outcome, records ...seckill.Record) []seckill.Acceptance {
	s.t.Helper()
	got, err := s.store.Accept(s.ctx, records)
	s.must(err)
	if len(got) != len(records) {
		s.t.Fatalf("%d acceptances of %d records", len(got), len(records))
	}
	for i := range got {
		if got[i].Outcome != want[i] {
			s.t.Fatalf("record %d: outcome %d, want %d (%+v)", i, got[i].Outcome, want[i], got[i])
		}
	}
	return got
}

// order makes an open order and returns it.
func (s *shop) order(i int, user seckill.UserID, key string, quantity int) seckill.Order {
	s.t.Helper()
	return s.accept([]seckill.Outcome{seckill.OutcomeOpened}, s.record(i, user, key, quantity))[0].Order
}

// find returns the order as the store has it.
func (s *shop) find(id seckill.OrderID) seckill.Order {
	s.t.Helper()
	got, err := s.store.FindOrders(s.ctx, []seckill.OrderID{id})
	s.must(err)
	return got[0]
}

func (s *shop) book(i int) seckill.Book {
	s.t.Helper()
	books, err := s.store.Books(s.ctx, activity)
	s.must(err)
	return books[i]
}

// counts checks an item's books: total, open, sold.
func (s *shop) counts(i int, total, open, sold int64) {
	s.t.Helper()
	b := s.book(i)
	if b.Total != total || b.Open != open || b.Sold != sold {
		s.t.Fatalf("item %d: total %d, open %d, sold %d; want %d, %d, %d", i, b.Total, b.Open, b.Sold, total, open, sold)
	}
}

// outbox reads all outbox rows and deletes none.
func (s *shop) outbox() []seckill.Outgoing {
	s.t.Helper()
	return s.relay(func([]seckill.Outgoing) []int { return nil })
}

// drain reads all outbox rows and deletes them.
func (s *shop) drain() []seckill.Outgoing {
	s.t.Helper()
	return s.relay(func(rows []seckill.Outgoing) []int {
		all := make([]int, len(rows))
		for i := range all {
			all[i] = i
		}
		return all
	})
}

// relay goes through the outbox once and returns what was handed out.
func (s *shop) relay(deliver func([]seckill.Outgoing) []int) []seckill.Outgoing {
	s.t.Helper()
	var all []seckill.Outgoing
	for after := int64(0); ; {
		last, err := s.store.Relay(s.ctx, after, 100, func(_ context.Context, rows []seckill.Outgoing) []int {
			all = append(all, rows...)
			return deliver(rows)
		})
		s.must(err)
		if last == 0 {
			return all
		}
		if last <= after {
			s.t.Fatalf("the relay went from row %d to row %d", after, last)
		}
		after = last
	}
}

func user(n int) seckill.UserID { return seckill.UserID(fmt.Sprintf("u-%d", n)) }

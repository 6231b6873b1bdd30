package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Shards is the number of shards of the installations that Open opens.
const Shards = 4

// Open opens a new, empty store with Shards shards; its database's clock is now. The store must be
// closed by the test's cleanup; closing twice is fine.
type Open func(t *testing.T, now func() time.Time) seckill.Store

// Locker is a store that can lock a stock row, as another process would, until unlock is called.
// Unlocking twice is fine.
type Locker interface {
	LockStock(item inventory.ItemID, shard inventory.ShardID) (unlock func())
}

// Blocker is a Locker with real locks: changes by people wait for unlock, so random sequences don't
// lock.
type Blocker interface {
	Locker
	Blocks()
}

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

// The shop of most cases.
const (
	merchant = seckill.MerchantID("m1")
	activity = seckill.ActivityID("618-phones")
	window   = 15 * time.Minute
	pageSeq  = 1 << 53 // of all pages
	pageNode = "node-1"
)

var (
	caller = seckill.CallerRef{Merchant: merchant, Caller: "app"}
	appKey = seckill.CallerKey{ID: "k-1", Prefix: "psk_aaaaaa", Hash: [32]byte{1}}
	author = seckill.Author{Actor: "ann", Reason: "the sale"}
	price  = seckill.Money{Minor: 1999, Currency: "CNY"}

	allShards = []inventory.ShardID{0, 1, 2, 3}
)

// shop is a store with an activity, and short methods for tests of it.
type shop struct {
	t     reporter
	ctx   context.Context
	store seckill.Store
	clock *clock
	items []seckill.Item // of the activity, in order
	// refs are the shards under their epochs, as the shop last fenced them.
	refs map[inventory.ShardID]inventory.Ref
}

// reporter has the methods of *testing.T, *testing.B and *rapid.T that a shop needs.
type reporter interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// goods describes an item of the shop. A spread of 0 is 1.
type goods struct {
	sku     seckill.SKU
	total   int64
	perUser int
	spread  int
}

// newShop opens a store with a published activity. Every shard is open, with the items' units.
func newShop(t *testing.T, open Open, list ...goods) *shop {
	t.Helper()
	s := emptyShop(t, open)
	s.sell(list...)
	s.fenceAll()
	return s
}

// emptyShop opens an empty store.
func emptyShop(t *testing.T, open Open) *shop {
	t.Helper()
	c := newClock()
	return &shop{t: t, ctx: t.Context(), store: open(t, c.read), clock: c}
}

// sell makes the merchant, the caller and the activity.
func (s *shop) sell(list ...goods) {
	s.t.Helper()
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: "s3cret"}, author))
	app := seckill.Caller{CallerRef: caller, Name: "App", Rights: seckill.RightBuy}
	s.must(s.addCaller(app, appKey))
	a := s.draft(activity, list...)
	a.State = seckill.ActivityPublished
	s.items = s.putActivity(a).Items
}

// draft returns an activity as the shop would put it.
func (s *shop) draft(id seckill.ActivityID, list ...goods) *seckill.Activity {
	now := s.clock.read()
	a := &seckill.Activity{
		ID: id, Merchant: merchant, Name: "Sale of " + string(id), State: seckill.ActivityDraft,
		StartsAt: now, EndsAt: now.Add(time.Hour), PaymentWindow: window,
	}
	for _, g := range list {
		a.Items = append(a.Items, seckill.Item{
			SKU: g.sku, Price: price, Quantity: g.total, PerUser: g.perUser, Spread: max(1, g.spread)})
	}
	return a
}

func (s *shop) putActivity(a *seckill.Activity) *seckill.Activity {
	s.t.Helper()
	got, err := s.store.UpdateActivity(s.ctx, a.ID, author, func(*seckill.Activity) (*seckill.Activity, error) { return a, nil })
	s.must(err)
	return got
}

func (s *shop) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) item(i int) inventory.ItemID { return s.items[i].ID }

// shard returns the home shard of item i.
func (s *shop) shard(i int) inventory.ShardID { return inventory.Home(s.item(i), Shards) }

// ref returns the home shard of item i under its epoch.
func (s *shop) ref(i int) inventory.Ref { return s.refs[s.shard(i)] }

// beside returns a ref with another epoch.
func beside(ref inventory.Ref, by int64) inventory.Ref {
	ref.Epoch += inventory.Epoch(by)
	return ref
}

// incarnation returns the database's.
func (s *shop) incarnation() string {
	s.t.Helper()
	got, err := s.store.Incarnation(s.ctx)
	s.must(err)
	return got
}

// snapshot is a shard as a store returns it.
type snapshot struct {
	Items   []inventory.Stocked
	Entries []inventory.Entry
}

// fence rebuilds a shard: it takes the next epoch, fences, and takes the snapshot.
func (s *shop) fence(shard inventory.ShardID) snapshot {
	s.t.Helper()
	s.fenceOnly(shard)
	return s.take(s.refs[shard])
}

// fenceOnly takes the next epoch of a shard, and fences.
func (s *shop) fenceOnly(shard inventory.ShardID) inventory.Ref {
	s.t.Helper()
	epoch, err := s.store.NextEpoch(s.ctx, shard)
	s.must(err)
	ref := inventory.Ref{Shard: shard, Epoch: epoch}
	s.must(s.store.Fence(s.ctx, ref, s.incarnation()))
	s.refs[shard] = ref
	return ref
}

func (s *shop) fenceAll() {
	s.t.Helper()
	s.refs = make(map[inventory.ShardID]inventory.Ref)
	for _, shard := range allShards {
		s.fence(shard)
	}
}

// take takes the snapshot of a shard.
func (s *shop) take(ref inventory.Ref) snapshot {
	s.t.Helper()
	got, err := s.tryTake(ref)
	s.must(err)
	return got
}

func (s *shop) tryTake(ref inventory.Ref, hot ...inventory.ItemID) (snapshot, error) {
	var got snapshot
	err := s.store.Snapshot(s.ctx, ref, hot, func(items []inventory.Stocked, entries []inventory.Entry) error {
		if len(items) > 0 && len(got.Entries) > 0 {
			return fmt.Errorf("items come behind holds: %+v", items)
		}
		if n := len(items) + len(entries); n == 0 || n > 10_000 {
			return fmt.Errorf("a page of %d items and %d holds", len(items), len(entries))
		}
		got.Items, got.Entries = append(got.Items, items...), append(got.Entries, entries...)
		return nil
	})
	return got, err
}

// promise is the promise of quantity units of item i to user under key.
func (s *shop) promise(i int, user seckill.UserID, key string, quantity int) seckill.Promise {
	item := &s.items[i]
	return seckill.Promise{
		Order: seckill.NewOrderID(item.ID, caller, user, key), Caller: caller, Activity: activity, SKU: item.SKU,
		User: user, Quantity: quantity, Amount: seckill.Money{Minor: price.Minor * int64(quantity), Currency: price.Currency},
		Request: "req-" + key, Accepted: s.clock.read(),
	}
}

// hold is the hold behind such a promise.
func (s *shop) hold(i int, user seckill.UserID, key string, quantity int) inventory.Hold {
	r := s.promise(i, user, key, quantity)
	return r.Hold()
}

// spreadOf returns over how many shards an item of the shop is spread; 1 for one that it doesn't
// have.
func (s *shop) spreadOf(id inventory.ItemID) int {
	for i := range s.items {
		if s.items[i].ID == id {
			return s.items[i].Spread
		}
	}
	return 1
}

// place returns the shard of a promise under its epoch.
func (s *shop) place(r *seckill.Promise) inventory.Ref {
	return s.refs[inventory.Place(r.Item(), s.spreadOf(r.Item()), string(r.Order), Shards)]
}

// page is a record of promises, all of the same shard.
func (s *shop) page(ref inventory.Ref, promises ...seckill.Promise) seckill.Page {
	p := seckill.Page{
		PageHeader: seckill.PageHeader{Ref: ref, Seq: pageSeq, Node: pageNode, Put: s.clock.read()}, Promises: promises}
	for i := range promises {
		p.Orders = append(p.Orders, seckill.Claimed{Order: promises[i].Order, Quantity: promises[i].Quantity})
	}
	return p
}

// pages makes pages of promises, in their order, each as long as promises of one shard follow each
// other.
func (s *shop) pages(promises ...seckill.Promise) []seckill.Page {
	var pages []seckill.Page
	for from := 0; from < len(promises); {
		ref, to := s.place(&promises[from]), from+1
		for to < len(promises) && to-from < seckill.MaxPage && s.place(&promises[to]) == ref {
			to++
		}
		pages = append(pages, s.page(ref, promises[from:to]...))
		from = to
	}
	return pages
}

// accept accepts promises under their shards' epochs and checks the outcome of each.
func (s *shop) accept(want []seckill.Outcome, promises ...seckill.Promise) []seckill.Acceptance {
	s.t.Helper()
	return s.acceptBatch(want, seckill.Batch{Pages: s.pages(promises...)})
}

// acceptAt accepts promises of a page under ref.
func (s *shop) acceptAt(ref inventory.Ref, want []seckill.Outcome, promises ...seckill.Promise) []seckill.Acceptance {
	s.t.Helper()
	return s.acceptBatch(want, seckill.Batch{Pages: []seckill.Page{s.page(ref, promises...)}})
}

func (s *shop) acceptBatch(want []seckill.Outcome, b seckill.Batch) []seckill.Acceptance {
	s.t.Helper()
	got, err := s.store.Accept(s.ctx, b)
	s.must(err)
	if len(got) != len(want) {
		s.t.Fatalf("%d acceptances, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Outcome != want[i] {
			s.t.Fatalf("promise %d: outcome %d, want %d (%+v)", i, got[i].Outcome, want[i], got[i])
		}
	}
	return got
}

// order makes an open order and returns it.
func (s *shop) order(i int, user seckill.UserID, key string, quantity int) seckill.Order {
	s.t.Helper()
	return s.accept([]seckill.Outcome{opened}, s.promise(i, user, key, quantity))[0].Order
}

// row is the row of a promise that was just accepted, in that state.
func (s *shop) row(r seckill.Promise, state seckill.OrderState, reason seckill.Reason, units seckill.UnitState) seckill.Order {
	now, ref := s.clock.read(), s.place(&r)
	o := seckill.Order{
		ID: r.Order, Item: r.Item(), Caller: r.Caller, Activity: r.Activity, SKU: r.SKU, User: r.User, Quantity: r.Quantity,
		Amount: r.Amount, State: state, Reason: reason, Units: units, CreatedAt: now, UpdatedAt: now, PayBy: now,
		Grant:   seckill.Provenance{Shard: ref.Shard, Epoch: ref.Epoch, Seq: pageSeq},
		Request: r.Request, Node: pageNode, Accepted: r.Accepted,
	}
	if units == seckill.UnitsOpen {
		o.PayBy = now.Add(window)
	}
	if units == seckill.UnitsVoid {
		o.EndedAt = now
	}
	return o
}

// find returns the order as the store has it.
func (s *shop) find(id seckill.OrderID) seckill.Order {
	s.t.Helper()
	got, err := s.store.FindOrders(s.ctx, []seckill.OrderID{id})
	s.must(err)
	return got[0]
}

// book returns the book of item i on its home shard.
func (s *shop) book(i int) seckill.Book {
	s.t.Helper()
	return s.bookOn(i, s.shard(i))
}

func (s *shop) bookOn(i int, shard inventory.ShardID) seckill.Book {
	s.t.Helper()
	books, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	for _, b := range books {
		if b.Item == s.item(i) && b.Shard == shard {
			return b
		}
	}
	s.t.Fatalf("no book of item %d on shard %d: %+v", i, shard, books)
	return seckill.Book{}
}

// counts checks an item's books, over all of its shards: total, open, sold.
func (s *shop) counts(i int, total, open, sold int64) {
	s.t.Helper()
	books, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	var sum seckill.Book
	for _, b := range books {
		if b.Item == s.item(i) {
			sum.Total, sum.Open, sum.Sold = sum.Total+b.Total, sum.Open+b.Open, sum.Sold+b.Sold
		}
	}
	if sum.Total != total || sum.Open != open || sum.Sold != sold {
		s.t.Fatalf("item %d: total %d, open %d, sold %d; want %d, %d, %d", i, sum.Total, sum.Open, sum.Sold, total, open, sold)
	}
}

// outbox reads all outbox rows and deletes none.
func (s *shop) outbox() []seckill.Outgoing {
	s.t.Helper()
	return s.relay(allShards, func([]seckill.Outgoing) []int { return nil })
}

// drain reads all outbox rows and deletes them.
func (s *shop) drain() []seckill.Outgoing {
	s.t.Helper()
	return s.relay(allShards, everyRow)
}

// everyRow answers that all rows are delivered.
func everyRow(rows []seckill.Outgoing) []int {
	all := make([]int, len(rows))
	for i := range all {
		all[i] = i
	}
	return all
}

// relay goes through the outbox of shards once and returns the relayed rows.
func (s *shop) relay(shards []inventory.ShardID, deliver func([]seckill.Outgoing) []int) []seckill.Outgoing {
	s.t.Helper()
	var all []seckill.Outgoing
	for after := int64(0); ; {
		last, err := s.store.Relay(s.ctx, shards, after, 100, func(_ context.Context, rows []seckill.Outgoing) []int {
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

// lock locks the stock row of item i on a shard, or skips the case if the store can't.
func (s *shop) lock(i int, shard inventory.ShardID) (unlock func()) {
	s.t.Helper()
	locker, ok := s.store.(Locker)
	if !ok {
		if t, ok := s.t.(*testing.T); ok {
			t.Skipf("a %T locks no rows for tests", s.store)
		}
		return func() {}
	}
	return locker.LockStock(s.item(i), shard)
}

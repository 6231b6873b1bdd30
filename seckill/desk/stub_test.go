package desk

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// stubStock is a stock made of maps, with all shards under epoch 1 and one lane unless a test says
// otherwise. Fields are set before use; mu guards the rest.
type stubStock struct {
	lanes      int                                        // 0 is 1
	epoch      inventory.Epoch                            // 0 is 1; negative is none
	holding    func(calls []*inventory.HoldCall)          // called before a round is answered
	verdict    func(inventory.Ref, int) inventory.Verdict // of the n-th claim of a call; nil: by the maps
	fails      func(inventory.ShardID) error              // of a call; nil: none fails
	soldOut    func(inventory.ShardID) bool               // the answer from memory
	inStock    func(inventory.ShardID) bool               // the answer from memory
	unfollowed *inventory.ShardID                         // a shard without an epoch
	present    string                                     // the id of a hold that memory knows
	absent     bool                                       // the answer from memory
	lost       error                                      // of Find
	levels     map[seckill.StockKey]inventory.ItemNumbers // the answer of ItemNumbers
	shards     map[inventory.ShardID]inventory.Numbers    // the answer of ItemNumbers
	unknown    map[inventory.ShardID]bool                 // shards whose items it does not know

	mu        sync.Mutex
	available map[seckill.StockKey]int // nil: endless
	holds     map[string]inventory.Entry
	seq       uint64
	rounds    [][]int // sizes of the calls of each round
	watched   []inventory.Ref
	looks     int // calls of ItemNumbers
}

func (s *stubStock) Hold(_ context.Context, calls []*inventory.HoldCall) {
	if s.holding != nil {
		s.holding(calls)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var sizes []int
	for _, call := range calls {
		sizes = append(sizes, len(call.Claims))
		if s.fails != nil {
			if call.Err = s.fails(call.Ref.Shard); call.Err != nil {
				continue
			}
		}
		call.Verdicts = call.Verdicts[:0]
		for i := range call.Claims {
			call.Verdicts = append(call.Verdicts, s.hold(call.Ref, &call.Claims[i], i))
		}
		s.seq++
		call.Seq = s.seq
	}
	s.rounds = append(s.rounds, sizes)
}

func (s *stubStock) hold(ref inventory.Ref, c *inventory.Claim, i int) inventory.Verdict {
	key := seckill.StockKey{Item: c.Item, Shard: ref.Shard}
	switch earlier, again := s.holds[c.ID]; {
	case s.verdict != nil:
		return s.verdict(ref, i)
	case again && earlier.Quantity != c.Quantity:
		return inventory.Reused
	case again:
		return inventory.HeldAgain
	case s.available == nil:
	case s.available[key] < c.Quantity:
		return inventory.SoldOut
	default:
		s.available[key] -= c.Quantity
	}
	if s.holds != nil {
		s.holds[c.ID] = inventory.Entry{Hold: c.Hold, State: inventory.Fresh}
	}
	return inventory.Held
}

func (s *stubStock) Lane(shard inventory.ShardID) int { return int(shard) % max(1, s.lanes) }

func (s *stubStock) Find(_ context.Context, _ inventory.Ref, _ inventory.ItemID, id string) (inventory.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds[id], s.lost
}

func (s *stubStock) Watch(refs []inventory.Ref) { s.watched = refs }
func (s *stubStock) Epoch(shard inventory.ShardID) inventory.Epoch {
	if s.unfollowed != nil && shard == *s.unfollowed {
		return 0
	}
	if s.epoch == 0 {
		return 1
	}
	return max(0, s.epoch)
}
func (s *stubStock) SoldOut(ref inventory.Ref, _ inventory.ItemID, _ string) bool {
	return s.soldOut != nil && s.soldOut(ref.Shard)
}
func (s *stubStock) Absent(_ inventory.Ref, id string, _ time.Time) bool {
	return s.absent && id != s.present
}
func (s *stubStock) InStock(shard inventory.ShardID, _ inventory.ItemID) (bool, time.Duration) {
	if s.inStock != nil {
		return s.inStock(shard), 0
	}
	return s.soldOut == nil || !s.soldOut(shard), 0
}

func (s *stubStock) ItemNumbers(_ context.Context, shard inventory.ShardID, items []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	out := make([]inventory.ItemNumbers, len(items))
	for i, item := range items {
		key := seckill.StockKey{Item: item, Shard: shard}
		out[i] = s.levels[key]
		if s.available != nil {
			out[i] = inventory.ItemNumbers{Available: int64(s.available[key]), Known: !s.unknown[shard]}
		}
		out[i].Item = item
	}
	return s.shards[shard], out, nil
}

// stubQueue acknowledges at once, or keeps its pages where keep is set.
type stubQueue struct {
	keep    bool
	after   time.Duration // acknowledges later
	refuses error         // the error of Reserve

	mu     sync.Mutex
	slots  int // taken and not given back
	pages  []seckill.Page
	values [][]byte
	dones  []func(error)
}

func (q *stubQueue) Reserve() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuses == nil {
		q.slots++
	}
	return q.refuses
}

func (q *stubQueue) Release(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.slots -= n
}

func (q *stubQueue) Put(_ inventory.ShardID, value []byte, slots int, done func(error)) {
	page, err := seckill.ParsePage(value)
	if err != nil || len(page.Promises) != slots && (len(page.Promises) > 0 || slots != 1) { // a probe has none
		panic("a page of other slots")
	}
	q.mu.Lock()
	q.pages, q.values = append(q.pages, page), append(q.values, value)
	acknowledge := func(err error) {
		q.Release(slots)
		done(err)
	}
	q.dones = append(q.dones, acknowledge)
	q.mu.Unlock()
	switch {
	case q.keep:
	case q.after > 0:
		time.AfterFunc(q.after, func() { acknowledge(nil) })
	default:
		acknowledge(nil)
	}
}

func (q *stubQueue) Mark(context.Context) ([]seckill.Position, error) {
	return nil, errors.ErrUnsupported
}

// finish ends the i-th page that was kept; -1 is the last one.
func (q *stubQueue) finish(i int, err error) {
	q.mu.Lock()
	if i < 0 {
		i += len(q.dones)
	}
	done := q.dones[i]
	q.mu.Unlock()
	done(err)
}

// taken returns how many slots are taken.
func (q *stubQueue) taken() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.slots
}

// stubStore has rows and stock changes in maps. A method that a test does not set is not called.
type stubStore struct {
	seckill.Store
	cancel func(seckill.Cancellation) seckill.Moved
	pay    func(seckill.Payment) seckill.PaymentResult
	fails  error
	// load is LoadCatalog.
	load func(since seckill.CatalogVersion, begin func(bool), apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error)
	// loadBy gets the time that LoadCatalog may take.
	loadBy func(time.Duration)

	mu      sync.Mutex
	rows    map[seckill.OrderID]seckill.Order
	refused []seckill.RefusedPayment // guarded by mu
}

func (s *stubStore) RefusePayment(_ context.Context, r seckill.RefusedPayment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, r)
	return s.fails
}

func (s *stubStore) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(bool), apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	if by, ok := ctx.Deadline(); ok && s.loadBy != nil {
		s.loadBy(time.Until(by))
	}
	if s.load == nil {
		begin(false)
		return since, nil
	}
	return s.load(since, begin, apply)
}

func (s *stubStore) FindOrders(_ context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]seckill.Order, len(ids))
	for i, id := range ids {
		out[i] = s.rows[id]
	}
	return out, s.fails
}

func (s *stubStore) Cancel(_ context.Context, cancels []seckill.Cancellation) ([]seckill.Moved, error) {
	out := make([]seckill.Moved, len(cancels))
	for i, c := range cancels {
		out[i] = s.cancel(c)
	}
	return out, s.fails
}

func (s *stubStore) Pay(_ context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	out := make([]seckill.PaymentResult, len(payments))
	for i, p := range payments {
		out[i] = s.pay(p)
	}
	return out, s.fails
}

// shop is a desk with its stubs and one activity.
type shop struct {
	*Desk
	stock *stubStock
	queue *stubQueue
	store *stubStore
}

var testCaller = &seckill.Caller{CallerRef: seckill.CallerRef{Merchant: "m", Caller: "app"}, Rights: seckill.RightBuy}

// testItems returns items 1 to n, with SKUs x1 and so on.
func testItems(n, spread int) []seckill.Item {
	items := make([]seckill.Item, n)
	for i := range items {
		items[i] = seckill.Item{
			ID: inventory.ItemID(i + 1), SKU: sku(i + 1), Price: seckill.Money{Minor: 100, Currency: "CNY"},
			Quantity: 1_000_000, PerUser: 2, Spread: spread,
		}
	}
	return items
}

func sku(i int) seckill.SKU {
	return seckill.SKU("x" + string(rune('0'+i/10)) + string(rune('0'+i%10)))
}

// openShop returns a desk with an activity of such items, on sale since an hour ago.
func openShop(t testing.TB, stock *stubStock, queue *stubQueue, cfg seckill.Config, items ...seckill.Item) *shop {
	t.Helper()
	store := &stubStore{rows: make(map[seckill.OrderID]seckill.Order)}
	return &shop{openDesk(t, cfg, Parts{Stock: stock, Queue: queue, Store: store}, items), stock, queue, store}
}

// openDesk is openShop on any parts.
func openDesk(t testing.TB, cfg seckill.Config, parts Parts, items []seckill.Item) *Desk {
	t.Helper()
	parts.Node, parts.Log = "gw", slog.New(slog.DiscardHandler)
	d, err := New(cfg, parts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	d.install(t, seckill.ActivityPublished, items)
	return d
}

// install puts a catalog with one activity in force.
func (d *Desk) install(t testing.TB, state seckill.ActivityState, items []seckill.Item) {
	t.Helper()
	now := time.Now()
	edit := d.Catalog().Edit(true, now)
	for _, change := range []seckill.CatalogChange{
		{Merchant: &seckill.Merchant{ID: "m", PaymentSecret: "secret"}},
		{Caller: testCaller},
		{Activity: &seckill.Activity{
			ID: "a", Merchant: "m", State: state, StartsAt: now.Add(-time.Hour), EndsAt: now.Add(time.Hour),
			PaymentWindow: time.Minute, Items: items,
		}},
	} {
		if err := edit.Apply(change); err != nil {
			t.Fatal(err)
		}
	}
	d.catalog.Store(edit.Done(seckill.CatalogVersion{Incarnation: "test", Number: 1}))
}

// wish returns a purchase of a unit of the first item.
func wish(user, key string) *seckill.Purchase {
	return &seckill.Purchase{
		Caller: testCaller, Activity: "a", SKU: "x01", User: seckill.UserID(user), Key: key, Quantity: 1,
		Arrived: time.Now(), Request: "req-" + key,
	}
}

// orderOf returns the id of a purchase of the item.
func orderOf(item inventory.ItemID, p *seckill.Purchase) seckill.OrderID {
	return seckill.NewOrderID(item, p.Caller.CallerRef, p.User, p.Key)
}

// codeOf returns the code of a refusal or failure, "unknown" for an unknown outcome, "" for
// success.
func codeOf(t testing.TB, err error) seckill.Code {
	t.Helper()
	var refusal *seckill.Refusal
	var failed *seckill.Failure
	var unknown *seckill.Unknown
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Code
	case errors.As(err, &failed):
		return failed.Code
	case errors.As(err, &unknown):
		return "unknown"
	}
	t.Fatalf("an error of no class: %v", err)
	return ""
}

func withTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

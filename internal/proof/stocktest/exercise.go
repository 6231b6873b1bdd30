package stocktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Stock is what a sale needs of its stock; it is seckill.Stock, which this package must not import.
type Stock interface {
	Hold(ctx context.Context, calls []*inventory.HoldCall)
	Lane(shard inventory.ShardID) int
	Find(ctx context.Context, ref inventory.Ref, item inventory.ItemID, id string) (inventory.Entry, error)
	Watch(refs []inventory.Ref)
	Epoch(shard inventory.ShardID) inventory.Epoch
	SoldOut(ref inventory.Ref, item inventory.ItemID, id string) bool
	Absent(ref inventory.Ref, id string, since time.Time) bool
	InStock(shard inventory.ShardID, item inventory.ItemID) (inStock bool, age time.Duration)

	Confirm(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) error
	Settle(ctx context.Context, ref inventory.Ref, ends []inventory.Settlement) error
	Restock(ctx context.Context, ref inventory.Ref, restocks []inventory.Restock) (applied []bool, err error)
	AllNumbers(ctx context.Context, shards []inventory.ShardID) ([]inventory.Numbers, []error)
	ItemNumbers(
		ctx context.Context, shard inventory.ShardID, items []inventory.ItemID,
	) (inventory.Numbers, []inventory.ItemNumbers, error)

	Note(ctx context.Context, ref inventory.Ref) (uint64, error)
	Old(
		ctx context.Context, ref inventory.Ref, note uint64, cursor int64, limit int,
	) (old []inventory.Entry, next int64, more bool, err error)
	Doom(ctx context.Context, ref inventory.Ref, note uint64, holds []inventory.Hold) ([]inventory.State, error)
	Close(ctx context.Context, ref inventory.Ref) error
	Load(ctx context.Context, ref inventory.Ref, items []inventory.Stocked, entries []inventory.Entry) error
	Open(ctx context.Context, ref inventory.Ref, items, names int64) error
	Forget(ctx context.Context, ref inventory.Ref, items []inventory.ItemID, heads []string) error
}

var (
	_ Stock = (*Model)(nil)
	_ Stock = (*inventory.Stock)(nil)
)

// World is an empty Redis, or a substitute, and processes that use it.
type World struct {
	Stocks []Stock
	Lose   func()                  // forgets everything
	Save   func() (restore func()) // restore puts everything back to what it was at Save, as a failover that forgets does

	// Check reports whether the stored data of the shard is consistent; it is nil if that can't be
	// checked.
	Check func(shard inventory.ShardID) error
}

// check fails if the stored data of the shard is inconsistent.
func (w *World) check(t interface{ Fatal(...any) }, shard inventory.ShardID) {
	if w.Check == nil {
		return
	}
	if err := w.Check(shard); err != nil {
		t.Fatal(err)
	}
}

// OpenModels returns the Model's world, for Exercise and for comparison.
func OpenModels(_ *testing.T, processes int) World {
	first := NewModel()
	w := World{Stocks: []Stock{first}, Lose: first.Lose, Save: first.Save}
	for len(w.Stocks) < processes {
		w.Stocks = append(w.Stocks, first.Peer())
	}
	return w
}

// Exercise runs the suite on the worlds that open returns, each with as many processes as asked
// for. open may clean up with t.Cleanup.
func Exercise(t *testing.T, open func(t *testing.T, processes int) World) {
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			w := open(t, 2)
			s := &session{T: t, World: w, Stock: w.Stocks[0], ref: inventory.Ref{Shard: 3, Epoch: 1}, item: 7}
			c.run(s)
			w.check(t, s.ref.Shard)
		})
	}
	t.Run("random_calls_are_answered_like_the_model's", func(t *testing.T) { exerciseRandom(t, open) })
}

// session is a test of one item on one shard by one process. Errors are fatal unless stated
// otherwise.
type session struct {
	*testing.T
	World
	Stock
	ref  inventory.Ref
	item inventory.ItemID
}

// open rebuilds the shard with the item, so many units of it available, and these entries.
func (s *session) open(available int64, entries ...inventory.Entry) {
	s.Helper()
	stocked := inventory.Stocked{Item: s.item, Total: available, Available: available}
	heads := make(map[string]bool)
	for _, e := range entries {
		heads[inventory.Head(e.ID)] = true
		switch e.State {
		case inventory.Ordered:
			stocked.Total += int64(e.Quantity)
		case inventory.Sold:
			stocked.Total += int64(e.Quantity)
			stocked.Sold += int64(e.Quantity)
		}
	}
	s.no(s.Stock.Close(s.Context(), s.ref))
	s.no(s.Load(s.Context(), s.ref, []inventory.Stocked{stocked}, entries))
	s.no(s.Stock.Open(s.Context(), s.ref, 1, int64(len(heads))))
}

// no fails if there is an error.
func (s *session) no(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

// is fails if err is not of the kind want.
func (s *session) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error is %v, want %v", err, want)
	}
}

// asked is a claim and the verdict that it must get.
type asked struct {
	inventory.Hold
	limit int
	want  inventory.Verdict
}

// holds holds in one call and fails if a verdict differs. It returns the shard's seq.
func (s *session) holds(batch ...asked) uint64 {
	s.Helper()
	call := &inventory.HoldCall{Ref: s.ref}
	for _, a := range batch {
		call.Claims = append(call.Claims, inventory.Claim{Hold: a.Hold, Limit: a.limit})
	}
	s.Hold(s.Context(), []*inventory.HoldCall{call})
	s.no(call.Err)
	for i, a := range batch {
		if call.Verdicts[i] != a.want {
			s.Fatalf("claim %d, %+v, limit %d: verdict %d, want %d", i, a.Hold, a.limit, call.Verdicts[i], a.want)
		}
	}
	return call.Seq
}

// hold holds and fails if the verdict differs. It returns the shard's seq.
func (s *session) hold(id, buyer string, quantity, limit int, want inventory.Verdict) uint64 {
	s.Helper()
	return s.holds(asked{s.named(id, buyer, quantity), limit, want})
}

// refusal makes one claim and returns the call's error.
func (s *session) refusal(stock Stock, ref inventory.Ref, claim inventory.Claim) error {
	call := &inventory.HoldCall{Ref: ref, Claims: []inventory.Claim{claim}}
	stock.Hold(s.Context(), []*inventory.HoldCall{call})
	return call.Err
}

// confirm confirms one hold.
func (s *session) confirm(id, buyer string, quantity int) {
	s.Helper()
	s.no(s.Confirm(s.Context(), s.ref, []inventory.Hold{s.named(id, buyer, quantity)}))
}

// settle ends one hold.
func (s *session) settle(id, buyer string, quantity int, kind inventory.Kind) {
	s.Helper()
	s.no(s.Settle(s.Context(), s.ref, []inventory.Settlement{{Hold: s.named(id, buyer, quantity), Kind: kind}}))
}

// restock adds units and fails if it isn't applied as wanted.
func (s *session) restock(r inventory.Restock, want bool) {
	s.Helper()
	applied, err := s.Restock(s.Context(), s.ref, []inventory.Restock{r})
	s.no(err)
	if len(applied) != 1 || applied[0] != want {
		s.Fatalf("restock %+v: applied %v, want %v", r, applied, want)
	}
}

// more returns a restock of the item.
func (s *session) more(id string, units int64) inventory.Restock {
	return inventory.Restock{Item: s.item, ID: id, Units: units}
}

// numbersOf reads the numbers of one shard.
func numbersOf(ctx context.Context, stock Stock, shard inventory.ShardID) (inventory.Numbers, error) {
	all, errs := stock.AllNumbers(ctx, []inventory.ShardID{shard})
	return all[0], errs[0]
}

// levels fails if the item's available, held or sold units, or the shard's fresh ones, differ. It
// returns the shard's levels.
func (s *session) levels(available, held, sold, fresh int64) inventory.Numbers {
	s.Helper()
	l, items, err := s.ItemNumbers(s.Context(), s.ref.Shard, []inventory.ItemID{s.item})
	s.no(err)
	if i := items[0]; i.Available != available || i.Held != held || i.Sold != sold || l.Fresh != fresh {
		s.Fatalf("available %d, held %d, sold %d, fresh %d; want %d, %d, %d, %d",
			i.Available, i.Held, i.Sold, l.Fresh, available, held, sold, fresh)
	}
	return l
}

// digests fails if the shard's digests don't match the names.
func (s *session) digests(ordered, sold []inventory.Hold) {
	s.Helper()
	l, err := numbersOf(s.Context(), s, s.ref.Shard)
	s.no(err)
	if l.Ordered != sum(ordered) || l.Sold != sum(sold) {
		s.Fatalf("digests %d and %d, want %d and %d", l.Ordered, l.Sold, sum(ordered), sum(sold))
	}
}

func sum(holds []inventory.Hold) (d inventory.Digest) {
	for _, h := range holds {
		d = d.Add(inventory.NameDigest(h.ID))
	}
	return d
}

// state fails if the hold's state differs.
func (s *session) state(id, buyer string, want inventory.State) inventory.Entry {
	s.Helper()
	name := s.named(id, buyer, 1).ID
	e, err := s.Find(s.Context(), s.ref, s.item, name)
	s.no(err)
	if e.State != want || e.ID != name || e.Item != s.item {
		s.Fatalf("hold %s is %v (%+v), want %v", id, e.State, e, want)
	}
	return e
}

// note begins a sweep.
func (s *session) note() uint64 {
	s.Helper()
	seq, err := s.Note(s.Context(), s.ref)
	s.no(err)
	return seq
}

// pass returns the holds that one pass of Old finds, at most limit per call, by name. It fails if a
// state is neither fresh nor doomed, or if the pass doesn't end.
func (s *session) pass(note uint64, limit int) map[string]inventory.Entry {
	s.Helper()
	found := make(map[string]inventory.Entry)
	cursor, more := int64(0), true
	for calls := 0; more; calls++ {
		if calls > 10_000 {
			s.Fatal("the pass doesn't end")
		}
		var old []inventory.Entry
		var err error
		old, cursor, more, err = s.Old(s.Context(), s.ref, note, cursor, limit)
		s.no(err)
		for _, e := range old {
			if e.State != inventory.Fresh && e.State != inventory.Doomed {
				s.Fatalf("old hold: %+v", e)
			}
			found[e.ID] = e
		}
	}
	return found
}

// old fails if one pass finds other holds than these, each as id/buyer.
func (s *session) old(note uint64, want string) {
	s.Helper()
	found := s.pass(note, 10)
	names := strings.Fields(want)
	missing := len(found) != len(names)
	for _, name := range names {
		id, buyer, _ := strings.Cut(name, "/")
		_, ok := found[s.named(id, buyer, 1).ID]
		missing = missing || !ok
	}
	if missing {
		s.Fatalf("old holds %v, want %s", found, want)
	}
}

// doom dooms one hold and fails if its state afterwards differs.
func (s *session) doom(note uint64, id, buyer string, want inventory.State) {
	s.Helper()
	states, err := s.Doom(s.Context(), s.ref, note, []inventory.Hold{s.named(id, buyer, 1)})
	s.no(err)
	if len(states) != 1 || states[0] != want {
		s.Fatalf("doom %s: %v, want %v", id, states, want)
	}
}

// doomed makes a hold and dooms it.
func (s *session) doomed(id, buyer string, quantity int) {
	s.Helper()
	s.hold(id, buyer, quantity, 0, inventory.Held)
	s.doom(s.note(), id, buyer, inventory.Doomed)
}

// soon waits until ok is true, because answers from memory may be behind for a moment.
func (s *session) soon(what string, ok func() bool) {
	s.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			s.Fatalf("still not so after 10 s: %s", what)
		case <-look.C:
		}
	}
}

// named returns a hold of the session's item.
func (s *session) named(id, buyer string, quantity int) inventory.Hold {
	return Named(s.item, id, buyer, quantity)
}

// entry returns what a rebuild loads.
func (s *session) entry(id, buyer string, quantity int, state inventory.State) inventory.Entry {
	return inventory.Entry{Hold: s.named(id, buyer, quantity), State: state}
}

// Named returns a hold whose name has a head of the item and the buyer, and a tail of id. id has at
// most 16 bytes.
func Named(item inventory.ItemID, id, buyer string, quantity int) inventory.Hold {
	name := fmt.Sprintf("%07d:%16s%-16s", item, buyer, id)
	return inventory.Hold{Item: item, ID: name, Buyer: buyer, Quantity: quantity}
}

// many returns n holds of one unit and one buyer each.
func (s *session) many(n int) []inventory.Hold {
	holds := make([]inventory.Hold, n)
	for i := range holds {
		holds[i] = s.named(fmt.Sprintf("o%05d", i), fmt.Sprintf("u%05d", i), 1)
	}
	return holds
}

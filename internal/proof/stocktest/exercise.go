package stocktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"penstock/inventory"
)

// Stock is what a sale needs of its stock; it is seckill.Stock, which this package must not import.
type Stock interface {
	Hold(ctx context.Context, ref inventory.Ref, h inventory.Hold, limit int) (inventory.Grant, error)
	SoldOut(ref inventory.Ref, id string) bool
	Absent(ref inventory.Ref, id string, since time.Time) bool
	InStock(item inventory.ItemID) bool
	Find(ctx context.Context, ref inventory.Ref, id string) (inventory.Entry, error)
	Watch(refs []inventory.Ref)
	Confirm(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) error
	Settle(ctx context.Context, ref inventory.Ref, ends []inventory.Settlement) error
	Restock(ctx context.Context, ref inventory.Ref, id string, units int) error
	Levels(ctx context.Context, item inventory.ItemID) (inventory.Levels, error)
	Note(ctx context.Context, ref inventory.Ref) (uint64, error)
	Old(ctx context.Context, ref inventory.Ref, note uint64, limit int) ([]inventory.Entry, error)
	Doom(ctx context.Context, ref inventory.Ref, note uint64, ids []string) ([]inventory.State, error)
	Close(ctx context.Context, ref inventory.Ref) error
	Load(ctx context.Context, ref inventory.Ref, entries []inventory.Entry) error
	Open(ctx context.Context, ref inventory.Ref, available, held, sold, known int64) error
}

// Batcher is a Stock that can be told which holds to take in one call. Hold makes batches of those that happen to wait together.
type Batcher interface {
	Stock
	HoldBatch(ctx context.Context, ref inventory.Ref, holds []inventory.Hold, limits []int) ([]inventory.Grant, error)
}

// World is an empty Redis, or what stands for one, and processes that use it.
type World struct {
	Stocks []Batcher
	Lose   func()                  // forgets everything
	Save   func() (restore func()) // restore puts everything back to what it was at Save, as a failover that forgets does

	Check func(item inventory.ItemID) error // whether what is stored of the item is sound in itself; nil where nobody can tell
}

// check fails where what is stored of the item isn't sound.
func (w *World) check(t interface{ Fatal(...any) }, item inventory.ItemID) {
	if w.Check == nil {
		return
	}
	if err := w.Check(item); err != nil {
		t.Fatal(err)
	}
}

// OpenModels returns the Model's world, for Exercise and for comparison.
func OpenModels(_ *testing.T, processes int) World {
	first := NewModel()
	w := World{Stocks: []Batcher{first}, Lose: first.Lose, Save: first.Save}
	for len(w.Stocks) < processes {
		w.Stocks = append(w.Stocks, first.Peer())
	}
	return w
}

// Exercise runs the suite on the worlds that open returns, each with as many processes as asked for. open may clean up with
// t.Cleanup.
func Exercise(t *testing.T, open func(t *testing.T, processes int) World) {
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			w := open(t, 2)
			s := &session{T: t, World: w, Stock: w.Stocks[0], ref: inventory.Ref{Item: 7, Epoch: 1}}
			c.run(s)
			w.check(t, s.ref.Item)
		})
	}
	t.Run("random_calls_are_answered_like_the_model's", func(t *testing.T) { exerciseRandom(t, open) })
}

// session is a test of one item by one process, with fatal errors where nothing else is said.
type session struct {
	*testing.T
	World
	Stock
	ref inventory.Ref
}

// open rebuilds the item with so many units available, and these entries.
func (s *session) open(available int64, entries ...inventory.Entry) {
	s.Helper()
	var held, sold int64
	for _, e := range entries {
		switch e.State {
		case inventory.Ordered:
			held += int64(e.Quantity)
		case inventory.Sold:
			sold += int64(e.Quantity)
		}
	}
	s.no(s.Stock.Close(s.Context(), s.ref))
	s.no(s.Load(s.Context(), s.ref, entries))
	s.no(s.Stock.Open(s.Context(), s.ref, available, held, sold, int64(len(entries))))
}

// no fails where there is an error.
func (s *session) no(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

// is fails where err is not of the kind want.
func (s *session) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error is %v, want %v", err, want)
	}
}

// hold holds and fails where the verdict is another.
func (s *session) hold(id, buyer string, quantity, limit int, want inventory.Verdict) inventory.Grant {
	s.Helper()
	g, err := s.Hold(s.Context(), s.ref, named(id, buyer, quantity), limit)
	s.no(err)
	if g.Verdict != want {
		s.Fatalf("hold %s of %q, %d units, limit %d: verdict %d, want %d", id, buyer, quantity, limit, g.Verdict, want)
	}
	return g
}

// asked is a hold of a batch and the verdict that it must get.
type asked struct {
	inventory.Hold
	limit int
	want  inventory.Verdict
}

// holdBatch holds in one call and fails where a verdict is another.
func (s *session) holdBatch(batch []asked) {
	s.Helper()
	var holds []inventory.Hold
	var limits []int
	for _, a := range batch {
		holds, limits = append(holds, a.Hold), append(limits, a.limit)
	}
	grants, err := s.Stocks[0].HoldBatch(s.Context(), s.ref, holds, limits)
	s.no(err)
	for i, a := range batch {
		if grants[i].Verdict != a.want || grants[i].Seq != grants[0].Seq {
			s.Errorf("hold %d, %+v, limit %d: %+v, want verdict %d", i, a.Hold, a.limit, grants[i], a.want)
		}
	}
}

func (s *session) confirm(id, buyer string, quantity int) {
	s.Helper()
	s.no(s.Confirm(s.Context(), s.ref, []inventory.Hold{named(id, buyer, quantity)}))
}

func (s *session) settle(id, buyer string, quantity int, kind inventory.Kind) {
	s.Helper()
	s.no(s.Settle(s.Context(), s.ref, []inventory.Settlement{{Hold: named(id, buyer, quantity), Kind: kind}}))
}

// levels fails where available, held, sold or fresh differ. It returns the shard's levels.
func (s *session) levels(available, held, sold, fresh int64) inventory.Levels {
	s.Helper()
	l, err := s.Levels(s.Context(), s.ref.Item)
	s.no(err)
	if l.Available != available || l.Held != held || l.Sold != sold || l.Fresh != fresh {
		s.Fatalf("available %d, held %d, sold %d, fresh %d; want %d, %d, %d, %d",
			l.Available, l.Held, l.Sold, l.Fresh, available, held, sold, fresh)
	}
	return l
}

// state fails where the hold's state is another.
func (s *session) state(id string, want inventory.State) inventory.Entry {
	s.Helper()
	e, err := s.Find(s.Context(), s.ref, id)
	s.no(err)
	if e.State != want || e.ID != id {
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

// old returns the names of the old holds, and fails where a name comes twice or a state is another than fresh or doomed.
func (s *session) old(note uint64, limit int) map[string]inventory.State {
	s.Helper()
	entries, err := s.Old(s.Context(), s.ref, note, limit)
	s.no(err)
	names := make(map[string]inventory.State)
	for _, e := range entries {
		if _, twice := names[e.ID]; twice || e.State != inventory.Fresh && e.State != inventory.Doomed {
			s.Fatalf("old holds: %+v", entries)
		}
		names[e.ID] = e.State
	}
	return names
}

// doom dooms one hold and fails where its state afterwards is another.
func (s *session) doom(note uint64, id string, want inventory.State) {
	s.Helper()
	states, err := s.Doom(s.Context(), s.ref, note, []string{id})
	s.no(err)
	if len(states) != 1 || states[0] != want {
		s.Fatalf("doom %s: %v, want %v", id, states, want)
	}
}

// soon waits until ok is true: what is answered from memory may be behind for a moment.
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

func named(id, buyer string, quantity int) inventory.Hold {
	return inventory.Hold{ID: id, Buyer: buyer, Quantity: quantity}
}

// many returns n holds of one unit and one buyer each.
func many(n int) []inventory.Hold {
	holds := make([]inventory.Hold, n)
	for i := range holds {
		holds[i] = named(fmt.Sprintf("o%05d", i), fmt.Sprintf("u%05d", i), 1)
	}
	return holds
}

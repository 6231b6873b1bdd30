package stocktest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"penstock/inventory"
)

// cases has a case for each rule of the contracts.
var cases = []struct {
	name string
	run  func(s *session)
}{
	{"a hold takes units and a repeat takes nothing", func(s *session) {
		s.open(5)
		first := s.hold("o1", "u1", 2, 0, inventory.Held)
		again := s.hold("o1", "u1", 2, 0, inventory.HeldAgain)
		if first.Seq == 0 || again.Seq <= first.Seq {
			s.Fatalf("seq %d, then %d", first.Seq, again.Seq)
		}
		s.levels(3, 2, 0, 2)
		if e := s.state("o1", inventory.Fresh); e.Hold != named("o1", "u1", 2) {
			s.Fatalf("found %+v", e)
		}
		s.state("o2", inventory.None)
	}},
	{"a name with another quantity is reused, whatever its state", func(s *session) {
		s.open(9, inventory.Entry{Hold: named("sold", "u1", 2), State: inventory.Sold})
		s.hold("o1", "u1", 2, 0, inventory.Held)
		s.hold("o1", "u1", 3, 0, inventory.Reused)
		s.confirm("o1", "u1", 2)
		s.hold("o1", "u1", 1, 0, inventory.Reused)
		s.hold("sold", "u1", 1, 0, inventory.Reused)
		s.doomAll("o2", "u2", 1)
		s.hold("o2", "u2", 2, 0, inventory.Reused)
		s.levels(6, 3, 2, 1)
	}},
	{"a name that is there decides before stock and limit", func(s *session) {
		s.open(2)
		s.hold("o1", "u1", 1, 1, inventory.Held)
		s.hold("o1", "u1", 1, 1, inventory.HeldAgain)
		s.hold("o2", "u2", 1, 1, inventory.Held)
		s.hold("o2", "u2", 1, 1, inventory.HeldAgain)
		s.confirm("o1", "u1", 1)
		s.hold("o1", "u1", 1, 1, inventory.HeldOrdered)
		s.settle("o1", "u1", 1, inventory.SettleSold)
		s.hold("o1", "u1", 1, 1, inventory.HeldEnded)
		s.settle("o2", "u2", 1, inventory.SettleVoid)
		s.hold("o2", "u2", 1, 1, inventory.HeldEnded)
		s.levels(1, 0, 1, 0)
	}},
	{"while there is stock a buyer over the limit reads the limit, an empty shard is sold out for everybody", func(s *session) {
		s.open(3)
		s.hold("o1", "u1", 2, 2, inventory.Held)
		s.hold("o2", "u1", 1, 2, inventory.OverLimit)
		s.hold("o3", "u1", 7, 2, inventory.OverLimit)
		s.hold("o4", "u2", 2, 2, inventory.SoldOut) // one left
		s.hold("o5", "u2", 1, 2, inventory.Held)
		s.hold("o6", "u1", 1, 2, inventory.SoldOut)
		s.levels(0, 3, 0, 3)
	}},
	{"L5 the limit counts held and sold units of all orders, until they are void", func(s *session) {
		s.open(9, inventory.Entry{Hold: named("a", "u1", 1), State: inventory.Sold},
			inventory.Entry{Hold: named("b", "u1", 1), State: inventory.Ordered},
			inventory.Entry{Hold: named("c", "u1", 5), State: inventory.Void})
		s.hold("o1", "u1", 2, 3, inventory.OverLimit)
		s.hold("o1", "u1", 1, 3, inventory.Held)
		s.hold("o2", "u1", 1, 3, inventory.OverLimit)
		s.hold("o2", "u2", 3, 3, inventory.Held)
		s.settle("o1", "u1", 1, inventory.SettleVoid)
		s.hold("o3", "u1", 1, 3, inventory.Held)
		s.settle("o3", "u1", 1, inventory.SettleSold)
		s.hold("o4", "u1", 1, 3, inventory.OverLimit)
		s.settle("b", "u1", 1, inventory.SettleVoid)
		s.hold("o4", "u1", 1, 3, inventory.Held)
		s.settle("x", "u3", 2, inventory.SettleSold) // an order whose hold was forgotten: u3 has bought
		s.hold("o5", "u3", 2, 3, inventory.OverLimit)
		s.hold("o5", "u3", 1, 3, inventory.Held)
	}},
	{"a refused hold writes nothing", func(s *session) {
		s.open(1)
		s.hold("o1", "u1", 1, 1, inventory.Held)
		before := s.levels(0, 1, 0, 1)
		s.hold("o2", "u2", 1, 1, inventory.SoldOut)
		s.hold("o1", "u1", 2, 1, inventory.Reused)
		s.no(s.Restock(s.Context(), s.ref, "r1", 1))
		s.hold("o3", "u1", 1, 1, inventory.OverLimit)
		after := s.levels(1, 1, 0, 1)
		if before.Known != 1 || after.Known != 1 {
			s.Fatalf("known %d, then %d", before.Known, after.Known)
		}
		s.state("o2", inventory.None)
		s.state("o3", inventory.None)
		s.hold("o2", "u2", 1, 1, inventory.Held)
	}},
	{"a withdrawal counts against nobody and leaves the total when it is sold", func(s *session) {
		s.open(10)
		s.hold("w1", "", 3, 0, inventory.Held)
		s.hold("w2", "", 3, 1, inventory.Held) // no buyer, no limit
		s.hold("w3", "", 5, 0, inventory.SoldOut)
		s.levels(4, 6, 0, 6)
		s.settle("w1", "", 3, inventory.SettleSold)
		s.settle("w2", "", 3, inventory.SettleVoid)
		s.levels(7, 0, 0, 0)
		s.state("w1", inventory.Sold)
		s.hold("w1", "", 3, 0, inventory.HeldEnded)
	}},
	{"confirm makes fresh and doomed holds ordered, once", func(s *session) {
		s.open(5)
		s.hold("o1", "u1", 2, 0, inventory.Held)
		s.doomAll("o2", "u2", 1)
		for range 2 {
			s.confirm("o1", "u1", 2)
			s.confirm("o2", "u2", 1)
			s.levels(2, 3, 0, 0)
		}
		s.state("o1", inventory.Ordered)
		s.state("o2", inventory.Ordered)
		s.settle("o1", "u1", 2, inventory.SettleSold)
		s.confirm("o1", "u1", 2)
		s.state("o1", inventory.Sold)
		s.levels(2, 1, 2, 0)
	}},
	{"confirm puts a forgotten hold back, even below zero", func(s *session) {
		s.open(1)
		s.confirm("o1", "u1", 2)
		l := s.levels(-1, 2, 0, 0)
		if l.Known != 1 {
			s.Fatalf("known %d", l.Known)
		}
		s.hold("o2", "u2", 1, 0, inventory.SoldOut)
		s.settle("o1", "u1", 2, inventory.SettleVoid)
		s.levels(1, 0, 0, 0)
		s.confirm("o3", "u1", 1)
		s.no(s.Restock(s.Context(), s.ref, "r", 1))
		s.hold("o4", "u1", 1, 1, inventory.OverLimit)
	}},
	{"settling a hold that isn't there leaves a marker and gives nothing back", func(s *session) {
		s.open(3)
		s.settle("o1", "u1", 2, inventory.SettleVoid)
		s.settle("o2", "u1", 2, inventory.SettleSold)
		if l := s.levels(3, 0, 0, 0); l.Known != 2 {
			s.Fatalf("known %d", l.Known)
		}
		s.state("o1", inventory.Void)
		s.state("o2", inventory.Sold)
		s.hold("o1", "u1", 2, 0, inventory.HeldEnded)
		s.confirm("o1", "u1", 2)
		s.state("o1", inventory.Void)
	}},
	{"settling twice, either way, does nothing", func(s *session) {
		s.open(3)
		s.hold("o1", "u1", 2, 0, inventory.Held)
		s.hold("o2", "u2", 1, 0, inventory.Held)
		for range 2 {
			s.settle("o1", "u1", 2, inventory.SettleVoid)
			s.settle("o2", "u2", 1, inventory.SettleSold)
			s.settle("o1", "u1", 2, inventory.SettleSold)
			s.settle("o2", "u2", 1, inventory.SettleVoid)
			s.levels(2, 0, 1, 0)
		}
	}},
	{"one call may name a hold and a buyer twice", func(s *session) {
		s.open(9)
		s.no(s.Confirm(s.Context(), s.ref, []inventory.Hold{named("o1", "u1", 2), named("o1", "u1", 2), named("o2", "u1", 1)}))
		s.levels(6, 3, 0, 0)
		s.hold("o3", "u1", 1, 3, inventory.OverLimit)
		s.no(s.Settle(s.Context(), s.ref, []inventory.Settlement{
			{Hold: named("o1", "u1", 2), Kind: inventory.SettleVoid}, {Hold: named("o2", "u1", 1), Kind: inventory.SettleVoid},
			{Hold: named("o1", "u1", 2), Kind: inventory.SettleSold}, {Hold: named("o9", "u1", 1), Kind: inventory.SettleSold},
			{Hold: named("o9", "u1", 1), Kind: inventory.SettleVoid},
		}))
		s.levels(9, 0, 0, 0)
		s.hold("o3", "u1", 2, 3, inventory.Held)
		s.hold("o4", "u1", 1, 3, inventory.OverLimit)
		states, err := s.Doom(s.Context(), s.ref, s.note(), []string{"o3", "o3", "nobody", "o1"})
		s.no(err)
		if got := fmt.Sprint(states); got != "[doomed doomed none void]" {
			s.Fatal(got)
		}
	}},
	{"L1 L5 many at once take no more than there is, and no buyer more than allowed", holdAtOnce},
	{"a restock counts once per id and epoch", func(s *session) {
		s.open(0)
		for range 2 {
			s.no(s.Restock(s.Context(), s.ref, "r1", 2))
			s.no(s.Restock(s.Context(), s.ref, "r2", 3))
		}
		s.levels(5, 0, 0, 0)
		s.ref.Epoch++
		s.open(1)
		s.no(s.Restock(s.Context(), s.ref, "r1", 2))
		s.levels(3, 0, 0, 0)
	}},
	{"old holds are those not touched since the note", func(s *session) {
		s.open(9)
		s.hold("o1", "u1", 1, 0, inventory.Held)
		s.hold("o2", "u2", 1, 0, inventory.Held)
		s.hold("o3", "u3", 1, 0, inventory.Held)
		s.confirm("o3", "u3", 1)
		note := s.note()
		s.hold("o4", "u4", 1, 0, inventory.Held)
		s.hold("o2", "u2", 1, 0, inventory.HeldAgain)
		s.holds(s.old(note, 10), "o1")
		later := s.note()
		if later <= note {
			s.Fatalf("note %d, then %d", note, later)
		}
		s.holds(s.old(note, 10), "o1") // another sweeper's note doesn't age what came after ours
		s.holds(s.old(later, 10), "o1 o2 o4")
		s.settle("o1", "u1", 1, inventory.SettleVoid)
		s.confirm("o2", "u2", 1)
		s.holds(s.old(later, 10), "o4")
	}},
	{"doom takes fresh holds that nobody touched since, and keeps them old", func(s *session) {
		s.open(9)
		s.hold("o1", "u1", 1, 0, inventory.Held)
		s.hold("o2", "u2", 1, 0, inventory.Held)
		note := s.note()
		s.hold("o2", "u2", 1, 0, inventory.HeldAgain)
		s.doom(note, "o1", inventory.Doomed)
		s.doom(note, "o1", inventory.Doomed)
		s.doom(note, "o2", inventory.Fresh)
		s.doom(note, "o3", inventory.None)
		s.hold("o1", "u1", 1, 0, inventory.HeldDoomed)
		s.holds(s.old(note, 10), "o1")
		s.levels(7, 2, 0, 2)
		s.settle("o1", "u1", 1, inventory.SettleVoid)
		s.levels(8, 1, 0, 1)
		s.holds(s.old(s.note(), 10), "o2")
		s.confirm("o2", "u2", 1)
		s.doom(note, "o2", inventory.Ordered)
	}},
	{"thousands of old holds are found, however the sweeps meet", sweepMany},
	{"batches larger than a call are taken whole", func(s *session) {
		s.open(20_000)
		holds := many(2500)
		for range 2 {
			s.no(s.Confirm(s.Context(), s.ref, holds))
			s.levels(17_500, 2500, 0, 0)
		}
		ends := make([]inventory.Settlement, len(holds))
		for i := range ends {
			ends[i] = inventory.Settlement{Hold: holds[i], Kind: inventory.SettleVoid}
		}
		for range 2 {
			s.no(s.Settle(s.Context(), s.ref, ends))
			s.levels(20_000, 0, 0, 0)
		}
	}},
	{"the holds of one call see each other", holdTogether},
	{"a call of any size is answered like its holds one after another", holdManyTogether},
	{"names and buyers may be any bytes", func(s *session) {
		s.open(9)
		for _, name := range []string{"F1 2 ", "\x00\r\n\xff", "{7.0}", "日本", strings.Repeat("n", 256)} {
			s.hold(name, name, 1, 1, inventory.Held)
			if e := s.state(name, inventory.Fresh); e.Hold != named(name, name, 1) {
				s.Fatalf("found %+v", e)
			}
			s.hold(name, name, 1, 1, inventory.HeldAgain)
			s.hold("another", name, 1, 1, inventory.OverLimit)
		}
		if n := len(s.old(s.note(), 10)); n != 5 {
			s.Fatalf("%d old holds", n)
		}
	}},
	{"calls that make no sense are invalid", invalidCalls},
	{"a shard takes calls of its own epoch only, and none while it is closed", refsRefused},
	{"a rebuild closes, loads and opens, and no other interferes", rebuildSteps},
	{"a load may be repeated", func(s *session) {
		entries := []inventory.Entry{
			{Hold: named("a", "u1", 2), State: inventory.Ordered}, {Hold: named("b", "u1", 1), State: inventory.Sold},
			{Hold: named("c", "u2", 1), State: inventory.Void}, {Hold: named("w", "", 4), State: inventory.Ordered},
		}
		s.no(s.Stock.Close(s.Context(), s.ref))
		for range 2 {
			s.no(s.Load(s.Context(), s.ref, entries))
		}
		s.no(s.Stock.Open(s.Context(), s.ref, 5, 6, 1, 4))
		if l := s.levels(5, 6, 1, 0); l.Known != 4 || l.Seq != 1 || l.Closed {
			s.Fatalf("levels %+v", l)
		}
		for i, e := range entries {
			if got := s.state(e.ID, e.State); got != entries[i] {
				s.Fatalf("found %+v, want %+v", got, e)
			}
		}
		s.hold("d", "u1", 1, 4, inventory.Held)
		s.hold("e", "u1", 1, 4, inventory.OverLimit)
		s.hold("f", "u2", 4, 4, inventory.Held)
	}},
	{"L3 a shard that forgot what was loaded is not opened", func(s *session) {
		s.no(s.Stock.Close(s.Context(), s.ref))
		restore := s.Save()
		s.no(s.Load(s.Context(), s.ref, []inventory.Entry{
			{Hold: named("a", "u1", 2), State: inventory.Ordered}, {Hold: named("b", "u1", 1), State: inventory.Void},
		}))
		restore()
		s.is(s.Stock.Open(s.Context(), s.ref, 5, 2, 0, 2), inventory.ErrLost)
		if l := s.levels(0, 0, 0, 0); !l.Closed || l.Known != 0 {
			s.Fatalf("levels %+v", l)
		}
	}},
	{"a shard that forgot is lost to whoever saw more", lostWrites},
	{"L6 from memory: sold out is true, absent is true, and neither lasts", fromMemory},
}

// doomAll holds and dooms.
func (s *session) doomAll(id, buyer string, quantity int) {
	s.Helper()
	s.hold(id, buyer, quantity, 0, inventory.Held)
	s.doom(s.note(), id, inventory.Doomed)
}

// holds fails where the names in got are not those in want.
func (s *session) holds(got map[string]inventory.State, want string) {
	s.Helper()
	names := strings.Fields(want)
	missing := len(got) != len(names)
	for _, name := range names {
		_, ok := got[name]
		missing = missing || !ok
	}
	if missing {
		s.Fatalf("old holds %v, want %s", got, want)
	}
}

func holdAtOnce(s *session) {
	const units, buyers, limit = 50, 40, 2
	s.open(units)
	for _, stock := range s.Stocks {
		stock.Watch([]inventory.Ref{s.ref})
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		held = make(map[string]int)
	)
	for i := range buyers * 4 {
		wg.Go(func() {
			buyer := fmt.Sprint("u", i%buyers)
			h := named(fmt.Sprint("o", i), buyer, 1)
			for _, stock := range s.Stocks { // each order through every process: one unit
				g, err := stock.Hold(s.Context(), s.ref, h, limit)
				if err != nil {
					s.Error(err)
				} else if g.Verdict == inventory.Held {
					mu.Lock()
					held[buyer]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for buyer, n := range held {
		total += n
		if n > limit {
			s.Errorf("%s has %d units", buyer, n)
		}
	}
	if total != units {
		s.Errorf("%d units held of %d", total, units)
	}
	s.levels(0, units, 0, units)
}

// holdTogether has a hold of every state, and in each call what an earlier hold of it changes for a later one.
func holdTogether(s *session) {
	s.open(12, inventory.Entry{Hold: named("sold", "u1", 1), State: inventory.Sold},
		inventory.Entry{Hold: named("void", "u1", 1), State: inventory.Void},
		inventory.Entry{Hold: named("ordered", "u1", 1), State: inventory.Ordered})
	s.doomAll("doomed", "u1", 1)
	s.hold("fresh", "u1", 1, 0, inventory.Held)
	note := s.note()
	s.holdBatch([]asked{ // of one quantity and one limit: u1 has four units
		{named("fresh", "u1", 1), 5, inventory.HeldAgain}, {named("a", "u1", 1), 5, inventory.Held},
		{named("a", "u1", 1), 5, inventory.HeldAgain}, {named("b", "u1", 1), 5, inventory.OverLimit},
		{named("b", "u2", 1), 5, inventory.Held}, {named("fresh", "u2", 1), 5, inventory.HeldAgain},
		{named("sold", "u1", 1), 5, inventory.HeldEnded}, {named("void", "u1", 1), 5, inventory.HeldEnded},
		{named("ordered", "u1", 1), 5, inventory.HeldOrdered}, {named("doomed", "u1", 1), 5, inventory.HeldDoomed},
	})
	s.holds(s.old(note, 10), "doomed") // fresh was touched
	s.levels(8, 5, 1, 4)
	s.holdBatch([]asked{ // of several quantities and limits
		{named("b", "u2", 2), 0, inventory.Reused}, {named("c", "u2", 2), 3, inventory.Held},
		{named("c", "u2", 1), 3, inventory.Reused}, {named("d", "u2", 1), 3, inventory.OverLimit},
		{named("d", "u2", 1), 4, inventory.Held}, {named("e", "u2", 2), 0, inventory.Held},
		{named("w", "", 2), 1, inventory.Held}, {named("f", "u3", 2), 0, inventory.SoldOut}, // one is left
		{named("f", "u2", 2), 6, inventory.OverLimit}, {named("f", "u3", 1), 1, inventory.Held},
		{named("g", "u2", 2), 6, inventory.SoldOut}, {named("w", "", 2), 1, inventory.HeldAgain},
	})
	s.holdBatch([]asked{ // of an empty shard
		{named("g", "u2", 1), 6, inventory.SoldOut}, {named("f", "u3", 1), 1, inventory.HeldAgain},
		{named("f", "u3", 2), 1, inventory.Reused}, {named("w", "", 2), 0, inventory.HeldAgain},
	})
	s.levels(0, 13, 1, 12)
	s.settle("e", "u2", 2, inventory.SettleVoid)
	s.hold("g", "u2", 2, 5, inventory.OverLimit) // four of u2 are left
	s.hold("g", "u2", 2, 6, inventory.Held)
}

// holdManyTogether holds calls of many sizes against a Model that takes hold after hold. Every fifth hold repeats an earlier one, every
// seventh is of one of three buyers, who reach their limit, and the units end within the last call.
func holdManyTogether(s *session) {
	const units, limit = 9000, 300
	model := NewModel()
	s.open(units)
	s.no(model.Close(s.Context(), s.ref))
	s.no(model.Open(s.Context(), s.ref, units, 0, 0, 0))
	number := 0
	for _, call := range []struct {
		size                  int
		oneQuantity, oneLimit bool
	}{
		{1, true, true}, {2, false, false}, {999, true, true}, {1000, false, true}, {1001, true, false}, {2500, true, true},
		{10_000, false, false},
	} {
		holds, limits := make([]inventory.Hold, call.size), make([]int, call.size)
		for i := range holds {
			number++
			name := number
			if number%5 == 0 {
				name = number * 3 / 5
			}
			holds[i] = named(fmt.Sprint("o", name), fmt.Sprint("u", name), 1)
			if name%7 == 0 {
				holds[i].Buyer = fmt.Sprint("u", name%3)
			}
			if !call.oneQuantity {
				holds[i].Quantity += name % 2
			}
			if call.oneLimit || name%7 == 0 {
				limits[i] = limit
			}
		}
		grants, err := s.Stocks[0].HoldBatch(s.Context(), s.ref, holds, limits)
		s.no(err)
		for i, h := range holds {
			want, err := model.Hold(s.Context(), s.ref, h, limits[i])
			if err != nil || grants[i].Verdict != want.Verdict {
				s.Fatalf("hold %d of %d, %+v, limit %d: verdict %d; the model says %d, %v",
					i, call.size, h, limits[i], grants[i].Verdict, want.Verdict, err)
			}
		}
		l, err := model.Levels(s.Context(), s.ref.Item)
		s.no(err)
		s.levels(l.Available, l.Held, l.Sold, l.Fresh)
		s.check(s, s.ref.Item)
	}
}

func sweepMany(s *session) {
	s.open(20_000)
	holds := many(2600)
	s.no(s.Confirm(s.Context(), s.ref, holds[2500:])) // not fresh: never old
	for _, h := range holds[:1300] {
		s.hold(h.ID, h.Buyer, 1, 0, inventory.Held)
	}
	first := s.note()
	for _, h := range holds[1300:2500] {
		s.hold(h.ID, h.Buyer, 1, 0, inventory.Held)
	}
	second := s.note() // the first's are still there
	s.hold(holds[0].ID, holds[0].Buyer, 1, 0, inventory.HeldAgain)
	if n := len(s.old(first, 5000)); n != 1299 {
		s.Fatalf("%d old holds at the first note", n)
	}
	if n := len(s.old(second, 5000)); n != 2499 {
		s.Fatalf("%d old holds at the second note", n)
	}
	if n := len(s.old(second, 700)); n != 700 {
		s.Fatalf("%d old holds of at most 700", n)
	}
	for left := 2499; left > 0; {
		old := s.old(second, 600)
		if len(old) != min(600, left) {
			s.Fatalf("%d old holds, %d are left", len(old), left)
		}
		var ids []string
		var ends []inventory.Settlement
		for id := range old {
			ids = append(ids, id)
			ends = append(ends, inventory.Settlement{Hold: named(id, "u"+id[1:], 1), Kind: inventory.SettleVoid})
		}
		_, err := s.Doom(s.Context(), s.ref, second, ids)
		s.no(err)
		s.no(s.Settle(s.Context(), s.ref, ends))
		left -= len(old)
	}
	s.levels(19_899, 101, 0, 1)
	s.holds(s.old(s.note(), 10), holds[0].ID)
}

func invalidCalls(s *session) {
	ctx := s.Context()
	s.open(9)
	before := s.levels(9, 0, 0, 0)
	good := named("o1", "u1", 1)
	for _, h := range []inventory.Hold{named("", "u1", 1), named("o1", "u1", 0), named("o1", "u1", -1),
		named("o1", "u1", 2_000_000_000), named(strings.Repeat("n", 257), "u1", 1), named("o1", strings.Repeat("n", 257), 1)} {
		_, err := s.Hold(ctx, s.ref, h, 0)
		s.is(err, inventory.ErrInvalid)
		s.is(s.Confirm(ctx, s.ref, []inventory.Hold{good, h}), inventory.ErrInvalid)
		s.is(s.Settle(ctx, s.ref, []inventory.Settlement{{Hold: h, Kind: inventory.SettleVoid}}), inventory.ErrInvalid)
		s.is(s.Load(ctx, s.ref, []inventory.Entry{{Hold: h, State: inventory.Sold}}), inventory.ErrInvalid)
	}
	_, err := s.Hold(ctx, s.ref, good, -1)
	s.is(err, inventory.ErrInvalid)
	s.is(s.Settle(ctx, s.ref, []inventory.Settlement{{Hold: good}}), inventory.ErrInvalid)
	s.is(s.Load(ctx, s.ref, []inventory.Entry{{Hold: good, State: inventory.Fresh}}), inventory.ErrInvalid)
	s.is(s.Restock(ctx, s.ref, "", 1), inventory.ErrInvalid)
	s.is(s.Restock(ctx, s.ref, "r", 0), inventory.ErrInvalid)
	_, err = s.Doom(ctx, s.ref, 1, []string{""})
	s.is(err, inventory.ErrInvalid)
	_, err = s.Levels(ctx, 0)
	s.is(err, inventory.ErrInvalid)
	for _, ref := range []inventory.Ref{{}, {Item: 7}, {Epoch: 1}} {
		_, err := s.Hold(ctx, ref, good, 0)
		s.is(err, inventory.ErrInvalid)
		_, err = s.Find(ctx, ref, "o1")
		s.is(err, inventory.ErrInvalid)
		_, err = s.Note(ctx, ref)
		s.is(err, inventory.ErrInvalid)
		s.is(s.Confirm(ctx, ref, []inventory.Hold{good}), inventory.ErrInvalid)
		s.is(s.Stock.Close(ctx, ref), inventory.ErrInvalid)
		s.is(s.Stock.Open(ctx, ref, 1, 0, 0, 0), inventory.ErrInvalid)
	}
	if after := s.levels(9, 0, 0, 0); after != before {
		s.Fatalf("levels %+v, then %+v", before, after)
	}
}

// everyCall makes each call that a shard of another epoch refuses and fails where one is answered otherwise.
func everyCall(s *session, ref inventory.Ref, want error) {
	s.Helper()
	ctx := s.Context()
	h := named("o9", "u9", 1)
	_, err := s.Hold(ctx, ref, h, 0)
	s.is(err, want)
	_, err = s.Find(ctx, ref, "o9")
	s.is(err, want)
	s.is(s.Confirm(ctx, ref, []inventory.Hold{h}), want)
	s.is(s.Settle(ctx, ref, []inventory.Settlement{{Hold: h, Kind: inventory.SettleVoid}}), want)
	s.is(s.Restock(ctx, ref, "r9", 1), want)
	_, err = s.Note(ctx, ref)
	s.is(err, want)
	_, err = s.Old(ctx, ref, 1, 1)
	s.is(err, want)
	_, err = s.Doom(ctx, ref, 1, []string{"o9"})
	s.is(err, want)
	if s.SoldOut(ref, "o9") || s.Absent(ref, "o9", time.Time{}) {
		s.Fatal("answered from memory")
	}
	var unknown *inventory.UnknownError
	if errors.As(err, &unknown) {
		s.Fatalf("a refusal is no doubt: %v", err)
	}
}

func refsRefused(s *session) {
	s.ref.Epoch = 3
	everyCall(s, s.ref, inventory.ErrLost) // nothing there
	s.no(s.Stock.Close(s.Context(), s.ref))
	everyCall(s, s.ref, inventory.ErrClosed)
	s.no(s.Stock.Open(s.Context(), s.ref, 5, 0, 0, 0))
	s.hold("o1", "u1", 1, 0, inventory.Held)
	before := s.levels(4, 1, 0, 1)
	everyCall(s, inventory.Ref{Item: s.ref.Item, Epoch: 2}, inventory.ErrEpoch)
	everyCall(s, inventory.Ref{Item: s.ref.Item, Epoch: 4}, inventory.ErrLost)
	everyCall(s, inventory.Ref{Item: s.ref.Item + 1, Epoch: 1}, inventory.ErrLost)
	if after := s.levels(4, 1, 0, 1); after != before {
		s.Fatalf("levels %+v, then %+v", before, after)
	}
	s.no(s.Stock.Close(s.Context(), inventory.Ref{Item: s.ref.Item, Epoch: 4}))
	everyCall(s, s.ref, inventory.ErrEpoch)
}

func rebuildSteps(s *session) {
	ctx := s.Context()
	at := func(epoch inventory.Epoch) inventory.Ref { return inventory.Ref{Item: s.ref.Item, Epoch: epoch} }
	entry := []inventory.Entry{{Hold: named("o1", "u1", 1), State: inventory.Ordered}}
	s.is(s.Load(ctx, at(1), entry), inventory.ErrEpoch) // no close before
	s.is(s.Stock.Open(ctx, at(1), 5, 0, 0, 0), inventory.ErrEpoch)
	s.no(s.Stock.Close(ctx, at(2)))
	s.no(s.Stock.Close(ctx, at(2))) // the same again
	s.is(s.Stock.Close(ctx, at(1)), inventory.ErrEpoch)
	s.is(s.Load(ctx, at(1), entry), inventory.ErrEpoch)
	s.is(s.Load(ctx, at(3), entry), inventory.ErrEpoch)
	s.is(s.Stock.Open(ctx, at(3), 5, 0, 0, 0), inventory.ErrEpoch)
	s.no(s.Load(ctx, at(2), entry))
	s.is(s.Stock.Close(ctx, at(2)), inventory.ErrEpoch) // a late repeat must not take the load away
	s.no(s.Stock.Open(ctx, at(2), 5, 1, 0, 1))
	s.ref = at(2)
	s.hold("o2", "u2", 1, 0, inventory.Held)
	s.levels(4, 2, 0, 1)
	s.no(s.Stock.Open(ctx, at(2), 5, 1, 0, 1)) // the same again: nothing changes
	s.levels(4, 2, 0, 1)
	s.is(s.Load(ctx, at(2), entry), inventory.ErrEpoch)
	s.is(s.Stock.Close(ctx, at(2)), inventory.ErrEpoch)
	s.is(s.Stock.Open(ctx, at(1), 5, 0, 0, 0), inventory.ErrEpoch)
	s.no(s.Stock.Close(ctx, at(5))) // a later rebuild overtakes
	s.no(s.Stock.Close(ctx, at(6)))
	s.is(s.Load(ctx, at(5), entry), inventory.ErrEpoch)
	s.is(s.Stock.Open(ctx, at(5), 5, 0, 0, 0), inventory.ErrEpoch)
	s.no(s.Stock.Open(ctx, at(6), 7, 0, 0, 0))
	s.ref = at(6)
	if l := s.levels(7, 0, 0, 0); l.Epoch != 6 || l.Seq != 1 || l.Known != 0 || l.Closed {
		s.Fatalf("levels %+v", l)
	}
	s.state("o1", inventory.None)
	s.hold("o2", "u2", 1, 1, inventory.Held)
}

func lostWrites(s *session) {
	s.open(9)
	s.hold("o1", "u1", 1, 0, inventory.Held)
	restore := s.Save()
	s.hold("o2", "u2", 1, 0, inventory.Held)
	restore()
	everyCall(s, s.ref, inventory.ErrLost)
	if l := s.levels(8, 1, 0, 1); l.Epoch != s.ref.Epoch {
		s.Fatalf("levels %+v", l)
	}
	s.ref.Epoch++
	s.open(9)
	s.hold("o2", "u2", 1, 0, inventory.Held)
	restore() // to the epoch before
	everyCall(s, s.ref, inventory.ErrLost)
	s.ref.Epoch++
	s.open(9)
	s.Lose()
	everyCall(s, s.ref, inventory.ErrLost)
	s.levels(0, 0, 0, 0)
	s.ref.Epoch++
	s.no(s.Stock.Close(s.Context(), s.ref))
	closed := s.Save()
	s.no(s.Stock.Open(s.Context(), s.ref, 3, 0, 0, 0))
	s.hold("o1", "u1", 1, 0, inventory.Held)
	closed() // the failover forgot that the shard was opened: nobody will open it again
	everyCall(s, s.ref, inventory.ErrLost)
}

func fromMemory(s *session) {
	began := time.Now()
	s.open(1, inventory.Entry{Hold: named("old", "u0", 1), State: inventory.Sold})
	for _, stock := range s.Stocks {
		stock.Watch([]inventory.Ref{s.ref})
	}
	near, far := s.Stocks[0], s.Stocks[1]
	for _, stock := range s.Stocks {
		s.soon("in stock", func() bool { return stock.InStock(s.ref.Item) })
		s.soon("o1 is absent", func() bool { return stock.Absent(s.ref, "o1", began) })
		if stock.SoldOut(s.ref, "o1") || stock.Absent(s.ref, "old", began) {
			s.Fatal("wrong from memory")
		}
	}
	s.hold("o1", "u1", 1, 0, inventory.Held)
	for _, stock := range s.Stocks {
		s.soon("sold out", func() bool { return stock.SoldOut(s.ref, "o2") && !stock.InStock(s.ref.Item) })
		for _, id := range []string{"o1", "old"} { // repeats are owed their orders
			if stock.SoldOut(s.ref, id) || stock.Absent(s.ref, id, began) {
				s.Fatalf("%s is not sold out: it has a hold", id)
			}
		}
		for _, other := range []inventory.Ref{{Item: s.ref.Item, Epoch: s.ref.Epoch + 1}, {Item: 99, Epoch: 1}} {
			if stock.SoldOut(other, "o2") {
				s.Fatal("sold out where nothing is known")
			}
		}
	}
	s.settle("o1", "u1", 1, inventory.SettleVoid)
	if near.SoldOut(s.ref, "o2") || !near.InStock(s.ref.Item) {
		s.Fatal("sold out to the one who gave the unit back")
	}
	s.soon("in stock again", func() bool { return !far.SoldOut(s.ref, "o2") && far.InStock(s.ref.Item) })
	s.hold("o3", "u3", 1, 0, inventory.Held)
	s.soon("sold out again", func() bool { return far.SoldOut(s.ref, "o2") })
	if far.SoldOut(s.ref, "o3") {
		s.Fatal("o3 is not sold out: it has a hold")
	}
	s.no(s.Restock(s.Context(), s.ref, "r", 1))
	s.soon("restocked", func() bool { return !far.SoldOut(s.ref, "o2") && far.InStock(s.ref.Item) })
}

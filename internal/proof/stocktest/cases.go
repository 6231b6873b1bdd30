package stocktest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock/inventory"
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
		if first == 0 || again <= first {
			s.Fatalf("seq %d, then %d", first, again)
		}
		s.levels(3, 2, 0, 2)
		if e := s.state("o1", "u1", inventory.Fresh); e.Hold != s.named("o1", "u1", 2) {
			s.Fatalf("found %+v", e)
		}
		s.state("o2", "u1", inventory.None)
		s.state("o1", "u2", inventory.None)
	}},
	{"a name with another quantity is reused, whatever its state", func(s *session) {
		s.open(9, s.entry("sold", "u1", 2, inventory.Sold))
		s.hold("o1", "u1", 2, 0, inventory.Held)
		s.hold("o1", "u1", 3, 0, inventory.Reused)
		s.confirm("o1", "u1", 2)
		s.hold("o1", "u1", 1, 0, inventory.Reused)
		s.hold("sold", "u1", 1, 0, inventory.Reused)
		s.doomed("o2", "u2", 1)
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
	{"while there is stock a buyer over the limit reads the limit, an empty item is sold out for everybody", func(s *session) {
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
		s.open(9, s.entry("a", "u1", 1, inventory.Sold), s.entry("b", "u1", 1, inventory.Ordered),
			s.entry("c", "u1", 5, inventory.Void))
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
	{"L8 a buyer makes so many holds of an item and no more, ended ones included", func(s *session) {
		s.open(9)
		buy := func(id, buyer string, want inventory.Verdict) {
			s.Helper()
			call := &inventory.HoldCall{Ref: s.ref, Claims: []inventory.Claim{{Hold: s.named(id, buyer, 1), MaxOrders: 2}}}
			s.Hold(s.Context(), []*inventory.HoldCall{call})
			s.no(call.Err)
			if call.Verdicts[0] != want {
				s.Fatalf("hold %s: verdict %d, want %d", id, call.Verdicts[0], want)
			}
		}
		for _, id := range []string{"a", "b"} {
			buy(id, "u1", inventory.Held)
			s.settle(id, "u1", 1, inventory.SettleVoid)
		}
		buy("c", "u1", inventory.TooMany)
		buy("b", "u1", inventory.HeldEnded)
		buy("c", "u2", inventory.Held)
		for _, id := range []string{"w1", "w2", "w3"} {
			buy(id, "", inventory.Held) // the shop may
		}
		if l := s.levels(5, 4, 0, 4); l.Names != 3 {
			s.Fatalf("levels %+v", l)
		}
	}},
	{"a refused hold writes nothing", func(s *session) {
		s.open(1)
		s.hold("o1", "u1", 1, 1, inventory.Held)
		before := s.levels(0, 1, 0, 1)
		s.hold("o2", "u2", 1, 1, inventory.SoldOut)
		s.hold("o1", "u1", 2, 1, inventory.Reused)
		s.restock(s.more("r1", 1), true)
		s.hold("o3", "u1", 1, 1, inventory.OverLimit)
		after := s.levels(1, 1, 0, 1)
		if before.Names != 1 || after.Names != 1 {
			s.Fatalf("names %d, then %d", before.Names, after.Names)
		}
		s.state("o2", "u2", inventory.None)
		s.state("o3", "u1", inventory.None)
		s.hold("o2", "u2", 1, 1, inventory.Held)
	}},
	{"a withdrawal counts against nobody and leaves the total when it is sold", func(s *session) {
		s.open(10)
		s.hold("w1", "", 3, 0, inventory.Held)
		s.hold("w2", "", 3, 1, inventory.Held) // no buyer, no limit
		s.hold("w3", "", 5, 0, inventory.SoldOut)
		s.levels(4, 6, 0, 6)
		s.confirm("w1", "", 3)
		s.digests(nil, nil)
		s.settle("w1", "", 3, inventory.SettleSold)
		s.settle("w2", "", 3, inventory.SettleVoid)
		s.levels(7, 0, 0, 0)
		s.state("w1", "", inventory.Sold)
		s.hold("w1", "", 3, 0, inventory.HeldEnded)
		s.settle("w4", "", 2, inventory.SettleSold) // forgotten
		s.levels(5, 0, 0, 0)
		s.digests(nil, nil)
	}},
	{"confirm makes fresh and doomed holds ordered, once", func(s *session) {
		s.open(5)
		s.hold("o1", "u1", 2, 0, inventory.Held)
		s.doomed("o2", "u2", 1)
		for range 2 {
			s.confirm("o1", "u1", 2)
			s.confirm("o2", "u2", 1)
			s.levels(2, 3, 0, 0)
		}
		s.state("o1", "u1", inventory.Ordered)
		s.state("o2", "u2", inventory.Ordered)
		s.settle("o1", "u1", 2, inventory.SettleSold)
		s.confirm("o1", "u1", 2)
		s.state("o1", "u1", inventory.Sold)
		s.levels(2, 1, 2, 0)
	}},
	{"confirm puts a forgotten hold back, even below zero", func(s *session) {
		s.open(1)
		s.confirm("o1", "u1", 2)
		if l := s.levels(-1, 2, 0, 0); l.Names != 1 {
			s.Fatalf("names %d", l.Names)
		}
		s.hold("o2", "u2", 1, 0, inventory.SoldOut)
		s.settle("o1", "u1", 2, inventory.SettleVoid)
		s.levels(1, 0, 0, 0)
		s.confirm("o3", "u1", 1)
		s.restock(s.more("r", 1), true)
		s.hold("o4", "u1", 1, 1, inventory.OverLimit)
	}},
	{"settling a hold that isn't there leaves a marker: void gives nothing back, sold takes its units", func(s *session) {
		s.open(3)
		s.settle("o1", "u1", 2, inventory.SettleVoid)
		s.levels(3, 0, 0, 0)
		s.settle("o2", "u2", 2, inventory.SettleSold)
		if l := s.levels(1, 0, 2, 0); l.Names != 2 {
			s.Fatalf("names %d", l.Names)
		}
		s.state("o1", "u1", inventory.Void)
		s.state("o2", "u2", inventory.Sold)
		s.hold("o1", "u1", 2, 0, inventory.HeldEnded)
		s.confirm("o1", "u1", 2)
		s.state("o1", "u1", inventory.Void)
		s.digests(nil, []inventory.Hold{s.named("o2", "u2", 2)})
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
	{"confirm is told when holds were taken, and need not be told right", func(s *session) {
		s.open(20)
		seqs := []uint64{
			s.hold("o1", "u1", 2, 0, inventory.Held), s.hold("o2", "u2", 3, 0, inventory.Held), s.hold("o3", "u3", 1, 0, inventory.Held),
		}
		s.hold("o4", "u4", 1, 0, inventory.Held)
		s.hold("o3", "u3", 1, 0, inventory.HeldAgain) // touched: another value than the one of its seq
		right := s.named("o1", "u1", 2)
		right.Seq = seqs[0]
		s.no(s.Confirm(s.Context(), s.ref, []inventory.Hold{right}))
		s.levels(13, 7, 0, 5)
		late, touched, unknown := s.named("o2", "u2", 3), s.named("o3", "u3", 1), s.named("o4", "u4", 1)
		late.Seq, touched.Seq = seqs[0], seqs[2]
		for range 2 {
			s.no(s.Confirm(s.Context(), s.ref, []inventory.Hold{late, touched, right, unknown}))
			s.levels(13, 7, 0, 0)
			s.digests([]inventory.Hold{right, late, touched, unknown}, nil)
		}
	}},
	{"the digests follow which holds are ordered and sold", followDigests},
	{"one call may name a hold and a buyer twice", func(s *session) {
		s.open(9)
		n := s.named
		s.no(s.Confirm(s.Context(), s.ref, []inventory.Hold{n("o1", "u1", 2), n("o1", "u1", 2), n("o2", "u1", 1)}))
		s.levels(6, 3, 0, 0)
		s.hold("o3", "u1", 1, 3, inventory.OverLimit)
		s.no(s.Settle(s.Context(), s.ref, []inventory.Settlement{
			{Hold: n("o1", "u1", 2), Kind: inventory.SettleVoid}, {Hold: n("o2", "u1", 1), Kind: inventory.SettleVoid},
			{Hold: n("o1", "u1", 2), Kind: inventory.SettleSold}, {Hold: n("o9", "u1", 1), Kind: inventory.SettleSold},
			{Hold: n("o9", "u1", 1), Kind: inventory.SettleVoid},
		}))
		s.levels(8, 0, 1, 0)
		s.hold("o3", "u1", 2, 3, inventory.Held)
		s.hold("o4", "u1", 1, 3, inventory.OverLimit)
		states, err := s.Doom(s.Context(), s.ref, s.note(),
			[]inventory.Hold{n("o3", "u1", 2), n("o3", "u1", 2), n("nobody", "u1", 1), n("o1", "u1", 2)})
		s.no(err)
		if got := fmt.Sprint(states); got != "[doomed doomed none void]" {
			s.Fatal(got)
		}
	}},
	{"L1 L5 many at once take no more than there is, and no buyer more than allowed", holdAtOnce},
	{"a restock counts once per item, id and epoch", func(s *session) {
		s.open(0)
		for range 2 {
			s.restock(s.more("r1", 2), true)
			s.restock(s.more("r2", 3), true)
			s.restock(s.more("r", 1), true) // the beginning of another id
		}
		s.levels(6, 0, 0, 0)
		s.ref.Epoch++
		s.open(1)
		s.restock(s.more("r1", 2), true)
		s.levels(3, 0, 0, 0)
	}},
	{"a publish brings an item, and only once", publishItems},
	{"what is not known is passed over", func(s *session) {
		s.open(3)
		s.item++
		s.hold("o1", "u1", 1, 0, inventory.Unopened)
		s.confirm("o1", "u1", 1)
		s.settle("o2", "u1", 1, inventory.SettleVoid)
		s.settle("o3", "u1", 1, inventory.SettleSold)
		for _, id := range []string{"o1", "o2", "o3"} {
			s.state(id, "u1", inventory.None)
		}
		if l := s.levels(0, 0, 0, 0); l.Names != 0 || l.Items != 1 {
			s.Fatalf("levels %+v", l)
		}
		s.digests(nil, nil)
	}},
	{"items of one shard do not meet", itemsApart},
	{"an item that is over is forgotten with its holds", forgetItems},
	{"old holds are those not touched since the note", func(s *session) {
		s.open(9)
		s.hold("o1", "u1", 1, 0, inventory.Held)
		s.hold("o2", "u2", 1, 0, inventory.Held)
		s.hold("o3", "u3", 1, 0, inventory.Held)
		s.confirm("o3", "u3", 1)
		note := s.note()
		s.hold("o4", "u4", 1, 0, inventory.Held)
		s.hold("o2", "u2", 1, 0, inventory.HeldAgain)
		s.old(note, "o1/u1")
		later := s.note()
		if later <= note {
			s.Fatalf("note %d, then %d", note, later)
		}
		s.old(note, "o1/u1") // another sweeper's note doesn't make holds after our note old
		s.old(later, "o1/u1 o2/u2 o4/u4")
		s.settle("o1", "u1", 1, inventory.SettleVoid)
		s.confirm("o2", "u2", 1)
		s.old(later, "o4/u4")
		s.hold("o5", "u1", 1, 0, inventory.Held) // a buyer whose earlier hold has ended
		s.hold("o6", "u1", 1, 0, inventory.Held) // and one whose earlier hold has not
		s.old(s.note(), "o4/u4 o5/u1 o6/u1")
	}},
	{"doom takes fresh holds that nobody touched since, and keeps them old", func(s *session) {
		s.open(9)
		s.hold("o1", "u1", 1, 0, inventory.Held)
		s.hold("o2", "u2", 1, 0, inventory.Held)
		note := s.note()
		s.hold("o2", "u2", 1, 0, inventory.HeldAgain)
		s.doom(note, "o1", "u1", inventory.Doomed)
		s.doom(note, "o1", "u1", inventory.Doomed)
		s.doom(note, "o2", "u2", inventory.Fresh)
		s.doom(note, "o3", "u3", inventory.None)
		s.hold("o1", "u1", 1, 0, inventory.HeldDoomed)
		s.old(note, "o1/u1")
		s.levels(7, 2, 0, 2)
		s.settle("o1", "u1", 1, inventory.SettleVoid)
		s.levels(8, 1, 0, 1)
		s.old(s.note(), "o2/u2")
		s.confirm("o2", "u2", 1)
		s.doom(note, "o2", "u2", inventory.Ordered)
	}},
	{"thousands of old holds are found, and those that nobody decides hide none", sweepMany},
	{"batches larger than a call are taken whole", func(s *session) {
		s.open(20_000)
		holds := s.many(2500)
		for range 2 {
			s.no(s.Confirm(s.Context(), s.ref, holds))
			s.levels(17_500, 2500, 0, 0)
		}
		s.digests(holds, nil)
		ends := make([]inventory.Settlement, len(holds))
		for i := range ends {
			ends[i] = inventory.Settlement{Hold: holds[i], Kind: inventory.SettleVoid}
		}
		for range 2 {
			s.no(s.Settle(s.Context(), s.ref, ends))
			s.levels(20_000, 0, 0, 0)
		}
		s.digests(nil, nil)
	}},
	{"the holds of one call see each other", holdTogether},
	{"the calls of one round are answered each for itself", holdRound},
	{"a call of any size is answered like its holds one after another", holdManyTogether},
	{"names and buyers may be any bytes", func(s *session) {
		s.open(9)
		for _, name := range []string{"F1 2 ", "\x00\r\n\xff", "{7.0}", "日本", strings.Repeat("n", 256), "=1 a;F1 2;"} {
			id := "the head: " + name + strings.Repeat("F1 2;=7 ", 2)
			id = id[max(0, len(id)-256):]
			h := inventory.Hold{Item: s.item, ID: id, Buyer: name, Quantity: 1}
			s.holds(asked{h, 1, inventory.Held}, asked{h, 1, inventory.HeldAgain})
			if e, err := s.Find(s.Context(), s.ref, s.item, h.ID); err != nil || e.Hold != h || e.State != inventory.Fresh {
				s.Fatalf("found %+v, %v", e, err)
			}
			other := h
			other.ID = inventory.Head(h.ID) + strings.Repeat("\xff", 16)
			s.holds(asked{other, 1, inventory.OverLimit}, asked{h, 1, inventory.HeldAgain})
		}
		if n := len(s.pass(s.note(), 10)); n != 6 {
			s.Fatalf("%d old holds", n)
		}
	}},
	{"calls that make no sense are invalid", invalidCalls},
	{"a shard takes calls of its own epoch only, and none while it is closed", refsRefused},
	{"a rebuild closes, loads and opens, and no other interferes", rebuildSteps},
	{"a load may be repeated, and many may run at once", loadTwice},
	{"L3 a shard that forgot what was loaded is not opened", func(s *session) {
		items := []inventory.Stocked{{Item: s.item, Total: 7, Available: 5}, {Item: s.item + 1}}
		s.no(s.Stock.Close(s.Context(), s.ref))
		s.no(s.Load(s.Context(), s.ref, items[:1], nil))
		restore := s.Save()
		s.no(s.Load(s.Context(), s.ref, items, []inventory.Entry{s.entry("a", "u1", 2, inventory.Ordered)}))
		s.is(s.Stock.Open(s.Context(), s.ref, 1, 1), inventory.ErrLost)
		restore()
		s.is(s.Stock.Open(s.Context(), s.ref, 2, 1), inventory.ErrLost)
		s.is(s.Stock.Open(s.Context(), s.ref, 1, 1), inventory.ErrLost)
		if l := s.levels(5, 2, 0, 0); !l.Closed || l.Names != 0 || l.Items != 1 {
			s.Fatalf("levels %+v", l)
		}
	}},
	{"a shard that forgot is lost to whoever saw more", lostWrites},
	{"L6 from memory: sold out is true, absent is true, and neither lasts", fromMemory},
	{"L6 from memory: a rebuilt shard's items are as they were loaded", rebuiltMemory},
}

func followDigests(s *session) {
	n := s.named
	s.open(20, s.entry("a", "u1", 2, inventory.Ordered), s.entry("b", "u1", 1, inventory.Sold),
		s.entry("c", "u1", 1, inventory.Void), s.entry("w", "", 1, inventory.Ordered), s.entry("x", "", 1, inventory.Sold))
	s.digests([]inventory.Hold{n("a", "u1", 2)}, []inventory.Hold{n("b", "u1", 1)})
	s.hold("o1", "u2", 1, 0, inventory.Held)
	s.digests([]inventory.Hold{n("a", "u1", 2)}, []inventory.Hold{n("b", "u1", 1)})
	s.confirm("o1", "u2", 1)
	s.confirm("o2", "u2", 1)
	s.digests([]inventory.Hold{n("a", "u1", 2), n("o1", "u2", 1), n("o2", "u2", 1)}, []inventory.Hold{n("b", "u1", 1)})
	s.settle("o1", "u2", 1, inventory.SettleSold)
	s.settle("a", "u1", 2, inventory.SettleVoid)
	s.settle("w", "", 1, inventory.SettleSold)
	s.digests([]inventory.Hold{n("o2", "u2", 1)}, []inventory.Hold{n("b", "u1", 1), n("o1", "u2", 1)})
	s.hold("o3", "u3", 1, 0, inventory.Held)
	s.settle("o3", "u3", 1, inventory.SettleSold) // never confirmed
	s.settle("o2", "u2", 1, inventory.SettleVoid)
	s.digests(nil, []inventory.Hold{n("b", "u1", 1), n("o1", "u2", 1), n("o3", "u3", 1)})
}

func publishItems(s *session) {
	s.open(0)
	s.item++
	publish := func(units int64) inventory.Restock {
		return inventory.Restock{Item: s.item, ID: "publish", Units: units, Publish: true}
	}
	s.restock(s.more("r", 5), false)
	s.levels(0, 0, 0, 0)
	for range 2 {
		s.restock(publish(4), true)
		s.levels(4, 0, 0, 0)
	}
	s.hold("o1", "u1", 3, 0, inventory.Held)
	s.restock(publish(4), true)
	s.levels(1, 3, 0, 3)
	s.restock(s.more("publish", 2), true) // a restock with that id is independent of it
	s.levels(3, 3, 0, 3)
	s.item++
	s.restock(publish(0), true)
	s.hold("o2", "u2", 1, 0, inventory.SoldOut)
	applied, err := s.Restock(s.Context(), s.ref, []inventory.Restock{
		s.more("a", 1), {Item: s.item + 1, ID: "a", Units: 1}, {Item: s.item + 1, ID: "publish", Units: 2, Publish: true},
		{Item: s.item + 1, ID: "a", Units: 1}, s.more("a", 1),
	})
	s.no(err)
	if got := fmt.Sprint(applied); got != "[true false true true true]" {
		s.Fatal(got)
	}
	s.levels(1, 0, 0, 3)
	s.item++
	if l := s.levels(3, 0, 0, 3); l.Items != 4 {
		s.Fatalf("levels %+v", l)
	}
}

func itemsApart(s *session) {
	s.no(s.Stock.Close(s.Context(), s.ref))
	s.no(s.Load(s.Context(), s.ref, []inventory.Stocked{
		{Item: 7, Total: 3, Available: 3}, {Item: 8, Total: 1, Available: 1}, {Item: 9, Total: 5, Available: 0, Sold: 5},
	}, nil))
	s.no(s.Stock.Open(s.Context(), s.ref, 3, 0))
	of := func(item inventory.ItemID, id, buyer string, quantity, limit int, want inventory.Verdict) asked {
		return asked{Named(item, id, buyer, quantity), limit, want}
	}
	s.holds(of(7, "a", "u1", 1, 1, inventory.Held), of(8, "a", "u1", 1, 1, inventory.Held), of(9, "a", "u1", 1, 1, inventory.SoldOut),
		of(10, "a", "u1", 1, 1, inventory.Unopened), of(7, "b", "u1", 1, 1, inventory.OverLimit), of(8, "b", "u2", 1, 1, inventory.SoldOut),
		of(7, "c", "u2", 2, 2, inventory.Held), of(7, "d", "u3", 1, 1, inventory.SoldOut), of(10, "e", "u1", 1, 1, inventory.Unopened))
	s.holds(of(10, "a", "u1", 1, 1, inventory.Unopened), of(10, "e", "u2", 1, 1, inventory.Unopened))
	check := func(item inventory.ItemID, available, held, sold int64) {
		s.Helper()
		s.item = item
		s.levels(available, held, sold, 4)
	}
	check(7, 0, 3, 0)
	check(8, 0, 1, 0)
	check(9, 0, 0, 5)
	s.no(s.Settle(s.Context(), s.ref, []inventory.Settlement{
		{Hold: Named(7, "a", "u1", 1), Kind: inventory.SettleVoid}, {Hold: Named(8, "a", "u1", 1), Kind: inventory.SettleSold},
	}))
	s.item = 7
	s.levels(1, 2, 0, 2)
	s.item = 8
	s.levels(0, 0, 1, 2)
	s.item = 7
}

func forgetItems(s *session) {
	s.open(9, s.entry("a", "u1", 2, inventory.Ordered), s.entry("b", "u1", 1, inventory.Sold))
	s.item++
	s.restock(inventory.Restock{Item: s.item, ID: "p", Units: 2, Publish: true}, true)
	s.hold("o1", "u1", 1, 0, inventory.Held)
	s.hold("o2", "u1", 1, 0, inventory.Held)
	s.confirm("o1", "u1", 1)
	s.confirm("o3", "u2", 1)
	s.settle("o3", "u2", 1, inventory.SettleSold)
	s.hold("w", "", 1, 0, inventory.SoldOut)
	one, other := inventory.Head(s.named("o1", "u1", 1).ID), inventory.Head(s.named("o3", "u2", 1).ID)
	s.no(s.Forget(s.Context(), s.ref, nil, []string{one, "nobody's"}))
	s.state("o1", "u1", inventory.None)
	s.state("o3", "u2", inventory.Sold)
	s.old(s.note(), "")
	for range 2 {
		s.no(s.Forget(s.Context(), s.ref, []inventory.ItemID{s.item, 99}, []string{one, other}))
		if l := s.levels(0, 0, 0, 0); l.Names != 1 || l.Items != 1 {
			s.Fatalf("levels %+v", l)
		}
	}
	s.hold("o1", "u1", 1, 0, inventory.Unopened)
	s.restock(s.more("r", 1), false)
	s.item--
	s.levels(9, 2, 1, 0)
	s.digests([]inventory.Hold{s.named("a", "u1", 2)}, []inventory.Hold{s.named("b", "u1", 1)})
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
			claim := inventory.Claim{Hold: s.named(fmt.Sprint("o", i), buyer, 1), Limit: limit}
			for _, stock := range s.Stocks { // each order through every process: one unit
				call := &inventory.HoldCall{Ref: s.ref, Claims: []inventory.Claim{claim}}
				stock.Hold(s.Context(), []*inventory.HoldCall{call})
				if call.Err != nil {
					s.Error(call.Err)
				} else if call.Verdicts[0] == inventory.Held {
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

// holdTogether has a hold of every state. In each call, earlier holds change the result of later
// ones.
func holdTogether(s *session) {
	n := s.named
	s.open(12, s.entry("sold", "u1", 1, inventory.Sold), s.entry("void", "u1", 1, inventory.Void),
		s.entry("ordered", "u1", 1, inventory.Ordered))
	s.doomed("doomed", "u1", 1)
	s.hold("fresh", "u1", 1, 0, inventory.Held)
	note := s.note()
	s.holds( // of one quantity and one limit: u1 has four units
		asked{n("fresh", "u1", 1), 5, inventory.HeldAgain}, asked{n("a", "u1", 1), 5, inventory.Held},
		asked{n("a", "u1", 1), 5, inventory.HeldAgain}, asked{n("b", "u1", 1), 5, inventory.OverLimit},
		asked{n("b", "u2", 1), 5, inventory.Held}, asked{n("fresh", "u1", 1), 5, inventory.HeldAgain},
		asked{n("sold", "u1", 1), 5, inventory.HeldEnded}, asked{n("void", "u1", 1), 5, inventory.HeldEnded},
		asked{n("ordered", "u1", 1), 5, inventory.HeldOrdered}, asked{n("doomed", "u1", 1), 5, inventory.HeldDoomed},
	)
	s.old(note, "doomed/u1") // fresh was touched
	s.levels(8, 5, 1, 4)
	s.holds( // of several quantities and limits
		asked{n("b", "u2", 2), 0, inventory.Reused}, asked{n("c", "u2", 2), 3, inventory.Held},
		asked{n("c", "u2", 1), 3, inventory.Reused}, asked{n("d", "u2", 1), 3, inventory.OverLimit},
		asked{n("d", "u2", 1), 4, inventory.Held}, asked{n("e", "u2", 2), 0, inventory.Held},
		asked{n("w", "", 2), 1, inventory.Held}, asked{n("f", "u3", 2), 0, inventory.SoldOut}, // one is left
		asked{n("f", "u2", 2), 6, inventory.OverLimit}, asked{n("f", "u3", 1), 1, inventory.Held},
		asked{n("g", "u2", 2), 6, inventory.SoldOut}, asked{n("w", "", 2), 1, inventory.HeldAgain},
	)
	s.holds( // of an empty item
		asked{n("g", "u2", 1), 6, inventory.SoldOut}, asked{n("f", "u3", 1), 1, inventory.HeldAgain},
		asked{n("f", "u3", 2), 1, inventory.Reused}, asked{n("w", "", 2), 0, inventory.HeldAgain},
	)
	s.levels(0, 13, 1, 12)
	s.settle("e", "u2", 2, inventory.SettleVoid)
	s.hold("g", "u2", 2, 5, inventory.OverLimit) // four of u2 are left
	s.hold("g", "u2", 2, 6, inventory.Held)
}

// holdRound sends calls of several shards, good and bad, in one round.
func holdRound(s *session) {
	s.open(1)
	second := s.ref
	second.Shard++
	s.no(s.Stock.Close(s.Context(), second))
	s.no(s.Load(s.Context(), second, []inventory.Stocked{{Item: s.item, Total: 5, Available: 5}}, nil))
	s.no(s.Stock.Open(s.Context(), second, 1, 0))
	claim := func(id string) inventory.Claim { return inventory.Claim{Hold: s.named(id, "u-"+id, 1)} }
	calls := []*inventory.HoldCall{
		{Ref: s.ref, Claims: []inventory.Claim{claim("a"), claim("b")}},
		{Ref: inventory.Ref{Shard: s.ref.Shard, Epoch: 9}, Claims: []inventory.Claim{claim("c")}},
		{Ref: second, Claims: []inventory.Claim{claim("a"), claim("a")}},
		{Ref: inventory.Ref{Shard: 77, Epoch: 1}, Claims: []inventory.Claim{claim("c")}},
		{Ref: second, Claims: []inventory.Claim{{}}},
		{Ref: second},
		{Ref: second, Claims: []inventory.Claim{claim("a"), claim("b")}, Verdicts: []inventory.Verdict{9, 9, 9}, Err: errors.New("old")},
	}
	s.Hold(s.Context(), calls)
	for i, want := range []string{"[1 6] 2", "lost", "[1 2] 2", "lost", "invalid", "[] 0", "[2 1] 3"} {
		c := calls[i]
		got := fmt.Sprintf("%d %d", c.Verdicts, c.Seq)
		if c.Err != nil {
			got = kind(c.Err)
		}
		if got != want {
			s.Errorf("call %d: %s (%v), want %s", i, got, c.Err, want)
		}
	}
	s.Hold(s.Context(), nil)
}

// holdManyTogether holds calls of many sizes against a Model that takes hold after hold. Every
// fifth hold repeats an earlier one, every seventh is of one of three buyers, who reach their
// limit, some are of another item, and the units end within the last call.
func holdManyTogether(s *session) {
	const units, limit = 4500, 60
	model := NewModel()
	second := inventory.Stocked{Item: s.item + 1, Total: 50, Available: 50}
	for _, stock := range []Stock{s.Stock, model} {
		s.no(stock.Close(s.Context(), s.ref))
		s.no(stock.Load(s.Context(), s.ref, []inventory.Stocked{{Item: s.item, Total: units, Available: units}, second}, nil))
		s.no(stock.Open(s.Context(), s.ref, 2, 0))
	}
	number := 0
	for _, call := range []struct {
		size                           int
		oneItem, oneQuantity, oneLimit bool
	}{
		{1, true, true, true}, {2, true, false, false}, {999, true, true, true}, {1000, false, false, true}, {1001, true, true, false},
		{2001, true, true, true}, {3000, false, false, false},
	} {
		tested := &inventory.HoldCall{Ref: s.ref, Claims: make([]inventory.Claim, call.size)}
		for i := range tested.Claims {
			number++
			name := number
			if number%5 == 0 {
				name = number * 3 / 5
			}
			item, buyer := s.item, fmt.Sprint("u", name)
			if name%7 == 0 {
				buyer = fmt.Sprint("u", name%3)
			}
			if !call.oneItem && name%11 == 0 {
				item += inventory.ItemID(1 + name%2) // one of them isn't known
			}
			c := &tested.Claims[i]
			c.Hold = Named(item, fmt.Sprint("o", name), buyer, 1)
			if !call.oneQuantity {
				c.Quantity += name % 2
			}
			if call.oneLimit || name%7 == 0 {
				c.Limit, c.MaxOrders = limit, 40
			}
		}
		expected := &inventory.HoldCall{Ref: s.ref, Claims: tested.Claims}
		s.Hold(s.Context(), []*inventory.HoldCall{tested})
		s.no(tested.Err)
		model.Hold(s.Context(), []*inventory.HoldCall{expected})
		s.no(expected.Err)
		for i, want := range expected.Verdicts {
			if got := tested.Verdicts[i]; got != want {
				s.Fatalf("claim %d of %d, %+v: verdict %d; the model says %d", i, call.size, tested.Claims[i], got, want)
			}
		}
		want, err := numbersOf(s.Context(), model, s.ref.Shard)
		s.no(err)
		if got, err := numbersOf(s.Context(), s, s.ref.Shard); err != nil || got != want {
			s.Fatalf("levels %+v, %v; the model says %+v", got, err, want)
		}
		s.check(s, s.ref.Shard)
	}
}

func sweepMany(s *session) {
	s.open(20_000)
	holds := s.many(2600)
	s.no(s.Confirm(s.Context(), s.ref, holds[2500:])) // not fresh: never old
	hold := func(holds []inventory.Hold, want inventory.Verdict) {
		s.Helper()
		for len(holds) > 0 {
			var batch []asked
			for _, h := range holds[:min(len(holds), 7)] {
				batch = append(batch, asked{h, 0, want})
			}
			s.holds(batch...)
			holds = holds[len(batch):]
		}
	}
	hold(holds[:1300], inventory.Held)
	first := s.note()
	hold(holds[1300:2500], inventory.Held)
	second := s.note()
	hold(holds[:1], inventory.HeldAgain)
	for _, c := range []struct {
		note  uint64
		limit int
		want  int
	}{{first, 5000, 1299}, {second, 5000, 2499}, {second, 100, 2499}, {first, 1, 1299}} {
		if n := len(s.pass(c.note, c.limit)); n != c.want {
			s.Fatalf("%d old holds at note %d, %d a call, want %d", n, c.note, c.limit, c.want)
		}
	}
	// Each look can decide only a few. Every pass goes on where the others have not been.
	var voided int64
	for left := 2499; left > 0; {
		decided := 0
		cursor, more := int64(0), true
		for more {
			var old []inventory.Entry
			var err error
			old, cursor, more, err = s.Old(s.Context(), s.ref, second, cursor, 600)
			s.no(err)
			var ends []inventory.Settlement
			var doomed []inventory.Hold
			for _, e := range old[:(len(old)+1)/2] {
				doomed = append(doomed, e.Hold)
				ends = append(ends, inventory.Settlement{Hold: e.Hold, Kind: inventory.SettleVoid})
			}
			_, err = s.Doom(s.Context(), s.ref, second, doomed)
			s.no(err)
			s.no(s.Settle(s.Context(), s.ref, ends))
			decided += len(ends)
		}
		if decided == 0 {
			s.Fatalf("%d old holds are left, and a pass finds none", left)
		}
		left -= decided
		voided += int64(decided)
	}
	s.levels(20_000-2600+voided, 2600-voided, 0, 1)
	s.old(s.note(), strings.TrimSpace(holds[0].ID[24:])+"/"+holds[0].Buyer)
}

func invalidCalls(s *session) {
	ctx := s.Context()
	s.open(9)
	before := s.levels(9, 0, 0, 0)
	good := s.named("o1", "u1", 1)
	bad := func(change func(h *inventory.Hold)) inventory.Hold {
		h := good
		change(&h)
		return h
	}
	for _, h := range []inventory.Hold{
		bad(func(h *inventory.Hold) { h.ID = "" }), bad(func(h *inventory.Hold) { h.ID = "0123456789abcdef" }),
		bad(func(h *inventory.Hold) { h.Quantity = 0 }), bad(func(h *inventory.Hold) { h.Quantity = -1 }),
		bad(func(h *inventory.Hold) { h.Quantity = 2_000_000_000 }), bad(func(h *inventory.Hold) { h.ID = strings.Repeat("n", 257) }),
		bad(func(h *inventory.Hold) { h.Buyer = strings.Repeat("n", 257) }), bad(func(h *inventory.Hold) { h.Item = 0 }),
	} {
		s.is(s.refusal(s.Stock, s.ref, inventory.Claim{Hold: h}), inventory.ErrInvalid)
		s.is(s.Confirm(ctx, s.ref, []inventory.Hold{good, h}), inventory.ErrInvalid)
		s.is(s.Settle(ctx, s.ref, []inventory.Settlement{{Hold: h, Kind: inventory.SettleVoid}}), inventory.ErrInvalid)
		s.is(s.Load(ctx, s.ref, nil, []inventory.Entry{{Hold: h, State: inventory.Sold}}), inventory.ErrInvalid)
		_, err := s.Doom(ctx, s.ref, 1, []inventory.Hold{h})
		s.is(err, inventory.ErrInvalid)
	}
	s.is(s.refusal(s.Stock, s.ref, inventory.Claim{Hold: good, Limit: -1}), inventory.ErrInvalid)
	s.is(s.refusal(s.Stock, s.ref, inventory.Claim{Hold: good, MaxOrders: -1}), inventory.ErrInvalid)
	s.is(s.Settle(ctx, s.ref, []inventory.Settlement{{Hold: good}}), inventory.ErrInvalid)
	s.is(s.Load(ctx, s.ref, nil, []inventory.Entry{{Hold: good, State: inventory.Fresh}}), inventory.ErrInvalid)
	s.is(s.Load(ctx, s.ref, []inventory.Stocked{{}}, nil), inventory.ErrInvalid)
	s.is(s.Forget(ctx, s.ref, nil, []string{""}), inventory.ErrInvalid)
	for _, r := range []inventory.Restock{s.more("", 1), s.more("r", 0), s.more("r", -1), {ID: "r", Units: 1}} {
		_, err := s.Restock(ctx, s.ref, []inventory.Restock{r})
		s.is(err, inventory.ErrInvalid)
	}
	_, err := s.Find(ctx, s.ref, s.item, "short")
	s.is(err, inventory.ErrInvalid)
	_, err = numbersOf(ctx, s, inventory.MaxShards)
	s.is(err, inventory.ErrInvalid)
	_, _, err = s.ItemNumbers(ctx, s.ref.Shard, make([]inventory.ItemID, inventory.MaxCall+1))
	s.is(err, inventory.ErrInvalid)
	_, _, _, err = s.Old(ctx, s.ref, 1, 0, 0)
	s.is(err, inventory.ErrInvalid)
	_, _, _, err = s.Old(ctx, s.ref, 1, -1, 1)
	s.is(err, inventory.ErrInvalid)
	for _, ref := range []inventory.Ref{{}, {Shard: 3}, {Shard: inventory.MaxShards, Epoch: 1}, {Shard: 3, Epoch: -1}} {
		everyCall(s, ref, inventory.ErrInvalid)
		s.is(s.Stock.Close(ctx, ref), inventory.ErrInvalid)
		s.is(s.Stock.Open(ctx, ref, 1, 0), inventory.ErrInvalid)
	}
	if after := s.levels(9, 0, 0, 0); after != before {
		s.Fatalf("levels %+v, then %+v", before, after)
	}
}

// everyCall makes each call that a shard with another epoch refuses, and fails if one is answered
// differently.
func everyCall(s *session, ref inventory.Ref, want error) {
	s.Helper()
	ctx := s.Context()
	h := s.named("o9", "u9", 1)
	err := s.refusal(s.Stock, ref, inventory.Claim{Hold: h})
	s.is(err, want)
	var unknown *inventory.UnknownError
	if errors.As(err, &unknown) {
		s.Fatalf("a refusal is no doubt: %v", err)
	}
	_, err = s.Find(ctx, ref, s.item, h.ID)
	s.is(err, want)
	s.is(s.Confirm(ctx, ref, []inventory.Hold{h}), want)
	s.is(s.Settle(ctx, ref, []inventory.Settlement{{Hold: h, Kind: inventory.SettleVoid}}), want)
	_, err = s.Restock(ctx, ref, []inventory.Restock{s.more("r9", 1)})
	s.is(err, want)
	_, err = s.Note(ctx, ref)
	s.is(err, want)
	_, _, _, err = s.Old(ctx, ref, 1, 0, 1)
	s.is(err, want)
	_, err = s.Doom(ctx, ref, 1, []inventory.Hold{h})
	s.is(err, want)
	s.is(s.Forget(ctx, ref, []inventory.ItemID{s.item}, []string{inventory.Head(h.ID)}), want)
	if s.SoldOut(ref, s.item, h.ID) || s.Absent(ref, h.ID, time.Time{}) {
		s.Fatal("answered from memory")
	}
}

func refsRefused(s *session) {
	s.ref.Epoch = 3
	everyCall(s, s.ref, inventory.ErrLost) // nothing there
	s.no(s.Stock.Close(s.Context(), s.ref))
	everyCall(s, s.ref, inventory.ErrClosed)
	s.no(s.Load(s.Context(), s.ref, []inventory.Stocked{{Item: s.item, Total: 5, Available: 5}}, nil))
	s.no(s.Stock.Open(s.Context(), s.ref, 1, 0))
	s.hold("o1", "u1", 1, 0, inventory.Held)
	before := s.levels(4, 1, 0, 1)
	everyCall(s, inventory.Ref{Shard: s.ref.Shard, Epoch: 2}, inventory.ErrEpoch)
	everyCall(s, inventory.Ref{Shard: s.ref.Shard, Epoch: 4}, inventory.ErrLost)
	everyCall(s, inventory.Ref{Shard: s.ref.Shard + 1, Epoch: 1}, inventory.ErrLost)
	if after := s.levels(4, 1, 0, 1); after != before {
		s.Fatalf("levels %+v, then %+v", before, after)
	}
	s.no(s.Stock.Close(s.Context(), inventory.Ref{Shard: s.ref.Shard, Epoch: 4}))
	everyCall(s, s.ref, inventory.ErrEpoch)
}

func rebuildSteps(s *session) {
	ctx := s.Context()
	at := func(epoch inventory.Epoch) inventory.Ref { return inventory.Ref{Shard: s.ref.Shard, Epoch: epoch} }
	const late = 1_800_000_000_000 // epochs may be milliseconds
	items := []inventory.Stocked{{Item: s.item, Total: 6, Available: 5}}
	entry := []inventory.Entry{s.entry("o1", "u1", 1, inventory.Ordered)}
	s.is(s.Load(ctx, at(1), items, entry), inventory.ErrEpoch) // no close before
	s.is(s.Stock.Open(ctx, at(1), 0, 0), inventory.ErrEpoch)
	s.no(s.Stock.Close(ctx, at(2)))
	s.no(s.Stock.Close(ctx, at(2))) // the same again
	s.is(s.Stock.Close(ctx, at(1)), inventory.ErrEpoch)
	s.is(s.Load(ctx, at(1), items, entry), inventory.ErrEpoch)
	s.is(s.Load(ctx, at(3), items, entry), inventory.ErrEpoch)
	s.is(s.Stock.Open(ctx, at(3), 0, 0), inventory.ErrEpoch)
	s.no(s.Load(ctx, at(2), items, nil))
	s.is(s.Stock.Close(ctx, at(2)), inventory.ErrEpoch) // a late repeat must not delete the loaded data
	s.no(s.Load(ctx, at(2), nil, entry))
	s.is(s.Stock.Close(ctx, at(2)), inventory.ErrEpoch)
	s.no(s.Stock.Open(ctx, at(2), 1, 1))
	s.ref = at(2)
	s.hold("o2", "u2", 1, 0, inventory.Held)
	s.levels(4, 2, 0, 1)
	s.no(s.Stock.Open(ctx, at(2), 1, 1)) // the same again: nothing changes
	s.levels(4, 2, 0, 1)
	s.is(s.Load(ctx, at(2), items, entry), inventory.ErrEpoch)
	s.is(s.Stock.Close(ctx, at(2)), inventory.ErrEpoch)
	s.is(s.Stock.Open(ctx, at(1), 0, 0), inventory.ErrEpoch)
	s.no(s.Stock.Close(ctx, at(5))) // a later rebuild overtakes
	s.no(s.Stock.Close(ctx, at(late)))
	s.is(s.Load(ctx, at(5), items, entry), inventory.ErrEpoch)
	s.is(s.Stock.Open(ctx, at(5), 0, 0), inventory.ErrEpoch)
	s.no(s.Load(ctx, at(late), items, nil))
	s.no(s.Stock.Open(ctx, at(late), 1, 0))
	s.ref = at(late)
	if l := s.levels(5, 1, 0, 0); l.Epoch != late || l.Seq != 1 || l.Names != 0 || l.Closed {
		s.Fatalf("levels %+v", l)
	}
	s.state("o1", "u1", inventory.None)
	s.hold("o2", "u2", 1, 1, inventory.Held)
}

func loadTwice(s *session) {
	entries := []inventory.Entry{
		s.entry("a", "u1", 2, inventory.Ordered), s.entry("b", "u1", 1, inventory.Sold),
		s.entry("c", "u2", 1, inventory.Void), s.entry("w", "", 4, inventory.Ordered),
	}
	items := []inventory.Stocked{{Item: s.item, Total: 12, Available: 5, Sold: 1}}
	for i := range inventory.ItemID(1500) {
		items = append(items, inventory.Stocked{Item: s.item + 1 + i, Total: 1, Available: 1})
	}
	s.no(s.Stock.Close(s.Context(), s.ref))
	var wg sync.WaitGroup
	for _, stock := range s.Stocks {
		for range 2 {
			wg.Go(func() {
				if err := stock.Load(s.Context(), s.ref, items, entries); err != nil {
					s.Error(err)
				}
			})
		}
	}
	wg.Wait()
	s.no(s.Stock.Open(s.Context(), s.ref, 1501, 3))
	if l := s.levels(5, 6, 1, 0); l.Names != 3 || l.Items != 1501 || l.Seq != 1 || l.Closed {
		s.Fatalf("levels %+v", l)
	}
	s.digests([]inventory.Hold{entries[0].Hold}, []inventory.Hold{entries[1].Hold})
	for i, e := range entries {
		got, err := s.Find(s.Context(), s.ref, s.item, e.ID)
		s.no(err)
		if got != entries[i] {
			s.Fatalf("found %+v, want %+v", got, e)
		}
	}
	s.hold("d", "u1", 1, 4, inventory.Held)
	s.hold("e", "u1", 1, 4, inventory.OverLimit)
	s.hold("f", "u2", 4, 4, inventory.Held)
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
	s.no(s.Load(s.Context(), s.ref, []inventory.Stocked{{Item: s.item, Total: 3, Available: 3}}, nil))
	closed := s.Save()
	s.no(s.Stock.Open(s.Context(), s.ref, 1, 0))
	s.hold("o1", "u1", 1, 0, inventory.Held)
	closed() // the failover forgot that the shard was opened: nobody will open it again
	everyCall(s, s.ref, inventory.ErrLost)
}

func fromMemory(s *session) {
	began := time.Now()
	name := func(id, buyer string) string { return s.named(id, buyer, 1).ID }
	s.open(1, s.entry("old", "u0", 1, inventory.Sold))
	for _, stock := range s.Stocks {
		stock.Watch([]inventory.Ref{s.ref})
		if e := stock.Epoch(s.ref.Shard); e != s.ref.Epoch {
			s.Fatalf("epoch %d", e)
		}
	}
	near, far := s.Stocks[0], s.Stocks[1]
	in := func(stock Stock) bool {
		in, _ := stock.InStock(s.ref.Shard, s.item)
		return in
	}
	for _, stock := range s.Stocks {
		s.soon("in stock", func() bool { return in(stock) })
		s.soon("u1 is absent", func() bool { return stock.Absent(s.ref, name("o1", "u1"), began) })
		if stock.SoldOut(s.ref, s.item, name("o1", "u1")) || stock.Absent(s.ref, name("old", "u0"), began) {
			s.Fatal("wrong from memory")
		}
	}
	s.hold("o1", "u1", 1, 0, inventory.Held)
	for _, stock := range s.Stocks {
		s.soon("sold out", func() bool { return stock.SoldOut(s.ref, s.item, name("o2", "u2")) && !in(stock) })
		for _, owed := range []string{name("o1", "u1"), name("o9", "u1"), name("old", "u0")} { // a buyer may repeat
			if stock.SoldOut(s.ref, s.item, owed) || stock.Absent(s.ref, owed, began) {
				s.Fatalf("%s is not sold out: its buyer has a hold", owed)
			}
		}
		for _, other := range []inventory.Ref{{Shard: s.ref.Shard, Epoch: s.ref.Epoch + 1}, {Shard: 99, Epoch: 1}} {
			if stock.SoldOut(other, s.item, name("o2", "u2")) {
				s.Fatal("sold out where nothing is known")
			}
		}
		if stock.SoldOut(s.ref, s.item+1, name("o2", "u2")) {
			s.Fatal("an item of which nothing is known is sold out")
		}
	}
	s.settle("o1", "u1", 1, inventory.SettleVoid)
	s.soon("in stock again", func() bool {
		return !near.SoldOut(s.ref, s.item, name("o2", "u2")) && in(near) && !far.SoldOut(s.ref, s.item, name("o2", "u2")) && in(far)
	})
	s.hold("o3", "u3", 1, 0, inventory.Held)
	s.soon("sold out again", func() bool { return far.SoldOut(s.ref, s.item, name("o2", "u2")) })
	if far.SoldOut(s.ref, s.item, name("o3", "u3")) {
		s.Fatal("o3 is not sold out: it has a hold")
	}
	s.restock(s.more("r", 1), true)
	s.soon("restocked", func() bool { return !far.SoldOut(s.ref, s.item, name("o2", "u2")) && in(far) })
}

func rebuiltMemory(s *session) {
	id := s.named("o1", "u1", 1).ID
	items := []inventory.Stocked{{Item: s.item, Total: 4, Sold: 4}, {Item: s.item + 1, Total: 2, Available: 2}}
	for epoch := range inventory.Epoch(2) {
		s.ref.Epoch = epoch + 1
		s.no(s.Stock.Close(s.Context(), s.ref))
		s.no(s.Load(s.Context(), s.ref, items, nil))
		s.no(s.Stock.Open(s.Context(), s.ref, 2, 0))
		out, in := items[0].Item, items[1].Item
		for _, stock := range s.Stocks {
			stock.Watch([]inventory.Ref{s.ref})
			s.soon("as it was loaded", func() bool {
				nothing, _ := stock.InStock(s.ref.Shard, out)
				some, _ := stock.InStock(s.ref.Shard, in)
				return stock.SoldOut(s.ref, out, id) && !nothing && some && !stock.SoldOut(s.ref, in, id)
			})
		}
		items[0].Available, items[0].Sold, items[1].Available, items[1].Sold = 1, 3, 0, 2
		items[0], items[1] = items[1], items[0]
	}
}

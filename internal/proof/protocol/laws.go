package protocol

import "fmt"

// broken returns the law that a state breaks, or "".
func (w *walk) broken(s *state) string {
	quiet := w.quiet(s)
	for o := range w.Orders {
		row, promised := s.db.row[o], s.promised&(1<<o) != 0
		switch {
		case promised && row == rowTombstone:
			return fmt.Sprintf("L2: order %d was promised, and is buried", o)
		case promised && row == rowRejected && !s.lost:
			return fmt.Sprintf("L2: order %d was promised, and is rejected though nothing was lost", o)
		case promised && row == rowNone && quiet:
			return fmt.Sprintf("L2: all is quiet, and the promised order %d has no row", o)
		case taken(row) && w.limited(o, func(p int) bool { return taken(s.db.row[p]) }):
			return "L5: a buyer has two orders of one item"
		}
	}
	for i := range maxItems {
		if w.sold(&s.db, i) > s.db.total[i] {
			return fmt.Sprintf("L1: item %d is oversold in the database", i)
		}
	}
	if w.Spread && s.db.total[0]+s.db.total[1] != w.Units[0]+w.Units[1]+int8(min(s.db.stock, 1)) {
		return "L1: the totals of the rows are not the item's"
	}
	if s.falseSoldOut {
		return "L6: sold-out was told while a unit was available"
	}
	if !quiet {
		return ""
	}
	for i := range w.Shards {
		if law := w.unbalanced(s, i); law != "" {
			return law
		}
	}
	return ""
}

// unbalanced returns the law that a quiet shard breaks, or "".
func (w *walk) unbalanced(s *state, i int) string {
	switch {
	case w.agree(s, i, false):
	case s.lost && !w.without("noaudit") && !w.agree(s, i, w.without("auditcounts")):
		// The audit sees it.
	case !w.agree(s, i, true):
		return "L3: all is quiet, and Redis counts other units than the rows"
	default:
		return "L3: all is quiet, the counts agree, but the holds are not those of the rows"
	}
	return ""
}

// known reports whether an order's promise can be known: the log lost no record of it, or has
// another one that is to be read, or there is a row. It is not where both the row and the record
// were lost.
func (w *walk) known(s *state, o int) bool {
	for k := range s.logged {
		if s.log[k].orders&(1<<o) != 0 && s.db.done&(1<<k) == 0 && s.log[k].epoch >= s.db.epoch[w.home(o)] {
			return true
		}
	}
	return s.gone&(1<<o) == 0 || s.db.row[o] != rowNone && s.db.row[o] != rowTombstone
}

// quiet reports whether nothing is in progress and no rebuild is needed: then the books must
// balance.
func (w *walk) quiet(s *state) bool {
	for i := range w.Shards {
		ahead := s.redis[i].epoch != s.db.epoch[i] && !w.without("noaheadheal")
		if s.split[i] || s.suspect[i] || s.redis[i].closed || s.redis[i].epoch == 0 || ahead {
			return false
		}
	}
	if !w.passed(s, s.logged) || s.db.stock == 1 || s.db.moved&1 != 0 || s.late != [maxLate]message{} || s.desk.kind != 0 {
		return false
	}
	for a := range w.Attempts {
		if s.live(a) || s.attempts[a].page != 0 {
			return false
		}
	}
	for o := range w.Orders {
		hold := s.redis[w.home(o)].hold[o]
		if s.db.box[o] != 0 || hold == holdFresh || hold == holdDoomed {
			return false
		}
	}
	return s.sweeps == [maxWorkers][maxOrders]sweep{} && s.rebuilds == [maxWorkers]rebuild{}
}

// agree compares a shard in Redis with its rows: by counts only, or hold by hold. A marker of a
// hold that was given back may be absent, and one may be left of a row that was lost.
func (w *walk) agree(s *state, i int, countsOnly bool) bool {
	plain := [...]uint8{holdNone, holdFresh, holdDoomed, holdOrdered, holdNone, holdSold}
	counts, same := [maxItems][holdSold + 1]int8{}, true
	for o := range w.Orders {
		if w.home(o) != i {
			continue
		}
		is, want := plain[s.redis[i].hold[o]], plain[w.asHold(&s.db, o)]
		counts[w.Orders[o].Item][is]++
		counts[w.Orders[o].Item][want]--
		same = same && is == want
	}
	for item := range maxItems {
		if w.shardOf(item) != i {
			continue
		}
		differ := s.redis[i].units[item] != s.db.total[item]-w.claimed(&s.db, item)
		if differ || counts[item][holdOrdered] != 0 || counts[item][holdSold] != 0 {
			return false
		}
	}
	return same || countsOnly
}

// good reports whether a run may end here: quiet and balanced, or out of epochs. Running out of
// epochs is a bound of the walk, not of the design.
func (w *walk) good(s *state) bool {
	quiet, bound := w.quiet(s), s.rebuilds == [maxWorkers]rebuild{}
	balanced, stopped := quiet, false
	for i := range w.Shards {
		balanced = balanced && w.agree(s, i, w.without("auditcounts"))
		needed, last := w.needed(s, i), s.ever[i] >= w.Epochs
		stopped = stopped || last && (needed || s.lost && quiet)
		bound = bound && (!needed || last)
	}
	return balanced || bound && stopped
}

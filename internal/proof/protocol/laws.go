package protocol

import "fmt"

// brokenLaw returns what is wrong with a state, or "".
func (w *walk) brokenLaw(s *state) string {
	if s.claimed() > s.total {
		return "L1 oversold in the database"
	}
	for o := range w.Orders {
		order := &s.orders[o]
		// After a failover that forgot, a promise may end as rejected: the law says so.
		if order.promised && (order.row == rowTombstone || order.row == rowRejected) && !w.Rollback {
			return fmt.Sprintf("L2 promise of o%d broken", o)
		}
	}
	if s.redis.epoch > 0 && !s.redis.closed && s.redis.available < 0 && !w.Rollback {
		return "L3 available below zero"
	}
	if !w.quiet(s) {
		return ""
	}
	if s.redis.epoch != s.itemEpoch {
		return "L3 quiet, but Redis and the database disagree about the epoch"
	}
	for o := range w.Orders {
		if s.orders[o].promised && s.orders[o].row == rowAbsent {
			return fmt.Sprintf("L2 quiet, promise of o%d forgotten", o)
		}
	}
	if want := s.total - s.claimed(); s.redis.available != want {
		return fmt.Sprintf("L3 quiet, available %d, should be %d", s.redis.available, want)
	}
	return ""
}

// quiet reports whether nothing is under way: no message, no rebuild, no undecided hold, and no loss that is still to be
// noticed. Then the books have to balance.
func (w *walk) quiet(s *state) bool {
	if s.rebuild.stage != rebuildNone || s.polled != s.logged || s.committed != s.logged {
		return false
	}
	if s.redis.epoch == 0 || s.redis.closed || s.lossy {
		return false
	}
	for a := range w.Attempts {
		if try := s.attempts[a]; try.hold || try.record || try.live() || try.at == holding {
			return false
		}
	}
	for o := range w.Orders {
		order := &s.orders[o]
		if order.confirms|order.voids|order.solds != 0 || order.outbox != settleNone || order.sweeping || order.lookedAt > 0 {
			return false
		}
		if s.redis.holds[o].undecided() {
			return false
		}
	}
	return s.merchant.quiet()
}

func (m *merchant) quiet() bool {
	return m.restock != restockCommitted && m.restocks == 0 &&
		m.withdrawal != withdrawalHolding && m.withdrawal != withdrawalHeld && !m.withdrawalSent &&
		!m.withdrawalOutbox && m.withdrawalHold != holdFresh && m.withdrawalSolds|m.withdrawalVoids == 0
}

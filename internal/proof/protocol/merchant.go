package protocol

// restockStage is how far the restock has come.
type restockStage uint8

const (
	restockNone      restockStage = iota
	restockCommitted              // the total is raised, an outbox row is left
	restockDone                   // the outbox row is gone
)

// withdrawalStage is how far the withdrawal has come, as its caller knows it.
type withdrawalStage uint8

const (
	withdrawalNone withdrawalStage = iota
	withdrawalHolding
	withdrawalHeld
	withdrawalOver
)

// withdrawalRow is what the database knows of the withdrawal.
type withdrawalRow uint8

const (
	withdrawalAbsent withdrawalRow = iota
	withdrawalTaken
	withdrawalBuried
)

// merchantSteps: a restock is committed with an outbox row and relayed, applied once per epoch. A withdrawal is held first,
// then committed under the epoch of its hold, then settled; a hold whose withdrawal never came is voided behind a tombstone.
func (w *walk) merchantSteps(s *state) {
	w.restockSteps(s)
	w.withdrawalSteps(s)
	w.withdrawalSettleSteps(s)
	for e := int8(1); e <= int8(w.Epochs); e++ {
		if s.merchant.restocks.has(e) {
			w.restockArrives(s, e)
		}
		if s.merchant.withdrawalVoids.has(e) {
			w.withdrawalSettleArrives(s, e, settleVoid)
		}
		if s.merchant.withdrawalSolds.has(e) {
			w.withdrawalSettleArrives(s, e, settleSold)
		}
	}
}

func (w *walk) restockSteps(s *state) {
	t := *s
	switch s.merchant.restock {
	case restockNone:
		t.merchant.restock = restockCommitted
		t.total++
		w.next("restock committed", &t)
	case restockCommitted:
		t.merchant.restocks = t.merchant.restocks.with(s.itemEpoch)
		w.next("relay sends restock", &t)
	}
}

func (w *walk) restockArrives(s *state, epoch int8) {
	t := *s
	t.merchant.restocks = t.merchant.restocks.without(epoch)
	if !w.usable(s, epoch) {
		w.next("restock refused", &t)
		return
	}
	if !s.merchant.restockApplied || w.Without == NoRsMark {
		t.redis.available++
		t.merchant.restockApplied = true
	}
	w.next("restock executes, reply lost", &t)
	if t.merchant.restock == restockCommitted {
		t.merchant.restock = restockDone
	}
	w.next("restock executes, outbox row deleted", &t)
	t.merchant.restocks = s.merchant.restocks
	w.next("restock executes, deleted, to be repeated", &t)
}

func (w *walk) withdrawalSteps(s *state) {
	m := &s.merchant
	if m.withdrawal == withdrawalNone {
		for e := int8(1); e <= s.itemEpoch; e++ {
			t := *s
			t.merchant.withdrawal, t.merchant.withdrawalEpoch, t.merchant.withdrawalSent = withdrawalHolding, e, true
			w.push(step{"withdrawal asks for a hold", -1, -1, e}, &t)
		}
	}
	if m.withdrawalSent {
		t := *s
		t.merchant.withdrawalSent = false
		reply := withdrawalOver
		if w.usable(s, m.withdrawalEpoch) && m.withdrawalHold == holdNone && s.redis.available > 0 {
			t.redis.available--
			t.merchant.withdrawalHold = holdFresh
			reply = withdrawalHeld
		}
		if m.withdrawal == withdrawalHolding {
			t.merchant.withdrawal = reply
		}
		w.next("withdrawal's hold executes", &t)
	}
	if m.withdrawal == withdrawalHolding || m.withdrawal == withdrawalHeld {
		t := *s
		t.merchant.withdrawal = withdrawalOver
		w.next("withdrawal gives up", &t)
	}
	if m.withdrawal == withdrawalHeld {
		t := *s
		t.merchant.withdrawal = withdrawalOver
		if m.withdrawalRow == withdrawalAbsent && (m.withdrawalEpoch == s.itemEpoch || w.Without == NoWdFence) {
			t.merchant.withdrawalRow, t.merchant.withdrawalOutbox = withdrawalTaken, true
			t.total--
			w.next("withdrawal committed", &t)
		} else {
			w.next("withdrawal refused", &t)
		}
	}
}

func (w *walk) withdrawalSettleSteps(s *state) {
	m := &s.merchant
	if m.withdrawalHold == holdFresh && m.withdrawalRow == withdrawalAbsent && s.redis.epoch == s.itemEpoch && !s.redis.closed {
		t := *s
		t.merchant.withdrawalRow, t.merchant.withdrawalOutbox = withdrawalBuried, true
		w.next("sweeper buries the withdrawal", &t)
	}
	if m.withdrawalOutbox {
		t := *s
		if m.withdrawalRow == withdrawalTaken {
			t.merchant.withdrawalSolds = m.withdrawalSolds.with(s.itemEpoch)
		} else {
			t.merchant.withdrawalVoids = m.withdrawalVoids.with(s.itemEpoch)
		}
		w.next("relay sends the withdrawal's settle", &t)
	}
}

func (w *walk) withdrawalSettleArrives(s *state, epoch int8, kind settling) {
	t := *s
	if kind == settleVoid {
		t.merchant.withdrawalVoids = t.merchant.withdrawalVoids.without(epoch)
	} else {
		t.merchant.withdrawalSolds = t.merchant.withdrawalSolds.without(epoch)
	}
	if !w.usable(s, epoch) {
		w.next("withdrawal's settle refused", &t)
		return
	}
	if s.merchant.withdrawalHold == holdFresh && kind == settleVoid {
		t.redis.available++
	}
	t.merchant.withdrawalHold = holdSold
	if kind == settleVoid {
		t.merchant.withdrawalHold = holdVoid
	}
	w.next("withdrawal's settle executes, reply lost", &t)
	t.merchant.withdrawalOutbox = false
	w.next("withdrawal's settle executes, outbox row deleted", &t)
}

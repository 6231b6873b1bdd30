package protocol

// orderSteps are those of an order that has a row, its outbox row, and the messages about its hold.
func (w *walk) orderSteps(s *state, o int) {
	if s.orders[o].row == rowOpen {
		t := *s
		t.orders[o].row, t.orders[o].outbox = rowPaid, settleSold
		w.nextOf("paid", o, &t)
		t = *s
		t.orders[o].row, t.orders[o].outbox = rowCancelled, settleVoid
		w.nextOf("cancelled", o, &t)
	}
	switch s.orders[o].outbox {
	case settleVoid:
		t := *s
		t.orders[o].voids = t.orders[o].voids.with(s.itemEpoch)
		w.nextOf("relay sends void", o, &t)
	case settleSold:
		t := *s
		t.orders[o].solds = t.orders[o].solds.with(s.itemEpoch)
		w.nextOf("relay sends sold", o, &t)
	}
	for e := int8(1); e <= int8(w.Epochs); e++ {
		if s.orders[o].confirms.has(e) {
			w.confirmArrives(s, o, e)
		}
		if s.orders[o].voids.has(e) {
			w.settleArrives(s, o, e, settleVoid)
		}
		if s.orders[o].solds.has(e) {
			w.settleArrives(s, o, e, settleSold)
		}
	}
}

// confirmArrives: a confirm is lost, or executes, perhaps to arrive once more.
func (w *walk) confirmArrives(s *state, o int, epoch int8) {
	t := *s
	t.orders[o].confirms = t.orders[o].confirms.without(epoch)
	w.nextOf("confirm lost", o, &t)
	if w.usable(s, epoch) {
		switch s.redis.holds[o] {
		case holdNone: // a lost Redis forgot it
			t.redis.available--
			t.redis.holds[o] = holdOrdered
		case holdFresh, holdDoomed:
			t.redis.holds[o] = holdOrdered
		}
	}
	w.nextOf("confirm executes", o, &t)
	t.orders[o].confirms = s.orders[o].confirms
	w.nextOf("confirm executes, to be repeated", o, &t)
}

// settleArrives: a settle is refused, or executes; the relay hears of it and deletes the row, or doesn't, and the message may
// arrive once more.
func (w *walk) settleArrives(s *state, o int, epoch int8, kind settling) {
	t := *s
	if kind == settleVoid {
		t.orders[o].voids = t.orders[o].voids.without(epoch)
	} else {
		t.orders[o].solds = t.orders[o].solds.without(epoch)
	}
	if !w.usable(s, epoch) {
		w.nextOf("settle refused", o, &t)
		return
	}
	w.executeSettle(&t, o, kind)
	w.nextOf("settle executes, reply lost", o, &t)
	if t.orders[o].outbox == kind {
		t.orders[o].outbox = settleNone
	}
	w.nextOf("settle executes, outbox row deleted", o, &t)
	t.orders[o].voids, t.orders[o].solds = s.orders[o].voids, s.orders[o].solds
	w.nextOf("settle executes, deleted, to be repeated", o, &t)
}

// executeSettle is the settle script. Settling a hold that isn't there gives nothing back and leaves the marker.
func (w *walk) executeSettle(t *state, o int, kind settling) {
	hold := &t.redis.holds[o]
	t.orders[o].noted = false
	switch {
	case *hold == holdVoid || *hold == holdSold:
	case kind == settleSold:
		*hold = holdSold
	case *hold == holdNone:
		*hold = holdVoid
	default:
		t.redis.available++
		*hold = holdVoid
		if w.Without == NoMarker {
			*hold = holdNone
		}
	}
}

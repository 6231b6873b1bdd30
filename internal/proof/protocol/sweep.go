package protocol

// sweepSteps are those of the sweeper with one hold: note, doom when nobody touched it since, wait for the workers, decide.
// It may give up after the doom; another sweep notes the doomed hold again.
func (w *walk) sweepSteps(s *state, o int) {
	seen := s.redis.holds[o].undecided() && !s.redis.closed && !s.orders[o].sweeping
	if seen && s.redis.epoch > 0 && !s.orders[o].noted {
		t := *s
		t.orders[o].noted = true
		w.ageAttempts(&t, o)
		w.nextOf("sweeper notes", o, &t)
	}
	if seen && s.orders[o].noted && w.aged(s, o) {
		t := *s
		if w.Without != NoDoom {
			t.redis.holds[o] = holdDoomed
		}
		t.orders[o].noted = false
		t.orders[o].sweeping, t.orders[o].sweptAt, t.orders[o].sweptEnd = true, s.redis.epoch, s.logged
		w.nextOf("sweeper dooms", o, &t)
	}
	if s.orders[o].sweeping {
		t := *s
		t.orders[o].sweeping = false
		w.nextOf("sweeper gives up", o, &t)
		if s.committed >= s.orders[o].sweptEnd || w.Without == NoDrain {
			w.decide(&t, o)
			w.nextOf("sweeper decides", o, &t)
		}
	}
}

// aged reports whether the sweep's age may have passed since the note. It is longer than any attempt lives, so then every
// attempt that had its hold before the note is dead. Those that had it later renewed it, and there is no note any more;
// only without that rule are there some.
func (w *walk) aged(s *state, o int) bool {
	for a := range w.Attempts {
		try := s.attempts[a]
		if w.orderOf(a) == o && try.live() && try.epoch == s.redis.epoch && (w.Without != NoTouch || try.untouched) {
			return false
		}
	}
	return true
}

// ageAttempts marks, for NoTouch, the attempts that have their hold when the sweeper notes it.
func (w *walk) ageAttempts(t *state, o int) {
	for a := range w.Attempts {
		if w.Without == NoTouch && w.orderOf(a) == o && t.attempts[a].live() {
			t.attempts[a].untouched = true
		}
	}
}

// decide is the sweeper's transaction: it inserts a tombstone under the order's id, and confirms where the order exists.
func (w *walk) decide(t *state, o int) {
	order := &t.orders[o]
	if order.sweptAt != t.itemEpoch && w.Without != NoFence {
		return
	}
	switch order.row {
	case rowAbsent:
		order.row, order.outbox = rowTombstone, settleVoid
	case rowOpen:
		order.confirms = order.confirms.with(t.itemEpoch)
	}
}

package protocol

// attemptSteps are those of one purchase: hold, put, answer. It may start under any epoch that its gateway still believes in,
// and expire at any moment, after which its messages are still on their way.
func (w *walk) attemptSteps(s *state, a int) {
	next := func(what string, t *state) { w.push(step{what, int8(a), int8(w.orderOf(a)), -1}, t) }
	switch s.attempts[a].at {
	case idle:
		for e := int8(1); e <= s.itemEpoch; e++ {
			t := *s
			t.attempts[a] = attempt{at: holding, epoch: e, hold: true}
			w.push(step{"start", int8(a), int8(w.orderOf(a)), e}, &t)
		}
	case held:
		t := *s
		t.attempts[a].at, t.attempts[a].record = putting, true
		next("put", &t)
	case acked:
		t := *s
		t.attempts[a].at = answered
		t.orders[w.orderOf(a)].promised = true
		next("202", &t)
	}
	if at := s.attempts[a].at; at >= holding && at <= acked {
		t := *s
		t.attempts[a].at = expired
		next("expire", &t)
		if w.Without == Undo && (at == putting || at == held) {
			t.attempts[a].record = false
			o := &t.orders[w.orderOf(a)]
			o.voids = o.voids.with(s.attempts[a].epoch)
			next("undo", &t)
		}
	}
	if s.attempts[a].hold {
		t := *s
		w.executeHold(&t, a)
		next("hold executes", &t)
	}
	if s.attempts[a].record && s.logged < maxLog {
		t := *s
		t.attempts[a].record = false
		w2 := t
		t.log[s.logged] = record{int8(w.orderOf(a)), s.attempts[a].epoch}
		t.logged++
		if s.attempts[a].at == putting {
			t.attempts[a].at = acked
		}
		next("append", &t)
		next("record lost with its producer", &w2)
	}
}

// executeHold is the hold script: what the shard does with the attempt's hold, and what the attempt hears if it still listens.
func (w *walk) executeHold(t *state, a int) {
	try, o := &t.attempts[a], &t.orders[w.orderOf(a)]
	hold := &t.redis.holds[w.orderOf(a)]
	try.hold = false
	listens := try.at == holding
	reply := refused
	if w.usable(t, try.epoch) {
		switch *hold {
		case holdNone:
			if t.redis.available > 0 {
				t.redis.available--
				*hold, o.noted = holdFresh, false
				reply = held
			}
		case holdFresh:
			if w.Without != NoTouch {
				o.noted = false
			}
			reply = held
		case holdOrdered:
			if listens { // the order exists: a replay is answered with it
				o.promised = true
			}
		}
	}
	if listens {
		try.at = reply
	}
}

package protocol

// attemptSteps: a batch of attempts takes holds by one call, those that got one go into one page,
// and each is answered 202 when the page is acknowledged in time. A withdrawal has no record: its
// transaction takes the hold's unit, under the epoch of the hold.
func (w *walk) attemptSteps(s *state) {
	for g := range w.Gateways {
		for i := range w.Shards {
			w.on = i
			w.holdSteps(s, g, i)
		}
	}
	w.on = nobodys
	for a, try := range s.attempts {
		if try.page != 0 {
			w.pageSteps(s, a)
		}
		if try.at == acked {
			w.try(s, "202 for attempt %a", a, -1, func(t *state) { t.attempts[a] = attempt{at: over}; t.promised |= 1 << w.Attempts[a] })
		}
		if a < len(w.Attempts) && w.Orders[w.Attempts[a]].Buyer == mover {
			w.moveSteps(s, a)
		}
		if !s.live(a) {
			continue
		}
		if o := w.Attempts[a]; w.Orders[o].Buyer == shop {
			w.try(s, "attempt %a: its withdrawal is committed, or refused", a, -1, func(t *state) {
				t.attempts[a] = attempt{at: over}
				item, current := w.Orders[o].Item, try.epoch == s.db.epoch[w.home(o)] || w.without("nowithdrawfence")
				if current && s.db.row[o] == rowNone && w.sold(&s.db, item) < s.db.total[item] {
					t.db.row[o], t.db.box[o] = rowPaid, holdSold
				}
			})
		}
		w.try(s, "attempt %a: its deadline passes, no 202", a, -1, func(t *state) {
			t.attempts[a].at, t.attempts[a].old = over, false
			if w.without("undo") {
				w.giveBack(&t.redis[w.home(w.Attempts[a])], w.Attempts[a], try.epoch)
			}
			if try.page == 0 { // otherwise its page may still be on its way
				t.attempts[a].epoch = 0
			}
		})
	}
}

// holdSteps are the calls of a gateway to a shard.
func (w *walk) holdSteps(s *state, g, i int) {
	waiting := uint8(0)
	for a, o := range w.Attempts {
		if s.attempts[a].at == idle && a%w.Gateways == g && w.home(o) == i {
			waiting |= 1 << a
		}
	}
	for batch := uint8(1); batch <= waiting; batch++ {
		if batch&^waiting == 0 {
			w.holdBatch(s, i, s.split[i] && g == 1, batch)
		}
	}
}

// holdBatch is one Lua call for several attempts. A call that is late and finds its attempts gone
// is the same as one whose attempts pass their deadline at once. A call of another epoch than the
// shard's is refused and changes nothing, so it needs no step.
func (w *walk) holdBatch(s *state, i int, isolated bool, batch uint8) {
	h, first := &s.redis[i], s.redis[i].epoch
	if isolated {
		h, first = &s.other[i], s.other[i].epoch
	}
	if w.without("noepoch") {
		first = 1
	}
	for epoch := first; w.usable(h, epoch) && epoch <= h.epoch; epoch++ {
		t := *s
		w.takeHolds(&t, i, isolated, batch, epoch, false)
		w.emit("attempts %A hold by one call in epoch %b", int(batch), int(epoch), &t)
		// After a failover that forgot, seq runs through the same numbers again: a hold may look
		// older than the sweeper's note.
		if s.lossy[i] {
			t = *s
			w.takeHolds(&t, i, isolated, batch, epoch, true)
			w.emit("attempts %A hold by one call in epoch %b, which looks old", int(batch), int(epoch), &t)
		}
	}
}

func (w *walk) takeHolds(t *state, i int, isolated bool, batch uint8, epoch int8, looksOld bool) {
	h, page, lead := &t.redis[i], uint8(0), -1
	counts := func(o int) bool { return h.hold[o] != holdNone && h.hold[o] != holdVoid }
	if isolated {
		h = &t.other[i]
	}
	for a, o := range w.Attempts {
		if batch&(1<<a) == 0 {
			continue
		}
		got := false
		switch item := w.Orders[o].Item; h.hold[o] {
		case holdNone:
			if got = h.units[item] > 0 && !w.limited(o, counts); got {
				h.units[item]--
				h.hold[o], h.noted[o] = holdFresh, looksOld
			}
			if w.Spread && h.units[item] == 0 && !got && !w.byShop(o) && !isolated {
				w.refuse(t)
			}
		case holdFresh:
			got = true
			h.noted[o] = looksOld || h.noted[o] && w.without("notouch")
		case holdOrdered: // the order exists: the answer names it
			if w.known(t, o) && !w.byShop(o) {
				t.promised |= 1 << o
			}
		}
		t.attempts[a] = attempt{at: over}
		if got {
			t.attempts[a] = attempt{at: putting, epoch: epoch}
		}
		if got && !w.byShop(o) {
			if lead < 0 {
				lead = a
			}
			page |= 1 << a
		}
	}
	if lead >= 0 {
		t.attempts[lead].page = page
	}
}

// pageSteps: a page reaches the log as late as it likes, or never.
func (w *walk) pageSteps(s *state, lead int) {
	page, epoch := s.attempts[lead].page, s.attempts[lead].epoch
	never, in := *s, *s
	in.log[in.logged].epoch = epoch
	for a, o := range w.Attempts {
		if page&(1<<a) == 0 {
			continue
		}
		in.log[in.logged].orders |= 1 << o
		if s.live(a) {
			in.attempts[a].at = acked
			never.attempts[a] = attempt{at: over}
		}
	}
	in.logged++
	in.attempts[lead].page = 0
	if !s.live(lead) {
		in.attempts[lead].epoch = 0
	}
	never.attempts[lead] = attempt{at: over}
	w.emit("the page of attempts %A, of epoch %b, is appended", int(page), int(epoch), &in)
	w.emit("the page of attempts %A, of epoch %b, never arrives", int(page), int(epoch), &never)
}

// giveBack is a step that the protocol does not have: a purchase that failed after its hold gives
// its unit back.
func (w *walk) giveBack(h *shard, o int, epoch int8) {
	if w.usable(h, epoch) && h.hold[o] == holdFresh {
		h.hold[o], h.noted[o] = holdNone, false
		h.units[w.Orders[o].Item]++
	}
}

package protocol

// sweepSteps are those of one sweeper with one hold. The first barrier of a sweep only spares work:
// nothing leans on it, so it is left out here, and the look-up comes at any moment.
func (w *walk) sweepSteps(s *state, k, o int) {
	sw, r := s.sweeps[k][o], &s.redis[w.home(o)]
	switch h := r.hold[o]; sw.stage {
	case 0:
		switch open := w.usable(r, r.epoch); {
		case open && h == holdFresh && !r.noted[o]:
			w.note(s, o)
		case open && (h == holdDoomed || h == holdFresh && w.aged(s, o)):
			w.lookUp(s, k, o)
		}
	case 1:
		if !w.sweepWaitedOut(s, k, o) {
			break
		}
		w.barrier(s, "order %a: sweeper waited out, writes its second barrier at %b", o, func(t *state, end int8) {
			t.sweeps[k][o] = sweep{stage: 2, epoch: sw.epoch, end: end}
		})
		if sw.early {
			w.try(s, "order %a: sweeper waited out, has its barrier at %b", o, int(sw.end), func(t *state) {
				t.sweeps[k][o] = sweep{stage: 2, epoch: sw.epoch, end: sw.end}
			})
		}
	case 2:
		switch {
		case sw.end > s.logged && !w.without("stuckbarrier"):
			w.try(s, "order %a: the sweeper's barrier is lost with the log's tail", o, -1, func(t *state) { t.sweeps[k][o] = sweep{} })
		case w.passed(s, sw.end):
			w.bury(s, k, o)
		}
	}
	if sw.stage != 0 && w.left(s, faultCrash) {
		w.try(s, "order %a: sweeper crashes", o, -1, func(t *state) { t.used[faultCrash]++; t.sweeps[k][o] = sweep{} })
	}
}

// note: from now on the hold's age is known. The replica's hold was not touched later.
func (w *walk) note(s *state, o int) {
	w.try(s, "order %a: sweeper notes the hold", o, -1, func(t *state) {
		i := w.home(o)
		r, other := &t.redis[i], &t.other[i]
		r.noted[o] = true
		if !s.split[i] && other.epoch == r.epoch && other.hold[o] == holdFresh {
			other.noted[o] = true
		}
		for a := range w.Attempts {
			if w.Attempts[a] == o && w.mayPromise(s, a) {
				t.attempts[a].old = true
			}
		}
	})
}

// aged reports whether the sweep's age may have passed since the note: it is longer than any
// attempt lives, so those that had their hold before the note are dead.
func (w *walk) aged(s *state, o int) bool {
	for a := range w.Attempts {
		if w.Attempts[a] == o && w.mayPromise(s, a) && s.attempts[a].old {
			return false
		}
	}
	return true
}

// lookUp decides an old hold from its row, or dooms it. The doom is replicated before anything
// else.
func (w *walk) lookUp(s *state, k, o int) {
	i, row := w.home(o), s.db.row[o]
	if row != rowNone {
		kind := w.asHold(&s.db, o)
		if kind != holdOrdered && w.without("nosettlefromrow") {
			return
		}
		w.try(s, "order %a: sweeper confirms, or settles, from the row", o, -1, func(t *state) {
			if kind == holdOrdered {
				w.confirm(&t.redis[i], o)
			} else {
				w.settle(&t.redis[i], o, kind)
			}
		})
		w.sendLate(s, message{kind, int8(o), s.redis[i].epoch})
		return
	}
	t := *s
	if !w.without("nodoom") {
		t.redis[i].hold[o], t.redis[i].noted[o] = holdDoomed, false
	}
	if !s.split[i] && !w.without("nodoomwait") {
		t.other[i] = t.redis[i]
	}
	t.sweeps[k][o] = sweep{stage: 1, epoch: s.redis[i].epoch}
	w.emit("order %a: sweeper dooms the hold", o, -1, &t)
	w.joinOlder(&t, "barrierdoom", "order %a: sweeper dooms the hold", o, func(u *state, end int8) {
		u.sweeps[k][o].early, u.sweeps[k][o].end = true, end
	})
	if w.without("nodoomout") {
		w.barrier(&t, "order %a: sweeper dooms the hold, writes its second barrier at %b", o, func(u *state, end int8) {
			u.sweeps[k][o] = sweep{stage: 2, epoch: s.redis[i].epoch, end: end}
		})
	}
}

// bury is the sweeper's transaction, under the epoch of its doom: a tombstone if there is no row.
func (w *walk) bury(s *state, k, o int) {
	name := "order %a: sweeper writes a tombstone"
	fenced := s.sweeps[k][o].epoch != s.db.epoch[w.home(o)] && !w.without("nofence")
	if fenced || s.db.row[o] != rowNone {
		name = "order %a: sweeper finds another epoch, or the order"
	}
	w.try(s, name, o, -1, func(t *state) {
		t.sweeps[k][o] = sweep{}
		if !fenced && s.db.row[o] == rowNone {
			t.db.row[o], t.db.box[o] = rowTombstone, holdVoid
		}
	})
}

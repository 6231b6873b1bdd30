package protocol

// needed reports whether the shard has to be rebuilt.
func (w *walk) needed(s *state) bool {
	ahead := s.redis.epoch > s.db.epoch && !w.without("noaheadheal")
	return s.redis.epoch < s.db.epoch || ahead || s.redis.closed || s.suspect
}

func (w *walk) rebuildSteps(s *state, k int) {
	rb := s.rebuilds[k]
	e := int(rb.epoch)
	switch rb.stage {
	case 0:
		if k == 0 || s.rebuilds[0].stage != 0 {
			w.takeEpoch(s, k)
		}
	case 1:
		w.closeShard(s, k)
	case 2:
		if w.without("nowaitout") || w.waitedOut(s, func(a int) bool { return s.attempts[a].epoch < rb.epoch }) {
			w.barrier(s, "rebuilder of epoch %a waited out, writes its barrier at %b", e, func(t *state, end int8) {
				t.rebuilds[k].stage, t.rebuilds[k].end = 3, end
			})
		}
	case 3, 4:
		switch {
		case rb.end > s.logged && !w.without("stuckbarrier"):
			w.try(s, "rebuilder of epoch %a: its barrier is lost with the log's tail", e, -1, func(t *state) { t.rebuilds[k] = rebuild{} })
		case rb.stage == 4 || w.passed(s, rb.end):
			w.fence(s, k)
		}
	case 5:
		t, name := *s, "rebuilder of epoch %a may not open"
		t.rebuilds[k] = rebuild{}
		if s.redis.epoch == rb.epoch && s.redis.closed {
			t.redis, name = shard{epoch: rb.epoch, units: rb.units, hold: rb.hold}, "rebuilder of epoch %a loads and opens"
		}
		w.emit(name, e, -1, &t)
	}
	if rb.stage != 0 && w.left(s, faultCrash) {
		w.try(s, "rebuilder of epoch %a crashes", e, -1, func(t *state) { t.used[faultCrash]++; t.rebuilds[k] = rebuild{} })
	}
}

// takeEpoch: an epoch above the books', above the shard's, and never one that was given out before,
// even by a database that has forgotten it.
func (w *walk) takeEpoch(s *state, k int) {
	needed := w.needed(s)
	epoch := max(s.db.next, s.redis.epoch) + 1
	if !w.without("reuse") {
		epoch = max(epoch, s.ever+1)
	}
	if epoch > w.Epochs || !needed && !w.left(s, faultSuspect) {
		return
	}
	w.try(s, "rebuilder takes epoch %a", int(epoch), -1, func(t *state) {
		if !needed {
			t.used[faultSuspect]++
		}
		t.db.next, t.ever = epoch, max(s.ever, epoch)
		t.rebuilds[k] = rebuild{stage: 1, epoch: epoch}
	})
}

// closeShard writes the closed mark, and goes on when the replicas have it.
func (w *walk) closeShard(s *state, k int) {
	epoch := s.rebuilds[k].epoch
	if s.redis.epoch > epoch || s.redis.epoch == epoch && !s.redis.closed {
		w.try(s, "rebuilder of epoch %a may not close", int(epoch), -1, func(t *state) { t.rebuilds[k] = rebuild{} })
		return
	}
	w.try(s, "rebuilder of epoch %a closes", int(epoch), -1, func(t *state) {
		t.redis = shard{epoch: epoch, closed: true}
		if !s.split && !w.without("noclosewait") {
			t.other = t.redis
		}
		t.rebuilds[k].stage, t.suspect, t.lossy = 2, false, false
	})
}

// fence is the rebuilder's transaction: the epoch is the shard's, the snapshot is taken, and stock
// that it counts leaves the outbox. It may be two: first the epoch, then the snapshot.
func (w *walk) fence(s *state, k int) {
	t := *s
	rb := &t.rebuilds[k]
	epoch := int(rb.epoch)
	first, second := true, true
	if w.TwoStep || w.without("snapshotfirst") {
		first, second = rb.stage == 3, rb.stage == 4
	}
	rb.stage = 4
	if second {
		rb.stage = 5
	}
	if w.without("snapshotfirst") {
		first, second = second, first
	}
	if first && (t.db.epoch >= rb.epoch || t.db.next != rb.epoch && !w.without("notlast")) {
		*rb = rebuild{}
		w.emit("rebuilder of epoch %a finds that a later one was given out", epoch, -1, &t)
		return
	}
	if first {
		t.db.epoch = rb.epoch
	}
	if second {
		for i := range maxItems {
			rb.units[i] = t.db.total[i] - w.claimed(&t.db, i)
		}
		for o := range w.Orders {
			rb.hold[o] = asHold(t.db.row[o])
			if t.db.row[o] == rowParked && w.without("noparkunit") {
				rb.hold[o] = holdNone
				rb.units[w.Orders[o].Item]++
			}
		}
		if t.db.stock == 1 && !w.without("noabsorb") {
			t.db.stock = 2
		}
	}
	name := "rebuilder of epoch %a fences and takes its snapshot"
	switch {
	case !second:
		name = "rebuilder of epoch %a fences"
	case !first:
		name = "rebuilder of epoch %a takes its snapshot"
	}
	w.emit(name, epoch, -1, &t)
}

// auditStep compares Redis with the rows when nothing is under way. It runs only after a loss:
// before one, a law is broken if the two differ.
func (w *walk) auditStep(s *state) {
	if s.lost && !w.without("noaudit") && w.quiet(s) && !w.agree(s, w.without("auditcounts")) {
		w.try(s, "audit asks for a rebuild", -1, -1, func(t *state) { t.suspect = true })
	}
}

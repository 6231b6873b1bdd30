package protocol

// rebuilt returns the shard that a rebuilder works on. With two shards each has one of its own.
func (w *walk) rebuilt(k int) int { return k % w.Shards }

// needed reports whether a shard has to be rebuilt.
func (w *walk) needed(s *state, i int) bool {
	r := &s.redis[i]
	ahead := r.epoch > s.db.epoch[i] && !w.without("noaheadheal")
	return r.epoch < s.db.epoch[i] || ahead || r.closed || s.suspect[i]
}

func (w *walk) rebuildSteps(s *state, k int) {
	rb, i := s.rebuilds[k], w.rebuilt(k)
	e := int(rb.epoch)
	switch rb.stage {
	case 0:
		if k < w.Shards || s.rebuilds[0].stage != 0 {
			w.takeEpoch(s, k)
		}
	case 1:
		w.closeShard(s, k)
	case 2:
		if !w.rebuildWaitedOut(s, k) {
			break
		}
		w.barrier(s, "rebuilder of epoch %a waited out, writes its barrier at %b", e, func(t *state, end int8) {
			t.rebuilds[k] = rebuild{stage: 3, epoch: rb.epoch, end: end}
		})
		if rb.early {
			w.try(s, "rebuilder of epoch %a waited out, has its barrier at %b", e, int(rb.end), func(t *state) {
				t.rebuilds[k] = rebuild{stage: 3, epoch: rb.epoch, end: rb.end}
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
		if s.redis[i].epoch == rb.epoch && s.redis[i].closed {
			name = "rebuilder of epoch %a loads and opens"
			t.redis[i] = shard{epoch: rb.epoch, units: rb.units, hold: rb.hold}
		}
		w.emit(name, e, -1, &t)
	}
	if rb.stage != 0 && w.left(s, faultCrash) {
		w.try(s, "rebuilder of epoch %a crashes", e, -1, func(t *state) { t.used[faultCrash]++; t.rebuilds[k] = rebuild{} })
	}
}

// takeEpoch: the epoch is above the books' and above the shard's. It was never given out before,
// even by a database that has forgotten it.
func (w *walk) takeEpoch(s *state, k int) {
	i := w.rebuilt(k)
	needed := w.needed(s, i)
	epoch := max(s.db.next[i], s.redis[i].epoch) + 1
	if !w.without("reuse") {
		epoch = max(epoch, s.ever[i]+1)
	}
	if epoch > w.Epochs || !needed && !w.left(s, faultSuspect) {
		return
	}
	w.try(s, "rebuilder takes epoch %a", int(epoch), -1, func(t *state) {
		if !needed {
			t.used[faultSuspect]++
		}
		t.db.next[i], t.ever[i] = epoch, max(s.ever[i], epoch)
		t.rebuilds[k] = rebuild{stage: 1, epoch: epoch}
	})
}

// closeShard writes the closed mark, and goes on when the replicas have it.
func (w *walk) closeShard(s *state, k int) {
	epoch, i := s.rebuilds[k].epoch, w.rebuilt(k)
	if r := &s.redis[i]; r.epoch > epoch || r.epoch == epoch && !r.closed {
		w.try(s, "rebuilder of epoch %a may not close", int(epoch), -1, func(t *state) { t.rebuilds[k] = rebuild{} })
		return
	}
	t := *s
	t.redis[i] = shard{epoch: epoch, closed: true}
	if !s.split[i] && !w.without("noclosewait") {
		t.other[i] = t.redis[i]
	}
	t.rebuilds[k].stage, t.suspect[i], t.lossy[i] = 2, false, false
	w.emit("rebuilder of epoch %a closes", int(epoch), -1, &t)
	w.joinOlder(&t, "barrierearly", "rebuilder of epoch %a closes", int(epoch), func(u *state, end int8) {
		u.rebuilds[k].early, u.rebuilds[k].end = true, end
	})
}

// fence is the rebuilder's transaction: the epoch is the shard's, the snapshot is taken, and stock
// that it counts leaves the outbox. It may be two: first the epoch, then the snapshot.
func (w *walk) fence(s *state, k int) {
	t := *s
	rb, i := &t.rebuilds[k], w.rebuilt(k)
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
	if first && (t.db.epoch[i] >= rb.epoch || t.db.next[i] != rb.epoch && !w.without("notlast")) {
		*rb = rebuild{}
		w.emit("rebuilder of epoch %a finds that a later one was given out", epoch, -1, &t)
		return
	}
	if first {
		t.db.epoch[i] = rb.epoch
	}
	if second {
		w.snapshot(&t, rb, i)
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

// snapshot reads the rows of a shard, and deletes the outbox rows of the stock that it counts.
func (w *walk) snapshot(t *state, rb *rebuild, i int) {
	for item := range maxItems {
		if w.shardOf(item) == i {
			rb.units[item] = t.db.total[item] - w.claimed(&t.db, item)
		}
	}
	for o := range w.Orders {
		switch parked := t.db.row[o] == rowParked; {
		case w.home(o) != i:
		case parked && w.without("noparkunit"):
			rb.units[w.Orders[o].Item]++
		default:
			rb.hold[o] = w.asHold(&t.db, o)
		}
	}
	if w.shardOf(0) == i && t.db.stock == 1 && !w.without("noabsorb") {
		t.db.stock = 2
	}
	if _, _, to := w.move(); w.shardOf(to) == i && t.db.moved == movedCommitted && !w.without("noabsorb") {
		t.db.moved = movedDelivered
	}
}

// auditStep compares Redis with the rows when nothing is in progress. It runs only after a loss:
// before one, a law is broken if the two differ.
func (w *walk) auditStep(s *state) {
	if !s.lost || w.without("noaudit") || !w.quiet(s) {
		return
	}
	for i := range w.Shards {
		if !w.agree(s, i, w.without("auditcounts")) {
			w.on = i
			w.try(s, "audit asks for a rebuild", -1, -1, func(t *state) { t.suspect[i] = true })
		}
	}
	w.on = nobodys
}

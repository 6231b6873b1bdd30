package protocol

// faultSteps are what the servers do to us. Nobody may wait for one.
func (w *walk) faultSteps(s *state) {
	if s.split {
		w.try(s, "the old primary stops", -1, -1, func(t *state) { t.split, t.other = false, s.redis })
	}
	w.fault = true
	fail := func(fault int, can bool, name string, change func(t *state)) {
		if can && w.left(s, fault) {
			w.try(s, name, -1, -1, func(t *state) { t.used[fault]++; change(t) })
		}
	}
	differ := s.redis != s.other && !s.split
	fail(faultEmpty, s.redis.epoch > 0 && !s.split, "Redis is emptied", func(t *state) {
		t.redis, t.other, t.lossy = shard{}, shard{}, false
	})
	fail(faultFailover, differ, "failover forgets", func(t *state) { t.redis, t.lossy, t.lost = s.other, true, true })
	fail(faultSplit, !s.split, "failover, gateway 1 stays with the old primary", func(t *state) {
		t.redis, t.other, t.split, t.lossy, t.lost = s.other, s.redis, true, true, true
	})
	if differ && (w.left(s, faultFailover) || w.left(s, faultSplit)) {
		w.try(s, "replicates", -1, -1, func(t *state) { t.other = s.redis })
	}
	if w.left(s, faultRestore) && !s.kept {
		w.try(s, "the database's copy stops here", -1, -1, func(t *state) { t.backup, t.kept = s.db, true })
	}
	fail(faultRestore, s.kept && s.db != s.backup, "the database is restored", func(t *state) {
		t.db, t.backup, t.kept, t.lost = s.backup, books{}, false, true
		w.forgetWork(t, func(end int8) bool { return w.passed(s, end) })
		w.excuse(t)
	})
	tail := func(t *state) {
		t.logged--
		t.gone, t.lost = s.gone|s.log[t.logged].orders, true
		t.log[t.logged] = record{}
		if !w.without("notruncate") { // the position has the leader epoch: what comes there is read
			t.db.done &^= 1 << t.logged
			t.backup.done &^= 1 << t.logged
		}
		w.excuse(t)
	}
	fail(faultTail, s.logged > 0, "the log loses its last record", tail)
	fail(faultTail, s.logged > 1, "the log loses its last record, and is read from its start", func(t *state) { tail(t); t.db.done = 0 })
	if s.lossy && !s.suspect { // LOST, or another run id: perhaps somebody notices, perhaps nobody
		w.try(s, "somebody notices the failover", -1, -1, func(t *state) { t.suspect = true })
	}
	w.fault = false
}

// forgetWork: a sweep, and the barrier of a rebuild, count only for the incarnation of the database
// in which they were begun. What they rest on may have been forgotten since.
func (w *walk) forgetWork(t *state, sawPassed func(end int8) bool) {
	for k := range maxWorkers {
		for o := range w.Orders {
			if !w.without("oldbury") && (t.sweeps[k][o].stage == 2 || !w.without("olddoom")) {
				t.sweeps[k][o] = sweep{}
			}
		}
		if rb := &t.rebuilds[k]; rb.stage == 3 || rb.stage == 4 {
			if !w.without("oldfence") {
				*rb = rebuild{}
			} else if sawPassed(rb.end) {
				rb.end = 0
			}
		}
	}
}

// excuse drops the promises that nobody can know of any more: the log lost their record, no other
// record of them is left, and there is no row.
func (w *walk) excuse(t *state) {
	for o := range w.Orders {
		if w.known(t, o) {
			continue
		}
		t.promised &^= 1 << o
		for a := range w.Attempts {
			if w.Attempts[a] == o && t.attempts[a].at == acked {
				t.attempts[a] = attempt{at: over}
			}
		}
	}
}

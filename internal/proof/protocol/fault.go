package protocol

// faultSteps are what the servers do to us. Nobody may wait for one.
func (w *walk) faultSteps(s *state) {
	for i := range w.Shards {
		if s.split[i] {
			w.on = i
			w.try(s, "the old primary stops", -1, -1, func(t *state) { t.split[i], t.other[i] = false, s.redis[i] })
		}
	}
	w.fault = true
	for i := range w.Shards {
		w.on = i
		w.redisFaults(s, i)
	}
	w.on = nobodys
	w.storeFaults(s)
	for i := range w.Shards {
		if s.lossy[i] && !s.suspect[i] { // LOST, or another run id: it may go unnoticed
			w.on = i
			w.try(s, "somebody notices the failover", -1, -1, func(t *state) { t.suspect[i] = true })
		}
	}
	w.fault, w.on = false, nobodys
}

// fail is a fault, if it may happen once more.
func (w *walk) fail(s *state, fault int, can bool, name string, change func(t *state)) {
	if can && w.left(s, fault) {
		w.try(s, name, -1, -1, func(t *state) { t.used[fault]++; change(t) })
	}
}

// redisFaults are those of a shard in Redis. Each shard is on a node of its own: two faults, one of
// each, are those of a node that has both.
func (w *walk) redisFaults(s *state, i int) {
	differ := s.redis[i] != s.other[i] && !s.split[i]
	w.fail(s, faultEmpty, s.redis[i].epoch > 0 && !s.split[i], "Redis is emptied", func(t *state) {
		t.redis[i], t.other[i], t.lossy[i] = shard{}, shard{}, false
	})
	w.fail(s, faultFailover, differ, "failover forgets", func(t *state) {
		t.redis[i], t.lossy[i], t.lost = s.other[i], true, true
	})
	w.fail(s, faultSplit, !s.split[i], "failover, gateway 1 stays with the old primary", func(t *state) {
		t.redis[i], t.other[i], t.split[i], t.lossy[i], t.lost = s.other[i], s.redis[i], true, true, true
	})
	if differ && (w.left(s, faultFailover) || w.left(s, faultSplit)) {
		w.try(s, "replicates", -1, -1, func(t *state) { t.other[i] = s.redis[i] })
	}
}

// storeFaults are those of the database and of the log.
func (w *walk) storeFaults(s *state) {
	if w.left(s, faultRestore) && !s.kept {
		w.try(s, "the database's copy stops here", -1, -1, func(t *state) { t.backup, t.kept = s.db, true })
	}
	w.fail(s, faultRestore, s.kept && s.db != s.backup, "the database is restored", func(t *state) {
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
	w.fail(s, faultTail, s.logged > 0, "the log loses its last record", tail)
	w.fail(s, faultTail, s.logged > 1, "the log loses its last record, and is read from its start", func(t *state) { tail(t); t.db.done = 0 })
}

// forgetWork: a sweep, and the barrier of a rebuild, count only for the incarnation of the database
// in which they were begun. The database may have lost the data that they rely on.
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

// excuse drops the promises that are lost without a trace: the log lost their record, no other
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

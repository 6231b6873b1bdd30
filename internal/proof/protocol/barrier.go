package protocol

// waitedOut reports whether the accept deadline may have passed since a doom or a close on a shard,
// for all that got their hold before: none of them is live, and no isolated primary gives more.
func (w *walk) waitedOut(s *state, i int, older func(a int) bool) bool {
	for a := range w.Attempts {
		if w.mayPromise(s, a) && older(a) {
			return false
		}
	}
	return !s.split[i] || w.without("nolag")
}

func (w *walk) sweepWaitedOut(s *state, k, o int) bool {
	return w.waitedOut(s, w.home(o), func(a int) bool {
		return w.Attempts[a] == o && s.attempts[a].epoch == s.sweeps[k][o].epoch
	})
}

func (w *walk) rebuildWaitedOut(s *state, k int) bool {
	i := w.rebuilt(k)
	return w.without("nowaitout") || w.waitedOut(s, i, func(a int) bool {
		return w.home(w.Attempts[a]) == i && s.attempts[a].epoch < s.rebuilds[k].epoch
	})
}

// barrier: the marker's offset is behind every record that was acknowledged before. Reading the end
// instead may be answered by a leader that was replaced.
func (w *walk) barrier(s *state, name string, a int, next func(t *state, end int8)) {
	end := s.logged
	if w.without("nobarrier") {
		end = 0
	}
	for ; end <= s.logged; end++ {
		w.try(s, name, a, int(end), func(t *state) { next(t, end) })
	}
}

// joinOlder is the forbidden step of a doom or a close: it takes a barrier whose marker was already
// written.
func (w *walk) joinOlder(s *state, rule, name string, a int, join func(t *state, end int8)) {
	if !w.without(rule) {
		return
	}
	for end := range s.logged + 1 {
		if underWay(s, end) {
			w.try(s, name+", joins the barrier at %b", a, int(end), func(t *state) { join(t, end) })
		}
	}
}

// underWay reports whether a process waits for a barrier at that offset.
func underWay(s *state, end int8) bool {
	for k := range maxWorkers {
		if s.rebuilds[k].stage == 3 && s.rebuilds[k].end == end {
			return true
		}
		for o := range maxOrders {
			if s.sweeps[k][o].stage == 2 && s.sweeps[k][o].end == end {
				return true
			}
		}
	}
	return false
}

// sharedBarrier: one barrier serves all of both shards whose wait-out was over before its marker
// was written. It leads to no new state: it is as if each had written its own, one directly after
// the other. So a proof with separate barriers holds for shared ones.
func (w *walk) sharedBarrier(s *state) {
	t, early := *s, *s
	served, wait := 0, false
	for k := range maxWorkers {
		for o := range w.Orders {
			switch sw := s.sweeps[k][o]; {
			case sw.stage != 1:
			case w.sweepWaitedOut(s, k, o):
				served |= 1 << w.home(o)
				t.sweeps[k][o] = sweep{stage: 2, epoch: sw.epoch, end: s.logged}
				early.sweeps[k][o] = t.sweeps[k][o]
			default:
				wait = true
				early.sweeps[k][o].end, early.sweeps[k][o].early = s.logged, true
			}
		}
		switch {
		case s.rebuilds[k].stage != 2:
		case w.rebuildWaitedOut(s, k):
			served |= 1 << w.rebuilt(k)
			t.rebuilds[k].stage, t.rebuilds[k].end = 3, s.logged
			early.rebuilds[k] = t.rebuilds[k]
		default:
			wait = true
			early.rebuilds[k].end, early.rebuilds[k].early = s.logged, true
		}
	}
	if served == 1<<maxShards-1 {
		w.emit("one barrier at %b serves both shards", -1, int(s.logged), &t)
	}
	if served != 0 && wait && w.without("barriernowait") {
		w.emit("one barrier at %b serves those that waited out, and those that still wait", -1, int(s.logged), &early)
	}
}

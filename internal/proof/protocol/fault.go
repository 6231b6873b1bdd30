package protocol

// faultSteps are what Redis does to us: it comes back empty, or a failover brings up a replica that lags. A replica catches up
// whenever it likes.
func (w *walk) faultSteps(s *state) {
	if s.losses >= int8(w.Losses) {
		return
	}
	t := *s
	switch {
	case !w.Rollback && s.redis.epoch != 0:
		t.losses++
		t.empty(0, false)
		w.next("Redis empty", &t)
	case w.Rollback && s.redis != s.replica:
		t.losses++
		t.redis = s.replica
		t.lossy = true
		w.next("failover forgets", &t)
		t = *s
		t.replica = s.redis
		w.next("replicates", &t)
	}
}

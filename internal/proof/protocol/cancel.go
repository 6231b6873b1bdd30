package protocol

// cancelSteps are those of a desk that cancels an order whose row isn't there yet: it saw the order's undecided hold in an epoch,
// and makes the row itself, as the worker would of a record of that epoch; then the row is cancelled like any other. It does the
// second as late as it likes, and perhaps never.
func (w *walk) cancelSteps(s *state, o int) {
	order := &s.orders[o]
	sees := s.redis.holds[o].undecided() && !s.redis.closed || w.Without == NoLook
	if s.cancels < int8(w.Cancels) && order.lookedAt == 0 && order.row == rowAbsent && s.redis.epoch > 0 && sees {
		t := *s
		t.cancels++
		t.orders[o].lookedAt = s.redis.epoch
		w.nextOf("desk looks", o, &t)
	}
	if order.lookedAt > 0 {
		t := *s
		t.orders[o].lookedAt = 0
		w.nextOf("desk gives up", o, &t)
		what := w.accept(&t, record{int8(o), order.lookedAt})
		w.push(step{"desk " + what, -1, int8(o), order.lookedAt}, &t)
	}
}

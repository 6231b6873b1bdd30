package protocol

// workerSteps are those of the worker: it makes rows of records, then commits its offset, and may crash between the two.
func (w *walk) workerSteps(s *state) {
	if s.polled < s.logged {
		t := *s
		r := s.log[s.polled]
		t.polled++
		what := w.accept(&t, r)
		if o := &t.orders[r.order]; o.row == rowOpen {
			o.confirms = o.confirms.with(s.itemEpoch)
		}
		w.push(step{"worker " + what, -1, r.order, r.epoch}, &t)
	}
	if s.committed < s.polled {
		t := *s
		t.committed = s.polled
		w.next("offsets committed", &t)
		if s.workerCrashes < int8(w.WorkerCrashes) {
			t = *s
			t.polled = s.committed
			t.workerCrashes++
			w.next("worker crash", &t)
		}
	}
}

// accept is the transaction that makes a row of a record. It returns what it did.
func (w *walk) accept(t *state, r record) string {
	o := &t.orders[r.order]
	switch {
	case o.row == rowAbsent && r.epoch < t.itemEpoch && w.Without != NoFence:
		return "skips old epoch"
	case o.row == rowAbsent && t.claimed() >= t.total:
		o.row, o.outbox = rowRejected, settleVoid
		return "rejects"
	case o.row == rowAbsent:
		o.row = rowOpen
		return "opens"
	case o.row == rowOpen:
		return "meets its row"
	default:
		return "meets an ended order"
	}
}

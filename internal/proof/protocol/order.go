package protocol

// orderSteps are those of an order that has a row: it is replayed, paid, or cancelled, and the
// relay settles what has ended. A desk may also cancel an order that has no row yet: it has seen
// the hold, and makes the row, as late as it likes, and cancelled at once. An open row has a record
// in the log.
func (w *walk) orderSteps(s *state, o int) {
	end := func(row, kind uint8) func(t *state) {
		return func(t *state) { t.db.row[o], t.db.box[o] = row, kind }
	}
	i := w.home(o)
	h, kind := s.redis[i].hold[o], s.db.box[o]
	switch s.db.row[o] {
	case rowParked:
		w.try(s, "order %a: it was parked, and is replayed", o, -1, func(t *state) { w.open(t, o) })
	case rowOpen:
		w.try(s, "order %a is cancelled", o, -1, end(rowCancelled, holdVoid))
		if w.Pay {
			w.try(s, "order %a is paid", o, -1, end(rowPaid, holdSold))
		}
	case rowNone:
		seen := h == holdFresh || h == holdDoomed || w.without("nolook")
		if seen && w.left(s, faultEarly) && s.desk.kind == 0 && w.usable(&s.redis[i], s.redis[i].epoch) {
			w.try(s, "order %a: a desk that cancels sees the hold", o, -1, func(t *state) {
				t.used[faultEarly]++
				t.desk = message{holdFresh, int8(o), s.redis[i].epoch}
			})
		}
	}
	if s.desk.kind != 0 && int(s.desk.order) == o {
		w.try(s, "order %a: the desk that cancels gives up", o, -1, func(t *state) { t.desk = message{} })
		w.try(s, "order %a: the desk that cancels makes the row", o, -1, func(t *state) {
			t.desk = message{}
			w.accept(t, o, s.desk.epoch, false)
			if t.db.row[o] == rowOpen && s.db.row[o] == rowNone && !w.without("earlyopen") {
				t.db.row[o], t.db.box[o] = rowCancelled, holdVoid
			}
		})
	}
	if w.unsettled(&s.db, o) {
		return
	}
	if kind != 0 && w.usable(&s.redis[i], s.db.epoch[i]) {
		w.try(s, "order %a: relay settles the hold, its reply is lost", o, -1, func(t *state) { w.settle(&t.redis[i], o, kind) })
		w.try(s, "order %a: relay settles the hold, deletes the outbox row", o, -1, func(t *state) {
			w.settle(&t.redis[i], o, kind)
			t.db.box[o] = 0
		})
	}
	if kind != 0 {
		w.sendLate(s, message{kind, int8(o), s.db.epoch[i]})
	}
}

// stockSteps: a publication or a restock is a higher total and an outbox row, in one transaction.
func (w *walk) stockSteps(s *state) {
	if s.db.stock == 0 && w.Faults[faultRestock] > 0 {
		w.try(s, "restock committed", -1, -1, func(t *state) { t.db.stock = 1; t.db.total[0]++ })
	}
	if s.db.moved != 0 {
		w.movedSteps(s)
	}
	if s.db.stock != 1 {
		return
	}
	i := w.shardOf(0)
	if w.usable(&s.redis[i], s.db.epoch[i]) {
		w.try(s, "relay restocks, its reply is lost", -1, -1, func(t *state) { w.addStock(&t.redis[i], 0, restock) })
		w.try(s, "relay restocks, deletes the outbox row", -1, -1, func(t *state) { w.addStock(&t.redis[i], 0, restock); t.db.stock = 2 })
	}
	w.sendLate(s, message{restock, 0, s.db.epoch[i]})
}

// sendLate puts a message on its way that arrives later, whatever happens before.
func (w *walk) sendLate(s *state, m message) {
	if w.left(s, faultLate) {
		w.try(s, "a message is delayed: %k order %b", int(m.kind), int(m.order), func(t *state) {
			t.late[s.used[faultLate]] = m
			t.used[faultLate]++
		})
	}
}

func (w *walk) lateSteps(s *state) {
	for n, m := range s.late {
		if m.kind == 0 {
			continue
		}
		i, item := w.home(int(m.order)), 0
		switch m.kind {
		case restock:
			i = w.shardOf(0)
		case restockMove:
			_, _, item = w.move()
			i = w.shardOf(item)
		}
		w.try(s, "the delayed message arrives: %k order %b", int(m.kind), int(m.order), func(t *state) {
			t.late[n] = message{}
			switch {
			case !w.usable(&s.redis[i], m.epoch):
			case m.kind == holdOrdered:
				w.confirm(&t.redis[i], int(m.order))
			case m.kind >= restock:
				w.addStock(&t.redis[i], item, m.kind)
			default:
				w.settle(&t.redis[i], int(m.order), m.kind)
			}
		})
	}
}

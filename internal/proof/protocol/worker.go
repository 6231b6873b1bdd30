package protocol

// workerSteps: one transaction writes the rows of a page and the position. With several partitions
// any record may be the next. A crash before it changes nothing, and one after it only loses the
// confirm, so neither needs a step. Nor does a second worker: the transaction compares the position
// with the one it read from, and the loser reads again.
func (w *walk) workerSteps(s *state) {
	if w.without("nocas") {
		if s.cursor < s.logged {
			w.transaction(s, int(s.cursor), -1)
		}
		w.try(s, "worker starts at the database's position", -1, -1, func(t *state) {
			for t.cursor = 0; t.cursor < t.logged && s.db.done&(1<<t.cursor) != 0; t.cursor++ {
			}
		})
		return
	}
	if w.without("noshardlock") && s.begun[0] == 0 {
		if !w.passed(s, s.logged) {
			w.try(s, "worker begins, reads the epochs", -1, -1, func(t *state) { t.begun = s.db.epoch })
		}
		return
	}
	for k := 0; k < int(s.logged); k++ {
		if *w.position(s)&(1<<k) != 0 {
			continue
		}
		w.transaction(s, k, -1)
		for o := range w.Orders {
			if s.log[k].orders&(1<<o) != 0 && s.db.row[o] == rowNone && w.left(s, faultPark) {
				w.transaction(s, k, o)
			}
		}
		if w.Partitions == 1 {
			break
		}
	}
}

// transaction reads record k; park is the order whose promise is at fault, or whose row is locked.
func (w *walk) transaction(s *state, k, park int) {
	t, r, open := *s, s.log[k], uint8(0)
	i := w.recordHome(r)
	name := "worker commits record %a"
	if park >= 0 {
		t.used[faultPark]++
		name = "worker commits record %a, parks order %b"
	}
	for o := range w.Orders {
		if r.orders&(1<<o) != 0 {
			w.accept(&t, o, r.epoch, o == park)
			if t.db.row[o] == rowOpen {
				open |= 1 << o
			}
		}
	}
	t.begun = [maxShards]int8{}
	*w.position(&t) |= 1 << k
	if w.without("nocas") {
		t.db.done |= 1<<(k+1) - 1
		t.cursor = int8(k + 1)
	}
	w.emit(name, k, park, &t)
	if open != 0 && w.usable(&t.redis[i], t.db.epoch[i]) {
		w.try(&t, name+" and confirms", k, park, func(u *state) {
			for o := range w.Orders {
				if open&(1<<o) != 0 {
					w.confirm(&u.redis[i], o)
				}
			}
		})
	}
	for o := range w.Orders {
		if open&(1<<o) != 0 {
			w.sendLate(&t, message{holdOrdered, int8(o), t.db.epoch[i]})
		}
	}
}

// accept is the decision about one promise, in the transaction that has the shard's row.
func (w *walk) accept(t *state, o int, epoch int8, park bool) {
	i := w.home(o)
	current := t.db.epoch[i]
	if t.begun[i] > 0 {
		current = t.begun[i]
	}
	switch {
	case t.db.row[o] != rowNone:
	case epoch < current && !w.without("nofence"): // it was never promised
	case epoch > current && w.without("noaheadaccept"):
	case park && w.without("noparkrow"):
	case park:
		t.db.row[o] = rowParked
	default:
		w.open(t, o)
	}
}

// open makes an order of a promise where the unit and the buyer's limit allow it.
func (w *walk) open(t *state, o int) {
	t.db.row[o] = rowNone
	item, has := w.Orders[o].Item, func(p int) bool { return taken(t.db.row[p]) || t.db.row[p] == rowParked }
	if w.sold(&t.db, item) >= t.db.total[item] || w.limited(o, has) {
		t.db.row[o], t.db.box[o] = rowRejected, holdVoid
		return
	}
	t.db.row[o] = rowOpen
}

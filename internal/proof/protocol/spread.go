package protocol

// A spread item has a stock row on each of two shards: item 0 and item 1 stand for the two. The
// shop moves a unit between them: a hold by the shop on one, one transaction that moves the totals,
// a restock on the other, and then a settlement on the first, both through the outbox.
//
// The restock comes before the settlement. So the unit is always visible: as the hold of the move
// on the first shard, or as available on the second. Because of this, "all are empty" means sold
// out.

// byShop reports whether an order is the shop's: it has no record and no promise.
func (w *walk) byShop(o int) bool { return w.Orders[o].Buyer == shop || w.Orders[o].Buyer == mover }

// move returns the order that is a move, or -1, and the items from and to which it moves a unit.
func (w *walk) move() (o, from, to int) {
	for o := range w.Orders {
		if w.Orders[o].Buyer == mover {
			return o, w.Orders[o].Item, 1 - w.Orders[o].Item
		}
	}
	return -1, 0, 0
}

// moveSteps are those of an attempt to move a unit.
func (w *walk) moveSteps(s *state, a int) {
	o, from, to := w.move()
	epoch := s.attempts[a].epoch
	if s.attempts[a].at == idle && w.without("nomovehold") {
		w.commitMove(s, a, s.db.epoch[w.home(o)])
	}
	if !s.live(a) {
		return
	}
	w.commitMove(s, a, epoch)
	if j := w.shardOf(to); w.without("moveearly") && w.usable(&s.redis[j], s.db.epoch[j]) {
		w.try(s, "attempt %a: its unit of item %b is restocked before the move is committed", a, from, func(t *state) {
			w.addStock(&t.redis[j], to, restockMove)
		})
	}
}

// commitMove is the transaction that moves the totals, under the epoch of the hold. Each row has a
// CHECK of its own, and the move's row is its key.
func (w *walk) commitMove(s *state, a int, epoch int8) {
	o, from, to := w.move()
	current := epoch == s.db.epoch[w.home(o)] || w.without("nomovefence")
	once := s.db.row[o] == rowNone || w.without("nomovekey")
	room := w.sold(&s.db, from) < s.db.total[from] || w.without("nomovecheck")
	t := *s
	t.attempts[a] = attempt{at: over}
	if !current || !once || !room {
		w.emit("attempt %a: its move is refused", a, -1, &t)
		return
	}
	t.db.row[o], t.db.box[o] = rowMoved, holdSold
	t.db.total[from]--
	if w.without("moveparts") {
		t.db.moved = movedHalf
		w.emit("attempt %a: its move is committed, the first half", a, -1, &t)
		return
	}
	t.db.total[to]++
	t.db.moved = movedCommitted
	w.emit("attempt %a: its move is committed", a, -1, &t)
}

// movedSteps deliver the unit of a move that is committed to the other shard.
func (w *walk) movedSteps(s *state) {
	o, _, to := w.move()
	j := w.shardOf(to)
	switch s.db.moved {
	case movedHalf:
		w.try(s, "order %a: its move is committed, the second half", o, -1, func(t *state) {
			t.db.total[to]++
			t.db.moved = movedCommitted
		})
	case movedCommitted:
		if w.usable(&s.redis[j], s.db.epoch[j]) {
			w.try(s, "order %a: relay restocks its unit, its reply is lost", o, -1, func(t *state) {
				w.addStock(&t.redis[j], to, restockMove)
			})
			w.try(s, "order %a: relay restocks its unit, deletes the outbox row", o, -1, func(t *state) {
				w.addStock(&t.redis[j], to, restockMove)
				t.db.moved = movedDelivered
			})
		}
		w.sendLate(s, message{restockMove, int8(o), s.db.epoch[j]})
	}
}

// unsettled reports whether an order is a move whose unit is not on the other shard yet.
func (w *walk) unsettled(b *books, o int) bool {
	return b.row[o] == rowMoved && b.moved != movedDelivered && !w.without("settlefirst")
}

// refuse answers a buyer of a spread item whose own shard is empty: busy, or sold-out.
func (w *walk) refuse(t *state) {
	if w.saysSoldOut(t) && !t.lost && w.availableSomewhere(t) {
		t.falseSoldOut = true
	}
}

// saysSoldOut is the rule: sold-out only when all shards are known to be empty, and none has the
// hold of a move.
func (w *walk) saysSoldOut(t *state) bool {
	if w.without("soldoutown") {
		return true
	}
	for item := range maxItems {
		h := &t.redis[w.shardOf(item)]
		closed := h.epoch == 0 || h.closed
		if closed && !w.without("soldoutclosed") || !closed && h.units[item] > 0 {
			return false
		}
	}
	return !w.moving(t) || w.without("soldoutmoving")
}

// moving reports whether Redis has the hold of a move.
func (w *walk) moving(t *state) bool {
	o, _, _ := w.move()
	if o < 0 {
		return false
	}
	hold := t.redis[w.home(o)].hold[o]
	return hold == holdFresh || hold == holdDoomed || hold == holdOrdered
}

// availableSomewhere reports the truth: a shard has a unit, or will have it when it opens, or a
// move has one.
func (w *walk) availableSomewhere(t *state) bool {
	for item := range maxItems {
		h := &t.redis[w.shardOf(item)]
		units := h.units[item]
		if h.epoch == 0 || h.closed {
			units = t.db.total[item] - w.claimed(&t.db, item)
		}
		if units > 0 {
			return true
		}
	}
	return w.moving(t) || t.db.moved == movedCommitted
}

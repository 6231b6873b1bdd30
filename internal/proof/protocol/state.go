package protocol

import "math/bits"

// The state has everything that exists at one moment, in every server and every process. It
// consists of bytes only, so that it can be hashed as plain memory.

const maxShards, maxItems, maxOrders, maxAttempts, maxWorkers, maxLate = 2, 2, 3, 3, 2, 2

// States of a hold in Redis. The last two are markers.
const holdNone, holdFresh, holdDoomed, holdOrdered, holdVoid, holdSold = 0, 1, 2, 3, 4, 5

// States of an order's row. Cancelled is by the buyer or by a timeout; a tombstone is not accepted.
const rowNone, rowOpen, rowPaid, rowCancelled, rowTombstone, rowRejected = 0, 1, 2, 3, 4, 5
const rowParked, rowMoved = 6, 7

// States of the unit of a move, on its way to the other shard. Committed is with an outbox row.
const movedCommitted, movedDelivered, movedHalf = 1, 2, 3

// States of an attempt. While it is putting or acked it may still be answered 202.
const idle, putting, acked, over = 0, 1, 2, 3

// shard is a shard in Redis. It uses the items and holds that live on it.
type shard struct {
	epoch     int8
	closed    bool
	units     [maxItems]int8 // available
	hold      [maxOrders]uint8
	noted     [maxOrders]bool // nobody touched the hold since the sweeper's note
	restocked uint8           // the ids of restocks that are known in this epoch, a bit each
}

// books is the database. A restore takes it back as a whole.
type books struct {
	epoch [maxShards]int8  // the shard's
	next  [maxShards]int8  // the last epoch given out
	done  uint8            // the position: records whose transactions are committed, a bit each
	row   [maxOrders]uint8 //
	box   [maxOrders]uint8 // outbox: how the hold ends, holdVoid or holdSold
	total [maxItems]int8   //
	moved uint8            // the unit of a move
	stock uint8            // the restock: 1 committed with an outbox row, 2 that row is gone
}

// attempt is one request to buy.
type attempt struct {
	at    uint8
	epoch int8
	old   bool  // it had its hold before the sweeper's note
	page  uint8 // the attempts of the page that is on its way; the first of them carries it
}

// record is a page in the log. All its orders are of one shard.
type record struct {
	orders uint8
	epoch  int8
}

// message is one to Redis that arrives late. Its kind is how the hold becomes, or restock.
type message struct {
	kind         uint8
	order, epoch int8
}

// To the kinds restock and restockMove the number of the item or order is added.
const restock, restockMove = 100, 101

// kindName is a kind of message in words.
func kindName(kind uint8) string {
	switch kind {
	case restock:
		return "restock, not of"
	case restockMove:
		return "restock by the move"
	case holdOrdered:
		return "confirm"
	case holdVoid:
		return "settle as void"
	case holdSold:
		return "settle as sold"
	}
	return ""
}

// sweep is a sweeper's work on one hold: 1 doomed (and replicated), 2 its barrier is written.
type sweep struct {
	stage      uint8
	epoch, end int8
	early      bool // without a barrier rule: in stage 1, and its barrier is written
}

// rebuild is a rebuilder's work: 1 it has an epoch, 2 closed (and replicated), 3 its barrier is
// written, 4 half of the fence is done (-twostep), 5 fenced and the snapshot is taken.
type rebuild struct {
	stage      uint8
	epoch, end int8
	early      bool // without a barrier rule: in stage 2, and its barrier is written
	units      [maxItems]int8
	hold       [maxOrders]uint8
}

type state struct {
	redis   [maxShards]shard
	other   [maxShards]shard // the replica; in a split the old primary, which doesn't know of the failover
	split   [maxShards]bool
	suspect [maxShards]bool // a rebuild was requested
	db      books
	backup  books
	kept    bool // there is a backup

	attempts [maxAttempts]attempt
	log      [maxAttempts]record
	logged   int8
	late     [maxLate]message
	desk     message // a desk that cancels has seen the hold of an order without a row
	sweeps   [maxWorkers][maxOrders]sweep
	rebuilds [maxWorkers]rebuild

	offsets uint8           // with noposition: the position, kept outside of the database
	cursor  int8            // with nocas: the position that a worker has in memory
	begun   [maxShards]int8 // with noshardlock: the epochs that a worker's transaction has read

	// No part of the system knows these.
	promised     uint8           // orders that were answered 202
	falseSoldOut bool            // sold-out was told while a unit was available
	gone         uint8           // orders of which the log lost a record
	lossy        [maxShards]bool // a failover forgot writes, and no rebuild came since
	lost         bool            // a store lost what it had acknowledged: promises may be rejected
	ever         [maxShards]int8 // the highest epoch ever given out
	used         [numFaults]uint8
}

// shardOf returns where an item lives, home where an order does.
func (w *walk) shardOf(item int) int { return item % w.Shards }
func (w *walk) home(o int) int       { return w.Orders[o].Item % w.Shards }

// recordHome returns the shard of a record.
func (w *walk) recordHome(r record) int { return w.home(bits.TrailingZeros8(r.orders)) }

func (s *state) live(a int) bool { return s.attempts[a].at == putting || s.attempts[a].at == acked }

// mayPromise reports whether an attempt may still be answered 202. The shop has no deadline: its
// changes may be committed at any time.
func (w *walk) mayPromise(s *state, a int) bool {
	return s.live(a) && !w.byShop(w.Attempts[a])
}

// usable reports whether the shard takes a call of this epoch.
func (w *walk) usable(h *shard, epoch int8) bool {
	return h.epoch > 0 && !h.closed && (h.epoch == epoch || w.without("noepoch"))
}

// sold counts the units of an item that orders have; claimed counts those of parked rows, too.
func (w *walk) sold(b *books, item int) (n int8) {
	for o := range w.Orders {
		if w.Orders[o].Item == item && taken(b.row[o]) {
			n++
		}
	}
	return n
}

func (w *walk) claimed(b *books, item int) (n int8) {
	for o := range w.Orders {
		if w.Orders[o].Item == item && b.row[o] == rowParked {
			n++
		}
	}
	return n + w.sold(b, item)
}

// limited reports whether the buyer of o has another order of the item, by what has(order) says.
func (w *walk) limited(o int, has func(o int) bool) bool {
	for p := range w.Orders {
		if p != o && w.Orders[p] == w.Orders[o] && has(p) {
			return true
		}
	}
	return false
}

func taken(row uint8) bool { return row == rowOpen || row == rowPaid }

// asHold is how a row looks in Redis after a rebuild.
func (w *walk) asHold(b *books, o int) uint8 {
	if w.unsettled(b, o) {
		return holdOrdered
	}
	return [...]uint8{holdNone, holdOrdered, holdSold, holdVoid, holdVoid, holdVoid, holdOrdered, holdSold}[b.row[o]]
}

// position is the set of records that count as read. By the rule it is in the database.
func (w *walk) position(s *state) *uint8 {
	if w.without("noposition") {
		return &s.offsets
	}
	return &s.db.done
}

// passed reports whether the workers' position has passed a barrier.
func (w *walk) passed(s *state, end int8) bool {
	all := uint8(1)<<end - 1
	return *w.position(s)&all == all
}

// confirm, settle and addStock are the scripts that change a hold, or the units.
func (w *walk) confirm(h *shard, o int) {
	switch h.hold[o] {
	case holdNone: // Redis forgot it
		h.units[w.Orders[o].Item]--
		h.hold[o] = holdOrdered
	case holdFresh, holdDoomed:
		h.hold[o], h.noted[o] = holdOrdered, false
	}
}

func (w *walk) settle(h *shard, o int, kind uint8) {
	switch was := h.hold[o]; {
	case was == holdNone: // nothing comes back, the marker stays
		h.hold[o] = kind
	case was < holdVoid:
		h.hold[o], h.noted[o] = kind, false
		if kind == holdVoid {
			h.units[w.Orders[o].Item]++
		}
		if kind == holdVoid && w.without("nomarker") {
			h.hold[o] = holdNone
		}
	}
}

func (w *walk) addStock(h *shard, item int, id uint8) {
	bit := uint8(1) << (id - restock)
	if h.restocked&bit == 0 || w.without("nodedupe") {
		h.units[item]++
	}
	h.restocked |= bit
}

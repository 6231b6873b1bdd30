package desk

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/list"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// seat is a purchase in a line and then in a flight. Its answer is verdict or err. The part that
// answers it also wakes it.
type seat struct {
	// Fixed while the purchase waits.
	offer    seckill.Offer
	claim    inventory.Claim
	caller   seckill.CallerRef
	request  string
	trace    string
	arrived  time.Time
	startBy  time.Duration    // when it leaves the line at the latest, since the desk was made
	answerBy time.Duration    // when its outcome is unknown
	done     chan struct{}    // capacity 1
	links    list.Links[seat] // in its queue; guarded by the line's mu

	// The answer.
	verdict inventory.Verdict
	ref     inventory.Ref
	seq     uint64
	err     error
	timeout bool // answered by its flight's timer, and the flight may still refer to it; guarded by the flight's mu
}

// Links has the seat's place in its queue (see list.Element).
func (s *seat) Links() *list.Links[seat] { return &s.links }

// wake hands the answer to the purchase. The seat belongs to the purchase from then on.
func (s *seat) wake() { s.done <- struct{}{} }

// shardQueue has the waiting purchases of one shard, the longest waiting first. The line's mu
// guards it.
type shardQueue struct {
	list.List[seat, *seat]
	shard  inventory.ShardID
	listed bool // among the line's active queues
	limit  int  // how many purchases of the shard one round takes
}

// expire moves purchases that have waited for too long to the end of out.
func (q *shardQueue) expire(now time.Duration, out []*seat) []*seat {
	for s := q.First(); s != nil && now >= s.startBy; s = q.First() {
		q.Remove(s)
		out = append(out, s)
	}
	return out
}

// take moves up to n purchases to the end of out: all of them, or the newest where more wait. The
// oldest are about to time out: a round of them would be too late for all (L7).
func (q *shardQueue) take(n int, out []*seat) []*seat {
	s := q.Last()
	for range min(n, q.Len()) - 1 {
		s = q.Prev(s)
	}
	for s != nil {
		next := q.Next(s)
		q.Remove(s)
		out = append(out, s)
		s = next
	}
	return out
}

// line has the purchases that wait for one lane, a node of the stock. One goroutine serves it while
// purchases wait: round after round, each with the holds of all shards with waiting purchases.
type line struct {
	desk *Desk

	landed  chan struct{} // capacity 1: a page was acknowledged since the last look
	putting atomic.Int64  // purchases whose pages are on their way

	// Used by the serving goroutine alone.
	pause   *time.Timer // of gather
	flying  []*flight
	calls   []*inventory.HoldCall
	expired []*seat
	rest    []*seat

	mu       sync.Mutex // guards the rest
	queues   []*shardQueue
	active   []*shardQueue // shards with waiting purchases; the first one is served first
	spare    []*shardQueue
	waiting  int
	serving  bool
	closed   bool
	timer    *time.Timer
	wakes    time.Duration // when timer goes off; never when it is not set
	rounds   uint64
	taken    uint64
	timeouts uint64
	refused  uint64
}

// never is later than any time since a desk was made.
const never = time.Duration(math.MaxInt64)

// LineStats is a line at one moment. All but Waiting only grow.
type LineStats struct {
	Waiting int    // purchases in the line
	Rounds  uint64 // rounds begun
	Taken   uint64 // purchases of these rounds
	Expired uint64 // purchases that left the line because they had waited for too long
	Refused uint64 // purchases refused because the line was full
}

func newLine(d *Desk) *line {
	l := &line{
		desk: d, landed: make(chan struct{}, 1), pause: time.NewTimer(gatherTime),
		queues: make([]*shardQueue, d.cfg.Shards), wakes: never,
	}
	l.pause.Stop()
	return l
}

func (l *line) stats() LineStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LineStats{Waiting: l.waiting, Rounds: l.rounds, Taken: l.taken, Expired: l.timeouts, Refused: l.refused}
}

// roundPages bounds a round: the purchases of so many full pages.
const roundPages = 8

// join puts the purchase into the queue of its shard, or answers why not. A full line is fair among
// its shards: a shard with more than its part makes room for one with less.
func (l *line) join(s *seat, shard inventory.ShardID) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosing
	}
	q := l.queue(shard)
	var out *seat
	if l.waiting >= l.desk.cfg.Queue {
		l.refused++
		if out = l.makeRoom(q); out == nil {
			l.mu.Unlock()
			return errLineFull
		}
	}
	q.Push(s)
	l.waiting++
	if !q.listed {
		q.listed = true
		l.active = append(l.active, q)
	}
	if s.startBy < l.wakes {
		l.setTimer(s.startBy)
	}
	begin := !l.serving
	if begin {
		l.serving = true
		l.desk.rounds.Add(1)
	}
	l.mu.Unlock()
	if begin {
		go l.serve()
	}
	if out != nil {
		l.desk.fail(out, errLineFull)
	}
	return nil
}

// queue returns the queue of a shard. l.mu is held.
func (l *line) queue(shard inventory.ShardID) *shardQueue {
	if l.queues[shard] == nil {
		l.queues[shard] = &shardQueue{shard: shard, limit: min(l.desk.cfg.BatchCap, seckill.MaxPage)}
	}
	return l.queues[shard]
}

// makeRoom takes the longest waiting purchase out of the longest queue, if q has less than its part
// of the line. l.mu is held.
func (l *line) makeRoom(q *shardQueue) *seat {
	longest, sharing := q, len(l.active)
	if !q.listed {
		sharing++
	}
	for _, other := range l.active {
		if other.Len() > longest.Len() {
			longest = other
		}
	}
	if longest == q || q.Len() >= l.desk.cfg.Queue/sharing {
		return nil
	}
	s := longest.First()
	longest.Remove(s)
	l.waiting--
	return s
}

// setTimer makes the timer go off at a time. l.mu is held.
func (l *line) setTimer(at time.Duration) {
	l.wakes = at
	if l.timer == nil {
		l.timer = time.AfterFunc(at-l.desk.now(), l.expire)
		return
	}
	l.timer.Reset(at - l.desk.now())
}

// expire runs when the timer goes off: it fails the purchases that waited too long, and sets the
// timer for the next one.
func (l *line) expire() {
	now := l.desk.now()
	next := never
	var expired []*seat
	l.mu.Lock()
	for _, q := range l.active {
		expired = q.expire(now, expired)
		if s := q.First(); s != nil {
			next = min(next, s.startBy)
		}
	}
	if l.wakes = next; next < never {
		l.setTimer(next)
	}
	l.waiting -= len(expired)
	l.timeouts += uint64(len(expired))
	l.mu.Unlock()
	for _, s := range expired {
		l.desk.fail(s, errTooLong)
	}
}

// serve makes rounds until no purchase waits.
func (l *line) serve() {
	defer l.desk.rounds.Done()
	for {
		l.gather()
		if !l.take() {
			return
		}
		l.hold()
	}
}

// gatherTime is the longest that a round is put off.
const gatherTime = 2 * time.Millisecond

// gather puts the next round off while few purchases wait for it: fewer than half of those whose
// pages are on their way. What a round and a page cost hardly depends on how many are in them, so
// that rounds which overlap would each be small. The round begins when pages have landed, and after
// gatherTime in any case: a page that stalls delays the others by that and no more (L10).
func (l *line) gather() {
	late := false
	for begun := false; !late && l.few(); begun = true {
		if !begun {
			l.pause.Reset(gatherTime)
		}
		select {
		case <-l.landed:
		case <-l.pause.C:
			late = true
		}
	}
	l.pause.Stop()
}

// few reports whether there are waiting purchases, but few compared with those whose pages are on
// their way.
func (l *line) few() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting > 0 && 2*int64(l.waiting) < l.putting.Load()
}

// land notes that the page of so many purchases is not on its way any more.
func (l *line) land(purchases int) {
	l.putting.Add(int64(-purchases))
	select {
	case l.landed <- struct{}{}:
	default: // it is noted already
	}
}

// take moves waiting purchases into flights, one for each shard, and reports whether there are any.
// Shards that had no place in this round come first in the next.
func (l *line) take() bool {
	now := l.desk.now()
	l.flying, l.expired = l.flying[:0], l.expired[:0]
	l.mu.Lock()
	room := roundPages * min(l.desk.cfg.BatchCap, seckill.MaxPage)
	again := l.spare[:0]
	i := 0
	for ; i < len(l.active) && room > 0; i++ {
		q := l.active[i]
		l.expired = q.expire(now, l.expired)
		if q.Len() > 0 {
			f := l.desk.flights.Get().(*flight)
			f.line, f.queue, f.seats = l, q, q.take(min(q.limit, room), f.seats)
			room -= len(f.seats)
			l.waiting -= len(f.seats)
			l.taken += uint64(len(f.seats))
			l.flying = append(l.flying, f)
		}
		if q.Len() > 0 {
			again = append(again, q)
		} else {
			q.listed = false
		}
	}
	rest := copy(l.active, l.active[i:])
	l.active = append(l.active[:rest], again...)
	l.spare = again
	l.waiting -= len(l.expired)
	l.timeouts += uint64(len(l.expired))
	serving, expired := len(l.flying) > 0, l.expired
	if l.serving = serving; serving {
		l.rounds++
	} else {
		l.expired = nil // another goroutine may serve from now on
	}
	l.mu.Unlock()
	for i, s := range expired {
		l.desk.fail(s, errTooLong)
		expired[i] = nil
	}
	return serving
}

// hold asks for the holds of a round, all in one write, and sends the flights on their way.
func (l *line) hold() {
	l.calls = l.calls[:0]
	began := l.desk.now()
	for _, f := range l.flying {
		if f.board(began) {
			l.calls = append(l.calls, &f.call)
		}
	}
	if len(l.calls) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), l.desk.cfg.AcceptDeadline)
		l.desk.stock.Hold(ctx, l.calls)
		cancel()
	}
	l.pace(l.desk.now() - began)
	for _, f := range l.flying {
		l.rest = f.held(l.rest)
	}
	for _, s := range l.rest {
		s.wake()
	}
	clear(l.rest)
	clear(l.flying)
	clear(l.calls)
	l.rest = l.rest[:0]
}

// pace keeps a round short. If holds take so long that the round's purchases would be too late, it
// makes rounds smaller. Gateways share a node's time in proportion to the size of their rounds.
func (l *line) pace(took time.Duration) {
	const least = 8
	startBy, most := l.desk.cfg.StartBy(), min(l.desk.cfg.BatchCap, seckill.MaxPage)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flying {
		switch q := f.queue; {
		case took > startBy/2:
			q.limit = max(min(q.limit, len(f.seats))/2, min(least, most))
		case took < startBy/4:
			q.limit = min(2*q.limit, most)
		}
	}
}

// close fails the purchases in the line and refuses later ones.
func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	var rest []*seat
	for _, q := range l.active {
		rest = q.take(q.Len(), rest)
		q.listed = false
	}
	l.active = l.active[:0]
	l.waiting = 0
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	for _, s := range rest {
		l.desk.fail(s, errClosing)
	}
}

// fail answers a purchase that was in no hold call: nothing happened.
func (d *Desk) fail(s *seat, err error) {
	d.queue.Release(1)
	s.err = err
	s.wake()
}

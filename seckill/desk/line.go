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
	startBy  time.Duration    // when it leaves the line at the latest, measured from the making of the desk
	answerBy time.Duration    // when its outcome is unknown
	done     chan struct{}    // capacity 1
	links    list.Links[seat] // its place in its queue; guarded by the line's mu

	// The answer.
	verdict inventory.Verdict
	ref     inventory.Ref
	seq     uint64
	err     error
	timeout bool // answered by its flight's timer, so the flight may still refer to it; guarded by the flight's mu
}

// Links has the seat's place in its queue (see list.Element).
func (s *seat) Links() *list.Links[seat] { return &s.links }

// wake gives the answer to the purchase. From then on, the seat belongs to the purchase.
func (s *seat) wake() { s.done <- struct{}{} }

// shardQueue has the waiting purchases of one shard, the longest waiting first. The line's mu
// guards it.
type shardQueue struct {
	list.List[seat, *seat]
	shard  inventory.ShardID
	listed bool // it is among the line's active queues
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

// take moves up to n purchases to the end of out. If more are waiting, it takes the newest. The
// oldest are about to time out: in a round of the oldest, all answers would be too late (L7).
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

// line has the purchases that wait for one lane, a node of the stock. While purchases wait, one
// goroutine serves it in rounds. A round asks for holds on all shards that have waiting purchases.
type line struct {
	desk *Desk

	landed  chan struct{} // capacity 1: gets a value when a page was acknowledged
	putting atomic.Int64  // purchases whose pages are on their way

	// Used only by the serving goroutine.
	pause   *time.Timer // the timer of gather
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
	wakes    time.Duration // when the timer goes off; `never` if it is not set
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
	Rounds  uint64 // rounds that were begun
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

// roundPages bounds a round: it takes at most the purchases of this many full pages.
const roundPages = 8

// join puts the purchase into the queue of its shard, or refuses it. A full line is fair to its
// shards: a shard with more than its part of the line gives a place to a shard with less.
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

// queue returns the queue of a shard. The caller holds l.mu.
func (l *line) queue(shard inventory.ShardID) *shardQueue {
	if l.queues[shard] == nil {
		l.queues[shard] = &shardQueue{shard: shard, limit: min(l.desk.cfg.BatchCap, seckill.MaxPage)}
	}
	return l.queues[shard]
}

// makeRoom takes the longest waiting purchase out of the longest queue, if q has less than its part
// of the line. The caller holds l.mu.
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

// setTimer sets the timer to a time. The caller holds l.mu.
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

// gatherTime is the longest time by which a round is delayed.
const gatherTime = 2 * time.Millisecond

// gather delays the next round while few purchases wait for it: fewer than half of those whose
// pages are on their way. A round and a page cost almost the same with few purchases as with many,
// and rounds that overlap would all be small. The round begins when pages have been acknowledged,
// or after gatherTime at the latest. So a page that stalls delays the others by no more than that
// (L10).
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

// few reports whether some purchases wait, but only few compared with those whose pages are on
// their way.
func (l *line) few() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting > 0 && 2*int64(l.waiting) < l.putting.Load()
}

// land records that a page with this many purchases is no longer on its way.
func (l *line) land(purchases int) {
	l.putting.Add(int64(-purchases))
	select {
	case l.landed <- struct{}{}:
	default: // a value is there already
	}
}

// take moves waiting purchases into flights, one for each shard, and reports whether there are any.
// Shards that got no place in this round come first in the next one.
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
		l.expired = nil // another goroutine may serve the line from now on
	}
	l.mu.Unlock()
	for i, s := range expired {
		l.desk.fail(s, errTooLong)
		expired[i] = nil
	}
	return serving
}

// hold asks for the holds of a round in one write, and then sends the flights on their way.
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

// pace keeps a round short. If the holds take so long that purchases would be answered too late,
// pace makes the rounds smaller. Gateways share a node's time in proportion to the size of their
// rounds.
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

// fail answers a purchase that was in no hold call, so nothing happened.
func (d *Desk) fail(s *seat, err error) {
	d.queue.Release(1)
	s.err = err
	s.wake()
}

package kafka

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/internal/list"
)

// health is the state of a partition. Puts go to the healthiest ones.
type health int32

// The healths. Slow means that a record waits for too long, or that the last acknowledgement took
// too long. Down means that there is no leader, that a record failed and none was acknowledged
// since, or that a record waits much too long.
const (
	well health = iota
	slow
	down
)

// String returns the health's name.
func (h health) String() string { return [...]string{"well", "slow", "down"}[h] }

// lane is the way to one partition: by the shared client, or by its own (carrier). Its own client
// is replaced after it failed a record or kept one for too long.
type lane struct {
	// Fixed.
	q         *Queue
	partition int32
	own       carrier

	mu      sync.Mutex
	flying  list.List[page, *page] // guarded by mu: records in flight, oldest first
	leader  int32                  // -1 if there is none; guarded by mu
	err     error                  // why a record failed, if none was acknowledged since; guarded by mu
	missing error                  // why there is no leader; guarded by mu
	shown   health                 // the state that was reported last; guarded by mu
	since   time.Time              // since when; guarded by mu
	probed  time.Duration          // when the last probe was sent, on the queue's clock; guarded by mu

	isDown        atomic.Bool  // err or missing is set
	isLate        atomic.Bool  // the last acknowledgement took too long
	oldest        atomic.Int64 // when the oldest record in flight was put, on the queue's clock; 0 if there is none
	acked, failed atomic.Int64
}

// page is a record on its way.
type page struct {
	record kgo.Record
	lane   *lane
	sender *sender
	shared bool          // sender belongs to the shared carrier
	at     time.Duration // when it was put, on the queue's clock
	slots  int           // 0 for a marker
	done   func(error)
	links  list.Links[page]
}

// Links has the page's place in its lane (see list.Element).
func (p *page) Links() *list.Links[page] { return &p.links }

func newLane(q *Queue, partition int32) *lane {
	l := &lane{q: q, partition: partition, own: carrier{q: q}, leader: -1, since: time.Now()}
	l.missing = errors.New("its leader isn't known yet")
	l.isDown.Store(true)
	return l
}

// health returns the current health of the lane.
func (l *lane) health(now time.Duration) health {
	if l.isDown.Load() {
		return down
	}
	oldest := time.Duration(l.oldest.Load())
	stall := l.q.cfg.StallAfter
	switch waits := oldest != 0 && now-oldest > stall; {
	case waits && now-oldest > 4*stall:
		return down
	case waits || l.isLate.Load():
		return slow
	}
	return well
}

// put sends a page. Its done is called later, or at once if the lane is closed.
func (l *lane) put(p *page) {
	p.lane = l
	p.record.Topic = l.q.cfg.Topic
	p.record.Partition = l.partition
	p.at = l.q.clock()
	l.q.inFlight.Add(1)
	l.send(p)
}

// send hands a page to the client.
func (l *lane) send(p *page) {
	c := &l.q.shared
	if p.shared = !l.q.apart.Load(); !p.shared {
		c = &l.own
	}
	s, err := c.acquire()
	if err != nil {
		l.q.finish(p, err)
		l.q.landed()
		return
	}
	defer c.use.RUnlock()
	p.sender = s
	s.pages.Add(1)
	l.add(p)
	// The context must not be a caller's: when the context of a partition's first record ends, the
	// client fails all records of the partition. Callers watch their own deadlines.
	s.client.TryProduce(context.Background(), &p.record, p.landed)
}

// add records that a page is in flight, after the earlier ones.
func (l *lane) add(p *page) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.flying.Last()
	for before != nil && before.at > p.at { // p was put earlier, by the shared client
		before = l.flying.Prev(before)
	}
	l.flying.Insert(p, before)
	if before == nil {
		l.oldest.Store(int64(p.at))
	}
}

// remove takes a page out of the list. The caller must hold mu.
func (l *lane) remove(p *page) {
	l.flying.Remove(p)
	if first := l.flying.First(); first == nil {
		l.oldest.Store(0)
	} else {
		l.oldest.Store(int64(first.at))
	}
}

// landed is called by the client when the outcome of a page is known.
func (p *page) landed(_ *kgo.Record, err error) {
	l, waited := p.lane, p.lane.q.clock()-p.at
	p.sender.pages.Add(-1)
	again := errors.Is(err, kgo.ErrClientClosed) && p.goesOn(waited)
	l.mu.Lock()
	l.remove(p)
	if again {
		l.mu.Unlock()
		p.record = kgo.Record{Topic: p.record.Topic, Partition: p.record.Partition, Value: p.record.Value}
		l.send(p)
		return
	}
	if errors.Is(err, kgo.ErrClientClosed) {
		err = l.closedError()
	}
	sick := err != nil && Classify(err) != ClassRefused && !errors.Is(err, ErrClosed)
	switch {
	case err == nil:
		l.err, l.missing = nil, nil
		l.isLate.Store(waited > l.q.cfg.StallAfter)
	case sick:
		l.err = err
	}
	l.isDown.Store(l.err != nil || l.missing != nil)
	l.mu.Unlock()
	if err == nil {
		l.acked.Add(1)
	} else {
		l.failed.Add(1)
	}
	if sick {
		if p.shared {
			l.q.split(p.sender)
		} else {
			l.own.retire(p.sender)
		}
		if otherTopic(err) {
			l.q.lookNow()
		}
	}
	l.observe()
	l.q.finish(p, err)
	l.q.landed()
}

// goesOn reports whether a page of a closed client is sent again by the partition's own client,
// because the client was closed for another partition's sake. The page may then be written twice,
// which is harmless. A marker fails instead, because its writer writes another round.
func (p *page) goesOn(waited time.Duration) bool {
	return p.sender.split.Load() && p.slots > 0 && waited < p.lane.q.cfg.DeliveryTimeout && !p.lane.q.closed.Load()
}

// closedError says why a client was closed while it had a record. The caller must hold mu.
func (l *lane) closedError() error {
	switch {
	case l.q.closed.Load():
		return ErrClosed
	case l.err != nil:
		return l.err
	}
	return ErrTimeout
}

// expire splits the shared client if a record of the lane stalls. On the lane's own client it fails
// records that wait too long. The client can't take back sent records, so it is closed for that.
func (l *lane) expire(now, timeout time.Duration) {
	l.mu.Lock()
	first := l.flying.First()
	if first == nil {
		l.mu.Unlock()
		return
	}
	s, shared, waits := first.sender, first.shared, now-first.at
	late := !shared && waits >= timeout
	if late {
		if l.err == nil {
			l.err = ErrTimeout
		}
		l.isDown.Store(true)
	}
	l.mu.Unlock()
	switch {
	case shared && waits > l.q.cfg.StallAfter:
		l.q.split(s)
	case late:
		l.own.retire(s)
	}
}

// led records the partition's leader, as the cluster reports it.
func (l *lane) led(leader int32, missing error) {
	l.mu.Lock()
	l.leader = leader
	if leader < 0 && missing == nil {
		missing = errors.New("it has no leader")
	}
	l.missing = missing
	l.isDown.Store(l.err != nil || l.missing != nil)
	l.mu.Unlock()
	l.observe()
}

// wantsProbe reports whether only an attempt can show that the lane is healthy, and no attempt is
// in progress.
func (l *lane) wantsProbe(now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	sick := l.err != nil || l.isLate.Load()
	if !sick || l.missing != nil || l.flying.Len() > 0 || now-l.probed < probeEvery {
		return false
	}
	l.probed = now
	return true
}

// observe logs a change of the lane's health.
func (l *lane) observe() {
	l.mu.Lock()
	h := l.health(l.q.clock())
	changed := h != l.shown
	if changed {
		l.shown, l.since = h, time.Now()
	}
	err := l.reason()
	l.mu.Unlock()
	if !changed {
		return
	}
	l.q.judge()
	if h == well {
		l.q.cfg.Logger.Info("a partition takes records again", "partition", l.partition)
	} else {
		l.q.cfg.Logger.Warn("a partition doesn't take records as it should, so others are used", "partition", l.partition,
			"health", h.String(), "err", err)
	}
}

// reason says why the lane isn't healthy. The caller must hold mu.
func (l *lane) reason() error {
	switch {
	case l.missing != nil:
		return l.missing
	case l.err != nil:
		return l.err
	case l.isLate.Load(), l.flying.Len() > 0 && l.shown != well:
		return errSlow
	}
	return nil
}

// errSlow is the reason of a slow partition.
var errSlow = errors.New("records wait for their acknowledgement")

// probeEvery is how often a partition is tried after its last record failed, or took too long.
const probeEvery = time.Second

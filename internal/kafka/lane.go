package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// health is what is known of a partition. Puts go to the healthiest ones.
type health int32

// The healths. Slow is a record that waits for too long, or did when it was acknowledged last. Down
// is no leader, a record that failed and none acknowledged since, or one that waits for very much
// too long.
const (
	well health = iota
	slow
	down
)

// String returns the health's name.
func (h health) String() string { return [...]string{"well", "slow", "down"}[h] }

// lane is the way to one partition. It has a client of its own: a broker answers the requests of a
// connection one after another, so that a partition that waits for its replicas would hold up the
// records of all others on the connection. A client that failed a record, or kept one for too long,
// is replaced. So a sick partition costs its own records and nothing else (L10).
type lane struct {
	// Fixed.
	q         *Queue
	partition int32

	// use is held for reading while a record is handed to the client, so that none reaches a closed
	// one.
	use    sync.RWMutex
	client *kgo.Client // guarded by use; nil until the first record
	closed bool        // guarded by use

	mu          sync.Mutex
	first, last *page         // guarded by mu: records in flight, oldest first
	inFlight    int           // guarded by mu
	leader      int32         // guarded by mu: -1 where there is none
	err         error         // guarded by mu: why a record failed, while none is acknowledged since
	missing     error         // guarded by mu: why there is no leader
	shown       health        // guarded by mu: as it was told last
	since       time.Time     // guarded by mu: since when
	probed      time.Duration // guarded by mu: when the last probe was sent, on the queue's clock

	isDown        atomic.Bool  // err or missing is set
	isLate        atomic.Bool  // the last acknowledgement took too long
	oldest        atomic.Int64 // when the oldest record in flight was put, on the queue's clock; 0: none
	acked, failed atomic.Int64
}

// page is a record on its way.
type page struct {
	record     kgo.Record
	lane       *lane
	client     *kgo.Client
	at         time.Duration // on the queue's clock
	slots      int           // 0 for a marker
	done       func(error)
	prev, next *page
}

func newLane(q *Queue, partition int32) *lane {
	l := &lane{q: q, partition: partition, leader: -1, since: time.Now()}
	l.missing = errors.New("its leader isn't known yet")
	l.isDown.Store(true)
	return l
}

// health looks at the lane as it is now.
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

// put sends a page. Its done is called later, or at once where the lane is closed.
func (l *lane) put(p *page) {
	p.lane = l
	p.record.Topic = l.q.cfg.Topic
	p.record.Partition = l.partition
	err := l.acquire()
	if err != nil {
		l.q.finish(p, err)
		return
	}
	defer l.use.RUnlock()
	p.client = l.client
	p.at = l.q.clock()
	l.q.inFlight.Add(1)
	l.add(p)
	// The context is nobody's: the client fails all records of a partition when the first one's
	// context ends, and the caller's deadline is the caller's own business.
	l.client.TryProduce(context.Background(), &p.record, p.landed)
}

// acquire makes the client if need be, and returns with use held for reading unless it returns an
// error.
func (l *lane) acquire() error {
	for {
		l.use.RLock()
		if l.client != nil {
			return nil
		}
		l.use.RUnlock()
		if err := l.connect(); err != nil {
			return err
		}
	}
}

func (l *lane) connect() error {
	l.use.Lock()
	defer l.use.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.client != nil {
		return nil
	}
	client, err := kgo.NewClient(append(l.q.cfg.clientOptions(), l.q.producerOptions()...)...)
	if err != nil {
		return fmt.Errorf("kafka: make a producer for partition %d: %w", l.partition, err)
	}
	l.client = client
	return nil
}

// retire replaces a client; nil is whatever client there is. What it has in flight fails.
func (l *lane) retire(client *kgo.Client) {
	l.use.Lock()
	old := l.client
	if old == nil || client != nil && client != old {
		l.use.Unlock()
		return
	}
	l.client = nil
	l.use.Unlock()
	l.q.retired.Go(old.Close)
}

// close ends the lane for good. Records in flight fail.
func (l *lane) close() {
	l.use.Lock()
	l.closed = true
	l.use.Unlock()
	l.retire(nil)
}

func (l *lane) add(p *page) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.prev = l.last
	if l.last == nil {
		l.first = p
		l.oldest.Store(int64(p.at))
	} else {
		l.last.next = p
	}
	l.last = p
	l.inFlight++
}

// remove must be called with mu held.
func (l *lane) remove(p *page) {
	if p.prev == nil {
		l.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.prev, p.next = nil, nil
	l.inFlight--
	if l.first == nil {
		l.oldest.Store(0)
	} else {
		l.oldest.Store(int64(l.first.at))
	}
}

// landed is called by the client when the fate of a page is known.
func (p *page) landed(_ *kgo.Record, err error) {
	l := p.lane
	l.mu.Lock()
	l.remove(p)
	if errors.Is(err, kgo.ErrClientClosed) {
		err = l.closedError()
	}
	sick := err != nil && Classify(err) != ClassRefused && !errors.Is(err, ErrClosed)
	switch {
	case err == nil:
		l.err, l.missing = nil, nil
		l.isLate.Store(l.q.clock()-p.at > l.q.cfg.StallAfter)
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
		l.retire(p.client)
		if otherTopic(err) {
			l.q.lookNow()
		}
	}
	l.observe()
	l.q.finish(p, err)
	l.q.landed()
}

// closedError says why a client was closed that still had a record. mu must be held.
func (l *lane) closedError() error {
	switch {
	case l.q.closed.Load():
		return ErrClosed
	case l.err != nil:
		return l.err
	}
	return ErrTimeout
}

// expire fails records that wait for too long. The client can't take back what it has sent, so it
// goes.
func (l *lane) expire(now, timeout time.Duration) {
	l.mu.Lock()
	first := l.first
	if first == nil || now-first.at < timeout {
		l.mu.Unlock()
		return
	}
	if l.err == nil {
		l.err = ErrTimeout
	}
	l.isDown.Store(true)
	client := first.client
	l.mu.Unlock()
	l.retire(client)
}

// led notes what the cluster says of the partition's leader.
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

// wantsProbe reports whether only trying can tell that the lane is well, and nothing is under way
// that tries.
func (l *lane) wantsProbe(now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	sick := l.err != nil || l.isLate.Load()
	if !sick || l.missing != nil || l.inFlight > 0 || now-l.probed < probeEvery {
		return false
	}
	l.probed = now
	return true
}

// observe tells when the lane's health has changed.
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
		l.q.cfg.Logger.Info("a partition takes records", "partition", l.partition)
	} else {
		l.q.cfg.Logger.Warn("a partition takes no records as it should, others are used", "partition", l.partition,
			"health", h.String(), "err", err)
	}
}

// reason says why the lane isn't well. mu must be held.
func (l *lane) reason() error {
	switch {
	case l.missing != nil:
		return l.missing
	case l.err != nil:
		return l.err
	case l.isLate.Load(), l.first != nil && l.shown != well:
		return errSlow
	}
	return nil
}

// errSlow is why a partition is slow.
var errSlow = errors.New("records wait for their acknowledgement")

// probeEvery is how often a partition is tried whose last record failed, or took too long.
const probeEvery = time.Second

package kafka

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// carrier is a client for putting records. It is made when it is needed, and replaced when it can
// no longer be trusted.
//
// The carrier of a queue is shared by all partitions, so that a round of pages is one request to
// each broker. For bad times, each partition also has a carrier of its own. A broker answers the
// requests of a connection in order, and a request only when all its partitions are done. So a
// partition that waits for its replicas delays all that share its client. The first record on the
// shared client that fails, or waits too long, splits it (Queue.split): each partition uses its own
// client, and records of other partitions in flight are sent again there at once. So a sick
// partition costs the others one StallAfter, and no promise (L10). When all partitions have been
// healthy for a while, they share a client again.
type carrier struct {
	q *Queue

	// use is read-locked while a record is given to the client, so that no record gets to a closed
	// client.
	use    sync.RWMutex
	sender *sender // guarded by use; nil until the first record
	closed bool    // guarded by use
}

// sender is a carrier's client for some time.
type sender struct {
	client *kgo.Client
	pages  atomic.Int64 // in flight
	split  atomic.Bool  // it was closed so that the pages in flight are sent by their partitions' own clients
}

// acquire returns the sender, and makes it if needed. Unless it returns an error, use is
// read-locked afterwards.
func (c *carrier) acquire() (*sender, error) {
	for {
		c.use.RLock()
		if c.sender != nil {
			return c.sender, nil
		}
		c.use.RUnlock()
		if err := c.connect(); err != nil {
			return nil, err
		}
	}
}

func (c *carrier) connect() error {
	c.use.Lock()
	defer c.use.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.sender != nil {
		return nil
	}
	client, err := kgo.NewClient(append(c.q.cfg.clientOptions(), c.q.producerOptions()...)...)
	if err != nil {
		return fmt.Errorf("kafka: make a producer: %w", err)
	}
	c.sender = &sender{client: client}
	return nil
}

// retire replaces a sender; nil means the current one. Its records in flight fail, or other clients
// send them after a split.
func (c *carrier) retire(s *sender) {
	c.use.Lock()
	old := c.sender
	if old == nil || s != nil && s != old {
		c.use.Unlock()
		return
	}
	c.sender = nil
	c.use.Unlock()
	c.q.retired.Go(old.client.Close)
}

// current returns the current sender, or nil.
func (c *carrier) current() *sender {
	c.use.RLock()
	defer c.use.RUnlock()
	return c.sender
}

// rest closes a sender that has nothing in flight, because it is not needed at the moment.
func (c *carrier) rest() {
	s := c.current()
	if s == nil {
		return
	}
	c.use.Lock()
	idle := c.sender == s && s.pages.Load() == 0
	if idle {
		c.sender = nil
	}
	c.use.Unlock()
	if idle {
		c.q.retired.Go(s.client.Close)
	}
}

// close ends the carrier. Records in flight fail.
func (c *carrier) close() {
	c.use.Lock()
	c.closed = true
	c.use.Unlock()
	c.retire(nil)
}

// The times after which partitions share a client again, if all have been healthy for so long. The
// time gets longer if they then share it for less than steady.
const (
	firstCalm   = 10 * time.Second
	longestCalm = 5 * time.Minute
	steady      = 10 * time.Minute
)

// sharing is what tendLoop knows about the shared client.
type sharing struct {
	calm   time.Duration // how long all must be healthy before they share again
	since  time.Duration // since when all are healthy, on the queue's clock; 0: they aren't
	joined time.Duration // when they last began to share
}

// split gives every partition its own client, because a record on the shared one has failed or
// waits for too long.
func (q *Queue) split(s *sender) {
	if q.part(s) {
		q.cfg.Logger.Warn("a partition delays the others, so each has its own client now")
	}
}

// part closes a sender of the shared carrier, and reports whether this call did it. Records in
// flight are sent again by clients that are made from now on.
func (q *Queue) part(s *sender) bool {
	if s == nil || s.split.Swap(true) {
		return false
	}
	q.counts.splits.Add(1)
	q.apart.Store(true)
	q.shared.retire(s)
	return true
}

// share lets the partitions use one client again when they have been healthy for long enough, and
// closes clients that aren't needed.
func (q *Queue) share(now time.Duration, lanes []*lane) {
	h := &q.sharing
	if !q.apart.Load() {
		for _, l := range lanes {
			l.own.rest()
		}
		return
	}
	q.shared.rest()
	for _, l := range lanes {
		if l.health(now) != well {
			h.since = 0
			return
		}
	}
	switch {
	case h.since == 0:
		h.since = now
		if h.calm == 0 || now-h.joined > steady {
			h.calm = firstCalm
		} else {
			h.calm = min(2*h.calm, longestCalm)
		}
	case now-h.since >= h.calm:
		h.since, h.joined = 0, now
		q.apart.Store(false)
		q.cfg.Logger.Info("all partitions are healthy, so they share a client again")
	}
}

package kafka

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// carrier is a client for putting. It is made when it is needed, and replaced when it can't be
// trusted any more.
//
// A queue has one that all partitions share, so that a round of pages is one request to each
// broker, and each partition has one of its own for bad times. A broker answers the requests of a
// connection one after another, and a request when all its partitions are done: a partition that
// waits for its replicas holds up all that share its client. So the first record that fails or
// waits for too long on the shared client splits it (Queue.split): each partition takes its own
// client, and what is in flight and isn't that partition's goes on there at once. A sick partition
// costs the others one StallAfter, and no promise (L10). Once all have been well for a while they
// share a client again.
type carrier struct {
	q *Queue

	// use is held for reading while a record is handed to the client, so that none reaches a closed
	// one.
	use    sync.RWMutex
	sender *sender // guarded by use; nil until the first record
	closed bool    // guarded by use
}

// sender is a carrier's client at one time.
type sender struct {
	client *kgo.Client
	pages  atomic.Int64 // in flight
	split  atomic.Bool  // closed so that the pages in flight go on with their partitions' own clients
}

// acquire returns the sender, made if need be, with use held for reading unless it returns an
// error.
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

// retire replaces a sender; nil means the present one. Its records in flight fail, or are sent by
// others after a split.
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

// current returns the sender there is, or nil.
func (c *carrier) current() *sender {
	c.use.RLock()
	defer c.use.RUnlock()
	return c.sender
}

// rest ends a sender that has nothing in flight: it is not needed for now.
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

// The times after which partitions share a client again: they have all been well for so long. It is
// longer each time, while they share it for less than steady.
const (
	firstCalm   = 10 * time.Second
	longestCalm = 5 * time.Minute
	steady      = 10 * time.Minute
)

// sharing is tendLoop's state of the shared client.
type sharing struct {
	calm   time.Duration // how long all must be well before they share again
	since  time.Duration // since when all are well, on the queue's clock; 0: they aren't
	joined time.Duration // when they shared again last
}

// split gives every partition its own client, because a record of the shared one failed or waits
// for too long.
func (q *Queue) split(s *sender) {
	if q.part(s) {
		q.cfg.Logger.Warn("a partition holds up others, each has a client of its own now")
	}
}

// part ends a sender of the shared carrier, and reports whether it was the first to do so. What is
// in flight goes on with clients that are made from now on.
func (q *Queue) part(s *sender) bool {
	if s == nil || s.split.Swap(true) {
		return false
	}
	q.counts.splits.Add(1)
	q.apart.Store(true)
	q.shared.retire(s)
	return true
}

// share lets the partitions use one client again, when they have been well for long enough, and
// ends clients that aren't needed.
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
		q.cfg.Logger.Info("all partitions are well, they share a client again")
	}
}

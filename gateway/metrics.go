package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/gateway/problem"
)

// stripes is how many copies of the counters there are. Each exchange counts in one of them, and
// the pool keeps an exchange with one processor most of the time. So two processors rarely write to
// the same cache line.
const stripes = 32

// successes are the statuses of successful answers, in the order of their counters.
var successes = [...]int{200, 201, 202, 304}

// outcomeCount is the number of different answers: the successes, then the catalogue.
const outcomeCount = len(successes) + maxCodes

// maxCodes is above the number of codes in the catalogue; New checks that.
const maxCodes = 64

// latencyBounds are the upper bounds of the latency histogram's buckets; one more bucket takes the
// rest.
var latencyBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// class is a kind of answer that has a latency histogram of its own: fast refusals from memory
// would otherwise hide the latency of accepted purchases.
type class uint8

const (
	classOK      class = iota // below 400
	classRefused              // 4xx: a decision
	classFailed               // 5xx
	classCount
)

func outcomeClass(status int) class {
	switch {
	case status < 400:
		return classOK
	case status < 500:
		return classRefused
	}
	return classFailed
}

// classNames are the classes as metrics name them.
var classNames = [classCount]string{"ok", "refused", "failed"}

// stripe is one copy of the counters.
type stripe struct {
	answers [routeCount][outcomeCount]atomic.Uint64
	buckets [routeCount][classCount][len(latencyBounds) + 1]atomic.Uint64
	sum     [routeCount][classCount]atomic.Uint64 // nanoseconds
	traffic traffic
	_       [64]byte // keeps the next stripe's first counters off this one's last cache line
}

// counters counts answers without a lock or a shared cache line.
type counters struct {
	codes   map[problem.Code]int // index of an answer's counter
	entries []*problem.Entry
	next    atomic.Uint32
	stripes [stripes]stripe
	since   time.Time
	samples [routeCount][classCount][len(latencyBounds) + 1]sampled

	taking sync.Mutex
	spare  *trafficSpan // guarded by taking
}

// sampleEvery is the shortest time between two exemplars of a bucket.
const sampleEvery = time.Second

// sampled is a recent request of a bucket, to find it in the logs.
type sampled struct {
	next atomic.Int64 // when the next exemplar may be taken, in nanoseconds after counters.since

	mu       sync.Mutex
	exemplar Exemplar // zero if there is none yet; guarded by mu
}

// Exemplar is one request of a histogram's bucket.
type Exemplar struct {
	id   [maxRequestID]byte
	size int
	Took time.Duration
	At   time.Time
}

// RequestID returns the request's id.
func (e *Exemplar) RequestID() string { return string(e.id[:e.size]) }

// sample makes a request the bucket's exemplar, if the present one is old enough. It doesn't
// allocate or block.
func (c *counters) sample(s *sampled, id []byte, took time.Duration, now time.Time) {
	at, next := int64(now.Sub(c.since)), s.next.Load()
	if at < next || !s.next.CompareAndSwap(next, at+int64(sampleEvery)) || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	e := &s.exemplar
	e.size, e.Took, e.At = copy(e.id[:], id), took, now
}

func newCounters() *counters {
	c := &counters{codes: make(map[problem.Code]int), entries: problem.Entries(), since: time.Now()}
	for i, e := range c.entries {
		c.codes[e.Code] = len(successes) + i
	}
	return c
}

// stripe returns the stripe for a new exchange.
func (c *counters) stripe() *stripe { return &c.stripes[c.next.Add(1)%stripes] }

// add counts an answer at now to a request; code is "" for a success.
func (c *counters) add(to *stripe, r routeID, status int, code problem.Code, took time.Duration, id []byte, now time.Time) {
	outcome := 0
	if code != "" {
		outcome = c.codes[code]
	} else {
		for i, s := range successes {
			if s == status {
				outcome = i
			}
		}
	}
	to.answers[r][outcome].Add(1)
	bucket := 0
	for bucket < len(latencyBounds) && took > latencyBounds[bucket] {
		bucket++
	}
	of := outcomeClass(status)
	to.buckets[r][of][bucket].Add(1)
	to.sum[r][of].Add(uint64(max(took, 0)))
	c.sample(&c.samples[r][of][bucket], id, took, now)
}

// Stats are a Server's counters since it was made, and its present gauges.
type Stats struct {
	Routes []RouteStats

	InFlight    int64 // requests being worked on
	MaxInFlight int64
	Waiting     int64 // requests in flight that wait because of Prefer: wait
	MaxWaiting  int64
	Paused      int64 // requests in front of the gate, beside those in flight
	Connections int64 // open, idle ones included
	MaxConns    int64

	RejectedConns uint64 // above MaxConns or the limit of connections from one address: answered 503 and closed
	AcceptPauses  uint64 // failed accepts that were waited out
	Panics        uint64
	LogLeftOut    uint64 // messages that weren't written
	Draining      bool
}

// RouteStats counts the answers of one route.
type RouteStats struct {
	Route   string // the route's name; "none" for paths that match no route
	Answers []Answers
	Latency Histogram // from the request's arrival until its answer was decided
	Classes []ClassStats
}

// ClassStats is the latency of one class of answers. Exemplars has a request for some of the
// buckets.
type ClassStats struct {
	Class     string // ok (below 400), refused (4xx) or failed (5xx)
	Latency   Histogram
	Exemplars []Exemplar
}

// Answers is how often a route gave one answer.
type Answers struct {
	Status int
	Code   string // the problem's code; "" for a success
	Count  uint64
}

// Histogram has one count for each bound, and one more for values above the last bound.
type Histogram struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration
}

// Stats returns the counters. It adds up all stripes, so it is meant for a scrape and not for each
// request. Answers that were never given are left out.
func (s *Server) Stats() Stats {
	out := Stats{
		Routes:        make([]RouteStats, routeCount),
		InFlight:      s.inFlight.Load(),
		MaxInFlight:   int64(s.cfg.MaxInFlight),
		Waiting:       s.waiting.Load(),
		MaxWaiting:    int64(s.cfg.MaxWaiting),
		Paused:        s.paused.Load(),
		Connections:   int64(s.connections()),
		MaxConns:      int64(s.cfg.MaxConnections),
		RejectedConns: s.rejected.Load(),
		AcceptPauses:  s.acceptPauses.Load(),
		Panics:        s.panics.Load(),
		LogLeftOut:    s.quiet.LeftOut(),
		Draining:      s.draining.Load(),
	}
	for r := range out.Routes {
		out.Routes[r] = s.counters.route(routeID(r))
	}
	return out
}

// connections returns how many connections are open.
func (s *Server) connections() int {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

func newHistogram() Histogram {
	return Histogram{Bounds: latencyBounds[:], Counts: make([]uint64, len(latencyBounds)+1)}
}

func (c *counters) class(r routeID, of class) ClassStats {
	out := ClassStats{Class: classNames[of], Latency: newHistogram()}
	var sum uint64
	for i := range c.stripes {
		for j := range out.Latency.Counts {
			out.Latency.Counts[j] += c.stripes[i].buckets[r][of][j].Load()
		}
		sum += c.stripes[i].sum[r][of].Load()
	}
	out.Latency.Sum = time.Duration(sum)
	for j := range c.samples[r][of] {
		s := &c.samples[r][of][j]
		s.mu.Lock()
		if s.exemplar.size > 0 {
			out.Exemplars = append(out.Exemplars, s.exemplar)
		}
		s.mu.Unlock()
	}
	return out
}

func (c *counters) route(r routeID) RouteStats {
	out := RouteStats{Route: routes[r].name, Latency: newHistogram()}
	var answers [outcomeCount]uint64
	for i := range c.stripes {
		for j := range answers {
			answers[j] += c.stripes[i].answers[r][j].Load()
		}
	}
	for of := range classCount {
		s := c.class(r, of)
		for j, n := range s.Latency.Counts {
			out.Latency.Counts[j] += n
		}
		out.Latency.Sum += s.Latency.Sum
		out.Classes = append(out.Classes, s)
	}
	for j, n := range answers {
		switch {
		case n == 0:
		case j < len(successes):
			out.Answers = append(out.Answers, Answers{Status: successes[j], Count: n})
		default:
			e := c.entries[j-len(successes)]
			out.Answers = append(out.Answers, Answers{Status: e.Status, Code: string(e.Code), Count: n})
		}
	}
	return out
}

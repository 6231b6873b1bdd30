package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"penstock/degrade"
	"penstock/gateway/admin"
	"penstock/internal/kafka"
	"penstock/seckill"
)

// breakers stand in front of the three servers, in what buyers wait for. What works in the background has pauses of its own and goes
// past them: it must try until it succeeds.
type breakers struct {
	redis, kafka, database guard
}

func newBreakers(cfg Config, log *slog.Logger) (*breakers, error) {
	var b breakers
	build := func(g *guard, name string, change func(*degrade.BreakerConfig)) (err error) {
		c := degrade.DefaultBreakerConfig(name)
		c.OnChange = func(name string, from, to degrade.BreakerState) {
			log.Warn("circuit breaker", "server", name, "from", from.String(), "to", to.String())
		}
		change(&c)
		c.Slow = min(c.Slow, c.Deadline/2)
		g.slow = c.Slow
		g.breaker, err = degrade.NewBreaker(c)
		return err
	}
	err := errors.Join(
		build(&b.redis, "redis", func(*degrade.BreakerConfig) {}),
		build(&b.kafka, "kafka", func(c *degrade.BreakerConfig) { c.Deadline = cfg.Sale.AcceptDeadline }),
		build(&b.database, "database", func(c *degrade.BreakerConfig) { c.Deadline = cfg.Sale.StoreTimeout }))
	return &b, err
}

// each returns the breakers with their switches.
func (b *breakers) each() map[degrade.Name]*degrade.Breaker {
	return map[degrade.Name]*degrade.Breaker{
		degrade.RedisBreaker: b.redis.breaker, degrade.KafkaBreaker: b.kafka.breaker, degrade.DatabaseBreaker: b.database.breaker,
	}
}

// guard is a breaker that learns of a stall before the calls end: there are few calls, since each is a batch, and each takes its whole
// timeout when the server has stopped.
type guard struct {
	breaker *degrade.Breaker
	slow    time.Duration // from then on a call that hasn't ended counts against the server

	mu      sync.Mutex
	next    uint64               // guarded by mu
	running map[uint64]time.Time // guarded by mu: when the calls began that haven't ended
}

// Do makes a call through the breaker.
func (g *guard) Do(ctx context.Context, call func(context.Context) error) error {
	return g.breaker.Do(ctx, func(ctx context.Context) error {
		defer g.leave(g.enter())
		return call(ctx)
	})
}

func (g *guard) enter() (id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running == nil {
		g.running = make(map[uint64]time.Time)
	}
	g.next++
	g.running[g.next] = time.Now()
	return g.next
}

func (g *guard) leave(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.running, id)
}

// look tells the breaker of a call that takes too long.
func (g *guard) look(now time.Time) {
	g.mu.Lock()
	stalled := false
	for _, began := range g.running {
		stalled = stalled || now.Sub(began) >= g.slow
	}
	g.mu.Unlock()
	if stalled {
		g.breaker.Report(errStalled, 0)
	}
}

// setModes gives the breakers the modes that their switches ask for.
func (b *breakers) setModes(switches *degrade.Controller) {
	for name, breaker := range b.each() {
		breaker.SetMode(switches.BreakerMode(name))
	}
}

// metrics are those of the breakers.
func (b *breakers) metrics() []admin.Sample {
	var out []admin.Sample
	for name, g := range map[string]*guard{"redis": &b.redis, "kafka": &b.kafka, "database": &b.database} {
		s, server := g.breaker.Stats(), admin.Label{Name: "server", Value: name}
		out = append(out,
			gauge("penstock_breaker_state", "State of a circuit breaker: 0 closed, 1 open, 2 half-open.", int64(s.State), server),
			counter("penstock_breaker_calls_total", "Results that a circuit breaker has seen; a call is a batch.", s.Calls, server),
			counter("penstock_breaker_failures_total", "Results that were failures.", s.Failures, server),
			counter("penstock_breaker_slow_total", "Results that were slow.", s.Slow, server),
			counter("penstock_breaker_refused_total", "Calls that a circuit breaker refused.", s.Refused+s.TurnedAway, server),
			counter("penstock_breaker_trips_total", "How often a circuit breaker opened by itself.", s.Trips, server))
	}
	return out
}

// store returns a store whose answers to buyers come through the database's breaker.
func (b *breakers) store(store seckill.Store) seckill.Store { return &guardedStore{store, &b.database} }

type guardedStore struct {
	seckill.Store
	guard *guard
}

// FindOrders implements seckill.Store.
func (s *guardedStore) FindOrders(ctx context.Context, ids []seckill.OrderID) (found []seckill.Order, err error) {
	err = s.guard.Do(ctx, func(ctx context.Context) (err error) {
		found, err = s.Store.FindOrders(ctx, ids)
		return err
	})
	return found, err
}

// Accept implements seckill.Store.
func (s *guardedStore) Accept(ctx context.Context, records []seckill.Record) (accepted []seckill.Acceptance, err error) {
	err = s.guard.Do(ctx, func(ctx context.Context) (err error) {
		accepted, err = s.Store.Accept(ctx, records)
		return err
	})
	return accepted, err
}

// Cancel implements seckill.Store.
func (s *guardedStore) Cancel(ctx context.Context, ids []seckill.OrderID) (moved []seckill.Moved, err error) {
	err = s.guard.Do(ctx, func(ctx context.Context) (err error) {
		moved, err = s.Store.Cancel(ctx, ids)
		return err
	})
	return moved, err
}

// Pay implements seckill.Store.
func (s *guardedStore) Pay(ctx context.Context, payments []seckill.Payment) (results []seckill.PaymentResult, err error) {
	err = s.guard.Do(ctx, func(ctx context.Context) (err error) {
		results, err = s.Store.Pay(ctx, payments)
		return err
	})
	return results, err
}

// queue returns a queue that reserves no slot, so that nothing is held, while Kafka's breaker is open.
func (b *breakers) queue(queue seckill.Queue) seckill.Queue {
	return &guardedQueue{queue, b.kafka.breaker, make(chan degrade.BreakerCall, degrade.DefaultBreakerConfig("kafka").Probes)}
}

// guardedQueue is a queue with a breaker. While that is closed its calls are judged as a whole, by watchServers: a breaker's
// call for each record would be a lock for each buyer. After a pause, the few records that may go are judged one by one.
type guardedQueue struct {
	seckill.Queue
	breaker *degrade.Breaker
	probes  chan degrade.BreakerCall // begun by Reserve; which of the slots that are reserved it goes with doesn't matter
}

// Reserve implements seckill.Queue.
func (q *guardedQueue) Reserve() error {
	if q.breaker.State() == degrade.StateClosed {
		return q.Queue.Reserve()
	}
	call, err := q.breaker.Begin()
	if err != nil {
		return err
	}
	if err := q.Queue.Reserve(); err != nil {
		call.Abandon()
		return err
	}
	select {
	case q.probes <- call:
	default:
		call.Abandon()
	}
	return nil
}

// Release implements seckill.Queue.
func (q *guardedQueue) Release() {
	select {
	case call := <-q.probes:
		call.Abandon()
	default:
	}
	q.Queue.Release()
}

// Put implements seckill.Queue.
func (q *guardedQueue) Put(key seckill.OrderID, value []byte, done func(error)) {
	select {
	case call := <-q.probes:
		q.Queue.Put(key, value, func(err error) {
			call.End(err)
			done(err)
		})
	default:
		q.Queue.Put(key, value, done)
	}
}

// lookEvery is how often the servers are judged by what hasn't ended: often enough to open a breaker within a second and a half of a
// stall.
const lookEvery = 100 * time.Millisecond

var (
	errStalled     = errors.New("calls stall")
	errUndelivered = errors.New("records were not acknowledged")
)

// watchServers tells the breakers how the servers do with what is on its way.
func (p *Process) watchServers(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var seen acknowledgements
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err, busy := seen.judge(p.queue.Stats(), now, p.breakers.kafka.slow); busy {
				p.breakers.kafka.breaker.Report(err, 0)
			}
			p.breakers.redis.look(now)
			p.breakers.database.look(now)
		}
	}
}

// acknowledgements judges a queue by looking at its counters now and then.
type acknowledgements struct {
	over, failed int64   // records at the last look
	looks        []putAt // that may be older than the oldest record on its way, oldest first
}

// putAt is how many records had been put at a time.
type putAt struct {
	put int64
	at  time.Time
}

// judge says how the queue did since the last look; busy is false where there was nothing to do. The age of the oldest record on its
// way is that of the first look that had seen it put, as if records were acknowledged in the order in which they were put: those of
// one partition are, and a partition that stalls alone is its buyers' trouble, not all buyers'.
func (a *acknowledgements) judge(s kafka.Stats, now time.Time, slow time.Duration) (err error, busy bool) {
	over := s.Acked + s.Failed
	if put := over + s.InFlight; len(a.looks) == 0 || put > a.looks[len(a.looks)-1].put {
		a.looks = append(a.looks, putAt{put, now})
	}
	for len(a.looks) > 0 && a.looks[0].put <= over {
		a.looks = a.looks[1:]
	}
	moved, failed := over > a.over, s.Failed > a.failed
	a.over, a.failed = over, s.Failed
	switch {
	case failed:
		return fmt.Errorf("%w: %d in all", errUndelivered, s.Failed), true
	case len(a.looks) > 0 && now.Sub(a.looks[0].at) >= slow:
		return errStalled, true
	}
	return nil, moved
}

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// breakers protect the servers in the calls that buyers wait for: one for each node of the Redis,
// one for Kafka as a whole (the queue itself avoids bad partitions), and two for the database,
// because reads may work while writes don't. Background work doesn't use them: it has its own
// pauses, and must try until it succeeds.
type breakers struct {
	// Fixed after newBreakers.
	log           *slog.Logger
	kafka         *degrade.Breaker
	reads, writes *guard

	mu    sync.Mutex
	redis map[int]*guard      // by lane; guarded by mu
	mode  degrade.BreakerMode // the mode of the Redis breakers; guarded by mu
}

func newBreakers(cfg *Config, log *slog.Logger) (*breakers, error) {
	b := &breakers{log: log, redis: make(map[int]*guard)}
	var errs [3]error
	b.reads, errs[0] = newGuard("database", "reads", cfg.Sale.StoreTimeout, log)
	b.writes, errs[1] = newGuard("database", "writes", cfg.Sale.StoreTimeout, log)
	b.kafka, errs[2] = degrade.NewBreaker(breakerConfig("kafka", "", cfg.Sale.AcceptDeadline, log))
	return b, errors.Join(errs[:]...)
}

// breakerConfig returns the configuration of a breaker for calls that take at most deadline.
func breakerConfig(server, instance string, deadline time.Duration, log *slog.Logger) degrade.BreakerConfig {
	c := degrade.DefaultBreakerConfig(server)
	c.OnChange = func(server string, from, to degrade.BreakerState) {
		log.Warn("circuit breaker", "server", server, "instance", instance, "from", from.String(), "to", to.String())
	}
	if deadline > 0 {
		c.Deadline = deadline
	}
	c.Slow = min(c.Slow, c.Deadline/2)
	// A stalled server has only one or two calls at a time, and each is reported once. Three calls
	// in two and a half deadlines mean that it has stopped; one slow call means nothing.
	c.MinCalls, c.Window = 3, max(c.Window, 4*c.Deadline)
	return c
}

// guardStock is the function for inventory.Config.Guard.
func (b *breakers) guardStock(ctx context.Context, lane int, call func(context.Context) error) error {
	g, err := b.lane(lane)
	if err != nil {
		return err
	}
	return g.Do(ctx, call)
}

// lane returns the guard of a node of the Redis. There are as many lanes as nodes, and never more
// than shards.
func (b *breakers) lane(lane int) (*guard, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.redis[lane]; g != nil {
		return g, nil
	}
	if len(b.redis) >= inventory.MaxShards {
		return nil, errors.New("too many lanes")
	}
	g, err := newGuard("redis", strconv.Itoa(lane), 0, b.log)
	if err != nil {
		return nil, err
	}
	g.breaker.SetMode(b.mode)
	b.redis[lane] = g
	return g, nil
}

// guards returns the guards of the Redis nodes, by lane.
func (b *breakers) guards() map[int]*guard {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[int]*guard, len(b.redis))
	for lane, g := range b.redis {
		all[lane] = g
	}
	return all
}

// setModes gives the breakers the modes that their switches have.
func (b *breakers) setModes(switches *degrade.Controller) {
	b.kafka.SetMode(switches.BreakerMode(degrade.KafkaBreaker))
	b.reads.breaker.SetMode(switches.BreakerMode(degrade.DatabaseBreaker))
	b.writes.breaker.SetMode(switches.BreakerMode(degrade.DatabaseBreaker))
	mode := switches.BreakerMode(degrade.RedisBreaker)
	b.mu.Lock()
	b.mode = mode
	b.mu.Unlock()
	for _, g := range b.guards() {
		g.breaker.SetMode(mode)
	}
}

// lookEvery is how often the servers are judged by calls that haven't ended: often enough to open a
// breaker within one and a half seconds after a server stalls.
const lookEvery = 100 * time.Millisecond

var (
	errStalled     = errors.New("calls stall")
	errUndelivered = errors.New("most records were not acknowledged")
)

// run reports calls and records in flight to the breakers, until ctx ends. Kafka's breaker gets
// reports only while buyers come. Without buyers it would refuse nothing, so it need not open.
func (b *breakers) run(ctx context.Context, queue *kafka.Queue, buyers bool) {
	tick := wait.NewTicker(lookEvery)
	defer tick.Stop()
	var seen acknowledgements
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			tick.Next()
			if buyers {
				partitions := queue.Partitions()
				err, busy := seen.judge(queue.Stats(), partitions)
				if busy || b.kafka.State() != degrade.StateClosed && allWell(partitions) {
					b.kafka.Report(err, 0)
				}
			}
			for _, g := range b.guards() {
				g.look(now)
			}
			b.reads.look(now)
			b.writes.look(now)
		}
	}
}

// metrics returns the metrics of the breakers.
func (b *breakers) metrics() []admin.Sample {
	var out []admin.Sample
	add := func(server, instance string, breaker *degrade.Breaker) {
		s := breaker.Stats()
		labels := []admin.Label{{Name: "server", Value: server}, {Name: "server_instance", Value: instance}}
		out = append(out,
			gauge("penstock_breaker_state", "State of a circuit breaker: 0 closed, 1 open, 2 half-open.", int64(s.State), labels...),
			counter("penstock_breaker_calls_total", "Results that a circuit breaker has seen; a call is a batch.", s.Calls, labels...),
			counter("penstock_breaker_failures_total", "Results that were failures.", s.Failures, labels...),
			counter("penstock_breaker_slow_total", "Results that were slow.", s.Slow, labels...),
			counter("penstock_breaker_refused_total", "Calls that a circuit breaker refused.", s.Refused+s.TurnedAway, labels...),
			counter("penstock_breaker_trips_total", "How often a circuit breaker opened automatically.", s.Trips, labels...))
	}
	add("kafka", "", b.kafka)
	add("database", "reads", b.reads.breaker)
	add("database", "writes", b.writes.breaker)
	for lane, g := range b.guards() {
		add("redis", strconv.Itoa(lane), g.breaker)
	}
	return out
}

// guard is a breaker that learns of a stall before the calls end. That matters because calls are
// few: each is a batch, and when the server has stopped, each takes its whole timeout. A call is
// reported once, no matter how long it takes.
type guard struct {
	// Fixed after newGuard.
	breaker  *degrade.Breaker
	slow     time.Duration // the time after which a call that hasn't ended counts against the server
	deadline time.Duration

	mu      sync.Mutex
	next    uint64             // guarded by mu
	running map[uint64]running // calls that haven't ended and weren't reported; guarded by mu
}

type running struct {
	call  degrade.BreakerCall
	began time.Time
}

// newGuard makes a guard for calls that take at most deadline; 0 means the breaker's default.
func newGuard(server, instance string, deadline time.Duration, log *slog.Logger) (*guard, error) {
	config := breakerConfig(server, instance, deadline, log)
	breaker, err := degrade.NewBreaker(config)
	if err != nil {
		return nil, err
	}
	return &guard{breaker: breaker, slow: config.Slow, deadline: config.Deadline, running: make(map[uint64]running)}, nil
}

// Do makes a call through the breaker.
func (g *guard) Do(ctx context.Context, call func(context.Context) error) error {
	begun, err := g.breaker.Begin()
	if err != nil {
		return err
	}
	id := g.enter(begun)
	err = errors.New("the call panicked, or ended its goroutine")
	defer func() { g.leave(id, err) }()
	err = call(ctx)
	return err
}

func (g *guard) enter(call degrade.BreakerCall) (id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next++
	g.running[g.next] = running{call, time.Now()}
	return g.next
}

// leave reports how a call ended, unless look has reported it already.
func (g *guard) leave(id uint64, err error) {
	g.mu.Lock()
	r, open := g.running[id]
	delete(g.running, id)
	g.mu.Unlock()
	if open {
		r.call.End(err)
	}
}

// look reports calls that take too long, each only once.
func (g *guard) look(now time.Time) {
	var stalled []degrade.BreakerCall
	g.mu.Lock()
	for id, r := range g.running {
		if now.Sub(r.began) >= g.slow {
			stalled = append(stalled, r.call)
			delete(g.running, id)
		}
	}
	g.mu.Unlock()
	for _, call := range stalled {
		call.End(errStalled)
	}
}

// guardedStore is a store whose answers to buyers come through the database's breakers.
type guardedStore struct {
	seckill.Store
	breakers *breakers
}

// FindOrders implements seckill.Store.
func (s *guardedStore) FindOrders(ctx context.Context, ids []seckill.OrderID) (found []seckill.Order, err error) {
	err = s.breakers.reads.Do(ctx, func(ctx context.Context) (err error) {
		found, err = s.Store.FindOrders(ctx, ids)
		return err
	})
	return found, err
}

// Cancel implements seckill.Store.
func (s *guardedStore) Cancel(ctx context.Context, cancels []seckill.Cancellation) (moved []seckill.Moved, err error) {
	err = s.breakers.writes.Do(ctx, func(ctx context.Context) (err error) {
		moved, err = s.Store.Cancel(ctx, cancels)
		return err
	})
	return moved, err
}

// Pay implements seckill.Store.
func (s *guardedStore) Pay(ctx context.Context, payments []seckill.Payment) (results []seckill.PaymentResult, err error) {
	err = s.breakers.writes.Do(ctx, func(ctx context.Context) (err error) {
		results, err = s.Store.Pay(ctx, payments)
		return err
	})
	return results, err
}

// guardedQueue is a queue that reserves no slot while Kafka's breaker is open, so that no units are
// held. While the breaker is closed, run judges all calls together, because a call for each slot
// would be a lock for each buyer. After a pause, the few slots that may be taken are judged one by
// one.
type guardedQueue struct {
	seckill.Producer
	breaker *degrade.Breaker
	// probes were begun by Reserve. It doesn't matter which reserved slot belongs to which probe.
	probes chan degrade.BreakerCall
}

func newGuardedQueue(queue seckill.Producer, breaker *degrade.Breaker) *guardedQueue {
	return &guardedQueue{queue, breaker, make(chan degrade.BreakerCall, degrade.DefaultBreakerConfig("kafka").Probes)}
}

// Reserve implements seckill.Producer.
func (q *guardedQueue) Reserve() error {
	if q.breaker.State() == degrade.StateClosed {
		return q.Producer.Reserve()
	}
	call, err := q.breaker.Begin()
	if err != nil {
		return err
	}
	if err := q.Producer.Reserve(); err != nil {
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

// Release implements seckill.Producer.
func (q *guardedQueue) Release(slots int) {
	for range slots {
		select {
		case call := <-q.probes:
			call.Abandon()
			continue
		default:
		}
		break
	}
	q.Producer.Release(slots)
}

// Put implements seckill.Producer. A page that uses the slots of several probes ends all of these
// probes.
func (q *guardedQueue) Put(shard inventory.ShardID, value []byte, slots int, done func(error)) {
	var calls []degrade.BreakerCall
	for len(q.probes) > 0 && len(calls) < slots {
		select {
		case call := <-q.probes:
			calls = append(calls, call)
			continue
		default:
		}
		break
	}
	if calls == nil {
		q.Producer.Put(shard, value, slots, done)
		return
	}
	q.Producer.Put(shard, value, slots, func(err error) {
		for _, call := range calls {
			call.End(err)
		}
		done(err)
	})
}

// acknowledgements judges a queue by its counters.
type acknowledgements struct{ acked, failed int64 } // the counters at the last look

// judge returns the result of the queue since the last look; busy is false if there was nothing to
// do. If a single partition fails, Kafka as a whole is not at fault, because the queue uses others.
// Kafka is at fault if most records fail, or if records are in flight and every partition stalls.
func (a *acknowledgements) judge(s kafka.Stats, partitions []kafka.PartitionState) (err error, busy bool) {
	acked, failed := s.Acked-a.acked, s.Failed-a.failed
	a.acked, a.failed = s.Acked, s.Failed
	stalled := s.InFlight > 0 && len(partitions) > 0
	for i := range partitions {
		stalled = stalled && partitions[i].Health != "well"
	}
	switch {
	case failed > acked:
		return fmt.Errorf("%w: %d of %d", errUndelivered, failed, failed+acked), true
	case acked > 0:
		return nil, true
	case stalled:
		return errStalled, true
	}
	return nil, false
}

// allWell reports whether each partition takes records. The queue itself tries bad partitions, so
// the breaker can close again without buyers.
func allWell(partitions []kafka.PartitionState) bool {
	return len(partitions) > 0 && !slices.ContainsFunc(partitions, func(p kafka.PartitionState) bool { return p.Health != "well" })
}

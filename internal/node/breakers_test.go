package node

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// One record that fails among many, or one partition that stalls, is no fault of Kafka's.
func TestAcknowledgements_Judge(t *testing.T) {
	partitions := func(health ...string) (all []kafka.PartitionState) {
		for _, h := range health {
			all = append(all, kafka.PartitionState{Health: h})
		}
		return all
	}
	for _, c := range []struct {
		name                    string
		acked, failed, inFlight int64
		partitions              []kafka.PartitionState
		want                    error
		busy                    bool
	}{
		{"nothing to do", 0, 0, 0, partitions("well", "well"), nil, false},
		{"on its way", 0, 0, 3, partitions("well", "well"), nil, false},
		{"acknowledged", 9, 0, 3, partitions("well", "well"), nil, true},
		{"one of many failed", 1833, 1, 3, partitions("well", "well"), nil, true},
		{"most failed", 2, 3, 0, partitions("well", "well"), errUndelivered, true},
		{"one partition stalls", 0, 0, 3, partitions("well", "down"), nil, false},
		{"all stall", 0, 0, 3, partitions("slow", "down"), errStalled, true},
		{"all stalled, and nothing waits for them", 0, 0, 0, partitions("slow", "down"), nil, false},
		{"no partition is known", 0, 0, 0, nil, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := acknowledgements{acked: 100, failed: 10}
			stats := kafka.Stats{Acked: 100 + c.acked, Failed: 10 + c.failed, InFlight: c.inFlight}
			err, busy := a.judge(stats, c.partitions)
			if !errors.Is(err, c.want) || busy != c.busy {
				t.Errorf("%v, %v, want %v, %v", err, busy, c.want, c.busy)
			}
			if err, busy := a.judge(kafka.Stats{Acked: stats.Acked, Failed: stats.Failed}, c.partitions); err != nil || busy {
				t.Errorf("nothing has happened since: %v, %v", err, busy)
			}
		})
	}
}

// heldQueue is a queue that acknowledges when the test says so.
type heldQueue struct {
	seckill.Producer
	reserved int
	waiting  []func(error)
}

func (q *heldQueue) Reserve() error { q.reserved++; return nil }
func (q *heldQueue) Release(n int)  { q.reserved -= n }
func (q *heldQueue) Put(_ inventory.ShardID, _ []byte, _ int, done func(error)) {
	q.waiting = append(q.waiting, done)
}

// answer ends all records on their way.
func (q *heldQueue) answer(err error) {
	for _, done := range q.waiting {
		q.reserved--
		done(err)
	}
	q.waiting = nil
}

// TestStalledKafkaRefusesBeforeTheHold takes a queue through an outage. While the breaker is open
// there are no slots. Then there are as many slots as probes, and a longer pause after a failed
// one. All slots are back once the probes were acknowledged.
func TestStalledKafkaRefusesBeforeTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBreakers(t, nil)
		behind := new(heldQueue)
		q := newGuardedQueue(behind, b.kafka)
		reserve := func(n int) (got int) {
			for range n {
				switch err := q.Reserve(); {
				case err == nil:
					got++
				case !errors.Is(err, degrade.ErrOpen):
					t.Fatal(err)
				}
			}
			return got
		}
		put := func(n int) {
			for range n {
				q.Put(0, nil, 1, func(error) {})
			}
		}
		if got := reserve(100); got != 100 {
			t.Fatalf("%d of 100 slots", got)
		}
		put(100)
		for range 5 {
			b.kafka.Report(errStalled, 0)
		}
		if got := reserve(10); got != 0 {
			t.Fatalf("%d slots while the breaker is open", got)
		}
		<-time.After(time.Second) // the pause
		if got := reserve(10); got != 3 {
			t.Fatalf("%d slots after the pause, want those of the probes", got)
		}
		q.Release(1) // one was sold out: its place is free again
		if got := reserve(10); got != 1 {
			t.Fatalf("%d slots after one was given back, want 1", got)
		}
		put(3)
		b.kafka.Report(errStalled, 0) // nothing comes back
		if got := reserve(10); got != 0 {
			t.Fatalf("%d slots after a probe failed", got)
		}
		behind.answer(nil)
		b.kafka.Report(nil, 0)         // the queue moves: no need to wait for the pause's end
		<-time.After(time.Millisecond) // otherwise time stands still in this bubble
		if got := reserve(10); got != 3 {
			t.Fatalf("%d slots after a sign of life, want those of the probes", got)
		}
		put(3)
		behind.answer(nil)
		if got := reserve(50); got != 50 || behind.reserved != 50 {
			t.Fatalf("%d slots after the probes were acknowledged, %d taken, want 50", got, behind.reserved)
		}
	})
}

// brokenStore fails the calls that buyers cause.
type brokenStore struct {
	seckill.Store
	asked int
}

var errAway = errors.New("database is away")

func (s *brokenStore) FindOrders(context.Context, []seckill.OrderID) ([]seckill.Order, error) {
	s.asked++
	return nil, errAway
}

func (s *brokenStore) Cancel(context.Context, []seckill.Cancellation) ([]seckill.Moved, error) {
	s.asked++
	return nil, errAway
}

func (s *brokenStore) Pay(context.Context, []seckill.Payment) ([]seckill.PaymentResult, error) {
	s.asked++
	return nil, errAway
}

// testBreakers returns the breakers of the default configuration, changed by change.
func testBreakers(t *testing.T, change func(*Config)) *breakers {
	t.Helper()
	cfg := DefaultConfig().Derive()
	if change != nil {
		change(&cfg)
	}
	b, err := newBreakers(&cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A failing database is not called any more, unless the switch says so. Reads go on while writes
// fail.
func TestGuardedStore(t *testing.T) {
	b, behind := testBreakers(t, nil), new(brokenStore)
	store := &guardedStore{behind, b}
	read := func() error { _, err := store.FindOrders(t.Context(), nil); return err }
	cancel := func() error { _, err := store.Cancel(t.Context(), nil); return err }
	pay := func() error { _, err := store.Pay(t.Context(), nil); return err }
	ask := func(want error, calls ...func() error) {
		t.Helper()
		for _, call := range calls {
			if err := call(); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	}
	ask(errAway, cancel, pay, cancel)
	ask(degrade.ErrOpen, cancel, pay)
	ask(errAway, read, read, read)
	ask(degrade.ErrOpen, read)
	if behind.asked != 6 {
		t.Errorf("the store was asked %d times, want 6", behind.asked)
	}
	switches := degrade.NewController()
	for mode, want := range map[string]error{"closed": errAway, "observe": errAway, "open": degrade.ErrOpen} {
		body := `{"switches":[{"name":"database-breaker","value":"` + mode + `","reason":"r","by":"b","since":"2026-06-18T00:00:00Z"}]}`
		document, err := degrade.ParseDocument([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := switches.Apply(document, time.Now()); err != nil {
			t.Fatal(err)
		}
		b.setModes(switches)
		ask(want, read, cancel, pay)
	}
}

// A failing Redis node doesn't affect the other nodes.
func TestBreakers_ByLane(t *testing.T) {
	b := testBreakers(t, nil)
	ask := func(lane int, result error) error {
		return b.guardStock(t.Context(), lane, func(context.Context) error { return result })
	}
	for range 5 {
		if err := ask(1, errAway); !errors.Is(err, errAway) && !errors.Is(err, degrade.ErrOpen) {
			t.Error(err)
		}
	}
	if err := ask(1, nil); !errors.Is(err, degrade.ErrOpen) {
		t.Errorf("the sick one: %v", err)
	}
	if err := ask(0, nil); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

// One slow call is one failure, no matter how often it is looked at. Its end is no second one.
func TestGuard_ReportsACallOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := newGuard("redis", "0", 0, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		answers, called := make(chan struct{}), make(chan error)
		call := func() {
			called <- g.Do(t.Context(), func(context.Context) error { <-answers; return nil })
		}
		go call()
		for range 30 {
			<-time.After(lookEvery)
			g.look(time.Now())
		}
		if s := g.breaker.Stats(); s.Failures != 1 || s.State != degrade.StateClosed {
			t.Errorf("after one call of three seconds: %d failures, %v", s.Failures, s.State)
		}
		go call()
		go call()
		<-time.After(time.Second)
		g.look(time.Now())
		if state := g.breaker.State(); state != degrade.StateOpen {
			t.Errorf("after three calls that stall: %v", state)
		}
		close(answers)
		for range 3 {
			if err := <-called; err != nil {
				t.Error(err)
			}
		}
		if s := g.breaker.Stats(); s.Failures != 3 {
			t.Errorf("%d failures after all have ended", s.Failures)
		}
		<-time.After(time.Second)
		for range 3 {
			if err := g.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
		}
		if state := g.breaker.State(); state != degrade.StateClosed {
			t.Errorf("%v after all probes were answered", state)
		}
	})
}

// A call that panics is a failure, and gives its place back.
func TestGuard_Panic(t *testing.T) {
	g, err := newGuard("redis", "0", 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = g.Do(t.Context(), func(context.Context) error { panic("a bug") })
	}()
	if s := g.breaker.Stats(); s.Failures != 1 || len(g.running) != 0 {
		t.Errorf("%d failures, %d calls are under way", s.Failures, len(g.running))
	}
}

// Deadlines are settings. With any of them, a call counts as slow before its deadline.
func TestBreakers_ShortDeadlines(t *testing.T) {
	b := testBreakers(t, func(c *Config) {
		c.Sale.AcceptDeadline, c.Sale.StoreTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	if b.reads.slow != 50*time.Millisecond || b.writes.slow != 50*time.Millisecond {
		t.Errorf("slow from %v and %v on", b.reads.slow, b.writes.slow)
	}
}

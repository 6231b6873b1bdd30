package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"penstock/degrade"
	"penstock/internal/kafka"
	"penstock/internal/settings"
	"penstock/seckill"
)

// TestAcknowledgementsAreJudged looks at a queue every 100 ms, as watchServers does.
func TestAcknowledgementsAreJudged(t *testing.T) {
	var a acknowledgements
	now := time.Now()
	f := func(what string, acked, failed, inFlight int64, want error, wantBusy bool) {
		t.Helper()
		now = now.Add(lookEvery)
		err, busy := a.judge(kafka.Stats{Acked: acked, Failed: failed, InFlight: inFlight}, now, 500*time.Millisecond)
		if !errors.Is(err, want) || busy != wantBusy {
			t.Errorf("%s: %v, %v, want %v, %v", what, err, busy, want, wantBusy)
		}
	}
	f("nothing was ever put", 0, 0, 0, nil, false)
	f("one is on its way", 0, 0, 1, nil, false)
	f("it is there", 1, 0, 0, nil, true)
	f("idle", 1, 0, 0, nil, false)
	f("ten are on their way", 1, 0, 10, nil, false)
	for range 4 {
		f("they still are, and not for long", 1, 0, 10, nil, false)
	}
	for i := range int64(3) {
		f("they are for too long, whatever else is put", 1, 0, 10+i, errStalled, true)
	}
	f("the ten are there, the later two aren't for long", 11, 0, 2, nil, true)
	f("one failed", 12, 1, 0, errUndelivered, true)
	f("idle again", 12, 1, 0, nil, false)
	for i := range int64(20) {
		f("each one takes two looks", 12+i, 1, 2, nil, i > 0)
	}
}

// heldQueue is a queue that acknowledges when it is told to.
type heldQueue struct {
	seckill.Queue
	reserved int
	waiting  []func(error)
}

func (q *heldQueue) Reserve() error { q.reserved++; return nil }
func (q *heldQueue) Release()       { q.reserved-- }
func (q *heldQueue) Put(_ seckill.OrderID, _ []byte, done func(error)) {
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

// TestStalledKafkaRefusesBeforeTheHold takes a queue through an outage: no slot while the breaker is open, then as many as there are
// probes, a longer pause after one failed, and all slots once they were acknowledged.
func TestStalledKafkaRefusesBeforeTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := newBreakers(defaultConfig(), slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		behind := new(heldQueue)
		q := b.queue(behind)
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
				q.Put("order", nil, func(error) {})
			}
		}
		if got := reserve(100); got != 100 {
			t.Fatalf("%d of 100 slots", got)
		}
		put(100)
		for range 5 {
			b.kafka.breaker.Report(errStalled, 0)
		}
		if got := reserve(10); got != 0 {
			t.Fatalf("%d slots while the breaker is open", got)
		}
		<-time.After(time.Second) // the pause
		if got := reserve(10); got != 3 {
			t.Fatalf("%d slots after the pause, want those of the probes", got)
		}
		q.Release() // one was sold out: its place is free again
		if got := reserve(10); got != 1 {
			t.Fatalf("%d slots after one was given back, want 1", got)
		}
		put(3)
		b.kafka.breaker.Report(errStalled, 0) // nothing comes back
		if got := reserve(10); got != 0 {
			t.Fatalf("%d slots after a probe failed", got)
		}
		behind.answer(nil)
		b.kafka.breaker.Report(nil, 0) // the queue moves: no need to wait for the pause's end
		<-time.After(time.Millisecond) // in this bubble time stands still otherwise
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

// brokenStore fails what buyers ask for.
type brokenStore struct {
	seckill.Store
	asked int
}

var errAway = errors.New("database is away")

func (s *brokenStore) FindOrders(context.Context, []seckill.OrderID) ([]seckill.Order, error) {
	s.asked++
	return nil, errAway
}

func (s *brokenStore) Cancel(context.Context, []seckill.OrderID) ([]seckill.Moved, error) {
	s.asked++
	return nil, errAway
}

func (s *brokenStore) Pay(context.Context, []seckill.Payment) ([]seckill.PaymentResult, error) {
	s.asked++
	return nil, errAway
}

// TestDatabaseBreakerAndItsSwitch: what fails is not asked any more, unless the switch says so.
func TestDatabaseBreakerAndItsSwitch(t *testing.T) {
	p, _ := gated(t, noLimits, noSwitches)
	behind := new(brokenStore)
	store := p.breakers.store(behind)
	ask := func(want error) {
		t.Helper()
		for _, call := range []func() error{
			func() error { _, err := store.FindOrders(t.Context(), nil); return err },
			func() error { _, err := store.Cancel(t.Context(), nil); return err },
			func() error { _, err := store.Pay(t.Context(), nil); return err },
		} {
			if err := call(); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	}
	ask(errAway)
	for range 2 {
		if _, err := store.FindOrders(t.Context(), nil); !errors.Is(err, errAway) {
			t.Error(err)
		}
	}
	ask(degrade.ErrOpen)
	if behind.asked != 5 {
		t.Errorf("the store was asked %d times, want 5", behind.asked)
	}
	for mode, want := range map[string]error{"closed": errAway, "observe": errAway, "open": degrade.ErrOpen} {
		body := `{"switches":[{"name":"database-breaker","value":"` + mode + `","reason":"r","by":"b","since":"2026-06-18T00:00:00Z"}]}`
		if _, err := p.applySwitches(settings.Document{Version: 2, Body: []byte(body)}, settings.Moment{Now: time.Now(), Nodes: 1}); err != nil {
			t.Fatal(err)
		}
		ask(want)
	}
}

// TestStallsOpenTheBreaker: a server that answers nothing is found out before the first call times out.
func TestStallsOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := newBreakers(defaultConfig(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		answers := make(chan struct{})
		begun := time.Now()
		called := make(chan error)
		go func() {
			called <- b.redis.Do(t.Context(), func(context.Context) error { <-answers; return nil })
		}()
		for b.redis.breaker.State() == degrade.StateClosed {
			<-time.After(lookEvery)
			b.redis.look(time.Now())
			if time.Since(begun) > time.Minute {
				t.Fatal("the breaker never opens")
			}
		}
		if got := time.Since(begun); got > time.Second { // of the bubble's clock
			t.Errorf("open after %v, later than the call's timeout", got)
		}
		close(answers)
		if err := <-called; err != nil {
			t.Error(err)
		}
		b.redis.look(time.Now().Add(time.Hour))
		<-time.After(time.Second)
		for range 3 {
			if err := b.redis.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
		}
		if state := b.redis.breaker.State(); state != degrade.StateClosed {
			t.Errorf("%v after all probes were answered", state)
		}
	})
}

// TestBreakersOfShortDeadlines: deadlines are settings, and whatever they are, a call can be slow before it is over.
func TestBreakersOfShortDeadlines(t *testing.T) {
	cfg := defaultConfig()
	cfg.Sale.AcceptDeadline, cfg.Sale.StoreTimeout = 100*time.Millisecond, 100*time.Millisecond
	b, err := newBreakers(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if b.kafka.slow != 50*time.Millisecond || b.database.slow != 50*time.Millisecond || b.redis.slow != 500*time.Millisecond {
		t.Errorf("slow from %v, %v, %v on", b.kafka.slow, b.database.slow, b.redis.slow)
	}
}

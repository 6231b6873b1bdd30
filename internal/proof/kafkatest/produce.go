package kafkatest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/seckill"
)

func slotsAreBounded(t *testing.T, cfg kafka.Config) {
	cfg.Slots = 64
	q := Open(t, cfg, new(Books))
	var got atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 16 {
				if q.Reserve() == nil {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if err := q.Reserve(); got.Load() != 64 || !errors.Is(err, seckill.ErrNoSlot) {
		t.Fatalf("%d of 64 slots, %v", got.Load(), err)
	}
	if stats := q.Stats(); stats.Reserved != 64 || stats.Slots != 64 || stats.Refused != 128-64+1 {
		t.Errorf("stats: %+v", stats)
	}
	q.Release(16)
	answer := make(chan error, 1)
	q.Put(1, Value(0), 48, func(err error) { answer <- err }) // its slots come back after the answer
	if err := <-answer; err != nil {
		t.Error(err)
	}
	Close(t, q)
	if stats := q.Stats(); stats.Reserved != 0 || stats.Bytes != 0 || stats.Acked != 1 || stats.Promises != 48 {
		t.Errorf("stats at the end: %+v", stats)
	}
}

func bytesAreBounded(t *testing.T, cfg kafka.Config) {
	cfg.BufferBytes = 1
	q := Open(t, cfg, new(Books))
	if err := errors.Join(q.Reserve(), q.Reserve()); err != nil {
		t.Fatal(err)
	}
	var refused error
	answer := make(chan error, 1)
	q.Put(0, Value(0), 1, func(err error) {
		refused = q.Reserve() // the bytes are still there
		answer <- err
	})
	if err := <-answer; err != nil || !errors.Is(refused, seckill.ErrNoSlot) {
		t.Errorf("put: %v, reserved meanwhile: %v", err, refused)
	}
	q.Release(1)
	Close(t, q)
	if stats := q.Stats(); stats.Reserved != 0 || stats.Bytes != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

func closeAnswers(t *testing.T, cfg kafka.Config) {
	q := Open(t, cfg, new(Books))
	const records = 2_000
	answers := make([]atomic.Int32, records)
	var acked atomic.Int64
	for n := range records {
		Put(q, n, func(err error) {
			answers[n].Add(1)
			if err == nil {
				acked.Add(1)
			}
		})
	}
	Close(t, q)
	for n := range answers {
		if times := answers[n].Load(); times != 1 {
			t.Fatalf("record %d was answered %d times", n, times)
		}
	}
	if stats := q.Stats(); stats.Reserved != 0 || stats.InFlight != 0 || stats.Acked != acked.Load() {
		t.Errorf("stats: %+v", stats)
	}
	if acked.Load() != records {
		t.Errorf("%d of %d records were acknowledged, though Close had time", acked.Load(), records)
	}
}

func closedRefuses(t *testing.T, cfg kafka.Config) {
	q := Open(t, cfg, new(Books))
	if q.Reserve() != nil {
		t.Fatal("no slot")
	}
	Close(t, q)
	var answers []error
	q.Put(1, Value(1), 1, func(err error) { answers = append(answers, err) })
	if len(answers) != 1 || !errors.Is(answers[0], kafka.ErrClosed) {
		t.Errorf("Put: %v", answers)
	}
	if err := q.Reserve(); !errors.Is(err, kafka.ErrClosed) {
		t.Errorf("Reserve: %v", err)
	}
	if _, err := q.Poll(Context(t)); !errors.Is(err, kafka.ErrClosed) {
		t.Errorf("Poll: %v", err)
	}
	if _, err := q.Mark(Context(t)); !errors.Is(err, kafka.ErrClosed) {
		t.Errorf("Mark: %v", err)
	}
	if err := q.Rewind(Context(t)); !errors.Is(err, kafka.ErrClosed) {
		t.Errorf("Rewind: %v", err)
	}
	if stats := q.Stats(); stats.Reserved != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

func tooLarge(t *testing.T, cfg kafka.Config) {
	cfg.MaxRecordBytes = 200
	q := Open(t, cfg, new(Books))
	answers := make(chan error, 1)
	put := func(size int) error {
		if q.Reserve() != nil {
			t.Fatal("no slot")
		}
		q.Put(1, make([]byte, size), 1, func(err error) { answers <- err })
		return <-answers
	}
	if err := put(201); !errors.Is(err, kafka.ErrTooLarge) || kafka.Classify(err) != kafka.ClassRefused {
		t.Errorf("201 bytes: %v", err)
	}
	if err := put(200); err != nil {
		t.Errorf("200 bytes: %v", err)
	}
}

func twoOpen(t *testing.T, cfg kafka.Config) {
	var both sync.WaitGroup
	books := new(Books)
	for n := range 2 {
		both.Go(func() {
			q, err := kafka.Open(Context(t), cfg, books)
			if err != nil {
				t.Error(err)
				return
			}
			defer Close(t, q)
			if positions := Mark(t, q); len(positions) != cfg.Partitions {
				t.Errorf("process %d: %v", n, positions)
			}
		})
	}
	both.Wait()
}

func gatewayWithoutBooks(t *testing.T, cfg kafka.Config) {
	books := new(Books)
	gateway := cfg
	gateway.Worker = false
	early := Open(t, gateway, books)
	if err := early.Reserve(); !errors.Is(err, kafka.ErrDown) {
		t.Errorf("before a worker has registered anything: %v", err)
	}
	worker := Open(t, cfg, books)
	Until(t, func() bool { return early.Reserve() == nil }, func() any { return early.Problems() })
	early.Release(1)
	books.SetAway(true)
	Produce(t, early, 0, 100) // what is known stays
	gateway.KnownPartitions = cfg.Partitions
	late := Open(t, gateway, books)
	Produce(t, late, 100, 200)
	if len(late.Problems()) == 0 {
		t.Error("nobody says that the books are away")
	}
	if _, err := late.Mark(Context(t)); !errors.Is(err, errAway) {
		t.Errorf("Mark without books: %v", err)
	}
	books.SetAway(false)
	Consume(t, worker, books, 200)
	if _, err := late.Poll(Context(t)); err == nil {
		t.Error("a gateway polled")
	}
}

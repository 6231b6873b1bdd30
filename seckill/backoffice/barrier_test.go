package backoffice

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/seckill"
)

// marks is a queue whose markers are numbered, and the workers' position behind it.
type marks struct {
	seckill.Producer
	written atomic.Int64
	passed  atomic.Int64
	refuse  atomic.Bool
}

func (m *marks) Mark(context.Context) ([]seckill.Position, error) {
	if m.refuse.Load() {
		return nil, errors.New("partition 0 has no leader")
	}
	return []seckill.Position{{Next: m.written.Add(1)}}, nil
}

func (m *marks) positions(context.Context) ([]seckill.Position, error) {
	return []seckill.Position{{Next: m.passed.Load()}}, nil
}

func TestBarrier_Pass(t *testing.T) {
	run := func(t *testing.T, f func(t *testing.T, m *marks, b *Barrier)) {
		synctest.Test(t, func(t *testing.T) {
			m := new(marks)
			b := NewBarrier(m, m.positions, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { b.Run(ctx) })
			f(t, m, b)
			cancel()
			running.Wait()
		})
	}
	t.Run("it passes when the positions have passed the markers", func(t *testing.T) {
		run(t, func(t *testing.T, m *marks, b *Barrier) {
			over := make(chan error, 1)
			go func() { over <- b.Pass(t.Context()) }()
			synctest.Wait()
			select {
			case err := <-over:
				t.Fatalf("it passed before the workers did: %v", err)
			default:
			}
			m.passed.Store(1)
			if err := <-over; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("a wait that begins after the first marker takes the next round", func(t *testing.T) {
		run(t, func(t *testing.T, m *marks, b *Barrier) {
			first, second := make(chan error, 1), make(chan error, 2)
			go func() { first <- b.Pass(t.Context()) }()
			synctest.Wait() // its marker is written
			for range 2 {
				go func() { second <- b.Pass(t.Context()) }()
			}
			synctest.Wait()
			m.passed.Store(1)
			if err := <-first; err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if len(second) != 0 || m.written.Load() != 2 {
				t.Fatalf("%d later waits passed by the earlier markers; %d rounds were written", len(second), m.written.Load())
			}
			m.passed.Store(2)
			if err := errors.Join(<-second, <-second); err != nil || m.written.Load() != 2 {
				t.Errorf("%v; %d rounds for both", err, m.written.Load())
			}
		})
	})
	t.Run("a barrier that can't be written, or is not passed in time, fails and can be begun again", func(t *testing.T) {
		run(t, func(t *testing.T, m *marks, b *Barrier) {
			m.refuse.Store(true)
			if err := b.Pass(t.Context()); err == nil {
				t.Error("it passed without markers")
			}
			m.refuse.Store(false)
			if err := b.Pass(t.Context()); !errors.Is(err, errBehind) {
				t.Errorf("got %v, want %v", err, errBehind)
			}
			m.passed.Store(2)
			if err := b.Pass(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestOwnership_Shards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		partitions, all := []int32{1}, 3
		o := NewOwnership(7, func() ([]int32, int) { return partitions, all })
		expectShards := func(what string, want ...int) {
			t.Helper()
			got := o.Shards()
			if len(got) != len(want) {
				t.Fatalf("%s: got %v, want %v", what, got, want)
			}
			for i := range want {
				if int(got[i]) != want[i] {
					t.Fatalf("%s: got %v, want %v", what, got, want)
				}
			}
		}
		expectShards("of the partition", 1, 4)
		partitions = nil
		expectShards("none were given to this process")
		partitions, all = []int32{0, 2}, 3
		expectShards("others were given", 0, 2, 3, 5, 6)
		partitions, all = nil, 0
		expectShards("the group is silent for a moment", 0, 2, 3, 5, 6)
		wait.For(t.Context(), orphaned+1)
		expectShards("the group is silent for long", 0, 1, 2, 3, 4, 5, 6)
	})
}

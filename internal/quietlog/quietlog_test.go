package quietlog_test

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/quietlog"
)

func TestLog_May(t *testing.T) {
	start := time.Now()
	l := quietlog.New(slog.New(slog.DiscardHandler), 2, start)
	for _, c := range []struct {
		kind    int
		after   time.Duration
		leftOut uint64
		ok      bool
	}{
		{0, 0, 0, true},
		{0, 0, 0, false},
		{1, 0, 0, true}, // another kind has a pause of its own
		{0, quietlog.Pause - 1, 0, false},
		{0, quietlog.Pause, 2, true}, // tells those that were left out, once
		{0, 2*quietlog.Pause - 1, 0, false},
		{0, 2 * quietlog.Pause, 1, true},
		{0, 9 * quietlog.Pause, 0, true},
	} {
		if n, ok := l.May(c.kind, start.Add(c.after)); n != c.leftOut || ok != c.ok {
			t.Errorf("kind %d after %v: %d, %v; want %d, %v", c.kind, c.after, n, ok, c.leftOut, c.ok)
		}
	}
	if n := l.LeftOut(); n != 3 {
		t.Errorf("%d messages were left out, want 3", n)
	}
}

// TestLog_MayTogether: of many that ask at once, one gets a yes, and the others are counted.
func TestLog_MayTogether(t *testing.T) {
	const callers = 100
	start := time.Now()
	l := quietlog.New(slog.New(slog.DiscardHandler), 1, start)
	var yes atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if _, ok := l.May(0, start); ok {
				yes.Add(1)
			}
		})
	}
	all.Wait()
	if yes.Load() != 1 || l.LeftOut() != callers-1 {
		t.Errorf("%d wrote and %d were left out, of %d", yes.Load(), l.LeftOut(), callers)
	}
}

func TestLog_MayAllocatesNothing(t *testing.T) {
	start := time.Now()
	l := quietlog.New(slog.New(slog.DiscardHandler), 1, start)
	if n := testing.AllocsPerRun(100, func() { l.May(0, start) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

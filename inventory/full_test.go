package inventory

import (
	"sync/atomic"
	"testing"
)

// TestFull_OfTheProcessItself: a Redis within the process tells no memory; the process does.
func TestFull_OfTheProcessItself(t *testing.T) {
	b := newBed(t)
	var used, most atomic.Int64
	s := b.process(Config{Memory: func() (int64, int64) { return used.Load(), most.Load() }})
	for _, c := range []struct {
		used, most int64
		full       bool
	}{
		{950, 0, false}, {850, 1000, false}, {950, 1000, true}, {899, 1000, false},
	} {
		used.Store(c.used)
		most.Store(c.most)
		b.no(s.Ready(t.Context()))
		if s.Full(3) != c.full {
			t.Errorf("%d of %d: full is %t", c.used, c.most, s.Full(3))
		}
	}
}

package limiter

import (
	"math"
	"sync/atomic"
)

// cell is the global bucket: the one that every request comes to which all other limits have let pass. It is a TAT that is swapped
// without a lock, because a lock would be shared by all requests.
//
// An edit makes a new cell. The old one is sealed in the very step in which its TAT is carried over, so no token is taken twice; who
// still has the old cell goes on to its next.
type cell struct {
	limit *limit // fixed
	tat   atomic.Int64
	next  atomic.Pointer[cell] // set before the cell is sealed
}

const sealed = math.MinInt64

// succeed makes c the successor of an older cell.
func (c *cell) succeed(old *cell, now int64) {
	old.next.Store(c)
	for {
		tat := old.tat.Load()
		c.tat.Store(c.limit.carry(old.limit, tat, now))
		if old.tat.CompareAndSwap(tat, sealed) {
			return
		}
	}
}

// take is like a table's.
func (c *cell) take(now, cost int64, g *grant) bool {
	for {
		tat := c.tat.Load()
		if tat == sealed {
			c = c.next.Load()
			continue
		}
		l := c.limit
		if l.off {
			return false
		}
		n := l.price(cost)
		next, wait := l.spend(tat, now, n)
		if wait > 0 {
			*g = grant{limit: l, cell: c, wait: wait, left: l.tokens(tat, now)}
			return true
		}
		if c.tat.CompareAndSwap(tat, next) {
			*g = grant{limit: l, cell: c, taken: n, left: l.tokens(next, now)}
			return true
		}
	}
}

// giveBack returns tokens. The TAT of a bucket that has been full meanwhile falls into the past, which means the same.
func (c *cell) giveBack(n int64) {
	for {
		tat := c.tat.Load()
		if tat == sealed {
			c = c.next.Load()
		} else if c.tat.CompareAndSwap(tat, tat-n*c.limit.interval) {
			return
		}
	}
}

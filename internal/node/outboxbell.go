package node

import (
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/seckill"
)

// ringOutbox is rung when an order was cancelled: the workers look at the outbox at once, so that
// its units and its buyer's limit are free again in milliseconds.
const ringOutbox = "outbox"

// outboxEvery is how often one process rings: the relay of a busy worker needs no waking.
const outboxEvery = 10 * time.Millisecond

// outboxBell wakes the workers for what waits in the outbox. It is safe for concurrent use.
type outboxBell struct {
	ring func(message string) // tells every process of the installation; it does not block
	next atomic.Int64         // when it may ring again, in Unix nanoseconds
}

// ringFor rings if the order was cancelled. Where it rang a moment ago it doesn't: the relay looks
// again by itself, soon after it has found something.
func (b *outboxBell) ringFor(o *seckill.Order) {
	if o.State != seckill.OrderCancelled {
		return
	}
	now, next := time.Now().UnixNano(), b.next.Load()
	if now >= next && b.next.CompareAndSwap(next, now+int64(outboxEvery)) {
		b.ring(ringOutbox)
	}
}

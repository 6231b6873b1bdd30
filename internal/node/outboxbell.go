package node

import (
	"time"

	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/seckill"
)

// ringOutbox is sent when an order was cancelled. The workers then look at the outbox at once, so
// that its units and its buyer's limit are free again within milliseconds.
const ringOutbox = "outbox"

// outboxEvery is the least time between two rings of a process: the relay of a busy worker needs no
// waking.
const outboxEvery = 10 * time.Millisecond

// outboxBell wakes the workers for rows in the outbox. It is safe for concurrent use.
type outboxBell struct {
	ring func(message string) // tells every process of the installation; it does not block
	rang timing.Moment
}

// ringFor rings if the order was cancelled, unless it rang a moment ago: soon after it has found a
// row, the relay looks again by itself.
func (b *outboxBell) ringFor(o *seckill.Order) {
	if o.State != seckill.OrderCancelled {
		return
	}
	if age, is := b.rang.Age(); is && age < outboxEvery {
		return
	}
	b.rang.Set(time.Now())
	b.ring(ringOutbox)
}

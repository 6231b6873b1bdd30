package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/seckill"
)

// TestOutboxBell: a cancelled order rings, a paid one doesn't, and many at once ring once.
func TestOutboxBell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rung := 0
		b := outboxBell{ring: func(message string) {
			if message != ringOutbox {
				t.Errorf("it rang %q", message)
			}
			rung++
		}}
		b.ringFor(&seckill.Order{State: seckill.OrderPaid})
		if rung != 0 {
			t.Fatal("a paid order rang")
		}
		for range 100 {
			b.ringFor(&seckill.Order{State: seckill.OrderCancelled})
		}
		if rung != 1 {
			t.Fatalf("a hundred cancelled at once rang %d times", rung)
		}
		time.Sleep(outboxEvery)
		if b.ringFor(&seckill.Order{State: seckill.OrderCancelled}); rung != 2 {
			t.Fatal("a later one didn't ring")
		}
	})
}

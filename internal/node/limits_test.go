package node

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/leases"
	"github.com/penstock/penstock/inventory"
)

// board is the Redis of one board.
type board struct {
	texts map[string]string
	left  map[string]time.Time
}

func (b *board) leave(node, text string) { b.texts[node], b.left[node] = text, time.Now() }

// Run implements leases.Runner.
func (b *board) Run(_ context.Context, _ *inventory.Script, calls []inventory.ScriptCall) error {
	for node, text := range b.texts {
		age := strconv.FormatInt(time.Since(b.left[node]).Milliseconds(), 10)
		calls[0].Reply = append(calls[0].Reply, node, age, text)
	}
	return nil
}

// TestLimitHistory_AsksTheOthers: a preview has what came to the other gateways up to now. Where
// one doesn't answer, it says so, and takes what it has.
func TestLimitHistory_AsksTheOthers(t *testing.T) {
	for what, c := range map[string]struct {
		answers bool
		sum     uint32
		missing string
	}{
		"they answer": {true, 300, ""},
		"one doesn't": {false, 100, "What came to b in the last 10 s is missing."},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				redis := &board{make(map[string]string), make(map[string]time.Time)}
				redis.leave("b", `[{"m":"m1","c":"web","n":[100]}]`)
				time.Sleep(9 * time.Second)
				l := &limitReports{node: "a", pool: leases.New(redis), ring: func(message string) {
					if c.answers && message == ringHistory {
						redis.leave("b", `[{"m":"m1","c":"web","n":[100,200]}]`)
					}
				}}
				series, missing := l.LimitHistory(t.Context())
				sum := uint32(0)
				for _, s := range series {
					for _, n := range s.Counts {
						sum += n
					}
				}
				if sum != c.sum || missing != c.missing {
					t.Errorf("%d purchases, want %d; missing %q", sum, c.sum, missing)
				}
			})
		})
	}
}

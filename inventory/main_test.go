package inventory

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// rueidis waits a second before it looks at a Cluster's layout again, also when its client has been closed.
	// And it keeps the connections of a node that left the layout for five seconds.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

// bed is a miniredis that can be told to misbehave, and the stocks on it.
type bed struct {
	*testing.T
	redis *miniredis.Miniredis
	hook  atomic.Pointer[server.Hook]
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{T: t, redis: miniredis.RunT(t)}
	b.redis.Server().SetPreHook(func(c *server.Peer, command string, args ...string) bool {
		hook := b.hook.Load()
		return hook != nil && (*hook)(c, command, args...)
	})
	return b
}

// on has hook see every command, also those of scripts; one for which it returns true is done.
func (b *bed) on(hook server.Hook) { b.hook.Store(&hook) }

// off has commands go their way again.
func (b *bed) off() { b.hook.Store(nil) }

// process returns a new process's stock; its background goroutines end with the test.
func (b *bed) process(cfg Config) *Stock {
	b.Helper()
	cfg.Addrs = []string{b.redis.Addr()}
	s, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Stop)
	return s
}

// opened rebuilds item 1 under epoch 1 with so many units and watches it.
func (b *bed) opened(s *Stock, available int64) Ref {
	b.Helper()
	ref := Ref{Item: 1, Epoch: 1}
	b.no(s.Close(b.Context(), ref))
	b.no(s.Open(b.Context(), ref, available, 0, 0, 0))
	s.Watch([]Ref{ref})
	return ref
}

func (b *bed) no(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// holds holds one unit and fails where the verdict is another.
func (b *bed) holds(s *Stock, ref Ref, id string, want Verdict) Grant {
	b.Helper()
	g, err := s.Hold(b.Context(), ref, Hold{ID: id, Buyer: "u-" + id, Quantity: 1}, 1)
	b.no(err)
	if g.Verdict != want {
		b.Fatalf("hold %s: verdict %d, want %d", id, g.Verdict, want)
	}
	return g
}

// until waits until ok is true: for what happens in the background and gives no signal.
func (b *bed) until(what string, ok func() bool) {
	b.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			b.Fatalf("still not so after 10 s: %s", what)
		case <-look.C:
		}
	}
}

// next returns the next of a channel's values.
func next[T any](b *bed, what string, ch <-chan T) T {
	b.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		b.Fatalf("no %s in 10 s", what)
		panic("unreachable")
	}
}

// isScript reports whether a command runs the script.
func isScript(sc *script, command string, args []string) bool {
	return command == "EVALSHA" && args[0] == sc.sha || command == "EVAL" && args[0] == sc.source
}

// crossing is a call of OnCrossing.
type crossing struct {
	item ItemID
	in   bool
}

func heardCrossings() (func(ItemID, bool), <-chan crossing) {
	ch := make(chan crossing, 100)
	return func(item ItemID, in bool) { ch <- crossing{item, in} }, ch
}

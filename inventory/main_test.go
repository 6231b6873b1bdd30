package inventory

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// rueidis waits a second before it looks at a Cluster's layout again, also when its client has
	// been closed. And it keeps the connections of a node that left the layout for five seconds.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

// bed is a miniredis with faults on demand, and the stocks on it.
type bed struct {
	*testing.T
	redis *miniredis.Miniredis
	addr  string
	hook  atomic.Pointer[server.Hook]
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{T: t, redis: miniredis.RunT(t)}
	b.addr = b.redis.Addr()
	b.hooked()
	return b
}

func (b *bed) hooked() {
	b.redis.Server().SetPreHook(func(c *server.Peer, command string, args ...string) bool {
		hook := b.hook.Load()
		return hook != nil && (*hook)(c, command, args...)
	})
}

// restart starts a closed Redis again, with the data that it had.
func (b *bed) restart() {
	b.Helper()
	b.no(b.redis.Restart())
	b.hooked()
}

// on calls hook for every command, also those of scripts. If it returns true, the command is not
// executed further.
func (b *bed) on(hook server.Hook) { b.hook.Store(&hook) }

// off removes the hook.
func (b *bed) off() { b.hook.Store(nil) }

// process returns a new process's stock; its background goroutines end with the test.
func (b *bed) process(cfg Config) *Stock {
	b.Helper()
	cfg.Addrs = []string{b.addr}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", b.addr) }
	}
	s, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Stop)
	return s
}

// shelf is the item of a bed, and metaKey the key of its shard's numbers.
const (
	shelf   ItemID = 1
	metaKey        = "ps:{ps.3}:shard"
)

// opened rebuilds shard 3 under epoch 1 with so many units of the bed's item and watches it.
func (b *bed) opened(s *Stock, available int64) Ref {
	b.Helper()
	ref := Ref{Shard: 3, Epoch: 1}
	b.rebuilt(s, ref, available)
	s.Watch([]Ref{ref})
	return ref
}

// rebuilt rebuilds a shard with so many units of the bed's item.
func (b *bed) rebuilt(s *Stock, ref Ref, available int64) {
	b.Helper()
	b.no(s.Close(b.Context(), ref))
	b.no(s.Load(b.Context(), ref, []Stocked{{Item: shelf, Total: available, Available: available}}, nil))
	b.no(s.Open(b.Context(), ref, 1, 0))
}

func (b *bed) no(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// unit is a hold of one unit; its buyer has just this one.
func unit(id string) Hold {
	return Hold{Item: shelf, ID: fmt.Sprintf("%07d:%16s%16s", shelf, "u-"+id, id), Buyer: "u-" + id, Quantity: 1}
}

// take makes one claim and returns the call.
func take(b *bed, s *Stock, ref Ref, id string) *HoldCall {
	call := &HoldCall{Ref: ref, Claims: []Claim{{Hold: unit(id), Limit: 1}}}
	s.Hold(b.Context(), []*HoldCall{call})
	return call
}

// holds holds one unit and fails if the verdict is another.
func (b *bed) holds(s *Stock, ref Ref, id string, want Verdict) {
	b.Helper()
	call := take(b, s, ref, id)
	b.no(call.Err)
	if call.Verdicts[0] != want {
		b.Fatalf("hold %s: verdict %d, want %d", id, call.Verdicts[0], want)
	}
}

// voids ends a hold.
func (b *bed) voids(s *Stock, ref Ref, id string) {
	b.Helper()
	b.no(s.Settle(b.Context(), ref, []Settlement{{Hold: unit(id), Kind: SettleVoid}}))
}

// numbersOf reads a shard's numbers by the script, alone.
func numbersOf(ctx context.Context, s *Stock, shard ShardID) (Numbers, error) {
	numbers, _, err := s.ItemNumbers(ctx, shard, nil)
	return numbers, err
}

// available returns the bed's item's units, and the shard's numbers.
func (b *bed) available(s *Stock, shard ShardID) (ItemNumbers, Numbers) {
	b.Helper()
	levels, items, err := s.ItemNumbers(b.Context(), shard, []ItemID{shelf})
	b.no(err)
	return items[0], levels
}

// soldOut reports whether s refuses a buyer of the bed's item from memory.
func soldOut(s *Stock, ref Ref, id string) bool { return s.SoldOut(ref, shelf, unit(id).ID) }

// absent reports whether s knows that a buyer had no hold at since.
func absent(s *Stock, ref Ref, id string, since time.Time) bool {
	return s.Absent(ref, unit(id).ID, since)
}

// inStock reports whether s takes the bed's item to be in stock.
func inStock(s *Stock, shard ShardID) bool {
	in, _ := s.InStock(shard, shelf)
	return in
}

// seenInStock reports whether s has seen the shard and the bed's item in stock.
func seenInStock(s *Stock, shard ShardID) bool {
	seen, ok := s.Seen(shard, shelf)
	return ok && seen.InStock
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

// told is a call of OnCrossing.
type told struct {
	shard ShardID
	crossing
}

func heardCrossings() (func(ShardID, ItemID, bool), <-chan told) {
	ch := make(chan told, 100)
	return func(shard ShardID, item ItemID, in bool) { ch <- told{shard, crossing{item, in}} }, ch
}

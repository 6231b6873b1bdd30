package inventory_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/internal/proof/stocktest"
	"github.com/penstock/penstock/inventory"
)

// BenchmarkHold takes units on a redis-server, as the lines of a gateway do: one round after
// another, each with a fixed number of claims, over one shard or sixteen. Every claim is of a new
// buyer and must succeed. redis-µs/claim is the processor time of all threads of the redis-server.
// A busy machine changes it less than the rate. ns/op is per claim. INVENTORY_REDIS names another
// Redis, which is emptied.
func BenchmarkHold(b *testing.B) {
	addr := os.Getenv("INVENTORY_REDIS")
	if addr == "" {
		addr = servers.Redis(b).Addr
	}
	cpu := stocktest.RedisCPU(b, addr)
	for _, c := range []struct{ shards, items, claims int }{
		{1, 1, 1}, {1, 1, 64}, {1, 1, 512}, {1, 10_000, 64}, {1, 10_000, 512}, {16, 10_000, 64}, {16, 10_000, 512},
	} {
		b.Run(fmt.Sprintf("shards=%d/items=%d/claims=%d", c.shards, c.items, c.claims), func(b *testing.B) {
			newKeys(b, addr).do("FLUSHALL") // data of other tests must not slow this one down
			bench := newHoldBench(b, addr, c.shards, c.items)
			rounds := (b.N + c.claims - 1) / c.claims
			prepared := bench.prepare(rounds, c.claims)
			b.ReportAllocs()
			before := cpu()
			b.ResetTimer()
			for _, calls := range prepared {
				bench.stock.Hold(b.Context(), calls)
			}
			b.StopTimer()
			used := cpu() - before
			for _, calls := range prepared {
				bench.given(calls)
			}
			b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(rounds*c.claims), "redis-µs/claim")
		})
	}
}

// holdBench is a stock with items on some shards.
type holdBench struct {
	testing.TB
	stock  *inventory.Stock
	refs   []inventory.Ref
	items  int
	buyers int
}

func newHoldBench(b testing.TB, addr string, shards, items int) *holdBench {
	b.Helper()
	h := &holdBench{TB: b, items: items}
	h.stock = openStock(b, inventory.Config{Addrs: []string{addr}, CallTimeout: 30 * time.Second})
	for shard := range shards {
		ref := inventory.Ref{Shard: inventory.ShardID(shard), Epoch: 1}
		var stocked []inventory.Stocked
		for item := shard; item < items || item == shard; item += shards {
			stocked = append(stocked, inventory.Stocked{Item: inventory.ItemID(item + 1), Total: 1e9, Available: 1e9})
		}
		no(b, "close", h.stock.Close(b.Context(), ref))
		no(b, "load", h.stock.Load(b.Context(), ref, stocked, nil))
		no(b, "open", h.stock.Open(b.Context(), ref, int64(len(stocked)), 0))
		h.refs = append(h.refs, ref)
	}
	return h
}

// prepare returns rounds of so many claims. They go through items and shards in turn, each with
// another buyer.
func (h *holdBench) prepare(rounds, claims int) [][]*inventory.HoldCall {
	prepared := make([][]*inventory.HoldCall, rounds)
	for i := range prepared {
		calls := make([]*inventory.HoldCall, len(h.refs))
		for s := range calls {
			calls[s] = &inventory.HoldCall{Ref: h.refs[s]}
		}
		for range claims {
			h.buyers++
			item := h.buyers * 7919 % h.items
			shard := item % len(h.refs)
			name := fmt.Sprintf("%07x%017x%016x", item, h.buyers*1_000_003, h.buyers)
			hold := inventory.Hold{Item: inventory.ItemID(item + 1), ID: name, Buyer: fmt.Sprintf("user-%08d", h.buyers), Quantity: 1}
			calls[shard].Claims = append(calls[shard].Claims, inventory.Claim{Hold: hold, Limit: 2, MaxOrders: 20})
		}
		for _, c := range calls {
			c.Verdicts = make([]inventory.Verdict, 0, len(c.Claims))
		}
		prepared[i] = calls
	}
	return prepared
}

// given fails if a claim was refused.
func (h *holdBench) given(calls []*inventory.HoldCall) {
	h.Helper()
	for _, c := range calls {
		no(h, "hold", c.Err)
		for i, verdict := range c.Verdicts {
			if verdict != inventory.Held {
				h.Fatalf("claim %d: verdict %d", i, verdict)
			}
		}
	}
}

// BenchmarkConfirm marks holds whose orders exist, some hundreds in a call, as a worker does: each
// call has the holds of eight rounds. It reports the same as BenchmarkHold.
func BenchmarkConfirm(b *testing.B) {
	const rounds, claims = 8, 64
	addr := os.Getenv("INVENTORY_REDIS")
	if addr == "" {
		addr = servers.Redis(b).Addr
	}
	cpu := stocktest.RedisCPU(b, addr)
	bench := newHoldBench(b, addr, 1, 1)
	var all [][]inventory.Hold
	for range (b.N + rounds*claims - 1) / (rounds * claims) {
		var holds []inventory.Hold
		for _, calls := range bench.prepare(rounds, claims) {
			bench.stock.Hold(b.Context(), calls)
			bench.given(calls)
			for _, claim := range calls[0].Claims {
				claim.Seq = calls[0].Seq
				holds = append(holds, claim.Hold)
			}
		}
		all = append(all, holds)
	}
	b.ReportAllocs()
	before := cpu()
	b.ResetTimer()
	for _, holds := range all {
		no(b, "confirm", bench.stock.Confirm(b.Context(), bench.refs[0], holds))
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(len(all)*rounds*claims), "redis-µs/hold")
}

// BenchmarkSoldOut measures a refusal from memory, among 100,000 names.
func BenchmarkSoldOut(b *testing.B) {
	h := newHoldBench(b, miniredis.RunT(b).Addr(), 1, 1)
	ref := h.refs[0]
	h.stock.Watch(h.refs)
	var holds []inventory.Hold
	for _, calls := range h.prepare(1, 100_000) {
		for _, claim := range calls[0].Claims {
			holds = append(holds, claim.Hold)
		}
	}
	holds[0].Quantity = 1e9
	no(b, "confirm", h.stock.Confirm(b.Context(), ref, holds))
	id := fmt.Sprintf("%040d", 1)
	for tick := time.NewTicker(time.Millisecond); !h.stock.SoldOut(ref, 1, id); <-tick.C {
	}
	b.ReportAllocs()
	refused := 0
	for b.Loop() {
		if h.stock.SoldOut(ref, 1, id) {
			refused++
		}
	}
	if refused == 0 {
		b.Fatal("no refusal")
	}
}

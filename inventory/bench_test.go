package inventory_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"

	"penstock/internal/servers"
	"penstock/inventory"
)

// benchStock returns a stock on the Redis at addr whose item 1 is open, watched and has units.
func benchStock(b *testing.B, addr string, units int64) (*inventory.Stock, inventory.Ref) {
	b.Helper()
	s := openStock(b, inventory.Config{Addrs: []string{addr}, Prefix: fmt.Sprint("bench", time.Now().UnixNano())})
	r := ref(1, 1)
	ctx := context.Background()
	for _, err := range []error{s.Close(ctx, r), s.Open(ctx, r, units, 0, 0, 0)} {
		if err != nil {
			b.Fatal(err)
		}
	}
	s.Watch([]inventory.Ref{r})
	return s, r
}

// buyers runs b.N calls of buy on so many goroutines.
func buyers(b *testing.B, goroutines int, buy func(i int64)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				buy(i)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "holds/s")
}

// BenchmarkHold compares ways to take units for many buyers, on miniredis and on a redis-server: plain is one EVALSHA per buyer of the
// small script that one would write first, pipelined; single is our script with a batch of one; batched is Hold as it is. redis-µs/op is
// the processor time of the server.
func BenchmarkHold(b *testing.B) {
	b.Run("on=miniredis", func(b *testing.B) { benchHolds(b, miniredis.RunT(b).Addr()) })
	b.Run("on=redis", func(b *testing.B) { benchHolds(b, servers.Redis(b).Addr) })
}

func benchHolds(b *testing.B, addr string) {
	cpu := serverCPU(b, addr)
	run := func(way string, goroutines int, open func(b *testing.B) func(id, buyer string) error) {
		b.Run("way="+way, func(b *testing.B) {
			hold := open(b)
			ids := make([]string, b.N+1)
			for i := range ids {
				ids[i] = fmt.Sprintf("%032d", i)
			}
			b.ReportAllocs()
			before := cpu()
			buyers(b, goroutines, func(i int64) {
				if err := hold(ids[i], ids[i][20:]); err != nil {
					b.Error(err)
				}
			})
			if used := cpu() - before; used > 0 { // miniredis doesn't tell
				b.ReportMetric(float64(used.Microseconds())/float64(b.N), "redis-µs/op")
			}
		})
	}
	ours := func(b *testing.B, watched bool) func(id, buyer string) error {
		s, r := benchStock(b, addr, math.MaxInt32)
		if !watched {
			s.Watch(nil)
		}
		return func(id, buyer string) error {
			g, err := s.Hold(b.Context(), r, hold(id, buyer, 1), 2)
			if err == nil && g.Verdict != inventory.Held {
				err = fmt.Errorf("verdict %d", g.Verdict)
			}
			return err
		}
	}
	run("plain", 1024, func(b *testing.B) func(id, buyer string) error { return plainHolds(b, addr) })
	run("single", 256, func(b *testing.B) func(id, buyer string) error { return ours(b, false) }) // more may not wait
	run("batched", 1024, func(b *testing.B) func(id, buyer string) error { return ours(b, true) })
}

// plainHold takes units and keeps the buyer's limit and the hold's name: KEYS are stock, buyers and names, ARGV are id, buyer,
// quantity and limit.
const plainHold = `
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 2 end
local quantity = tonumber(ARGV[3])
if tonumber(redis.call('GET', KEYS[1]) or '0') < quantity then return 0 end
if redis.call('HINCRBY', KEYS[2], ARGV[2], quantity) > tonumber(ARGV[4]) then
  redis.call('HINCRBY', KEYS[2], ARGV[2], -quantity)
  return -1
end
redis.call('DECRBY', KEYS[1], quantity)
redis.call('HSET', KEYS[3], ARGV[1], quantity)
return 1`

// plainHolds returns what takes a unit in one call of plainHold.
func plainHolds(b *testing.B, addr string) func(id, buyer string) error {
	b.Helper()
	client := benchClient(b, addr)
	prefix := fmt.Sprint("plain", time.Now().UnixNano(), ":{1}:")
	if err := client.Do(b.Context(), client.B().Set().Key(prefix+"stock").Value("1000000000").Build()).Error(); err != nil {
		b.Fatal(err)
	}
	script, keys := rueidis.NewLuaScript(plainHold), []string{prefix + "stock", prefix + "buyers", prefix + "names"}
	return func(id, buyer string) error {
		verdict, err := script.Exec(b.Context(), client, keys, []string{id, buyer, "1", "2"}).AsInt64()
		if err == nil && verdict != 1 {
			err = fmt.Errorf("verdict %d", verdict)
		}
		return err
	}
}

func benchClient(b *testing.B, addr string) rueidis.Client {
	b.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, AlwaysPipelining: true, DisableCache: true, AlwaysRESP2: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	return client
}

// serverCPU returns a function that asks a Redis for the processor time that it has used; 0 where it doesn't tell.
func serverCPU(b *testing.B, addr string) func() time.Duration {
	client := benchClient(b, addr)
	return func() time.Duration {
		text, err := client.Do(context.Background(), client.B().Info().Section("cpu").Build()).ToString()
		if err != nil {
			return 0
		}
		var used float64
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if name == "used_cpu_sys" || name == "used_cpu_user" {
				seconds, err := strconv.ParseFloat(value, 64)
				if err != nil {
					b.Fatal(err)
				}
				used += seconds
			}
		}
		return time.Duration(used * float64(time.Second))
	}
}

// BenchmarkSoldOut is a refusal from memory, among 100,000 names.
func BenchmarkSoldOut(b *testing.B) {
	s, r := benchStock(b, miniredis.RunT(b).Addr(), 100_000)
	buyers := make([]inventory.Hold, 100_000)
	for i := range buyers {
		buyers[i] = hold(fmt.Sprintf("%032d", i), fmt.Sprint(i), 1)
	}
	if err := s.Confirm(b.Context(), r, buyers); err != nil {
		b.Fatal(err)
	}
	id := fmt.Sprintf("%032d", 100_001)
	for tick := time.NewTicker(time.Millisecond); !s.SoldOut(r, id); <-tick.C {
	}
	b.ReportAllocs()
	b.ResetTimer()
	refused := 0
	for b.Loop() {
		if s.SoldOut(r, id) {
			refused++
		}
	}
	if refused == 0 {
		b.Fatal("no refusal")
	}
}

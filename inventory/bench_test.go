package inventory_test

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"

	"penstock/internal/proof/servers"
	"penstock/internal/proof/stocktest"
	"penstock/inventory"
)

// BenchmarkHold compares ways to take units of one item for a crowd, on miniredis and on a redis-server. All ways have as many buyers
// at once and the same settings of the same client:
//   - plain is what one would write first: one EVALSHA per buyer of a small script, which the client pipelines;
//   - single is hold.lua with one hold per call;
//   - batched is Hold as it is.
//
// Every hold must be given. redis-µs/hold is the processor time of the redis-server, all its threads, which a busy machine changes less
// than the rate; holds/call is how large the batches were.
func BenchmarkHold(b *testing.B) {
	b.Run("on=miniredis", func(b *testing.B) { benchHolds(b, miniredis.RunT(b).Addr(), nil) })
	b.Run("on=redis", func(b *testing.B) {
		addr := servers.Redis(b).Addr
		benchHolds(b, addr, stocktest.RedisCPU(b, addr))
	})
}

// holdWay takes a unit for a buyer who has none, and fails where it isn't given.
type holdWay func(id, buyer string) error

// benchHolds runs all ways on the Redis at addr. cpu, if set, tells the processor time that it has used.
func benchHolds(b *testing.B, addr string, cpu func() time.Duration) {
	keys := newKeys(b, addr)
	for _, crowd := range []int{256, 1024} {
		for _, way := range []struct {
			name string
			open func(b *testing.B, addr string) holdWay
		}{{"plain", plainHolds}, {"single", singleHolds}, {"batched", batchedHolds}} {
			b.Run(fmt.Sprintf("buyers=%d/way=%s", crowd, way.name), func(b *testing.B) {
				keys.do("FLUSHALL") // what other ways have left makes none slower
				hold := way.open(b, addr)
				if err := hold("first", "first"); err != nil { // Redis learns the script
					b.Fatal(err)
				}
				benchCrowd(b, crowd, hold, cpu)
			})
		}
	}
}

// benchCrowd makes b.N holds for so many buyers at once.
func benchCrowd(b *testing.B, crowd int, hold holdWay, cpu func() time.Duration) {
	ids := make([]string, b.N)
	for i := range ids {
		ids[i] = fmt.Sprintf("%032d", i)
	}
	var next atomic.Int64
	var buyers sync.WaitGroup
	var before, used time.Duration
	b.ReportAllocs()
	if cpu != nil {
		before = cpu()
	}
	b.ResetTimer()
	for range crowd {
		buyers.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := hold(ids[i], ids[i][20:]); err != nil {
					b.Errorf("hold %d: %v", i, err)
					return
				}
			}
		})
	}
	buyers.Wait()
	b.StopTimer()
	if cpu != nil {
		used = cpu() - before
		b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "redis-µs/hold")
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "holds/s")
}

// benchLimit is how many units a buyer may have: each hold has a limit to look at.
const benchLimit = 2

// batchedHolds takes units as a gateway does.
func batchedHolds(b *testing.B, addr string) holdWay {
	s, r := benchStock(b, addr, math.MaxInt32)
	before := s.Stats()
	b.Cleanup(func() {
		after := s.Stats()
		b.ReportMetric(float64(after.Items-before.Items)/float64(after.Batches-before.Batches), "holds/call")
	})
	return func(id, buyer string) error {
		g, err := s.Hold(b.Context(), r, hold(id, buyer, 1), benchLimit)
		return given(g, err)
	}
}

// singleHolds takes units in batches of one.
func singleHolds(b *testing.B, addr string) holdWay {
	s, r := benchStock(b, addr, math.MaxInt32)
	return func(id, buyer string) error {
		grants, err := s.HoldBatch(b.Context(), r, []inventory.Hold{hold(id, buyer, 1)}, []int{benchLimit})
		return given(grants[0], err)
	}
}

// given returns an error where no unit was taken.
func given(g inventory.Grant, err error) error {
	if err == nil && g.Verdict != inventory.Held {
		return fmt.Errorf("verdict %d", g.Verdict)
	}
	return err
}

// plainHolds takes each unit in a call of stocktest.PlainHold.
func plainHolds(b *testing.B, addr string) holdWay {
	b.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{ // as Open has it
		InitAddress: []string{addr}, ConnWriteTimeout: time.Second,
		AlwaysPipelining: true, DisableRetry: true, DisableCache: true, AlwaysRESP2: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	keys := []string{"plain:{1}:stock", "plain:{1}:buyers", "plain:{1}:names"}
	if err := client.Do(b.Context(), client.B().Set().Key(keys[0]).Value(strconv.Itoa(math.MaxInt32)).Build()).Error(); err != nil {
		b.Fatal(err)
	}
	script, limit := rueidis.NewLuaScript(stocktest.PlainHold), strconv.Itoa(benchLimit)
	return func(id, buyer string) error {
		verdict, err := script.Exec(b.Context(), client, keys, []string{id, buyer, "1", limit}).AsInt64()
		if err == nil && verdict != 1 {
			return fmt.Errorf("verdict %d", verdict)
		}
		return err
	}
}

// benchStock returns a stock on the Redis at addr whose item 1 is open, watched and has units.
func benchStock(b *testing.B, addr string, units int64) (*inventory.Stock, inventory.Ref) {
	b.Helper()
	// A crowd of single calls may wait longer for miniredis than buyers would.
	s := openStock(b, inventory.Config{Addrs: []string{addr}, CallTimeout: 30 * time.Second})
	r := ref(1, 1)
	if err := errors.Join(s.Close(b.Context(), r), s.Open(b.Context(), r, units, 0, 0, 0)); err != nil {
		b.Fatal(err)
	}
	s.Watch([]inventory.Ref{r})
	return s, r
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

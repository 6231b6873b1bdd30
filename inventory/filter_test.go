package inventory

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// The filter is compared with a map, through merges of both kinds of runs.
func TestNameFilter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var f nameFilter
	if f.has(1) {
		t.Error("an empty filter has something")
	}
	names := map[uint32]bool{}
	some := func() uint64 { return rng.Uint64N(1<<22) * 0x9e3779b97f4a7c15 } // the same ones now and then
	for i := range 300_000 {
		h := some()
		if i%1000 == 0 {
			h = rng.Uint64N(3) << 32 // 0 and 1 have the same place
		}
		f.add(h)
		names[short(h)] = true
		if other := some(); f.has(other) != names[short(other)] {
			t.Fatalf("after %d: %#x is wrong", i, other)
		}
	}
	for h := range names {
		if !f.has(uint64(h) << 32) {
			t.Fatalf("%#x is missing", h)
		}
	}
	run := f.state.Load().run
	if n := f.n.Load(); n != int64(len(names)) || run.index == nil || run.len() < shortRun {
		t.Errorf("%d names, want %d, of which %d are in the run", n, len(names), run.len())
	}
	sorted := collect(run)
	if !slices.IsSorted(sorted) || len(sorted) != run.len() || len(slices.Compact(sorted)) != run.len() {
		t.Error("the run isn't a sorted set")
	}
	f.clear()
	if f.has(uint64(sorted[0])<<32) || f.n.Load() != 0 {
		t.Error("something is left")
	}
}

// collect returns the hashes of a run in their order.
func collect(r *nameRun) []uint32 {
	out := slices.Clone(r.whole)
	for upper := 0; upper+1 < len(r.index); upper++ {
		for _, low := range r.low[r.index[upper]:r.index[upper+1]] {
			out = append(out, uint32(upper)<<16|uint32(low))
		}
	}
	return out
}

// A name that was added is found at once, also during a merge.
func TestNameFilter_IsReadWhileItGrows(t *testing.T) {
	var f nameFilter
	var wg sync.WaitGroup
	defer wg.Wait()
	steps := make(chan uint64, 100)
	for range 2 {
		wg.Go(func() {
			for h := range steps {
				if !f.has(h) {
					t.Errorf("%#x is missing", h)
				}
			}
		})
	}
	defer close(steps)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50_000 {
		h := rng.Uint64()
		f.add(h)
		steps <- h
	}
}

// 10 million names of 16 shards take at most 25 MB, and half a megabyte per shard for a merge. At
// most one name in a thousand is found by mistake.
func TestL8_NameFilterIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	const shards, names, mistakes = 16, 625_000, 1_000_000
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // the second one frees the content of pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	// One shard stands for 16: they are alike.
	f, rng := new(nameFilter), rand.New(rand.NewPCG(5, 6))
	for range names {
		f.add(rng.Uint64())
	}
	used := heap() - before
	met := 0
	for range mistakes {
		if f.has(rng.Uint64()) {
			met++
		}
	}
	t.Logf("%.2f bytes a name, %.1f MB for 10 million; %d of a million are mistakes",
		float64(used)/names, float64(used)*shards/1e6, met)
	if used <= 0 || used*shards > 26<<20 || met > mistakes/1000 {
		t.Errorf("%d bytes for %d names, %d of %d are mistakes", used, names, met, mistakes)
	}
	runtime.KeepAlive(f)
}

// The hash is stored in Redis. A version with another hash would misread the log.
func TestHashNameStaysAsItIs(t *testing.T) {
	for name, want := range map[string]uint64{
		"": 0, "a": 0x613732f6c54c1e84, "12345678": 0xef93bc764dda31d0, "0123456789abcdefghjkmnpqrstvwxyz": 0xaaf5c37704fa3c6b,
	} {
		if got := hashName(name); got != want {
			t.Errorf("%q: %#x, want %#x", name, got, want)
		}
	}
	seen := map[uint64]string{}
	for i := range 30_000 {
		for _, name := range []string{fmt.Sprint(i), fmt.Sprintf("%032d", i), fmt.Sprintf("%d\x00", i)} {
			if other, ok := seen[hashName(name)]; ok {
				t.Fatalf("%q and %q", name, other)
			}
			seen[hashName(name)] = name
		}
	}
}

func BenchmarkNameFilter(b *testing.B) {
	for _, n := range []int{10_000, 625_000} {
		f, rng := new(nameFilter), rand.New(rand.NewPCG(5, 6))
		b.Run(fmt.Sprintf("add/names=%d", n), func(b *testing.B) {
			for b.Loop() {
				f.clear()
				for range n {
					f.add(rng.Uint64())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/name")
		})
		b.Run(fmt.Sprintf("has/names=%d", n), func(b *testing.B) {
			for b.Loop() {
				f.has(rng.Uint64())
			}
		})
	}
}

package batch

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The ring behaves like a slice, and its memory stays in proportion to its content.
func FuzzRing(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint8(seed*13))
	}
	f.Fuzz(func(t *testing.T, seed uint64, pushes uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		var (
			r     ring[int, int]
			model []*item[int, int]
			gone  []*item[int, int]
			most  int
		)
		for range 2000 {
			switch n := random.IntN(256); {
			case n < int(pushes):
				it := new(item[int, int])
				r.push(it)
				model = append(model, it)
				most = max(most, len(model))
			case n%8 == 0:
				limit := random.IntN(10)
				got := r.popTo(nil, limit)
				want := model[:min(limit, len(model))]
				if !slices.Equal(got, want) {
					t.Fatalf("popped %p, want %p", got, want)
				}
				gone, model = append(gone, got...), slices.Delete(model, 0, len(got))
			case n%8 < 6 && len(model) > 0:
				i := random.IntN(len(model))
				if !r.remove(model[i]) {
					t.Fatalf("item %d of %d is not there", i, len(model))
				}
				model = slices.Delete(model, i, i+1)
			case len(gone) > 0:
				if r.remove(gone[random.IntN(len(gone))]) {
					t.Fatal("removed what had been popped")
				}
			}
			if r.n != len(model) {
				t.Fatalf("n is %d, want %d", r.n, len(model))
			}
			if len(r.slots) > max(8, 4*most) {
				t.Fatalf("%d slots for at most %d items", len(r.slots), most)
			}
		}
	})
}

package list_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/penstock/penstock/internal/list"
)

type element struct {
	links  list.Links[element]
	number int
}

func (e *element) Links() *list.Links[element] { return &e.links }

type elements = list.List[element, *element]

// numbers walks the list both ways.
func numbers(t *testing.T, l *elements) (out []int) {
	t.Helper()
	for e := l.First(); e != nil; e = l.Next(e) {
		out = append(out, e.number)
	}
	var back []int
	for e := l.Last(); e != nil; e = l.Prev(e) {
		back = append(back, e.number)
	}
	slices.Reverse(back)
	if !slices.Equal(out, back) || len(out) != l.Len() {
		t.Fatalf("forwards %v, backwards %v, length %d", out, back, l.Len())
	}
	return out
}

func TestList_IsWhatASliceIs(t *testing.T) {
	const seed = 618
	random := rand.New(rand.NewPCG(seed, seed))
	var l elements
	var model []*element
	for step := range 2_000 {
		switch choice := random.IntN(3); {
		case choice == 0 && len(model) > 0:
			i := random.IntN(len(model))
			l.Remove(model[i])
			model = slices.Delete(model, i, i+1)
		case choice == 1:
			e, i := &element{number: step}, random.IntN(len(model)+1)
			var before *element
			if i > 0 {
				before = model[i-1]
			}
			l.Insert(e, before)
			model = slices.Insert(model, i, e)
		default:
			e := &element{number: step}
			l.Push(e)
			model = append(model, e)
		}
		want := []int{}
		for _, e := range model {
			want = append(want, e.number)
		}
		if got := numbers(t, &l); !slices.Equal(got, want) {
			t.Fatalf("seed %d, step %d: %v, want %v", seed, step, got, want)
		}
	}
}

func TestList_AllocatesNothing(t *testing.T) {
	var l elements
	e := new(element)
	if n := testing.AllocsPerRun(100, func() {
		l.Push(e)
		l.Remove(e)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

package protocol

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	long    = flag.Bool("long", false, "walk the large configurations too: minutes and gigabytes each")
	rewrite = flag.Bool("rewrite", false, "write testdata/mutants anew")
)

// once is a configuration with one fault of each kind.
func once(o Options) Options {
	o.Units, o.Losses, o.WorkerCrashes, o.RebuilderCrashes = 1, 1, 1, 1
	return o
}

// The number of states is pinned: a change of the model moves it, and should say in its commit why by so much.
func TestWalk_NoLawBroken(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      Options
		states int
		long   bool
	}{
		{"an emptied Redis", once(Options{Orders: 1, Attempts: 1, Epochs: 3}), 102_132, false},
		{"a repeated key", once(Options{Orders: 1, Attempts: 2, Epochs: 2}), 759_620, false},
		{"two buyers", Options{Orders: 2, Attempts: 2, Epochs: 1, Units: 1, WorkerCrashes: 1}, 1_013_343, false},
		{"a failover that forgets", once(Options{Orders: 1, Attempts: 1, Epochs: 3, Rollback: true}), 170_107, false},
		{"a restock and a withdrawal", Options{Orders: 1, Attempts: 1, Epochs: 2, Units: 1, Merchant: true}, 612_859, false},
		{"a cancellation before the row", once(Options{Orders: 1, Attempts: 1, Epochs: 3, Cancels: 2}), 606_444, false},
		{"a cancellation and two buyers", Options{Orders: 2, Attempts: 2, Epochs: 1, Units: 1, Cancels: 1}, 1_989_729, false},

		{"a failover and a repeated key", once(Options{Orders: 1, Attempts: 2, Epochs: 3, Rollback: true}), 7_999_070, true},
		{"two buyers and rebuilds", once(Options{Orders: 2, Attempts: 2, Epochs: 2}), 15_890_052, true},
		{"a restock, a withdrawal and a repeated key", once(Options{Orders: 1, Attempts: 2, Epochs: 2, Merchant: true}), 110_620_268, true},
		{"a key sent three times", once(Options{Orders: 1, Attempts: 3, Epochs: 3}), 115_836_569, true},
		{"a failover and two buyers", once(Options{Orders: 2, Attempts: 2, Epochs: 2, Rollback: true}), 110_154_911, true},
		{"a cancellation and a repeated key", once(Options{Orders: 1, Attempts: 2, Epochs: 3, Cancels: 1}), 13_906_443, true},
		{"a cancellation and a failover", once(Options{Orders: 1, Attempts: 2, Epochs: 3, Cancels: 1, Rollback: true}), 29_436_957, true},
		{"a cancellation, two buyers and rebuilds", once(Options{Orders: 2, Attempts: 2, Epochs: 2, Cancels: 1}), 80_437_842, true},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if c.long && !*long {
				t.Skip("needs -long")
			}
			r, err := Walk(c.o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Violation != "" {
				t.Fatalf("%s\n%s\n%s", r.Violation, strings.Join(r.Path, "\n"), r.Final)
			}
			if !r.Complete || r.States != c.states {
				t.Errorf("complete %v, %d states, want %d", r.Complete, r.States, c.states)
			}
		})
	}
}

// Every rule carries weight: without it, a law breaks. The shortest way there is kept as text, to be read, and reviewed
// when it changes.
func TestMutants_EachBreaksALaw(t *testing.T) {
	sound := map[Options]bool{} // configurations walked with every rule in force
	for _, m := range Mutants() {
		t.Run(string(m), func(t *testing.T) {
			o := m.Smallest()
			o.Shortest = true
			r, err := Walk(o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Violation == "" {
				t.Fatalf("no law breaks without the rule, in %d states", r.States)
			}
			got := strings.Join(r.Path, "\n") + "\n" + r.Violation + "\n"
			file := filepath.Join("testdata", "mutants", string(m)+".txt")
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant, as in %s (rewrite it with -rewrite),\n%s", got, file, want)
			}
			o.Without, o.Shortest = "", false
			if !sound[o] {
				if r, err := Walk(o); err != nil || r.Violation != "" || !r.Complete {
					t.Errorf("with the rule: %q, complete %v, %v", r.Violation, r.Complete, err)
				}
				sound[o] = true
			}
		})
	}
}

func TestWalk_BothOrdersFindTheSameStates(t *testing.T) {
	o := once(Options{Orders: 1, Attempts: 1, Epochs: 2})
	deep, err := Walk(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Shortest = true
	broad, err := Walk(o)
	if err != nil {
		t.Fatal(err)
	}
	if deep.States != broad.States || !deep.Complete || !broad.Complete {
		t.Errorf("depth first %+v, breadth first %+v", deep, broad)
	}
	if deep.States < 1000 {
		t.Errorf("only %d states: this is no walk", deep.States)
	}
}

func TestWalk_StopsAtMaxStates(t *testing.T) {
	for _, shortest := range []bool{false, true} {
		o := once(Options{Orders: 2, Attempts: 4, Epochs: 4})
		o.Shortest, o.MaxStates = shortest, 1000
		r, err := Walk(o)
		if err != nil || r.Complete || r.Violation != "" || r.States < 1000 || r.States > 1100 {
			t.Errorf("shortest %v: %+v, %v", shortest, r, err)
		}
	}
}

func TestOptions_ValidateNamesTheOption(t *testing.T) {
	good := once(Options{Orders: 1, Attempts: 1, Epochs: 1})
	for _, c := range []struct {
		spoil func(*Options)
		want  string
	}{
		{func(o *Options) { o.Orders = 3 }, "Orders is 3"},
		{func(o *Options) { o.Attempts = 0 }, "Attempts is 0"},
		{func(o *Options) { o.Epochs = 7 }, "Epochs is 7"},
		{func(o *Options) { o.Units = 0 }, "Units is 0"},
		{func(o *Options) { o.Losses = -1 }, "Losses is -1"},
		{func(o *Options) { o.Merchant, o.Rollback = true, true }, "do not combine"},
		{func(o *Options) { o.Without = "gravity" }, `"gravity"`},
	} {
		o := good
		c.spoil(&o)
		if _, err := Walk(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestSet_AgainstAMap(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	s, model := newSet(2), map[uint64]bool{}
	for i := range 20_000 {
		// Few low bits: long probes, and many repeats.
		h := 1 + random.Uint64N(50)<<40 + random.Uint64N(200)
		if s.add(h) == model[h] {
			t.Fatalf("seed %d, step %d: hash %d, known %v, the set says otherwise", seed, i, h, model[h])
		}
		model[h] = true
	}
	if s.len != len(model) {
		t.Errorf("seed %d: %d hashes, want %d", seed, s.len, len(model))
	}
}

func ExampleWalk() {
	o := NoDrain.Smallest()
	o.Shortest = true
	r, err := Walk(o)
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.Join(r.Path, ", "))
	fmt.Println(r.Violation)
	// Output:
	// init, start a0 o0 e1, hold executes a0 o0, put a0 o0, append a0 o0, 202 a0 o0, sweeper notes o0, sweeper dooms o0, sweeper decides o0
	// L2 promise of o0 broken
}

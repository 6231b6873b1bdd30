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
	long    = flag.Bool("long", false, "walk the large sales too: a quarter of an hour, 3 GB")
	rewrite = flag.Bool("rewrite", false, "write testdata/mutants anew")
	single  = flag.String("walk", "", "for TestWalk_One: the walk, as the words that Parse reads")
)

// walked walks the options in words. again is the command to repeat it with its result, for a
// caller that is not satisfied to print.
func walked(t *testing.T, words string) (r Result, again string) {
	t.Helper()
	o, err := Parse(words)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Walk(o); err != nil {
		t.Fatal(err)
	}
	again = fmt.Sprintf("again: go test ./internal/proof/protocol -run 'TestWalk_One$' -v -timeout 3h -walk %q", words)
	return r, again
}

// told returns a result in words.
func told(r Result) string {
	out := fmt.Sprintf("%d states, depth %d, complete %v", r.States, r.Depth, r.Complete)
	if r.Violation != "" {
		out = fmt.Sprintf("%s\n%s\n%s\n%s", strings.Join(r.Path, "\n"), r.Violation, r.Final, out)
	}
	return out
}

func TestWalk_One(t *testing.T) {
	if *single == "" {
		t.Skip("needs -walk, as -walk 'orders=0a,0b attempts=01 faults=empty,crash fair'")
	}
	r, _ := walked(t, *single)
	t.Log(told(r))
	if !r.Complete || r.Violation != "" {
		t.Fail()
	}
}

// walks are the sales that are walked. The number of states is fixed here. A change of the model
// changes it, and its commit should say why.
var walks = []struct {
	words  string
	states int
	long   bool
}{
	{"orders=0a,0b attempts=01 faults=empty,crash fair", 138_187, false},
	{"faults=failover,crash,suspect fair", 170_591, false},
	{"faults=failover=2,suspect fair", 153_468, false},
	{"faults=suspect,failover sweepers=2 fair", 231_041, false},
	{"faults=suspect,crash attempts=000 fair", 193_318, false},
	{"orders=0a,0b attempts=01 faults=failover,suspect fair", 632_694, false},
	{"faults=split,suspect gateways=2 fair", 172_048, false},
	{"orders=0a,0b attempts=01 faults=split gateways=2 fair", 389_374, false},
	{"faults=restore,empty,crash fair", 179_285, false},
	{"faults=restore,tail,suspect fair", 135_423, false},
	{"faults=restore,failover,suspect fair", 706_931, false},
	{"orders=0a,0b attempts=01 faults=restore,suspect fair", 643_606, false},
	{"orders=0a,1b attempts=01 faults=restore partitions=2 pay fair", 1_304_870, false},
	{"faults=restore,early,suspect fair", 227_842, false},
	{"orders=0a,0b attempts=01 faults=park,failover fair", 350_006, false},
	{"faults=park,restore,suspect fair", 124_488, false},
	{"faults=restock,empty,late fair", 105_929, false},
	{"units=0,1 faults=restock,suspect,crash fair", 30_995, false},
	{"orders=0a,0s attempts=01 faults=suspect,restock fair", 100_396, false},
	{"orders=0a,0s attempts=01 faults=failover fair", 23_914, false},
	{"faults=failover,late pay fair", 84_317, false},
	{"rebuilders=2 epochs=4 faults=empty,suspect twostep fair", 872_279, false},
	{"shards=2 orders=0a,1b attempts=01 epochs=2 faults=suspect=2 fair", 678_716, false},
	{"shards=2 attempts=00 epochs=2 faults=failover,suspect=2 fair", 496_160, false},
	{"shards=2 attempts=0 faults=restore,suspect=2,crash fair", 543_587, false},
	{"shards=2 orders=0a,1b attempts=01 epochs=2 faults=empty=2 fair", 798_501, false},
	{"shards=2 attempts=00 epochs=2 faults=tail,suspect=2 fair", 105_600, false},
	{"shards=2 orders=0a,1b attempts=01 faults=failover fair", 662_363, false},
	{"shards=2 spread units=1,0 orders=0m,0a,1b attempts=012 faults=none fair", 98_474, false},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 epochs=2 faults=suspect=2 fair", 85_629, false},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 faults=empty fair", 27_562, false},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 faults=failover fair", 106_090, false},
	{"shards=2 spread units=1,0 orders=0m,0a attempts=01 epochs=2 faults=suspect,crash fair", 54_059, false},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 epochs=2 faults=restore fair", 26_146, false},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 epochs=2 faults=late,suspect fair", 147_612, false},
	{"shards=2 spread units=1,1 orders=0m,0a,1b attempts=012 faults=none fair", 449_520, false},
	{"shards=2 spread units=1,0 orders=0m,0a attempts=01 faults=park,failover fair", 96_237, false},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 epochs=2 faults=park,suspect fair", 48_098, false},
	{"shards=2 spread units=1,0 orders=0m,0s,1b attempts=012 epochs=2 faults=suspect fair", 195_284, false},

	{"orders=0a,0b,1c attempts=012 faults=none partitions=2 fair", 8_204_336, true},
	{"shards=2 attempts=00 gateways=2 epochs=2 faults=split,suspect=2", 1_976_366, true},
	{"shards=2 attempts=00 faults=restore,suspect=2", 1_516_805, true},
	{"orders=0a,1b attempts=01 faults=restore,tail,suspect", 8_437_178, true},
	{"gateways=2 faults=restore,split,suspect", 1_783_553, true},
	{"attempts=000 sweepers=2 faults=failover,crash", 896_252, true},
	{"orders=0a,0b attempts=011 faults=failover,suspect", 13_841_034, true},
	{"orders=0a,0b attempts=011 faults=restore,suspect", 9_200_633, true},
	{"orders=0a,0b attempts=01 faults=restore,failover,suspect", 8_926_949, true},
	{"shards=2 spread units=1,0 orders=0m,0a,1b attempts=012 epochs=2 faults=suspect=2", 4_001_019, true},
	{"shards=2 spread units=1,0 orders=0m,0a,1b attempts=012 epochs=2 faults=failover", 6_778_003, true},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 faults=restore,suspect=2", 3_268_038, true},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=001 sweepers=2 epochs=2 faults=suspect=2,crash", 15_366_298, true},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 epochs=2 faults=failover=2,suspect=2", 5_023_079, true},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 epochs=2 faults=empty=2,crash,late", 1_271_529, true},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 epochs=2 faults=restock,suspect=2", 391_467, true},
	{"shards=2 spread units=1,0 orders=0m,0a,1b attempts=012 faults=restore", 1_727_613, true},
	{"shards=2 spread units=1,0 orders=0m,1b attempts=01 gateways=2 faults=split,suspect", 2_364_813, true},
}

func TestWalk_NoLawBroken(t *testing.T) {
	for _, c := range walks {
		t.Run(strings.ReplaceAll(c.words, " ", ";"), func(t *testing.T) {
			if c.long && !*long {
				t.Skip("needs -long")
			}
			r, again := walked(t, c.words)
			if !r.Complete || r.Violation != "" || r.States != c.states {
				t.Errorf("%s\nwant no law broken, in %d states\n%s", told(r), c.states, again)
			}
		})
	}
}

// Every rule is needed: without it, a law breaks. The shortest path to that is kept as text, to be
// read, and to be reviewed when it changes.
func TestMutants_EachBreaksALaw(t *testing.T) {
	sound := map[string]bool{} // walks that were done with every rule
	for _, m := range Mutants() {
		t.Run(m.Name, func(t *testing.T) {
			r, again := walked(t, m.Without())
			if r.Violation == "" {
				t.Fatalf("no law breaks without the rule that %s: %s\n%s", m.Rule, told(r), again)
			}
			got := strings.Join(r.Path, "\n") + "\n" + r.Violation + "\n"
			file := filepath.Join("testdata", "mutants", m.Name+".txt")
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; write it: go test ./internal/proof/protocol -run Mutants -rewrite", err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant, as in %s,\n%s\n%s\nor, if the new path is right: "+
					"go test ./internal/proof/protocol -run Mutants -rewrite", got, file, want, again)
			}
			if sound[m.With()] {
				return
			}
			sound[m.With()] = true
			if r, again := walked(t, m.With()); !r.Complete || r.Violation != "" {
				t.Errorf("with the rule: %s\n%s", told(r), again)
			}
		})
	}
}

func TestMutants_EachFileIsARules(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("testdata", "mutants"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range Mutants() {
		known[m.Name+".txt"] = true
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("testdata/mutants/%s belongs to no rule", e.Name())
		}
	}
}

func TestWalk_StopsAtMaxStates(t *testing.T) {
	r, again := walked(t, "orders=0a,0b,1c attempts=012 faults=empty,crash fair max=1000")
	if r.Complete || r.Violation != "" || r.States < 1000 || r.States > 10_000 {
		t.Errorf("%s\n%s", told(r), again)
	}
}

func TestParse_NamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ words, want string }{
		{"orders=0a,1b,0c,1d", "number of orders is 4"},
		{"orders=2a", "item of an order is 2"},
		{"orders=a", `"a" is no order`},
		{"attempts=01", "order of an attempt is 1"},
		{"attempts=0000", "number of attempts is 4"},
		{"units=x", "units=x"},
		{"epochs=0", "epochs is 0"},
		{"gateways=3", "gateways is 3"},
		{"sweepers=3", "sweepers is 3"},
		{"rebuilders=0", "rebuilders is 0"},
		{"shards=3", "shards is 3"},
		{"faults=fire", `"fire"`},
		{"faults=late=3", "late is 3"},
		{"faults=empty=0", "want a count"},
		{"without=gravity", `"gravity"`},
		{"shards=2 spread orders=0m,0m", "2 moves"},
		{"orders=0m", "1 moves"},
		{"spread", "shards is 1"},
		{"shards=2 spread orders=0a,1a", "buyer a is on both shards"},
		{"speed=9", `"speed=9"`},
	} {
		if _, err := Parse(c.words); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.words, err, c.want)
		}
	}
	if _, err := Parse(""); err != nil {
		t.Error(err)
	}
}

func TestTable_AgainstAMap(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	table, model := newTable(2), map[uint64]uint32{}
	for i := range 20_000 {
		// Few low bits: long probes, and many repeats.
		h := 1 + random.Uint64N(50)<<40 + random.Uint64N(200)
		n, known := table.number(h)
		want, ok := model[h]
		if !ok {
			want = uint32(len(model))
			model[h] = want
		}
		if n != want || known != ok {
			t.Fatalf("seed %d, step %d: hash %d is %d (known %v), want %d (%v)", seed, i, h, n, known, want, ok)
		}
	}
}

func ExampleWalk() {
	o, err := Parse("faults=suspect without=nowaitout")
	if err != nil {
		panic(err)
	}
	r, err := Walk(o)
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.Join(r.Path, "\n"))
	fmt.Println(r.Violation)
	// Output:
	// attempts 0 hold by one call in epoch 1
	// rebuilder takes epoch 2
	// rebuilder of epoch 2 closes
	// rebuilder of epoch 2 waited out, writes its barrier at 0
	// the page of attempts 0, of epoch 1, is appended
	// 202 for attempt 0
	// rebuilder of epoch 2 fences and takes its snapshot
	// worker commits record 0
	// rebuilder of epoch 2 loads and opens
	// L2: all is quiet, and the promised order 0 has no row
}

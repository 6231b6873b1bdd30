package sim

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"penstock/internal/sqlite"
)

var (
	seedFlag   = flag.Uint64("sim.seed", 0, "run this seed alone, and print its path")
	budgetFlag = flag.Duration("sim.time", 0, "run new seeds for so long, instead of the fixed ones")
)

// fixedSeeds is how many seeds the unit run takes: the same each time, so that a failure is a change's.
const fixedSeeds = 200

// TestSim runs the sale under faults and looks at L1 to L5 after every step; the broken law is named in the failure.
func TestSim(t *testing.T) {
	template := newTemplate(t)
	met := make(tally)
	switch {
	case *seedFlag != 0:
		t.Log("\n" + simulate(t, template, *seedFlag, met))
	case *budgetFlag > 0:
		first, began := rand.Uint64(), time.Now()
		for seed := first; time.Since(began) < *budgetFlag; seed++ {
			simulate(t, template, seed, met)
		}
	default:
		for seed := uint64(1); seed <= fixedSeeds; seed++ {
			simulate(t, template, seed, met)
		}
		met.mustHave(t, mustMeet...)
	}
	t.Log(met)
}

// TestSeedsRepeat: a seed is a whole history. Without that a failure could not be looked at.
func TestSeedsRepeat(t *testing.T) {
	template := newTemplate(t)
	for seed := uint64(1); seed <= 20; seed++ {
		first, second := simulate(t, template, seed, make(tally)), simulate(t, template, seed, make(tally))
		if first != second {
			t.Errorf("seed %d went two ways:\n%s\n\nand\n\n%s", seed, first, second)
		}
	}
}

// simulate runs a seed and returns its path.
func simulate(t *testing.T, template string, seed uint64, met tally) (path string) {
	t.Helper()
	var broken string
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 0))
		r, err := newRig(t.Context(), template, dir, newTerms(random), []string{"A", "B", "C"}[:1+random.IntN(3)]...)
		if err != nil {
			t.Fatal(err)
		}
		err = newChaos(r, random).run()
		path, broken = r.path.String(), r.broken
		if err == nil {
			err = met.add(r)
		}
		if closing := r.close(); err != nil || closing != nil {
			t.Fatalf("seed %d: %v, %v\n%s", seed, err, closing, path)
		}
	})
	if broken != "" {
		t.Fatalf("%s\n%s\nrepeat with: go test ./internal/proof/sim -run TestSim -sim.seed=%d", path, broken, seed)
	}
	return path
}

// newTemplate makes a database file with the schema, which each run copies.
func newTemplate(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "template.db")
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// tally counts what runs have met.
type tally map[string]int

// mustMeet is what the fixed seeds have to meet, and each many times do: a simulator that never gets there proves nothing.
var mustMeet = []string{
	"answer accepted queued", "answer again queued", "answer again pending_payment", "answer unknown", "answer failed",
	"answer sold-out", "answer purchase-limit", "answer idempotency-key-reused", "answer no answer",
	"order pending_payment", "order paid", "order cancelled cancelled-by-buyer", "order cancelled payment-timeout",
	"order cancelled not-accepted",
	"epochs", "failovers", "losses", "restocks", "withdrawals",
}

func (m tally) add(r *rig) error {
	orders, err := r.orders()
	if err != nil {
		return err
	}
	for _, o := range orders {
		m["order "+orderState(o)]++
	}
	for _, a := range r.attempts {
		m["answer "+a.answer()]++
	}
	books, err := r.store.Books(r.ctx, activity)
	if err != nil {
		return err
	}
	m["runs"]++
	m["records skipped"] += int(books[0].Skipped)
	m["epochs"] += int(books[0].Epoch) - 1
	m["failovers"] += r.failovers
	m["losses"] += r.losses
	for _, c := range r.changes {
		if c.done.Load() && c.Delta > 0 {
			m["restocks"]++
		} else if c.done.Load() {
			m["withdrawals"]++
		}
	}
	return nil
}

func (m tally) mustHave(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if m[name] == 0 {
			t.Errorf("no run has met %q", name)
		}
	}
}

func (m tally) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "\n%8d %s", m[name], name)
	}
	return b.String()
}

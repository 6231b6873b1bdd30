package sim

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/sqlite"
)

var (
	seedFlag   = flag.Uint64("sim.seed", 0, "run this seed alone, and print its path")
	stepsFlag  = flag.String("sim.steps", "", "with -sim.seed: take these steps only, as 3,7-12")
	seedsFlag  = flag.Uint64("sim.seeds", fixedSeeds, "how many seeds to run, from 1 on")
	budgetFlag = flag.Duration("sim.time", 0, "run new seeds for so long, instead of the fixed ones")
	fromFlag   = flag.Uint64("sim.from", 0, "with -sim.time: the first of the seeds, 0 for any")
	wholeFlag  = flag.Bool("sim.whole", false, "print a failing seed as it is, and do not make it shorter")
	recordFlag = flag.String("sim.record", "", "with -sim.time: a file that gets a line for each piece of the run, from where its last line ends")
)

// fixedSeeds is how many seeds the unit run takes. They are the same each time, so a failure comes
// from a change.
const fixedSeeds = 5000

// TestSim runs the sale under faults and looks at L1 to L6 after every step. A failure names the
// broken law, and prints a short path to it.
func TestSim(t *testing.T) {
	s := newSimulator(t)
	switch {
	case *seedFlag != 0:
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as in TestSeedsRepeat
		takes, err := parseSteps(*stepsFlag)
		if err != nil {
			t.Fatal(err)
		}
		o := s.simulate(t, *seedFlag, takes)
		t.Logf("\n%s", o.path)
		if o.broken != "" {
			t.Error(o.broken)
		}
		return
	case *budgetFlag > 0:
		s.runFor(t, *budgetFlag)
	default:
		s.run(t, func(n uint64) (uint64, bool) { return n + 1, n < *seedsFlag })
		// A change of the code gives the same seeds other histories. A few more seeds cover the
		// rest.
		const more = fixedSeeds / 10
		for next := uint64(fixedSeeds); *seedsFlag == fixedSeeds && next < 2*fixedSeeds; next += more {
			if t.Failed() || len(s.coverage.missing()) == 0 {
				break
			}
			s.run(t, func(n uint64) (uint64, bool) { return next + n + 1, n < more })
		}
	}
	if t.Failed() {
		return
	}
	t.Logf("%v\n\n%v", s.met, s.coverage)
	if *budgetFlag == 0 && *seedsFlag >= fixedSeeds {
		s.met.mustHave(t, mustMeet...)
		for _, c := range s.coverage.missing() {
			t.Errorf("no %s was %s in any run", c.method, c.fate)
		}
	}
}

// TestSeedsRepeat: a seed always gives the same history. Without that a failure could not be
// studied. Requests that are woken in one step join one batch or two, depending on the scheduler,
// so a seed is repeated on one processor.
func TestSeedsRepeat(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := newSimulator(t)
	for seed := uint64(1); seed <= 20; seed++ {
		first, second := s.simulate(t, seed, allSteps), s.simulate(t, seed, allSteps)
		if first.path != second.path {
			t.Errorf("seed %d went two ways:\n%s", seed, fork(first.path, second.path))
		}
	}
}

// TestAnswers_AreTheDatabases: a disk answers from memory the same as the database.
func TestAnswers_AreTheDatabases(t *testing.T) {
	s := newSimulator(t)
	s.shops.disks.doubted = true
	for seed := uint64(1); seed <= 20; seed++ {
		if o := s.simulate(t, seed, allSteps); o.broken != "" || strings.Contains(o.path, "from memory") {
			t.Errorf("%s\n%s", o.path, o.broken)
		}
	}
}

// fork returns the first difference of two paths, with the lines before it.
func fork(first, second string) string {
	a, b := strings.Split(first, "\n"), strings.Split(second, "\n")
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	from := max(0, at-20)
	return strings.Join(a[from:min(at+3, len(a))], "\n") + "\n\nand\n\n" + strings.Join(b[at:min(at+3, len(b))], "\n")
}

// simulator runs seeds and adds up their counts.
type simulator struct {
	shops *shops

	mu       sync.Mutex
	met      tally    // guarded by mu
	coverage coverage // guarded by mu
}

func newSimulator(t *testing.T) *simulator {
	return &simulator{shops: newShops(t), met: make(tally), coverage: make(coverage)}
}

// newDir makes a directory for databases. It is in memory where possible, because nothing has to
// survive the test.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "penstock-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// run runs the seeds that next returns, several at a time, until one fails.
func (s *simulator) run(t *testing.T, next func(n uint64) (seed uint64, ok bool)) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is little to keep
	var given atomic.Uint64
	var failed atomic.Bool
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for !failed.Load() {
					seed, ok := next(given.Add(1) - 1)
					if !ok {
						return
					}
					if o := s.simulate(t, seed, allSteps); o.broken != "" || t.Failed() {
						switch first := !failed.Swap(true); {
						case first && *wholeFlag:
							t.Errorf("%s\n%s\nrepeat with: %s", o.path, o.broken, repeats(seed, nil))
						case first:
							t.Error(s.shrink(t, seed, o))
						}
						return
					}
				}
			})
		}
	})
}

// recordEach is the length of a recorded part of a run.
const recordEach = time.Minute

// runFor runs new seeds for so long. With a record it does it in pieces, each with its line: so a
// range of seeds can be run on many days, and what was run is known.
func (s *simulator) runFor(t *testing.T, budget time.Duration) {
	t.Helper()
	from := *fromFlag
	if *recordFlag != "" {
		last, err := lastOfRecord(*recordFlag)
		if err != nil {
			t.Fatal(err)
		}
		from = max(from, last)
	}
	if from == 0 {
		from = rand.Uint64()
	}
	for began := time.Now(); time.Since(began) < budget && !t.Failed(); {
		piece, end := budget-time.Since(began), time.Now()
		if *recordFlag != "" {
			piece = min(piece, recordEach)
		}
		end = end.Add(piece)
		var ran atomic.Uint64
		s.run(t, func(uint64) (uint64, bool) {
			if !time.Now().Before(end) {
				return 0, false
			}
			return from + ran.Add(1) - 1, true
		})
		if *recordFlag != "" {
			if err := addToRecord(*recordFlag, from, from+ran.Load(), t.Failed()); err != nil {
				t.Fatal(err)
			}
		}
		from += ran.Load()
	}
}

// lastOfRecord returns where the last piece of a record ends, 0 if there is none.
func lastOfRecord(file string) (last uint64, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for line := range strings.Lines(string(text)) {
		var from uint64
		if _, err := fmt.Sscanf(line, "%d %d", &from, &last); err != nil {
			return 0, fmt.Errorf("%s: %q: %w", file, line, err)
		}
	}
	return last, err
}

// addToRecord records how the seeds from first up to, but without, last ended, and when.
func addToRecord(file string, from, to uint64, failed bool) error {
	result := "no law broken"
	if failed {
		result = "failed"
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %d %s %s\n", from, to, time.Now().UTC().Format(time.RFC3339), result)
	return errors.Join(err, f.Close())
}

// outcome is the result of a run.
type outcome struct {
	broken string // the law, "" is none
	path   string
	steps  int // that were taken
}

// simulate runs a seed.
func (s *simulator) simulate(t *testing.T, seed uint64, takes func(int) bool) (o outcome) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	terms := newTerms(random)
	shop := s.shops.of(t, terms)
	synctest.Test(t, func(t *testing.T) {
		r, err := newRig(t.Context(), shop, terms, []string{"A", "B", "C"}[:1+random.IntN(3)]...)
		if err != nil {
			t.Fatal(err)
		}
		c := newChaos(r, seed, random)
		err = c.run(takes)
		o = outcome{r.broken, r.path.String(), c.taken}
		if err == nil {
			err = s.add(r)
		}
		if closing := r.close(); err != nil || closing != nil {
			t.Fatalf("seed %d: %v, %v\n%s", seed, err, closing, o.path)
		}
	})
	return o
}

// add adds a run's counts.
func (s *simulator) add(r *rig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, n := range r.met {
		s.coverage[at] += n
	}
	return s.met.add(r)
}

// shops are the shops that were made, by their terms.
type shops struct {
	disks  *disks
	schema image // a database with nothing but the schema

	mu   sync.Mutex
	made map[terms]*shop // guarded by mu
}

func newShops(t *testing.T) *shops {
	t.Helper()
	dir := newDir(t)
	disks := &disks{dir: dir}
	t.Cleanup(func() {
		if err := disks.close(); err != nil {
			t.Error(err)
		}
	})
	return &shops{disks: disks, schema: newSchema(t, dir), made: make(map[terms]*shop)}
}

// of returns the shop of these terms.
func (s *shops) of(t *testing.T, want terms) *shop {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	want = want.of()
	if s.made[want] == nil {
		synctest.Test(t, func(t *testing.T) {
			shop, err := makeShop(t.Context(), s.disks, s.schema, want)
			if err != nil {
				t.Fatal(err)
			}
			s.made[want] = shop
		})
	}
	return s.made[want]
}

// newSchema makes a database with the schema.
func newSchema(t *testing.T, dir string) image {
	t.Helper()
	file := filepath.Join(dir, "schema.db")
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: file, Shards: shards})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	made, err := readImage(file)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// tally counts events of runs.
type tally map[string]int

// mustMeet lists the events that the fixed seeds have to reach, and do reach many times. A
// simulator that never reaches them would prove nothing.
var mustMeet = []string{
	"answer accepted queued", "answer again queued", "answer again pending_payment", "answer unknown", "answer failed",
	"answer sold-out", "answer busy", "answer purchase-limit", "answer idempotency-key-reused", "answer no answer",
	"order pending_payment", "order paid", "order cancelled cancelled-by-buyer", "order cancelled payment-timeout",
	"order cancelled not-accepted", "rebuilds", "restores", "tails", "failovers", "losses", "restocks", "withdrawals",
	"parked", "moved", "skipped", "clock jumps", "restarts", "ask paid", "ask queued", "ask unknown-order",
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
	books, err := r.store.ActivityBooks(r.ctx, activity)
	if err != nil {
		return err
	}
	for _, a := range r.asks {
		m["ask "+a.answer()]++
	}
	m["runs"]++
	m["restarts"] += r.restarts
	for i := range books {
		m["skipped"] += int(books[i].Skipped)
	}
	for shard := range r.epochs {
		m["rebuilds"] += len(r.epochs[shard]) - 1
	}
	m["restores"] += r.restores
	m["tails"] += r.tails
	m["failovers"] += r.failovers
	m["losses"] += r.losses
	m["parked"] += r.parks
	m["clock jumps"] += r.jumps
	for _, p := range r.processes {
		m["moved"] += int(p.sale.Mover.Moved())
	}
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

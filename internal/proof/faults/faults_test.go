package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// kind is a fault that is tried.
type kind struct {
	name   string
	what   string // for the table
	on     string // its installation, of layouts
	harm   func(*fault)
	may    []string // what may stop, as the runbook says: some of the constants below
	excuse excuse
	before func(*site)   // preparation before the sale is opened
	starts time.Duration // when the sale begins, from now; buyers come before that
}

// What a fault may affect.
const (
	purchases = "purchases"  // no purchase is promised
	status    = "status"     // no order can be read
	readiness = "readiness"  // an unharmed gateway is not ready
	rows      = "new orders" // promises don't become orders
)

// fault is a kind while it is tried.
type fault struct {
	*testing.T
	*kind
	s     *site
	crowd *crowd
	opens time.Time // the sale

	began, ended time.Time
	counted      [2]int64 // orders when it began and just before it ended, -1 where they can't be counted
}

// during causes the fault, waits, and repairs it.
func (f *fault) during(d time.Duration, harm, mend func()) {
	f.Helper()
	f.counted[0] = f.countOrders()
	f.began = time.Now()
	harm()
	pause(f, d)
	f.counted[1] = f.countOrders()
	mend()
	f.ended = time.Now()
}

// countOrders counts the sale's orders.
func (f *fault) countOrders() int64 {
	if f.s.postgres == nil || slices.Contains(f.may, rows) {
		return -1
	}
	conn, err := f.s.connect(f.Context())
	no(f, "connect to the database", err)
	defer conn.Close(f.Context())
	var n int64
	no(f, "count orders", conn.QueryRow(f.Context(), "SELECT count(*) FROM orders WHERE activity = ANY($1)", f.crowd.sale.activities).Scan(&n))
	return n
}

// outcome is a row of the table.
type outcome struct {
	kind     *kind
	came     int
	served   int
	promised int
	during   int
	stood    time.Duration // the longest time without a promise
	again    time.Duration // from the end of the fault to the end of that time, 0 if the sale went on
	affected []string
	lost     int
	rejected int
	unread   int
	broken   []string
	skipped  bool
}

// settles is how long after the beginning of a fault other parts may be affected too: until
// breakers open, and a group or a cluster notices it.
const settles = 3 * time.Second

// run tries a kind.
func (k *kind) run(t *testing.T, s *site) (o outcome) {
	if k.before != nil {
		k.before(s)
	}
	f := &fault{T: t, kind: k, s: s, opens: time.Now().Add(k.starts).Truncate(time.Second)}
	if k.starts == 0 {
		f.opens = f.opens.Add(-time.Hour)
	}
	c := newCrowd(t, s, s.openSale(t, k.name, f.opens))
	f.crowd = c
	eventually(t, "it sells", func() bool { return k.starts > 0 || c.promised(time.Time{}, nil) >= 100 })
	k.harm(f)
	eventually(t, "it sells again", func() bool { return c.promised(f.ended, nil) >= 100 })
	c.stop()
	v := c.judge(t, f)
	o = outcome{
		kind: k, came: c.came, served: c.served, promised: len(c.promises), lost: v.lost, rejected: c.rejected, unread: c.unread,
		broken: v.broken, affected: f.affected(), during: len(c.promisesIn(f.began, f.ended, nil)),
	}
	o.stood, o.again = f.gap()
	return o
}

// affected returns what had stopped after the first moments of the fault.
func (f *fault) affected() (all []string) {
	c, from := f.crowd, f.began.Add(settles)
	if f.ended.After(from) {
		if len(c.promisesIn(from, f.ended, nil)) == 0 {
			all = append(all, purchases)
		}
		if c.readsIn(from, f.ended) == 0 {
			all = append(all, status)
		}
		if f.counted[0] >= 0 && f.counted[1] == f.counted[0] && len(c.promisesIn(f.began, f.ended, nil)) > 0 {
			all = append(all, rows)
		}
	}
	if len(c.unready) > 0 {
		f.Logf("gateways that were not ready: %s", list(c.unready, 5))
		all = append(all, readiness)
	}
	return all
}

// gap returns the longest time without a promise that began during the fault or directly after it,
// and the part of it after the end of the fault.
func (f *fault) gap() (longest, again time.Duration) {
	last := f.began
	for _, p := range f.crowd.promisesIn(f.began, f.ended.Add(patience), nil) {
		if gap := p.at.Sub(last); gap > longest && last.Before(f.ended.Add(2*time.Second)) {
			longest, again = gap, max(0, p.at.Sub(f.ended))
		}
		last = p.at
	}
	if longest < time.Second {
		again = 0
	}
	return longest, again
}

// shortKinds are those of every run of the tests.
var shortKinds = []string{"gateway-kill", "worker-kill"}

// chosen returns the kinds that -faults names.
func chosen(t *testing.T) (all []*kind) {
	names := strings.Split(*whichFlag, ",")
	if *whichFlag == "short" {
		names = shortKinds
	}
	known := make(map[string]bool)
	for _, k := range kinds() {
		known[k.name] = true
		if *whichFlag == "all" || slices.Contains(names, k.name) {
			all = append(all, k)
		}
	}
	for _, name := range names {
		if !known[name] && *whichFlag != "all" {
			t.Fatalf("no fault is called %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	return all
}

// TestFaults tries the kinds that -faults names, and prints the table of docs/faults.md.
func TestFaults(t *testing.T) {
	left := chosen(t)
	var table []outcome
	defer func() { t.Log(printTable(table)) }()
	for part := 1; len(left) > 0; part++ {
		on, all := left[0].on, len(left)
		t.Run(fmt.Sprint(on, "-", part), func(t *testing.T) {
			s := layouts[on](t)
			for ended := true; len(left) > 0 && left[0].on == on && ended; { // a kind that did not end has left its fault in place
				k := left[0]
				left = left[1:]
				t.Run(k.name, func(t *testing.T) {
					o := outcome{kind: k, skipped: true}
					defer func() {
						if t.Skipped() {
							ended = true
						} else {
							table = append(table, o)
							t.Log(printTable([]outcome{o}))
						}
						if t.Failed() {
							t.Logf("repeat it with: make faults FAULTS=%s", k.name)
						}
					}()
					ended = false
					o = k.run(t, s)
					ended = true
					for _, broken := range o.broken {
						t.Error(broken)
					}
					for _, what := range o.affected {
						if !slices.Contains(k.may, what) {
							t.Errorf("L10: %s stood still while the fault lasted", what)
						}
					}
				})
			}
		})
		if len(left) == all { // the installation couldn't be started
			left = slices.DeleteFunc(left, func(k *kind) bool { return k.on == on })
		}
	}
}

// printTable prints outcomes as docs/faults.md has them.
func printTable(table []outcome) string {
	var b strings.Builder
	b.WriteString("\n| fault | what happens | buyers: came, served | promises: all, meanwhile | laws broken | stood still | longest pause, s | sold again after, s |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, o := range table {
		stood := "nothing"
		if len(o.affected) > 0 {
			stood = strings.Join(o.affected, ", ")
		}
		broken := fmt.Sprint(len(o.broken))
		if o.skipped {
			broken = "did not end"
		}
		if o.lost > 0 {
			broken += fmt.Sprintf("; %d promises lost with the log", o.lost)
		}
		if o.rejected > 0 {
			broken += fmt.Sprintf("; %d rejected", o.rejected)
		}
		if o.unread > 0 {
			broken += fmt.Sprintf("; %d reads of promised orders said unknown", o.unread)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %d, %d | %d, %d | %s | %s | %.1f | %.1f |\n", o.kind.name, o.kind.what, o.came, o.served,
			o.promised, o.during, broken, stood, o.stood.Seconds(), o.again.Seconds())
	}
	return b.String()
}

func newRand(i int) *rand.Rand { return rand.New(rand.NewPCG(620, uint64(i))) }

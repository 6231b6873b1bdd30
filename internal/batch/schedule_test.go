package batch

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzSchedule runs a schedule of Do, cancel, Close and ends of calls, one step at a time. A model
// computes the exact result of each step: which call begins with which items, and which answer each
// item gets.
func FuzzSchedule(f *testing.F) {
	f.Add([]byte{2, 2, 1, 0, 0, 0, 0, 9, 3, 3})
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		steps := make([]byte, 3+random.IntN(120))
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		f.Add(steps)
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) < 3 {
			return
		}
		cfg := Config{Cap: 1 + int(steps[0]%5), Queue: 1 + int(steps[1]%8), Parallel: 1 + int(steps[2]%3), Timeout: time.Hour}
		synctest.Test(t, func(t *testing.T) {
			m := &model{t: t, cfg: cfg, rig: newRig(t, cfg), want: map[int]answer{}, got: map[int]<-chan answer{}}
			for _, step := range steps[3:] {
				m.step(step)
			}
			m.finish()
		})
	})
}

var errCall = errors.New("call failed")

// model is a Batcher in its simplest form.
type model struct {
	t   *testing.T
	cfg Config
	rig *rig

	queue   []int
	flights [][]int // in the order in which they began
	calls   [][]int // ever
	closed  bool
	still   <-chan struct{} // ends with the first Close
	want    map[int]answer  // by item, of those that are answered
	refused uint64

	items   int
	got     map[int]<-chan answer
	cancels []context.CancelFunc
}

func (m *model) step(step byte) {
	switch n := int(step >> 3); step % 8 {
	case 0, 1, 2:
		m.do(n%8 == 7)
	case 3, 4:
		if m.items > 0 {
			m.cancel(m.items - 1 - n%m.items)
		}
	case 7:
		if n == 31 && !m.closed {
			m.close()
		}
		fallthrough
	default:
		if len(m.flights) > 0 {
			m.end(n%len(m.flights), n/4%4)
		}
	}
	m.check()
}

func (m *model) do(ended bool) {
	v := m.items
	m.items++
	ctx, cancel := context.WithCancel(m.t.Context())
	m.cancels = append(m.cancels, cancel)
	if ended {
		cancel()
	}
	switch {
	case ended:
		m.want[v] = answer{err: context.Canceled}
	case m.closed:
		m.want[v] = answer{err: ErrClosed}
	case len(m.queue) == m.cfg.Queue:
		m.want[v] = answer{err: ErrFull}
		m.refused++
	default:
		m.queue = append(m.queue, v)
		m.begin()
	}
	m.got[v] = m.rig.do(ctx, v)
}

// begin begins calls as long as one may.
func (m *model) begin() {
	for len(m.queue) > 0 && (len(m.flights) == 0 || len(m.flights) < m.cfg.Parallel && len(m.queue) >= m.cfg.Cap) {
		n := min(m.cfg.Cap, len(m.queue))
		flight := slices.Clone(m.queue[:n])
		m.queue = m.queue[n:]
		m.flights = append(m.flights, flight)
		m.calls = append(m.calls, slices.Clone(flight))
	}
}

func (m *model) cancel(v int) {
	if i := slices.Index(m.queue, v); i >= 0 {
		m.queue = slices.Delete(m.queue, i, i+1)
		m.want[v] = answer{err: context.Canceled}
	}
	for _, flight := range m.flights {
		if _, over := m.want[v]; slices.Contains(flight, v) && !over {
			m.want[v] = answer{err: ErrAbandoned}
		}
	}
	m.cancels[v]()
	synctest.Wait()
}

func (m *model) end(i, how int) {
	hows := []func() error{
		nil,
		func() error { return errCall },
		func() error { panic("told to") },
		func() error { runtime.Goexit(); return nil },
	}
	errs := []error{nil, errCall, ErrPanic, ErrPanic}
	for _, v := range m.flights[i] {
		if _, over := m.want[v]; over {
			continue
		}
		m.want[v] = answer{err: errs[how]}
		if how == 0 {
			m.want[v] = answer{out: 2 * v}
		}
	}
	m.flights = slices.Delete(m.flights, i, i+1)
	m.begin()
	m.rig.end(i, hows[how])
}

func (m *model) close() {
	still := make(chan struct{})
	go func() { m.rig.Close(); close(still) }()
	synctest.Wait()
	m.closed, m.still = true, still
}

// check compares the Batcher with the model: exactly the items that have ended are answered, and
// with the right answers.
func (m *model) check() {
	m.t.Helper()
	m.rig.want(m.calls...)
	for v, c := range m.got {
		want, over := m.want[v]
		if over {
			wantAnswer(m.t, c, want)
			delete(m.got, v)
		} else if len(c) > 0 {
			m.t.Fatalf("item %d has an answer: %v", v, <-c)
		}
	}
	var items int
	for _, call := range m.calls {
		items += len(call)
	}
	want := Stats{Queued: len(m.queue), InFlight: len(m.flights), Refused: m.refused}
	want.Batches, want.Items = uint64(len(m.calls)), uint64(items)
	if got := m.rig.Stats(); got != want {
		m.t.Fatalf("stats are %+v, want %+v", got, want)
	}
	if m.closed {
		select {
		case <-m.still:
			if len(m.flights) > 0 {
				m.t.Fatal("Close returned before all was still")
			}
		default:
			if len(m.flights) == 0 {
				m.t.Fatal("Close does not return though all is still")
			}
		}
	}
}

func (m *model) finish() {
	for len(m.flights) > 0 {
		m.end(0, 0)
		m.check()
	}
	if len(m.got) > 0 {
		m.t.Fatalf("never answered: %v", slices.Sorted(maps.Keys(m.got)))
	}
	for _, cancel := range m.cancels {
		cancel()
	}
}

// FuzzRaces lets many goroutines do, cancel and close at the same time, so that the steps of
// FuzzSchedule overlap. In any order, each item is answered once, is sent at most once, and is sent
// exactly when its answer says so.
func FuzzRaces(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		defer func() {
			if t.Failed() {
				t.Logf("seed %d; to repeat, as the scheduler has its say: go test -race -run='%s' -count=100 ./internal/batch", seed, t.Name())
			}
		}()
		newTangle(t, seed).run()
	})
}

// tangle is one run of FuzzRaces.
type tangle struct {
	t    *testing.T
	seed uint64
	*Batcher[int, int]
	sent []atomic.Int32 // by item: how often a call had it
}

const tangleCallers, tangleRounds = 16, 40

func newTangle(t *testing.T, seed uint64) *tangle {
	random := rand.New(rand.NewPCG(seed, 2))
	g := &tangle{t: t, seed: seed, sent: make([]atomic.Int32, tangleCallers*tangleRounds)}
	cfg := Config{Cap: 1 + random.IntN(8), Queue: 1 + random.IntN(20), Parallel: 1 + random.IntN(3), Timeout: time.Minute}
	b, err := New(cfg, func(ctx context.Context, in, out []int) error {
		if len(in) == 0 || len(in) > cfg.Cap || len(out) != len(in) {
			t.Errorf("a call has %d items and room for %d answers; the cap is %d", len(in), len(out), cfg.Cap)
		}
		for _, v := range in {
			g.sent[v].Add(1)
		}
		random := rand.New(rand.NewPCG(seed, uint64(in[0])))
		for range random.IntN(20) {
			runtime.Gosched()
		}
		switch random.IntN(16) {
		case 0:
			return errCall
		case 1:
			panic("told to")
		case 2:
			runtime.Goexit()
		}
		return double(ctx, in, out)
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Batcher = b
	return g
}

func (g *tangle) run() {
	answers := make([]answer, len(g.sent))
	var callers, closers sync.WaitGroup
	for c := range tangleCallers {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(g.seed, 1000+uint64(c)))
			for i := range tangleRounds {
				v := c*tangleRounds + i
				answers[v] = g.one(random, v)
			}
		})
	}
	early := g.seed%4 == 0
	if early { // in the middle of the run
		closers.Go(func() {
			for g.Stats().Batches < 20 {
				runtime.Gosched()
			}
			g.Close()
		})
	}
	callers.Wait()
	closers.Wait()
	g.Close()
	g.check(answers, early)
}

// one calls Do for v, with a ctx that may end at any moment.
func (g *tangle) one(random *rand.Rand, v int) answer {
	ctx, cancel := context.WithCancel(g.t.Context())
	var canceller sync.WaitGroup
	if patience := random.IntN(40); patience < 30 {
		canceller.Go(func() {
			for range patience {
				runtime.Gosched()
			}
			cancel()
		})
	}
	out, err := g.Do(ctx, v)
	// Sent or not is known now: nothing is sent after Do said that it wasn't.
	if never := !sentBy(err); never && g.sent[v].Load() != 0 {
		g.t.Errorf("item %d: sent, and answered %v", v, err)
	}
	canceller.Wait()
	cancel()
	return answer{out, err}
}

// sentBy reports whether an item with this answer was in a call.
func sentBy(err error) bool {
	return err == nil || errors.Is(err, errCall) || errors.Is(err, ErrAbandoned)
}

func (g *tangle) check(answers []answer, closedEarly bool) {
	var want Stats
	for v, a := range answers {
		var sent int32
		switch {
		case sentBy(a.err):
			sent = 1
			want.Items++
		case errors.Is(a.err, ErrFull):
			want.Refused++
		case errors.Is(a.err, ErrClosed) && closedEarly:
		case errors.Is(a.err, context.Canceled):
		default:
			g.t.Errorf("item %d: answered %v", v, a.err)
		}
		if got := g.sent[v].Load(); got != sent {
			g.t.Errorf("item %d: sent %d times, want %d; answered %v", v, got, sent, a.err)
		}
		if a.err == nil && a.out != 2*v {
			g.t.Errorf("item %d: answered %d", v, a.out)
		}
	}
	got := g.Stats()
	want.Batches = got.Batches
	if got != want {
		g.t.Errorf("stats are %+v, want %+v", got, want)
	}
}

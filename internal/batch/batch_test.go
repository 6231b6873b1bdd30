package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// double answers 2v to v.
func double(_ context.Context, in, out []int) error {
	for i, v := range in {
		out[i] = 2 * v
	}
	return nil
}

// rig is a Batcher whose calls wait until the test ends them. It lives in a synctest bubble.
type rig struct {
	*Batcher[int, int]
	t     *testing.T
	mu    sync.Mutex
	calls [][]int             // begun, in order
	held  []chan func() error // of calls in flight, oldest first
	ctxs  []context.Context   // of the calls, in order
}

// newRig makes a rig; it is closed, and lets go of all calls, when the test ends.
func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t}
	b, err := New(cfg, func(ctx context.Context, in, out []int) error {
		r.mu.Lock()
		word := make(chan func() error)
		r.calls = append(r.calls, slices.Clone(in))
		r.ctxs = append(r.ctxs, ctx)
		r.held = append(r.held, word)
		r.mu.Unlock()
		for i, v := range out {
			if v != 0 {
				t.Errorf("out[%d] = %d before the call", i, v)
			}
		}
		if err := double(ctx, in, out); err != nil {
			return err
		}
		return (<-word)() // where it fails, nobody may close it
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Batcher = b
	t.Cleanup(func() {
		for synctest.Wait(); len(r.held) > 0; synctest.Wait() {
			r.end(0, nil)
		}
		r.Close()
	})
	return r
}

// answer is what a Do returned.
type answer struct {
	out int
	err error
}

func (a answer) String() string { return fmt.Sprintf("%d, %v", a.out, a.err) }

// do starts a Do and waits until it is queued, in flight or over.
func (r *rig) do(ctx context.Context, v int) <-chan answer {
	r.t.Helper()
	c := make(chan answer, 1)
	go func() {
		out, err := r.Do(ctx, v)
		c <- answer{out, err}
	}()
	synctest.Wait()
	return c
}

// end ends the i-th call in flight by how (nil: success), and waits for the consequences.
func (r *rig) end(i int, how func() error) {
	r.t.Helper()
	if how == nil {
		how = func() error { return nil }
	}
	r.mu.Lock()
	word := r.held[i]
	r.held = slices.Delete(r.held, i, i+1)
	r.mu.Unlock()
	word <- how
	synctest.Wait()
}

// want fails the test unless the calls so far had these items.
func (r *rig) want(calls ...[]int) {
	r.t.Helper()
	if !slices.EqualFunc(r.calls, calls, slices.Equal) {
		r.t.Fatalf("calls were %v, want %v", r.calls, calls)
	}
}

// wantAnswer fails the test unless c has this answer now.
func wantAnswer(t *testing.T, c <-chan answer, want answer) {
	t.Helper()
	select {
	case got := <-c:
		if got.out != want.out || !errors.Is(got.err, want.err) {
			t.Fatalf("Do = %v, want %v", got, want)
		}
	default:
		t.Fatal("Do has not returned")
	}
}

func bubble(name string, t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

var roomy = Config{Cap: 100, Queue: 100, Timeout: time.Hour}

func TestConfig_Validate(t *testing.T) {
	f := func(c Config, wrong ...string) {
		t.Helper()
		err := c.Validate()
		if (err == nil) != (len(wrong) == 0) {
			t.Errorf("%+v: got %v, want errors on %q", c, err, wrong)
		}
		for _, name := range wrong {
			if !strings.Contains(fmt.Sprint(err), name) {
				t.Errorf("%+v: %v doesn't name %s", c, err, name)
			}
		}
		if _, made := New(c, double); (made == nil) != (err == nil) {
			t.Errorf("%+v: New says %v, Validate %v", c, made, err)
		}
	}
	f(Config{Cap: 1, Queue: 1, Timeout: 1})
	f(Config{Cap: 500, Queue: 5, Parallel: 3, Timeout: time.Second})
	f(Config{}, "cap", "queue", "timeout")
	f(Config{Cap: -1, Queue: -1, Parallel: -1, Timeout: -1}, "cap", "queue", "parallel", "timeout")
	if _, err := New[int, int](roomy, nil); err == nil {
		t.Error("New takes a nil call")
	}
}

func TestDo_IdleGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(roomy, double)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		start := time.Now() // the bubble's clock moves only when everybody waits for it
		for v := range 10 {
			if got, err := b.Do(t.Context(), v); got != 2*v || err != nil {
				t.Errorf("Do(%d) = %d, %v", v, got, err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v for company", waited)
		}
		synctest.Wait()
		if got, want := b.Stats(), (Stats{Batches: 10, Items: 10}); got != want {
			t.Errorf("stats are %+v, want %+v", got, want)
		}
	})
}

func TestDo_CollectsWhileInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Cap: 3, Queue: 100, Timeout: time.Hour})
		var answers []<-chan answer
		for v := range 8 {
			answers = append(answers, r.do(t.Context(), v))
		}
		r.want([]int{0})
		if got, want := r.Stats(), (Stats{Queued: 7, InFlight: 1, Batches: 1, Items: 1}); got != want {
			t.Errorf("stats are %+v, want %+v", got, want)
		}
		r.end(0, nil)
		r.want([]int{0}, []int{1, 2, 3})
		wantAnswer(t, answers[0], answer{out: 0})
		answers = append(answers, r.do(t.Context(), 8))
		r.end(0, nil)
		r.want([]int{0}, []int{1, 2, 3}, []int{4, 5, 6})
		r.end(0, nil)
		r.want([]int{0}, []int{1, 2, 3}, []int{4, 5, 6}, []int{7, 8})
		r.end(0, nil)
		for v := 1; v < len(answers); v++ {
			wantAnswer(t, answers[v], answer{out: 2 * v})
		}
	})
}

func TestDo_Parallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Cap: 2, Queue: 100, Parallel: 3, Timeout: time.Hour})
		var answers []<-chan answer
		for v := range 8 {
			answers = append(answers, r.do(t.Context(), v))
		}
		r.want([]int{0}, []int{1, 2}, []int{3, 4}) // a further call waits until it is full
		r.end(1, nil)                              // calls may overtake each other
		wantAnswer(t, answers[1], answer{out: 2})
		r.want([]int{0}, []int{1, 2}, []int{3, 4}, []int{5, 6})
		r.end(1, nil)
		if got := r.Stats(); got.InFlight != 2 || got.Queued != 1 {
			t.Errorf("%d in flight and %d queued, want 2 and 1: one item is worth no call while others are in flight", got.InFlight, got.Queued)
		}
		r.end(0, nil)
		r.end(0, nil)
		r.want([]int{0}, []int{1, 2}, []int{3, 4}, []int{5, 6}, []int{7})
	})
}

func TestL8_QueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Cap: 100, Queue: 2, Timeout: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r.do(t.Context(), 0)
		r.do(ctx, 1)
		r.do(t.Context(), 2)
		wantAnswer(t, r.do(t.Context(), 3), answer{err: ErrFull})
		wantAnswer(t, r.do(t.Context(), 4), answer{err: ErrFull})
		if got := r.Stats(); got.Refused != 2 || got.Queued != 2 {
			t.Errorf("stats are %+v", got)
		}
		cancel() // a withdrawn item makes room
		synctest.Wait()
		r.do(t.Context(), 5)
		wantAnswer(t, r.do(t.Context(), 6), answer{err: ErrFull})
		r.end(0, nil)
		r.want([]int{0}, []int{2, 5})
	})
}

func TestDo_ContextEndsBeforeSending(t *testing.T) {
	cause := errors.New("buyer left")
	check := func(t *testing.T, err error, want ...error) {
		t.Helper()
		for _, w := range want {
			if !errors.Is(err, w) {
				t.Errorf("%v is not %v", err, w)
			}
		}
		if errors.Is(err, ErrAbandoned) {
			t.Errorf("%v says that something may have happened", err)
		}
	}
	bubble("on entry", t, func(t *testing.T) {
		r := newRig(t, roomy)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		check(t, (<-r.do(ctx, 1)).err, cause, context.Canceled)
		r.want()
	})
	bubble("cancelled in the queue", t, func(t *testing.T) {
		r := newRig(t, roomy)
		r.do(t.Context(), 0)
		r.do(t.Context(), 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		c := r.do(ctx, 2)
		r.do(t.Context(), 3)
		cancel(cause)
		check(t, (<-c).err, cause, context.Canceled)
		r.end(0, nil)
		r.want([]int{0}, []int{1, 3})
	})
	bubble("timed out in the queue", t, func(t *testing.T) {
		r := newRig(t, roomy)
		r.do(t.Context(), 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		check(t, (<-r.do(ctx, 1)).err, context.DeadlineExceeded)
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("returned after %v", waited)
		}
		r.end(0, nil)
		r.want([]int{0}) // and the worker finds nothing
	})
}

func TestDo_ContextEndsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, roomy)
		cause := errors.New("buyer left")
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := r.do(ctx, 1)
		cancel(cause)
		synctest.Wait()
		err := (<-gone).err
		for _, want := range []error{ErrAbandoned, cause, context.Canceled} {
			if !errors.Is(err, want) {
				t.Errorf("%v is not %v", err, want)
			}
		}
		if errors.Is(err, ErrPanic) {
			t.Errorf("%v is ErrPanic", err)
		}
		if r.ctxs[0].Err() != nil {
			t.Error("the call ended with one caller's context")
		}
		// Other items are served, and none of them gets the late answer.
		stays := r.do(t.Context(), 2)
		r.end(0, nil)
		if r.ctxs[0].Err() == nil {
			t.Error("the call's context outlives it")
		}
		r.end(0, nil)
		wantAnswer(t, stays, answer{out: 4})
		for v := range 10 {
			c := r.do(t.Context(), v)
			r.end(0, nil)
			wantAnswer(t, c, answer{out: 2 * v})
		}
	})
}

func TestDo_AnswerWinsOverEndedContext(t *testing.T) {
	// One thread: the call's caller wakes because of its ctx, but cannot run before the call has
	// been answered.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var cancel context.CancelFunc
	b, err := New(roomy, func(ctx context.Context, in, out []int) error {
		cancel()
		return double(ctx, in, out)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	answered := 0
	for v := range 200 {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		cancel = stop
		switch got, err := b.Do(ctx, v); {
		case err == nil && got == 2*v:
			answered++
		case !errors.Is(err, ErrAbandoned): // the scheduler may still come in between
			t.Fatalf("Do(%d) = %d, %v", v, got, err)
		}
	}
	if answered == 0 {
		t.Error("an answer that was there never won")
	}
}

func TestDo_CallFails(t *testing.T) {
	failure := errors.New("store down")
	f := func(name string, how func() error, check func(t *testing.T, err error)) {
		t.Helper()
		bubble(name, t, func(t *testing.T) {
			r := newRig(t, roomy)
			var answers []<-chan answer
			for v := range 4 {
				answers = append(answers, r.do(t.Context(), v))
			}
			r.end(0, nil)
			r.end(0, how) // of 1, 2 and 3
			for _, c := range answers[1:] {
				got := <-c
				if got.out != 0 || got.err == nil {
					t.Fatalf("Do = %v", got)
				}
				check(t, got.err)
			}
			again := r.do(t.Context(), 5)
			r.end(0, nil)
			wantAnswer(t, again, answer{out: 10})
		})
	}
	unknown := func(text string) func(t *testing.T, err error) {
		return func(t *testing.T, err error) {
			if !errors.Is(err, ErrPanic) || !errors.Is(err, ErrAbandoned) || !strings.Contains(err.Error(), text) {
				t.Errorf("got %v", err)
			}
		}
	}
	f("error", func() error { return failure }, func(t *testing.T, err error) {
		if err != failure {
			t.Errorf("got %v, want the call's own error as it is", err)
		}
	})
	f("panic", func() error { panic("no such shard") }, unknown("no such shard"))
	f("panic says where", func() error { panic("here") }, unknown("batch_test.go:"))
	f("runtime panic says where", func() error { _ = []int(nil)[len(t.Name())]; return nil }, unknown("batch_test.go:"))
	f("nil panic", func() error { panic(nil) }, unknown("nil"))
	f("goexit", func() error { runtime.Goexit(); return nil }, unknown("goroutine"))
}

func TestDo_GoexitWithAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, roomy)
		r.do(t.Context(), 1)
		waits := r.do(t.Context(), 2)
		r.end(0, func() error { runtime.Goexit(); return nil })
		r.want([]int{1}, []int{2})
		r.end(0, nil)
		wantAnswer(t, waits, answer{out: 4})
	})
}

func TestDo_CallHasATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Config{Cap: 1, Queue: 1, Timeout: 3 * time.Second}, func(ctx context.Context, _, _ []int) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		start := time.Now()
		_, err = b.Do(t.Context(), 1)
		if waited := time.Since(start); waited != 3*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v", err, waited)
		}
	})
}

func TestClose(t *testing.T) {
	bubble("idle", t, func(t *testing.T) {
		r := newRig(t, roomy)
		r.Close()
		r.Close()
		wantAnswer(t, r.do(t.Context(), 1), answer{err: ErrClosed})
		r.want()
	})
	bubble("lets everything finish", t, func(t *testing.T) {
		r := newRig(t, Config{Cap: 2, Queue: 100, Parallel: 2, Timeout: time.Hour})
		var answers []<-chan answer
		for v := range 5 {
			answers = append(answers, r.do(t.Context(), v))
		}
		var closed sync.WaitGroup
		still := make(chan struct{})
		for range 2 {
			closed.Go(r.Close)
		}
		go func() { closed.Wait(); close(still) }()
		synctest.Wait()
		wantAnswer(t, r.do(t.Context(), 9), answer{err: ErrClosed})
		for len(r.held) > 0 {
			select {
			case <-still:
				t.Fatal("Close returned before all was still")
			default:
			}
			r.end(0, nil)
		}
		<-still
		r.want([]int{0}, []int{1, 2}, []int{3, 4})
		for v, c := range answers {
			wantAnswer(t, c, answer{out: 2 * v})
		}
		if got, want := r.Stats(), (Stats{Batches: 3, Items: 5}); got != want {
			t.Errorf("stats are %+v, want %+v", got, want)
		}
	})
	bubble("with only abandoned items", t, func(t *testing.T) {
		r := newRig(t, roomy)
		ctx, cancel := context.WithCancel(t.Context())
		c := r.do(ctx, 1)
		cancel()
		synctest.Wait()
		wantAnswer(t, c, answer{err: ErrAbandoned})
		still := make(chan struct{})
		go func() { r.Close(); close(still) }()
		synctest.Wait()
		select {
		case <-still:
			t.Fatal("Close returned with a call in flight")
		default:
		}
		r.end(0, nil)
		<-still
	})
}

package degrade

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var walkSeed = flag.Uint64("breaker.seed", 0, "run this seed of TestBreaker_AgainstAModel instead of 1 to 40")

var errDown = errors.New("connection refused")

// testBreaker has pauses of exactly 500 ms, 1 s, 2 s, 2 s.
func testBreaker(t testing.TB, onChange func(name string, from, to BreakerState)) *Breaker {
	t.Helper()
	cfg := DefaultBreakerConfig("redis")
	cfg.LongestPause = 2400 * time.Millisecond
	cfg.OnChange = onChange
	b, err := NewBreaker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.random = func() float64 { return 0.5 }
	return b
}

// script runs steps, separated by semicolons, on a breaker:
//
//	ok 3, fail 3, slow 3, slowfail 3, cancel 3      calls that begin and end so
//	begin a b c, end a ok, abandon a                calls one by one
//	report ok 5ms, report fail 5ms                  results without a call, and how long ago it began
//	wait 500ms
//	mode open
//	lets, refuses                                   what Refuses says
//	refused 3                                       that calls are
//	closed, open, half-open                         what State says
//	pause 500ms                                     how long calls are still refused
//	told closed>open open>half-open                 what OnChange heard since it was last asked
type script struct {
	t     *testing.T
	b     *Breaker
	calls map[string]BreakerCall
	told  []string
}

func runScript(t *testing.T, text string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t, calls: make(map[string]BreakerCall)}
		s.b = testBreaker(t, func(name string, from, to BreakerState) {
			if name != "redis" {
				t.Errorf("told of %q", name)
			}
			s.told = append(s.told, fmt.Sprintf("%v>%v", from, to))
		})
		for i, step := range strings.Split(text, ";") {
			if err := s.run(strings.Fields(step)); err != nil {
				t.Fatalf("step %d, %q: %v", i+1, strings.TrimSpace(step), err)
			}
		}
	})
}

func (s *script) run(words []string) error {
	verb, args := words[0], words[1:]
	switch verb {
	case "ok", "fail", "slow", "slowfail", "cancel":
		n, err := strconv.Atoi(args[0])
		for range n {
			if err := s.call(verb); err != nil {
				return err
			}
		}
		return err
	case "begin":
		for _, name := range args {
			call, err := s.b.Begin()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			s.calls[name] = call
		}
	case "end":
		s.calls[args[0]].End(resultOf(args[1]))
	case "abandon":
		s.calls[args[0]].Abandon()
	case "report":
		took, err := time.ParseDuration(args[1])
		s.b.Report(resultOf(args[0]), took)
		return err
	case "wait":
		d, err := time.ParseDuration(args[0])
		time.Sleep(d)
		return err
	case "mode":
		for m := BreakerAuto; m <= BreakerObserve; m++ {
			if m.String() == args[0] {
				s.b.SetMode(m)
				return nil
			}
		}
		return errors.New("no such mode")
	default:
		return s.check(verb, args)
	}
	return nil
}

func (s *script) call(kind string) error {
	call, err := s.b.Begin()
	if err != nil {
		return err
	}
	if strings.HasPrefix(kind, "slow") {
		time.Sleep(s.b.cfg.Slow + 1)
		kind = strings.TrimPrefix(kind, "slow")
	}
	call.End(resultOf(kind))
	return nil
}

func resultOf(word string) error {
	switch word {
	case "fail":
		return fmt.Errorf("hold: %w", errDown)
	case "cancel":
		return fmt.Errorf("hold: %w", context.Canceled)
	}
	return nil
}

func (s *script) check(verb string, args []string) error {
	switch verb {
	case "lets", "refuses":
		if got := s.b.Refuses(); got != (verb == "refuses") {
			return fmt.Errorf("Refuses is %v", got)
		}
	case "refused":
		n, err := strconv.Atoi(args[0])
		for range n {
			if call, err := s.b.Begin(); err != ErrOpen || call != (BreakerCall{}) {
				return fmt.Errorf("Begin returned %v, %v", call, err)
			}
		}
		return err
	case "closed", "open", "half-open":
		if got := s.b.State().String(); got != verb {
			return fmt.Errorf("state is %v", got)
		}
	case "pause":
		d, err := time.ParseDuration(args[0])
		if got := time.Duration(s.b.period.Load().until.Load()) - s.b.clock(); got != d {
			return fmt.Errorf("calls are refused for %v", got)
		}
		return err
	case "told":
		if !slices.Equal(s.told, args) {
			return fmt.Errorf("OnChange heard %v", s.told)
		}
		s.told = nil
	default:
		return errors.New("no such step")
	}
	return nil
}

func TestBreaker(t *testing.T) {
	for _, c := range []struct{ rule, script string }{
		{"too few calls decide nothing", "fail 4; closed; lets; fail 1; open; refuses; refused 2"},
		{"half must have failed", "ok 4; fail 3; closed; fail 1; open"},
		{"fewer than half", "ok 50; fail 49; closed; fail 1; open"},
		{"three fifths must be slow", "slow 2; ok 4; slow 2; closed"},
		{"three fifths slow open", "ok 2; slow 3; open"},
		{"half slow don't", "begin a b c; wait 501ms; ok 3; end a ok; end b ok; end c ok; closed"},
		{"slow is more than Slow", "begin a b c d e; wait 500ms; end a ok; end b ok; end c ok; end d ok; end e ok; closed"},
		{"slow failures count as either", "ok 3; slowfail 3; open"},
		{"failed and slow don't add up", "ok 6; fail 2; slow 2; closed"},
		{"cancelled calls don't count", "cancel 50; closed; fail 4; cancel 9; closed; fail 1; open"},
		{"cancelled calls don't dilute", "fail 4; cancel 20; fail 1; open"},
		{"the window moves on", "fail 4; wait 2s; fail 1; closed; fail 3; closed; fail 1; open"},
		{"the window is as long as it says", "fail 4; wait 1799ms; fail 1; open"},
		{"the window moves in parts", "fail 2; wait 1s; fail 2; wait 1s; fail 2; closed; fail 1; open"},
		{"old successes are forgotten", "ok 100; wait 2s; fail 5; open"},
		// gobreaker alone would count these in the part of the window in which they began. That
		// part is over.
		{"calls longer than the window count", "begin a b c d e; wait 3s; end a fail; end b fail; end c fail; end d fail; end e fail; open"},

		{"a pause lasts", "fail 5; pause 500ms; wait 499999999ns; refuses; refused 1; open; wait 1ns; lets; half-open"},
		{"pauses double up to the longest", "fail 5; pause 500ms; wait 500ms; fail 1; pause 1s; wait 1s; fail 1; pause 2s; wait 2s; fail 1; pause 2s"},
		{"soon after, the pause goes on growing", "fail 5; wait 500ms; ok 3; closed; wait 11999ms; fail 5; pause 1s"},
		{"after a calm, pauses begin anew", "fail 5; wait 500ms; ok 3; closed; wait 12s; fail 5; pause 500ms"},

		{"exactly Probes calls get through", "fail 5; wait 500ms; begin a b; lets; begin c; refuses; refused 5; half-open"},
		{"all probes must succeed", "fail 5; wait 500ms; ok 2; half-open; ok 1; closed; lets; ok 10"},
		{"a probe that succeeded keeps its place", "fail 5; wait 500ms; begin a b c; end a ok; end b ok; refused 1; end c ok; closed"},
		{"one failed probe opens", "fail 5; wait 500ms; ok 2; fail 1; open; refused 1"},
		{"one slow probe opens", "fail 5; wait 500ms; ok 2; slow 1; open; refused 1"},
		{"a cancelled probe gives its place back", "fail 5; wait 500ms; begin a b c; refuses; end a cancel; lets; half-open;" +
			"begin d; refuses; end b ok; end c ok; half-open; end d ok; closed"},
		{"an abandoned probe gives its place back", "fail 5; wait 500ms; begin a b c; abandon b; lets; begin d; refused 1"},
		{"closed, it starts clean", "fail 5; wait 500ms; ok 3; fail 4; closed; fail 1; open"},

		{"calls from before the pause don't count in it", "begin a b; fail 5; end a ok; refuses; open; end b fail; pause 500ms"},
		{"calls from before the pause are no probes", "begin a b c d; fail 5; wait 500ms; begin p; end a ok; end b ok; end c ok; half-open; end d fail; half-open"},
		{"calls from before the pause don't count when closed", "begin a b c d e; fail 5; wait 500ms; ok 3; end a fail; end b fail; end c fail; end d fail; end e fail; closed"},
		{"probes of an earlier try don't count", "fail 5; wait 500ms; begin a b; fail 1; open; wait 1s; begin c; end a ok; end b fail; half-open; ok 2; half-open; end c ok; closed"},

		{"a forgotten probe loses its place", "fail 5; wait 500ms; begin a; wait 1ms; begin b c; wait 1998ms; refuses; wait 1ms;" +
			"lets; begin d; refuses; refused 1; wait 1ms; lets; begin e f; refused 1"},
		{"a probe without a place says nothing", "fail 5; wait 500ms; begin a b c; wait 2s; begin d e f; end a ok; end b fail;" +
			"end c ok; half-open; end d ok; end e ok; half-open; end f ok; closed"},
		{"half-open with nobody there waits", "fail 5; wait 1h; half-open; lets; ok 3; closed"},

		{"changes are told", "fail 5; told closed>open; wait 500ms; told; ok 1; told open>half-open; fail 1; told half-open>open; wait 1s; ok 3; told open>half-open half-open>closed"},
	} {
		t.Run(strings.ReplaceAll(c.rule, " ", "-"), func(t *testing.T) { runScript(t, c.script) })
	}
}

func TestBreaker_Reports(t *testing.T) {
	for _, c := range []struct{ rule, script string }{
		{"count", "report fail 0s; report ok 0s; report fail 0s; report ok 0s; closed; report fail 0s; open"},
		{"count by how long they took", "wait 1s; report ok 0s; report ok 0s; report ok 501ms; report ok 501ms; closed; report ok 501ms; open"},
		{"of cancels don't count", "report cancel 0s; fail 4; report cancel 0s; closed; fail 1; open"},
		{"from before the last change don't count", "fail 5; wait 500ms; ok 3; wait 100ms; report fail 101ms; report fail 101ms;" +
			"report fail 101ms; report fail 101ms; report fail 101ms; closed;" +
			"report fail 100ms; report fail 100ms; report fail 100ms; report fail 100ms; closed; report fail 100ms; open"},
		{"of success end a pause", "fail 5; wait 100ms; refused 1; report ok 400ms; lets; half-open; begin a b c; refused 1; end a ok; end b ok; end c ok; closed"},
		{"of slow success don't end a pause", "fail 5; wait 100ms; report ok 501ms; refuses; pause 400ms"},
		{"of failure don't prolong a pause", "fail 5; wait 100ms; report fail 0s; pause 400ms; wait 400ms; lets"},
		{"of cancels don't end a pause", "fail 5; wait 100ms; report cancel 0s; refuses"},
		{"of success while half-open close", "fail 5; wait 500ms; report ok 0s; report ok 0s; half-open; report ok 0s; closed"},
		{"of what began in the pause are no probes", "fail 5; wait 510ms; report ok 11ms; report fail 11ms; report ok 11ms; report ok 11ms; half-open;" +
			"report ok 10ms; report ok 10ms; report ok 10ms; closed"},
		{"of what began before a sign of life are no probes", "fail 5; wait 100ms; report ok 0s; wait 10ms; report fail 11ms; half-open; report fail 10ms; open"},
		{"of failure while half-open open", "fail 5; wait 500ms; ok 2; report fail 0s; open; pause 1s"},
		{"of slow success while half-open open", "fail 5; wait 1100ms; begin a; report ok 501ms; open"},
		{"of failure are the probes' when no place is free", "fail 5; wait 500ms; begin a b c; wait 1s; report fail 999ms; open; pause 1s; end a ok; pause 1s"},
		{"of success don't count when no place is free", "fail 5; wait 500ms; begin a b c; report ok 0s; report ok 0s;" +
			"report ok 0s; half-open; end a ok; end b ok; half-open; end c ok; closed"},
		{"of failure right after a pause open", "fail 5; wait 500ms; report fail 0s; open; pause 1s; told closed>open"},
	} {
		t.Run(strings.ReplaceAll(c.rule, " ", "-"), func(t *testing.T) { runScript(t, c.script) })
	}
}

func TestBreaker_Modes(t *testing.T) {
	for _, c := range []struct{ rule, script string }{
		{"open refuses at once", "mode open; open; refuses; refused 2; wait 1h; refuses; refused 1; told closed>open"},
		{"open isn't ended by signs of life", "begin a; mode open; end a ok; report ok 0s; refuses; open"},
		{"closed lets everything through", "fail 5; mode closed; told closed>open open>closed; closed; lets; fail 50; closed; report fail 0s; ok 1; lets; told"},
		{"auto starts clean after closed", "mode closed; fail 50; mode auto; fail 4; closed; fail 1; open; pause 500ms"},
		{"auto starts clean after open", "fail 4; mode open; mode auto; closed; lets; fail 4; closed; fail 1; open; told closed>open open>closed closed>open"},
		{"auto starts clean after a pause", "fail 5; wait 500ms; fail 1; pause 1s; mode closed; mode auto; fail 5; pause 500ms"},
		{"a mode set again changes nothing", "fail 5; mode auto; open; pause 500ms"},
		{"calls of another mode decide nothing", "begin a b c d e; mode closed; mode auto; end a fail; end b fail; end c fail; end d fail; end e fail; closed"},
		{"probes of another mode decide nothing", "fail 5; wait 500ms; begin a b c; mode closed; mode auto; end a fail; end b ok; closed; fail 4; closed"},
		{"observe refuses nothing", "mode observe; fail 5; open; lets; begin a b c d; wait 500ms; half-open; lets; begin p q r; half-open; lets; begin e"},
		{"observe goes through the states", "mode observe; fail 5; fail 3; open; wait 500ms; ok 1; half-open; fail 1; open; wait 1s; ok 3; closed;" +
			"told closed>open open>half-open half-open>open open>half-open half-open>closed"},
		{"calls that observe would refuse decide nothing", "mode observe; fail 5; begin a b c; wait 500ms; begin p; end a ok; end b fail; end c ok; half-open; ok 2; end p ok; closed"},
		{"auto starts clean after observe", "mode observe; fail 5; mode auto; closed; lets; fail 4; closed"},
	} {
		t.Run(strings.ReplaceAll(c.rule, " ", "-"), func(t *testing.T) { runScript(t, c.script) })
	}
}

func TestBreaker_UnknownModePanics(t *testing.T) {
	b := testBreaker(t, nil)
	b.SetMode(BreakerOpen)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a mode that doesn't exist was set")
			}
		}()
		b.SetMode(BreakerObserve + 1)
	}()
	if b.Mode() != BreakerOpen || !b.Refuses() {
		t.Error("it changed the mode")
	}
}

func TestBreaker_Stats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBreaker(t, nil)
		s := &script{t: t, b: b, calls: make(map[string]BreakerCall)}
		begin := time.Now()
		for _, c := range []struct {
			steps string
			want  BreakerStats
		}{
			{"ok 9; fail 2; slow 1; slowfail 1; cancel 3; report ok 0s",
				BreakerStats{Calls: 14, Failures: 3, Slow: 2, Since: begin}},
			{"begin a; fail 8; refuses; refuses; refused 1", // open since 1 s and 2 ns
				BreakerStats{Calls: 22, Failures: 11, Slow: 2, Refused: 1, TurnedAway: 2, Trips: 1, State: StateOpen, Since: begin.Add(time.Second + 2)}},
			{"end a fail; wait 600ms", // half-open since the pause ended
				BreakerStats{Calls: 23, Failures: 12, Slow: 2, Refused: 1, TurnedAway: 2, Trips: 1, State: StateHalfOpen, Since: begin.Add(1500*time.Millisecond + 2)}},
			{"fail 1; mode open; refuses; mode observe; fail 5; lets; lets; ok 3", // which would have been refused
				BreakerStats{Calls: 32, Failures: 18, Slow: 2, Refused: 4, TurnedAway: 5, Trips: 3, Mode: BreakerObserve, State: StateOpen,
					Since: begin.Add(1600*time.Millisecond + 2)}},
		} {
			for _, step := range strings.Split(c.steps, ";") {
				if err := s.run(strings.Fields(step)); err != nil {
					t.Fatalf("%q: %v", step, err)
				}
			}
			if got := b.Stats(); got != c.want {
				t.Fatalf("after %q:\n got %+v\nwant %+v", c.steps, got, c.want)
			}
		}
	})
}

func TestBreaker_Do(t *testing.T) {
	for name, c := range map[string]struct {
		f      func(context.Context) error
		want   BreakerStats
		closed bool // after so many probes
	}{
		"success": {func(context.Context) error { return nil }, BreakerStats{Calls: 3}, true},
		"failure": {func(context.Context) error { return errDown }, BreakerStats{Calls: 1, Failures: 1}, false},
		"cancel":  {func(context.Context) error { return context.Canceled }, BreakerStats{}, false},
		"panic":   {func(context.Context) error { panic(errDown) }, BreakerStats{Calls: 1, Failures: 1}, false},
		"goexit":  {func(context.Context) error { runtime.Goexit(); return nil }, BreakerStats{Calls: 1, Failures: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := testBreaker(t, nil)
				for range 5 {
					b.Report(errDown, 0)
				}
				if err := b.Do(t.Context(), c.f); err != ErrOpen {
					t.Fatalf("Do in a pause returned %v", err)
				}
				time.Sleep(time.Second)
				before := b.Stats()
				for range 3 {
					doAside(t, b, c.f)
				}
				after := b.Stats()
				if got := (BreakerStats{Calls: after.Calls - before.Calls, Failures: after.Failures - before.Failures}); got != c.want {
					t.Errorf("counted %+v, want %+v", got, c.want)
				}
				if (after.State == StateClosed) != c.closed {
					t.Errorf("state is %v", after.State)
				}
				// No place is ever lost: it closes without waiting for overdue probes.
				time.Sleep(time.Second)
				for range 3 {
					if err := b.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
						t.Fatalf("afterwards: %v", err)
					}
				}
				if b.State() != StateClosed {
					t.Errorf("state is %v afterwards", b.State())
				}
			})
		})
	}
}

// doAside calls Do on a goroutine that may end by a panic or Goexit, and demands that a panic and
// an error come through.
func doAside(t *testing.T, b *Breaker, f func(context.Context) error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if v := recover(); v != nil && v != errDown {
				t.Errorf("panic with %v", v)
			}
		}()
		if err := b.Do(t.Context(), f); err != nil && err != errDown && err != ErrOpen && err != context.Canceled {
			t.Errorf("Do returned %v", err)
		}
	})
	wg.Wait()
}

func TestBreaker_DoHandsThroughPanicContextAndError(t *testing.T) {
	b := testBreaker(t, nil)
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, 618)
	err := b.Do(ctx, func(ctx context.Context) error {
		if ctx.Value(key{}) != 618 {
			t.Error("f got another context")
		}
		return errDown
	})
	if err != errDown {
		t.Errorf("Do returned %v", err)
	}
	defer func() {
		if v := recover(); v != "oops" {
			t.Errorf("recovered %v", v)
		}
	}()
	err = b.Do(ctx, func(context.Context) error { panic("oops") })
	t.Errorf("Do returned %v", err)
}

// Pauses vary by a fifth, the longest ones too.
func TestBreaker_PausesVary(t *testing.T) {
	for _, c := range []struct {
		streak      int
		random      float64
		least, most time.Duration
	}{
		{0, 0, 400 * time.Millisecond, 400 * time.Millisecond},
		{0, 1, 600 * time.Millisecond, 600 * time.Millisecond},
		{1, 0, 800 * time.Millisecond, 800 * time.Millisecond},
		{2, 1, 1990 * time.Millisecond, 2 * time.Second},
		{2, 0, 1330 * time.Millisecond, 1340 * time.Millisecond},
		{5000, 1, 1990 * time.Millisecond, 2 * time.Second},
	} {
		b, err := NewBreaker(DefaultBreakerConfig("redis"))
		if err != nil {
			t.Fatal(err)
		}
		b.streak, b.random = c.streak, func() float64 { return c.random }
		if got := b.pause(); got < c.least-time.Microsecond || got > c.most+time.Microsecond {
			t.Errorf("pause %d with %v is %v, want %v to %v", c.streak, c.random, got, c.least, c.most)
		}
	}
	b, err := NewBreaker(DefaultBreakerConfig("redis"))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[time.Duration]bool)
	for range 20 {
		seen[b.pause()] = true
	}
	if len(seen) < 15 {
		t.Errorf("20 pauses are of %d lengths", len(seen))
	}
}

func TestBreakerConfig(t *testing.T) {
	if err := DefaultBreakerConfig("redis").Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		field string
		spoil func(*BreakerConfig)
	}{
		{"Name", func(c *BreakerConfig) { c.Name = "" }},
		{"Window", func(c *BreakerConfig) { c.Window = 9 * time.Millisecond }},
		{"Window", func(c *BreakerConfig) { c.Window = 2 * time.Hour }},
		{"MinCalls", func(c *BreakerConfig) { c.MinCalls = 0 }},
		{"MinCalls", func(c *BreakerConfig) { c.MinCalls = mostCalls + 1 }},
		{"FailRatio", func(c *BreakerConfig) { c.FailRatio = 0 }},
		{"FailRatio", func(c *BreakerConfig) { c.FailRatio = 1.01 }},
		{"FailRatio", func(c *BreakerConfig) { c.FailRatio = math.NaN() }},
		{"SlowRatio", func(c *BreakerConfig) { c.SlowRatio = -1 }},
		{"Slow", func(c *BreakerConfig) { c.Slow = 0 }},
		{"Slow", func(c *BreakerConfig) { c.Slow = c.Deadline + 1 }},
		{"FirstPause", func(c *BreakerConfig) { c.FirstPause = 0 }},
		{"FirstPause", func(c *BreakerConfig) { c.FirstPause = c.LongestPause + 1 }},
		{"LongestPause", func(c *BreakerConfig) { c.LongestPause = 2 * time.Hour }},
		{"Probes", func(c *BreakerConfig) { c.Probes = 0 }},
		{"Deadline", func(c *BreakerConfig) { c.Deadline = 0 }},
	} {
		cfg := DefaultBreakerConfig("redis")
		c.spoil(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.field+" ") {
			t.Errorf("%s: error is %v", c.field, err)
		}
		if b, err := NewBreaker(cfg); err == nil || b != nil || !strings.Contains(err.Error(), c.field+" ") {
			t.Errorf("%s: NewBreaker returned %v, %v", c.field, b, err)
		}
	}
}

// OnChange is called without a lock, so it may use the whole breaker. A change that it makes is
// reported after it has returned.
func TestBreaker_OnChangeMayCallTheBreaker(t *testing.T) {
	var b *Breaker
	var told []string
	depth := 0
	b = testBreaker(t, func(_ string, from, to BreakerState) {
		depth++
		defer func() { depth-- }()
		if depth > 1 {
			t.Error("told while being told")
		}
		told = append(told, fmt.Sprintf("%v>%v", from, to))
		b.Stats()
		b.Refuses()
		b.Report(nil, time.Hour)
		if call, err := b.Begin(); err == nil {
			call.End(nil)
		}
		if to == StateOpen {
			b.SetMode(BreakerClosed)
		}
	})
	for range 5 {
		b.Report(errDown, 0)
	}
	if want := []string{"closed>open", "open>closed"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// The others are still called when one OnChange panics.
func TestBreaker_OnChangeMayPanic(t *testing.T) {
	told := 0
	b := testBreaker(t, func(string, BreakerState, BreakerState) {
		if told++; told == 1 {
			panic("oops")
		}
	})
	func() {
		defer func() {
			if v := recover(); v != "oops" {
				t.Errorf("recovered %v", v)
			}
		}()
		b.SetMode(BreakerOpen)
	}()
	b.SetMode(BreakerAuto)
	if told != 2 {
		t.Errorf("told %d times", told)
	}
}

func TestBreaker_ZeroCallEnds(t *testing.T) {
	BreakerCall{}.End(errDown)
	BreakerCall{}.Abandon()
}

// Calls of a closed breaker allocate nothing, and neither does a refusal.
func TestBreaker_Allocations(t *testing.T) {
	b := testBreaker(t, nil)
	for name, f := range map[string]func(){
		"calls": func() {
			if b.Refuses() {
				t.Error("refused")
			}
			call, err := b.Begin()
			if err != nil {
				t.Error(err)
			}
			call.End(nil)
		},
		"failures": func() {
			b.Report(nil, 0)
			b.Report(nil, 0)
			call, err := b.Begin()
			if err != nil {
				t.Error(err)
			}
			call.End(errDown)
		},
		"reports": func() { b.Report(nil, 0) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocate %v times", name, n)
		}
	}
	b.SetMode(BreakerOpen)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := b.Begin(); !b.Refuses() || err != ErrOpen {
			t.Error("let in")
		}
	}); n != 0 {
		t.Errorf("refusals allocate %v times", n)
	}
}

// After a pause exactly Probes calls get through, no matter how many come at once.
func TestBreaker_ProbesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBreaker(t, nil)
		for range 5 {
			b.Report(errDown, 0)
		}
		time.Sleep(500 * time.Millisecond)
		var begun, refused atomic.Int64
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := b.Begin(); err == nil {
					begun.Add(1)
				} else {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if begun.Load() != 3 || refused.Load() != 97 {
			t.Errorf("%d calls began, %d were refused", begun.Load(), refused.Load())
		}
	})
}

// Everything at once: the counts match the calls, and OnChange gets each change once and in order,
// never two at a time.
func TestBreaker_Concurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var telling atomic.Bool
		last := StateClosed // guarded by being told one at a time
		b := testBreaker(t, func(_ string, from, to BreakerState) {
			if !telling.CompareAndSwap(false, true) {
				t.Error("told two changes at once")
			}
			if from != last || from == to {
				t.Errorf("told %v>%v after %v", from, to, last)
			}
			last = to
			runtime.Gosched()
			telling.Store(false)
		})
		var calls, failures, refused, turnedAway atomic.Int64
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(618, uint64(g)))
				for range 300 {
					err := error(nil)
					if r.IntN(3) > 0 {
						err = errDown
					}
					done := func() {
						calls.Add(1)
						if err != nil {
							failures.Add(1)
						}
					}
					switch k := r.IntN(100); {
					case k < 10:
						b.Report(err, 0)
						done()
					case k < 30:
						if b.Refuses() {
							turnedAway.Add(1)
						}
					case k < 32:
						b.SetMode([]BreakerMode{BreakerAuto, BreakerAuto, BreakerOpen, BreakerClosed}[r.IntN(4)])
					case k < 35:
						b.Stats()
						b.State()
					default:
						call, begun := b.Begin()
						if begun != nil {
							refused.Add(1)
							time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
							continue
						}
						time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
						call.End(err)
						done()
					}
				}
			})
		}
		wg.Wait()
		s := b.Stats()
		if s.Calls != calls.Load() || s.Failures != failures.Load() || s.Refused != refused.Load() || s.TurnedAway != turnedAway.Load() {
			t.Errorf("counted %+v, did %d calls, %d failures, %d refused, %d turned away", s, calls.Load(), failures.Load(),
				refused.Load(), turnedAway.Load())
		}
		if s.Trips == 0 || s.Refused == 0 || s.TurnedAway == 0 {
			t.Errorf("nothing happened: %+v", s)
		}
		b.SetMode(BreakerOpen)
		b.SetMode(BreakerAuto)
		if last != StateClosed || b.Refuses() {
			t.Errorf("last told %v, refuses %v", last, b.Refuses())
		}
	})
}

// breakerModel computes the right behaviour of a breaker from its rules alone. It keeps every call
// and counts them again each time.
type breakerModel struct {
	cfg       BreakerConfig
	mode      BreakerMode
	state     BreakerState // open until somebody comes after the pause
	turn      int          // counts changes of state and mode
	since     time.Time
	until     time.Time // of the pause
	streak    int
	ended     []modelEnd  // of this closed turn
	probes    []modelCall // of this half-open turn, that haven't ended
	succeeded int         // of its others
	want      BreakerStats
}

type modelEnd struct {
	at           time.Time
	failed, slow bool
}

type modelCall struct {
	id    int
	began time.Time
	turn  int // -1: decides nothing
	probe bool
}

func (m *breakerModel) to(s BreakerState, since time.Time) {
	m.turn++
	m.state, m.since = s, since
	m.ended, m.probes, m.succeeded = nil, nil, 0
}

func (m *breakerModel) trip(now time.Time) {
	if m.state == StateClosed && now.Sub(m.since) >= 5*m.cfg.LongestPause {
		m.streak = 0
	}
	m.to(StateOpen, now)
	m.until = now.Add([]time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}[min(m.streak, 2)])
	m.streak++
	m.want.Trips++
}

// trusted reports whether calls begin without a place.
func (m *breakerModel) trusted() bool { return m.mode == BreakerClosed || m.state == StateClosed }

// free reports whether a probe could begin, and drops overdue ones.
func (m *breakerModel) free(now time.Time) bool {
	if m.mode == BreakerOpen || m.state == StateOpen && now.Before(m.until) {
		return false
	}
	taken := m.succeeded
	for _, p := range m.probes {
		if now.Sub(p.began) < 2*m.cfg.Deadline {
			taken++
		}
	}
	return taken < m.cfg.Probes
}

func (m *breakerModel) take(now time.Time) {
	if m.state == StateOpen {
		m.to(StateHalfOpen, m.until)
	}
	m.probes = slices.DeleteFunc(m.probes, func(p modelCall) bool { return now.Sub(p.began) >= 2*m.cfg.Deadline })
}

func (m *breakerModel) begin(id int, now time.Time) (call modelCall, err error) {
	call = modelCall{id: id, began: now, turn: m.turn}
	if m.trusted() {
		return call, nil
	}
	if m.free(now) {
		m.take(now)
		call.turn, call.probe = m.turn, true
		m.probes = append(m.probes, call)
		return call, nil
	}
	m.want.Refused++
	if m.mode == BreakerObserve {
		call.turn = -1
		return call, nil
	}
	return call, ErrOpen
}

func (m *breakerModel) refuses(now time.Time) bool {
	if m.trusted() || m.free(now) {
		return false
	}
	m.want.TurnedAway++
	return m.mode != BreakerObserve
}

func (m *breakerModel) count(err error, took time.Duration) (failed, slow, neutral bool) {
	if errors.Is(err, context.Canceled) {
		return false, false, true
	}
	failed, slow = err != nil, took > m.cfg.Slow
	m.want.Calls++
	if failed {
		m.want.Failures++
	}
	if slow {
		m.want.Slow++
	}
	return failed, slow, false
}

func (m *breakerModel) end(c modelCall, err error, now time.Time) {
	failed, slow, neutral := m.count(err, now.Sub(c.began))
	if c.turn != m.turn {
		return
	}
	if !c.probe {
		if !neutral {
			m.sample(failed, slow, now)
		}
		return
	}
	i := slices.IndexFunc(m.probes, func(p modelCall) bool { return p.id == c.id })
	if i < 0 {
		return
	}
	m.probes = slices.Delete(m.probes, i, i+1)
	if !neutral {
		m.probed(failed || slow, now)
	}
}

func (m *breakerModel) probed(bad bool, now time.Time) {
	if bad {
		m.trip(now)
	} else if m.succeeded++; m.succeeded == m.cfg.Probes {
		m.to(StateClosed, now)
	}
}

func (m *breakerModel) sample(failed, slow bool, now time.Time) {
	if m.mode == BreakerClosed {
		return
	}
	m.ended = append(m.ended, modelEnd{now, failed, slow})
	part := func(at time.Time) int64 { return int64(at.Sub(m.since) / (m.cfg.Window / 10)) }
	var n, nFailed, nSlow float64
	for _, e := range m.ended {
		if part(e.at) > part(now)-10 {
			n++
			if e.failed {
				nFailed++
			}
			if e.slow {
				nSlow++
			}
		}
	}
	// A good call never opens the breaker, even when one more bad call would have.
	if n >= float64(m.cfg.MinCalls) && (failed && nFailed/n >= 0.5 || slow && nSlow/n >= 0.6) {
		m.trip(now)
	}
}

func (m *breakerModel) report(err error, took time.Duration, now time.Time) {
	failed, slow, neutral := m.count(err, took)
	began := now.Add(-took)
	switch {
	case neutral || m.mode == BreakerOpen || m.mode == BreakerClosed:
	case m.state == StateClosed:
		if !began.Before(m.since) {
			m.sample(failed, slow, now)
		}
	case m.state == StateOpen && now.Before(m.until):
		if !failed && !slow {
			m.until = now
		}
	case m.state == StateOpen && began.Before(m.until), m.state == StateHalfOpen && began.Before(m.since):
	case m.free(now):
		m.take(now)
		m.probed(failed || slow, now)
	case failed || slow:
		m.trip(now)
	}
}

func (m *breakerModel) setMode(mode BreakerMode, now time.Time) {
	if mode == m.mode {
		return
	}
	m.mode, m.streak = mode, 0
	if mode == BreakerOpen {
		m.to(StateOpen, now)
	} else {
		m.to(StateClosed, now)
	}
}

func (m *breakerModel) stats(now time.Time) BreakerStats {
	s := m.want
	s.Mode, s.State, s.Since = m.mode, m.state, m.since
	if m.mode != BreakerOpen && m.state == StateOpen && !now.Before(m.until) {
		s.State, s.Since = StateHalfOpen, m.until
	}
	return s
}

func TestBreaker_AgainstAModel(t *testing.T) {
	var seeds []uint64
	for seed := uint64(1); seed <= 40; seed++ {
		seeds = append(seeds, seed)
	}
	if *walkSeed != 0 {
		seeds = []uint64{*walkSeed}
	}
	var all BreakerStats
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			s, err := walk(t, seed, 1000)
			if err != nil {
				t.Fatalf("seed %d: %v\nrepeat with: go test ./degrade -run TestBreaker_AgainstAModel -breaker.seed %d", seed, err, seed)
			}
			all.Trips += s.Trips
			all.Refused += s.Refused
		})
	}
	if *walkSeed == 0 && (all.Trips < 100 || all.Refused < 1000) {
		t.Errorf("the walks are too tame: %d trips, %d refusals", all.Trips, all.Refused)
	}
}

// walk makes random calls of a breaker and its model, and compares their visible state after each.
func walk(t *testing.T, seed uint64, steps int) (BreakerStats, error) {
	r := rand.New(rand.NewPCG(seed, 618))
	b := testBreaker(t, nil)
	m := &breakerModel{cfg: b.cfg, since: time.Now()}
	type pair struct {
		real  BreakerCall
		model modelCall
	}
	var calls []pair
	badness := 0
	for i := range steps {
		// gobreaker's shortest pause is over after 2 ns.
		time.Sleep(time.Duration(2 + r.Int64N(int64([]time.Duration{1000, 10 * time.Millisecond, 300 * time.Millisecond}[r.IntN(3)]))))
		if r.IntN(50) == 0 {
			badness = r.IntN(100)
			time.Sleep(time.Duration(r.Int64N(int64(5 * time.Second))))
		}
		var result error
		if r.IntN(100) < badness {
			result = errDown
		} else if r.IntN(10) == 0 {
			result = context.Canceled
		}
		now := time.Now()
		what := ""
		switch k := r.IntN(100); {
		case k < 35:
			what = "begin"
			real, err := b.Begin()
			model, want := m.begin(i, now)
			if err != want {
				return BreakerStats{}, fmt.Errorf("step %d: Begin returned %v, want %v", i, err, want)
			}
			if err == nil {
				calls = append(calls, pair{real, model})
			}
		case k < 75 && len(calls) > 0:
			what = fmt.Sprint("end ", result)
			at := r.IntN(len(calls))
			if r.IntN(3) > 0 {
				at = len(calls) - 1
			}
			c := calls[at]
			calls = slices.Delete(calls, at, at+1)
			c.real.End(result)
			m.end(c.model, result, now)
		case k < 90:
			took := time.Duration(r.Int64N(int64(time.Second)))
			if r.IntN(2) == 0 {
				took = 0
			}
			what = fmt.Sprint("report ", result, took)
			b.Report(result, took)
			m.report(result, took, now)
		case k == 90 && r.IntN(3) == 0:
			mode := BreakerMode(r.IntN(4))
			what = fmt.Sprint("mode ", mode)
			b.SetMode(mode)
			m.setMode(mode, now)
		case k == 91 && r.IntN(2) == 0:
			b.SetMode(BreakerAuto)
			m.setMode(BreakerAuto, now)
		}
		if got, want := b.Refuses(), m.refuses(now); got != want {
			return BreakerStats{}, fmt.Errorf("step %d, %s: Refuses is %v, want %v", i, what, got, want)
		}
		if got, want := b.Stats(), m.stats(now); got != want {
			return BreakerStats{}, fmt.Errorf("step %d, %s:\n got %+v\nwant %+v", i, what, got, want)
		}
	}
	return b.Stats(), nil
}

func BenchmarkBreaker(b *testing.B) {
	for name, f := range map[string]func(*Breaker){
		"refuses": func(br *Breaker) { br.Refuses() },
		"call": func(br *Breaker) {
			if call, err := br.Begin(); err == nil {
				call.End(nil)
			}
		},
		"report": func(br *Breaker) { br.Report(nil, 0) },
	} {
		for _, mode := range []BreakerMode{BreakerAuto, BreakerOpen} {
			b.Run(fmt.Sprintf("%s/%s", name, mode), func(b *testing.B) {
				br := testBreaker(b, nil)
				br.SetMode(mode)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						f(br)
					}
				})
			})
		}
	}
}

package degrade

import (
	"fmt"
	"testing"
	"time"
)

// The switches accept every value that a level sets, and each level turns off more than the one
// below it.
func TestLevels_AreSound(t *testing.T) {
	for i, d := range Levels() {
		if d.Level != Level(i) || d.Name == "" || d.TurnsOff == "" || d.Buyers == "" || d.Level.String() != fmt.Sprint("D", i) {
			t.Errorf("%+v", d)
		}
		for _, s := range d.Sets {
			if wrong := CheckValue(s.Switch, s.Value); wrong != "" {
				t.Errorf("%v: %s %s %s", d.Level, s.Switch, s.Value, wrong)
			}
		}
	}
}

func TestController_Levels(t *testing.T) {
	buyer := func(n int) *Visit {
		v := purchase()
		v.User = fmt.Sprint("u", n)
		return v
	}
	admitted := func(c *Controller) (n int) {
		for i := range 1000 {
			if c.Enter(buyer(i)).Cause == None {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		switches []string
		found    Level
		want     Level
		few      int // at least so many of 1,000 buyers are admitted, and at most as many more as a share may deviate
		verdict  func(Verdict) bool
	}{
		{nil, D0, D0, 1000, func(v Verdict) bool { return !v.NoWait && !v.Static && v.PollAfter == 1 }},
		{nil, D1, D1, 1000, func(v Verdict) bool { return !v.NoWait && !v.Static && v.PollAfter == 5 }},
		{nil, D2, D2, 1000, func(v Verdict) bool { return v.NoWait && !v.Static && v.PollAfter == 5 }},
		{nil, D3, D3, 860, func(v Verdict) bool { return true }},
		{nil, D5, D3, 860, func(v Verdict) bool { return true }}, // only people go further
		{[]string{"level: D4"}, D0, D4, 60, func(v Verdict) bool { return v.PollAfter == 10 && v.Static }},
		{[]string{"level: D5"}, D0, D5, 0, func(v Verdict) bool { return v.Cause == OrdersOff }},
		{[]string{"level: D0"}, D3, D0, 1000, func(v Verdict) bool { return !v.NoWait && !v.Static && v.PollAfter == 1 }},
		{[]string{"level: auto"}, D2, D2, 1000, func(v Verdict) bool { return v.NoWait }},
		{[]string{"automatic: shadow"}, D3, D0, 1000, func(v Verdict) bool { return !v.NoWait }},
		{[]string{"automatic: off"}, D3, D0, 1000, func(v Verdict) bool { return !v.NoWait }},
		// A person's setting wins over a level.
		{[]string{"level: D4", "poll-interval: 2", "admission: 100"}, D0, D4, 1000, func(v Verdict) bool { return v.PollAfter == 2 && v.NoWait }},
		{[]string{"level: D3", "admission merchant=m1: 100"}, D0, D3, 1000, func(v Verdict) bool { return v.NoWait }},
		// An activity has a level of its own, in both directions.
		{[]string{"level activity=618: D2"}, D0, D0, 1000, func(v Verdict) bool { return v.NoWait && v.PollAfter == 5 }},
		{[]string{"level activity=619: D5"}, D0, D0, 1000, func(v Verdict) bool { return !v.NoWait }},
		{[]string{"level: D3", "level activity=618: D0"}, D0, D3, 1000, func(v Verdict) bool { return !v.NoWait && v.PollAfter == 1 }},
		{[]string{"level activity=618: D1", "poll-interval: 9"}, D0, D0, 1000, func(v Verdict) bool { return v.PollAfter == 9 && !v.NoWait }},
	} {
		controller := controller(t, c.switches...)
		controller.Find(c.found, "a test")
		name := fmt.Sprint(c.switches, " at ", c.found)
		if got := controller.Level(); got.Level != c.want || got.Found.Level != c.found {
			t.Errorf("%s: %+v, want %v", name, got, c.want)
		}
		if n := admitted(controller); n < c.few || c.few < 450 && n > c.few+100 {
			t.Errorf("%s: %d let in", name, n)
		}
		in := Verdict{}
		for i := range 1000 {
			if in = controller.Enter(buyer(i)); in.Cause == None {
				break
			}
		}
		if !c.verdict(in) {
			t.Errorf("%s: %+v", name, in)
		}
	}
}

func TestController_LoadTestsGoFirst(t *testing.T) {
	c := controller(t)
	test := purchase()
	test.Class = LoadTest
	for level, want := range map[Level]Cause{D2: None, D3: NotAdmitted} {
		c.Find(level, "")
		if got := c.Enter(test).Cause; got != want {
			t.Errorf("%v: %v, want %v", level, got, want)
		}
	}
}

func TestController_HoldsJobs(t *testing.T) {
	c := controller(t)
	for level, want := range map[Level]bool{D0: false, D1: false, D2: true, D3: true} {
		c.Find(level, "")
		if c.Holds(Other) != want || c.Holds(OrderHandling) || c.Holds(Purchasing) {
			t.Errorf("%v holds everything else: %v, order handling: %v", level, c.Holds(Other), c.Holds(OrderHandling))
		}
	}
}

// A switch may be planned: the former value stays in force until the planned one begins, and is in
// force again after its end.
func TestDocument_PlannedSwitches(t *testing.T) {
	var d Document
	d.Set(set(t, "poll-interval: 3"), start)
	soon := set(t, "poll-interval: 8")
	soon.StartsAt, soon.ExpiresAt = start.Add(time.Hour), start.Add(2*time.Hour)
	d.Set(soon, start)
	later := set(t, "poll-interval: 9")
	later.StartsAt, later.ExpiresAt = start.Add(90*time.Minute), start.Add(3*time.Hour)
	d.Set(later, start)
	if err := d.Validate(); err != nil || len(d.Switches) != 3 {
		t.Fatalf("%+v, %v", d, err)
	}
	c := NewController()
	for _, at := range []struct {
		after time.Duration
		want  int32
		next  time.Duration // when it has to be applied again
	}{{0, 3, time.Hour}, {time.Hour, 8, 90 * time.Minute}, {90 * time.Minute, 9, 2 * time.Hour}, {2 * time.Hour, 9, 3 * time.Hour}, {3 * time.Hour, 3, 0}} {
		next, err := c.Apply(d, start.Add(at.after))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Enter(purchase()).PollAfter; got != at.want {
			t.Errorf("after %v: %d, want %d", at.after, got, at.want)
		}
		if at.next > 0 && !next.Equal(start.Add(at.next)) || at.next == 0 && !next.IsZero() {
			t.Errorf("after %v: next at %v", at.after, next)
		}
	}
}

// A buyer stays refused since the first refusal, even if another value refuses it now: its order
// isn't looked up again.
func TestController_ClosedSinceStays(t *testing.T) {
	c := controller(t, "admission: 0")
	before := c.Enter(purchase()).Since
	for _, again := range [][]string{{"admission: 0", "orders: off"}, {"orders: off"}, {"orders merchant=m1: off"}, {"level: D5"}} {
		if _, err := c.Apply(document(t, again...), start); err != nil {
			t.Fatal(err)
		}
		if since := c.Enter(purchase()).Since; !since.Equal(before) {
			t.Errorf("%v: closed since %v, first since %v", again, since, before)
		}
	}
	if _, err := c.Apply(document(t, "orders merchant=m2: off"), start); err != nil {
		t.Fatal(err)
	}
	if got := c.Enter(purchase()); got.Cause != None {
		t.Fatalf("open: %+v", got)
	}
	if _, err := c.Apply(document(t, "orders: off"), start); err != nil {
		t.Fatal(err)
	}
	if since := c.Enter(purchase()).Since; !since.After(before) {
		t.Errorf("closed again since %v, which is before it was open", since)
	}
	other := purchase()
	other.Merchant = "m2"
	if m1, m2 := c.Enter(purchase()).Since, c.Enter(other).Since; !m2.Before(m1) {
		t.Errorf("m2 was closed before all were: since %v, all since %v", m2, m1)
	}
}

func TestAutomatic(t *testing.T) {
	cfg := DefaultAutomaticConfig()
	delay := func(d time.Duration) Signals { return Signals{QueueDelay: d, Lag: -1} }
	const tick = 100 * time.Millisecond
	a, now := NewAutomatic(cfg), time.Duration(0)
	run := func(s Signals, d time.Duration) (l Level) {
		for end := now + d; now < end; now += tick {
			l, _ = a.Step(s, now)
		}
		return l
	}
	for _, step := range []struct {
		name string
		s    Signals
		over time.Duration
		want Level
	}{
		{"all is well", delay(0), time.Minute, D0},
		{"a short stall is nothing", delay(time.Second), time.Second, D0},
		{"that is over", delay(0), time.Second, D0},
		{"one that lasts goes up by several levels", delay(time.Second), 1200 * time.Millisecond, D3},
		{"a little less keeps the level", delay(400 * time.Millisecond), time.Minute, D3},
		{"well below leaves one level", delay(190 * time.Millisecond), 11 * time.Second, D2},
		{"and stays there", delay(190 * time.Millisecond), 20 * time.Second, D2},
		{"up again is as quick", delay(time.Second), 1200 * time.Millisecond, D3},
		{"and twice as long", delay(0), 15 * time.Second, D3},
		{"until it goes down", delay(0), 6 * time.Second, D2},
		{"level by level", delay(0), 20 * time.Second, D1},
		{"to normal", delay(0), 21 * time.Second, D0},
		{"workers that are behind", Signals{Lag: 12_000}, 2 * time.Second, D2},
		{"workers that are far behind", Signals{Lag: 1 << 40}, time.Minute, D2},
		{"and have caught up", Signals{Lag: 0}, 3 * time.Minute, D0},
		{"a breaker that is open", Signals{Lag: -1, Open: []string{"database reads"}}, 2 * time.Second, D1},
	} {
		if got := run(step.s, step.over); got != step.want {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
	}
	if _, why := a.Step(Signals{Lag: -1, Open: []string{"database reads"}}, now); why != "breakers are open: database reads" {
		t.Errorf("why: %s", why)
	}
}

package degrade

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 6, 18, 20, 0, 0, 0, time.UTC)

// set makes a switch of "name[ scope=key]: value".
func set(t testing.TB, text string) Switch {
	t.Helper()
	head, value, _ := strings.Cut(text, ": ")
	name, scope, _ := strings.Cut(head, " ")
	s := Switch{Name: Name(name), Value: value}
	switch kind, key, _ := strings.Cut(scope, "="); kind {
	case "merchant":
		s.Scope.Merchant = key
	case "activity":
		s.Scope.Activity = key
	case "sku":
		s.Scope.SKU = key
	case "caller":
		s.Scope.Caller = key
	}
	return s
}

func controller(t *testing.T, switches ...string) *Controller {
	t.Helper()
	c := NewController()
	if _, err := c.Apply(document(t, switches...), start); err != nil {
		t.Fatal(err)
	}
	return c
}

func document(t *testing.T, switches ...string) (d Document) {
	t.Helper()
	for _, text := range switches {
		d.Switches = append(d.Switches, set(t, text))
	}
	return d
}

func purchase() *Visit {
	return &Visit{Class: NewOrder, Merchant: "m1", Caller: "web", Activity: "618", SKU: "x", User: "u1"}
}

func TestSwitchesForNewOrders(t *testing.T) {
	for _, c := range []struct {
		switches string
		want     Cause
	}{
		{"", None},
		{"orders: off", OrdersOff},
		{"orders: on", None},
		{"orders merchant=m1: off", OrdersOff},
		{"orders merchant=m2: off", None},
		{"orders caller=m1/web: off", OrdersOff},
		{"orders caller=m2/web: off", None},
		{"orders activity=618: off", OrdersOff},
		{"orders sku=x: off", OrdersOff},
		{"orders sku=618/x: off", OrdersOff},
		{"orders sku=619/x: off", None},
		// A narrower switch doesn't override an emergency stop.
		{"orders: off|orders merchant=m1: on|orders caller=m1/web: on|orders activity=618: on|orders sku=618/x: on", OrdersOff},
		{"orders merchant=m1: off|orders sku=618/x: on", OrdersOff},
		{"orders: on|orders caller=m1/web: off", OrdersOff},
		{"admission: 0", NotAdmitted},
		{"admission: 100", None},
		// The narrowest decides: sku, activity, caller, merchant, everybody.
		{"admission: 0|admission merchant=m1: 100", None},
		{"admission merchant=m1: 0|admission caller=m1/web: 100", None},
		{"admission caller=m1/web: 0|admission activity=618: 100", None},
		{"admission activity=618: 0|admission sku=x: 100", None},
		{"admission sku=x: 0|admission sku=618/x: 100", None},
		{"admission sku=618/x: 0|admission: 100", NotAdmitted},
		{"orders: off|admission: 0", OrdersOff},
		{"browse: off|wait: off|limits: off", None},
	} {
		var list []string
		if c.switches != "" {
			list = strings.Split(c.switches, "|")
		}
		if got := controller(t, list...).Enter(purchase()); got.Cause != c.want {
			t.Errorf("%s: %v, want %v", c.switches, got.Cause, c.want)
		}
	}
}

func TestWhatSwitchesLeaveAlone(t *testing.T) {
	c := controller(t, "orders: off", "admission: 0", "browse: off")
	if got := c.Enter(&Visit{Class: Existing, Merchant: "m1", User: "u1"}); got.Cause != None {
		t.Errorf("an order that exists: %v", got.Cause)
	}
	if got := c.Enter(&Visit{Class: Browsing}); got.Cause != BrowseOff {
		t.Errorf("browsing: %v", got.Cause)
	}
	if got := c.Stats(); got.Refused[BrowseOff] != 1 || got.InFlight != 1 || got.Set != 3 {
		t.Errorf("%+v", got)
	}
}

func TestVerdicts(t *testing.T) {
	normal := Verdict{Inside: true, PollAfter: 1}
	enter := func(c *Controller, v *Visit) Verdict {
		got := c.Enter(v)
		if got.Since.IsZero() {
			t.Error("in force since nobody knows when")
		}
		got.Since = time.Time{}
		return got
	}
	if got := enter(controller(t), purchase()); got != normal {
		t.Errorf("without switches: %+v", got)
	}
	c := controller(t, "wait: off", "browse: static", "poll-interval activity=618: 5", "limits merchant=m1: shadow", "log-detail caller=m1/web: on")
	if got, want := enter(c, purchase()), (Verdict{Inside: true, NoWait: true, Static: true, PollAfter: 5, Limits: LimitsShadow, Log: true}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	other := Visit{Class: NewOrder, Merchant: "m2", Caller: "web", Activity: "619"}
	if got, want := enter(c, &other), (Verdict{Inside: true, NoWait: true, Static: true, PollAfter: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// An edit of other switches must not look as if orders had been closed again. Otherwise each
// refused buyer would ask the stock again whether there is an order.
func TestController_SinceStays(t *testing.T) {
	c := controller(t, "orders: off")
	before := c.Enter(purchase()).Since
	for _, again := range [][]string{{"orders: off"}, {"orders: off", "wait: off"}} {
		if _, err := c.Apply(document(t, again...), start); err != nil {
			t.Fatal(err)
		}
		if since := c.Enter(purchase()).Since; !since.Equal(before) {
			t.Errorf("%v: closed since %v, then since %v", again, before, since)
		}
	}
	if _, err := c.Apply(document(t, "orders: on"), start); err != nil {
		t.Fatal(err)
	}
	if since := c.Enter(purchase()).Since; !since.After(before) {
		t.Errorf("orders are on since %v, as before", since)
	}
}

// A purchase that a switch refuses still takes a place, because its order may have to be looked up.
func TestController_ClosedTakesRoom(t *testing.T) {
	c := controller(t, "orders: off")
	c.Resize(1)
	if got := c.Enter(purchase()); got.Cause != OrdersOff || !got.Inside {
		t.Errorf("the first: %+v", got)
	}
	if got := c.Enter(purchase()); got.Cause != Full || got.Inside {
		t.Errorf("the second: %+v", got)
	}
	settled := purchase()
	settled.Settled = true
	if got := c.Enter(settled); got.Cause != OrdersOff || got.Inside {
		t.Errorf("a settled one: %+v", got)
	}
	c.Leave(purchase())
	if got := c.Stats(); got.InFlight != 0 || got.Refused[OrdersOff] != 2 {
		t.Errorf("%+v", got)
	}
}

// TestAdmissionTakesItsShareAndKeepsIt: the configured share of buyers is admitted. A buyer that is
// admitted at one share is admitted at every higher one.
func TestAdmissionTakesItsShareAndKeepsIt(t *testing.T) {
	const buyers = 20_000
	in := make(map[string]bool)
	for _, share := range []int{1, 10, 50, 99} {
		c := controller(t, fmt.Sprintf("admission: %d", share))
		admitted := 0
		for i := range buyers {
			v := purchase()
			v.User = fmt.Sprint("u", i)
			ok := c.Enter(v).Cause == None
			if ok {
				admitted++
			}
			if in[v.User] && !ok {
				t.Fatalf("%s was in at a lower share than %d", v.User, share)
			}
			in[v.User] = ok
			if again := c.Enter(v).Cause == None; again != ok {
				t.Fatalf("%s is judged differently the second time", v.User)
			}
		}
		if off := admitted - buyers*share/100; off < -buyers/50 || off > buyers/50 {
			t.Errorf("%d of %d at %d %%", admitted, buyers, share)
		}
	}
}

func TestAFifthIsLeftToOrdersThatExist(t *testing.T) {
	c := controller(t)
	c.Resize(100)
	fill := func(class Class) (n int) {
		for c.Enter(&Visit{Class: class}).Cause == None {
			n++
			if n > 1000 {
				t.Fatal("no limit")
			}
		}
		return n
	}
	if n := fill(LoadTest); n != 50 {
		t.Errorf("%d load tests", n)
	}
	if n := fill(Browsing); n != 15 {
		t.Errorf("%d more browsing", n)
	}
	if n := fill(NewOrder); n != 15 {
		t.Errorf("%d more new orders", n)
	}
	for range 20 {
		if got := c.Enter(&Visit{Class: Existing}).Cause; got != None {
			t.Fatalf("an order that exists: %v", got)
		}
	}
	for range 20 { // no place is taken
		if got := c.Enter(&Visit{Class: NewOrder, Settled: true}).Cause; got != None {
			t.Fatalf("a settled visit: %v", got)
		}
	}
	if got := c.Stats().Refused[Full]; got != 0 {
		t.Errorf("%d counted as turned away, by itself", got)
	}
	c.TurnAway(Full)
	if got := c.Stats().Refused[Full]; got != 1 {
		t.Errorf("%d counted as turned away, want 1", got)
	}
	for range 21 {
		c.Leave(&Visit{})
	}
	if got := c.Enter(&Visit{Class: NewOrder}).Cause; got != None {
		t.Errorf("after some have left: %v", got)
	}
}

func TestTogetherNoPlaceIsLost(t *testing.T) {
	c := controller(t)
	c.Resize(10)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				v := Visit{Class: NewOrder}
				if c.Enter(&v).Cause == None {
					c.Leave(&v)
				}
			}
		})
	}
	all.Wait()
	if n := c.Stats().InFlight; n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func TestSwitchesEnd(t *testing.T) {
	first := set(t, "orders: off")
	first.ExpiresAt = start.Add(time.Minute)
	second := set(t, "orders merchant=m1: off")
	second.ExpiresAt = start.Add(time.Hour)
	d := Document{Switches: []Switch{second, first, set(t, "wait: off")}}
	c := NewController()
	for _, step := range []struct {
		at   time.Duration
		next time.Duration // 0: none
		m1   Cause
		m2   Cause
	}{
		{0, time.Minute, OrdersOff, OrdersOff}, {time.Minute - 1, time.Minute, OrdersOff, OrdersOff}, {time.Minute, time.Hour, OrdersOff, None},
		{time.Hour, 0, None, None},
	} {
		next, err := c.Apply(d, start.Add(step.at))
		if err != nil {
			t.Fatal(err)
		}
		if step.next == 0 && !next.IsZero() || step.next != 0 && !next.Equal(start.Add(step.next)) {
			t.Errorf("at %v: next %v", step.at, next)
		}
		other := purchase()
		other.Merchant = "m2"
		if m1, m2 := c.Enter(purchase()), c.Enter(other); m1.Cause != step.m1 || m2.Cause != step.m2 || !m1.NoWait && m1.Cause == None {
			t.Errorf("at %v: %+v, %+v", step.at, m1, m2)
		}
	}
}

func TestBadDocumentsChangeNothing(t *testing.T) {
	c := controller(t, "orders: off")
	for _, text := range []string{
		"orders: maybe", "nothing: on", "admission: 101", "admission: -1", "admission: 1e1", "admission: 07", "poll-interval: 0", "poll-interval: 61",
		"admission: 99999999999", "orders caller=web: off", "orders caller=/web: off", "browse: on", "limits: on", "orders: ",
		"orders merchant=" + strings.Repeat("m", 300) + ": off",
	} {
		if _, err := c.Apply(Document{Switches: []Switch{set(t, text)}}, start); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	twice := Document{Switches: []Switch{set(t, "orders: on"), set(t, "orders: off")}}
	both := Document{Switches: []Switch{{Name: Orders, Value: "on", Scope: Scope{Merchant: "m", Activity: "a"}}}}
	many := Document{Switches: make([]Switch, MaxSwitches+1)}
	for _, d := range []Document{twice, both, many} {
		if _, err := c.Apply(d, start); err == nil {
			t.Errorf("%d switches are taken", len(d.Switches))
		}
	}
	for _, text := range []string{"{", `{"switches":[{"name":"orders","value":"on","colour":1}]}`, `{"switches":{}}`, `[]`} {
		if _, err := ParseDocument([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	if got := c.Enter(purchase()).Cause; got != OrdersOff {
		t.Errorf("afterwards: %v", got)
	}
}

func TestDocuments(t *testing.T) {
	var d Document
	ends := set(t, "orders merchant=m1: off")
	ends.ExpiresAt, ends.Since, ends.By = start.Add(time.Minute), start, "ann"
	d.Set(ends, start)
	d.Set(set(t, "orders: off"), start)
	d.Set(set(t, "orders: on"), start)
	if s := d.Find(Orders, Scope{}, start); len(d.Switches) != 2 || s == nil || s.Value != "on" {
		t.Fatalf("%+v", d)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseDocument(text)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(d) {
		t.Errorf("%+v, %v, want %+v", again, err, d)
	}
	if d.Find(Orders, Scope{Merchant: "m1"}, start.Add(time.Minute)) != nil {
		t.Error("found what is over")
	}
	d.Unset(Orders, Scope{}, start.Add(time.Minute))
	if len(d.Switches) != 0 {
		t.Errorf("%+v", d)
	}
	// When a setting ends, the one before it applies again, unless that has ended too.
	half := set(t, "admission: 50")
	tenth := set(t, "admission: 10")
	tenth.ExpiresAt = start.Add(time.Hour)
	none := set(t, "admission: 0")
	none.ExpiresAt = start.Add(time.Minute)
	quarter := set(t, "admission: 25")
	quarter.ExpiresAt = start.Add(2 * time.Hour)
	for _, s := range []Switch{half, tenth, none} {
		d.Set(s, start)
	}
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Duration]string{0: "0", time.Minute: "10", time.Hour: "50"} {
		if s := d.Find(Admission, Scope{}, start.Add(at)); s == nil || s.Value != want {
			t.Errorf("after %v: %+v, want %s", at, s, want)
		}
	}
	d.Set(quarter, start)
	if s := d.Find(Admission, Scope{}, start.Add(time.Hour)); len(d.Switches) != 2 || s.Value != "25" {
		t.Errorf("%+v", d)
	}
	d.Set(half, start)
	if len(d.Switches) != 1 {
		t.Errorf("%+v", d)
	}
	if empty, err := ParseDocument(nil); err != nil || len(empty.Switches) != 0 {
		t.Errorf("%+v, %v", empty, err)
	}
}

func TestEnterAllocatesNothing(t *testing.T) {
	c := controller(t, "orders merchant=m1: off", "admission activity=618: 50", "wait caller=m1/web: off", "limits sku=618/x: shadow")
	v := purchase()
	if n := testing.AllocsPerRun(100, func() { c.Enter(v) }); n != 0 {
		t.Errorf("a refusal allocates %v times", n)
	}
	v.Merchant = "m2"
	if n := testing.AllocsPerRun(100, func() {
		if c.Enter(v).Cause == None {
			c.Leave(v)
		}
	}); n != 0 {
		t.Errorf("a visit allocates %v times", n)
	}
}

func BenchmarkEnter(b *testing.B) {
	for _, switches := range [][]string{nil, {"orders merchant=m1: off"}, {"admission activity=618: 50", "wait caller=m1/web: off"}} {
		var d Document
		for _, text := range switches {
			d.Switches = append(d.Switches, set(b, text))
		}
		b.Run(fmt.Sprintf("switches=%d", len(switches)), func(b *testing.B) {
			c := NewController()
			if _, err := c.Apply(d, start); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				v := purchase()
				for p.Next() {
					if c.Enter(v).Cause == None {
						c.Leave(v)
					}
				}
			})
		})
	}
}

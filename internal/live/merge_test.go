package live

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/timing"
)

// start is when the tests happen.
func start() time.Time { return time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC) }

func rates(accepted, soldOut float64) Rates {
	r := NewRates()
	r.Requests, r.Accepted = accepted+soldOut, accepted
	if soldOut > 0 {
		r.Refused["sold-out"] = soldOut
	}
	return r
}

// sales knows every activity, each of the merchant m1 and with ten items.
func sales(id string) (Sale, bool) {
	return Sale{
		Name: id, Merchant: "m1", State: StateOnSale, StartsAt: start(), EndsAt: start().Add(time.Hour), Items: 10,
		Item: func(sku string) (Item, bool) { return Item{SKU: sku}, true },
	}, true
}

func gateway(name string, all Rates, activities ...FrameActivity) *Frame {
	return &Frame{
		Node: Node{Node: name, Role: "gateway", Version: "v1", Level: "D0"}, All: all, Activities: activities,
		Shards: Shards{Open: 4},
	}
}

// words formats values in one line.
func words(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

func TestMerge_AddsNodesUp(t *testing.T) {
	a := gateway("a", rates(30, 10), FrameActivity{"618", rates(20, 10), []FrameItem{{"x", 15, 10}, {"y", 5, 0}}}, FrameActivity{"cold", rates(1, 0), nil})
	b := gateway("b", rates(70, 0), FrameActivity{"618", rates(60, 0), []FrameItem{{"y", 60, 0}}})
	b.Node.Level = "D2"
	a.Callers, b.Callers = []Caller{{"m1/app", rates(30, 10)}}, []Caller{{"m1/app", rates(60, 0)}, {"m1/web", rates(10, 0)}}
	a.Servers = []FrameServer{{"redis", "r", "ok", ""}, {"kafka", "", "degraded", "slow"}}
	b.Servers = []FrameServer{{"redis", "r", "away", "gone"}, {"kafka", "", "degraded", "slow"}}
	a.Limits, b.Limits = []FrameLimit{{"caller", 5, 1, 0, 0}}, []FrameLimit{{"caller", 3, 4, 0, 0.25}, {"unknown", 1, 1, 1, 1}}
	a.Refused, b.Refused = []Refused{{"caller", "m1/app", 3, false}}, []Refused{{"caller", "m1/app", 4, false}}
	var took timing.Counts
	took[timing.Bucket(10*time.Millisecond)] = 99
	took[timing.Bucket(time.Second)] = 1
	a.Latency = NewDistribution(&took)
	a.Hops = []FrameHop{{HopPage, NewDistribution(&took), 0}, {HopHold, nil, 700}}
	s := new(Merger).Merge(&Input{
		At: start(), Frames: []Heard{{Frame: a}, {Frame: b, Age: time.Second}}, Sale: sales, Shown: []string{"618", "quiet"},
		Policies: map[string]Policy{"caller": {"caller", "enforce", 100}},
	})
	if s.Unread || !new(Merger).Merge(&Input{At: start(), Sale: sales}).Unread {
		t.Error("whether the catalog was looked at is told wrongly")
	}
	got := words(s.Totals.Requests, s.Totals.Accepted, s.Totals.Refused, s.Others.Requests, s.Others.Accepted, len(s.Activities), s.Level, s.Complete)
	if want := "110 100 map[sold-out:10] 19 19 3 D2 true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	hot := &s.Activities[0]
	got = words(hot.Activity, hot.Rates.Requests, hot.Items[0].SKU, hot.Items[0].Accepted, hot.Items[1].Accepted, hot.MoreItems, s.Activities[2].Activity)
	if want := "618 90 y 65 15 8 quiet"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	limit := &s.Limits[0]
	got = words(s.Callers[0].Caller, s.Callers[0].Rates.Requests, len(s.Limits), limit.Allowed, limit.Refused, limit.Nodes[1].Effective, s.Refused[0].Key, s.Refused[0].Refused)
	if want := "m1/app 100 1 8 5 25 m1/app 7"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := words(s.Servers), "[{redis r away gone [b]} {kafka  degraded slow [a b]}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if p50, p99 := *s.Latency.P50, *s.Latency.P99; p50 < 10 || p50 > 13 || p99 < 1000 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
	if s.Hops[0].Late != 1 || s.Hops[1].Late != 0 || s.Hops[1].P99 == nil || s.Hops[2].P99 != nil {
		t.Errorf("hops %+v", s.Hops)
	}
}

// TestMerge_OrderIsCalm: activities and items are in the order of what was asked for lately. A
// second in which the cooler one was asked for more changes no order; half a minute does.
func TestMerge_OrderIsCalm(t *testing.T) {
	m := new(Merger)
	step := func(second int, a, b float64) string {
		t.Helper()
		frame := gateway("g", rates(a+b, 0), FrameActivity{"a", rates(a, 0), []FrameItem{{"x", a, 0}, {"y", b, 0}}})
		if b > 0 {
			frame.Activities = append(frame.Activities, FrameActivity{Activity: "b", Rates: rates(b, 0)})
		}
		s := m.Merge(&Input{
			At: start().Add(time.Duration(second) * time.Second), Frames: []Heard{{Frame: frame}}, Sale: sales, Shown: []string{"b", "a", "quiet"},
		})
		out := ""
		for i := range s.Activities {
			out += s.Activities[i].Activity + " "
		}
		items := s.Activities[strings.Index(out, "a")/2].Items
		return fmt.Sprint(out, items[0].SKU, " ", items[0].Accepted)
	}
	for i, c := range []struct{ got, want string }{
		{step(0, 20, 10), "a b quiet x 20"},
		{step(1, 10, 20), "a b quiet x 10"},
		{step(2, 20, 10), "a b quiet x 20"},
		{step(3, 20, 0), "a b quiet x 20"},
		{step(4, 0, 20), "a b quiet x 0"},
		{step(34, 0, 20), "b a quiet y 20"},
	} {
		if c.got != c.want {
			t.Errorf("step %d: %s, want %s", i, c.got, c.want)
		}
	}
	for second := range 60 {
		step(100+second, 0, 0)
	}
	if h := m.heatOf("a"); len(h.items) > 0 {
		t.Errorf("what nobody asks for is remembered: %v", h)
	}
}

// TestMerge_Nodes: a node is lost when no working way has news of it, and missing when its frame is
// old.
func TestMerge_Nodes(t *testing.T) {
	frame := func(name string, age time.Duration) Heard { return Heard{Frame: gateway(name, NewRates()), Age: age} }
	known := func(name string, silent time.Duration) Known { return Known{Node: name, Silent: silent} }
	for name, c := range map[string]struct {
		in         Input
		lost, miss string
	}{
		"all is well":              {Input{Known: []Known{known("a", 0), known("b", time.Second)}, Frames: []Heard{frame("a", 0), frame("b", time.Second)}}, "[]", "[]"},
		"silent on both ways":      {Input{Known: []Known{known("b", 1600*time.Millisecond)}, Frames: []Heard{frame("b", 2*time.Second)}}, "[b]", "[]"},
		"its frame is late":        {Input{Known: []Known{known("b", 0)}, Frames: []Heard{frame("b", time.Minute)}}, "[]", "[b]"},
		"its database calls stall": {Input{Known: []Known{known("b", time.Minute)}, Frames: []Heard{frame("b", time.Second)}}, "[]", "[]"},
		"never had a frame":        {Input{Known: []Known{known("b", time.Minute)}}, "[b]", "[b]"},
		"it said goodbye":          {Input{Known: []Known{known("a", 0)}, Frames: []Heard{frame("a", 0), frame("b", 4*time.Second)}}, "[]", "[]"},
		"no database, fresh":       {Input{BooksAway: true, Known: []Known{known("b", time.Minute)}, Frames: []Heard{frame("b", 2*time.Second)}}, "[]", "[]"},
		"no database, old":         {Input{BooksAway: true, Known: []Known{known("b", time.Minute)}, Frames: []Heard{frame("b", 4*time.Second)}}, "[b]", "[b]"},
		"neither way works":        {Input{BooksAway: true, Partial: "x", Known: []Known{known("b", time.Minute)}, Frames: []Heard{frame("b", 4*time.Second)}}, "[]", "[b]"},
		"no frames, a beat":        {Input{Partial: "x", Known: []Known{known("b", 0)}, Frames: []Heard{frame("b", time.Minute)}}, "[]", "[b]"},
		"no frames, no beat":       {Input{Partial: "x", Known: []Known{known("b", 2*time.Second)}, Frames: []Heard{frame("b", time.Minute)}}, "[b]", "[b]"},
	} {
		c.in.At, c.in.Sale = start(), sales
		s := new(Merger).Merge(&c.in)
		lost := []string{}
		for _, n := range s.Nodes {
			if n.Lost {
				lost = append(lost, n.Node)
			}
		}
		if fmt.Sprint(lost) != c.lost || fmt.Sprint(s.Missing) != c.miss {
			t.Errorf("%s: lost %v, want %s; missing %v, want %s", name, lost, c.lost, s.Missing, c.miss)
		}
		if want := c.miss == "[]" && c.in.Partial == ""; s.Complete != want {
			t.Errorf("%s: complete %v, want %v", name, s.Complete, want)
		}
	}
}

// TestMerge_Unseen: a node that the database hears and that leaves no frames is named, with what it
// told the database last. One that has just come, or is lost, isn't.
func TestMerge_Unseen(t *testing.T) {
	m := new(Merger)
	step := func(second int, partial string, frames ...Heard) string {
		t.Helper()
		s := m.Merge(&Input{
			At: start().Add(time.Duration(second) * time.Second), Sale: sales, Partial: partial, Frames: frames,
			Known: []Known{{Node: "a", Status: Node{Role: "gateway", Level: "D2", Breakers: map[string]string{"redis 0": "open"}}}},
		})
		return words(s.Nodes[0].Unseen, s.Nodes[0].Lost, s.Nodes[0].Level, s.Nodes[0].Breakers)
	}
	frame := func(age time.Duration) Heard { return Heard{Frame: gateway("a", NewRates()), Age: age, Read: age} }
	unread := Heard{Frame: gateway("a", NewRates()), Age: time.Minute, Read: time.Second}
	for i, c := range []struct{ got, want string }{
		{step(0, ""), "false false D2 map[redis 0:open]"}, // it has just come
		{step(10, ""), "false false D2 map[redis 0:open]"},
		{step(16, ""), "true false D2 map[redis 0:open]"}, // it had the time
		{step(17, "", frame(time.Second)), "false false D0 map[]"},
		{step(18, "", frame(unseenAfter)), "false false D0 map[]"},
		{step(19, "", frame(unseenAfter+1)), "true false D2 map[redis 0:open]"},
		{step(20, "", frame(time.Minute)), "true false D2 map[redis 0:open]"},
		{step(21, ""), "true false D2 map[redis 0:open]"},                       // Redis has forgotten its frame
		{step(22, "x", frame(time.Minute)), "false false D2 map[redis 0:open]"}, // no frames can be read
		{step(23, "", unread), "false false D2 map[redis 0:open]"},              // nor is that known yet
	} {
		if c.got != c.want {
			t.Errorf("step %d: %s, want %s", i, c.got, c.want)
		}
	}
	s := m.Merge(&Input{At: start(), Sale: sales, Known: []Known{{Node: "a", Silent: time.Minute}}})
	if !s.Nodes[0].Lost || s.Nodes[0].Unseen {
		t.Errorf("one that nobody hears: %+v", s.Nodes[0])
	}
}

// TestMerge_Trends: the trends of lag and stock show when they will be zero.
func TestMerge_Trends(t *testing.T) {
	m := new(Merger)
	step := func(second int, lag, available int64) *Snapshot {
		at := start().Add(time.Duration(second) * time.Second)
		return m.Merge(&Input{
			At: at, Sale: sales, Shown: []string{"618"}, Lag: &lag,
			Ledgers: map[string]SaleLedger{"618": {All: &Ledger{Available: available, At: &at}}},
		})
	}
	s := step(0, 100, 1000)
	if s.Queue.CatchUp != nil || s.Activities[0].SoldOutIn != nil {
		t.Errorf("told of one moment: %v, %v", s.Queue.CatchUp, s.Activities[0].SoldOutIn)
	}
	s = step(10, 50, 900)
	if s.Queue.CatchUp == nil || *s.Queue.CatchUp != 10 || s.Activities[0].SoldOutIn == nil || *s.Activities[0].SoldOutIn != 90 {
		t.Errorf("catches up in %v, sold out in %v", s.Queue.CatchUp, s.Activities[0].SoldOutIn)
	}
	s = step(20, 80, 950)
	if s.Queue.CatchUp != nil {
		t.Errorf("it grows and catches up in %v", *s.Queue.CatchUp)
	}
	s = step(21, 0, 0)
	if s.Queue.CatchUp == nil || *s.Queue.CatchUp != 0 || s.Activities[0].SoldOutIn != nil {
		t.Errorf("nothing is left of either: %v, %v", s.Queue.CatchUp, s.Activities[0].SoldOutIn)
	}
}

// TestMerger_Hottest compares the choice of items with sorting them all. Some are known only from
// the traffic or from the stock, and some not to the catalog.
func TestMerger_Hottest(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		m := &Merger{heat: map[string]*heat{"a": {items: make(map[string]float64)}}}
		items, ledgers, all := make(map[string]*FrameItem), make(map[string]Ledger), make(map[string]bool)
		for i := range random.IntN(4 * MaxItems) {
			sku := fmt.Sprint("sku-", i)
			if random.IntN(3) > 0 {
				m.heat["a"].items[sku], all[sku] = float64(random.IntN(10)), true
			}
			if random.IntN(3) == 0 {
				items[sku], all[sku] = new(FrameItem), true
			}
			if random.IntN(3) == 0 {
				ledgers[sku], all[sku] = Ledger{}, true
			}
		}
		find := func(sku string) (Item, bool) { return Item{SKU: sku}, !strings.HasSuffix(sku, "3") }
		var want []string
		for sku := range all {
			if _, known := find(sku); known {
				want = append(want, sku)
			}
		}
		warmth := m.heat["a"].items
		slices.SortFunc(want, func(a, b string) int { return hotter(warmth[a], warmth[b], a, b) })
		want = want[:min(len(want), MaxItems)]
		var got []string
		for _, h := range m.hottest("a", find, items, ledgers) {
			got = append(got, h.item.SKU)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: %q, want %q", round, got, want)
		}
	}
}

// TestSnapshot_HasNoNulls: a list is never null, even if its content is unknown.
func TestSnapshot_HasNoNulls(t *testing.T) {
	f := gateway("a", NewRates(), FrameActivity{Activity: "618", Rates: rates(1, 0)})
	f.Limits = []FrameLimit{{Policy: "p", Allowed: 1}}
	in := &Input{
		At: start(), Frames: []Heard{{Frame: f}}, Policies: map[string]Policy{"p": {}},
		Sale: func(string) (Sale, bool) { return Sale{}, false },
	}
	for _, merchant := range []string{"", "m1"} {
		text, err := NewView(new(Merger).Merge(in)).JSON(Reader{Merchant: merchant})
		if err != nil {
			t.Fatal(err)
		}
		var document map[string]any
		if err := json.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		for name, v := range document {
			if v == nil && name != "last_change" {
				t.Errorf("%q: %s is null", merchant, name)
			}
		}
		for _, name := range []string{`"items":null`, `"history":null`, `"breakers":null`, `"nodes":null`, `"refused":null`} {
			if strings.Contains(string(text), name) {
				t.Errorf("%q: %s", merchant, name)
			}
		}
	}
}

// TestFrame_IsBounded: the frame of the busiest possible node is short, and decodes to the same
// values.
func TestFrame_IsBounded(t *testing.T) {
	f := gateway(strings.Repeat("n", 64), NewRates())
	for i := range 500 {
		r := rates(float64(i), 0.5)
		for code := range 20 {
			r.Refused[fmt.Sprint("code-of-a-problem-", code)] = 1000.25
		}
		a := FrameActivity{Activity: fmt.Sprint("activity-", i), Rates: r}
		for j := range 100 {
			a.Items = append(a.Items, FrameItem{fmt.Sprint("sku-", j), float64(j), 0})
		}
		f.Activities = append(f.Activities, a)
		f.Callers = append(f.Callers, Caller{fmt.Sprint("merchant/caller-", i), r})
		f.Servers = append(f.Servers, FrameServer{"kafka", fmt.Sprint("partition ", i), "degraded", strings.Repeat("ü", 1000)})
		f.Symptoms = append(f.Symptoms, Symptom{KindWebhookFails, Warning, fmt.Sprint("hook-", i), strings.Repeat("ü", 1000)})
	}
	f.KeepHottest()
	text, err := f.Encode()
	if err != nil || len(text) > MaxFrame {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if len(f.Activities) != 500 || len(f.Activities[0].Items) != MaxItems || len(f.Servers[0].Detail) != 2000 || len(f.Symptoms[0].Text) != 2000 {
		t.Error("the frame itself is changed, which others read")
	}
	back, err := DecodeFrame(text)
	if err != nil {
		t.Fatal(err)
	}
	if back.Activities[0].Activity != "activity-499" || back.Callers[0].Caller != "merchant/caller-499" || len(back.Activities) > MaxActivities {
		t.Errorf("the hottest is %s, %s, of %d", back.Activities[0].Activity, back.Callers[0].Caller, len(back.Activities))
	}
	if _, err := DecodeFrame(make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame that is too long is read")
	}
}

func FuzzDecodeFrame(f *testing.F) {
	text, err := gateway("a", rates(1, 2), FrameActivity{"618", rates(1, 2), []FrameItem{{"x", 1, 2}}}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"latency":[[999,1]],"hops":[{"hop":"page","took":[[18446744073709551615,1]]}],"activities":[{}],"callers":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		frame, err := DecodeFrame(text)
		if err != nil {
			return
		}
		s := new(Merger).Merge(&Input{At: start(), Sale: sales, Frames: []Heard{{Frame: frame}}})
		if _, err := json.Marshal(s); err != nil && !math.IsInf(s.Totals.Requests, 0) {
			t.Fatal(err)
		}
	})
}

func TestHistories(t *testing.T) {
	var h Histories
	snapshot := func(second int, hot ...string) *Snapshot {
		in := &Input{At: start().Add(time.Duration(second) * time.Second), Sale: sales}
		for _, name := range hot {
			in.Frames = append(in.Frames, Heard{Frame: gateway(name, rates(1, 0), FrameActivity{Activity: name, Rates: rates(1, 0)})})
		}
		return new(Merger).Merge(in)
	}
	for i := range 1000 {
		h.Add(snapshot(i, "618"))
	}
	h.Add(snapshot(999, "618")) // the same second again
	s := h.Fill(snapshot(999, "618"))
	points := s.Activities[0].History
	if len(s.History) != 900 || len(points) != 900 || points[0].At != start().Unix()+100 || points[899].At != start().Unix()+999 {
		t.Errorf("%d and %d points", len(s.History), len(points))
	}
	var many []string
	for i := range maxHistories + 5 {
		many = append(many, fmt.Sprint("a", i))
	}
	h.Add(snapshot(1000, many...))
	if len(h.activities) != maxHistories {
		t.Errorf("%d activities have a history, want %d", len(h.activities), maxHistories)
	}
	h.Add(snapshot(2000, "late"))
	if h.activities["late"] == nil || len(h.activities) != maxHistories {
		t.Error("a new activity finds no room though others aren't shown any more")
	}
	if s := h.Fill(snapshot(2000)); len(s.History) != 1 {
		t.Errorf("%d points of the last fifteen minutes, want 1", len(s.History))
	}
}

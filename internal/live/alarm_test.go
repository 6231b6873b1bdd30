package live

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestAlarms_Hysteresis: an alarm is raised after its condition has lasted long enough, and cleared
// after it has been gone long enough. A condition that flickers is reported once.
func TestAlarms_Hysteresis(t *testing.T) {
	a := NewAlarms()
	now := start()
	step := func(d time.Duration, kinds ...string) string {
		t.Helper()
		now = now.Add(d)
		var found []Finding
		for _, kind := range kinds {
			found = append(found, Finding{Kind: kind, Severity: Warning, Subject: "x"})
		}
		raised, news := a.Step(found, now)
		out := ""
		for _, n := range news {
			out += n.State + " " + n.Finding.Kind + ";"
		}
		return fmt.Sprint(out, len(raised))
	}
	for i, c := range []struct {
		after time.Duration
		kinds []string
		want  string
	}{
		{0, []string{KindServerAway}, "raised server-away;1"},
		{time.Second, nil, "1"},
		{time.Second, []string{KindServerAway}, "1"}, // it flickers
		{time.Second, nil, "1"},
		{time.Second, nil, "1"},
		{time.Second, nil, "cleared server-away;0"},
		{0, []string{KindLagGrowing}, "0"},
		{10 * time.Second, []string{KindLagGrowing}, "0"},
		{time.Second, nil, "0"}, // it was over before it was reported
		{10 * time.Second, []string{KindLagGrowing}, "0"},
		{20 * time.Second, []string{KindLagGrowing}, "raised lag-growing;1"},
		{14 * time.Second, nil, "1"},
		{time.Second, nil, "cleared lag-growing;0"},
		{0, []string{KindSwitchSet, KindNodeLost}, "raised node-lost;raised switch-set;2"},
		{500 * time.Millisecond, []string{KindNodeLost}, "cleared switch-set;1"},
	} {
		if got := step(c.after, c.kinds...); got != c.want {
			t.Fatalf("step %d: %q, want %q", i, got, c.want)
		}
	}
	raised, _ := a.Step([]Finding{{Kind: KindNodeLost, Severity: Critical, Subject: "x"}}, now.Add(time.Hour))
	if since := raised[0].Since; since == nil || !since.Equal(start().Add(61*time.Second)) {
		t.Errorf("since %v", raised[0].Since)
	}
}

// TestAlarms_CausesFirst: within a severity, a missing server comes before its consequences, and
// one alarm of each kind comes before the second of any kind. When a whole server is away, its
// parts raise no alarms.
func TestAlarms_CausesFirst(t *testing.T) {
	s := new(Merger).Merge(&Input{At: start(), Sale: sales})
	s.Servers = []Server{
		{Server: "kafka", Instance: "partition 1", State: ServerDegraded, Nodes: []string{"a"}},
		{Server: "kafka", State: ServerAway, Nodes: []string{"a", "b"}},
		{Server: "redis", Instance: "r:1", State: ServerAway, Nodes: []string{"b"}},
	}
	s.Probes = []Probe{{Probe: "buy", Node: "a", Error: "no"}}
	s.Totals = Rates{Requests: 100, Refused: map[string]float64{"unavailable": 100}}
	facts := &Facts{Failures: map[string]bool{"unavailable": true}}
	a := NewAlarms()
	a.Step(Find(s, facts), start())
	raised, _ := a.Step(Find(s, facts), start().Add(time.Minute))
	var got []string
	for i := range raised {
		got = append(got, raised[i].Kind+" "+raised[i].Subject)
	}
	want := []string{"server-away kafka", "errors purchases", "probe-failing buy on a", "server-away redis r:1"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if text := raised[0].Text; !strings.Contains(text, "as a, b see it") || !strings.Contains(raised[3].Text, "as b sees it") {
		t.Errorf("%q, %q", text, raised[3].Text)
	}
}

func TestAlarms_AreBounded(t *testing.T) {
	a := NewAlarms()
	var found []Finding
	for i := range 2 * maxAlarms {
		found = append(found, Finding{Kind: KindNodeLost, Subject: fmt.Sprint(i)})
	}
	if raised, news := a.Step(found, start()); len(raised) != maxAlarms || len(news) != maxAlarms {
		t.Errorf("%d are raised, %d told, want %d", len(raised), len(news), maxAlarms)
	}
}

// everything is a snapshot in which every part has a fault.
func everything() (*Snapshot, *Facts) {
	lag, oldest := int64(lagNoticed+1), 60.0
	now, since, later := start(), start().Add(-48*time.Hour), start().Add(10*time.Minute)
	s := new(Merger).Merge(&Input{At: start(), Sale: sales})
	s.Servers = []Server{{Server: "redis", State: ServerAway, Nodes: []string{"a", "b", "c", "d"}}, {Server: "kafka", State: ServerDegraded, Detail: "slow."}}
	s.Nodes = []Node{
		{Node: "a", Role: "nothing", Version: "v1", Level: "D4", Breakers: map[string]string{"kafka": "open"}, Behind: true},
		{Node: "b", Role: "gateway", Version: "v2", Draining: true}, {Node: "c", Lost: true, Age: 3},
		{Node: "d", Version: "v2", Unseen: true},
	}
	s.Shards = Shards{Open: 1, Closed: 1, Rebuilding: 2}
	s.Queue = Queue{Lag: &lag, Oldest: &oldest, Letters: 2}
	s.Switches = []Switch{
		{Switch: "orders", Value: "off", Effect: "x", Since: &now, Expires: &later}, {Switch: "wait", Scope: "merchant=m1", Value: "off", Since: &since, Stale: true},
	}
	s.Money = []Money{{Currency: "CNY", Amount: 1, Count: 1}}
	s.Activities = []Activity{{Activity: "618", Merchant: "m1", State: StateOnSale, Items: []Item{{SKU: "x", SoldOut: true}}}}
	s.Totals = Rates{Requests: 100, Refused: map[string]float64{"unavailable": 40, "sold-out": 60}}
	s.Callers = []Caller{{"m1/app", Rates{Requests: 100, Refused: map[string]float64{"rate-limited": 60}}}}
	s.Hops = []Hop{{Hop: HopRow, Deadline: 1000, Late: 1}}
	s.Probes = []Probe{{Probe: "buy", Node: "a", Error: "no"}}
	return s, &Facts{
		Partial: "Redis is away", Broken: map[string]int64{"lost": 1}, Failures: map[string]bool{"unavailable": true}, Limited: "rate-limited",
		Unbalanced: []Unbalanced{{"618", "x", "m1", "1 in all"}}, MoneyOld: true,
		Symptoms: []Symptom{
			{Kind: KindClockOff, Subject: "a", Text: "The clock of a is late."}, {Kind: KindCertificate, Severity: Critical, Subject: "a", Text: "It has expired."},
			{Kind: KindRowsLocked, Subject: "a", Text: "An order waits."}, {Kind: KindStuck, Subject: "a", Text: "A partition stands still."},
			{Kind: KindWebhookFails, Subject: "x", Text: "It isn't told."},
			{Kind: KindPayRefused, Subject: "a", Text: "It has refused one."}, {Kind: "of-tomorrow", Subject: "a", Text: "Nobody knows it here."},
		},
		Unready: []Unready{{"soon", "m1", "it is paused", later}, {"tomorrow", "m1", "it is paused", start().Add(24 * time.Hour)}},
	}
}

// TestFind_Everything: each kind is found, with a sentence, a command and a link to the runbook.
// Nothing is found where all is well.
func TestFind_Everything(t *testing.T) {
	found := make(map[string]Finding)
	for _, f := range Find(everything()) {
		found[f.Kind] = f
		if changes := strings.Contains(f.Ctl, " set ") || strings.Contains(f.Ctl, " restock "); changes && !strings.HasSuffix(f.Ctl, " --reason WHY") {
			t.Errorf("%s: a change needs a reason: %s", f.Kind, f.Ctl)
		}
	}
	for _, k := range Kinds() {
		f, ok := found[k.Kind]
		delete(found, k.Kind)
		switch {
		case !ok:
			t.Errorf("%s isn't found", k.Kind)
		case !strings.HasSuffix(f.Text, ".") || strings.HasSuffix(f.Text, "..") || len(f.Text) < 10 || strings.Contains(f.Text, "%!"):
			t.Errorf("%s: no sentence: %q", k.Kind, f.Text)
		case !strings.HasPrefix(f.Ctl, "penstock ") || f.Runbook != "docs/runbook.md#"+k.Kind || f.Subject == "" || f.Severity == "":
			t.Errorf("%+v", f)
		}
	}
	if len(found) > 0 {
		t.Errorf("kinds that aren't listed: %v", found)
	}
	well := new(Merger).Merge(&Input{
		At: start(), Sale: sales, Frames: []Heard{{Frame: gateway("a", rates(100, 100))}, {Frame: &Frame{Node: Node{Node: "w", Role: "worker", Version: "v1"}}}},
	})
	if found := Find(well, &Facts{Failures: map[string]bool{"unavailable": true}}); len(found) > 0 {
		t.Errorf("all is well, and found is %+v", found)
	}
}

// TestFind_Symptoms: what several nodes see is told once, and may be worse than its kind is.
func TestFind_Symptoms(t *testing.T) {
	s := new(Merger).Merge(&Input{At: start(), Sale: sales})
	found := Find(s, &Facts{Symptoms: []Symptom{
		{Kind: KindWebhookFails, Subject: "pager", Text: "From a."}, {Kind: KindWebhookFails, Subject: "pager", Text: "From b."},
		{Kind: KindCertificate, Severity: Critical, Subject: "a", Text: "It has expired."},
	}})
	if len(found) != 2 || found[0].Text != "From a." || found[0].Severity != Warning || found[1].Severity != Critical {
		t.Errorf("found %+v", found)
	}
}

func TestFind_IsBounded(t *testing.T) {
	s := new(Merger).Merge(&Input{At: start(), Sale: sales})
	for i := range 1000 {
		s.Nodes = append(s.Nodes, Node{Node: fmt.Sprint(i), Role: "gateway and worker", Lost: i > 0})
	}
	if n := len(Find(s, &Facts{})); n != maxOfKind {
		t.Errorf("%d findings, want %d", n, maxOfKind)
	}
}

// TestRunbook_HasEveryKind: each kind of alarm has an entry in the runbook.
func TestRunbook_HasEveryKind(t *testing.T) {
	text, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds() {
		if n := strings.Count(string(text), "\n### "+k.Kind+"\n"); n != 1 {
			t.Errorf("docs/runbook.md has %d entries headed %q, want 1", n, k.Kind)
		}
	}
}

func TestIncidents(t *testing.T) {
	node := func(name string, change func(*Node)) Node {
		n := Node{Node: name, Role: "gateway", Version: "v1", Level: "D0"}
		if change != nil {
			change(&n)
		}
		return n
	}
	before := &Snapshot{Shards: Shards{Open: 4}, Nodes: []Node{
		node("a", nil), node("b", nil), node("c", func(n *Node) { n.Breakers = map[string]string{"kafka": "open"}; n.Draining = true }),
		node("d", func(n *Node) { n.Lost = true }), node("gone", nil),
	}}
	now := &Snapshot{At: start(), Shards: Shards{Open: 3, Rebuilding: 1}, Nodes: []Node{
		node("a", func(n *Node) { n.Lost = true; n.Level = "D3" }),
		node("b", func(n *Node) {
			n.Level = "D1"
			n.Draining = true
			n.Breakers = map[string]string{"redis 0": "half-open"}
		}),
		node("c", nil), node("d", nil), node("new", nil),
	}}
	var got []string
	for _, i := range Incidents(before, now) {
		got = append(got, words(i.Type, i.Node, i.Subject, i.State))
		if !strings.HasSuffix(i.Text, ".") {
			t.Errorf("no sentence: %q", i.Text)
		}
	}
	want := []string{
		"node a  lost", "node b  drains", "breaker b redis 0 half-open", "level b  D1", "node c  serves", "breaker c kafka closed", "node d  back",
		"node new  came", "node gone  gone", "rebuild  shards began",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if again := Incidents(now, now); len(again) > 0 {
		t.Errorf("nothing has changed, and told is %+v", again)
	}
}

package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/seckill"
)

// sampleSnapshot is a snapshot of two merchants' sales.
func sampleSnapshot() *live.Snapshot {
	at := time.Now().UTC().Truncate(time.Millisecond)
	rates := func(n float64) live.Rates {
		r := live.NewRates()
		r.Requests, r.Accepted, r.Refused["sold-out"] = n, n/2, n/2
		return r
	}
	lag := int64(7)
	in := &live.Input{
		At: at, Version: "v1", Lag: &lag,
		Frames: []live.Heard{{Frame: &live.Frame{
			Node: live.Node{Node: "gateway-1", Role: "gateway", Version: "v1", Started: at, Level: "D1"}, All: rates(30),
			Activities: []live.FrameActivity{
				{Activity: "618", Rates: rates(20), Items: []live.FrameItem{{SKU: "phone-x", Accepted: 10}}}, {Activity: "other", Rates: rates(10)},
			},
			Callers: []live.Caller{{Caller: "m1/app", Rates: rates(20)}, {Caller: "m2/app", Rates: rates(10)}},
			Limits:  []live.FrameLimit{{Policy: "caller", Allowed: 3, Refused: 1}},
			Refused: []live.Refused{{Policy: "caller", Key: "m2/app", Refused: 9}, {Policy: "user", Key: "m2/ann-the-buyer", Refused: 1}},
			Servers: []live.FrameServer{{Server: "redis", Instance: "r:6379", State: "away", Detail: "gone"}},
		}}},
		Known:    []live.Known{{Node: "gateway-1"}, {Node: "worker-1", Silent: time.Minute}},
		Policies: map[string]live.Policy{"caller": {Key: "caller", Mode: "enforce", Rate: 10}, "user": {Key: "user"}},
		Sale: func(id string) (live.Sale, bool) {
			merchant := map[string]string{"618": "m1", "other": "m2"}[id]
			return live.Sale{
				Name: id, Merchant: merchant, State: live.StateOnSale, StartsAt: at, EndsAt: at.Add(time.Hour), Items: 1,
				Item: func(sku string) (live.Item, bool) { return live.Item{SKU: sku, Price: 1, Currency: "CNY"}, true },
			}, true
		},
		Money:      []live.Money{{Currency: "CNY", Amount: 3, Count: 2}},
		MoneyOf:    map[string][]live.Money{"m1": {{Currency: "CNY", Amount: 1, Count: 1}}},
		Switches:   []live.Switch{{Switch: "orders", Scope: "merchant=m2", Value: "off", Merchant: "m2"}},
		LastChange: &live.Change{Number: 1, At: at, By: "ann", Text: "x", Merchant: "m2"},
	}
	s := new(live.Merger).Merge(in)
	s.Abnormal, _ = live.NewAlarms().Step(live.Find(s, &live.Facts{}), at)
	return s
}

func liveRows() []row {
	const liveNow, events = "/admin/v1/live", "/admin/v1/events"
	show := func(s *shop) { s.live.Show(sampleSnapshot()) }
	return []row{
		{name: "before the first snapshot", pattern: liveNow, method: "GET", status: 503, code: problem.Unavailable},
		{name: "now", pattern: liveNow, method: "GET", before: show, status: 200, want: has("version", "v1", "level", "D1", "complete", "false")},
		{name: "with history", pattern: liveNow, method: "GET", path: liveNow + "?history", status: 200, want: func(a *answer) {
			var s live.Snapshot
			if err := json.Unmarshal([]byte(a.body), &s); err != nil || len(s.History) == 0 || len(s.Activities[0].History) == 0 {
				a.t.Errorf("no history: %v %.300s", err, a.body)
			}
		}},
		{name: "history of what", pattern: liveNow, method: "GET", path: liveNow + "?history=yes", status: 400, code: problem.InvalidRequest},
		{name: "of a type that isn't one", pattern: events, method: "GET", path: events + "?types=live,x", status: 400, code: problem.InvalidRequest},
		{name: "with two types", pattern: events, method: "GET", path: events + "?types=live&types=node", status: 400, code: problem.InvalidRequest},
		{name: "until the hub ends", pattern: events, method: "GET", status: 200, before: func(s *shop) {
			go func() {
				look := time.NewTicker(time.Millisecond)
				defer look.Stop()
				for s.live.Stats().Watchers == 0 {
					<-look.C
				}
				s.live.Close()
			}()
		}, want: func(a *answer) {
			if a.Header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(a.body, "retry: 1000\n\nevent: live\ndata: {") {
				a.t.Errorf("%v %.300s", a.Header, a.body)
			}
		}},
		{name: "after the hub has ended", pattern: events, method: "GET", status: 503, code: problem.Unavailable},
	}
}

// sse is a stream of events as a client reads it.
type sse struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
}

type sseEvent struct{ id, kind, data string }

func (s *shop) watch(query string, fields ...string) *sse {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+"/admin/v1/events"+query, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+configuredToken)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("%d: %s", resp.StatusCode, text)
	}
	w := &sse{t: s.t, resp: resp, lines: bufio.NewScanner(resp.Body)}
	w.lines.Buffer(nil, 16<<20)
	s.t.Cleanup(w.close)
	return w
}

func (w *sse) close() { _ = w.resp.Body.Close() }

// next reads the next event; ok is false where the stream has ended.
func (w *sse) next() (e sseEvent, ok bool) {
	for w.lines.Scan() {
		name, value, _ := strings.Cut(w.lines.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data = value
		case "":
			if e.kind != "" {
				return e, true
			}
		}
	}
	return e, false
}

// want reads events until one matches.
func (w *sse) want(kind, part string) sseEvent {
	w.t.Helper()
	for {
		e, ok := w.next()
		if !ok {
			w.t.Fatalf("the stream ended before a %s with %q", kind, part)
		}
		if e.kind == kind && strings.Contains(e.data, part) {
			return e
		}
	}
}

func (s *shop) happens(kind, merchant, text string) {
	s.t.Helper()
	if err := s.live.Publish(kind, merchant, time.Now(), live.Incident{Text: text}); err != nil {
		s.t.Fatal(err)
	}
}

// TestEvents_Resume: a client that comes back with the id of the last event gets the missed events,
// once and in order.
func TestEvents_Resume(t *testing.T) {
	s := open(t, nil)
	s.live.Show(sampleSnapshot())
	w := s.watch("")
	first, _ := w.next()
	var snapshot live.Snapshot
	if err := json.Unmarshal([]byte(first.data), &snapshot); first.kind != live.EventLive || first.id != "" || err != nil || len(snapshot.History) != 1 {
		t.Fatalf("the first event is %+v", first)
	}
	s.happens(live.EventNode, "", "one")
	one := w.want(live.EventNode, "one")
	w.close()
	s.happens(live.EventNode, "", "two")
	s.happens(live.EventAlarm, "", "three")
	w = s.watch("", "Last-Event-ID", one.id)
	for _, text := range []string{"two", "three"} {
		if e, _ := w.next(); !strings.Contains(e.data, text) {
			t.Fatalf("want %s, got %+v", text, e)
		}
	}
	if e, _ := w.next(); e.kind != live.EventLive {
		t.Fatalf("want a snapshot after what was missed, got %+v", e)
	}
	w = s.watch("?types=alarm&last_event_id=another-1")
	if e, _ := w.next(); e.kind != live.EventAlarm || !strings.Contains(e.data, "three") {
		t.Fatalf("an unknown id: want what is kept, got %+v", e)
	}
	s.live.Show(sampleSnapshot())
	s.happens(live.EventNode, "", "four")
	s.happens(live.EventAlarm, "", "five")
	if e, _ := w.next(); !strings.Contains(e.data, "five") {
		t.Fatalf("want alarms alone, got %+v", e)
	}
}

// TestEvents_End: a stream ends when its token ends, when the hub gives its place away, and when
// the listener ends.
func TestEvents_End(t *testing.T) {
	s := open(t, nil)
	t.Run("with its token", func(t *testing.T) {
		made := s.must(201, "POST", "/admin/v1/tokens", `{"name":"short","role":"viewer"}`)
		w := s.watch("", "Authorization", "Bearer "+made.member("token"))
		s.must(204, "DELETE", "/admin/v1/tokens/short", "")
		for ok := true; ok; {
			_, ok = w.next()
		}
	})
	t.Run("a full hub", func(t *testing.T) {
		var all []*live.Watcher
		for {
			w, err := s.live.Subscribe(live.Filter{})
			if err != nil {
				break
			}
			all = append(all, w)
		}
		s.must(503, "GET", "/admin/v1/events", "").refused(problem.Overloaded)
		for _, w := range all {
			w.Close()
		}
	})
	t.Run("streams take no place of requests", func(t *testing.T) {
		s := open(t, func(c *Config, _ *Deps) { c.MaxInFlight = 2 })
		for range 5 {
			s.watch("")
		}
		s.live.Show(sampleSnapshot())
		s.must(200, "GET", "/admin/v1/live", "")
	})
	t.Run("with the listener", func(t *testing.T) {
		w := s.watch("")
		if err := s.server.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		for ok := true; ok; {
			_, ok = w.next()
		}
	})
}

// TestEvents_OutliveTheTimeouts: a stream goes on beyond the timeouts of ordinary requests.
func TestEvents_OutliveTheTimeouts(t *testing.T) {
	s := open(t, func(c *Config, _ *Deps) {
		c.ReadTimeout, c.RequestTimeout, c.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond
	})
	w := s.watch("")
	<-time.After(time.Second)
	s.happens(live.EventNode, "", "late")
	w.want(live.EventNode, "late")
}

// TestEvents_OfAMerchant: a token bound to a merchant sees the merchant's data and events, and no
// nodes and servers.
func TestEvents_OfAMerchant(t *testing.T) {
	s := open(t, nil)
	s.sell()
	made := s.must(201, "POST", "/admin/v1/tokens", `{"name":"shop","role":"viewer","merchant":"m1"}`)
	as := []string{"Authorization", "Bearer " + made.member("token")}
	s.live.Show(sampleSnapshot())
	w := s.watch("", as...)
	seen, _ := w.next()
	s.happens(live.EventNode, "", "secret of a node")
	s.happens(live.EventAlarm, "m2", "another's")
	s.happens(live.EventAlarm, "m1", "own")
	if e, _ := w.next(); !strings.Contains(e.data, "own") {
		t.Errorf("want the merchant's own alarm, got %+v", e)
	}
	for _, text := range []string{seen.data, s.must(200, "GET", "/admin/v1/live?history", "", as...).body} {
		var got live.Snapshot
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		sees := fmt.Sprintln(len(got.Activities), got.Activities[0].Activity, len(got.Callers), got.Callers[0].Caller, got.Totals.Requests,
			len(got.Nodes), len(got.Servers), len(got.Missing), len(got.Refused), len(got.Limits), len(got.Switches), got.LastChange == nil, got.Money)
		if want := "1 618 1 m1/app 20 0 0 0 0 0 0 true [{CNY 1 1}]\n"; sees != want {
			t.Errorf("sees %s, want %s", sees, want)
		}
		for _, secret := range []string{"m2", "gateway-1", "worker-1", "6379"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is told to a merchant: %s", secret, text)
			}
		}
	}
}

// TestLive_ViewersSeeNoBuyers: the name of a buyer that a limit refuses is visible to support, and
// hidden from viewers.
func TestLive_ViewersSeeNoBuyers(t *testing.T) {
	s := open(t, nil)
	s.live.Show(sampleSnapshot())
	for role, sees := range map[seckill.Role]bool{seckill.RoleViewer: false, seckill.RoleFinance: false, seckill.RoleSupport: true} {
		as := []string{"Authorization", "Bearer " + s.tokens[role]}
		first, _ := s.watch("", as...).next()
		for _, text := range []string{first.data, s.must(200, "GET", "/admin/v1/live", "", as...).body} {
			if got := strings.Contains(text, "ann-the-buyer"); got != sees {
				t.Errorf("%s sees a buyer's name: %v", roleName(role), got)
			}
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/penstock/penstock/internal/live"
)

// updateFrames is the environment variable that makes the test write the frames in testdata/top
// again.
const updateFrames = "PENSTOCK_UPDATE_FRAMES"

func ptr[T any](v T) *T { return &v }

// sunset is the time of the snapshots of these tests.
var sunset = time.Date(2026, 6, 18, 20, 15, 3, 0, time.UTC)

// busy is a snapshot of a sale with everything that can be shown, and with terminal commands in
// names.
func busy() *live.Snapshot {
	read := sunset.Add(-time.Second)
	rates := func(accepted, soldOut, limited float64) live.Rates {
		return live.Rates{
			Requests: accepted + soldOut + limited, Accepted: accepted, Paid: accepted * 0.8,
			Refused: map[string]float64{"sold-out": soldOut, "rate-limited": limited},
		}
	}
	ledger := func(total, available, held int64) live.Ledger {
		return live.Ledger{Total: total, Available: available, Held: held, Sold: total - available - held, At: &read}
	}
	s := &live.Snapshot{
		At: sunset, Version: "v1", Complete: true, Totals: rates(4812.4, 11_000, 1004), Level: "D1",
		Latency: live.Latency{P50: ptr(3.2), P99: ptr(41.7), P999: ptr(12_345.0)},
		Activities: []live.Activity{
			{Activity: "618-phones", State: "on-sale", EndsAt: sunset.Add(105 * time.Minute), Rates: rates(4800, 11_000, 1000),
				Ledger: ledger(1_000_000, 20_512, 64_000), SoldOutIn: ptr(4.3), MoreItems: 3,
				Items: []live.Item{
					{SKU: "phone-x", Price: 199_900, Currency: "CNY", Accepted: 4700, Ledger: ledger(900_000, 20_000, 60_000)},
					{SKU: "手机壳-大号", Price: 1999, Currency: "JPY", SoldOut: true, Ledger: ledger(100_000, 0, 4000)},
				}},
			{Activity: "evil\x1b[2J\u202ename-that-is-much-longer-than-any-column", State: "paused", Rates: rates(0, 0, 0)},
			{Activity: "tomorrow", State: "scheduled", StartsAt: sunset.Add(26 * time.Hour), Rates: rates(0, 0, 0), Ledger: ledger(500, 500, 0)},
		},
		Others:  rates(12.4, 3, 1),
		Callers: []live.Caller{{Caller: "m1/web", Rates: rates(4000, 9000, 4)}, {Caller: "m2/app", Rates: rates(812.4, 2000, 1000)}},
		Limits:  []live.Limit{{Policy: "caller", Key: "caller", Mode: "enforce", Configured: 5000, Allowed: 4900, Refused: 1004}},
		Refused: []live.Refused{{Policy: "caller", Key: "m2/app", Refused: 60_240}},
		Nodes: []live.Node{
			{Node: "g1@10.0.0.1:8081", Role: "gateway", Version: "v1", Level: "D1", InFlight: 312, CPU: 1.72, Memory: 310 << 20, Accepted: 2400},
			{Node: "g2@10.0.0.2:8081", Role: "gateway", Version: "v1", Level: "D0", Lost: true, Age: 14, Breakers: map[string]string{"kafka b2": "open"}},
			{Node: "w1@10.0.0.3:8081", Role: "worker", Version: "v0", Level: "D0", Draining: true, Memory: 12 << 30, Lag: ptr(int64(1234))},
		},
		Servers: []live.Server{
			{Server: "kafka", Instance: "b2", State: "away", Detail: "connection refused", Nodes: []string{"g1", "g2", "w1", "w2"}},
			{Server: "database", State: "ok"},
		},
		Queue:  live.Queue{Lag: ptr(int64(1234)), Oldest: ptr(2.5), CatchUp: ptr(12.0), Letters: 1},
		Shards: live.Shards{Open: 15, Rebuilding: 1},
		Money:  []live.Money{{Currency: "CNY", Amount: 1999, Count: 1}},
		Switches: []live.Switch{{Switch: "admission", Scope: "merchant=m1", Value: "40", Since: ptr(sunset.Add(-30 * time.Hour)), By: "amy", Reason: "crowd", Stale: true},
			{Switch: "wait", Value: "off", Since: ptr(sunset.Add(-time.Minute)), Expires: ptr(sunset.Add(14 * time.Minute)), By: "bob", Reason: "\x1b]0;x\x07"}},
		Hops:   []live.Hop{{Hop: "hold", P50: ptr(1.0), P99: ptr(9.0), Deadline: 500}, {Hop: "row", Deadline: 60_000, Late: 3}},
		Probes: []live.Probe{{Probe: "buy", Node: "g1", OK: true, Took: 12}, {Probe: "page", Node: "g2", Error: "no answer in 1 s"}},
		Objectives: []live.Objective{
			{Objective: "availability", Of: "traffic", Target: 99.99, Actual: ptr(99.995), Budget: ptr(50.0), Asked: 1_000_000, Bad: 50},
			{Objective: "latency", Of: "probes", Target: 99.9, Limit: ptr(100.0)},
		},
		Abnormal: []live.Finding{
			{Kind: "server-away", Severity: "critical", Subject: "kafka b2", Text: "kafka b2 doesn't answer", Since: ptr(sunset.Add(-125 * time.Second)),
				Ctl: "penstock ctl nodes list", Runbook: "docs/runbook.md#kafka"},
			{Kind: "node-lost", Severity: "critical", Subject: "g2", Text: "nothing was heard of it", Since: ptr(sunset.Add(-14 * time.Second))},
			{Kind: "switch", Severity: "warning", Subject: "admission", Text: "admission is 40 for merchant m1, and has no end"},
			{Kind: "switch", Severity: "info", Subject: "wait", Text: "wait is off", Until: ptr(sunset.Add(14 * time.Minute))},
		},
		LastChange: &live.Change{Number: 41, At: sunset.Add(-time.Minute), By: "bob", Text: "wait is off"},
	}
	return s
}

// Each page is drawn at common sizes of terminals. To see the changes: PENSTOCK_UPDATE_FRAMES=1 go
// test ./cmd/penstock -run TestTopView, and git diff.
func TestTopView_Frames(t *testing.T) {
	quiet := &live.Snapshot{At: sunset, Complete: true, Level: "D0"}
	for name, c := range map[string]struct {
		view          topView
		height, lines int
	}{
		"header-80":     {topView{snapshot: busy(), width: 80}, 24, 0},
		"tonight-80":    {topView{snapshot: busy(), width: 80, page: pageTonight}, 24, 0},
		"machines-80":   {topView{snapshot: busy(), width: 80, page: pageMachines}, 24, 0},
		"machines-down": {topView{snapshot: busy(), width: 80, page: pageMachines}, 24, 100},
		"limits-80":     {topView{snapshot: busy(), width: 80, page: pageLimits}, 24, 0},
		"header-40":     {topView{snapshot: busy(), width: 40}, 24, 0},
		"tonight-40":    {topView{snapshot: busy(), width: 40, page: pageTonight}, 24, 0},
		"machines-40":   {topView{snapshot: busy(), width: 40, page: pageMachines}, 24, 0},
		"plain-40":      {topView{snapshot: busy(), width: 40, page: pageTonight, plain: true}, 24, 0},
		"wide-200":      {topView{snapshot: busy(), width: 200, page: pageMachines}, 50, 0},
		"low-80":        {topView{snapshot: busy(), width: 80, page: pageTonight}, 6, 0},
		"quiet-80":      {topView{snapshot: quiet, width: 80}, 24, 0},
		"away-80": {topView{
			snapshot: quiet, width: 80, page: pageTonight, received: sunset, now: sunset.Add(74 * time.Second),
			trouble: "Get \"http://127.0.0.1:8081/admin/v1/events\": dial tcp 127.0.0.1:8081: connect: connection refused",
		}, 24, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.view.zone = time.UTC
			lines, _ := c.view.frame(c.height, c.lines)
			if len(lines) != c.height {
				t.Errorf("%d lines, want %d", len(lines), c.height)
			}
			for _, line := range lines {
				if width := ansi.StringWidth(line); width > c.view.width {
					t.Errorf("%d columns of %d: %q", width, c.view.width, line)
				}
				if strings.ContainsFunc(line, isCommand) || c.view.plain && strings.ContainsAny(line, "…·→↑↓") {
					t.Errorf("a terminal would do something for %q", line)
				}
			}
			golden(t, name, strings.Join(lines, "\n")+"\n")
		})
	}
	view := topView{snapshot: busy(), width: 100, zone: time.UTC}
	golden(t, "whole-100", strings.Join(view.whole(), "\n")+"\n")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "top", name+".txt")
	if os.Getenv(updateFrames) != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: PENSTOCK_UPDATE_FRAMES=1 go test ./cmd/penstock -run TestTopView writes it anew. It is\n%swant\n%s", path, got, want)
	}
}

// At any size and with any content, a frame is as high as the terminal and never wider.
// TestCutMiddle: of a name that is too wide both ends stay, because names differ at one of them.
func TestCutMiddle(t *testing.T) {
	for _, c := range []struct {
		name  string
		width int
		want  string
	}{
		{"phone-x", 16, "phone-x"}, {"a-very-long-sku-name-21", 16, "a-very-lon~me-21"}, {"a-very-long-sku-name-21", 5, "a-very-long-sku-name-21"},
		{"手机壳手机壳手机壳-大号", 14, "手机壳手~大号"},
	} {
		if got := cutMiddle(c.name, c.width); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.name, c.width, got, c.want)
		}
	}
}

func TestTopView_FitsEveryTerminal(t *testing.T) {
	for _, snapshot := range []*live.Snapshot{busy(), {}} {
		for page := range pages {
			for width := 1; width <= 130; width += 3 {
				for height := 1; height <= 60; height += 7 {
					view := topView{snapshot: snapshot, width: width, page: page, screen: screen{colors: true}, trouble: strings.Repeat("away ", 40)}
					lines, _ := view.frame(height, 3)
					if len(lines) != height {
						t.Fatalf("page %d at %dx%d has %d lines", page, width, height, len(lines))
					}
					for _, line := range lines {
						if got := ansi.StringWidth(line); got > width {
							t.Fatalf("page %d at %dx%d: %q has %d columns", page, width, height, line, got)
						}
					}
				}
			}
		}
	}
}

func TestTopModel_Keys(t *testing.T) {
	m := newTopModel(topView{}, func() time.Time { return sunset })
	m.see(sighting{snapshot: busy()})
	if _, cmd := m.Update(tea.WindowSizeMsg{Width: 60, Height: 10}); cmd != nil || m.view.width != 60 || m.height != 10 {
		t.Errorf("%dx%d after a resize", m.view.width, m.height)
	}
	key := func(text string, code rune) tea.Cmd {
		_, cmd := m.Update(tea.KeyPressMsg{Text: text, Code: code})
		return cmd
	}
	for _, k := range []struct {
		text string
		code rune
		page topPage
	}{{"2", '2', pageTonight}, {"m", 'm', pageMachines}, {"", tea.KeyTab, pageLimits}, {"", tea.KeyTab, pageHeader}, {"4", '4', pageLimits}, {"h", 'h', pageHeader}} {
		if cmd := key(k.text, k.code); cmd != nil || m.view.page != k.page {
			t.Errorf("key %q%d shows page %d, want %d", k.text, k.code, m.view.page, k.page)
		}
	}
	key("G", 'G')
	m.View()
	end := m.scroll
	key("j", 'j')
	m.View()
	if end == 0 || m.scroll != end {
		t.Errorf("scrolled to %d, then past the end to %d", end, m.scroll)
	}
	key("k", 'k')
	if m.View(); m.scroll != end-1 {
		t.Errorf("a line up from %d is %d", end, m.scroll)
	}
	for _, k := range []tea.KeyPressMsg{{Text: "q", Code: 'q'}, {Code: tea.KeyEscape}, {Code: 'c', Mod: tea.ModCtrl}} {
		if _, cmd := m.Update(k); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s doesn't quit", k)
		}
	}
}

// watched is a server of the live view that tests control.
type watched struct {
	*httptest.Server
	mu     sync.Mutex
	events func(w http.ResponseWriter, r *http.Request) // nil means 404; guarded by mu
	asked  []string                                     // guarded by mu
}

func newWatched(t *testing.T) *watched {
	w := &watched{}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	t.Setenv(envAdmin, w.URL)
	t.Setenv(envAdminToken, ctlToken)
	return w
}

func (s *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.RequestURI()+" "+r.Header.Get("Last-Event-ID"))
	events := s.events
	s.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer "+ctlToken:
		problemAnswer(w, 401, "unauthenticated")
	case r.URL.Path == "/admin/v1/live":
		text, err := json.Marshal(busy())
		if err == nil {
			_, err = w.Write(text)
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	case r.URL.Path == "/admin/v1/events" && events != nil:
		w.Header().Set("Content-Type", "text/event-stream")
		events(w, r)
	default:
		problemAnswer(w, 404, "not-found")
	}
}

func TestTop_Once(t *testing.T) {
	newWatched(t)
	t.Setenv("COLUMNS", "60")
	for _, s := range []step{
		{args: "top --once", stdout: `^Penstock · .*critical  kafka b2 doesn't answer.*→ penstock ctl nodes list.*618-phones .*g1@10\.0\.0\.1.*m2/app .*admission`},
		{args: "top", stdout: "618-phones"},
		{args: "top --once -o json", stdout: `^\{\n  "at": "2026-06-18T20:15:03Z",.*"abnormal": \[`},
		{args: "ctl live", stdout: "618-phones"},
		{args: "ctl live -o json", stdout: `"level": "D1"`},
		{args: "top --admin http://127.0.0.1:1", code: 4, stderr: "connection refused"},
		{args: "top --admin http://127.0.0.1:1," + os.Getenv(envAdmin), stdout: "618-phones"},
		{args: "top --admin nowhere", code: 2, stderr: `flag --admin: "nowhere" is not a URL`},
		{args: "top -o xml", code: 2, stderr: "neither table nor json"},
		{args: "top now", code: 2, stderr: `unknown command "now"`},
	} {
		s.run(t)
	}
	t.Setenv(envAdminToken, "wrong")
	(&step{args: "top", code: 1, stderr: "401 unauthenticated"}).run(t)
}

// A feed follows the events. It reports a broken connection, connects again, and ends when the
// server refuses.
func TestLiveFeed_ComesAgain(t *testing.T) {
	s := newWatched(t)
	text, err := json.Marshal(busy())
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	s.events = func(w http.ResponseWriter, _ *http.Request) {
		if times++; times == 3 {
			problemAnswer(w, 403, "forbidden")
			return
		}
		fmt.Fprintf(w, ": hello\nretry: 1000\n\nevent: change\nid: %d\ndata: {}\n\nevent: live\r\ndata: %s\r\n\r\nevent: live\ndata: {\"half", times, text)
	}
	feed := &liveFeed{client: newClient([]string{s.URL}, ctlToken, time.Minute), types: []string{"live"}, quiet: time.Minute}
	var seen []string
	err = feed.watch(t.Context(), func(one sighting) {
		if one.err != nil {
			seen = append(seen, "broken")
			return
		}
		seen = append(seen, one.snapshot.Level)
	})
	if codeOf(err) != exitFailure || strings.Join(seen, " ") != "D1 broken D1 broken" {
		t.Errorf("saw %v, ended with %v", seen, err)
	}
	if got := strings.Join(s.asked, "\n"); got != "/admin/v1/events?types=live \n/admin/v1/events?types=live 1\n/admin/v1/events?types=live 2" {
		t.Errorf("asked for\n%s", got)
	}
}

// A server without events is polled. A connection without any data for too long counts as dead.
func TestLiveFeed_WithoutEvents(t *testing.T) {
	s := newWatched(t)
	feed := &liveFeed{client: newClient([]string{"http://127.0.0.1:1", s.URL}, ctlToken, time.Minute), quiet: time.Minute}
	ctx, cancel := context.WithCancel(t.Context())
	count := 0
	err := feed.watch(ctx, func(one sighting) {
		if count++; one.err != nil || one.snapshot.Level != "D1" {
			t.Errorf("%v", one.err)
		}
		if count == 2 {
			cancel()
		}
	})
	if err != nil || count != 2 {
		t.Errorf("%d sightings, %v", count, err)
	}
	hang := make(chan struct{})
	s.mu.Lock()
	s.events = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			panic(http.ErrAbortHandler)
		}
		<-hang
	}
	s.mu.Unlock()
	feed.quiet = 50 * time.Millisecond
	err = feed.follow(t.Context(), func() {}, func(event) error { return nil })
	close(hang)
	if codeOf(err) != exitDependency || !errors.Is(err, errQuiet) {
		t.Errorf("a connection on which nothing comes: %v", err)
	}
}

func TestCtlEvents(t *testing.T) {
	s := newWatched(t)
	times := 0
	s.events = func(w http.ResponseWriter, r *http.Request) {
		switch times++; {
		case times%2 == 0:
			problemAnswer(w, 403, "forbidden")
		default:
			fmt.Fprint(w, "id: 7\nevent: change\ndata: {\"number\":3,\"at\":\"2026-06-18T20:00:00Z\",\"by\":\"amy\",\"text\":\"off\\u001b[2J\"}\n\n"+
				"id: 8\nevent: alarm\ndata: {\"at\":\"2026-06-18T12:00:00Z\",\"state\":\"raised\",\"finding\":{\"severity\":\"critical\",\"subject\":\"kafka\",\"text\":\"is away\","+
				"\"since\":\"2026-06-18T20:00:00Z\",\"ctl\":\"penstock audit\"}}\n\n"+
				"id: 9\nevent: node\ndata: {\"at\":\"2026-06-18T20:00:00Z\",\"node\":\"g1\",\"state\":\"lost\",\"text\":\"It is lost.\"}\n\n"+
				"event: live\ndata: {}\n\n")
		}
	}
	for _, one := range []step{
		{args: "ctl events", code: 1, stderr: `^\S+: the connection ended: unexpected EOF; trying again\npenstock: .*forbidden`,
			stdout: "^2026-06-18T\\S+  change   3 by amy: off\uFFFD\\[2J\n\\S+  alarm    raised critical kafka: is away → penstock audit\n\\S+  node     g1 lost It is lost\\.\n$"},
		{args: "ctl events --types change -o json", code: 1, stderr: "forbidden",
			stdout: `^\{"data":\{"number":3,"at":"2026-06-18T20:00:00Z","by":"amy","text":"off\\u001b\[2J"\},"event":"change","id":"7"\}\n$`},
		{args: "ctl events --types chnge", code: 2, stderr: `there is no type "chnge", did you mean "change"\?`},
	} {
		one.run(t)
	}
}

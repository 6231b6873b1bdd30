package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/penstock/penstock/loadtest"
)

// wrongShop serves the public contract, with one fault that the test chooses.
type wrongShop struct {
	stock int
	fault string
	stall time.Duration // how long the 50th purchase stalls; nobody is served meanwhile
	seen  func(purchases int)

	mu     sync.Mutex
	orders map[string]string // from id to user; guarded by mu
	keys   map[string]string // from key to id; guarded by mu
	asked  int               // guarded by mu
}

func (s *wrongShop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, isOrder := strings.CutPrefix(r.URL.Path, "/v1/orders/")
	switch {
	case r.Header.Get("Authorization") != "Bearer key":
		problemAnswer(w, 401, "unauthenticated")
	case r.Method == "POST" && r.URL.Path == "/v1/orders":
		s.buy(w, r)
	case isOrder && s.orders[id] != "":
		fmt.Fprintf(w, `{"order":%q,"user":%q,"quantity":1,"status":"pending_payment"}`, id, s.orders[id])
	case r.URL.Path == "/v1/activities/618":
		fmt.Fprint(w, `{"activity":"618","items":[{"sku":"phone-x","price":1999,"currency":"CNY","per_user":100}]}`)
	default:
		problemAnswer(w, 404, "not-found")
	}
}

func (s *wrongShop) buy(w http.ResponseWriter, r *http.Request) {
	var p struct{ User string }
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		problemAnswer(w, 400, "invalid-request")
		return
	}
	s.asked++
	if s.seen != nil {
		s.seen(s.asked)
	}
	if s.asked == 50 && s.stall > 0 {
		<-time.After(s.stall)
	}
	key := r.Header.Get("Idempotency-Key")
	id, known := s.keys[key]
	stock := s.stock
	if s.fault == "oversells" {
		stock += 10
	}
	switch {
	case known && s.fault != "answers twice":
		w.Header().Set("Idempotent-Replayed", "true")
	case len(s.keys) >= stock:
		problemAnswer(w, 409, "sold-out")
		return
	default:
		id = fmt.Sprintf("order-%d", s.asked)
		s.keys[key] = id
		if s.fault != "loses orders" || s.asked%7 != 0 {
			s.orders[id] = p.User
		}
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, `{"order":%q,"status":"queued"}`, id)
}

func problemAnswer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"/problems/%[1]s","status":%[2]d,"code":%[1]q}`, code, status)
}

// open serves the shop until the test ends. It returns the flags of a load test against it.
func (s *wrongShop) open(t *testing.T, out string) []string {
	s.orders, s.keys = make(map[string]string), make(map[string]string)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return []string{
		"loadtest", "--target", server.URL, "--caller-key", "key", "--activity", "618", "--sku", "phone-x", "--users", "1000", "--seed", "618",
		"--rate", "1000/s", "--duration", "500ms", "--stock", fmt.Sprint(s.stock), "--out", out, "--connections", "16",
	}
}

func runLoadTest(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	root := rootCommand()
	var out, messages bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&messages)
	code = run(ctx, root, args)
	return out.String(), messages.String(), code
}

func readSummary(t *testing.T, dir string) loadtest.Summary {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil {
		t.Fatal(err)
	}
	var s loadtest.Summary
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadTest_EachBrokenShopIsCaught(t *testing.T) {
	for name, c := range map[string]struct {
		shop   *wrongShop
		flags  []string
		code   int
		stderr string
		broken string
	}{
		"sound":         {&wrongShop{stock: 100}, []string{"--slo", "p99(accepted)<1h, error_rate<0.1%"}, exitOK, "", ""},
		"oversells":     {&wrongShop{stock: 100, fault: "oversells"}, nil, exitLawBroken, "110 units of 618/phone-x were taken at once, the stock is 100", "no-oversell"},
		"loses orders":  {&wrongShop{stock: 100, fault: "loses orders"}, nil, exitLawBroken, "was accepted and can't be found (404)", "promise-kept"},
		"answers twice": {&wrongShop{stock: 1000, fault: "answers twice"}, nil, exitLawBroken, "was answered with order", "one-key-one-order"},
		"stalls": {
			&wrongShop{stock: 100, stall: 300 * time.Millisecond}, []string{"--slo", "p80<150ms", "--connections", "2"}, exitSLOMissed, "slo missed: p80<150ms", "",
		},
		"stalls, and nobody minds": {
			&wrongShop{stock: 100, stall: 300 * time.Millisecond}, []string{"--connections", "2"}, exitOK, "were waiting for answers", "",
		},
		"oversells and misses": {
			&wrongShop{stock: 100, fault: "oversells"}, []string{"--slo", "accepted>1000"}, exitLawBroken,
			"slo missed: accepted>1000, measured 110", "no-oversell",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "made", "here")
			stdout, stderr, code := runLoadTest(t.Context(), append(c.shop.open(t, out), c.flags...)...)
			if code != c.code || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit code %d, want %d, and %q\n%s%s", code, c.code, c.stderr, stderr, stdout)
			}
			s := readSummary(t, out)
			if s.Sent != 500 || s.Answered != 500 || s.Accepted+s.ByCode["sold-out"] > 500 || s.Run.Seed != 618 {
				t.Errorf("%d sent, %d answered, %d accepted, %v", s.Sent, s.Answered, s.Accepted, s.ByCode)
			}
			for _, i := range s.Invariants {
				if i.Held == (i.Name == c.broken) {
					t.Errorf("%s: held %v: %s", i.Name, i.Held, i.Detail)
				}
			}
			if c.shop.stall > 0 && s.LatencyMS.Max < 300 {
				t.Errorf("a stall of %v shows as %v ms", c.shop.stall, s.LatencyMS.Max)
			}
			page, err := os.ReadFile(filepath.Join(out, reportFile))
			if err != nil || !strings.Contains(string(page), "</html>") || strings.Contains(string(page), `"key"`) {
				t.Errorf("report: %v, %d bytes", err, len(page))
			}
			if !strings.Contains(stdout, "report.html") || strings.Contains(stdout, "\x1b") || strings.Contains(stderr, "\x1b") {
				t.Errorf("printed: %s%s", stdout, stderr)
			}
		})
	}
}

func TestLoadTest_InterruptedStillReports(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	shop := wrongShop{stock: 1000, seen: func(n int) {
		if n == 100 {
			cancel()
		}
	}}
	out := t.TempDir()
	stdout, stderr, code := runLoadTest(ctx, append(shop.open(t, out), "--duration", "1h", "-o", "json")...)
	if code != exitInterrupted || !strings.Contains(stderr, "interrupted") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	s := readSummary(t, out)
	if s.Verdict != loadtest.Interrupted || s.Sent < 100 || s.OrdersCreated != len(shop.orders) || !s.ReadBack {
		t.Errorf("%s, %d sent, %d orders of %d", s.Verdict, s.Sent, s.OrdersCreated, len(shop.orders))
	}
	var printed loadtest.Summary
	if err := json.Unmarshal([]byte(stdout), &printed); err != nil || printed.Sent != s.Sent {
		t.Errorf("printed %v: %s", err, stdout)
	}
}

func TestLoadTest_ChecksTheAudit(t *testing.T) {
	for name, c := range map[string]struct {
		sold   int // the units that the books say are sold afterwards
		code   int
		stderr string
	}{
		"agrees":          {100, exitOK, ""},
		"lost two units":  {98, exitLawBroken, "100 units are in orders of this load, the books have 0 held and 98 sold"},
		"does not add up": {-1, exitLawBroken, "invariant audit-balanced does not hold"},
	} {
		t.Run(name, func(t *testing.T) {
			shop := wrongShop{stock: 100}
			args := shop.open(t, t.TempDir())
			asked := 0
			books := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				switch {
				case r.Header.Get("Authorization") != "Bearer t0ken" || r.URL.Path != "/admin/v1/activities/618/audit":
					problemAnswer(w, 401, "unauthenticated")
				case asked == 1:
					fmt.Fprint(w, `{"items":[{"sku":"phone-x","total":100,"available":100,"balanced":true}]}`)
				case c.sold < 0:
					// This never settles, no matter how long one waits; the test doesn't wait.
					fmt.Fprint(w, `{"items":[{"sku":"phone-x","total":100,"available":0,"held":99,"sold":0,"balanced":false}]}`)
				default:
					fmt.Fprintf(w, `{"items":[{"sku":"phone-x","total":100,"available":%d,"sold":%d,"balanced":true}]}`, 100-c.sold, c.sold)
				}
			}))
			t.Cleanup(books.Close)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.sold < 0 { // so that the audit waits only a few seconds
				shop.seen = func(n int) {
					if n == 200 {
						cancel()
					}
				}
			}
			args = slices.DeleteFunc(args, func(a string) bool { return a == "--stock" || a == "100" })
			_, stderr, code := runLoadTest(ctx, append(args, "--admin", books.URL+"/", "--admin-token", "t0ken")...)
			if code != c.code || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit code %d, want %d, and %q\n%s", code, c.code, c.stderr, stderr)
			}
		})
	}
}

func TestLoadTest_RefusesWhatMakesNoSense(t *testing.T) {
	sound := []string{"loadtest", "--target", "http://127.0.0.1:1", "--caller-key", "key", "--activity", "618", "--sku", "phone-x", "--out", t.TempDir()}
	for flags, want := range map[string]string{
		"":                                "flag --rate: is required",
		"--rate 0":                        "flag --rate: must be above zero",
		"--rate -5":                       "flag --rate: \"-5\" is not a rate",
		"--rate 2000000/s":                "flag --rate: \"2000000/s\" is not a rate",
		"--rate NaN":                      "is not a rate",
		"--rate 1 --duration 0s":          "flag --duration: must be above zero",
		"--rate 1 --duration ever":        "flag --duration: \"ever\" is not a duration",
		"--rate 1 --duration 25h":         "flag --duration: 25h0m0s is not above zero",
		"--rate 1000000/s --duration 24h": "flag --rate: 86400000000 requests are more",
		"--rate 1 --users 0":              "flag --users: 0 is not between",
		"--rate 1 --users many":           "flag --users: \"many\" is not a whole number",
		"--rate 1 --connections 0":        "flag --connections",
		"--rate 1 --repeat 150%":          "flag --repeat: \"150%\" is not a share",
		"--rate 1 --repeat 0.6 --double-click 50%": "repeat and double-click: are",
		"--rate 1 --pay 80% --cancel 30%":          "pay and cancel: are",
		"--rate 1 --pay 80%":                       "pay: needs the merchant's payment secret",
		"--rate 1 --slo p99":                       "flag --slo: \"p99\" is not like",
		"--rate 1 --stages 0@0s,5@5s":              "flag --rate: and flag --stages both set the rate",
		"--stages 5@5s,5@3s":                       "flag --stages: \"3s\" is not a time",
		"--stages 5@0s":                            "has no second point",
		"--stages 5":                               "is not RATE@TIME",
		"--stages 0@0s,0@5s":                       "rate: nothing leaves",
		"--rate 1 --target ftp://x":                "flag --target: \"ftp://x\" is not a URL",
		"--rate 1 --target http://a,,":             "flag --target: \"\" is not a URL",
		"--rate 1 --sku a,":                        "flag --sku: has an empty name",
		"--rate 1 --activity a,b":                  "flag --sku: \"phone-x\" is not ACTIVITY/SKU of one of the activities a, b",
		"--rate 1 --activity a,b --sku a/x":        "flag --sku: names no item of activity b",
		"--rate 1 --sku phone-x,phone-x":           "flag --sku: 618/phone-x occurs twice",
		"--rate 1 --zipf -1":                       "flag --zipf: -1 is not between 0 and 10",
		"--rate 1 --price -1":                      "flag --price: \"-1\" is not a whole number",
		"--rate 1 --browse 20%":                    "unexpected argument \"20%\"",
		"--rate 1 --admin nowhere":                 "flag --admin: \"nowhere\" is not a URL",
		"--rate 1 -o xml":                          "flag --output",
		"--rate 1 --scenario nowhere.yaml":         "flag --scenario: open nowhere.yaml",
		"--fast":                                   "unknown flag",
	} {
		_, stderr, code := runLoadTest(t.Context(), append(slices.Clone(sound), strings.Fields(flags)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %q, want %q", flags, code, stderr, want)
		}
	}
	if _, stderr, code := runLoadTest(t.Context(), append(slices.Clone(sound), "--rate", "1")...); code != exitDependency || !strings.Contains(stderr, "target: ") {
		t.Errorf("nobody listens: exit code %d, %s", code, stderr)
	}
	shop := wrongShop{stock: 1}
	wrong := append(shop.open(t, t.TempDir()), "--caller-key", "wrong")
	if _, stderr, code := runLoadTest(t.Context(), wrong...); code != exitFailure || !strings.Contains(stderr, "unauthenticated") {
		t.Errorf("a wrong key: exit code %d, %s", code, stderr)
	}
}

func TestLoadTest_Scenario(t *testing.T) {
	shop := wrongShop{stock: 50}
	out := t.TempDir()
	args := shop.open(t, out)
	target := args[2]
	path := filepath.Join(t.TempDir(), "rush.yaml")
	text := "target: [" + target + "]\ncaller_key: key\nactivity: '618'\nsku: phone-x\nusers: 500\nstock: 50\nrepeat: 0%\n" + `slo:
  - p99(accepted)<1h
  - accepted>=50
phases:
  - {name: calm, duration: 200ms, rate: 100/s, mix: {buy: 50%, browse: 50%, poll: 100%}}
  - name: ramp
    duration: 200ms
    rate: 100/s
    to: 1000/s
  - name: rush
    duration: 200ms
    rate: 1000/s
    mix: {buy: 90%}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runLoadTest(t.Context(), "loadtest", "--scenario", path, "--out", out, "--seed", "618", "--users=600")
	if code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, stderr, stdout)
	}
	s := readSummary(t, out)
	if s.Generator.Planned != 20+110+200 || s.Actions["browse"].Count == 0 || s.Actions["poll"].Count == 0 || s.Run.Users != 600 || s.Repeats != 0 {
		t.Errorf("%d planned, actions %v, %d users, %d repeats", s.Generator.Planned, s.Actions, s.Run.Users, s.Repeats)
	}
	if len(s.SLOs) != 3 || s.Verdict != loadtest.Passed || s.Accepted != 50 {
		t.Errorf("%s, slos %v, %d accepted", s.Verdict, s.SLOs, s.Accepted)
	}
	compared, notes, code := runLoadTest(t.Context(), "loadtest", "compare", out, out)
	page, err := os.ReadFile(filepath.Join(out, compareFile))
	if code != exitOK || err != nil || !strings.Contains(compared, "accepted ") || !strings.Contains(notes, "charts: ") || !strings.Contains(string(page), "</html>") {
		t.Errorf("compare: exit code %d, %v\n%s%s", code, err, compared, notes)
	}
	asJSON, _, code := runLoadTest(t.Context(), "loadtest", "compare", out, filepath.Join(out, summaryFile), "-o", "json", "--html", filepath.Join(out, "c.html"))
	if code != exitOK || !json.Valid([]byte(asJSON)) || !strings.Contains(asJSON, `"name": "achieved rate"`) {
		t.Errorf("compare: exit code %d\n%s", code, asJSON)
	}
	if _, wrong, code := runLoadTest(t.Context(), "loadtest", "compare", out, filepath.Join(out, "nowhere")); code != exitUsage || !strings.Contains(wrong, "is not there") {
		t.Errorf("compare with nothing: exit code %d, %s", code, wrong)
	}
	if want := "penstock loadtest --out=" + out + " --scenario=" + path + " --users=600 --seed=618"; s.Run.Command != want {
		t.Errorf("repeated with %q, want %q", s.Run.Command, want)
	}
}

func TestLoadTest_ScenarioMistakesHaveFileAndLine(t *testing.T) {
	const head = "target: http://127.0.0.1:1\ncaller-key: k\nactivity: a\nsku: s\n"
	for text, want := range map[string]string{
		"":                                 "s.yaml: is empty",
		"- a":                              "s.yaml:1: a scenario: is key: value pairs",
		"a: [":                             "s.yaml:2: is not YAML: ",
		"rate: 5\n---\nrate: 6":            "s.yaml:2: has more than one document",
		"rates: 5":                         `s.yaml:1: unknown key "rates", did you mean "rate"?`,
		"rate: 5\n\nrate: 6":               "s.yaml:3: rate: was set already, at line 1",
		"rate: [5]":                        "s.yaml:1: rate: must be a single value",
		"rate:":                            "s.yaml:1: rate: must be a single value",
		"rate: fast":                       `s.yaml:1: rate: "fast" is not a rate`,
		head + "rate: 5\nusers: 0":         "s.yaml:6: users: 0 is not between",
		head + "rate: 5\nslo: p99":         `s.yaml:6: slo: "p99" is not like`,
		head + "rate: 5\npay: 10%":         "s.yaml:6: pay: needs the merchant's payment secret",
		head + "rate: 5\nzipf: much":       `s.yaml:6: zipf: "much" is not a number`,
		head + "rate: 5\nmax-errors: 200%": `s.yaml:6: max-errors: "200%" is not a share`,
		"activity: a\nrate: 5\ntarget: http://x\ncaller-key: k":        "flag --sku: is required; * is all items",
		"activity: [a, b]\nrate: 5\ntarget: http://x\nsku: [a/x, c/x]": `s.yaml:4: sku: "c/x" is not ACTIVITY/SKU`,
		"phases: {}":                                                                "s.yaml:1: phases: is a list",
		"phases: []":                                                                "s.yaml:1: phases: is a list",
		"phases:\n- rate: 5":                                                        "s.yaml:2: phase 1: duration: is required",
		"phases:\n- duration: 5s":                                                   "s.yaml:2: phase 1: rate: is required",
		"phases:\n- five":                                                           "s.yaml:2: a phase: is key: value pairs",
		"phases:\n- {rate: 5, duration: 5}":                                         `s.yaml:2: duration: "5" is not a duration`,
		"phases:\n- rate: -5\n  duration: -5s":                                      `s.yaml:3: duration: "-5s"`,
		"phases:\n- {rate: 5, duration: 5s, until: 3}":                              `unknown key "until"`,
		"phases:\n- {rate: 5, duration: 5s, mix: 3}":                                "s.yaml:2: a mix: is key: value pairs",
		"phases:\n- {rate: 5, duration: 5s, mix: {bye: 1}}":                         `unknown key "bye", did you mean "buy"?`,
		"phases:\n- {rate: 5, duration: 5s, mix: {buy: 50%, browse: 60%}}":          "buy and browse: are 1.1 together",
		"phases:\n- {rate: 5, duration: 5s, mix: {pay: 60%, cancel: 60%}}":          "s.yaml:2: phase 1: pay and cancel: are 1.2 together",
		head + "rate: 5\nphases:\n- {rate: 5, duration: 5s}":                        "s.yaml:5: the scenario's phases set rate",
		"phases:\n- &a {rate: 5, duration: 5s}\n- *a":                               "s.yaml:3: a phase: is key: value pairs",
		"phases: [" + strings.Repeat("{rate: 1, duration: 1s},", maxPhases+1) + "]": "s.yaml:1: phases: is a list of 1 to 1000",
	} {
		t.Chdir(t.TempDir())
		if err := os.WriteFile("s.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := runLoadTest(t.Context(), "loadtest", "--scenario", "s.yaml", "--out", "out")
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%.200q: exit code %d, %.300q, want %q", text, code, stderr, want)
		}
	}
}

func TestLoadTest_Schema(t *testing.T) {
	stdout, _, code := runLoadTest(t.Context(), "loadtest", "--schema")
	if code != exitOK || !json.Valid([]byte(stdout)) || stdout != string(loadtest.SummarySchema()) {
		t.Errorf("exit code %d, %d bytes", code, len(stdout))
	}
}

func TestLoadBar(t *testing.T) {
	steps := []loadtest.LoadProgress{
		{Done: 200, Of: 10_000, Elapsed: 200 * time.Millisecond, Length: 10 * time.Second},
		{Done: 700, Of: 10_000, Elapsed: 700 * time.Millisecond, Length: 10 * time.Second},
		{Done: 1400, Of: 10_000, Accepted: 30, InFlight: 7, Dropped: 2, Elapsed: 1400 * time.Millisecond, Length: 10 * time.Second},
		{Done: 10_000, Of: 10_000, Accepted: 30, Elapsed: 10 * time.Second, Length: 10 * time.Second},
		{Done: 10_000, Of: 10_000, Accepted: 30, Elapsed: 10200 * time.Millisecond, Length: 10 * time.Second},
		{Stage: loadtest.Checking, Done: 30, Of: 30, Elapsed: 11 * time.Second, Length: 10 * time.Second},
	}
	steps[2].Outcomes[loadtest.SoldOut] = 1300
	var out bytes.Buffer
	b := newLoadBar(&out, screen{})
	for _, p := range steps {
		b.show(p)
	}
	if want := "0 of 10 s, 1,000/s departures\n" +
		"1 of 10 s, 1,000/s departures, sold-out 1,083/s (1,300), 7 under way, 2 dropped\n" +
		"10 of 10 s, 1,000/s departures\n" +
		"30 of 30 orders read back\n"; out.String() != want {
		t.Errorf("plain:\n%s\nwant:\n%s", out.String(), want)
	}
	out.Reset()
	b = newLoadBar(&out, screen{redraws: true})
	b.width = func() int { return 40 }
	for _, p := range steps {
		b.show(p)
	}
	b.end()
	// One line is for the bar. In the third step one is for sold-out, and the fourth step begins
	// again above it.
	if got := out.String(); strings.Count(got, "\n") != 1+2 || strings.Count(got, ansiEraseLine) != len(steps)+1 || strings.Count(got, "\x1b[1A") != 1 {
		t.Errorf("redrawn: %q", got)
	}
	for _, line := range strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if width := ansi.StringWidth(line); width >= 40 {
			t.Errorf("%q has %d columns of 40", line, width)
		}
	}
}

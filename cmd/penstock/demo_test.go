package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/node"
	"github.com/penstock/penstock/loadtest"
)

// runDemo runs the demo as main does, and returns what it printed and its exit code.
func runDemo(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	root := rootCommand()
	var out, messages bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&messages)
	code = run(ctx, root, append([]string{"demo"}, args...))
	return out.String(), messages.String(), code
}

// L3: after the crowd has gone, the units add up, and the audit agrees with their answers.
func TestL3_DemoBalances(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the whole process")
	}
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Setenv("PENSTOCK_DATA_DIR", "/nowhere") // the demo must not touch a server's data
	out, messages, code := runDemo(t.Context(),
		"--buyers", "600", "--units", "40", "--seed", "618", "--exit", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if code != exitOK {
		t.Fatalf("exit code %d, repeat with: go run ./cmd/penstock demo --buyers 600 --units 40 --seed 618 --exit\n%s%s",
			code, messages, out)
	}
	for _, want := range []string{
		`600 buyers wanted 40 units`,
		`(?m)^  accepted: you have an order +[1-9]`,
		`(?m)^  sold out +[1-9]`,
		`✓ total 40 = [0-9]+ sold \+ [0-9]+ held \+ [0-9]+ available: it adds up`,
		`✓ the audit agrees with the buyers' answers`,
		`✓ no-oversell`,
		`seed 618`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the summary lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "✗") || strings.Contains(out, "\x1b") || strings.Contains(messages, "\x1b") {
		t.Errorf("crosses or escape sequences where there is no terminal:\n%s%s", messages, out)
	}
	if !strings.Contains(messages, "600 of 600 buyers served") {
		t.Errorf("no progress:\n%s", messages)
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestDemo_InterruptedLeavesNothing(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	started, messages, code := runDemo(ctx, "--exit", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if code == exitOK || code == exitLawBroken {
		t.Errorf("exit code %d after an interruption\n%s%s", code, messages, started)
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestDemo_RefusesWhatMakesNoSense(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--buyers 0", "flag --buyers: 0 is not between"},
		{"--buyers 2000000", "flag --buyers"},
		{"--units -1", "flag --units"},
		{"--buyers x", "invalid argument"},
		{"--listen nowhere", "listen"},
		{"extra", "unknown command"},
	} {
		_, messages, code := runDemo(t.Context(), strings.Fields(c.args)...)
		if code != exitUsage || !strings.Contains(messages, c.want) {
			t.Errorf("%s: exit code %d, %q, want %q", c.args, code, messages, c.want)
		}
	}
}

func TestDemo_TakesFreePortsInsteadOfDefaultsOnly(t *testing.T) {
	listener, err := net.Listen("tcp", defaultConfig().Listen)
	if err == nil {
		defer listener.Close()
	} // if it fails, another process has the default port, which is fine too
	const chosen = "127.0.0.1:1"
	var messages bytes.Buffer
	d := demo{config: Config{Config: node.Config{Listen: defaultConfig().Listen, AdminListen: chosen}}, messages: &messages}
	d.takeFreePorts(t.Context())
	if d.config.Listen != "127.0.0.1:0" || d.config.AdminListen != chosen {
		t.Errorf("listens on %s and %s", d.config.Listen, d.config.AdminListen)
	}
	if want := defaultConfig().Listen + " is taken, using a free port (--listen chooses one)\n"; messages.String() != want {
		t.Errorf("says %q, want %q", messages.String(), want)
	}
}

func TestDemoReport_SaysWhatIsBroken(t *testing.T) {
	sound := func() demoReport {
		return demoReport{
			units: 10,
			result: &loadtest.Result{
				Promised: 7, Kept: 7, Statuses: map[string]int{"paid": 4, "pending_payment": 3},
				Invariants: []loadtest.Invariant{{Name: loadtest.NoOversell, Held: true, Detail: "at most 7 of 10"}},
			},
			audit: itemAudit{Total: 10, Available: 3, Held: 3, Sold: 4, Balanced: true},
		}
	}
	r := sound()
	if broken := r.broken(); len(broken) != 0 || strings.Contains(r.text(screen{}), "✗") {
		t.Fatalf("a sound sale: %v\n%s", broken, r.text(screen{}))
	}
	for want, spoil := range map[string]func(*demoReport){
		"no-oversell: 11 of 10": func(r *demoReport) {
			r.result.Invariants[0] = loadtest.Invariant{Name: loadtest.NoOversell, Detail: "11 of 10"}
		},
		"the audit does not balance: total 10":                              func(r *demoReport) { r.audit.Available = 2 },
		"the audit does not balance: total 10, availab":                     func(r *demoReport) { r.audit.InFlight = 1 },
		"the audit does not balance":                                        func(r *demoReport) { r.audit.Balanced = false },
		"the audit has 4 units sold and 3 held, the buyers' answers 5 paid": func(r *demoReport) { r.result.Statuses["paid"] = 5 },
	} {
		r := sound()
		spoil(&r)
		if broken := r.broken(); len(broken) != 1 || !strings.HasPrefix(broken[0], want) {
			t.Errorf("%v, want %q", broken, want)
		}
		if !strings.Contains(r.text(screen{}), "✗") {
			t.Errorf("%s: no cross in\n%s", want, r.text(screen{}))
		}
	}
}

func TestProgressBar(t *testing.T) {
	steps := []loadtest.Progress{
		{Done: 0, Of: 20_000, Elapsed: 200 * time.Millisecond},
		{Done: 5_000, Of: 20_000, Requests: 6_000, Accepted: 900, Elapsed: 600 * time.Millisecond},
		{Done: 10_000, Of: 20_000, Requests: 13_000, Accepted: 1_000, Elapsed: 1300 * time.Millisecond},
		{Done: 20_000, Of: 20_000, Requests: 26_000, Accepted: 1_000, Elapsed: 2 * time.Second},
		{Stage: loadtest.Checking, Done: 1_000, Of: 1_000, Elapsed: 3 * time.Second},
	}
	draw := func(s screen) string {
		var out bytes.Buffer
		b := newProgressBar(&out, s)
		for _, p := range steps {
			b.show(p)
		}
		b.end()
		return out.String()
	}
	plain := draw(screen{})
	if want := "0 of 20,000 buyers served, 0 purchases/s, 0 accepted\n" +
		"10,000 of 20,000 buyers served, 10,000 purchases/s, 1,000 accepted\n" +
		"20,000 of 20,000 buyers served, 13,000 purchases/s, 1,000 accepted\n" +
		"1,000 of 1,000 orders read back\n"; plain != want {
		t.Errorf("plain:\n%s\nwant:\n%s", plain, want)
	}
	redrawn := draw(screen{redraws: true})
	if strings.Count(redrawn, "\n") != 2 || strings.Count(redrawn, ansiEraseLine) != len(steps) || strings.Contains(redrawn, ansiGreen) {
		t.Errorf("redrawn without colors: %q", redrawn)
	}
	if !strings.Contains(redrawn, strings.Repeat("█", barWidth/2)+strings.Repeat("░", barWidth/2)+" 10,000 of") {
		t.Errorf("no bar that is half full: %q", redrawn)
	}
	if colored := draw(screen{redraws: true, colors: true}); !strings.Contains(colored, ansiGreen) {
		t.Errorf("no colors: %q", colored)
	}
	failing := newProgressBar(brokenWriter{}, screen{})
	failing.show(steps[0])
	failing.show(steps[3])
	if !errors.Is(failing.err, os.ErrClosed) {
		t.Errorf("a failed write is kept as %v", failing.err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestScreenOf_NoTerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, f := range []*os.File{null, file} {
		if s := screenOf(f, func(string) string { return "" }); s != (screen{}) {
			t.Errorf("%s is taken for a terminal: %+v", f.Name(), s)
		}
	}
}

// TestScreenOf_Terminal: NO_COLOR and TERM=dumb are obeyed, on a terminal that has colors and a
// cursor.
func TestScreenOf_Terminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo terminals here")
	}
	defer terminal.Close()
	for name, c := range map[string]struct {
		environ map[string]string
		want    screen
	}{
		"a terminal": {nil, screen{redraws: true, colors: true}},
		"NO_COLOR":   {map[string]string{"NO_COLOR": "1"}, screen{redraws: true}},
		"TERM=dumb":  {map[string]string{"TERM": "dumb"}, screen{}},
	} {
		if got := screenOf(terminal, func(name string) string { return c.environ[name] }); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1: "-1", -1234567: "-1,234,567", 20_000: "20,000"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

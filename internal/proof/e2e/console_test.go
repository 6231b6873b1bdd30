package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// consoleScreens are the paths of the console's screens, without the one of a single order.
var consoleScreens = []string{
	"tonight", "flow", "switches", "machines", "orders", "money", "merchants", "preflight", "after", "changes", "wall", "runbook/dead-letters", "nothing",
}

// consoleTables are the tables of each screen in this shop, for people who are not bound to a
// merchant.
var consoleTables = map[string][]string{
	"flow":     {"Limits", "Degrade levels"},
	"machines": {"Nodes", "Servers", "Steps of an order's way", "Probes", "Objectives", "Partitions"},
	"money":    {"Paid and held units"},
	"tonight":  {"Items of 618, the hottest first"},
}

// consoleShop is a server with something to see on every screen.
type consoleShop struct {
	*shop
	n      *node
	tokens map[string]string // by role; "bound" is an operator of the merchant
	orders []string          // the first is paid, the others are open
}

// openConsoleShop starts a server with a sale.
func openConsoleShop(t *testing.T) *consoleShop {
	t.Helper()
	n := start(t, "serve", "--data-dir", t.TempDir(), "--probe-every", "1s")
	s := &consoleShop{n: n, tokens: make(map[string]string)}
	s.shop = openShop(n, terms{quantity: 100, perUser: 5, window: "1h"})
	n.admin(200, "PUT", "/admin/v1/activities/later", s.draft(time.Now().Add(time.Hour), terms{quantity: 5, window: "1h"}))
	for _, role := range []string{"viewer", "support", "operator", "finance", "admin"} {
		s.tokens[role] = n.admin(201, "POST", "/admin/v1/tokens", fmt.Sprintf(`{"name":%q,"role":%q}`, "of-"+role, role)).field("token")
	}
	s.tokens["bound"] = n.admin(201, "POST", "/admin/v1/tokens", `{"name":"of-acme","role":"operator","merchant":"acme"}`).field("token")
	n.admin(200, "PUT", "/admin/v1/limits", `{"policies":[{"name":"each-caller","key":"caller","rate":400,"burst":400},`+
		`{"name":"all","key":"global","rate":5000,"burst":5000},{"name":"in-flight","key":"merchant","concurrency":40},`+
		`{"name":"day","key":"merchant","match":"acme","quota":70000}],"reason":"the console's test"}`, "If-Match", "*")
	for i := range 3 {
		s.orders = append(s.orders, s.mustBuy(n, fmt.Sprintf("buyer-%d", i), fmt.Sprintf("k%d", i)))
	}
	if a := s.pay(n, "pay-1", s.orders[0], price); a.status != 200 {
		t.Fatalf("pay: %v", a)
	}
	eventually(t, "the sale in the live view", func() bool {
		now := string(n.admin(200, "GET", "/admin/v1/live", "").body)
		return strings.Contains(now, `"activity":"618"`) && strings.Contains(now, `"probe":"page"`)
	})
	if a := s.pay(n, "pay-2", s.orders[0], price); a.status != 200 { // a second payment, which must be refunded
		t.Fatalf("pay: %v", a)
	}
	return s
}

// TestConsole_EveryScreenOfEveryRole opens every screen as every role and presses every button. axe
// checks each screen, in light and dark, in the sizes of a desktop and of a phone.
func TestConsole_EveryScreenOfEveryRole(t *testing.T) {
	s := openConsoleShop(t)
	lines := make(map[string]bool)
	for _, role := range []string{"admin", "operator", "support", "finance", "viewer", "bound"} {
		t.Run(role, func(t *testing.T) {
			b := openBrowser(t)
			b.logIn(s.n, s.tokens[role])
			for _, screen := range append(slices.Clone(consoleScreens), "orders/"+s.orders[0], "orders/find:buyer-1") {
				s.look(t, b, role, screen, lines)
			}
			if bad := b.complained(); len(bad) > 0 {
				t.Errorf("the browser complains:\n%s", strings.Join(bad, "\n"))
			}
		})
	}
	t.Run("the lines of ctl are commands", func(t *testing.T) {
		if len(lines) < 15 {
			t.Errorf("only %d lines", len(lines))
		}
		path, err := binary()
		if err != nil {
			t.Fatal(err)
		}
		for line := range lines {
			rest, ok := strings.CutPrefix(line, "penstock ctl ")
			out, err := exec.Command("sh", "-c", path+" ctl "+rest+" --help").CombinedOutput()
			usage := "penstock ctl " + strings.Join(strings.Fields(rest)[:2], " ")
			if !ok || err != nil || !strings.Contains(string(out), usage) {
				t.Errorf("%s: %v\n%.600s", line, err, out)
			}
		}
	})
}

// look opens a screen, presses its buttons, and has axe check it.
func (s *consoleShop) look(t *testing.T, b *tab, role, screen string, lines map[string]bool) {
	t.Helper()
	b.t = t
	b.open(screen)
	b.run(nil, "probe.toggles()")
	var pressed []struct {
		Name, Title, Line, Stuck string
		Why                      bool
	}
	b.run(&pressed, "probe.buttons('body')")
	for _, p := range pressed {
		lines[p.Line] = true
		if p.Title == "" || !strings.HasPrefix(p.Line, "penstock ctl ") || !p.Why || p.Stuck != "" {
			t.Errorf("%s, button %s: %+v", screen, p.Name, p)
		}
	}
	if role == "viewer" && len(pressed) > 0 {
		t.Errorf("%s: a viewer may %v", screen, pressed)
	}
	var tables, odd []string
	b.run(&tables, "probe.tables()")
	for _, table := range consoleTables[screen] {
		if !slices.Contains(tables, table) && role != "bound" {
			t.Errorf("%s: no table %q among %q", screen, table, tables)
		}
	}
	b.run(&odd, "probe.odd()")
	if len(odd) > 0 {
		t.Errorf("%s: odd texts: %q", screen, odd)
	}
	var off []string
	b.run(&off, "probe.off()")
	for _, reason := range off {
		if !strings.Contains(reason, "needs the role") || role == "admin" {
			t.Errorf("%s: %s", screen, reason)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		b.prefer(scheme)
		for _, width := range []int64{1440, 360} {
			if role != "admin" && (scheme == "dark") != (width == 360) { // the other roles have the same screens, with some buttons disabled
				continue
			}
			b.resize(width, 900)
			var faults []string
			b.run(&faults, "probe.faults()")
			if len(faults) > 0 {
				t.Errorf("%s, %s, %d px wide:\n%s", screen, scheme, width, strings.Join(faults, "\n"))
			}
			b.shoot(fmt.Sprintf("%s-%s-%s-%d", role, strings.NewReplacer("/", "-", ":", "-").Replace(screen), scheme, width))
		}
	}
	b.resize(1440, 1000)
}

// TestConsole_DoesWhatItSays does an operator's work in the console, and checks the results by the
// API.
func TestConsole_DoesWhatItSays(t *testing.T) {
	s := openConsoleShop(t)
	b := openBrowser(t)
	b.logIn(s.n, s.tokens["operator"])
	did := func(got said, texts ...string) {
		t.Helper()
		if !got.Good {
			t.Errorf("refused: %+v", got)
		}
		for _, text := range texts {
			if !strings.Contains(got.Text+got.Line, text) {
				t.Errorf("no %q in %+v", text, got)
			}
		}
	}
	switches := func() string { return string(s.n.admin(200, "GET", "/admin/v1/switches", "").body) }

	b.open("tonight")
	did(b.act("header", "Stop orders", map[string]string{"kind": "activity", "scope": s.activity, "expires": "30m", "reason": "it's wrong"}),
		"in force on the only gateway", "orders off --scope activity=618 --expires-in 30m --reason 'it'\\''s wrong'")
	if a, err := s.buy(s.n, "late", "late", 1); err != nil || a.status != 503 || a.field("code") != "degraded" {
		t.Errorf("a purchase while orders are stopped: %v %v", a, err)
	}
	b.run(nil, "probe.until('Orders are stopped')")
	b.shoot("stopped")
	did(b.act("header", "Let orders in", map[string]string{"reason": "right again"}), "in force on the only gateway")
	b.run(nil, "probe.gone('Orders are stopped')")
	s.mustBuy(s.n, "late", "late")
	if strings.Contains(switches(), "right again") {
		t.Error("the switch is set still")
	}

	did(b.act("main article", "Pause", map[string]string{"reason": "a break"}), "is paused now")
	b.run(nil, "probe.until('Resume…')")
	did(b.act("main article", "Resume", map[string]string{"reason": "on"}), "is published now")
	did(b.act("main article", "Restock", map[string]string{"sku": s.sku, "delta": "7", "reason": "found some"}), "107 units in total")
	if got := b.act("main article", "Restock", map[string]string{"sku": s.sku, "delta": "-5000", "reason": "too many"}); got.Good ||
		!strings.Contains(got.Text, "insufficient-stock") {
		t.Errorf("what the API refused: %+v", got)
	}

	b.open("flow")
	did(b.act("main tbody tr", "Edit", map[string]string{"rate": "321", "reason": "less"}), "in force on the only gateway")
	if limits := s.n.admin(200, "GET", "/admin/v1/limits", ""); !strings.Contains(string(limits.body), `"rate":321`) ||
		strings.Count(string(limits.body), `"name"`) != 4 || !strings.Contains(string(limits.body), `"quota":70000`) {
		t.Errorf("limits: %s", limits.body)
	}

	b.open("orders/" + s.orders[1])
	b.run(nil, "probe.until('buyer-1')")
	did(b.act("main", "Cancel the order", map[string]string{"reason": "the buyer called"}), "is cancelled now")
	if got := s.order(s.n, s.orders[1]).field("status"); got != "cancelled" {
		t.Errorf("the order is %s", got)
	}

	b.open("changes")
	b.run(nil, "probe.until('added the limit day: 70,000 a day')")
	b.run(nil, "probe.until('the buyer called')")
	b.run(nil, "probe.until('added 7 units')")
	did(b.act("main li", "Take back", map[string]string{"reason": "undone"}), "is taken back")
}

// TestConsole_ByKeysAlone closes orders, and opens them again, without a mouse.
func TestConsole_ByKeysAlone(t *testing.T) {
	s := openConsoleShop(t)
	b := openBrowser(t)
	b.logIn(s.n, s.tokens["operator"])
	b.open("tonight")
	b.run(nil, "probe.until('Data: now')")
	reach := func(what, look string) {
		t.Helper()
		for range 80 {
			var there bool
			b.run(&there, "(() => { const a = document.activeElement; return Boolean(%s); })()", look)
			if there {
				return
			}
			b.keys("\t")
		}
		t.Fatalf("the keyboard doesn't come to %s", what)
	}
	b.keys("s")
	b.run(nil, "probe.until('New orders of everybody')")
	reach("the reason", "a.name === 'reason'")
	b.keys("by keys")
	reach("the button", "a.type === 'submit' && a.closest('dialog')")
	b.keys("\r")
	b.run(nil, "probe.until('in force on the only gateway')")
	reach("the button that closes the dialog", "a.textContent === 'Close'")
	b.keys("\r")
	b.run(nil, "probe.until('Orders are stopped for everybody')")
	if a, err := s.buy(s.n, "late", "late", 1); err != nil || a.status != 503 {
		t.Errorf("a purchase while orders are stopped: %v %v", a, err)
	}
	reach("the button that lets orders in", "a.textContent.startsWith('Let orders in')")
	b.keys("\r")
	reach("the reason", "a.name === 'reason'")
	b.keys("right again")
	reach("the button", "a.type === 'submit' && a.closest('dialog')")
	b.keys("\r")
	b.run(nil, "probe.until('in force on the only gateway')")
	reach("the button that closes the dialog", "a.textContent === 'Close'")
	b.keys("\r")
	b.run(nil, "probe.gone('Orders are stopped')")
	s.mustBuy(s.n, "late", "late")
}

// TestConsole_Sessions: what a browser keeps, and what the page says when the session has ended.
func TestConsole_Sessions(t *testing.T) {
	s := openConsoleShop(t)
	b := openBrowser(t)
	b.visit(s.n.private + "/")
	b.run(nil, `(async () => {
		await probe.until('Admin token');
		const field = document.getElementById('token');
		field.value = 'pst_wrong';
		document.querySelector('form button[type="submit"]').click();
		await probe.until('unauthenticated');
	})()`)
	b.logIn(s.n, s.tokens["viewer"])
	b.open("tonight")
	t.Run("scripts see no secret", func(t *testing.T) {
		b.t = t
		var kept string
		b.run(&kept, "document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.documentElement.outerHTML")
		if strings.Contains(kept, "pst_") || strings.Contains(kept, "pss_") {
			t.Error("a secret is where scripts see it")
		}
	})
	t.Run("the page is there soon, and is small", func(t *testing.T) {
		b.t = t
		var page struct {
			Paint float64 `json:"paint"`
			Bytes float64 `json:"bytes"`
		}
		b.run(&page, `({ paint: performance.getEntriesByName('first-paint')[0]?.startTime ?? 0,
			bytes: [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]
				.filter((e) => !e.name.includes('/admin/v1/')).reduce((n, e) => n + e.encodedBodySize, 0) })`)
		t.Logf("first paint after %.0f ms, %.0f bytes", page.Paint, page.Bytes)
		if page.Bytes <= 0 || page.Bytes > 150_000 {
			t.Errorf("a page has %.0f bytes", page.Bytes)
		}
	})
	t.Run("names can't turn the text around them", func(t *testing.T) {
		b.t = t
		var shown string
		b.run(&shown, `import(document.querySelector('script[type="module"]').src.replace('app.js', 'text.js')).then((m) => m.clean('a\u202eb\u0000<b>'))`)
		if shown != "a⟨U+202E⟩b⟨U+0000⟩<b>" {
			t.Errorf("shown as %q", shown)
		}
	})
	t.Run("an entry of the runbook is laid out", func(t *testing.T) {
		b.t = t
		var parts string
		b.run(&parts, `import(document.querySelector('script[type="module"]').src.replace('app.js', 'runbook.js')).then((m) => m.blocks(
			'One text\nin two lines.\n\n- **Do**: this\n  and that\n- more\n\n  \u0060\u0060\u0060sh\n  a\n    b\n  \u0060\u0060\u0060\n| a | b |\n| --- | --- |\n| 1 | 2 |')
			.map((b) => b.kind + ': ' + b.lines.join(' / ')).join('; '))`)
		if want := "text: One text in two lines.; list: **Do**: this and that / more; code: a /   b; table: | a | b | / | --- | --- | / | 1 | 2 |"; parts != want {
			t.Errorf("%s, want %s", parts, want)
		}
	})
	t.Run("what people press stays where it is", func(t *testing.T) {
		b.t = t
		var order string
		b.run(&order, `import(document.querySelector('script[type="module"]').src.replace('app.js', 'ui.js')).then((m) => {
			const a = (activity, state, starts_at) => ({ activity, state, starts_at: '2026-06-18T' + starts_at });
			const sales = [a('hot', 'on-sale', '10:00Z'), a('over', 'ended', '09:00Z'), a('cool', 'paused', '12:00Z'), a('twin', 'on-sale', '10:00Z'),
				a('late', 'scheduled', '20:00Z'), a('soon', 'scheduled', '14:00Z')];
			return m.calm(sales).map((s) => s.activity).join(' ') + '; ' + m.still(['c', 'a', 'new', 'b'], ['a', 'b', 'gone', 'c'], (x) => x).join(' ');
		})`)
		if want := "cool hot twin soon late over; a b c new"; order != want {
			t.Errorf("%s, want %s", order, want)
		}
	})
	t.Run("a token that is deleted ends it", func(t *testing.T) {
		b.t = t
		s.n.admin(204, "DELETE", "/admin/v1/tokens/of-viewer", "")
		b.run(nil, "probe.until('Your session has ended')")
	})
	t.Run("logged out", func(t *testing.T) {
		b.t = t
		b.logIn(s.n, s.tokens["operator"])
		b.run(nil, `(async () => {
			[...document.querySelectorAll('button')].find((b) => b.textContent === 'Log out').click();
			await probe.until('You are logged out');
		})()`)
		b.visit(s.n.private + "/")
		b.run(nil, "probe.until('Admin token')")
	})
	t.Run("a page that there isn't", func(t *testing.T) {
		b.t = t
		b.visit(s.n.private + "/no/such/page")
		b.run(nil, "probe.until('There is no such page')")
	})
}

// TestConsole_SaysThatTheDataIsOld: the server ends, and the page says how old its data is.
func TestConsole_SaysThatTheDataIsOld(t *testing.T) {
	s := openConsoleShop(t)
	b := openBrowser(t)
	b.logIn(s.n, adminToken)
	b.open("tonight")
	b.run(nil, "probe.until('Data: now')")
	s.n.end(syscall.SIGTERM)
	b.run(nil, "probe.until('s old. ')")
	b.run(nil, "probe.until('reached from here')")
}

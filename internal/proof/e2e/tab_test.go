package e2e

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/penstock/penstock/internal/proof/servers"
)

// axe is axe-core, which finds accessibility faults of a page (MPL-2.0, see testdata/axe/LICENSE).
//
//go:embed testdata/axe/axe.min.js
var axe string

//go:embed testdata/console/probe.js
var probe string

// tab is a tab of a real browser.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string // guarded by mu; the page's failures, and what its policy blocked
}

// browserPatience bounds everything that a test does in a tab.
const browserPatience = 5 * time.Minute

// openBrowser starts a browser, whose tabs share no cookies with those of another.
func openBrowser(t testing.TB) *tab {
	t.Helper()
	servers.NeedBrowser(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))
	ctx, stop := context.WithTimeout(context.Background(), browserPatience)
	t.Cleanup(stop)
	ctx, stopBrowser := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stopBrowser)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	b := &tab{t: t, ctx: ctx}
	b.must(chromedp.Do(ctx, chromedp.EmulateViewport(1440, 1000)))
	b.must(chromedp.Listen(ctx, b.listen))
	_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	b.must(err)
	return b
}

// listen records the browser's complaints. An error answer of the server is no fault of the page.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, fmt.Sprintf("%s %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception.Description))
	case *log.EventEntryAdded:
		if e.Entry.Source != log.EntrySourceNetwork && e.Entry.Level != log.EntryLevelVerbose { // hints are no complaints
			b.complaints = append(b.complaints, e.Entry.Text)
		}
	}
}

// complained returns what the browser complained about since the last call.
func (b *tab) complained() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.complaints
	b.complaints = nil
	return all
}

func (b *tab) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// visit loads a page, and puts the probe into it.
func (b *tab) visit(url string) {
	b.t.Helper()
	b.must(chromedp.Do(b.ctx, chromedp.Navigate(url)))
	for _, program := range []string{axe, probe} {
		_, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](program+";''"))
		b.must(err)
	}
}

// run evaluates an expression in the page, waits for it, and reads its value into out.
func (b *tab) run(out any, format string, args ...any) {
	b.t.Helper()
	script := format
	if len(args) > 0 {
		script = fmt.Sprintf(format, args...)
	}
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("(async () => JSON.stringify(await ("+script+")) ?? 'null')()",
		chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.200s: %v", script, err)
	}
	if out != nil {
		b.must(json.Unmarshal([]byte(text), out))
	}
}

// prefer sets the tab's color scheme, light or dark.
func (b *tab) prefer(scheme string) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	b.must(err)
}

// resize changes the window.
func (b *tab) resize(width, height int64) {
	b.t.Helper()
	b.must(chromedp.Do(b.ctx, chromedp.EmulateViewport(width, height)))
}

// shoot saves a picture of the page if PENSTOCK_SCREENSHOTS names a directory.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("PENSTOCK_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	b.must(err)
	b.must(os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
}

// open opens a screen of the console.
func (b *tab) open(path string) {
	b.t.Helper()
	b.run(nil, "probe.open(%q)", path)
}

// said returns the console's message after a change.
type said struct {
	Good bool   `json:"good"`
	Text string `json:"text"`
	Line string `json:"line"`
}

// act presses a button and confirms.
func (b *tab) act(root, name string, values map[string]string) said {
	b.t.Helper()
	fields, err := json.Marshal(values)
	b.must(err)
	var s said
	b.run(&s, "probe.act(%q, %q, %s)", root, name, fields)
	return s
}

// keys presses keys: a text, "\t" for Tab and "\r" for Enter.
func (b *tab) keys(text string) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.KeyEvent(text))
	b.must(err)
}

// logIn logs in by a token.
func (b *tab) logIn(n *node, token string) {
	b.t.Helper()
	b.visit(n.private + "/")
	b.run(nil, `(async () => {
		await probe.until('Admin token');
		const field = document.getElementById('token');
		field.value = %q;
		document.querySelector('form button[type="submit"]').click();
		await probe.until('Log out');
	})()`, token)
}

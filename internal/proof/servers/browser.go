package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Look describes a page as a person sees it in a window of some width.
type Look struct {
	Title    string
	Text     string   // as it is laid out, without hidden elements
	Charts   int      // SVG elements that take up room
	Overflow int      // pixels by which the page is wider than the window
	Outside  []string // texts that reach out of their chart, or are wider than their table cell
	Console  []string // the browser's complaints: blocked parts, scripts that failed
}

// renderTimeout bounds a browser's start and end. They take one to four seconds on an idle machine.
const renderTimeout = 3 * time.Minute

// probe measures its page after the layout. It isn't part of the tested page, whose policy forbids
// scripts.
const probe = `<script>addEventListener("load", () => {
	const outside = [], charts = [...document.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().width > 0)
	for (const s of charts) for (const t of s.querySelectorAll("text")) {
		const a = t.getBoundingClientRect(), b = s.getBoundingClientRect()
		if (a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1) outside.push(t.textContent)
	}
	for (const c of document.querySelectorAll("td, th")) if (c.scrollWidth > c.clientWidth + 1) outside.push(c.textContent)
	document.documentElement.setAttribute("data-look", JSON.stringify({
		Title: document.title, Text: document.body.innerText, Charts: charts.length, Outside: outside,
		Overflow: document.documentElement.scrollWidth - innerWidth,
	}))
})</script>`

var (
	policyMeta = regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)
	lookAttr   = regexp.MustCompile(`data-look="([^"]*)"`)
	console    = regexp.MustCompile(`CONSOLE[^"]*"(.*)", source`)
)

// NeedBrowser skips or fails a test if there is no Chromium, like the functions that start a
// server.
func NeedBrowser(t testing.TB) {
	t.Helper()
	need(t, kindBrowser)
}

// Render shows a page in a headless Chromium, in a window of width pixels, from a file and without
// a network.
func Render(t testing.TB, page []byte, width int) Look {
	t.Helper()
	need(t, kindBrowser)
	var look Look
	complaints, _ := browse(t, page, width) // as it is, with its policy
	_, dom := browse(t, append(policyMeta.ReplaceAll(page, nil), probe...), width)
	found := lookAttr.FindSubmatch(dom)
	if found == nil {
		t.Fatalf("the browser laid nothing out:\n%.2000s", dom)
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(string(found[1]))), &look); err != nil {
		t.Fatal(err)
	}
	for _, line := range console.FindAllSubmatch(complaints, -1) {
		look.Console = append(look.Console, string(line[1]))
	}
	return look
}

// browse opens the page and returns what the browser logged, and the document as it was at last.
func browse(t testing.TB, page []byte, width int) (log, dom []byte) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, page, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), renderTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync",
		"--user-data-dir="+filepath.Join(dir, "profile"), fmt.Sprintf("--window-size=%d,1000", width), "--enable-logging=stderr", "--dump-dom",
		"file://"+file)
	cmd.WaitDelay = 5 * time.Second
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%.4000s", strings.Join(cmd.Args, " "), err, messages.Bytes())
	}
	return messages.Bytes(), out.Bytes()
}

package admin

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/admin/console"
	"github.com/penstock/penstock/gateway/problem"
)

var linked = regexp.MustCompile(`"(/console/[^"]+)"`)

func TestConsole_IsServed(t *testing.T) {
	s := open(t, nil)
	page := s.must(200, "GET", "/", "", "Authorization", "")
	for field, want := range map[string]string{
		"Content-Security-Policy": console.Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-cache", "Content-Type": typeHTML,
	} {
		if got := page.Header.Get(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:", "frame-ancestors 'none'"} {
		if !strings.Contains(console.Policy, part) || strings.Contains(console.Policy, "unsafe") {
			t.Errorf("the policy lacks %s: %s", part, console.Policy)
		}
	}
	if regexp.MustCompile(`(?i)<script>|<style|\son[a-z]+=|\sstyle=|javascript:|{{`).MatchString(page.body) {
		t.Errorf("the page has something inline, or a mark:\n%s", page.body)
	}
	t.Run("a client without Accept learns what there is", func(t *testing.T) {
		for _, part := range []string{"<html", "/openapi.yaml", "/metrics", "penstock ctl", "Authorization: Bearer"} {
			if !strings.Contains(page.body, part) {
				t.Errorf("no %s", part)
			}
		}
	})
	files := linked.FindAllStringSubmatch(page.body, -1)
	if len(files) < 10 {
		t.Fatalf("the page names %v", files)
	}
	total := 0
	for _, m := range append(files, []string{"", "/"}) {
		zipped := s.do("GET", m[1], "", "Authorization", "", "Accept-Encoding", "gzip")
		total += len(zipped.body)
		if zipped.StatusCode != 200 {
			t.Errorf("%s: %d", m[1], zipped.StatusCode)
		}
	}
	if total > 150_000 { // transferred, compressed by gzip
		t.Errorf("a page has %d bytes, which is above the budget of 150,000", total)
	}
	t.Run("a file is kept for ever under its version, and under no other", func(t *testing.T) {
		a := s.must(200, "GET", files[0][1], "", "Authorization", "")
		if got := a.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("Cache-Control: %s", got)
		}
		parts := strings.SplitN(files[0][1], "/", 4)
		other := s.must(200, "GET", "/console/older/"+parts[3], "", "Authorization", "")
		if got := other.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("of another version: Cache-Control %s", got)
		}
		for _, encoding := range []string{"identity", "gzip"} {
			tag := s.do("GET", files[0][1], "", "Accept-Encoding", encoding).Header.Get("ETag")
			if a := s.do("GET", files[0][1], "", "Accept-Encoding", encoding, "If-None-Match", tag); a.StatusCode != http.StatusNotModified || a.body != "" {
				t.Errorf("%s with its tag %s: %d", encoding, tag, a.StatusCode)
			}
		}
	})
	t.Run("gzip is the same file", func(t *testing.T) {
		plain := s.do("GET", files[0][1], "", "Accept-Encoding", "gzip;q=0")
		zipped := s.do("GET", files[0][1], "", "Accept-Encoding", "br, gzip")
		r, err := gzip.NewReader(strings.NewReader(zipped.body))
		if err != nil || plain.Header.Get("Content-Encoding") != "" || zipped.Header.Get("Content-Encoding") != "gzip" {
			t.Fatal(err, plain.Header, zipped.Header)
		}
		if text, err := io.ReadAll(r); err != nil || !bytes.Equal(text, []byte(plain.body)) {
			t.Error("they differ", err)
		}
	})
}

func TestConsole_FallsBack(t *testing.T) {
	s := open(t, nil)
	for _, path := range []string{"/console", "/tonight", "/admin/v1/nothing"} {
		a := s.must(404, "GET", path, "", "Authorization", "", "Accept", "text/html,*/*;q=0.8")
		if !strings.Contains(a.body, "<html") || a.Header.Get("Content-Security-Policy") != console.Policy {
			t.Errorf("%s: %s", path, a.body)
		}
		s.must(404, "GET", path, "", "Authorization", "").refused(problem.NotFound)
	}
	s.must(404, "POST", "/tonight", "", "Accept", "text/html").refused(problem.NotFound)
	s.must(404, "GET", "/console/x/page.html", "").refused(problem.NotFound) // its marks aren't filled in
	s.must(404, "GET", "/console/x/vendor/LICENSE-htm", "").refused(problem.NotFound)
}

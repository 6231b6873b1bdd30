package probe

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestProber_Round: each answer of a listener is classified correctly.
func TestProber_Round(t *testing.T) {
	problem := func(status int, code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"code":%q,"detail":"because"}`, code)
		}
	}
	bought := func(w http.ResponseWriter) { w.Header().Set("Location", "/v1/orders/o1") }
	fine, missing := func(http.ResponseWriter) {}, problem(404, "unknown-order")
	for name, c := range map[string]struct {
		buy, status, page func(http.ResponseWriter)
		want              string
	}{
		"all is well":           {bought, missing, fine, "buy ok;status ok;page ok;"},
		"a switch refuses":      {problem(503, "degraded"), missing, fine, "buy refused;page ok;"},
		"a server is away":      {problem(503, "unavailable"), missing, fine, "buy failed;page ok;"},
		"the order is there":    {bought, fine, fine, "buy ok;status failed;page ok;"},
		"no order is named":     {fine, missing, fine, "buy failed;page ok;"},
		"an answer is no JSON":  {bought, missing, func(w http.ResponseWriter) { w.WriteHeader(500) }, "buy ok;status ok;page failed;"},
		"the page isn't there":  {bought, missing, problem(404, "unknown-activity"), "buy ok;status ok;page failed;"},
		"limits refuse to read": {bought, problem(429, "rate-limited"), fine, "buy ok;status refused;page ok;"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer secret" {
					t.Errorf("%s came without the key", r.URL)
				}
				switch r.Method + " " + r.URL.Path {
				case "POST /v1/orders":
					c.buy(w)
				case "GET /v1/orders/o1":
					c.status(w)
				case "GET /v1/activities/a":
					c.page(w)
				default:
					t.Errorf("%s %s", r.Method, r.URL)
				}
			}))
			defer server.Close()
			skip := false
			p := New(Config{
				Every: time.Hour, Patience: time.Minute, URL: server.URL, Key: "secret", Activity: "a", SKU: "x", Users: 3,
				Missing: "unknown-order", Refusals: []string{"rate-limited", "degraded"}, Skip: func() bool { return skip },
			})
			p.Round(t.Context())
			got := ""
			for _, r := range p.Results() {
				got += string(r.Step) + " " + string(r.Outcome) + ";"
				if r.Outcome != OK && r.Error == "" || r.Outcome == OK && r.Error != "" || r.At.IsZero() {
					t.Errorf("%+v", r)
				}
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			for _, count := range p.Counts() {
				for outcome, n := range count.Outcomes {
					if said := strings.Contains(got, fmt.Sprintf("%s %s;", count.Step, outcome)); said != (n == 1) {
						t.Errorf("%s %s is counted %d times", count.Step, outcome, n)
					}
				}
			}
			skip = true
			if p.Round(t.Context()); len(p.Results()) > 0 {
				t.Error("results are kept of a listener that is left alone")
			}
		})
	}
}

// TestProber_NoListener: a listener that isn't there fails every step that can be tried.
func TestProber_NoListener(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	p := New(Config{Every: time.Hour, Patience: time.Minute, URL: url, Key: "k", Users: 1, Skip: func() bool { return false }})
	p.Round(t.Context())
	for _, r := range p.Results() {
		if r.Outcome != Failed || !strings.HasPrefix(r.Error, "no answer") {
			t.Errorf("%+v", r)
		}
	}
	if len(p.Results()) != 2 {
		t.Errorf("%d results, want those of buy and page", len(p.Results()))
	}
}

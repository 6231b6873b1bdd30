package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// contract drives one node row by row, and checks the general rules of the contract for every
// answer.
type contract struct {
	t     testing.TB
	n     *node
	codes map[string]bool // of the problems that were answered; shared by all rows
}

// row is a request and what its answer must be.
type row struct {
	name         string
	method, path string
	body         string
	header       []string // name, value, name, value
	status       int
	code         string // of a problem; empty for anything else
	has          string // what the body contains
}

// at returns the contract for the rows of t.
func (c *contract) at(t testing.TB) *contract { return &contract{t, c.n, c.codes} }

// public makes a request to the public listener that must be answered with status and, when it is a
// problem, code.
func (c *contract) public(status int, code, method, path, body string, header ...string) answer {
	c.t.Helper()
	return c.ask(c.n.public, status, code, method, path, body, header)
}

// admin makes a request to the admin listener, with the first token unless header has another.
func (c *contract) admin(status int, code, method, path, body string, header ...string) answer {
	c.t.Helper()
	return c.ask(c.n.private, status, code, method, path, body, append([]string{"Authorization", "Bearer " + adminToken}, header...))
}

func (c *contract) ask(base string, status int, code, method, path, body string, header []string) answer {
	c.t.Helper()
	a, err := call(method, base+path, body, header...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != status || method != "HEAD" && a.field("code") != code {
		c.t.Fatalf("%s %s %.200s %q: want %d %s, got %v", method, path, body, header, status, code, a)
	}
	c.sound(method, a)
	return a
}

// sound checks the general rules for every answer.
func (c *contract) sound(method string, a answer) {
	c.t.Helper()
	if id := a.header.Get("X-Request-Id"); id == "" || len(id) > 64 {
		c.t.Fatalf("X-Request-Id: %v", a)
	}
	if method == "HEAD" {
		if len(a.body) != 0 {
			c.t.Fatalf("HEAD with a body: %v", a)
		}
		return
	}
	if a.status < 400 {
		return
	}
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
		Retryable                 *bool
		RetryAfterMs              *int `json:"retry_after_ms"`
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		c.t.Fatalf("problem: %v, %v", err, a)
	}
	c.codes[p.Code] = true
	if a.header.Get("Content-Type") != "application/problem+json" || p.Type != "/problems/"+p.Code || p.Title == "" || p.Detail == "" ||
		p.Status != a.status || p.Retryable == nil {
		c.t.Fatalf("not a whole problem: %v", a)
	}
	after := a.header.Get("Retry-After")
	if (after != "") != (p.RetryAfterMs != nil) {
		c.t.Fatalf("Retry-After without retry_after_ms, or the other way round: %v", a)
	}
	if after != "" {
		if seconds, err := strconv.Atoi(after); err != nil || seconds < 1 || seconds*1000 < *p.RetryAfterMs || !*p.Retryable {
			c.t.Fatalf("Retry-After: %v", a)
		}
	}
	if a.status == 401 && !strings.HasSuffix(p.Code, "signature") && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
		c.t.Fatalf("401 without a challenge: %v", a)
	}
	if a.status == 405 && a.header.Get("Allow") == "" {
		c.t.Fatalf("405 without Allow: %v", a)
	}
}

// rows asks each row.
func (c *contract) rows(ask func(status int, code, method, path, body string, header ...string) answer, rows []row) {
	c.t.Helper()
	for _, r := range rows {
		a := ask(r.status, r.code, r.method, r.path, r.body, r.header...)
		if !bytes.Contains(a.body, []byte(r.has)) {
			c.t.Fatalf("%s %s %.200s: no %q in %v", r.method, r.path, r.body, r.has, a)
		}
	}
}

// TestContract drives the public contract as a new user would read it, in order and out of order.
func TestContract(t *testing.T) {
	c := &contract{t, serve(t, t.TempDir()), make(map[string]bool)}
	for _, part := range []struct {
		name string
		run  func(*contract)
	}{
		{"Buy", contractBuy},
		{"BuyBeforeAndAfter", contractWindow},
		{"EndByTheClock", contractClock},
		{"BadPurchases", contractBadPurchases},
		{"Wire", contractWire},
		{"Wait", contractWait},
		{"Orders", contractOrders},
		{"Payments", contractPayments},
		{"BadPayments", contractBadPayments},
		{"Activities", contractActivities},
		{"Service", contractService},
		{"Life", contractLife},
		{"BadActivities", contractBadActivities},
		{"Callers", contractCallers},
		{"Restock", contractRestock},
		{"Switches", contractSwitches},
		{"Limits", contractLimits},
		{"Tokens", contractTokens},
		{"Changes", contractChanges},
		{"Operations", contractOperations},
		{"Shell", contractShell},
		{"Problems", contractProblems}, // last: the page of each code that was answered
	} {
		t.Run(part.name, func(t *testing.T) { part.run(c.at(t)) })
	}
	if lines := strings.Count(c.n.log(), "\n"); lines > 200 {
		t.Errorf("%d lines were logged", lines)
	}
	if code := c.n.end(15); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}

// sale opens a separate sale for a part.
func (c *contract) sale(name string, terms terms) *shop {
	c.t.Helper()
	s := foundShop(c.n, "m-"+name, name)
	s.t = c.t
	c.admin(200, "", "PUT", "/admin/v1/activities/"+name, s.draft(time.Now().Add(-time.Hour), terms))
	c.admin(200, "", "POST", "/admin/v1/activities/"+name+"/publish", "")
	return s
}

// purchase is a purchase's body.
func (s *shop) purchase(user string, quantity int) string {
	return fmt.Sprintf(`{"activity":%q,"sku":%q,"user":%q,"quantity":%d}`, s.activity, s.sku, user, quantity)
}

// as is the header of a request of a caller, with more.
func as(key string, more ...string) []string {
	return append([]string{"Authorization", "Bearer " + key}, more...)
}

// caller makes another caller of the shop's merchant.
func (c *contract) caller(s *shop, name, rights string) string {
	c.t.Helper()
	return c.admin(201, "", "POST", "/admin/v1/merchants/"+s.merchant+"/callers", fmt.Sprintf(`{"name":%q,"rights":[%s]}`, name, rights)).field("key")
}

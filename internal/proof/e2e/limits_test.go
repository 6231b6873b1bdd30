package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limit replaces all limits by one on the caller. The answer must say that it is in force
// everywhere.
func limit(n *node, rate, burst int) {
	n.t.Helper()
	tag := n.admin(200, "GET", "/admin/v1/limits", "").header.Get("ETag")
	body := fmt.Sprintf(`{"policies":[{"name":"callers","key":"caller","match":"acme/web","rate":%d,"burst":%d,"mode":"enforce"}],"reason":"a test"}`, rate, burst)
	everywhere(n.t, n.admin(200, "PUT", "/admin/v1/limits", body, "If-Match", tag), 1)
}

// everywhere checks that a change is in force on every node.
func everywhere(t testing.TB, a answer, nodes int) {
	t.Helper()
	var got struct {
		Version, Applied, Nodes int
		Lagging                 []string
	}
	if err := json.Unmarshal(a.body, &got); err != nil || got.Version < 1 || got.Applied != nodes || got.Nodes != nodes || len(got.Lagging) != 0 ||
		!strings.Contains(string(a.body), `"lagging":[]`) {
		t.Fatalf("not in force on %d nodes: %v, %v", nodes, a, err)
	}
}

// flick sets a switch.
func flick(n *node, name, body string) answer {
	n.t.Helper()
	return n.admin(200, "PUT", "/admin/v1/switches/"+name, body)
}

// flood buys n times. It returns how many were admitted, and the longest time that the server can
// have worked on them: from before the first request until after the last answer.
func flood(t testing.TB, n *node, s *shop, name string, requests int) (admitted int, took time.Duration, refused []answer) {
	t.Helper()
	began := time.Now()
	answers := press(t, requests, func(i int) (answer, error) { return s.buy(n, fmt.Sprint(name, i), "k", 1) })
	took = time.Since(began)
	for _, a := range answers {
		switch a.status {
		case http.StatusAccepted, http.StatusCreated:
			admitted++
		case http.StatusTooManyRequests:
			refused = append(refused, a)
		default:
			t.Fatalf("neither accepted nor limited: %v", a)
		}
	}
	return admitted, took, refused
}

// TestOneCallerIsLimited: under any load the limit admits its burst, plus the rate times the time.
// A refusal names the limit. An edit fills no bucket.
func TestOneCallerIsLimited(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 100_000, perUser: 0, window: "10m"})
	const rate, burst = 50, 20
	limit(n, rate, burst)
	admitted, took, refused := flood(t, n, s, "a", 2000)
	if most := burst + rate*took.Seconds() + 1; admitted < burst || float64(admitted) > most {
		t.Errorf("%d admitted in %v, want %d to %.0f", admitted, took, burst, most)
	}
	if len(refused) == 0 {
		t.Fatal("nobody was refused")
	}
	for _, a := range refused[:min(len(refused), 50)] {
		retry, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || retry < 1 || a.field("code") != "rate-limited" || a.field("limit") != "callers" || a.field("retryable") != "true" ||
			a.header.Get("RateLimit") != `"callers";r=0;t=1` || a.header.Get("RateLimit-Policy") != `"callers";q=20;w=1` {
			t.Fatalf("refusal: %v", a)
		}
	}
	// The bucket is empty, or nearly. A larger bucket stays as empty.
	limit(n, 1, 10_000)
	admitted, took, _ = flood(t, n, s, "b", 500)
	if most := rate + took.Seconds() + burst; float64(admitted) > most {
		t.Errorf("%d admitted in %v after the edit, want at most %.0f", admitted, took, most)
	}
	if other := n.admin(201, "POST", "/admin/v1/merchants/acme/callers", `{"name":"app","rights":["buy"]}`).field("key"); other != "" {
		s.key = other
		s.mustBuy(n, "c", "k") // the limit is another caller's
	}
	if got := n.admin(200, "GET", "/admin/v1/changes", "").field("items"); !strings.Contains(got, "limits") {
		t.Errorf("no change of the limits: %s", got)
	}
}

// TestLimits_ChargeByWhatIsAskedFor: units, pages and reads of orders take the costs in the policy.
// A repeat, a cancellation and the other merchant's page take nothing.
func TestLimits_ChargeByWhatIsAskedFor(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1000, perUser: 0, window: "10m"})
	other := openShopOf(n, "other", terms{quantity: 10, perUser: 0, window: "10m"})
	replaceLimits(n, `{"name":"callers","key":"caller","match":"acme/web","rate":0.001,"burst":20,"cost":{"purchase":2,"unit":3,"page":4,"status":1}},
		{"name":"pages","key":"activity","rate":0.001,"burst":1,"cost":{"purchase":0,"page":1}}`, 1)
	page := func(key string) answer {
		t.Helper()
		a, err := call("GET", n.public+"/v1/activities/"+s.activity, "", "Authorization", "Bearer "+key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	limited := func(a answer, limit string) {
		t.Helper()
		if a.status != 429 || a.field("limit") != limit || a.header.Get("Retry-After") == "" {
			t.Errorf("want 429 by %s: %v", limit, a)
		}
	}
	for range 3 {
		if a := page(other.key); a.status != 404 {
			t.Fatalf("another's page: %v", a)
		}
	}
	a, err := s.buy(n, "u1", "k", 3) // 11
	if err != nil || a.status > 202 {
		t.Fatalf("%v, %v", a, err)
	}
	for range 3 {
		eventually(t, "a repeat is told its order", func() bool {
			a, err := s.buy(n, "u1", "k", 3)
			return err == nil && a.status <= 202 && a.header.Get("Idempotent-Replayed") == "true"
		})
	}
	if a := page(s.key); a.status != 200 { // 15
		t.Fatalf("a page: %v", a)
	}
	limited(page(s.key), "pages") // and takes nothing
	if a, err := s.buy(n, "u2", "k", 2); err != nil || a.status != 429 {
		t.Fatalf("two units for 8 of 5 tokens: %v, %v", a, err)
	}
	order := s.mustBuy(n, "u2", "k") // 20
	limited(s.order(n, order), "callers")
	if a := s.cancel(n, order); a.status != 200 {
		t.Errorf("cancel: %v", a)
	}
}

// TestLimits_DailyQuota: a caller gets its tokens of the day and no more. The answer says when the
// next day begins. A merchant's quota grows with its items on sale.
func TestLimits_DailyQuota(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1000, perUser: 0, window: "10m"})
	replaceLimits(n, `{"name":"day","key":"caller","quota":5,"cost":{"purchase":0,"unit":1,"page":1}},
		{"name":"skus","key":"merchant","quota":1,"quota_per_sku":3,"quota_max":7}`, 1)
	want := func(limit string, a answer) {
		t.Helper()
		now := time.Now().UTC()
		left := now.Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now)
		retry, err := strconv.Atoi(a.header.Get("Retry-After"))
		if a.status != 429 || a.field("limit") != limit || err != nil || time.Duration(retry)*time.Second < left-time.Minute ||
			!strings.Contains(a.field("detail"), "quota of this day") {
			t.Errorf("want 429 by %s for %v: %v", limit, left, a)
		}
	}
	if a, err := s.buy(n, "u1", "k", 4); err != nil || a.status > 202 {
		t.Fatalf("%v, %v", a, err)
	}
	a, err := s.buy(n, "u2", "k", 2)
	if err != nil {
		t.Fatal(err)
	}
	want("day", a)
	if got := a.header.Get("RateLimit-Policy"); got != `"day";q=5;w=86400` {
		t.Errorf("RateLimit-Policy: %s", got)
	}
	s.mustBuy(n, "u2", "k")
	replaceLimits(n, `{"name":"skus","key":"merchant","quota":1,"quota_per_sku":3,"quota_max":7}`, 1)
	buyAll := func() (accepted int, last answer) {
		for i := range 10 {
			a, err := s.buy(n, fmt.Sprint("s", accepted, "-", i), "k", 1)
			if err != nil {
				t.Fatal(err)
			}
			if last = a; a.status <= 202 {
				accepted++
			}
		}
		return accepted, last
	}
	got, last := buyAll()
	want("skus", last)
	if got > 2 { // of 1 + 3, of which 2 are used
		t.Errorf("%d more are accepted with one SKU", got)
	}
	second := openShopOf(n, "acme2", terms{quantity: 10, perUser: 0, window: "10m"})
	if a, err := second.buy(n, "u", "k", 1); err != nil || a.status > 202 {
		t.Errorf("another merchant: %v, %v", a, err)
	}
	more := strings.ReplaceAll(s.draft(time.Now().Add(-time.Hour), terms{quantity: 10, perUser: 0, window: "10m"}), s.sku, "phone-z")
	n.admin(200, "PUT", "/admin/v1/activities/more", more)
	n.admin(200, "POST", "/admin/v1/activities/more/publish", "")
	eventually(t, "the quota has grown", func() bool {
		a, err := s.buy(n, fmt.Sprint("m", time.Now().UnixNano()), "k", 1)
		return err == nil && a.status <= 202
	})
}

// TestASaleThatIsOverEatsNobodysQuota: a refusal from memory takes no token, and is given even if
// no tokens are left.
func TestASaleThatIsOverEatsNobodysQuota(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 2, perUser: 0, window: "10m"})
	limit(n, 1, 3)
	s.mustBuy(n, "u1", "k")
	s.mustBuy(n, "u2", "k")
	code := func(user string) string {
		a, err := s.buy(n, user, "k", 1)
		if err != nil {
			t.Fatal(err)
		}
		return a.field("code")
	}
	if got := code("u3"); got != "sold-out" { // the last token
		t.Fatal(got)
	}
	for i := range 20 {
		if got := code(fmt.Sprint("late", i)); got != "sold-out" {
			t.Fatalf("late buyer %d: %s", i, got)
		}
	}
}

// TestSwitches: off, on, by scope, and back by itself. A repeat finds its order while new purchases
// are refused.
func TestSwitches(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1000, perUser: 0, window: "10m"})
	order := s.mustBuy(n, "u1", "k1")
	buy := func(user, key string, header ...string) answer {
		t.Helper()
		a, err := s.buy(n, user, key, 1, header...)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	closed := func(a answer) {
		t.Helper()
		if retry, err := strconv.Atoi(a.header.Get("Retry-After")); a.status != 503 || a.field("code") != "degraded" || err != nil || retry < 1 {
			t.Fatalf("want 503 degraded, got %v", a)
		}
	}
	open := func(a answer) {
		t.Helper()
		if a.status != 201 && a.status != 202 {
			t.Fatalf("want an order, got %v", a)
		}
	}
	everywhere(t, flick(n, "orders", `{"value":"off","reason":"a test"}`), 1)
	closed(buy("u2", "k2"))
	if a := buy("u1", "k1"); a.header.Get("Idempotent-Replayed") != "true" || a.field("order") != order {
		t.Fatalf("a repeat: %v", a)
	}
	if a, err := s.buy(n, "u1", "k1", 2); err != nil || a.status != 422 || a.field("code") != "idempotency-key-reused" {
		t.Fatalf("a repeat that wants more: %v, %v", a, err)
	}
	flick(n, "orders", `{"value":"on","scope":{"merchant":"acme"},"reason":"a narrower on doesn't open"}`)
	closed(buy("u2", "k2"))
	if a := s.order(n, order); a.status != 200 {
		t.Fatalf("status: %v", a)
	}
	if a := s.cancel(n, order); a.status != 200 {
		t.Fatalf("cancel: %v", a)
	}
	flick(n, "orders", `{"value":null,"reason":"over"}`)
	open(buy("u2", "k2"))

	flick(n, "orders", `{"value":"off","scope":{"caller":"acme/web"},"reason":"for a moment","expires_in":"1s"}`)
	eventually(t, "the switch is over by itself", func() bool { return buy("u3", "k3").status != 503 })
	if got := n.admin(200, "GET", "/admin/v1/switches", "").field("items"); strings.Contains(got, "acme/web") {
		t.Errorf("still listed: %s", got)
	}
	flick(n, "admission", `{"value":0,"scope":{"activity":"618"},"reason":"a test"}`)
	closed(buy("u4", "k4"))
	flick(n, "admission", `{"value":100,"scope":{"sku":"618/phone-x"},"reason":"narrower"}`)
	open(buy("u4", "k4"))
	if a := buy("u5", "k5", "Prefer", "wait=5"); a.status != 201 || a.header.Get("Preference-Applied") == "" {
		t.Fatalf("with a wait: %v", a)
	}
	flick(n, "wait", `{"value":"off","reason":"a test"}`)
	flick(n, "poll-interval", `{"value":7,"reason":"a test"}`)
	if a := buy("u6", "k6", "Prefer", "wait=5"); a.status != 202 || a.header.Get("Preference-Applied") != "" || a.header.Get("Retry-After") != "7" {
		t.Fatalf("without waits: %v", a)
	}
	page := func() answer {
		t.Helper()
		a, err := call("GET", n.public+"/v1/activities/618", "", "Authorization", "Bearer "+s.key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	flick(n, "browse", `{"value":"off","reason":"a test"}`)
	closed(page())
	flick(n, "browse", `{"value":"static","reason":"a test"}`)
	if a := page(); a.status != 200 {
		t.Fatalf("a static page: %v", a)
	}
	limit(n, 1, 1)
	flick(n, "limits", `{"value":"off","reason":"a test"}`)
	if admitted, _, refused := flood(t, n, s, "x", 50); admitted != 50 {
		t.Errorf("%d admitted, %d refused without limits", admitted, len(refused))
	}
	flick(n, "limits", `{"value":"shadow","scope":{"merchant":"acme"},"reason":"a test"}`)
	if admitted, _, refused := flood(t, n, s, "y", 50); admitted != 50 {
		t.Errorf("%d admitted, %d refused with limits in shadow", admitted, len(refused))
	}
	flick(n, "log-detail", `{"value":"on","reason":"a test"}`)
	page()
	eventually(t, "the visit is logged", func() bool { return visited.MatchString(n.log()) })
	s.settled(n)
}

// visited returns the log line of a visit to an activity's page.
var visited = regexp.MustCompile(`msg=visit .*route=activity status=200`)

// TestSettingsSurviveARestart: limits and switches are in force before the first request after a
// kill.
func TestSettingsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	s := openShop(n, terms{quantity: 10, perUser: 0, window: "10m"})
	everywhere(t, flick(n, "orders", `{"value":"off","reason":"a test"}`), 1)
	n.end(syscall.SIGKILL)
	n = serve(t, dir)
	if a, err := s.buy(n, "u1", "k", 1); err != nil || a.status != 503 || a.field("code") != "degraded" {
		t.Fatalf("after the restart: %v, %v", a, err)
	}
	everywhere(t, flick(n, "orders", `{"value":"on","reason":"a test"}`), 1)
	s.mustBuy(n, "u1", "k")
}

// TestChangesReachEveryNode: two gateways on real servers. A change made on one is in force on both
// when it is answered. A stopped gateway is named. A temporary change ends on both.
func TestChangesReachEveryNode(t *testing.T) {
	c := startCluster(t)
	a, b := c.gateway(0), c.gateway(1)
	s := openShop(a, terms{quantity: 1000, perUser: 0, window: "10m"})
	eventually(t, "the other gateway sells too", func() bool {
		got, err := s.buy(b, "u0", "k", 1)
		return err == nil && got.status < 300
	})
	wants := func(n *node, user string, status ...int) {
		t.Helper()
		got, err := s.buy(n, user, "k", 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, status := range status {
			if got.status == status {
				return
			}
		}
		t.Fatalf("want %v, got %v", status, got)
	}
	everywhere(t, flick(a, "orders", `{"value":"off","reason":"a test"}`), 2)
	wants(a, "u1", 503)
	wants(b, "u1", 503)
	everywhere(t, flick(c.workers[0], "orders", `{"value":"on","reason":"from a worker"}`), 2)
	wants(a, "u2", 201, 202)
	wants(b, "u2", 201, 202)
	limitOn := func(rate, burst int) {
		t.Helper()
		tag := b.admin(200, "GET", "/admin/v1/limits", "").header.Get("ETag")
		body := fmt.Sprintf(`{"policies":[{"name":"callers","key":"caller","rate":%d,"burst":%d}],"reason":"a test"}`, rate, burst)
		everywhere(t, b.admin(200, "PUT", "/admin/v1/limits", body, "If-Match", tag), 2)
	}
	limitOn(1, 20)
	began := time.Now()
	admitted := 0
	for i := range 200 {
		got, err := s.buy([]*node{a, b}[i%2], fmt.Sprint("l", i), "k", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got.status != http.StatusTooManyRequests {
			admitted++
		}
	}
	if most := 20 + time.Since(began).Seconds() + 2; admitted < 20 || float64(admitted) > most {
		t.Errorf("%d admitted on two nodes, want 20 to %.0f", admitted, most)
	}
	eventually(t, "a worker tells what both gateways refuse", func() bool {
		var usage struct {
			Complete bool
			Nodes    []struct{ Alone bool }
			Top      []struct {
				Policy, Key string
				Nodes       []struct{ Refused int }
			}
		}
		a := c.workers[0].admin(200, "GET", "/admin/v1/limits/usage", "")
		return json.Unmarshal(a.body, &usage) == nil && usage.Complete && len(usage.Nodes) == 2 && !usage.Nodes[0].Alone && !usage.Nodes[1].Alone &&
			len(usage.Top) == 1 && usage.Top[0].Policy == "callers" && usage.Top[0].Key == "acme/web" && len(usage.Top[0].Nodes) == 2
	})
	limitOn(100, 100)
	began, admitted = time.Now(), 0
	for i := range 400 { // all on one of two: the limit is the same
		got, err := s.buy(a, fmt.Sprint("o", i), "k", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got.status != http.StatusTooManyRequests {
			admitted++
		}
	}
	gained := 100 * time.Since(began).Seconds() // one of two nodes had half of it
	if least, most := min(400, 0.75*gained-5), gained+60; float64(admitted) < least || float64(admitted) > most {
		t.Errorf("%d admitted on one of two nodes, want %.0f to %.0f", admitted, least, most)
	}
	limitOn(1_000_000, 1_000_000)

	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	lagging := flick(a, "orders", `{"value":"off","reason":"one node is stopped","expires_in":"3s"}`)
	var got struct {
		Applied, Nodes int
		Lagging        []string
	}
	if err := json.Unmarshal(lagging.body, &got); err != nil || got.Applied != 1 || got.Nodes != 2 || len(got.Lagging) != 1 ||
		!strings.HasSuffix(got.Lagging[0], strings.TrimPrefix(b.public, "http://")) {
		t.Errorf("with a stopped node: %v", lagging)
	}
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for i, n := range []*node{a, b} {
		eventually(t, "the switch is over by itself", func() bool {
			got, err := s.buy(n, fmt.Sprint("e", i), "k", 1)
			return err == nil && got.status < 300
		})
	}
	everywhere(t, flick(a, "orders", `{"value":"on","reason":"all are back"}`), 2)
	if code := b.end(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	everywhere(t, flick(a, "orders", `{"value":"on","reason":"one has left"}`), 1)
}

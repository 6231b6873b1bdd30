package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestLimits_RepeatsAreNeverRefused: a buyer with a limit of one purchase per thousand seconds
// repeats it at once, also before the answer, and on another gateway. No limit refuses the repeat,
// and it buys once.
func TestLimits_RepeatsAreNeverRefused(t *testing.T) {
	c := startCluster(t)
	a, b := c.gateway(0), c.gateway(1)
	s := openShop(a, terms{quantity: 1000, perUser: 0, window: "10m"})
	eventually(t, "the other gateway sells too", func() bool {
		got, err := s.buy(b, "first", "k", 1)
		return err == nil && got.status < 300
	})
	replaceLimits(a, `{"name":"users","key":"user","rate":0.001,"burst":1,"concurrency":1}`, 2)
	const buyers = 40
	var crowd sync.WaitGroup
	for i := range buyers {
		crowd.Go(func() {
			user := fmt.Sprint("u", i)
			first, err := s.buy(a, user, "k", 1)
			if err != nil || first.status > 202 {
				t.Errorf("%s: %v, %v", user, first, err)
				return
			}
			for j := range 6 {
				again, err := s.buy([]*node{a, b}[j%2], user, "k", 1)
				if err != nil || again.field("order") != first.field("order") || again.status > 202 && again.status != 503 {
					t.Errorf("%s, repeat %d of %s: %v, %v", user, j, first.field("order"), again, err)
				}
			}
			if other, err := s.buy(a, user, "other", 1); err != nil || other.status != 429 || other.field("limit") != "users" {
				t.Errorf("%s: another purchase: %v, %v", user, other, err)
			}
		})
	}
	crowd.Wait()
	for i := range buyers { // two at once: the second may come before the first is answered
		user := fmt.Sprint("v", i)
		answers := press(t, 2, func(int) (answer, error) { return s.buy(a, user, "k", 1) })
		for _, got := range answers {
			if got.status == 429 {
				t.Errorf("%s: %v", user, got)
			}
		}
	}
}

// TestLimits_Staged: limits that one of two gateways tries are in force only there, also after that
// gateway was killed, and after the node that began the stage is gone. If they refuse too much,
// they are taken back automatically. Otherwise a person completes them, or the end of their time.
func TestLimits_Staged(t *testing.T) {
	c := startCluster(t)
	a, b := c.gateway(0), c.gateway(1)
	s := openShop(a, terms{quantity: 10_000, perUser: 0, window: "10m"})
	bought := 0
	buy := func(n *node) answer {
		t.Helper()
		bought++
		got, err := s.buy(n, fmt.Sprint("u", bought), "k", 1)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	sells := func(n *node) {
		t.Helper()
		eventually(t, "the gateway sells", func() bool { return buy(n).status < 300 })
	}
	sells(b)
	tag := func() string { return a.admin(200, "GET", "/admin/v1/limits", "").header.Get("ETag") }
	staged := func() string { return a.admin(200, "GET", "/admin/v1/limits", "").field("staged") }
	stage := func(by *node, more string) {
		t.Helper()
		body := fmt.Sprintf(`{"policies":[{"name":"tight","key":"global","rate":0.001,"burst":1}],"reason":"a try","nodes":[%q]%s}`, nodeName(t, c, b), more)
		everywhere(t, by.admin(200, "PUT", "/admin/v1/limits/staged", body, "If-Match", tag()), 2)
	}
	free := func(n *node) {
		t.Helper()
		for range 5 {
			if got := buy(n); got.status > 202 {
				t.Fatalf("refused where nothing is tried: %v", got)
			}
		}
	}
	tight := func(n *node) {
		t.Helper()
		eventually(t, "the limits are tried", func() bool { return buy(n).field("code") == "overloaded" })
	}

	stage(c.workers[0], `,"max_refused_percent":100`)
	free(a)
	tight(b)
	c.workers[0].end(syscall.SIGKILL)
	b.end(syscall.SIGKILL)
	b = start(t, append([]string{"gateway", "--data-dir", c.dir, "--listen", strings.TrimPrefix(b.public, "http://")}, c.flags...)...)
	tight(b)
	free(a)
	a.admin(200, "POST", "/admin/v1/limits/staged/complete", `{"reason":"good"}`, "If-Match", tag())
	tight(a)
	tight(b)
	if got := staged(); got != "" {
		t.Errorf("after it is complete: %s", got)
	}

	eventually(t, "the killed process is forgotten", func() bool {
		nodes := string(a.admin(200, "GET", "/admin/v1/nodes", "").body)
		return strings.Count(nodes, strings.TrimPrefix(b.public, "http://")) == 1
	})
	replaceLimits(a, `{"name":"wide","key":"global","rate":100000,"burst":100000}`, 2)
	stage(a, `,"max_refused_percent":20,"within":"3s"`)
	tight(b)
	eventually(t, "they are taken back", func() bool {
		buy(b)
		return staged() == ""
	})
	sells(b)
	free(b)
	changes := a.admin(200, "GET", "/admin/v1/changes?limit=3", "").body
	var list struct {
		Items []struct{ Actor, Reason, Kind string }
	}
	if err := json.Unmarshal(changes, &list); err != nil || len(list.Items) == 0 || list.Items[0].Actor != "penstock" ||
		!strings.Contains(list.Items[0].Reason, "taken back: ") || !strings.Contains(list.Items[0].Reason, "above 20 %") {
		t.Errorf("the record of it: %s", changes)
	}

	stage(a, `,"max_refused_percent":100,"complete_in":"2s"`)
	eventually(t, "its time comes", func() bool { return staged() == "" })
	tight(a)
}

// TestLimits_PreviewSaysWhatIsRefused: for each caller, limits refuse as many of the same crowd as
// the preview has said.
func TestLimits_PreviewSaysWhatIsRefused(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 10_000, perUser: 0, window: "10m"})
	other := *s
	other.key = n.admin(201, "POST", "/admin/v1/merchants/acme/callers", `{"name":"app","rights":["buy"]}`).field("key")
	s.mustBuy(n, "first", "k")
	const policies = `{"name":"callers","key":"caller","rate":0.001,"burst":25},{"name":"m","key":"merchant","match":"acme","rate":0.001,"burst":40}`
	const crowd = 60
	come := func(name string) (refused int) {
		t.Helper()
		for i, by := range []*shop{s, &other} {
			for j := range crowd / (i + 1) {
				a, err := by.buy(n, fmt.Sprint(name, i, "-", j), "k", 1)
				if err != nil {
					t.Fatal(err)
				}
				if a.status == 429 {
					refused++
				}
			}
		}
		return refused
	}
	come("before")
	var said struct {
		Asked, Refused int
		Callers        []struct {
			Caller         string
			Asked, Refused int
		}
	}
	eventually(t, "all that came is known", func() bool { // the current second isn't counted yet
		a := n.admin(200, "POST", "/admin/v1/limits/preview", `{"policies":[`+policies+`]}`)
		if err := json.Unmarshal(a.body, &said); err != nil {
			t.Fatal(err)
		}
		return len(said.Callers) == 2 && min(said.Callers[0].Asked, said.Callers[1].Asked) == crowd/2 // which came last
	})
	replaceLimits(n, policies, 1)
	refused := come("then")
	if first := said.Asked - crowd - crowd/2; said.Refused != refused+first { // it came before, too
		t.Errorf("the preview says %d, and %d are refused: %+v", said.Refused, refused, said)
	}
	if len(said.Callers) != 2 || said.Callers[0].Refused+said.Callers[1].Refused != said.Refused {
		t.Errorf("by caller: %+v", said.Callers)
	}
}

// nodeName is the name that the others know a gateway by.
func nodeName(t testing.TB, c *cluster, n *node) string {
	t.Helper()
	var list struct{ Nodes []struct{ Node string } }
	a := c.gateway(0).admin(200, "GET", "/admin/v1/nodes", "")
	if err := json.Unmarshal(a.body, &list); err != nil {
		t.Fatal(err)
	}
	for _, known := range list.Nodes {
		if strings.HasSuffix(known.Node, strings.TrimPrefix(n.public, "http://")) {
			return known.Node
		}
	}
	t.Fatalf("no node at %s: %s", n.public, a.body)
	return ""
}

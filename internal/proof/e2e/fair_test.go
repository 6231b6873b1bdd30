package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// openShopOf opens the sale of another merchant.
func openShopOf(n *node, merchant string, terms terms) *shop {
	n.t.Helper()
	s := foundShop(n, merchant, "sale-"+merchant)
	n.admin(200, "PUT", "/admin/v1/activities/"+s.activity, s.draft(time.Now().Add(-time.Hour), terms))
	n.admin(200, "POST", "/admin/v1/activities/"+s.activity+"/publish", "")
	return s
}

// replaceLimits puts policies in force on some number of gateways.
func replaceLimits(n *node, policies string, gateways int) {
	n.t.Helper()
	tag := n.admin(200, "GET", "/admin/v1/limits", "").header.Get("ETag")
	everywhere(n.t, n.admin(200, "PUT", "/admin/v1/limits", `{"policies":[`+policies+`],"reason":"a test"}`, "If-Match", tag), gateways)
}

// TestFair_OneMerchantTakesNothing: one merchant sends many times the global limit. Each of the
// others still gets its share: 95 of 100 of its purchases within that are accepted.
func TestFair_OneMerchantTakesNothing(t *testing.T) {
	n := serve(t, t.TempDir())
	wide := terms{quantity: 100_000, perUser: 0, window: "10m"}
	hog, sure, small := openShopOf(n, "hog", wide), openShopOf(n, "sure", wide), openShopOf(n, "small", wide)
	for _, s := range []*shop{hog, sure, small} {
		s.mustBuy(n, "first", "k")
	}
	replaceLimits(n, `{"name":"all","key":"global","rate":100,"burst":40},
		{"name":"sure","key":"merchant","match":"sure","rate":60,"burst":30,"guaranteed":30}`, 1)
	var stop atomic.Bool
	var crowd, others sync.WaitGroup
	var hogs [2]atomic.Int64 // refused, accepted
	for i := range 8 {
		crowd.Go(func() {
			for j := 0; !stop.Load(); j++ {
				a, err := hog.buy(n, fmt.Sprint("u", i, "-", j), "k", 1)
				switch {
				case err != nil:
					t.Error(err)
					return
				case a.status == http.StatusServiceUnavailable && a.field("code") == "overloaded":
					hogs[0].Add(1)
				case a.status < 300:
					hogs[1].Add(1)
				default:
					t.Errorf("neither accepted nor overloaded: %v", a)
				}
			}
		})
	}
	eventually(t, "the limit is used up", func() bool { return hogs[0].Load() > 100 })
	for _, s := range []*shop{sure, small} {
		others.Go(func() {
			const asked = 120
			accepted := 0
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for i := range asked {
				if a, err := s.buy(n, fmt.Sprint("u", i), "k", 1); err == nil && a.status < 300 {
					accepted++
				}
				<-tick.C
			}
			if accepted < asked*95/100 {
				t.Errorf("%s: %d of %d accepted beside one that takes all it can", s.merchant, accepted, asked)
			}
		})
	}
	others.Wait()
	stop.Store(true)
	crowd.Wait()
	if refused, accepted := hogs[0].Load(), hogs[1].Load(); refused < 4*accepted {
		t.Errorf("the hog had %d of %d: the limit was not used up", accepted, refused+accepted)
	}
	t.Logf("the hog: %d accepted, %d refused", hogs[1].Load(), hogs[0].Load())
}

// TestPages_OutliveEverything: without Redis, Kafka and the database, a gateway still answers an
// activity's page, and so does a gateway that starts then.
func TestPages_OutliveEverything(t *testing.T) {
	c := startCluster(t)
	n := c.gateway(0)
	s := openShop(n, terms{quantity: 10, perUser: 0, window: "10m"})
	page := func(n *node) answer {
		t.Helper()
		a, err := call("GET", n.public+"/v1/activities/"+s.activity, "", "Authorization", "Bearer "+s.key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for i := range 2 {
		eventually(t, "both gateways have the page", func() bool { return page(c.gateway(i)).status == 200 })
	}
	eventually(t, "a gateway that starts has it from the disk", func() bool {
		kept, err := os.ReadFile(filepath.Join(c.dir, "catalog.kept"))
		return err == nil && bytes.Contains(kept, []byte(s.activity))
	})
	c.redis.Kill()
	c.postgres.Kill()
	c.kafka.Kill()
	if a := page(n); a.status != 200 || a.field("activity") != s.activity {
		t.Fatalf("with everything gone: %v", a)
	}
	n.kill()
	fresh := c.start("gateway")
	eventually(t, "a gateway that starts then answers the page", func() bool {
		a := page(fresh)
		return a.status == 200 && a.field("activity") == s.activity
	})
	if a, err := s.buy(fresh, "u", "k", 1); err != nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("a purchase with everything gone: %v, %v", a, err)
	}
}

// cutter stands between a node and a server, and can cut the two off.
type cutter struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	cut      bool       // guarded by mu
	conns    []net.Conn // guarded by mu
}

func newCutter(t testing.TB, to string) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, to: to}
	t.Cleanup(func() { _ = listener.Close(); c.set(true) })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go c.join(from)
		}
	}()
	return c
}

func (c *cutter) join(from net.Conn) {
	defer from.Close()
	there, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer there.Close()
	c.mu.Lock()
	if c.cut {
		c.mu.Unlock()
		return
	}
	c.conns = append(c.conns, from, there)
	c.mu.Unlock()
	go func() { _, _ = io.Copy(there, from); _ = there.Close() }()
	_, _ = io.Copy(from, there)
}

// set cuts, or lets through again.
func (c *cutter) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if cut {
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.conns = nil
	}
}

// TestSwitches_AHundredChanges: a hundred changes are made under load on three gateways. Each is in
// force on all of them when it is answered. A stopped gateway and one without the database are
// named in the answer, also to a revocation.
func TestSwitches_AHundredChanges(t *testing.T) {
	c := startCluster(t)
	postgres := newCutter(t, c.postgres.Addr)
	third := start(t, append([]string{"gateway", "--data-dir", t.TempDir()},
		strings.Split(strings.ReplaceAll(strings.Join(c.flags, "\n"), c.postgres.Addr, postgres.listener.Addr().String()), "\n")...)...)
	nodes := []*node{c.gateway(0), c.gateway(1), third}
	s := openShop(nodes[0], terms{quantity: 100_000, perUser: 0, window: "10m"})
	for i, n := range nodes {
		s.mustBuy(n, fmt.Sprint("first", i), "k")
	}
	var stop atomic.Bool
	var load sync.WaitGroup
	var bought atomic.Int64
	for i := range 6 {
		load.Go(func() {
			for j := 0; !stop.Load(); j++ {
				if a, err := s.buy(nodes[i%3], fmt.Sprint("u", i, "-", j), "k", 1); err == nil && a.status < 300 {
					bought.Add(1)
				}
			}
		})
	}
	for i := range 100 {
		value := []string{"off", "on"}[i%2]
		everywhere(t, flick(nodes[i%3], "orders", fmt.Sprintf(`{"value":%q,"reason":"change %d"}`, value, i)), 3)
		for j, n := range nodes {
			a, err := s.buy(n, fmt.Sprint("probe", i, "-", j), "k", 1)
			if refused := err == nil && a.status == 503 && a.field("code") == "degraded"; err != nil || refused != (value == "off") {
				t.Fatalf("change %d to %s: gateway %d answers %v, %v", i, value, j, a, err)
			}
		}
	}
	stop.Store(true)
	load.Wait()
	t.Logf("%d were bought meanwhile", bought.Load())

	behind := func(a answer) []string {
		t.Helper()
		var got struct {
			Applied int
			Lagging []string
		}
		if err := json.Unmarshal(a.body, &got); err != nil || got.Applied+len(got.Lagging) != 3 {
			t.Fatalf("%v, %v", a, err)
		}
		return got.Lagging
	}
	lagging := func(reason string) []string {
		t.Helper()
		return behind(flick(nodes[0], "poll-interval", `{"value":3,"reason":"`+reason+`"}`))
	}
	revoke := func(caller string) answer {
		t.Helper()
		nodes[0].admin(201, "POST", "/admin/v1/merchants/acme/callers", fmt.Sprintf(`{"name":%q,"rights":["buy"]}`, caller))
		return nodes[0].admin(200, "DELETE", "/admin/v1/merchants/acme/callers/"+caller, "")
	}
	everywhere(t, revoke("leaked"), 3)
	if err := nodes[1].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	postgres.set(true)
	eventually(t, "both are named", func() bool {
		names := lagging("one is stopped, one cut off")
		return len(names) == 2 && named(names, nodes[1]) && named(names, third)
	})
	if names := behind(revoke("leaked-too")); len(names) != 2 || !named(names, nodes[1]) || !named(names, third) {
		t.Errorf("of a revocation %v are named", names)
	}
	if err := nodes[1].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	postgres.set(false)
	eventually(t, "all are back", func() bool { return len(lagging("all are back")) == 0 })
}

// named reports whether a gateway is among names.
func named(names []string, n *node) bool {
	for _, name := range names {
		if strings.HasSuffix(name, strings.TrimPrefix(n.public, "http://")) {
			return true
		}
	}
	return false
}

// TestLimits_EndByThemselves: a temporary limit is in force until its end. Then the former limits
// are in force again, without a person.
func TestLimits_EndByThemselves(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1000, perUser: 0, window: "10m"})
	s.mustBuy(n, "first", "k")
	replaceLimits(n, `{"name":"users","key":"user","rate":1000,"burst":1000,"temporary":{"rate":0.001,"burst":1,"expires_in":"3s"}},
		{"name":"callers","key":"caller","rate":0.001,"burst":2,"expires_in":"3s"}`, 1)
	i := 0
	refused := func() bool {
		i++
		a, err := s.buy(n, "u", fmt.Sprint("k", i), 1)
		return err == nil && a.status == http.StatusTooManyRequests
	}
	eventually(t, "the limits refuse", refused)
	eventually(t, "they are over", func() bool {
		for range 3 { // more than the burst of the one that is gone
			if refused() {
				return false
			}
		}
		return true
	})
	if got := n.admin(200, "GET", "/admin/v1/limits", ""); strings.Contains(string(got.body), "callers") || strings.Contains(string(got.body), "temporary") {
		t.Errorf("what is over is shown: %v", got)
	}
}

// TestLimits_PreviewOfAllGateways: a worker reports how much of the traffic on both gateways the
// limits would have refused.
func TestLimits_PreviewOfAllGateways(t *testing.T) {
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: 1000, perUser: 0, window: "10m"})
	for i := range 2 {
		s.mustBuy(c.gateway(i), fmt.Sprint("first", i), "k")
	}
	const each = 30
	for i := range 2 * each {
		if a, err := s.buy(c.gateway(i), fmt.Sprint("u", i), "k", 1); err != nil || a.status >= 300 {
			t.Fatalf("%v, %v", a, err)
		}
	}
	var got struct {
		Complete       bool
		Asked, Refused int
		Callers        []struct{ Merchant, Caller, Policy string }
	}
	eventually(t, "the worker knows what came to both", func() bool {
		a := c.workers[0].admin(200, "POST", "/admin/v1/limits/preview",
			`{"policies":[{"name":"callers","key":"caller","rate":0.001,"burst":5}]}`)
		return json.Unmarshal(a.body, &got) == nil && got.Asked >= 2*each+2
	})
	if !got.Complete || got.Refused < got.Asked-6 || len(got.Callers) != 1 || got.Callers[0].Merchant != "acme" || got.Callers[0].Policy != "callers" {
		t.Errorf("%+v", got)
	}
}

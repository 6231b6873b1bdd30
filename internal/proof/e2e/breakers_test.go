package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
)

// metric reads a number from /metrics; -1 if it isn't there.
func (n *node) metric(name string) float64 {
	n.t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(n.admin(200, "GET", "/metrics", "").body)
	if found == nil {
		return -1
	}
	value, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		n.t.Fatal(err)
	}
	return value
}

// restless are four clients that buy and read orders until stop is called. Their answers are
// counted.
type restless struct {
	sold, looked, unavailable, unknown atomic.Int64
	stop                               func()
}

func (s *shop) restless(n *node) *restless {
	r := new(restless)
	over := make(chan struct{})
	var crowd sync.WaitGroup
	r.stop = sync.OnceFunc(func() { close(over); crowd.Wait() })
	s.t.Cleanup(r.stop)
	buyer := func(i int) {
		order := ""
		for k := 0; ; k++ {
			a, err := s.buy(n, fmt.Sprint("r", i, "-", k), "k", 1)
			if err == nil && a.status < 300 {
				order = a.field("order")
			}
			r.count(s.t, a, err, &r.sold)
			if order != "" {
				a, err := call("GET", n.public+"/v1/orders/"+order, "", "Authorization", "Bearer "+s.key)
				r.count(s.t, a, err, &r.looked)
			}
			select {
			case <-over:
				return
			case <-time.After(5 * time.Millisecond): // they come often, but are no flood
			}
		}
	}
	for i := range 4 {
		crowd.Go(func() { buyer(i) })
	}
	return r
}

// count counts an answer. A missing server may cause only these answers.
func (r *restless) count(t testing.TB, a answer, err error, good *atomic.Int64) {
	switch {
	case err != nil:
		t.Error(err)
	case a.status < 300:
		good.Add(1)
	case a.status == http.StatusServiceUnavailable && (a.field("code") == "unavailable" || a.field("code") == "overloaded"):
		r.unavailable.Add(1)
	case a.status == http.StatusServiceUnavailable && a.field("code") == "outcome-unknown":
		r.unknown.Add(1)
	case a.status == http.StatusNotFound: // its row isn't written yet
	default:
		t.Errorf("neither served nor an honest 503: %v", a)
	}
}

// TestBreakersOpenAndClose stops each server under a crowd. The breaker before it opens, and
// nothing is held while Kafka's is open. When the server is back, everything works again, and the
// stock balances.
func TestBreakersOpenAndClose(t *testing.T) {
	c := startCluster(t)
	n := c.gateway(0)
	s := openShop(n, terms{quantity: 1_000_000, perUser: 1, window: "10m"})
	r := s.restless(n)
	for name, server := range map[string]*servers.Server{"redis": c.redis, "kafka": c.kafka, "database": c.postgres} {
		of := `{server="` + name + `",server_instance="` + map[string]string{"redis": "0", "kafka": "", "database": "reads"}[name] + `"}`
		state := "penstock_breaker_state" + of
		eventually(t, "orders are sold and looked at", func() bool { return r.sold.Load() > 20 && r.looked.Load() > 20 })
		trips := n.metric("penstock_breaker_trips_total" + of)
		server.Pause()
		eventually(t, name+"'s breaker opens", func() bool {
			return n.metric("penstock_breaker_trips_total"+of) > trips && n.metric(state) >= 1
		})
		held := func() int64 {
			if name != "kafka" {
				return 0 // a part that the audit needs is away
			}
			return int64(s.audit(n).Held)
		}
		before, refused := held(), r.unavailable.Load()
		eventually(t, "buyers are told", func() bool { return r.unavailable.Load() >= refused+100 })
		if after := held(); after-before > 20 {
			t.Errorf("%v units were held while a hundred buyers were refused for want of Kafka", after-before)
		}
		server.Resume()
		resumed := time.Now()
		eventually(t, name+"'s breaker closes", func() bool { return n.metric(state) == 0 })
		sold, looked := r.sold.Load(), r.looked.Load()
		eventually(t, "it sells and shows again", func() bool { return r.sold.Load() > sold && r.looked.Load() > looked })
		t.Logf("%s: all is back %v later", name, time.Since(resumed).Round(time.Millisecond))
	}
	r.stop()
	if got := s.settled(n); got.Rejected != 0 || got.Held < int(r.sold.Load()) {
		t.Errorf("%d sold: %+v", r.sold.Load(), got)
	}
}

// TestBreakersCloseWhereNobodyBuys: when its server is back, a breaker closes without buyers and
// without the gateway's probes.
func TestBreakersCloseWhereNobodyBuys(t *testing.T) {
	c := startCluster(t, "--probe-every", "0")
	n := c.gateway(0)
	s := openShop(n, terms{quantity: 1_000_000, perUser: 1, window: "10m"})
	r := s.restless(n)
	eventually(t, "orders are sold", func() bool { return r.sold.Load() > 20 })
	c.kafka.Pause()
	const state = `penstock_breaker_state{server="kafka",server_instance=""}`
	eventually(t, "Kafka's breaker opens", func() bool { return n.metric(state) >= 1 })
	r.stop()
	c.kafka.Resume()
	eventually(t, "Kafka's breaker closes", func() bool { return n.metric(state) == 0 })
}

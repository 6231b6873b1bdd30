package node

import (
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/seckill"
)

// TestProbes: a gateway probes itself and shows the result. The probes appear in no orders, stock
// or rates. When the queue takes nothing, the alarm names that step.
func TestProbes(t *testing.T) {
	c := testConfig(t)
	c.ProbeEvery = leastProbes
	n := start(t, c, RoleGateway|RoleWorker)
	s := &liveShop{Node: n, t: t}
	well := func(v *live.Snapshot) bool {
		for _, p := range v.Probes {
			if !p.OK || p.Error != "" || p.Node != n.name() || p.At == nil {
				return false
			}
		}
		return len(v.Probes) == 3
	}
	v := s.see("three probes that go well", well)
	if v.Totals.Requests != 0 || len(v.Callers) > 0 || len(v.Activities) > 0 {
		t.Errorf("probes are in the live view as traffic: %+v %+v", v.Totals, v.Callers)
	}
	if found, err := n.sale.Office.SearchOrders(t.Context(), seckill.OrderQuery{Limit: 10}); err != nil || len(found) > 0 {
		t.Errorf("orders of probes: %+v, %v", found, err)
	}
	counts := n.sale.Worker.Counts()
	if made := counts.Opened.Load() + counts.Parked.Load() + counts.Rejected.Load() + counts.Skipped.Load() + counts.Letters.Load(); made != 0 {
		t.Errorf("a worker made %d of probes", made)
	}
	buys := 0.0
	for _, sample := range n.probeMetrics() {
		if sample.Name == "penstock_probe_total" && sample.Labels[0].Value == "buy" && sample.Labels[1].Value == "ok" {
			buys = sample.Value
		}
	}
	if buys < 1 {
		t.Errorf("%v purchases are counted that went well", buys)
	}
	if err := n.servers.queue.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = s.see("the alarm of a probe that fails", func(v *live.Snapshot) bool {
		for i := range v.Abnormal {
			if f := &v.Abnormal[i]; f.Kind == live.KindProbeFailing && strings.HasPrefix(f.Subject, "buy on ") {
				return true
			}
		}
		return false
	})
	for _, p := range v.Probes {
		if p.Probe == "page" && !p.OK {
			t.Errorf("%+v: it needs no queue", p)
		}
		if p.Probe == "buy" && !strings.Contains(p.Error, "hold on shard") {
			t.Errorf("%+v doesn't say which step fails", p)
		}
	}
}

func TestConfig_ProbeEvery(t *testing.T) {
	for every, good := range map[time.Duration]bool{0: true, time.Second: true, time.Minute: true, -1: false, time.Millisecond: false} {
		c := DefaultConfig()
		c.ProbeEvery = every
		if err := c.validateProbes(); (err == nil) != good {
			t.Errorf("%v: %v", every, err)
		}
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
)

// inForce is the answer to a change.
type inForce struct {
	Version        int64
	Recorded       bool
	Applied, Nodes int
	Lagging        []string
	Message        string
}

func readInForce(t *testing.T, a answer) (got inForce) {
	t.Helper()
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
	return got
}

// TestSwitchesHoldOverTheCluster: three gateways on real servers. A switch is in force on 3 of 3. A
// stopped node is named while it is stopped, and a killed one until it is removed. Without
// PostgreSQL, Redis carries the switch that closes orders to all gateways. The change is recorded
// when PostgreSQL is back.
func TestSwitchesHoldOverTheCluster(t *testing.T) {
	c := startCluster(t)
	gateways := []*node{c.gateway(0), c.gateway(1), c.start("gateway")}
	s := openShop(gateways[0], terms{quantity: 1000, perUser: 0, window: "10m"})
	buyers := 0
	status := func(n *node) int {
		t.Helper()
		buyers++
		got, err := s.buy(n, fmt.Sprint("u", buyers), "k", 1)
		if err != nil {
			t.Fatal(err)
		}
		return got.status
	}
	for _, n := range gateways {
		eventually(t, "every gateway sells", func() bool { return status(n) < 300 })
	}
	eventually(t, "all nodes are known", func() bool {
		return strings.Count(string(gateways[0].admin(200, "GET", "/admin/v1/nodes", "").body), `"state":"current"`) == 5
	})
	for i := range 6 {
		value := []string{"off", "on"}[i%2]
		got := readInForce(t, flick(gateways[i%3], "orders", fmt.Sprintf(`{"value":%q,"reason":"a test"}`, value)))
		if got.Applied != 3 || got.Nodes != 3 || !strings.HasSuffix(got.Message, "in force on all 3 gateways") || !got.Recorded {
			t.Fatalf("orders %s: %+v", value, got)
		}
		for _, n := range gateways {
			if closed := status(n) == 503; closed != (value == "off") {
				t.Fatalf("orders are %s, and a gateway is closed: %v", value, closed)
			}
		}
	}

	last := gateways[2]
	if err := last.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got := readInForce(t, flick(gateways[0], "wait", `{"value":"off","reason":"one is stopped"}`))
		if got.Applied != 2 || got.Nodes != 3 || len(got.Lagging) != 1 || !strings.HasSuffix(got.Lagging[0], strings.TrimPrefix(last.public, "http://")) {
			t.Fatalf("with a stopped node: %+v", got)
		}
	}
	if err := last.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stopped node is back", func() bool {
		return readInForce(t, flick(gateways[0], "wait", `{"value":"on","reason":"all are back"}`)).Applied == 3
	})

	c.postgres.Pause()
	before := readInForce(t, flick(gateways[1], "orders", `{"value":"off","reason":"the database is away"}`))
	if before.Recorded || before.Applied != 3 || before.Nodes != 3 {
		t.Errorf("without the database: %+v", before)
	}
	for _, n := range gateways {
		if got := status(n); got != 503 {
			t.Errorf("without the database, orders off: %d", got)
		}
	}
	eventually(t, "every gateway shows what isn't recorded", func() bool {
		return strings.Contains(string(gateways[0].admin(200, "GET", "/admin/v1/switches", "").body), `"unrecorded":true`)
	})
	c.postgres.Resume()
	eventually(t, "the change is recorded", func() bool {
		a, err := call("GET", gateways[0].private+"/admin/v1/changes?limit=3", "", "Authorization", "Bearer "+adminToken)
		return err == nil && strings.Count(string(a.body), `"reason":"the database is away","kind":"switches"`) == 1
	})
	eventually(t, "it is in force as a version", func() bool {
		return strings.Contains(string(gateways[2].admin(200, "GET", "/admin/v1/switches", "").body), `"unrecorded":0`)
	})
	for _, n := range gateways {
		if got := status(n); got != 503 {
			t.Errorf("recorded, orders off: %d", got)
		}
	}

	last.end(syscall.SIGKILL)
	eventually(t, "the killed node is named", func() bool {
		got := readInForce(t, flick(gateways[0], "orders", `{"value":"on","reason":"one was killed"}`))
		return got.Applied == 2 && got.Nodes == 3 && strings.Contains(got.Message, "silent")
	})
	var nodes struct {
		Nodes []struct{ Node, State string }
	}
	if err := json.Unmarshal(gateways[0].admin(200, "GET", "/admin/v1/nodes", "").body, &nodes); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Nodes {
		if n.State == "silent" {
			gateways[0].admin(204, "DELETE", "/admin/v1/nodes/"+url.PathEscape(n.Node), "", "X-Reason", "it won't come back")
		}
	}
	if got := readInForce(t, flick(gateways[0], "orders", `{"value":"on","reason":"it was removed"}`)); got.Applied != 2 || got.Nodes != 2 {
		t.Errorf("after its removal: %+v", got)
	}
}

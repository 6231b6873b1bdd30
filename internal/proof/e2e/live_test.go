package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/live"
)

// snapshot reads the live view of a node; nil where it has none.
func snapshot(n *node) *live.Snapshot {
	a, err := call("GET", n.private+"/admin/v1/live", "", "Authorization", "Bearer "+adminToken)
	var s live.Snapshot
	if err != nil || a.status != 200 || json.Unmarshal(a.body, &s) != nil {
		return nil
	}
	return &s
}

// abnormal reports whether a snapshot has a finding of that kind about something.
func abnormal(s *live.Snapshot, kind, subject string) bool {
	return slices.ContainsFunc(s.Abnormal, func(f live.Finding) bool {
		return f.Kind == kind && strings.Contains(f.Subject, subject)
	})
}

// TestLive_OverTheCluster: one gateway shows the sales of the other one. A stopped node is named as
// missing and lost, and is back when it goes on. Without Redis each node shows itself and names the
// others.
func TestLive_OverTheCluster(t *testing.T) {
	c := startCluster(t)
	here, there := c.gateway(0), c.gateway(1)
	s := openShop(here, terms{quantity: 10_000, perUser: 0, window: "10m"})
	name := strings.TrimPrefix(there.public, "http://")
	eventually(t, "all four nodes are in the view", func() bool {
		now := snapshot(here)
		return now != nil && now.Complete && len(now.Nodes) == 4
	})
	buyer := 0
	eventually(t, "what one gateway sells is seen on the other", func() bool {
		for range 20 {
			buyer++
			if _, err := s.buy(there, fmt.Sprint("u", buyer), "k", 1); err != nil {
				t.Fatal(err)
			}
		}
		now := snapshot(here)
		return now != nil && now.Totals.Accepted > 0 && len(now.Activities) == 1 && now.Activities[0].Activity == s.activity &&
			now.Activities[0].Ledger.Held > 0 && len(now.Callers) == 1 && now.Callers[0].Caller == "acme/web"
	})

	if err := there.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stopped node is named", func() bool {
		now := snapshot(here)
		return now != nil && !now.Complete && len(now.Missing) == 1 && strings.HasSuffix(now.Missing[0], name) &&
			abnormal(now, live.KindNodeLost, name)
	})
	if err := there.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", func() bool {
		now := snapshot(here)
		return now != nil && now.Complete && len(now.Nodes) == 4 && !abnormal(now, live.KindNodeLost, name)
	})

	c.redis.Pause()
	eventually(t, "without Redis the others are missing, and Redis is named", func() bool {
		now := snapshot(here)
		return now != nil && len(now.Missing) == 3 && len(now.Nodes) == 4 && abnormal(now, live.KindServerAway, "redis") &&
			abnormal(now, live.KindViewPartial, "") && !abnormal(now, live.KindNodeLost, "")
	})
	c.redis.Resume()
	eventually(t, "all are seen again", func() bool {
		now := snapshot(here)
		return now != nil && now.Complete && len(now.Nodes) == 4
	})

	c.redisDoes("CONFIG SET maxmemory 1")
	eventually(t, "a Redis that refuses every write is named, with what it says", func() bool {
		now := snapshot(here)
		return now != nil && abnormal(now, live.KindServerAway, "redis") && slices.ContainsFunc(now.Abnormal, func(f live.Finding) bool {
			return f.Kind == live.KindServerAway && strings.Contains(f.Text, "OOM")
		})
	})
	var at time.Time
	for range 5 { // what a node can leave and read is another thing twice a second
		var now *live.Snapshot
		eventually(t, "the next snapshot", func() bool { now = snapshot(here); return now != nil && now.At.After(at) })
		if at = now.At; abnormal(now, live.KindNodeUnseen, "") || !abnormal(now, live.KindViewPartial, "") {
			t.Errorf("a node is blamed for what Redis refuses: %+v", now.Abnormal)
		}
	}
	c.redisDoes("CONFIG SET maxmemory 0")
	eventually(t, "all are seen again", func() bool {
		now := snapshot(here)
		return now != nil && now.Complete && len(now.Nodes) == 4 && !abnormal(now, live.KindServerAway, "redis")
	})

	c.kafka.Pause()
	c.flush() // a rebuild waits for Kafka, so that workers notice too
	eventually(t, "without Kafka it is named, and the shards that wait for it", func() bool {
		now := snapshot(here)
		return now != nil && abnormal(now, live.KindServerAway, "kafka") && now.Shards.Closed+now.Shards.Rebuilding > 0
	})
	c.kafka.Resume()
	eventually(t, "of the outage nothing is left, on workers neither", func() bool {
		now := snapshot(here)
		return now != nil && now.Complete && !slices.ContainsFunc(now.Abnormal, func(f live.Finding) bool { return f.Severity != live.Info })
	})
}

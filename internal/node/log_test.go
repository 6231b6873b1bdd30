package node

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/live"
)

// linesBuffer is a log that is read while it is written.
type linesBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *linesBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// TestLog_EachLineSaysWhoseItIs: a process starts, can't reach its servers, and stops. Every line
// has the component, the node and the version.
func TestLog_EachLineSaysWhoseItIs(t *testing.T) {
	c := testConfig(t)
	c.AdminToken, c.Version, c.Listen = liveToken, "v7", "127.0.0.1:0"
	out := new(linesBuffer)
	n, err := Start(t.Context(), c, RoleGateway|RoleWorker, slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	s := &liveShop{Node: n, t: t}
	s.see("a snapshot", func(*live.Snapshot) bool { return true })
	if err := n.servers.queue.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.health.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	stopped := n.Stop(ctx)
	t.Logf("stopped: %v", stopped)
	out.mu.Lock()
	defer out.mu.Unlock()
	lines := 0
	for line := range strings.Lines(out.text.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines++
		if fields["component"] == nil || fields["component"] == "" {
			t.Errorf("no component: %s", line)
		}
		if fields["version"] != "v7" || fields["node"] != n.name() {
			t.Errorf("no node or version: %s", line)
		}
	}
	if lines == 0 {
		t.Error("nothing was logged, so nothing was seen")
	}
}

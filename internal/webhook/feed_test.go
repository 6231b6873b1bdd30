package webhook

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/live"
)

// fed starts a sender with its own hub.
func fed(t *testing.T, node string, m *memory, url string) *live.Hub {
	t.Helper()
	s, _ := start(t, node, m, nil)
	d := hooks(map[string]string{"one": url})
	d.Webhooks[0].Events = Kinds()
	s.Apply(d)
	hub := live.NewHub()
	f := Feed{hub, s, slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	eventually(t, "it watches", func() bool { return hub.Stats().Watchers == 1 })
	return hub
}

func publish(t *testing.T, kind string, data any, hubs ...*live.Hub) {
	t.Helper()
	for _, hub := range hubs {
		if err := hub.Publish(kind, "", time.Now(), data); err != nil {
			t.Fatal(err)
		}
	}
}

func lag(state string) live.Alarm {
	return live.Alarm{State: state, Finding: live.Finding{Kind: "queue-lag", Subject: "queue"}}
}

// Two nodes see the same events. The receiver gets each step once, also when an alarm comes again.
func TestFeed_OneIDForAllNodes(t *testing.T) {
	m, r := newMemory(), newReceiver(t, takes)
	a, b := fed(t, "a@1", m, r.url), fed(t, "b@1", m, r.url)
	seen := make(map[string]bool)
	for i, step := range []struct {
		kind string
		data any
	}{
		{live.EventAlarm, lag(live.AlarmRaised)}, {live.EventAlarm, lag(live.AlarmCleared)}, {live.EventAlarm, lag(live.AlarmRaised)},
		{live.EventChange, live.Change{Number: 7}}, {live.EventLevel, live.Incident{Node: "a@1", State: "D1"}},
		{live.EventLevel, live.Incident{Node: "b@1", State: "D1"}}, {live.EventLevel, live.Incident{Node: "a@1", State: "D2"}},
	} {
		publish(t, step.kind, step.data, a, b)
		g := r.next()
		if g.header.Get("Penstock-Event") != step.kind || seen[g.id()] {
			t.Fatalf("step %d is posted as %s %s", i, g.header.Get("Penstock-Event"), g.id())
		}
		seen[g.id()] = true
		eventually(t, "both are done with it", func() bool {
			is, nodes := m.isDone("webhook:one:" + g.id())
			return is && nodes == 2
		})
	}
	// A node that has just started finds that the alarm was sent already.
	publish(t, live.EventAlarm, lag(live.AlarmRaised), fed(t, "c@1", m, r.url))
	publish(t, live.EventChange, live.Change{Number: 8}, a, b)
	if g := r.next(); g.id() != "change-8" {
		t.Errorf("posted %s", g.id())
	}
}

// While ownership can't be decided, each node sends. The id is the same if the clocks agree on the
// minute.
func TestFeed_WithoutClaims(t *testing.T) {
	m, r := newMemory(), newReceiver(t, takes)
	m.setAway(true)
	a, b := fed(t, "a@1", m, r.url), fed(t, "b@1", m, r.url)
	at := time.Unix(1_000_000, 0)
	for _, hub := range []*live.Hub{a, b} {
		if err := hub.Publish(live.EventAlarm, "", at, lag(live.AlarmRaised)); err != nil {
			t.Fatal(err)
		}
	}
	if one, two := r.next(), r.next(); one.id() != two.id() {
		t.Errorf("ids %s and %s", one.id(), two.id())
	}
}

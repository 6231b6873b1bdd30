package webhook

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/wait"
)

// Feed passes the events of a hub to a sender. Every node has its own hub with its own ids. A feed
// gives each event an id that is the same on all nodes:
//
//   - for a change, its number;
//   - for any other event, its subject and the state that the subject is in now. The first node
//     that sees a state proposes an id, and the others use it. The next state replaces it.
//
// While ownership can't be asked for, an id is made from the event and the minute: it is the same
// on most nodes.
type Feed struct {
	Hub    *live.Hub
	Sender *Sender
	Log    *slog.Logger
}

// The times of a feed.
const (
	stateLife    = time.Hour // how long the id of a state is known; prolonged while the state lasts
	prolongEvery = 10 * time.Minute
	maxTopics    = 4096 // subjects with remembered states
)

// topicState is the state of a subject, and the id of the event about it.
type topicState struct{ state, id string }

// Run feeds until ctx ends. If a hub ends, or cuts this reader off, Run subscribes again from the
// same place.
func (f *Feed) Run(ctx context.Context) {
	topics := make(map[string]topicState)
	after := ""
	for ctx.Err() == nil {
		w, err := f.Hub.Subscribe(live.Filter{Types: Kinds(), After: after})
		if errors.Is(err, live.ErrClosed) {
			return
		}
		if err != nil {
			f.Log.Warn("webhooks can't watch the events, trying again", "err", err)
			if !wait.For(ctx, time.Second) {
				return
			}
			continue
		}
		after = f.follow(ctx, w, topics, after)
		w.Close()
	}
}

// follow feeds the events of one subscription, and returns the id of the last one.
func (f *Feed) follow(ctx context.Context, w *live.Watcher, topics map[string]topicState, after string) string {
	tick := time.NewTicker(prolongEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return after
		case <-tick.C:
			f.prolong(ctx, topics)
		case e, open := <-w.Events():
			if !open {
				return after
			}
			after = e.ID
			id, err := f.identify(ctx, &e, topics)
			if err != nil {
				f.Log.Error("event can't be sent to webhooks", "event", e.ID, "type", e.Type, "err", err)
				continue
			}
			f.Sender.Send(Event{ID: id, Kind: e.Type, At: e.At, Data: e.Data})
		}
	}
}

// identify returns the id that an event has on all nodes.
func (f *Feed) identify(ctx context.Context, e *live.Event, topics map[string]topicState) (string, error) {
	switch e.Type {
	case live.EventChange:
		var c live.Change
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return "", err
		}
		return fmt.Sprint("change-", c.Number), nil
	case live.EventAlarm:
		var a live.Alarm
		if err := json.Unmarshal(e.Data, &a); err != nil {
			return "", err
		}
		return f.agree(ctx, e, []string{a.Finding.Kind, a.Finding.Subject}, a.State, topics), nil
	}
	var i live.Incident
	if err := json.Unmarshal(e.Data, &i); err != nil {
		return "", err
	}
	return f.agree(ctx, e, []string{i.Node, i.Subject}, i.State, topics), nil
}

// agree returns the id that all nodes use for the current state of a topic.
func (f *Feed) agree(ctx context.Context, e *live.Event, about []string, state string, topics map[string]topicState) string {
	topic := e.Type + "\x00" + strings.Join(about, "\x00")
	before, known := topics[topic]
	if len(topics) >= maxTopics && !known {
		clear(topics) // earlier states are sent again; their ids are remembered for an hour
	}
	id := e.Type + "-" + rand.Text()
	if owners := f.Sender.owners; owners != nil {
		agreed, err := owners.Own(ctx, stateName(topic, state), id, stateLife)
		if err == nil && known && before.state != state {
			err = owners.Release(ctx, stateName(topic, before.state))
		}
		if id = agreed; agreed == "" {
			sum := sha256.Sum256([]byte(topic + "\x00" + state))
			id = fmt.Sprintf("%s-%s-%d", e.Type, hex.EncodeToString(sum[:8]), e.At.Unix()/60)
		}
		if err != nil {
			f.Log.Warn("nodes can't agree on the id of an event, each may send it", "event", id, "err", err)
		}
	}
	topics[topic] = topicState{state, id}
	return id
}

func stateName(topic, state string) string { return "event:" + topic + "\x00" + state }

// prolong keeps the ids of states that last.
func (f *Feed) prolong(ctx context.Context, topics map[string]topicState) {
	if f.Sender.owners == nil {
		return
	}
	for topic, is := range topics {
		if _, err := f.Sender.owners.Own(ctx, stateName(topic, is.state), is.id, stateLife); err != nil {
			f.Log.Debug("id of an event is not kept", "event", is.id, "err", err)
			return // the others would fail, too
		}
	}
}

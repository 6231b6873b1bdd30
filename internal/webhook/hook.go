package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Hook is a receiver.
type Hook struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events"` // names of kinds; sorted
	Secret string   `json:"secret"` // signs the posts; encrypted by internal/vault for Owner
}

// Owner returns the owner name with which the secret of a hook is encrypted.
func Owner(name string) string { return "webhook " + name }

// Wants reports whether events of a kind are sent to it.
func (h *Hook) Wants(kind string) bool { return slices.Contains(h.Events, kind) }

// Document is all hooks: the settings document `webhooks`, as JSON.
type Document struct {
	Webhooks []Hook `json:"webhooks"` // by name
}

// MaxHooks is the most hooks of an installation.
const MaxHooks = 32

// ParseDocument reads a document; an empty text is one without hooks. It refuses unknown members,
// because they may be important.
func ParseDocument(text []byte) (d Document, err error) {
	if len(text) == 0 {
		return d, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return d, fmt.Errorf("webhooks: %w", err)
	}
	if len(d.Webhooks) > MaxHooks {
		return d, fmt.Errorf("webhooks: %d are more than %d", len(d.Webhooks), MaxHooks)
	}
	return d, nil
}

// Find returns the hook with a name, or nil.
func (d *Document) Find(name string) *Hook {
	for i := range d.Webhooks {
		if d.Webhooks[i].Name == name {
			return &d.Webhooks[i]
		}
	}
	return nil
}

// Put puts a hook in place of the one of its name.
func (d *Document) Put(h Hook) {
	if old := d.Find(h.Name); old != nil {
		*old = h
		return
	}
	at, _ := slices.BinarySearchFunc(d.Webhooks, h.Name, func(have Hook, name string) int {
		return bytes.Compare([]byte(have.Name), []byte(name))
	})
	d.Webhooks = slices.Insert(d.Webhooks, at, h)
}

// Remove takes a hook out, and reports whether there was one.
func (d *Document) Remove(name string) bool {
	before := len(d.Webhooks)
	d.Webhooks = slices.DeleteFunc(d.Webhooks, func(h Hook) bool { return h.Name == name })
	return len(d.Webhooks) < before
}

// The kinds of events.
const (
	Alarm   = "alarm"
	Change  = "change"
	Node    = "node"
	Rebuild = "rebuild"
	Breaker = "breaker"
	Level   = "level"
)

// Kinds returns the kinds of events that a hook may ask for.
func Kinds() []string { return []string{Alarm, Breaker, Change, Level, Node, Rebuild} }

// Event is something that happened. Every node that sees it gives it the same ID, which has visible
// ASCII characters only.
type Event struct {
	ID   string
	Kind string
	At   time.Time
	Data json.RawMessage // an object
}

// body is the posted form of an event; the same bytes with every attempt.
func (e *Event) body() ([]byte, error) {
	text, err := json.Marshal(struct {
		ID    string          `json:"id"`
		Event string          `json:"event"`
		At    time.Time       `json:"at"`
		Data  json.RawMessage `json:"data"`
	}{e.ID, e.Kind, e.At.UTC(), e.Data})
	if err != nil {
		return nil, fmt.Errorf("write event %s: %w", e.ID, err)
	}
	return text, nil
}

// State is the state of the deliveries to a receiver.
type State struct {
	Waiting   int            `json:"waiting"`    // events in the queue, including the one in progress
	Sent      int64          `json:"sent"`       // events that were accepted
	GivenUp   int64          `json:"given_up"`   // events that it never got: refused, too old, or dropped by a full queue
	LastOK    *time.Time     `json:"last_ok"`    // when it last accepted an event; null: never
	LastError *FailedAttempt `json:"last_error"` // the last failed attempt; null: none
}

// FailedAttempt is an attempt that failed.
type FailedAttempt struct {
	At    time.Time `json:"at"`
	Event string    `json:"event"` // its id
	Error string    `json:"error"`
}

// Merge joins the states of several nodes. All nodes queue the same events, so the numbers of
// waiting and given-up events are the maximum of the nodes, and the number of sent events is the
// sum.
func Merge(states ...State) (out State) {
	for i := range states {
		s := &states[i]
		out.Waiting, out.GivenUp = max(out.Waiting, s.Waiting), max(out.GivenUp, s.GivenUp)
		out.Sent += s.Sent
		if s.LastOK != nil && (out.LastOK == nil || s.LastOK.After(*out.LastOK)) {
			out.LastOK = s.LastOK
		}
		if s.LastError != nil && (out.LastError == nil || s.LastError.At.After(out.LastError.At)) {
			out.LastError = s.LastError
		}
	}
	return out
}

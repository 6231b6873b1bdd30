package live

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The types of events.
const (
	EventLive    = "live"    // a Snapshot, once a second; it has no id and is never sent again
	EventChange  = "change"  // a change was recorded: a Change
	EventAlarm   = "alarm"   // a finding was raised or has cleared: an Alarm
	EventNode    = "node"    // a node came, is lost, drains, or has gone: an Incident
	EventRebuild = "rebuild" // shards are being rebuilt, or are open again: an Incident
	EventBreaker = "breaker" // a breaker of a node has changed its state: an Incident
	EventLevel   = "level"   // a node's degrade level has changed: an Incident
)

// EventTypes returns all types.
func EventTypes() []string {
	return []string{EventLive, EventChange, EventAlarm, EventNode, EventRebuild, EventBreaker, EventLevel}
}

// Bounds of a Hub.
const (
	MaxWatchers = 64  // subscriptions at once
	MaxKept     = 512 // events that are kept for clients that come back
	maxPending  = 32  // live events by which a reader may be late before it is cut off
)

// ErrFull means that a hub has its maximum of watchers; ErrClosed means that it has ended.
var (
	ErrFull   = errors.New("too many watchers")
	ErrClosed = errors.New("the live view has ended")
)

// Event is something that has happened, or the second's Snapshot.
type Event struct {
	ID       string // the value for Filter.After; "" for EventLive
	Type     string
	At       time.Time
	Merchant string // the merchant of the event; "" for the installation
	// Data is its JSON: a Change, an Alarm or an Incident. It is nil for EventLive, which has a
	// View.
	Data json.RawMessage
	View *View
}

// Alarm is the data of EventAlarm.
type Alarm struct {
	At      time.Time `json:"at"`    // when it was raised, or had cleared
	State   string    `json:"state"` // raised, cleared
	Finding Finding   `json:"finding"`
}

// The states of an Alarm.
const (
	AlarmRaised  = "raised"
	AlarmCleared = "cleared"
)

// Incident is the data of EventNode, EventRebuild, EventBreaker and EventLevel.
type Incident struct {
	At      time.Time `json:"at"`
	Node    string    `json:"node"`    // empty if it is not about a node
	Subject string    `json:"subject"` // the breaker, or ""
	State   string    `json:"state"`   // its present state
	Text    string    `json:"text"`    // one plain sentence
}

// Filter selects a watcher's events.
type Filter struct {
	Types []string // nil means all
	// Merchant restricts the feed to one merchant: its events, and snapshots of its data.
	Merchant string
	// After is the id of the last event that the watcher has seen: kept events after it come first.
	// "" means none. If the id is no longer known, all kept events come first.
	After string
	// Kept asks for all kept events, if After is "".
	Kept bool
}

func (f *Filter) takes(e *Event) bool {
	if f.Types != nil && !slices.Contains(f.Types, e.Type) {
		return false
	}
	return f.Merchant == "" || e.Type == EventLive || e.Merchant == f.Merchant
}

// Hub passes events to its watchers. It waits for none of them. It is safe for concurrent use; its
// zero value isn't ready, NewHub makes one.
//
//	w, err := hub.Subscribe(live.Filter{Types: []string{live.EventAlarm, live.EventChange}})
//	if err != nil { … }
//	defer w.Close()
//	for event := range w.Events() { … } // ends when the hub does, or when this reader is too slow
type Hub struct {
	instance string // a part of all ids, so that ids of another process are recognized
	past     Histories

	mu       sync.Mutex
	kept     []Event               // the newest MaxKept events without live ones, oldest first; guarded by mu
	number   uint64                // guarded by mu: of the newest
	view     *View                 // guarded by mu: the newest; nil before the first
	looked   time.Time             // guarded by mu: the time of the last request for a snapshot
	began    time.Time             // when the current series of looks began; guarded by mu
	watchers map[*Watcher]struct{} // guarded by mu
	closed   bool                  // guarded by mu
	cut      uint64                // guarded by mu: watchers that were too slow
}

// NewHub returns a hub without events.
func NewHub() *Hub {
	var raw [6]byte
	rand.Read(raw[:]) // never fails
	return &Hub{instance: hex.EncodeToString(raw[:]), watchers: make(map[*Watcher]struct{})}
}

// Watcher is a subscription. Its methods are safe for concurrent use.
type Watcher struct {
	hub    *Hub
	filter Filter
	events chan Event
	slow   bool // guarded by hub.mu: it was cut off
}

// Subscribe begins to watch. The watcher first gets the kept events after f.After, then the newest
// snapshot, then new events. The error is ErrFull or ErrClosed. The caller must call Close.
func (h *Hub) Subscribe(f Filter) (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, ErrClosed
	case len(h.watchers) >= MaxWatchers:
		return nil, ErrFull
	}
	missed := h.missedLocked(&f)
	w := &Watcher{hub: h, filter: f, events: make(chan Event, len(missed)+maxPending)}
	for i := range missed {
		w.events <- missed[i]
	}
	if h.view != nil {
		w.sendLocked(&Event{Type: EventLive, At: h.view.At(), View: h.view})
	}
	h.watchers[w] = struct{}{}
	return w, nil
}

// missedLocked returns the kept events that the watcher has not seen.
func (h *Hub) missedLocked(f *Filter) (missed []Event) {
	after, known := h.numberOf(f.After)
	if f.After == "" && !f.Kept {
		return nil
	}
	first := h.number - uint64(len(h.kept)) // the number before the oldest that is kept
	for i := range h.kept {
		if number := first + uint64(i) + 1; known && number <= after {
			continue
		}
		if f.takes(&h.kept[i]) {
			missed = append(missed, h.kept[i])
		}
	}
	return missed
}

// numberOf reads an id. It is unknown if it comes from another process, or from the future.
func (h *Hub) numberOf(id string) (number uint64, known bool) {
	instance, text, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || instance != h.instance || number > h.number {
		return 0, false
	}
	return number, true
}

// Events is closed when the hub ends, when the reader is too slow, and by Close.
func (w *Watcher) Events() <-chan Event { return w.events }

// Slow reports that the watcher was cut off because it did not read.
func (w *Watcher) Slow() bool {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return w.slow
}

// Close ends the subscription. Closing twice is the same as once.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.endLocked()
}

func (w *Watcher) endLocked() {
	if _, watching := w.hub.watchers[w]; watching {
		delete(w.hub.watchers, w)
		close(w.events)
	}
}

// sendLocked passes an event on, or cuts the watcher off.
func (w *Watcher) sendLocked(e *Event) {
	if !w.filter.takes(e) {
		return
	}
	select {
	case w.events <- *e:
	default:
		w.slow = true
		w.hub.cut++
		w.endLocked()
	}
}

// Publish keeps an event and passes it to all watchers. data is marshalled once.
func (h *Hub) Publish(kind, merchant string, at time.Time, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	h.number++
	e := Event{
		ID: h.instance + "-" + strconv.FormatUint(h.number, 10), Type: kind, At: at, Merchant: merchant, Data: text,
	}
	if h.kept = append(h.kept, e); len(h.kept) > MaxKept {
		h.kept = slices.Delete(h.kept, 0, len(h.kept)-MaxKept)
	}
	for w := range h.watchers {
		w.sendLocked(&e)
	}
	return nil
}

// Show makes a snapshot the newest one, and passes it to all watchers. It must not be changed
// afterwards.
func (h *Hub) Show(s *Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.view = NewView(s)
	h.past.Add(s)
	e := Event{Type: EventLive, At: s.At, View: h.view}
	for w := range h.watchers {
		w.sendLocked(&e)
	}
}

// View returns the newest snapshot, nil before the first.
func (h *Hub) View() *View {
	v, _ := h.look()
	return v
}

// look returns the newest snapshot, and the time until which it is useful to wait for the stock.
func (h *Hub) look() (v *View, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.looked.IsZero() || now.Sub(h.looked) >= watchedFor {
		h.began = now
	}
	h.looked = now
	return h.view, h.began.Add(firstLook)
}

// firstLook bounds how long Look waits for the stock.
const firstLook = 3 * time.Second

// Look is View for a caller that looks only once. If there were no watchers lately, it waits until
// the stock was read, for at most three seconds, or until ctx ends. If the stock did not come in
// that time, for example because Redis can't be reached, later looks don't wait for it.
func (h *Hub) Look(ctx context.Context) *View {
	v, until := h.look()
	if v == nil || v.hasStock() {
		return v
	}
	w, err := h.Subscribe(Filter{Types: []string{EventLive}})
	if err != nil {
		return v
	}
	defer w.Close()
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return v
		case e, ok := <-w.Events():
			if !ok {
				return v
			}
			if v = e.View; v.hasStock() {
				return v
			}
		}
	}
}

// Latest is View for internal use: it doesn't count as watching.
func (h *Hub) Latest() *View {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.view
}

// WithHistory returns the JSON of a snapshot with the last fifteen minutes, as a reader may see it.
func (h *Hub) WithHistory(v *View, r Reader) ([]byte, error) {
	return NewView(h.past.Fill(v.snapshot)).JSON(r)
}

// watchedFor is how long after a look the stock is still read.
const watchedFor = 10 * time.Second

// Watched reports whether there are watchers. Expensive data is read only for them.
func (h *Hub) Watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.looked.IsZero() && time.Since(h.looked) < watchedFor {
		return true
	}
	for w := range h.watchers {
		if w.filter.takes(&Event{Type: EventLive}) {
			return true
		}
	}
	return false
}

// HubStats has a hub's numbers.
type HubStats struct {
	Watchers int
	Kept     int
	Cut      uint64 // watchers that were too slow
}

// Stats returns the hub's numbers.
func (h *Hub) Stats() HubStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return HubStats{len(h.watchers), len(h.kept), h.cut}
}

// Close ends all subscriptions; later ones get ErrClosed.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		w.endLocked()
	}
}

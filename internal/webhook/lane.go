package webhook

import (
	"sync"
	"time"
)

// queued is an event in a lane.
type queued struct {
	event *Event
	since time.Time // when it was queued, on this process's clock
}

// lane has the waiting events of one receiver.
type lane struct {
	name    string        // fixed
	filled  chan struct{} // gets a value when an event is queued; capacity 1
	changed chan struct{} // gets a value when the hook was changed; capacity 1

	mu    sync.Mutex
	hook  Hook     // guarded by mu
	queue []queued // oldest first; guarded by mu
	state State    // guarded by mu
}

func newLane(h Hook) *lane {
	return &lane{name: h.Name, hook: h, filled: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

func (l *lane) change(h Hook) {
	l.mu.Lock()
	same := l.hook.URL == h.URL && l.hook.Secret == h.Secret
	l.hook = h
	l.mu.Unlock()
	if !same {
		signal(l.changed)
	}
}

// put queues an event that the hook wants. It returns the id of the event that was dropped for it,
// or "" if there was room. The dropped event may be the one in progress: it is still sent, but its
// result is not counted.
func (l *lane) put(e Event, now time.Time, most int) (forgot string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hook.Wants(e.Kind) {
		return ""
	}
	if len(l.queue) >= most {
		forgot = l.queue[0].event.ID
		l.queue = append(l.queue[:0], l.queue[1:]...)
		l.state.GivenUp++
	}
	l.queue = append(l.queue, queued{&e, now})
	signal(l.filled)
	return forgot
}

// head returns the oldest event and the current hook; nil if nothing waits.
func (l *lane) head() (*Event, Hook, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, l.hook, time.Time{}
	}
	return l.queue[0].event, l.hook, l.queue[0].since
}

// drop takes an event out of the queue, if it is still there; givenUp means that the receiver never
// got it.
func (l *lane) drop(e *Event, givenUp bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked(e, givenUp)
}

func (l *lane) dropLocked(e *Event, givenUp bool) {
	if len(l.queue) == 0 || l.queue[0].event != e {
		return // it was dropped in the meantime, and counted
	}
	l.queue = append(l.queue[:0], l.queue[1:]...)
	if givenUp {
		l.state.GivenUp++
	}
}

// sent records that the receiver has an event.
func (l *lane) sent(e *Event) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Sent++
	l.state.LastOK = &now
	l.dropLocked(e, false)
}

// failed records a failed attempt.
func (l *lane) failed(e *Event, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.LastError = &FailedAttempt{time.Now().UTC().Truncate(time.Millisecond), e.ID, err.Error()}
}

// now returns the state at this moment.
func (l *lane) now() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Waiting = len(l.queue)
	return s
}

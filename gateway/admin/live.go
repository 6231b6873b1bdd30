package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/live"
)

// noLive is the answer before the first snapshot, which comes within a second of the start.
func noLive() error {
	return &refusal{problem.Problem{
		Code: problem.Unavailable, RetryAfter: time.Second, Detail: "There is no snapshot: this node has just started, or is stopping.",
	}}
}

// getLive answers GET /admin/v1/live.
func (c *call) getLive() error {
	query := c.r.URL.Query()
	m := new(mistakes)
	for name, values := range query {
		switch {
		case name != "history":
			m.add("parameter "+name, "is unknown")
		case len(values) != 1 || !slices.Contains([]string{"", "true", "false"}, values[0]):
			m.add("parameter history", "must be true or false, or have no value")
		}
	}
	if err := m.err(); err != nil {
		return err
	}
	hub := c.server.deps.Live
	if hub == nil {
		return noLive()
	}
	view := hub.Look(c.r.Context())
	if view == nil {
		return noLive()
	}
	read := view.JSON
	if query.Has("history") && query.Get("history") != "false" {
		read = func(r live.Reader) ([]byte, error) { return hub.WithHistory(view, r) }
	}
	text, err := read(c.reader())
	if err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	c.write(http.StatusOK, "application/json", text)
	return nil
}

// reader returns which parts of a snapshot the holder may see.
func (c *call) reader() live.Reader {
	return live.Reader{Merchant: string(c.token.merchant), Buyers: c.token.seesBuyers()}
}

// The times of a stream of events.
const (
	// eventsHeartbeat is how often a comment is sent when there are no events. It makes proxies
	// keep the connection, and shows when the client is gone.
	eventsHeartbeat = 10 * time.Second
	// eventsWrite is how long one write may take; a slower client is disconnected.
	eventsWrite = 5 * time.Second
	// eventsCheck is how often the token is checked again.
	eventsCheck = time.Second
	// eventsRetry is the pause before a client connects again, in milliseconds.
	eventsRetry = 1000
)

// eventsFilter reads the types of events to send, and the id of the last event that the client has.
func (c *call) eventsFilter() (live.Filter, error) {
	query := c.r.URL.Query()
	m := new(mistakes)
	f := live.Filter{Merchant: string(c.token.merchant), After: c.r.Header.Get("Last-Event-Id")}
	for name, values := range query {
		switch {
		case name != "types" && name != "last_event_id":
			m.add("parameter "+name, "is unknown")
		case len(values) > 1:
			m.add("parameter "+name, "must be given once")
		}
	}
	if query.Has("types") {
		f.Types = strings.Split(query.Get("types"), ",")
		for _, kind := range f.Types {
			if !slices.Contains(live.EventTypes(), kind) {
				m.add("parameter types", "must be of "+strings.Join(live.EventTypes(), ", ")+", separated by commas")
				break
			}
		}
	}
	if f.After == "" {
		f.After = query.Get("last_event_id")
	}
	return f, m.err()
}

// events answers GET /admin/v1/events: server-sent events, as defined in WHATWG's HTML standard.
func (c *call) events() error {
	filter, err := c.eventsFilter()
	if err != nil {
		return err
	}
	hub := c.server.deps.Live
	if hub == nil {
		return noLive()
	}
	if c.r.Method == http.MethodHead {
		c.eventsHeader()
		return nil
	}
	watcher, err := hub.Subscribe(filter)
	switch {
	case errors.Is(err, live.ErrFull):
		return &refusal{problem.Problem{
			Code: problem.Overloaded, RetryAfter: 5 * time.Second,
			Detail: fmt.Sprintf("This node has %d watchers already, the maximum.", live.MaxWatchers),
		}}
	case err != nil:
		return noLive()
	}
	defer watcher.Close()
	// A stream doesn't count as a request in flight, so that it takes no place from others.
	c.server.inFlight.Add(-1)
	defer c.server.inFlight.Add(1)
	s := &eventStream{call: c, out: http.NewResponseController(c.w), reader: c.reader()}
	if err := s.out.SetReadDeadline(time.Time{}); err != nil { // otherwise the deadline would end the stream
		return fmt.Errorf("keep the connection: %w", err)
	}
	c.eventsHeader()
	s.run(c.sent.Context(), watcher)
	return nil
}

func (c *call) eventsHeader() {
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.w.Header().Set("X-Accel-Buffering", "no") // so that nginx doesn't hold events back
	c.w.WriteHeader(http.StatusOK)
}

// eventStream writes events to one client.
type eventStream struct {
	call   *call
	out    *http.ResponseController
	reader live.Reader
	buffer bytes.Buffer
	whole  bool // a snapshot with its history was sent
}

// run writes until the client goes away or is too slow, the hub ends, the process stops, or the
// token is not valid any more.
func (s *eventStream) run(ctx context.Context, watcher *live.Watcher) {
	heartbeat, check := time.NewTicker(eventsHeartbeat), time.NewTicker(eventsCheck)
	defer heartbeat.Stop()
	defer check.Stop()
	fmt.Fprintf(&s.buffer, "retry: %d\n\n", eventsRetry)
	for s.flush() == nil {
		select {
		case <-ctx.Done():
			return
		case <-s.call.server.stopping:
			return
		case event, more := <-watcher.Events():
			if !more || s.add(&event) != nil {
				return
			}
			heartbeat.Reset(eventsHeartbeat)
		case <-heartbeat.C:
			s.buffer.WriteString(":\n\n")
		case <-check.C:
			if !s.call.stillMay(ctx) {
				return
			}
		}
	}
}

// add puts an event into the buffer. The first snapshot has the history.
func (s *eventStream) add(e *live.Event) error {
	data, err := []byte(e.Data), error(nil)
	switch {
	case e.View != nil && !s.whole:
		s.whole = true
		data, err = s.call.server.deps.Live.WithHistory(e.View, s.reader)
	case e.View != nil:
		data, err = e.View.JSON(s.reader)
	}
	if err != nil {
		s.call.server.quiet.write(kindInternal, slog.LevelError, "event not written", "type", e.Type, "err", err)
		return err
	}
	if e.ID != "" {
		fmt.Fprintf(&s.buffer, "id: %s\n", e.ID)
	}
	fmt.Fprintf(&s.buffer, "event: %s\ndata: %s\n\n", e.Type, data) // JSON has no line breaks
	return nil
}

// flush sends the buffer.
func (s *eventStream) flush() error {
	if s.buffer.Len() == 0 {
		return nil
	}
	if err := s.out.SetWriteDeadline(time.Now().Add(eventsWrite)); err != nil {
		return err
	}
	if _, err := s.call.w.Write(s.buffer.Bytes()); err != nil {
		return err
	}
	s.buffer.Reset()
	if s.buffer.Cap() > maxKeptBuffer {
		s.buffer = bytes.Buffer{}
	}
	return s.out.Flush()
}

// maxKeptBuffer is how much memory a stream keeps between two events: a snapshot with its history
// has more.
const maxKeptBuffer = 256 << 10

// stillMay reports whether the token is still valid, with the same rights.
func (c *call) stillMay(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.server.cfg.RequestTimeout)
	defer cancel()
	tokens := c.server.tokens
	who, err := tokens.identify(ctx, tokens.hash(bearer(c.r.Header.Get("Authorization"), c.sessionCookie())))
	if r, refused := errors.AsType[*refusal](err); refused && r.Code == problem.Unauthenticated || errors.Is(err, errUnknownToken) {
		return false
	}
	// If the store can't be asked, the stream goes on: the token was valid before, and operators
	// need the view most at such a time.
	return err != nil || who.merchant == c.token.merchant && who.role.Includes(c.route.role)
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/wait"
)

// event is one of a stream of server-sent events (WHATWG HTML, section 9.2).
type event struct {
	ID   string
	Type string
	Data []byte
}

// readEvents calls take for each event of a stream, until the stream ends or take returns an error.
// heard is called for every line, also for comments.
func readEvents(stream io.Reader, heard func(), take func(event) error) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 0, 64<<10), maxAdminAnswer)
	var e event
	for lines.Scan() {
		heard()
		line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
		if len(line) == 0 { // the end of an event; an event without data doesn't count
			if len(e.Data) > 0 {
				e.Data = bytes.TrimSuffix(e.Data, []byte("\n"))
				if err := take(e); err != nil {
					return err
				}
			}
			e = event{ID: e.ID}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			e.Type = string(value)
		case "id":
			e.ID = string(value)
		case "data":
			e.Data = append(append(e.Data, value...), '\n')
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF // a stream of events never ends by itself
}

// liveFeed follows the events of an installation. It belongs to one goroutine.
type liveFeed struct {
	client *adminClient
	types  []string      // the types of events to follow; nil is all
	after  string        // the id of the last event that was seen; "" is none
	quiet  time.Duration // a connection without data for so long counts as broken
}

var (
	errQuiet = errors.New("nothing was heard")
	// errNoEvents means that a server has no stream of events.
	errNoEvents = errors.New("the server has no stream of events")
)

// follow takes events until the connection ends, and returns the cause. If the server refuses, that
// is an *exitError with exitFailure.
func (f *liveFeed) follow(ctx context.Context, connected func(), take func(event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(f.quiet, func() { cancel(errQuiet) })
	defer dead.Stop()
	request := get("events")
	request.header = http.Header{"Accept": {"text/event-stream"}}
	if f.after != "" {
		request.header.Set("Last-Event-ID", f.after)
	}
	if f.types != nil {
		request.query = url.Values{"types": {strings.Join(f.types, ",")}}
	}
	sent, response, err := f.client.ask(ctx, &f.client.follow, request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		if response.StatusCode == http.StatusNotFound {
			return errNoEvents
		}
		return readError(request, sent, response)
	}
	connected()
	err = readEvents(response.Body, func() { dead.Reset(f.quiet) }, func(e event) error {
		if e.ID != "" {
			f.after = e.ID
		}
		return take(e)
	})
	if cause := context.Cause(ctx); errors.Is(cause, errQuiet) {
		err = fmt.Errorf("%w for %v", errQuiet, f.quiet)
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return err
	}
	return &exitError{exitDependency, fmt.Errorf("%s: the connection ended: %w", sent.URL.Host, err)}
}

// poll asks for the live view once.
func (f *liveFeed) poll(ctx context.Context) (*live.Snapshot, error) {
	s := new(live.Snapshot)
	if _, err := f.client.read(ctx, s, get("live")); err != nil {
		return nil, err
	}
	return s, nil
}

// sighting is a snapshot, or the reason why there is none now.
type sighting struct {
	snapshot *live.Snapshot
	err      error
}

// watch calls say with a sighting, once a second, until ctx ends; then it returns nil. It follows
// the stream of events. If a server has no stream, it polls once a second. When a connection
// breaks, it reports that to say and connects again; with several listeners, to the next one. If
// the server refuses, watch ends.
func (f *liveFeed) watch(ctx context.Context, say func(sighting)) error {
	pause := wait.Backoff{First: 250 * time.Millisecond, Longest: 3 * time.Second}
	for {
		err := f.follow(ctx, func() {}, func(e event) error {
			if e.Type != live.EventLive {
				return nil
			}
			s := new(live.Snapshot)
			if err := json.Unmarshal(e.Data, s); err != nil {
				return &exitError{exitFailure, fmt.Errorf("read the live view: %w", err)}
			}
			pause.Reset()
			say(sighting{snapshot: s})
			return nil
		})
		if errors.Is(err, errNoEvents) {
			err = f.polls(ctx, func(s *live.Snapshot) { pause.Reset(); say(sighting{snapshot: s}) })
		}
		if ctx.Err() != nil {
			return nil
		}
		if codeOf(err) != exitDependency {
			return err
		}
		say(sighting{err: err})
		f.client.at = (f.client.at + 1) % len(f.client.urls)
		if !pause.Wait(ctx) {
			return nil
		}
	}
}

// pollEvery is how often a server without events is asked.
const pollEvery = time.Second

// polls asks again and again, until there is an error.
func (f *liveFeed) polls(ctx context.Context, seen func(*live.Snapshot)) error {
	for {
		s, err := f.poll(ctx)
		if err != nil {
			return err
		}
		seen(s)
		if !wait.For(ctx, pollEvery) {
			return ctx.Err()
		}
	}
}

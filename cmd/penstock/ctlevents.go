package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/wait"
)

// eventsCommand prints events as they happen.
func eventsCommand() *cobra.Command {
	var types []string
	var after string
	cmd := command("events", "Print events as they happen: changes, alarms, nodes, rebuilds, breakers and levels", cobra.NoArgs, false,
		func(s *session, _ []string) error {
			known := live.EventTypes()
			for _, t := range types {
				if !slices.Contains(known, t) {
					return &exitError{exitUsage, fmt.Errorf("flag --types: there is no type %q%s: %s", t, nearest(t, known), strings.Join(known, ", "))}
				}
			}
			if len(types) == 0 {
				types = slices.DeleteFunc(known, func(t string) bool { return t == live.EventLive })
			}
			return s.events(&liveFeed{client: s.adminClient, types: types, after: after, quiet: 45 * time.Second})
		})
	cmd.Flags().StringSliceVar(&types, "types", nil,
		"types of events, separated by commas (default: all but live): "+strings.Join(live.EventTypes(), ", "))
	cmd.Flags().StringVar(&after, "after", "", "id of the last event that you have seen: events since then come first, if they are still kept")
	cmd.Long = cmd.Short + `, a line each, until ^C.

With -o json each line is an object with id, event and data. When the connection breaks it is made again, and goes on after the last
event that came.`
	return cmd
}

// events prints events as they come. When the connection breaks, it says so on stderr and connects
// again.
func (s *session) events(feed *liveFeed) error {
	ctx := s.cmd.Context()
	pause := wait.Backoff{First: 250 * time.Millisecond, Longest: 5 * time.Second}
	seen, broken := false, false
	for {
		err := feed.follow(ctx, func() {
			seen = true
			if broken { // a failed note to stderr must not stop the output to stdout
				_ = s.note("connected again")
			}
			broken = false
			pause.Reset()
		}, func(e event) error {
			if !slices.Contains(feed.types, e.Type) {
				return nil
			}
			return s.event(&e)
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNoEvents):
			return &exitError{exitFailure, err}
		case codeOf(err) != exitDependency || !seen:
			return err
		case !broken:
			broken = true
			if err := s.note("%v; trying again", err); err != nil {
				return err
			}
		}
		feed.client.at = (feed.client.at + 1) % len(feed.client.urls)
		if !pause.Wait(ctx) {
			return nil
		}
	}
}

// event prints one event.
func (s *session) event(e *event) error {
	if s.json {
		if !json.Valid(e.Data) {
			return &exitError{exitFailure, fmt.Errorf("read event %s: it isn't JSON", e.ID)}
		}
		line, err := json.Marshal(map[string]any{"id": e.ID, "event": e.Type, "data": json.RawMessage(e.Data)})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, escaped(string(line)))
		return err
	}
	text, err := eventText(e)
	if err != nil {
		return &exitError{exitFailure, fmt.Errorf("read event %s: %w", e.ID, err)}
	}
	_, err = io.WriteString(s.out, text+"\n")
	return err
}

// eventText writes an event as one line: time, type, and a sentence.
func eventText(e *event) (string, error) {
	line := func(at time.Time, text string) string {
		return fmt.Sprintf("%s  %-8s %s", at.Local().Format(time.RFC3339), shown(e.Type), shown(text))
	}
	switch e.Type {
	case live.EventLive:
		var s live.Snapshot
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return "", err
		}
		refused, _ := refusals(s.Totals.Refused)
		return line(s.At, fmt.Sprintf("accepted %s/s, refused %s/s, %d things not normal", rate(s.Totals.Accepted), rate(refused),
			len(s.Abnormal))), nil
	case live.EventChange:
		var c live.Change
		err := json.Unmarshal(e.Data, &c)
		return line(c.At, fmt.Sprintf("%d by %s: %s", c.Number, c.By, c.Text)), err
	case live.EventAlarm:
		var a live.Alarm
		err := json.Unmarshal(e.Data, &a)
		text := fmt.Sprintf("%s %s %s: %s", a.State, a.Finding.Severity, a.Finding.Subject, a.Finding.Text)
		if a.Finding.Ctl != "" && a.State == live.AlarmRaised {
			text += " → " + a.Finding.Ctl
		}
		return line(a.At, text), err
	}
	var i live.Incident
	err := json.Unmarshal(e.Data, &i)
	return line(i.At, strings.Join(slices.DeleteFunc([]string{i.Node, i.Subject, i.State, i.Text},
		func(s string) bool { return s == "" }), " ")), err
}

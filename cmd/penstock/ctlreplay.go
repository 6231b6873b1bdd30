package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// replayCounts are the members of a replay's report, in the order in which they are shown.
var replayCounts = []string{"records", "damaged", "promises", "existed", "made", "missing", "rejected", "parked", "skipped"}

// replayCommand reads the log again, part by part.
func replayCommand() *cobra.Command {
	var from, to, activity string
	var dryRun bool
	const short = "Read the queue's records of a span of time again, and make missing orders"
	cmd := asks(command("replay --from TIME --to TIME", short, cobra.NoArgs, true,
		func(s *session, _ []string) error {
			body := map[string]any{"dry_run": dryRun}
			for name, text := range map[string]string{"from": from, "to": to} {
				at, err := momentOf(text, time.Now())
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("flag --%s: %w", name, err)}
				}
				body[name] = at.UTC().Format(time.RFC3339Nano)
			}
			if activity != "" {
				body["activity"] = activity
			}
			if !dryRun {
				question := fmt.Sprintf("Read the log again from %s to %s, and make the missing orders?", body["from"], body["to"])
				if err := s.sure(question); err != nil {
					return err
				}
			}
			return s.replay(body)
		}))
	cmd.Flags().StringVar(&from, "from", "",
		"start of the span: a time like 2026-06-18T20:00:00+08:00, or 90m for that long ago")
	cmd.Flags().StringVar(&to, "to", "0s", "end of the span, in the same form")
	cmd.Flags().StringVar(&activity, "activity", "", "only orders of this activity")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "count the missing orders, but don't make them")
	cmd.Long = cmd.Short + `.

It reads beside the workers, and moves no position. An order that has a row stays as it is, one that has none is made by the
workers' own way, once: it is harmless to do twice, and changes nothing where nothing is missing.

  existed   have a row                      made      became orders now
  missing   would be tried (--dry-run)      rejected  are impossible now: sold out, or above the buyer's limit
  parked    fit no item now: dead letters   skipped   their shard was rebuilt since, or their activity is over
  damaged   records that can't be read

Look at the report of --dry-run first. Then let "penstock audit --deep" look for rows and counters that don't agree.`
	return cmd
}

// momentOf reads a time, or a duration before now.
func momentOf(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time like 2026-06-18T20:00:00+08:00 nor a duration like 90m", text)
	}
	return at, nil
}

// replay goes through the log part by part, and prints the sum.
func (s *session) replay(body map[string]any) error {
	sums := make(map[string]int64)
	shownAt := time.Now()
	for {
		text, _, err := s.call(s.cmd.Context(), adminRequest{method: http.MethodPost, path: []string{"replay"}, body: body})
		if err != nil {
			if after, begun := body["after"]; begun {
				if err := s.replayReport(sums); err != nil {
					return err
				}
				return fmt.Errorf("%w; the report covers the log up to %v: run it again, which changes no order that has a row already", err, after)
			}
			return err
		}
		var part map[string]any
		if err := json.Unmarshal(text, &part); err != nil {
			return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		for _, name := range replayCounts {
			n, ok := part[name].(float64)
			if !ok {
				return &exitError{exitFailure, fmt.Errorf("the answer has no %s", name)}
			}
			sums[name] += int64(n)
		}
		next, more := part["next"].(string)
		if !more {
			break
		}
		body["after"] = next
		if time.Since(shownAt) >= plainEvery {
			shownAt = time.Now()
			if err := s.note("%s were read, %s made, at %s", counted(sums["records"], "record"), counted(sums["made"], "order"), next); err != nil {
				return err
			}
		}
	}
	return s.replayReport(sums)
}

// replayReport prints the results of the part of the log that was read.
func (s *session) replayReport(sums map[string]int64) error {
	report := make(map[string]int64)
	for _, name := range replayCounts {
		report[name] = sums[name]
	}
	text, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return s.object(text, replayCounts...)
}

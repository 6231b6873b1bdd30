package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/seckill"
)

// bulkActivityCommands are the commands that clone, delete and edit activities without a document.
func bulkActivityCommands() []*cobra.Command {
	return []*cobra.Command{cloneCommand(), deleteDraftCommand(), editItemCommand()}
}

func cloneCommand() *cobra.Command {
	var starts, name string
	cmd := command("clone ACTIVITY NEW --starts-at TIME", "Make a draft like an activity, at another time", cobra.ExactArgs(2), true,
		func(s *session, args []string) error {
			at, err := time.Parse(time.RFC3339, starts)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("flag --starts-at: %q is not a time like 2026-06-18T20:00:00+08:00", starts)}
			}
			p := &plan{session: s}
			doc, _, err := p.find("activities", args[0])
			if err == nil && doc == nil {
				_, _, err = s.call(s.cmd.Context(), get("activities", args[0])) // finish with the error of this read
			}
			if err != nil {
				return err
			}
			if there, _, err := p.find("activities", args[1]); err != nil {
				return err
			} else if there != nil {
				return &exitError{exitFailure, fmt.Errorf("there is an activity %s already: delete it first, or choose another name", args[1])}
			}
			if err := moveActivity(doc, at); err != nil {
				return err
			}
			for _, member := range []string{"activity", "state", "ended_at"} {
				delete(doc, member)
			}
			if name != "" {
				doc["name"] = name
			}
			return s.show(put(doc, "activities", args[1]), activityMembers...)
		})
	cmd.Long = cmd.Short + `. It keeps its length, its merchant, and its items with their prices and limits.
The quantities are what the items have now, restocks included.`
	cmd.Flags().StringVar(&starts, "starts-at", "", "when the new one starts (RFC 3339)")
	cmd.Flags().StringVar(&name, "name", "", "name for people (default: the same)")
	required(cmd, "starts-at")
	return cmd
}

// moveActivity moves an activity's selling time to another start.
func moveActivity(doc map[string]any, at time.Time) error {
	var window [2]time.Time
	for i, member := range []string{"starts_at", "ends_at"} {
		t, err := time.Parse(time.RFC3339, fmt.Sprint(doc[member]))
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		window[i] = t
	}
	doc["starts_at"] = at.Format(time.RFC3339Nano)
	doc["ends_at"] = at.Add(window[1].Sub(window[0])).Format(time.RFC3339Nano)
	return nil
}

func deleteDraftCommand() *cobra.Command {
	return asks(command("delete ACTIVITY", "Delete a draft; a published activity can't be deleted", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			if err := s.sure(fmt.Sprintf("Delete the draft %s with its items?", args[0])); err != nil {
				return err
			}
			if err := s.show(remove("activities", args[0])); err != nil {
				return err
			}
			return s.note("deleted %s", args[0])
		}))
}

func editItemCommand() *cobra.Command {
	var price int64
	var perUser, spread int
	cmd := command("edit-item ACTIVITY SKU", "Change an item's price, limit or spread before the start", cobra.ExactArgs(2), true,
		func(s *session, args []string) error {
			body := map[string]any{}
			for flag, value := range map[string]any{"price": price, "per-user": perUser, "spread": spread} {
				if s.cmd.Flags().Changed(flag) {
					body[strings.ReplaceAll(flag, "-", "_")] = value
				}
			}
			if len(body) == 0 {
				return &exitError{exitUsage, errors.New("name what to change: --price, --per-user or --spread")}
			}
			return s.show(post(body, "activities", args[0], "items", args[1]), activityMembers...)
		})
	cmd.Flags().Int64Var(&price, "price", 0, "the price in minor units")
	cmd.Flags().IntVar(&perUser, "per-user", 0, "the most units one buyer may have; 0 is no limit")
	cmd.Flags().IntVar(&spread, "spread", 1, "over how many shards the item is spread")
	return cmd
}

// restockMany restocks the items of a CSV file, after it has checked all lines.
func (s *session) restockMany(activity, file, key string) error {
	doc, err := s.items(activity)
	if err != nil {
		return err
	}
	text, err := readInput(s.cmd, file)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("flag --file: %w", err)}
	}
	lines, err := readRestocks(file, text, func(sku string) bool { return doc[sku] })
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if key == "" {
		key = rand.Text()
	}
	done := 0
	for _, l := range lines {
		r := post(map[string]any{"delta": l.delta, "reason": s.reason}, "activities", activity, "items", l.sku, "restock")
		r.header = http.Header{"Idempotency-Key": {key}}
		_, header, err := s.call(s.cmd.Context(), r)
		if err != nil {
			why := fmt.Errorf("%s:%d: %s: %w", file, l.line, l.sku, err)
			return errors.Join(&exitError{codeOf(err), why}, s.note(
				"the lines before line %d are done; correct the file and repeat the command with --key %s: no line is done twice", l.line, key))
		}
		if header.Get("Idempotent-Replayed") != "true" {
			done++
		}
	}
	if s.json {
		return s.value(map[string]any{"activity": activity, "lines": len(lines), "changed": done, "key": key})
	}
	return s.note("%s of %s restocked; %d were restocked before", seckill.Counted(done, "item"), activity, len(lines)-done)
}

func codeOf(err error) int {
	if coded, ok := errors.AsType[*exitError](err); ok {
		return coded.code
	}
	return exitFailure
}

// items reads which SKUs an activity has.
func (s *session) items(activity string) (map[string]bool, error) {
	var doc struct{ Items []struct{ SKU string } }
	if _, err := s.read(s.cmd.Context(), &doc, get("activities", activity)); err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(doc.Items))
	for _, item := range doc.Items {
		known[item.SKU] = true
	}
	return known, nil
}

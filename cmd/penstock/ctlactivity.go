package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// activityMembers are the members of an activity, in the order in which they are shown.
var activityMembers = []string{"activity", "merchant", "name", "state", "starts_at", "ends_at", "ended_at", "payment_window", "items"}

func activityCommands() []*cobra.Command {
	var file, itemsFile string
	change := command("put ACTIVITY -f FILE", "Create an activity as a draft, or change it", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			body, err := readDocument(s.cmd, file)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("flag --file: %w", err)}
			}
			if itemsFile != "" {
				text, err := readInput(s.cmd, itemsFile)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("flag --items: %w", err)}
				}
				if body["items"], err = readItems(itemsFile, text); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			return s.show(put(body, "activities", args[0]), activityMembers...)
		})
	change.Long = change.Short + `. FILE is YAML or JSON, - is stdin:

  merchant: m1
  name: 618 Phones
  starts_at: 2026-06-18T20:00:00+08:00
  ends_at: 2026-06-18T22:00:00+08:00
  payment_window: 15m
  items:
    - {sku: phone-x, price: 199900, currency: CNY, quantity: 1000, per_user: 2}   # the price in minor units

What "show -o json" prints may be changed and put back.`
	change.Flags().StringVarP(&file, "file", "f", "", "the activity")
	change.Flags().StringVar(&itemsFile, "items", "",
		"CSV file of the items: a header with sku,price,currency,quantity,per_user, and max_orders,spread where they are needed")
	required(change, "file")
	commands := []*cobra.Command{
		command("list", "List activities", cobra.NoArgs, false, func(s *session, _ []string) error {
			return s.showAll([]string{"activities"}, "activity", "merchant", "state", "starts_at", "ends_at", "name")
		}),
		command("show ACTIVITY", "Show an activity and its items", cobra.ExactArgs(1), false, func(s *session, args []string) error {
			return s.show(get("activities", args[0]), activityMembers...)
		}),
		change,
	}
	commands = append(commands, bulkActivityCommands()...)
	for _, verb := range []struct{ name, short string }{
		{"publish", "Open a draft for sale"}, {"pause", "Stop selling until resume"},
		{"resume", "Sell again after a pause"}, {"end", "End an activity for good: it sells nothing more"},
	} {
		cmd := command(verb.name+" ACTIVITY", verb.short, cobra.ExactArgs(1), true, func(s *session, args []string) error {
			return s.changeState(args[0], verb.name)
		})
		if verb.name == "end" {
			asks(cmd)
		}
		commands = append(commands, cmd)
	}
	return append(commands, extendCommand(), archiveCommand(), dropCommand())
}

// changeState moves an activity to another state, and prints what that changes for buyers.
func (s *session) changeState(activity, verb string) error {
	var body any
	if verb == "end" {
		body = map[string]any{"confirm": true}
		question := fmt.Sprintf(
			"End %s for good? It stops selling, and this can't be undone. Open orders can still be paid.", activity)
		if err := s.sure(question); err != nil {
			return err
		}
	}
	var doc struct {
		State    string
		StartsAt time.Time `json:"starts_at"`
		EndsAt   time.Time `json:"ends_at"`
	}
	text, err := s.read(s.cmd.Context(), &doc, post(body, "activities", activity, verb))
	if err != nil {
		return err
	}
	now := time.Now()
	is := "it sells until " + timeText(doc.EndsAt, now)
	switch {
	case doc.State == "ended":
		is = "it has stopped selling for good; open orders can be paid until their time is over"
	case doc.State == "paused":
		is = "it sells nothing until it is resumed; open orders can be paid"
	case doc.State != "published":
		is = "it sells nothing"
	case !now.Before(doc.EndsAt):
		is = "its time was over at " + timeText(doc.EndsAt, now)
	case now.Before(doc.StartsAt):
		is = "it sells from " + timeText(doc.StartsAt, now)
	}
	if err := s.note("%s is %s: %s", activity, doc.State, is); err != nil {
		return err
	}
	return s.object(text, "activity", "state")
}

// readDocument reads one YAML mapping; JSON is YAML too. The server checks its members. Times are
// passed on as they are written, because YAML accepts more forms than RFC 3339, and reads a date as
// midnight in UTC.
func readDocument(cmd *cobra.Command, path string) (map[string]any, error) {
	text, err := readInput(cmd, path)
	if err != nil {
		return nil, err
	}
	root, errs := yamlDocument(path, text)
	switch {
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	case root == nil:
		return nil, fmt.Errorf("%s: has no members", path)
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("%s:%d: has to be members, as key: value pairs", path, root.Line)
	}
	keepTimes(root)
	var document map[string]any
	if err := root.Decode(&document); err != nil {
		return nil, yamlError(path, err)
	}
	if len(document) == 0 {
		return nil, fmt.Errorf("%s: has no members", path)
	}
	return document, nil
}

// keepTimes turns every time in a document into a text.
func keepTimes(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!timestamp" {
		n.Tag = "!!str"
	}
	for _, part := range n.Content {
		keepTimes(part)
	}
}

func restockCommand() *cobra.Command {
	var delta int64
	var key, file string
	const use = "restock ACTIVITY (SKU --delta N | --file FILE) --reason WHY"
	cmd := command(use, "Add units to an item's stock, or take available units back", cobra.RangeArgs(1, 2), true,
		func(s *session, args []string) error {
			if err := s.needsReason(); err != nil {
				return err
			}
			switch {
			case (file != "") == (len(args) == 2), s.cmd.Flags().Changed("delta") != (len(args) == 2):
				return &exitError{exitUsage, errors.New("name an SKU with --delta, or a CSV file of many with --file")}
			case file != "":
				return s.restockMany(args[0], file, key)
			}
			if key == "" {
				key = rand.Text()
			}
			r := post(map[string]any{"delta": delta, "reason": s.reason}, "activities", args[0], "items", args[1], "restock")
			r.header = http.Header{"Idempotency-Key": {key}}
			text, header, err := s.call(s.cmd.Context(), r)
			if coded, ok := errors.AsType[*exitError](err); ok && coded.code == exitDependency {
				return errors.Join(err, s.note("the outcome is unknown: repeat the command with --key %s; the change is made only once", key))
			}
			if err != nil {
				return err
			}
			if header.Get("Idempotent-Replayed") == "true" {
				if err := s.note("this key was used before: nothing was changed now"); err != nil {
					return err
				}
			}
			return s.object(text, "activity", "sku", "delta", "total")
		})
	cmd.Flags().Int64Var(&delta, "delta", 0, "units to add; below zero, units to take back")
	cmd.Flags().StringVar(&key, "key", "", "idempotency key: the same key changes the stock only once (default: a random key)")
	cmd.Flags().StringVarP(&file, "file", "f", "", "CSV file of many items: a header with sku,delta; if a line is wrong, nothing is changed")
	return cmd
}

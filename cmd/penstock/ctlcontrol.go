package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

// limitCommands are those of the limits.
func limitCommands() []*cobra.Command {
	var file, version string
	replace := command("put --file FILE", "Replace the limits, by a JSON document like the one that show prints", cobra.NoArgs, true,
		func(s *session, _ []string) error {
			text, err := readInput(s.cmd, file)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("flag --file: %w", err)}
			}
			var body map[string]json.RawMessage
			if err := json.Unmarshal(text, &body); err != nil {
				return &exitError{exitUsage, fmt.Errorf("flag --file: %s: %w", file, err)}
			}
			tag := version
			if tag == "" {
				tag = string(body["version"])
			}
			if tag == "" {
				return &exitError{exitUsage, errors.New("say which version this is a change of: by --version, or as \"version\" in the file")}
			}
			if s.reason != "" {
				if body["reason"], err = json.Marshal(s.reason); err != nil {
					return err
				}
			}
			request := put(body, "limits")
			request.header = http.Header{"If-Match": {`"` + strings.Trim(tag, `"`) + `"`}}
			return s.showPublished(request)
		})
	replace.Flags().StringVar(&file, "file", "", "the document, - for stdin")
	replace.Flags().StringVar(&version, "version", "", "the version that it is a change of, instead of the file's")
	required(replace, "file")
	return []*cobra.Command{
		command("show", "Show the limits; with -o json, as put takes them", cobra.NoArgs, false, func(s *session, _ []string) error {
			text, _, err := s.call(s.cmd.Context(), get("limits"))
			if err != nil {
				return err
			}
			var doc struct {
				Version  int64
				Policies []json.RawMessage
			}
			if err := json.Unmarshal(text, &doc); err != nil {
				return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
			}
			if s.printer.json {
				return s.object(text)
			}
			if err := s.note("version %d", doc.Version); err != nil {
				return err
			}
			return s.printer.list(doc.Policies, "name", "key", "match", "rate", "burst", "mode")
		}),
		replace,
	}
}

// switchCommands are those of the switches.
func switchCommands() []*cobra.Command {
	var scope, expires string
	set := command("set NAME VALUE", "Set a switch, for everybody or for a --scope; the value - takes it out", cobra.ExactArgs(2), true,
		func(s *session, args []string) error {
			body := map[string]any{"value": args[1]}
			if s.reason != "" {
				body["reason"] = s.reason
			}
			if args[1] == "-" {
				body["value"] = nil
			}
			if scope != "" {
				kind, key, ok := strings.Cut(scope, "=")
				if !ok {
					return &exitError{exitUsage, fmt.Errorf("flag --scope: %q is not like merchant=m1", scope)}
				}
				body["scope"] = map[string]string{kind: key}
			}
			if expires != "" {
				body["expires_in"] = expires
			}
			return s.showPublished(put(body, "switches", args[0]))
		})
	set.Flags().StringVar(&scope, "scope", "", "merchant=M, activity=A, sku=S, sku=A/S or caller=M/C")
	set.Flags().StringVar(&expires, "expires-in", "", "after which the switch ends by itself, like 15m")
	return []*cobra.Command{
		command("list", "List switches", cobra.NoArgs, false, func(s *session, _ []string) error {
			return s.showAll([]string{"switches"}, "name", "value", "default", "values", "effect")
		}),
		command("active", "List what is set, for whom, by whom and why", cobra.NoArgs, false, func(s *session, _ []string) error {
			items, err := s.adminClient.list(s.cmd.Context(), "after", 0, "switches")
			if err != nil {
				return err
			}
			var all []json.RawMessage
			for _, item := range items {
				var one struct{ Set []json.RawMessage }
				if err := json.Unmarshal(item, &one); err != nil {
					return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
				}
				all = append(all, one.Set...)
			}
			return s.printer.list(all, "name", "scope", "value", "by", "since", "expires_at", "reason")
		}),
		set,
	}
}

// settingsCommands are those of limits and switches together.
func settingsCommands() []*cobra.Command {
	return []*cobra.Command{
		command("show", "Show the newest versions, and which of them each node runs", cobra.NoArgs, false, func(s *session, _ []string) error {
			text, _, err := s.call(s.cmd.Context(), get("settings"))
			if err != nil {
				return err
			}
			if s.printer.json {
				return s.object(text)
			}
			var doc struct {
				Documents []struct {
					Name    string
					Version int64
				}
				Nodes []json.RawMessage
			}
			if err := json.Unmarshal(text, &doc); err != nil {
				return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
			}
			for _, d := range doc.Documents {
				if err := s.note("%s: version %d", d.Name, d.Version); err != nil {
					return err
				}
			}
			return s.printer.list(doc.Nodes, "node", "state", "silent_ms", "applied", "refused")
		}),
	}
}

// showPublished prints where a change is in force. Nodes that lag are told of on stderr too: the change stands, but not everywhere.
func (s *session) showPublished(r adminRequest) error {
	text, _, err := s.call(s.cmd.Context(), r)
	if err != nil {
		return err
	}
	var published struct{ Lagging []string }
	if err := json.Unmarshal(text, &published); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	if len(published.Lagging) > 0 {
		if err := s.note("not in force on %s", strings.Join(published.Lagging, ", ")); err != nil {
			return err
		}
	}
	return s.object(text, "version", "applied", "nodes", "lagging")
}

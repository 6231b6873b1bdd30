package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// webhookMembers are the members of a webhook, in the order in which they are shown.
var webhookMembers = []string{"name", "url", "events", "waiting", "sent", "given_up", "last_ok", "last_error"}

// webhookCommands returns the commands about webhooks.
func webhookCommands() []*cobra.Command {
	return []*cobra.Command{
		command("list", "List webhooks, and the state of their deliveries", cobra.NoArgs, false, (*session).listWebhooks),
		setWebhookCommand(),
		command("delete NAME", "Delete a webhook; its waiting deliveries are dropped", cobra.ExactArgs(1), true,
			func(s *session, args []string) error {
				if err := s.show(remove("webhooks", args[0])); err != nil {
					return err
				}
				return s.note("deleted %s; to undo this, see ctl changes revert", args[0])
			}),
	}
}

// listWebhooks prints the webhooks, each with its last error.
func (s *session) listWebhooks(_ []string) error {
	text, _, err := s.call(s.cmd.Context(), get("webhooks"))
	if err != nil {
		return err
	}
	if s.printer.json {
		return s.object(text)
	}
	var doc struct {
		Missing  string
		Webhooks []map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	rows := make([]json.RawMessage, len(doc.Webhooks))
	for i, hook := range doc.Webhooks {
		var last *struct{ At, Event, Error string }
		if err := json.Unmarshal(hook["last_error"], &last); err != nil {
			return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		if last != nil {
			if hook["last_error"], err = json.Marshal(last.At + " " + last.Error); err != nil {
				return &exitError{exitFailure, err}
			}
		}
		if rows[i], err = json.Marshal(hook); err != nil {
			return &exitError{exitFailure, err}
		}
	}
	if doc.Missing != "" {
		if err := s.note("%s", doc.Missing); err != nil {
			return err
		}
	}
	return s.printer.list(rows, webhookMembers...)
}

func setWebhookCommand() *cobra.Command {
	var url, secretFile string
	var events []string
	set := command("set NAME --url URL --events alarm,change", "Send events to a receiver, by signed HTTP posts", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			body := map[string]any{"url": url, "events": events}
			if secretFile != "" {
				text, err := readInput(s.cmd, secretFile)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("flag --secret-file: %w", err)}
				}
				body["secret"] = strings.TrimSpace(string(text))
			}
			return s.show(put(body, "webhooks", args[0]), "name", "url", "events", "secret")
		})
	set.Long = set.Short + `. A new webhook gets a secret, which is shown once, unless --secret-file
brings one along. The posts are signed by it as payment notices are: Penstock-Signature: t=…,v1=….
docs/webhooks.md says what is posted, and which receivers may be reached.`
	set.Flags().StringVar(&url, "url", "", "the receiver's URL: https, or http on the server's own machine")
	set.Flags().StringSliceVar(&events, "events", nil, "types of events, separated by commas: alarm, breaker, change, level, node, rebuild")
	set.Flags().StringVar(&secretFile, "secret-file", "", "file with the secret that signs the posts, - for stdin")
	required(set, "url", "events")
	return set
}

package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// keyMembers are the members of a key, in the order in which they are shown.
var keyMembers = []string{"key_id", "prefix", "state", "created_at", "expires_at", "last_used_at"}

// keyCommands returns the commands about callers' keys.
func keyCommands() []*cobra.Command {
	list := command("list MERCHANT CALLER", "List a caller's keys, and when each was used last", cobra.ExactArgs(2), false,
		func(s *session, args []string) error {
			text, _, err := s.call(s.cmd.Context(), get("merchants", args[0], "callers", args[1], "keys"))
			if err != nil {
				return err
			}
			if s.printer.json {
				return s.object(text)
			}
			var doc struct{ Keys []json.RawMessage }
			if err := json.Unmarshal(text, &doc); err != nil {
				return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
			}
			return s.printer.list(doc.Keys, keyMembers...)
		})
	revoke := command("revoke MERCHANT CALLER KEY_ID", "Revoke a key, within a second on every node", cobra.ExactArgs(3), true,
		func(s *session, args []string) error {
			return s.revoke(remove("merchants", args[0], "callers", args[1], "keys", args[2]))
		})
	find := command("find FILE", "Find the owner of a key; FILE has the key, - is stdin", cobra.ExactArgs(1), false,
		func(s *session, args []string) error {
			text, err := readInput(s.cmd, args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			members := append([]string{"merchant", "caller", "name", "rights", "shadow"}, keyMembers...)
			return s.show(post(map[string]any{"key": strings.TrimSpace(string(text))}, "keys"), members...)
		})
	find.Long = find.Short + `.

The key is read from a file, so that it gets into no history of a shell and no list of processes.`
	return []*cobra.Command{list, addKeyCommand(), rollKeyCommand(), revoke, find}
}

// revoke revokes a caller or a key, and tells on which gateways that is in force.
func (s *session) revoke(r adminRequest) error {
	if err := s.showPublished(r); err != nil {
		return err
	}
	return s.note("the list of changes can take it back")
}

// addKey makes a key and prints it.
func (s *session) addKey(merchant, caller string, body map[string]any) error {
	members := append([]string{"merchant", "caller", "key"}, keyMembers...)
	return s.show(post(body, "merchants", merchant, "callers", caller, "keys"), members...)
}

func addKeyCommand() *cobra.Command {
	var life string
	add := command("add MERCHANT CALLER", "Give a caller one more key; it is shown once", cobra.ExactArgs(2), true,
		func(s *session, args []string) error {
			body := map[string]any{}
			if life != "" {
				body["expires_in"] = life
			}
			if err := s.addKey(args[0], args[1], body); err != nil {
				return err
			}
			return s.note("the caller's other keys stay valid")
		})
	add.Flags().StringVar(&life, "expires-in", "", "how long the key is valid, like 2160h (default: for ever)")
	return add
}

func rollKeyCommand() *cobra.Command {
	var life, overlap string
	roll := command("roll MERCHANT CALLER --overlap 24h", "Give a caller a new key and end its others after the overlap",
		cobra.ExactArgs(2), true, func(s *session, args []string) error {
			body := map[string]any{"overlap": overlap}
			if life != "" {
				body["expires_in"] = life
			}
			if err := s.addKey(args[0], args[1], body); err != nil {
				return err
			}
			return s.note("the other keys of %s/%s are valid for %s more; orders, idempotency keys and limits stay the caller's",
				args[0], args[1], overlap)
		})
	roll.Flags().StringVar(&overlap, "overlap", "", "how long the caller's other keys stay valid; 0s ends them at once")
	roll.Flags().StringVar(&life, "expires-in", "", "how long the new key is valid, like 2160h (default: for ever)")
	required(roll, "overlap")
	return roll
}

// secretCommands returns the commands about the keys that encrypt payment secrets.
func secretCommands() []*cobra.Command {
	rewrap := command("rewrap", "Encrypt all payment secrets again, with the first "+
		"key", cobra.NoArgs, true, func(s *session, _ []string) error {
		return s.show(post(nil, "secrets", "rewrap"), "rewrapped", "sealing_key", "keys", "sealed")
	})
	rewrap.Long = rewrap.Short + `. It is the last step of a change of that key:

  1. Add the new key as the last line of --secrets-key-file on every node, and restart the nodes one by one.
  2. Make it the first line on every node, and restart them again: what is new is encrypted by it.
  3. Run this. When "secrets show" names the new key alone, the old line may go.`
	return []*cobra.Command{
		command("show", "Show which keys encrypt the payment secrets", cobra.NoArgs, false, func(s *session, _ []string) error {
			return s.show(get("secrets"), "sealing_key", "keys", "sealed")
		}),
		rewrap,
	}
}

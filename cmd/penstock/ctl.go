package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// ctlCommand is the admin API from a shell.
func ctlCommand() *cobra.Command {
	ctl := &cobra.Command{
		Use:   "ctl",
		Short: "The admin API of a running server, from a shell",
		Long: `The admin API of a running server, from a shell. The server is named by --admin or PENSTOCK_ADMIN, the token by
PENSTOCK_ADMIN_TOKEN or --token-file.

Data goes to stdout, as a table or with -o json as the API answers it; messages go to stderr. Exits 1 when the
server says no, 2 for a mistake on the command line, 4 when the server can't be reached or isn't ready.`,
		Args: onlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addAdminFlags(ctl)
	ctl.AddCommand(
		applyCommand(),
		group("merchants", "Shops", merchantCommands()...),
		group("callers", "Programs that may call the public API, and their keys", callerCommands()...),
		group("activities", "Sales", activityCommands()...),
		group("stock", "Units", restockCommand()),
		group("orders", "Orders: find them, and what happened to them", orderCommands()...),
		group("refunds", "Refunds: money that must be refunded", refundCommands()...),
		auditItems("audit [ACTIVITY...]"),
		group("limits", "Rate limits of merchants, callers, users and others", limitCommands()...),
		group("switches", "Switches that turn parts of the service on or off", switchCommands()...),
		group("settings", "Limits, switches and webhooks: which versions each node uses", settingsCommands()...),
		group("levels", "Degrade levels: which parts a server turns off under load", levelCommands()...),
		group("nodes", "Gateways and workers", nodeCommands()...),
		command("live", "Print the live view once, like top --once", cobra.NoArgs, false, func(s *session,
			_ []string) error {
			return s.liveOnce()
		}),
		eventsCommand(),
		group("dead-letters", "Records and orders that a worker could not use", deadLetterCommands()...),
		replayCommand(),
		group("changes", "The list of changes, and how to undo one", changeCommands()...),
		group("webhooks", "Receivers of alarms and changes", webhookCommands()...),
		group("secrets", "Encryption keys of payment secrets", secretCommands()...),
		group("tokens", "Tokens of the admin API", tokenCommands()...),
	)
	return named(ctl)
}

// named makes a command and its subcommands complete names that are on a server.
func named(cmd *cobra.Command) *cobra.Command {
	if err := completeFlags(cmd); err != nil { // a mistake in this package: the command reports it when it runs
		cmd.RunE = func(*cobra.Command, []string) error { return err }
	}
	return cmd
}

func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: onlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// session is one run of a command against a server.
type session struct {
	*adminClient
	*printer
	cmd *cobra.Command
}

// newSession opens a command's session.
func newSession(cmd *cobra.Command) (*session, error) {
	client, err := newAdminClient(cmd)
	if err != nil {
		return nil, err
	}
	out, err := newPrinter(cmd)
	if err != nil {
		return nil, err
	}
	return &session{client, out, cmd}, nil
}

// command makes a command that runs in a session. change adds --reason, for commands that change
// something.
func command(use, short string, args cobra.PositionalArgs, change bool, run func(s *session, args []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := newSession(cmd)
			if err != nil {
				return err
			}
			if watch := cmd.Flags().Lookup("watch"); watch != nil && watch.Changed {
				err = s.watch(run, args)
			} else {
				err = run(s, args)
			}
			if err != nil {
				return failure(s.suggested(err))
			}
			return nil
		},
	}
	switch name := cmd.Name(); {
	case change:
		cmd.Flags().String("reason", "", "the reason for this change; it is kept in the list of changes")
	case name == "list" || name == "active" || name == "usage" || name == "find":
		cmd.Flags().Bool("watch", false, "repeat the command, and print the answer again when it has changed")
	}
	completeArguments(cmd)
	return cmd
}

// needsReason is the error of a change without the reason that it needs.
func (s *session) needsReason() error {
	if s.reason == "" {
		return &exitError{exitUsage, errors.New("flag --reason: is required")}
	}
	return nil
}

// show sends a request and prints the answer's members.
func (s *session) show(r adminRequest, members ...string) error {
	text, _, err := s.call(s.cmd.Context(), r)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return nil
	}
	return s.object(text, members...)
}

// showAll reads a list and prints it.
func (s *session) showAll(path []string, members ...string) error {
	items, err := s.adminClient.list(s.cmd.Context(), "after", 0, path...)
	if err != nil {
		return err
	}
	return s.printer.list(items, members...)
}

func get(path ...string) adminRequest { return adminRequest{method: http.MethodGet, path: path} }

func put(body any, path ...string) adminRequest {
	return adminRequest{method: http.MethodPut, path: path, body: body}
}

func post(body any, path ...string) adminRequest {
	return adminRequest{method: http.MethodPost, path: path, body: body}
}

func remove(path ...string) adminRequest { return adminRequest{method: http.MethodDelete, path: path} }

// note writes a message for a person to stderr.
func (s *session) note(format string, args ...any) error {
	_, err := fmt.Fprintln(s.cmd.ErrOrStderr(), shown(fmt.Sprintf(format, args...)))
	return err
}

func merchantCommands() []*cobra.Command {
	var name, secretFile, overlap string
	change := command("put MERCHANT --name NAME", "Create or rename a merchant; a new one gets a payment secret, shown once",
		cobra.ExactArgs(1), true, func(s *session, args []string) error {
			body := map[string]any{}
			if name != "" {
				body["name"] = name
			}
			if overlap != "" {
				body["overlap"] = overlap
			}
			if secretFile != "" {
				text, err := readInput(s.cmd, secretFile)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("flag --payment-secret-file: %w", err)}
				}
				body["payment_secret"] = strings.TrimSpace(string(text))
			}
			return s.show(put(body, "merchants", args[0]), "merchant", "name", "payment_secret", "former_secret_until")
		})
	change.Flags().StringVar(&name, "name", "", "name for people; required for a new merchant")
	change.Flags().StringVar(&overlap, "overlap", "", "roll the payment secret: the old one stays valid this long, like 24h; "+
		"without --payment-secret-file, a new one is made and shown once")
	change.Flags().StringVar(&secretFile, "payment-secret-file", "", "file with the secret that signs payment notices, - for stdin")
	return []*cobra.Command{
		command("list", "List merchants", cobra.NoArgs, false, func(s *session, _ []string) error {
			return s.showAll([]string{"merchants"}, "merchant", "name")
		}),
		command("show MERCHANT", "Show a merchant", cobra.ExactArgs(1), false, func(s *session, args []string) error {
			return s.show(get("merchants", args[0]), "merchant", "name", "former_secret_until")
		}),
		change,
		statementCommand(),
	}
}

// required marks flags that must be given. If there is no flag of that name, the command reports it
// when it runs.
func required(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			cmd.RunE = func(*cobra.Command, []string) error { return err }
		}
	}
}

func callerCommands() []*cobra.Command {
	var rights []string
	var shadow bool
	add := command("add MERCHANT NAME --rights buy", "Add a caller; its key is shown once", cobra.ExactArgs(2), true,
		func(s *session, args []string) error {
			body := map[string]any{"name": args[1], "rights": rights, "shadow": shadow}
			return s.show(post(body, "merchants", args[0], "callers"), "merchant", "caller", "key", "name", "rights", "shadow")
		})
	add.Flags().StringSliceVar(&rights, "rights", nil, "what it may do: buy, merchant, or both with a comma")
	add.Flags().BoolVar(&shadow, "shadow", false, "this caller sends a load test; under load, its requests are refused first")
	required(add, "rights")
	return []*cobra.Command{
		command("list MERCHANT", "List a merchant's callers", cobra.ExactArgs(1), false, func(s *session, args []string) error {
			return s.showAll([]string{"merchants", args[0], "callers"}, "caller", "name", "rights", "shadow", "revoked", "created_at")
		}),
		add,
		group("keys", "Keys of a caller", keyCommands()...),
		command("revoke MERCHANT CALLER", "Revoke a caller; it takes effect within a second on every node", cobra.ExactArgs(2), true,
			func(s *session, args []string) error {
				return s.revoke(remove("merchants", args[0], "callers", args[1]))
			}),
	}
}

func deadLetterCommands() []*cobra.Command {
	commands := []*cobra.Command{
		command("list", "List dead letters, oldest first", cobra.NoArgs, false, func(s *session, _ []string) error {
			return s.showAll([]string{"dead-letters"}, "id", "at", "partition", "offset", "order", "problem")
		}),
	}
	for _, verb := range []struct {
		name, short string
		members     []string
	}{
		{"replay", "Try the orders of dead letters again", []string{"letters", "replayed", "opened", "rejected", "parked"}},
		{"discard", "Discard dead letters; their orders are rejected for good", []string{"discarded"}},
	} {
		cmd := command(verb.name+" (ID... | --all)", verb.short, cobra.ArbitraryArgs, true, func(s *session, args []string) error {
			all, err := s.cmd.Flags().GetBool("all")
			if err != nil {
				return err
			}
			if all == (len(args) > 0) {
				return &exitError{exitUsage, fmt.Errorf("name the ids of dead letters, or give --all")}
			}
			body := map[string]any{"all": true}
			if all && verb.name == "discard" {
				if err := s.sure("Discard all dead letters? The orders in them are rejected for good."); err != nil {
					return err
				}
				body["confirm"] = true
			}
			if !all {
				ids := make([]int64, len(args))
				for i, arg := range args {
					if ids[i], err = strconv.ParseInt(arg, 10, 64); err != nil {
						return &exitError{exitUsage, fmt.Errorf("%q is not the id of a dead letter", arg)}
					}
				}
				body = map[string]any{"ids": ids}
			}
			return s.show(post(body, "dead-letters", verb.name), verb.members...)
		})
		cmd.Flags().Bool("all", false, "all present dead letters")
		if verb.name == "discard" {
			asks(cmd)
		}
		commands = append(commands, cmd)
	}
	return commands
}

func changeCommands() []*cobra.Command {
	var limit int
	list := command("list", "List changes, newest first", cobra.NoArgs, false, func(s *session, _ []string) error {
		if limit <= 0 {
			return &exitError{exitUsage, fmt.Errorf("flag --limit: must be above zero")}
		}
		items, err := s.adminClient.list(s.cmd.Context(), "before", limit+1, "changes")
		if err != nil {
			return err
		}
		if items, err = s.upTo(limit, items); err != nil {
			return err
		}
		return s.printer.list(items, "number", "at", "actor", "address", "kind", "key", "revertible", "reason")
	})
	list.Flags().IntVar(&limit, "limit", 50, "how many")
	return []*cobra.Command{
		list,
		command("show NUMBER", "Show a change: values before and after", cobra.ExactArgs(1), false, func(s *session, args []string) error {
			return s.show(get("changes", args[0]), "number", "at", "actor", "token_id", "address", "kind", "key", "reason", "revertible",
				"before", "after")
		}),
		command("revert NUMBER", "Undo a change by making a new change", cobra.ExactArgs(1), true, func(s *session, args []string) error {
			var done struct{ Changed bool }
			text, err := s.read(s.cmd.Context(), &done, post(nil, "changes", args[0], "revert"))
			if err != nil {
				return err
			}
			if !done.Changed {
				if err := s.note("change %s was undone before: nothing was changed now", args[0]); err != nil {
					return err
				}
			}
			return s.object(text, "reverted", "kind", "key", "changed")
		}),
	}
}

func tokenCommands() []*cobra.Command {
	var role, merchant, life string
	members := []string{"token_id", "name", "role", "merchant", "created_at", "expires_at", "last_used_at"}
	add := command("add NAME --role ROLE", "Make a token; it is shown once", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			body := map[string]any{"name": args[0], "role": role}
			if merchant != "" {
				body["merchant"] = merchant
			}
			if life != "" {
				body["expires_in"] = life
			}
			return s.show(post(body, "tokens"), "name", "role", "merchant", "token", "token_id", "expires_at")
		})
	add.Long = add.Short + `. The roles:

  viewer     reads, but sees no buyers' names
  support    also finds and cancels orders
  operator   also runs the sale: switches, limits, pause, resume, restock, revoke, drain, and the revert of these
  finance    reads like a viewer, reads statements, and settles refunds
  admin      does everything`
	add.Flags().StringVar(&role, "role", "", "viewer, support, operator, finance or admin")
	oneOf(add, "role", "viewer", "support", "operator", "finance", "admin")
	add.Flags().StringVar(&merchant, "merchant", "", "the merchant that it is bound to; it can't see or change anything of other merchants")
	add.Flags().StringVar(&life, "expires-in", "", "how long the token is valid, like 8h (default: for ever)")
	required(add, "role")
	return []*cobra.Command{
		command("list", "List tokens and sessions, and when each was last used", cobra.NoArgs, false, func(s *session, _ []string) error {
			return s.showAll([]string{"tokens"}, append(members, "session", "configured")...)
		}),
		add,
		command("delete TOKEN", "Delete a token by its name or id, or end a session by its id", cobra.ExactArgs(1), true,
			func(s *session, args []string) error {
				if err := s.show(remove("tokens", args[0])); err != nil {
					return err
				}
				return s.note("deleted %s", args[0])
			}),
	}
}

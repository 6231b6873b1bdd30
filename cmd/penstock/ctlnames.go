package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file asks a server for names: to complete words in a shell, and to suggest the right name
// after a typing mistake.

// nameTimeout bounds how long a server is asked for names, since a person waits for the completion.
const nameTimeout = 2 * time.Second

// namesOf lists the names of a kind, as usage lines call it: MERCHANT, ACTIVITY, NODE, SWITCH,
// TOKEN; CALLER of a merchant, KEY_ID of a merchant and a caller, SKU of an activity, VALUE of a
// switch. of are the arguments before it. It asks for one page only, because nobody reads a longer
// list of completions.
func (c *adminClient) namesOf(ctx context.Context, kind string, of []string) ([]string, error) {
	list := func(member string, path ...string) ([]string, error) {
		var page struct {
			Items, Nodes, Keys []map[string]json.RawMessage
		}
		if _, err := c.read(ctx, &page, get(path...)); err != nil {
			return nil, err
		}
		var names []string
		for _, item := range slices.Concat(page.Items, page.Nodes, page.Keys) {
			var name string
			if json.Unmarshal(item[member], &name) == nil && name != "" {
				names = append(names, name)
			}
		}
		return names, nil
	}
	switch {
	case kind == "MERCHANT":
		return list("merchant", "merchants")
	case kind == "ACTIVITY":
		return list("activity", "activities")
	case kind == "NODE":
		return list("node", "nodes")
	case kind == "SWITCH":
		return list("name", "switches")
	case kind == "TOKEN":
		return list("name", "tokens")
	case kind == "CALLER" && len(of) > 0:
		return list("caller", "merchants", of[0], "callers")
	case kind == "KEY_ID" && len(of) > 1:
		return list("key_id", "merchants", of[0], "callers", of[1], "keys")
	case kind == "VALUE" && len(of) > 0:
		return c.switchValues(ctx, of[0])
	case kind == "SKU" && len(of) > 0:
		var doc struct{ Items []struct{ SKU string } }
		if _, err := c.read(ctx, &doc, get("activities", of[0])); err != nil {
			return nil, err
		}
		var names []string
		for _, item := range doc.Items {
			names = append(names, item.SKU)
		}
		return names, nil
	}
	return nil, nil
}

// switchValues lists the values that a switch may have, if they are words.
func (c *adminClient) switchValues(ctx context.Context, name string) ([]string, error) {
	var page struct {
		Items []struct{ Name, Values string }
	}
	if _, err := c.read(ctx, &page, get("switches")); err != nil {
		return nil, err
	}
	values := []string{"-"}
	for _, s := range page.Items {
		if s.Name != name {
			continue
		}
		for _, value := range strings.Split(s.Values, ",") {
			if value = strings.TrimSpace(value); value != "" && !strings.ContainsAny(value, " ()<>") {
				values = append(values, value)
			}
		}
	}
	return values, nil
}

// kinds returns what each argument of a usage line is, up to the first argument that is not a plain
// word: "revoke MERCHANT CALLER" takes a MERCHANT, then a CALLER. every says that the last argument
// may be repeated.
func kinds(use string) (all []string, every bool) {
	for _, word := range strings.Fields(use)[1:] {
		kind := strings.Trim(word, "()[]")
		name := strings.TrimSuffix(kind, "...")
		if name == "" || strings.ToUpper(name) != name || strings.ContainsAny(name, "-|…") {
			break
		}
		all = append(all, name)
		if name != kind {
			return all, true
		}
	}
	return all, false
}

// completeArguments makes a command complete the names that its usage line asks for.
func completeArguments(cmd *cobra.Command) {
	wanted, every := kinds(cmd.Use)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) < len(wanted):
			return completions(cmd, wanted[len(args)], args)
		case every && len(wanted) > 0:
			return completions(cmd, wanted[len(wanted)-1], args[:len(wanted)-1])
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// completions returns the names of a kind, or none if no server answers in time.
func completions(cmd *cobra.Command, kind string, of []string) ([]string, cobra.ShellCompDirective) {
	const nothing = cobra.ShellCompDirectiveNoFileComp
	client, err := newAdminClient(cmd)
	if err != nil {
		return nil, nothing
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), nameTimeout)
	defer cancel()
	var all []string
	switch kind {
	case "SCOPE":
		for _, one := range []struct{ prefix, kind string }{{"merchant=", "MERCHANT"}, {"activity=", "ACTIVITY"}} {
			names, err := client.namesOf(ctx, one.kind, nil)
			if err != nil {
				return nil, nothing
			}
			for _, name := range names {
				all = append(all, one.prefix+name)
			}
		}
		all = append(all, "sku=", "caller=")
	default:
		if all, err = client.namesOf(ctx, kind, of); err != nil {
			return nil, nothing
		}
	}
	// Shells split names at tabs and line ends.
	all = slices.DeleteFunc(all, func(name string) bool { return strings.ContainsFunc(name, isCommand) })
	return all, nothing
}

// completedFlags are the flags whose values are names on a server.
var completedFlags = map[string]string{"activity": "ACTIVITY", "merchant": "MERCHANT", "scope": "SCOPE"}

// completeFlags makes the commands below cmd complete the values of flags that are names.
func completeFlags(cmd *cobra.Command) error {
	var errs []error
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if kind := completedFlags[f.Name]; kind != "" {
			errs = append(errs, cmd.RegisterFlagCompletionFunc(f.Name, func(
				cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return completions(cmd, kind, nil)
			}))
		}
		if _, has := cmd.GetFlagCompletionFunc(f.Name); has {
			return
		}
		if f.Name == "types" || f.Name == "role" || f.Name == "state" || f.Name == "format" {
			errs = append(errs, cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions))
		}
	})
	for _, sub := range cmd.Commands() {
		errs = append(errs, completeFlags(sub))
	}
	return errors.Join(errs...)
}

// oneOf makes a flag complete the words that it may have. If there is no such flag, the command
// reports it when it runs.
func oneOf(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		cmd.RunE = func(*cobra.Command, []string) error { return err }
	}
}

// orList joins words as in a sentence: a, b or c.
func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// suggested takes the error of a name that the server doesn't know, and adds the most similar name
// that it knows.
func (s *session) suggested(err error) error {
	var refused *problemError
	if !errors.As(err, &refused) {
		return err
	}
	// The kind, the place of its name in the path, and the places of the names before it.
	kind, at, of := "", 1, []int(nil)
	switch refused.Code {
	case "unknown-activity":
		kind = "ACTIVITY"
	case "unknown-merchant":
		kind = "MERCHANT"
	case "unknown-node":
		kind = "NODE"
	case "unknown-switch":
		kind = "SWITCH"
	case "unknown-item":
		kind, at, of = "SKU", 3, []int{1}
	case "unknown-caller":
		kind, at, of = "CALLER", 3, []int{1}
	}
	path := refused.path
	if kind == "" || at >= len(path) {
		return err
	}
	var before []string
	for _, i := range of {
		before = append(before, path[i])
	}
	ctx, cancel := context.WithTimeout(s.cmd.Context(), nameTimeout)
	defer cancel()
	names, failed := s.namesOf(ctx, kind, before)
	if failed != nil {
		return err // the first error is the important one
	}
	if near := nearest(path[at], names); near != "" {
		return fmt.Errorf("%w; there is no %q%s", err, path[at], near)
	}
	return err
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// limitCommands returns the commands about limits.
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
				return &exitError{exitUsage, errors.New("the version that this changes is missing: give --version, or \"version\" in the file")}
			}
			if s.reason != "" {
				if body["reason"], err = json.Marshal(s.reason); err != nil {
					return err
				}
			}
			var policies []json.RawMessage
			if json.Unmarshal(body["policies"], &policies) == nil && policies != nil && len(policies) == 0 {
				if err := s.sure("This removes all limits: then nobody is limited. Continue?"); err != nil {
					return err
				}
				body["confirm"] = json.RawMessage("true")
			}
			if s.allowsUnknown() {
				body["allow_unknown"] = json.RawMessage("true")
			}
			request := put(body, "limits")
			request.header = http.Header{"If-Match": {`"` + strings.Trim(tag, `"`) + `"`}}
			return s.showPublished(request)
		})
	replace.Flags().StringVarP(&file, "file", "f", "", "the document, - for stdin")
	replace.Flags().StringVar(&version, "version", "", "the version that this changes, instead of the one in the file")
	required(replace, "file")
	asks(replace)
	takesUnknown(replace)
	return append(limitEdits(), []*cobra.Command{
		command("show", "Show the limits; -o json prints the document that put takes", cobra.NoArgs, false, (*session).showLimits),
		command("usage", "Show how much each limit admits and refuses on each gateway, and the keys that it refuses most", cobra.NoArgs, false,
			(*session).limitUsage),
		replace,
	}...)
}

// showLimits prints the limits, and what is staged of them.
func (s *session) showLimits(_ []string) error {
	text, _, err := s.call(s.cmd.Context(), get("limits"))
	if err != nil {
		return err
	}
	var doc struct {
		Version  int64
		Policies []json.RawMessage
		Staged   *stagedLimits
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
	if doc.Staged != nil {
		if err := s.note("%s", doc.Staged); err != nil {
			return err
		}
	}
	policies, err := limitsNow(doc.Policies, time.Now())
	if err != nil {
		return &exitError{exitFailure, err}
	}
	return s.printer.list(policies, limitColumns(policies)...)
}

// limitsNow returns policies as they are in force: temporary values stand in their columns, and
// what comes after them in the column temporary.
func limitsNow(policies []json.RawMessage, now time.Time) ([]json.RawMessage, error) {
	out := slices.Clone(policies)
	for i, text := range policies {
		p, err := readMembers(text)
		if err != nil {
			return nil, err
		}
		var while struct {
			Until time.Time `json:"expires_at"`
		}
		values, err := readMembers(p["temporary"])
		if p["temporary"] == nil || err != nil || json.Unmarshal(p["temporary"], &while) != nil || while.Until.IsZero() {
			continue
		}
		delete(p, "temporary")
		if while.Until.After(now) {
			then := fmt.Sprintf("until %s, then %s", timeText(while.Until, now), limitText(p))
			if p["temporary"], err = json.Marshal(then); err != nil {
				return nil, err
			}
			for _, name := range []string{"rate", "burst", "mode", "percent"} {
				delete(p, name)
				if values[name] != nil {
					p[name] = values[name]
				}
			}
		}
		if out[i], err = json.Marshal(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// stagedLimits are limits that some gateways try.
type stagedLimits struct {
	Nodes       []string
	Since       time.Time
	MaxRefused  float64   `json:"max_refused_percent"`
	Seconds     int       `json:"within_seconds"`
	CompletesAt time.Time `json:"completes_at"`
}

// String says which gateways try them, and what ends that.
func (l *stagedLimits) String() string {
	text := fmt.Sprintf("%s tries other limits since %s (see -o json); if more than %g %% is refused in %d s, they are taken back",
		strings.Join(l.Nodes, ", "), l.Since.Format(time.RFC3339), l.MaxRefused, l.Seconds)
	if !l.CompletesAt.IsZero() {
		text += ", and from " + l.CompletesAt.Format(time.RFC3339) + " on they are in force on all gateways"
	}
	return text
}

// limitUsage prints how much each limit admits and refuses: a line for each policy and gateway,
// then the keys that are refused most.
func (s *session) limitUsage(_ []string) error {
	text, _, err := s.call(s.cmd.Context(), get("limits", "usage"))
	if err != nil {
		return err
	}
	if s.printer.json {
		return s.object(text)
	}
	type rates struct {
		Node      string   `json:"gateway"`
		Allowed   float64  `json:"allowed_per_second"`
		Refused   float64  `json:"refused_per_second"`
		Shadowed  float64  `json:"shadowed_per_second"`
		Effective *float64 `json:"effective_rate"`
	}
	var doc struct {
		Missing  string
		Policies []struct {
			Name string
			Rate float64
			rates
			Nodes []struct {
				Node string
				rates
			}
		}
		Top  []json.RawMessage
		Span int `json:"top_span_seconds"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	if doc.Missing != "" {
		if err := s.note("%s", doc.Missing); err != nil {
			return err
		}
	}
	type row struct {
		Name string  `json:"name"`
		Rate float64 `json:"rate,omitempty"` // a limit may have no rate
		rates
	}
	var rows []json.RawMessage
	add := func(r row) {
		toTenths(&r.Allowed, &r.Refused, &r.Shadowed, r.Effective)
		if line, err := json.Marshal(r); err == nil {
			rows = append(rows, line)
		}
	}
	for _, p := range doc.Policies {
		p.rates.Node = "all"
		add(row{p.Name, p.Rate, p.rates})
		for _, n := range p.Nodes {
			n.rates.Node = n.Node
			add(row{p.Name, p.Rate, n.rates})
		}
	}
	err = s.printer.list(rows, "name", "rate", "gateway", "allowed_per_second", "refused_per_second", "shadowed_per_second", "effective_rate")
	if err != nil {
		return err
	}
	if len(doc.Top) == 0 {
		return nil
	}
	if err := s.note("refused most in the last %d s:", doc.Span); err != nil {
		return err
	}
	return s.printer.list(doc.Top, "policy", "key", "refused", "uncertain")
}

// toTenths rounds numbers for people.
func toTenths(numbers ...*float64) {
	for _, n := range numbers {
		if n != nil {
			*n = math.Round(*n*10) / 10
		}
	}
}

// switchCommands returns the commands about switches.
func switchCommands() []*cobra.Command {
	var scope, expires, starts string
	set := command("set SWITCH VALUE", "Set a switch, for everybody or for a --scope; the value - removes it", cobra.ExactArgs(2), true,
		func(s *session, args []string) error {
			if err := s.needsReason(); err != nil {
				return err
			}
			body := map[string]any{"value": args[1], "reason": s.reason}
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
			if starts != "" {
				body["starts_at"] = starts
			}
			if s.allowsUnknown() {
				body["allow_unknown"] = true
			}
			return s.showPublished(put(body, "switches", args[0]))
		})
	set.Flags().StringVar(&scope, "scope", "", "merchant=M, activity=A, sku=S, sku=A/S or caller=M/C")
	set.Flags().StringVar(&starts, "starts-at", "", "when it begins: a time, or with --scope activity=A a form like start-30s")
	takesUnknown(set)
	set.Flags().StringVar(&expires, "expires-in", "", "how long the switch is set, like 15m")
	return []*cobra.Command{
		command("list", "List switches", cobra.NoArgs, false, func(s *session, _ []string) error {
			return s.showAll([]string{"switches"}, "name", "value", "default", "values", "effect")
		}),
		command("active", "List the switches that are set, with scope, author and "+
			"reason", cobra.NoArgs, false, func(s *session, _ []string) error {
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
			if len(all) == 0 {
				if err := s.note("no switch is set: all have their defaults"); err != nil {
					return err
				}
			}
			return s.printer.list(all, "name", "scope", "value", "by", "since", "starts_at", "expires_at", "unrecorded", "reason")
		}),
		set,
	}
}

// settingsCommands are the commands about the versions of limits, switches and webhooks.
func settingsCommands() []*cobra.Command {
	return []*cobra.Command{
		command("show", "Show the newest versions, and the version that each node uses", cobra.NoArgs, false, func(s *session, _ []string) error {
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
					ID      string
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
			return s.printer.list(doc.Nodes, "node", "state", "silent_ms", "not_yet", "refused")
		}),
	}
}

// levelCommands returns the commands about degrade levels.
func levelCommands() []*cobra.Command {
	return []*cobra.Command{
		command("show", "Show the degrade levels, what each turns off, and the present level", cobra.NoArgs, false,
			func(s *session, _ []string) error {
				text, _, err := s.call(s.cmd.Context(), get("levels"))
				if err != nil {
					return err
				}
				if s.printer.json {
					return s.object(text)
				}
				var doc struct {
					Level, Found, Why, Automatic string
					Levels                       []json.RawMessage
				}
				if err := json.Unmarshal(text, &doc); err != nil {
					return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
				}
				err = s.note("at %s; the node's own signals ask for %s (automatic: %s) %s", doc.Level, doc.Found, doc.Automatic, doc.Why)
				if err != nil {
					return err
				}
				return s.printer.list(doc.Levels, "level", "name", "turns_off", "buyers")
			}),
	}
}

// nodeCommands returns the commands about nodes.
func nodeCommands() []*cobra.Command {
	commands := []*cobra.Command{
		command("list", "List gateways and workers, with their state and their versions of the settings", cobra.NoArgs, false,
			func(s *session, _ []string) error { return s.listNodes() }),
		command("remove NODE", "Forget a node that won't come back", cobra.ExactArgs(1), true, func(s *session, args []string) error {
			if err := s.show(remove("nodes", args[0])); err != nil {
				return err
			}
			return s.note("forgotten %s; if it is alive, it is on the list again at once", args[0])
		}),
	}
	for verb, short := range map[string]string{
		"drain": "Stop new traffic to a gateway: its /readyz turns to 503", "undrain": "Let a drained gateway take traffic again",
	} {
		cmd := command(verb+" NODE", short, cobra.ExactArgs(1), true, func(s *session, args []string) error { return s.drain(args[0], verb) })
		if verb == "drain" {
			asks(cmd)
		}
		commands = append(commands, cmd)
	}
	return commands
}

// drain stops new traffic to a gateway, or lets it come again.
func (s *session) drain(node, verb string) error {
	is := "takes traffic again: its /readyz is 200 unless something else is wrong"
	if verb == "drain" {
		is = "takes no new traffic: its /readyz is 503. Requests in flight are answered"
		var doc struct {
			Nodes []struct {
				Node, State string
				Drained     bool
				Status      struct{ Role string }
			}
		}
		if _, err := s.read(s.cmd.Context(), &doc, get("nodes")); err != nil {
			return err
		}
		others, known := 0, false
		for _, n := range doc.Nodes {
			known = known || n.Node == node
			if n.Node != node && strings.Contains(n.Status.Role, "gateway") && !n.Drained && n.State != "silent" {
				others++
			}
		}
		if known && others == 0 {
			if err := s.sure(fmt.Sprintf("%s is the last gateway that serves buyers. Drain it, although nobody can buy then?", node)); err != nil {
				return err
			}
		}
	}
	text, _, err := s.call(s.cmd.Context(), post(nil, "nodes", node, verb))
	if err != nil {
		return err
	}
	if err := s.note("%s %s", node, is); err != nil {
		return err
	}
	return s.object(text, "node", "drained")
}

// listNodes prints the nodes: the last report of each, and its versions of the settings.
func (s *session) listNodes() error {
	text, _, err := s.call(s.cmd.Context(), get("nodes"))
	if err != nil {
		return err
	}
	if s.printer.json {
		return s.object(text)
	}
	var doc struct{ Nodes []map[string]json.RawMessage }
	if err := json.Unmarshal(text, &doc); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	rows := make([]json.RawMessage, len(doc.Nodes))
	for i, n := range doc.Nodes {
		var status map[string]json.RawMessage
		if err := json.Unmarshal(n["status"], &status); err != nil {
			return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		maps.Copy(n, status)
		if rows[i], err = json.Marshal(n); err != nil {
			return &exitError{exitFailure, err}
		}
	}
	return s.printer.list(rows,
		"node", "role", "state", "silent_ms", "drained", "not_yet", "in_flight", "breakers", "lag", "started", "version")
}

// showPublished prints on which nodes a change is in force. If some node doesn't use it yet, or if
// it isn't recorded yet, it says so on stderr.
func (s *session) showPublished(r adminRequest) error {
	text, _, err := s.call(s.cmd.Context(), r)
	if err != nil {
		return err
	}
	var published struct{ Message string }
	if err := json.Unmarshal(text, &published); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	if err := s.note("%s", published.Message); err != nil {
		return err
	}
	return s.object(text, "version", "applied", "nodes", "lagging")
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// printer writes answers to stdout as a table or as JSON.
type printer struct {
	out  io.Writer
	json bool
}

func newPrinter(cmd *cobra.Command) (*printer, error) {
	format, err := cmd.Flags().GetString("output")
	if err != nil {
		return nil, err
	}
	if format != "table" && format != "json" {
		return nil, &exitError{exitUsage, fmt.Errorf("flag --output: %q is neither table nor json", format)}
	}
	return &printer{cmd.OutOrStdout(), format == "json"}, nil
}

// list prints objects: as {"items": […]}, or as a table of the named members.
func (p *printer) list(items []json.RawMessage, members ...string) error {
	if p.json {
		if items == nil {
			items = []json.RawMessage{}
		}
		return p.value(map[string]any{"items": items})
	}
	return p.table(items, members)
}

// object prints an object: as JSON, or the named members one a line, and members that are lists of
// objects as tables.
func (p *printer) object(text json.RawMessage, members ...string) error {
	if p.json {
		return p.value(text)
	}
	object, err := readMembers(text)
	if err != nil {
		return err
	}
	lines := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	var lists []string
	for _, name := range members {
		raw, ok := object[name]
		if !ok {
			continue
		}
		if bytes.HasPrefix(raw, []byte("[{")) {
			lists = append(lists, name)
			continue
		}
		if name == "currency" && isMoney(object) {
			continue // the amount's cell has its currency
		}
		if _, err := fmt.Fprintf(lines, "%s\t%s\n", strings.ReplaceAll(name, "_", " "), member(object, name, time.Now())); err != nil {
			return err
		}
	}
	if err := lines.Flush(); err != nil {
		return err
	}
	for _, name := range lists {
		var rows []json.RawMessage
		if err := json.Unmarshal(object[name], &rows); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if _, err := fmt.Fprintln(p.out); err != nil {
			return err
		}
		columns := itemMembers
		if name != "items" {
			first, err := readMembers(rows[0])
			if err != nil {
				return err
			}
			columns = slices.Sorted(maps.Keys(first))
		}
		if err := p.table(rows, columns); err != nil {
			return err
		}
	}
	return nil
}

// itemMembers are the members of an activity's items.
var itemMembers = []string{"sku", "price", "currency", "quantity", "per_user", "spread"}

// value prints v as indented JSON.
func (p *printer) value(v any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(p.out, escaped(text.String()))
	return err
}

// escaped replaces characters that control a terminal by JSON escapes. In JSON they only occur in
// strings.
func escaped(text string) string {
	if !strings.ContainsFunc(text, isCommand) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isCommand(r) && r != '\n' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isCommand reports whether a terminal acts on a character instead of showing it: control
// characters, and those that change the order of the text around them.
func isCommand(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || problem.Reorders(r) }

// shown makes text from outside safe to print: characters that control a terminal are shown as
// escapes.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if isCommand(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// table prints one line per object; a missing member is empty.
func (p *printer) table(items []json.RawMessage, members []string) error {
	if slices.Contains(members, "price") || slices.Contains(members, "amount") {
		members = slices.DeleteFunc(slices.Clone(members), func(name string) bool { return name == "currency" })
	}
	now := time.Now()
	lines := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	titles := strings.ToUpper(strings.ReplaceAll(strings.Join(members, "\t"), "_", " "))
	if _, err := fmt.Fprintln(lines, titles); err != nil {
		return err
	}
	for _, item := range items {
		object, err := readMembers(item)
		if err != nil {
			return err
		}
		cells := make([]string, len(members))
		for i, name := range members {
			cells[i] = member(object, name, now)
		}
		if _, err := fmt.Fprintln(lines, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return lines.Flush()
}

func readMembers(text json.RawMessage) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return object, nil
}

// isMoney reports whether an object has an amount with its currency.
func isMoney(object map[string]json.RawMessage) bool {
	return object["currency"] != nil && (object["price"] != nil || object["amount"] != nil)
}

// member returns an object's member for people: money in its currency's major unit, and times as
// RFC 3339 in the zone of this machine. A future time also has the span until then.
func member(object map[string]json.RawMessage, name string, now time.Time) string {
	raw := object[name]
	switch {
	case (name == "price" || name == "amount") && isMoney(object):
		var minor int64
		var currency string
		if json.Unmarshal(raw, &minor) == nil && json.Unmarshal(object["currency"], &currency) == nil && currency != "" {
			return shown(seckill.Money{Minor: minor, Currency: currency}.String())
		}
	case name == "scope":
		var scope map[string]string
		if json.Unmarshal(raw, &scope) == nil && scope != nil {
			var words []string
			for _, kind := range slices.Sorted(maps.Keys(scope)) {
				words = append(words, kind+"="+scope[kind])
			}
			return shown(strings.Join(words, ","))
		}
	case isTime(name):
		var text string
		if json.Unmarshal(raw, &text) != nil {
			break
		}
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return timeText(at, now)
		}
	}
	return cell(raw)
}

// limitText says what a limit with these members does.
func limitText(members map[string]json.RawMessage) string {
	var rate float64
	var burst int64
	var mode string
	var percent int
	for name, to := range map[string]any{"rate": &rate, "burst": &burst, "mode": &mode, "percent": &percent} {
		_ = json.Unmarshal(members[name], to) // one that isn't there stays zero
	}
	text := shown(mode)
	if mode == "percent" {
		text = fmt.Sprintf("%d percent", percent)
	}
	if rate > 0 {
		text += fmt.Sprintf(" %g/s burst %d", rate, burst)
	}
	return text
}

// isTime reports whether a member of that name is a time.
func isTime(name string) bool {
	switch name {
	case "at", "since", "started", "pay_by":
		return true
	}
	return strings.HasSuffix(name, "_at") || strings.HasSuffix(name, "_until")
}

// timeText writes a time in this machine's zone. A future time also has the span until then.
func timeText(at, now time.Time) string {
	text := at.Local().Format("2006-01-02T15:04:05.999Z07:00")
	if left := at.Sub(now); left > 0 {
		text += " (in " + seconds(math.Ceil(left.Seconds())) + ")"
	}
	return text
}

// cell returns a JSON value for people. Characters that control a terminal are escaped: names and
// reasons come from outside.
func cell(raw json.RawMessage) string {
	var text string
	var texts []string
	switch {
	case len(raw) == 0 || string(raw) == "null" || string(raw) == "{}":
		return ""
	case json.Unmarshal(raw, &text) == nil:
	case json.Unmarshal(raw, &texts) == nil:
		text = strings.Join(texts, ",")
	default:
		text = string(raw)
	}
	return shown(text)
}

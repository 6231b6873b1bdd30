package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/penstock/penstock/seckill"
)

// The kinds of a file of apply, in the order in which they are applied.
var applyKinds = []string{"merchant", "caller", "activity", "limits", "switch"}

// applyMembers are the members of each kind. Members with an exclamation mark are required.
var applyMembers = map[string][]string{
	"merchant": {"merchant!", "name!"},
	"caller":   {"merchant!", "name!", "rights!", "shadow"},
	"activity": {"activity!", "merchant!", "name!", "state", "starts_at!", "ends_at!", "payment_window!", "items", "items_from"},
	"limits":   {"policies!"},
	"switch":   {"name!", "value!", "scope"},
}

const applyHelp = `Make the server what files say: what differs is shown and changed, the rest stays. Applied again, there is
nothing to change.

FILE is YAML with one or many documents, - is stdin; a directory is all its .yaml and .yml files. Each document has
a kind, and the members of the admin API:

  kind: merchant
  merchant: m1
  name: 618 Phones
  ---
  kind: caller          # its key is shown when it is made
  merchant: m1
  name: web
  rights: [buy]
  ---
  kind: activity
  activity: 618-phones
  merchant: m1
  name: 618 Phones
  state: published      # or draft, paused; without it the state stays
  starts_at: 2026-06-18T20:00:00+08:00
  ends_at: 2026-06-18T22:00:00+08:00
  payment_window: 15m
  items_from: phones.csv   # beside this file; or items: [...]
  ---
  kind: limits          # all policies
  policies: [{name: caller, key: caller, rate: 400, burst: 400, mode: enforce}]
  ---
  kind: switch
  name: wait
  value: "off"
  scope: {merchant: m1}

Everything is read and checked before anything is changed: by the server, too, as a running sale keeps its items and
their prices. The units of a published activity are not changed here:
see stock restock. With --prune drafts and callers of these merchants that no file names are deleted and revoked,
and switches that no file names are taken out.`

// applied is one document of a file, and the place where it stands.
type applied struct {
	kind string
	at   string // file:line
	doc  map[string]any
}

func (a *applied) text(name string) string {
	s, _ := a.doc[name].(string)
	return s
}

// key returns the name of the object within its kind.
func (a *applied) key() string {
	switch a.kind {
	case "merchant":
		return a.text("merchant")
	case "caller":
		return a.text("merchant") + "/" + a.text("name")
	case "activity":
		return a.text("activity")
	case "switch":
		return switchKey(a.text("name"), a.doc["scope"])
	}
	return ""
}

// switchKey names a switch with its scope.
func switchKey(name string, scope any) string {
	members, _ := scope.(map[string]any)
	for kind, who := range members {
		return fmt.Sprintf("%s for %s %v", name, kind, who)
	}
	return name
}

// readApplied reads all documents of a file or directory. The error has every mistake.
func readApplied(cmd *cobra.Command, path string) ([]applied, error) {
	files := []string{path}
	if info, err := os.Stat(path); path != "-" && err == nil && info.IsDir() {
		files = nil
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if ext := filepath.Ext(p); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".yml") {
				files = append(files, p)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s: has no .yaml or .yml file", path)
		}
	}
	var all []applied
	var errs []error
	for _, file := range files {
		text, err := readInput(cmd, file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		docs, mistakes := appliedDocuments(file, text)
		for i := range docs {
			found := docs[i].check(cmd, file)
			if len(found) == 0 {
				for _, wrong := range docs[i].values() {
					found = append(found, fmt.Errorf("%s: %s", docs[i].at, wrong))
				}
			}
			mistakes = append(mistakes, found...)
		}
		all, errs = append(all, docs...), append(errs, mistakes...)
	}
	first := make(map[string]string)
	for i := range all {
		name := all[i].kind + " " + all[i].key()
		if at, twice := first[name]; twice {
			errs = append(errs, fmt.Errorf("%s: %s is at %s already", all[i].at, strings.TrimSpace(name), at))
		}
		first[name] = all[i].at
	}
	slices.SortStableFunc(all, func(a, b applied) int {
		return slices.Index(applyKinds, a.kind) - slices.Index(applyKinds, b.kind)
	})
	return all, errors.Join(errs...)
}

// appliedDocuments reads the documents of a file.
func appliedDocuments(path string, text []byte) (docs []applied, errs []error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var root yaml.Node
		if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return docs, append(errs, yamlError(path, err))
		}
		if len(root.Content) == 0 || root.Content[0].Tag == "!!null" {
			continue
		}
		node := root.Content[0]
		at := fmt.Sprintf("%s:%d", path, node.Line)
		if node.Kind != yaml.MappingNode {
			errs = append(errs, fmt.Errorf("%s: has to be members, as key: value pairs", at))
			continue
		}
		keepTimes(node)
		a := applied{at: at}
		if err := node.Decode(&a.doc); err != nil {
			errs = append(errs, yamlError(path, err))
			continue
		}
		if kind, there := a.doc["kind"]; there {
			a.kind = fmt.Sprint(kind)
		}
		delete(a.doc, "kind")
		docs = append(docs, a)
	}
	if len(docs) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s: has no document", path))
	}
	return docs, errs
}

// check checks a document by itself, and reads the items of its items_from file.
func (a *applied) check(cmd *cobra.Command, file string) (errs []error) {
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", a.at, fmt.Sprintf(format, args...)))
	}
	members, ok := applyMembers[a.kind]
	if !ok {
		if a.kind == "" {
			wrong("kind: is missing: it is one of %s", strings.Join(applyKinds, ", "))
		} else {
			wrong("unknown kind %q%s It is one of %s", a.kind, cmp.Or(nearest(a.kind, applyKinds), "."), strings.Join(applyKinds, ", "))
		}
		return errs
	}
	var known []string
	for _, m := range members {
		name, needed := strings.CutSuffix(m, "!")
		known = append(known, name)
		if _, there := a.doc[name]; needed && !there {
			wrong("%s: is missing", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.doc)) {
		if !slices.Contains(known, name) {
			wrong("unknown key %q%s", name, nearest(name, known))
		}
	}
	for _, name := range []string{"merchant", "activity", "name"} {
		if v, there := a.doc[name]; there {
			if _, text := v.(string); !text {
				wrong("%s: must be a text: put it in quotes", name)
			}
		}
	}
	if a.kind != "activity" {
		return errs
	}
	if state, there := a.doc["state"]; there && state != "draft" && state != "published" && state != "paused" {
		wrong("state: must be draft, published or paused; to end an activity: ctl activities end")
	}
	from, there := a.doc["items_from"]
	delete(a.doc, "items_from")
	switch name, isText := from.(string); {
	case there == (a.doc["items"] != nil):
		wrong("needs items, or the name of a CSV file as items_from")
	case there && !isText:
		wrong("items_from: must be the name of a file")
	case there:
		if !filepath.IsAbs(name) && file != "-" {
			name = filepath.Join(filepath.Dir(file), name)
		}
		text, err := readInput(cmd, name)
		if err != nil {
			wrong("items_from: %v", err)
			break
		}
		items, err := readItems(name, text)
		if err != nil {
			errs = append(errs, err)
		}
		a.doc["items"] = items
	}
	return errs
}

// change is one change that apply will make.
type change struct {
	sign  string // + created, ~ changed, - removed
	title string
	needs string   // roleOperator or roleAdmin
	lines []string // the differences
	do    func() error
}

func applyCommand() *cobra.Command {
	var file string
	var dryRun, prune, yes bool
	cmd := command("apply -f FILE|DIR", "Make the server match files: merchants, callers, activities, limits, switches", cobra.NoArgs, true,
		func(s *session, _ []string) error {
			docs, err := readApplied(s.cmd, file)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return s.apply(docs, dryRun, prune, yes)
		})
	cmd.Long = applyHelp
	takesUnknown(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "the file or directory, - for stdin")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what differs and change nothing")
	cmd.Flags().BoolVar(&prune, "prune", false, "also remove drafts, callers and switches that the files don't name")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask before something is removed")
	required(cmd, "file")
	return cmd
}

// apply shows the differences and makes the changes.
func (s *session) apply(docs []applied, dryRun, prune, yes bool) error {
	p := &plan{session: s, merchants: make(map[string]bool), made: make(map[string]bool)}
	if _, err := s.read(s.cmd.Context(), &p.holder, get("me")); err != nil {
		return err
	}
	for i := range docs {
		p.makes(&docs[i])
	}
	for i := range docs {
		if err := p.add(&docs[i]); err != nil {
			return err
		}
	}
	if len(p.mistakes) > 0 {
		return &exitError{exitUsage, errors.Join(p.mistakes...)}
	}
	if prune {
		if err := p.prune(docs); err != nil {
			return err
		}
	}
	for _, note := range p.notes {
		if err := s.note("%s", note); err != nil {
			return err
		}
	}
	if len(p.changes) == 0 {
		_, err := fmt.Fprintln(s.out, "nothing to change")
		return err
	}
	taken := 0
	for i := range p.changes {
		c := &p.changes[i]
		if c.sign == "-" {
			taken++
		}
		if err := s.printChange(c); err != nil {
			return err
		}
	}
	if dryRun {
		return s.note("%d to change; nothing was changed (--dry-run)", len(p.changes))
	}
	if err := p.checkRole(); err != nil {
		return err
	}
	if taken > 0 && !yes {
		if err := s.confirm(fmt.Sprintf("%d of these changes remove something. Continue?", taken)); err != nil {
			return err
		}
	}
	for i := range p.changes {
		if err := p.changes[i].do(); err != nil {
			left := fmt.Errorf("%s: %w", p.changes[i].title, err)
			return errors.Join(left, s.note("%d of %d changes were made; run apply again for the rest", i, len(p.changes)))
		}
	}
	return s.note("%d changed", len(p.changes))
}

// maxDiffLines is the most lines that are shown of one change.
const maxDiffLines = 20

func (s *session) printChange(c *change) error {
	if _, err := fmt.Fprintf(s.out, "%s %s\n", c.sign, shown(c.title)); err != nil {
		return err
	}
	for i, line := range c.lines {
		if i == maxDiffLines {
			_, err := fmt.Fprintf(s.out, "    … and %d more\n", len(c.lines)-i)
			return err
		}
		if _, err := fmt.Fprintf(s.out, "    %s\n", shown(line)); err != nil {
			return err
		}
	}
	return nil
}

// plan has the changes that apply will make.
type plan struct {
	*session
	holder    holder
	changes   []change
	notes     []string
	mistakes  []error                     // mistakes in the files that only the server can find
	merchants map[string]bool             // that are in the files
	made      map[string]bool             // names that the files create, in the form of a limit's match
	callers   map[string][]map[string]any // the callers on the server, by merchant
	switches  []map[string]any            // the switches that are set now
	values    map[string]string           // the values that each switch may have
}

// will plans a change that a token of the role needs may make.
func (p *plan) will(sign, title, needs string, lines []string, do func() error) {
	p.changes = append(p.changes, change{sign, title, needs, lines, do})
}

// find reads an object of the server; nil if there is none.
func (p *plan) find(path ...string) (map[string]any, http.Header, error) {
	text, header, err := p.call(p.cmd.Context(), get(path...))
	if problem, ok := errors.AsType[*problemError](err); ok && problem.Status == http.StatusNotFound {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var doc map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	return doc, header, nil
}

func (p *plan) add(a *applied) error {
	switch a.kind {
	case "merchant":
		return p.merchant(a)
	case "caller":
		return p.caller(a)
	case "activity":
		return p.activity(a)
	case "limits":
		return p.limits(a)
	}
	return p.setSwitch(a)
}

func (p *plan) merchant(a *applied) error {
	id, name := a.text("merchant"), a.text("name")
	is, _, err := p.find("merchants", id)
	if err != nil {
		return err
	}
	do := func() error {
		text, _, err := p.call(p.cmd.Context(), put(map[string]any{"name": name}, "merchants", id))
		if err != nil || is != nil {
			return err
		}
		return p.object(text, "merchant", "payment_secret") // a new merchant's secret is shown only once
	}
	if is == nil {
		p.will("+", "merchant "+id, roleAdmin, []string{"name: " + name}, do)
	} else if is["name"] != name {
		p.will("~", "merchant "+id, roleAdmin, []string{differs("name", is["name"], name)}, do)
	}
	return nil
}

func differs(name string, was, is any) string { return fmt.Sprintf("%s: %v → %v", name, was, is) }

// callersOf reads a merchant's callers that aren't revoked, and keeps them. A merchant that doesn't
// exist yet has none.
func (p *plan) callersOf(merchant string) ([]map[string]any, error) {
	if known, ok := p.callers[merchant]; ok {
		return known, nil
	}
	items, err := p.adminClient.list(p.cmd.Context(), "after", 0, "merchants", merchant, "callers")
	if problem, ok := errors.AsType[*problemError](err); ok && problem.Status == http.StatusNotFound {
		items, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	callers := []map[string]any{}
	for _, item := range items {
		var caller map[string]any
		if err := json.Unmarshal(item, &caller); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if caller["revoked"] != true {
			callers = append(callers, caller)
		}
	}
	if p.callers == nil {
		p.callers = make(map[string][]map[string]any)
	}
	p.callers[merchant] = callers
	return callers, nil
}

func (p *plan) caller(a *applied) error {
	merchant, name := a.text("merchant"), a.text("name")
	if err := p.needsMerchant(a); err != nil {
		return err
	}
	callers, err := p.callersOf(merchant)
	if err != nil {
		return err
	}
	shadow := a.doc["shadow"] == true
	for _, c := range callers {
		if c["name"] != name {
			continue
		}
		if fmt.Sprint(c["rights"]) != fmt.Sprint(a.doc["rights"]) || c["shadow"] != shadow {
			p.wrong(a, "the caller %s has the rights %v, shadow %v: they can't be changed: revoke it, and add a caller with another name",
				a.key(), c["rights"], c["shadow"])
		}
		return nil
	}
	body := map[string]any{"name": name, "rights": a.doc["rights"], "shadow": shadow}
	p.will("+", "caller "+a.key(), roleAdmin, []string{fmt.Sprintf("rights: %v", a.doc["rights"])}, func() error {
		text, _, err := p.call(p.cmd.Context(), post(body, "merchants", merchant, "callers"))
		if err != nil {
			return err
		}
		return p.object(text, "merchant", "caller", "key")
	})
	return nil
}

// activity plans an activity: its document, and then its state.
func (p *plan) activity(a *applied) error {
	id := a.text("activity")
	if err := p.needsMerchant(a); err != nil {
		return err
	}
	is, _, err := p.find("activities", id)
	if err != nil {
		return err
	}
	state := a.text("state")
	delete(a.doc, "state")
	want, err := normal(a.doc)
	if err != nil {
		return fmt.Errorf("%s: %w", a.at, err)
	}
	sign, now := "+", "draft"
	lines := []string{seckill.Counted(len(itemsOf(want)), "item")}
	if is != nil {
		sign, now = "~", fmt.Sprint(is["state"])
		lines = p.activityDiff(id, now, is, want)
	}
	if is == nil || len(lines) > 0 {
		if err := p.tryActivity(a, want); err != nil {
			return err
		}
		p.will(sign, "activity "+id, roleAdmin, lines, func() error {
			_, _, err := p.call(p.cmd.Context(), put(want, "activities", id))
			return err
		})
	}
	for _, verb := range stateVerbs(now, state) {
		needs := roleAdmin
		if verb != "publish" {
			needs = roleOperator
		}
		p.will("~", fmt.Sprintf("activity %s: %s", id, verb), needs, nil, func() error {
			_, _, err := p.call(p.cmd.Context(), post(nil, "activities", id, verb))
			return err
		})
	}
	if state != "" && state != now && stateVerbs(now, state) == nil {
		p.notes = append(p.notes, fmt.Sprintf("%s: activity %s is %s, and can't become %s again", a.at, id, now, state))
	}
	return nil
}

// stateVerbs are the steps from one state to another.
func stateVerbs(is, want string) []string {
	return map[string][]string{
		"draft published": {"publish"}, "draft paused": {"publish", "pause"},
		"published paused": {"pause"}, "paused published": {"resume"},
	}[is+" "+want]
}

// normal returns a document with JSON's numbers, as the API takes it.
func normal(doc map[string]any) (map[string]any, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return out, d.Decode(&out)
}

func itemsOf(doc map[string]any) []any {
	items, _ := doc["items"].([]any)
	return items
}

// activityDiff returns the differences as lines. A different quantity of a published item is only
// noted, since a restock must change it.
func (p *plan) activityDiff(id, state string, is, want map[string]any) (lines []string) {
	for _, name := range []string{"merchant", "name", "starts_at", "ends_at", "payment_window"} {
		if !sameValue(name, is[name], want[name]) {
			lines = append(lines, differs(name, is[name], want[name]))
		}
	}
	known := make(map[string]map[string]any)
	for _, item := range itemsOf(is) {
		members, _ := item.(map[string]any)
		known[fmt.Sprint(members["sku"])] = members
	}
	left := 0
	for _, item := range itemsOf(want) {
		members, ok := item.(map[string]any)
		if !ok {
			continue // the server will report the mistake
		}
		was := known[fmt.Sprint(members["sku"])]
		delete(known, fmt.Sprint(members["sku"]))
		if was == nil {
			lines = append(lines, fmt.Sprintf("+ item %v", members["sku"]))
			continue
		}
		for _, name := range []string{"price", "currency", "quantity", "per_user", "max_orders", "spread"} {
			value, given := members[name]
			if !given {
				value = map[string]json.Number{"max_orders": "0", "spread": "1"}[name]
			}
			switch {
			case fmt.Sprint(was[name]) == fmt.Sprint(value):
			case name == "quantity" && state != "draft":
				left++
				members[name] = was[name]
			default:
				lines = append(lines, differs(fmt.Sprintf("item %v: %s", members["sku"], name), was[name], value))
			}
		}
	}
	for _, sku := range slices.Sorted(maps.Keys(known)) {
		lines = append(lines, "- item "+sku)
	}
	if left > 0 {
		p.notes = append(p.notes, fmt.Sprintf(
			"activity %s: the quantity of %s is not changed by a file, because the activity is %s; use stock restock",
			id, seckill.Counted(left, "item"), state))
	}
	return lines
}

// sameValue compares times as instants, and durations by their length.
func sameValue(name string, a, b any) bool {
	x, y := fmt.Sprint(a), fmt.Sprint(b)
	switch name {
	case "starts_at", "ends_at":
		t, err := time.Parse(time.RFC3339, x)
		u, wrong := time.Parse(time.RFC3339, strings.ToUpper(y))
		if err == nil && wrong == nil {
			return t.Truncate(time.Millisecond).Equal(u.Truncate(time.Millisecond))
		}
	case "payment_window":
		d, err := time.ParseDuration(x)
		e, wrong := time.ParseDuration(y)
		if err == nil && wrong == nil {
			return d == e
		}
	}
	return x == y
}

func (p *plan) limits(a *applied) error {
	is, header, err := p.find("limits")
	if err != nil {
		return err
	}
	want, err := normal(a.doc)
	if err != nil {
		return fmt.Errorf("%s: %w", a.at, err)
	}
	policies, _ := want["policies"].([]any)
	lines := limitsDiff(is, want)
	if len(lines) == 0 {
		return nil
	}
	if err := p.checkPolicies(a, policies); err != nil {
		return err
	}
	sign, none := "~", len(policies) == 0
	if none {
		sign = "-" // marks a removal, so that apply asks
	}
	p.will(sign, "limits", roleOperator, lines, func() error {
		body := map[string]any{"policies": policies, "reason": p.why(), "confirm": none, "allow_unknown": p.allowsUnknown()}
		r := put(body, "limits")
		r.header = http.Header{"If-Match": {header.Get("ETag")}}
		_, _, err := p.call(p.cmd.Context(), r)
		return err
	})
	return nil
}

// policyLines returns policies as lines of text, for a comparison.
func policyLines(policies []any) []string {
	lines := make([]string, len(policies))
	for i, policy := range policies {
		m, _ := policy.(map[string]any)
		mode, match := m["mode"], m["match"]
		if mode == nil {
			mode = "enforce"
		}
		if match == nil {
			match = ""
		}
		line := fmt.Sprintf("%v: %v %v", m["name"], m["key"], match)
		if m["rate"] != nil || m["burst"] != nil {
			rate := fmt.Sprint(m["rate"])
			if n, ok := m["rate"].(json.Number); ok {
				if f, err := n.Float64(); err == nil {
					rate = fmt.Sprint(f)
				}
			}
			line += " rate " + rate
			if m["burst"] != nil {
				line += fmt.Sprintf(" burst %v", m["burst"])
			}
		}
		line += fmt.Sprintf(" %v%s", mode, costText(m["cost"]))
		for _, name := range []string{
			"percent", "concurrency", "quota", "zone", "quota_per_sku", "quota_max", "guaranteed", "weight", "expires_at", "expires_in", "temporary",
		} {
			if m[name] != nil {
				line += fmt.Sprintf(" %s %v", name, m[name])
			}
		}
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return lines
}

// costText describes a policy's costs; "" for the default, one token per purchase.
func costText(cost any) string {
	charges, _ := cost.(map[string]any)
	text := ""
	for _, name := range limitClasses {
		usual, says := "0", fmt.Sprint(charges[name])
		if name == "purchase" {
			usual = "1"
		}
		if charges[name] != nil && says != usual {
			text += " cost." + name + " " + says
		}
	}
	return text
}

// why returns the reason for changes that need one.
func (p *plan) why() string {
	if p.reason != "" {
		return p.reason
	}
	return "ctl apply"
}

// setSwitches reads all switches that are set, and keeps them.
func (p *plan) setSwitches() ([]map[string]any, error) {
	if p.switches != nil {
		return p.switches, nil
	}
	items, err := p.adminClient.list(p.cmd.Context(), "after", 0, "switches")
	if err != nil {
		return nil, err
	}
	p.switches, p.values = []map[string]any{}, make(map[string]string)
	for _, item := range items {
		var one struct {
			Name, Values string
			Set          []map[string]any
		}
		if err := json.Unmarshal(item, &one); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		p.switches = append(p.switches, one.Set...)
		p.values[one.Name] = one.Values
	}
	return p.switches, nil
}

func (p *plan) setSwitch(a *applied) error {
	set, err := p.setSwitches()
	if err != nil {
		return err
	}
	if !p.knowsSwitch(a) {
		return nil
	}
	sign, lines := "+", []string{fmt.Sprintf("value: %v", a.doc["value"])}
	for _, is := range set {
		if switchKey(fmt.Sprint(is["name"]), is["scope"]) != a.key() || is["expires_at"] != nil {
			continue
		}
		if fmt.Sprint(is["value"]) == fmt.Sprint(a.doc["value"]) {
			return nil
		}
		sign, lines = "~", []string{differs("value", is["value"], a.doc["value"])}
	}
	if err := p.trySwitch(a); err != nil {
		return err
	}
	p.will(sign, "switch "+a.key(), roleOperator, lines, func() error {
		return p.putSwitch(a.text("name"), a.doc["value"], a.doc["scope"], false)
	})
	return nil
}

// putSwitch sets a switch, or only asks whether it could be set.
func (p *plan) putSwitch(name string, value, scope any, dryRun bool) error {
	body := map[string]any{"value": value, "reason": p.why(), "allow_unknown": p.allowsUnknown(), "dry_run": dryRun}
	if scope != nil {
		body["scope"] = scope
	}
	_, _, err := p.call(p.cmd.Context(), put(body, "switches", name))
	return err
}

// prune plans the removal of drafts, callers and switches that no file names. It only looks at
// merchants that the files name.
func (p *plan) prune(docs []applied) error {
	named := make(map[string]bool)
	merchants := make(map[string]bool)
	for i := range docs {
		named[docs[i].kind+" "+docs[i].key()] = true
		if m := docs[i].text("merchant"); m != "" {
			merchants[m] = true
		}
	}
	items, err := p.adminClient.list(p.cmd.Context(), "after", 0, "activities")
	if err != nil {
		return err
	}
	for _, item := range items {
		var a struct{ Activity, Merchant, State string }
		if err := json.Unmarshal(item, &a); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		switch {
		case !merchants[a.Merchant] || named["activity "+a.Activity] || a.State == "ended":
		case a.State != "draft":
			p.notes = append(p.notes, fmt.Sprintf("activity %s is in no file, but it is %s: it stays; to end it: ctl activities "+
				"end", a.Activity, a.State))
		default:
			p.will("-", "activity "+a.Activity, roleAdmin, nil, func() error {
				_, _, err := p.call(p.cmd.Context(), remove("activities", a.Activity))
				return err
			})
		}
	}
	for _, merchant := range slices.Sorted(maps.Keys(merchants)) {
		callers, err := p.callersOf(merchant)
		if err != nil {
			return err
		}
		for _, c := range callers {
			if id := fmt.Sprint(c["caller"]); !named["caller "+merchant+"/"+fmt.Sprint(c["name"])] {
				p.will("-", "caller "+merchant+"/"+id, roleOperator, nil, func() error {
					_, _, err := p.call(p.cmd.Context(), remove("merchants", merchant, "callers", id))
					return err
				})
			}
		}
	}
	set, err := p.setSwitches()
	if err != nil {
		return err
	}
	for _, is := range set {
		if key := switchKey(fmt.Sprint(is["name"]), is["scope"]); !named["switch "+key] {
			p.will("-", "switch "+key, roleOperator, nil, func() error { return p.putSwitch(fmt.Sprint(is["name"]), nil, is["scope"], false) })
		}
	}
	return nil
}

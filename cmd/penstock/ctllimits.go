package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// limitEdits are the commands that change one limit, or show the effect of a change.
func limitEdits() []*cobra.Command {
	var e limitEdit
	set := command("set NAME", "Add a limit, or change some of its values; with --expires-in, only for a while", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			e.name = args[0]
			return s.editLimits(e.apply)
		})
	flags := set.Flags()
	flags.StringVar(&e.key, "key", "", "whose: "+orList(limiterKeys)+"; required for a new limit")
	flags.StringVar(&e.match, "match", "", "the one key that the limit is for, like m1 or m1/web; without it, the limit is for every key")
	flags.Float64Var(&e.rate, "rate", 0, "purchases a second, over all gateways; required for a new limit")
	flags.Int64Var(&e.burst, "burst", 0, "how many may come at once; without it, --rate sets it to the number that it allows in a second")
	flags.StringVar(&e.mode, "mode", "", orList(limiterModes)+": shadow only counts the requests that it would refuse")
	flags.IntVar(&e.percent, "percent", 0, "with --mode percent: the percentage of keys that are limited")
	flags.Int64Var(&e.concurrency, "concurrency", 0, "how many requests may be in flight at once, on each gateway; 0 removes this bound")
	flags.Int64Var(&e.quota, "quota", 0, "tokens a day, over all gateways; 0 removes this bound")
	flags.StringVar(&e.zone, "zone", "", "the time zone in which the quota's day begins, like Asia/Shanghai; default: UTC")
	flags.Int64Var(&e.perSKU, "quota-per-sku", 0, "how much the quota grows with each SKU that the merchant has on sale; 0 for nothing")
	flags.Int64Var(&e.quotaMax, "quota-max", 0, "the most that the quota may grow to")
	flags.StringToInt64Var(&e.cost, "cost", nil,
		"tokens that each kind of request costs, like purchase=1,unit=0,page=1,status=0; a kind that isn't named keeps its cost")
	flags.Float64Var(&e.guaranteed, "guaranteed", 0, "the rate that the merchant always has, even while the global limit is used up")
	flags.IntVar(&e.weight, "weight", 0, "the weight of the merchant's share, compared with the weights of other merchants")
	flags.StringVar(&e.expires, "expires-in", "",
		"how long the change lasts, like 15m; after it the limit is as before, or is gone if it was new")
	takesUnknown(set)
	e.given = func(name string) bool { return flags.Changed(name) }
	oneOf(set, "key", limiterKeys...)
	oneOf(set, "mode", limiterModes...)

	drop := command("remove NAME", "Remove a limit", cobra.ExactArgs(1), true, func(s *session, args []string) error {
		return s.editLimits(func(policies []map[string]any) ([]map[string]any, error) {
			left := slices.DeleteFunc(slices.Clone(policies), func(p map[string]any) bool { return p["name"] == args[0] })
			if len(left) == len(policies) {
				return nil, &exitError{exitFailure, fmt.Errorf("there is no limit %q", args[0])}
			}
			if len(left) == 0 {
				return left, s.sure("This is the last limit: without it nobody is limited. Continue?")
			}
			return left, nil
		})
	})
	asks(drop)
	return []*cobra.Command{
		set, drop, stageCommand(),
		command("complete", "Put the staged limits in force on all gateways", cobra.NoArgs, true, func(s *session, _ []string) error {
			return s.endStage(post(nil, "limits", "staged", "complete"))
		}),
		command("take-back", "Give up the staged limits: the gateways that try them return to the limits before", cobra.NoArgs, true,
			func(s *session, _ []string) error { return s.endStage(remove("limits", "staged")) }),
		onLimitFile("diff", "Compare the limits of a file with those in force", (*session).diffLimits),
		onLimitFile("preview", "Show how much the limits of a file would have refused in the last 15 minutes", (*session).previewLimits),
	}
}

// allowUnknown is the flag that allows a name that doesn't exist. Without it such a name is
// refused, because it is most likely a typing mistake.
const allowUnknown = "allow-unknown"

func takesUnknown(cmd *cobra.Command) {
	cmd.Flags().Bool(allowUnknown, false, "accept names of merchants, callers, activities and SKUs that don't exist")
}

// allowsUnknown reports whether the flag is set.
func (s *session) allowsUnknown() bool {
	flag := s.cmd.Flags().Lookup(allowUnknown)
	return flag != nil && flag.Value.String() == "true"
}

// stageCommand has some gateways try limits first.
func stageCommand() *cobra.Command {
	var file, within, complete string
	var nodes []string
	var percent int
	var refused float64
	cmd := command("stage --file FILE",
		"Let some gateways try limits first; if they refuse too much, the gateways take them back by themselves",
		cobra.NoArgs, true, func(s *session, _ []string) error {
			doc, err := readLimitFile(s.cmd, file)
			if err != nil {
				return err
			}
			policies, _ := doc["policies"].([]any)
			body := map[string]any{
				"policies": policies, "max_refused_percent": refused, "within": within, "allow_unknown": s.allowsUnknown(),
			}
			if len(policies) == 0 {
				if err := s.sure("This removes all limits on these gateways. Continue?"); err != nil {
					return err
				}
				body["confirm"] = true
			}
			for name, value := range map[string]any{"nodes": nodes, "percent": percent, "complete_in": complete, "reason": s.reason} {
				if !reflect.ValueOf(value).IsZero() {
					body[name] = value
				}
			}
			_, header, err := s.call(s.cmd.Context(), get("limits"))
			if err != nil {
				return err
			}
			request := put(body, "limits", "staged")
			request.header = http.Header{"If-Match": {header.Get("ETag")}}
			return s.showPublished(request)
		})
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", "", "the document, in the form that limits show -o json prints, - for stdin")
	flags.StringArrayVar(&nodes, "node", nil, "a gateway that tries the limits, by its name in nodes list; may be repeated")
	flags.IntVar(&percent, "percent", 0, "the percentage of gateways that try the limits, instead of --node")
	flags.Float64Var(&refused, "max-refused", 10, "the percentage of refused purchases above which the limits are taken back")
	flags.StringVar(&within, "within", "10s", "the span of time over which refused purchases are counted")
	flags.StringVar(&complete, "complete-in", "",
		"after this time the limits are in force on all gateways; without it, they are when you run complete")
	required(cmd, "file")
	takesUnknown(cmd)
	asks(cmd)
	return cmd
}

// endStage ends what is staged now.
func (s *session) endStage(request adminRequest) error {
	_, header, err := s.call(s.cmd.Context(), get("limits"))
	if err != nil {
		return err
	}
	request.header = http.Header{"If-Match": {header.Get("ETag")}}
	return s.showPublished(request)
}

// limitColumns are the columns of a table of policies: the common ones, and those that at least one
// of the policies has.
func limitColumns(policies []json.RawMessage) []string {
	columns := []string{"name", "key", "match", "rate", "burst", "mode"}
	for _, name := range []string{
		"percent", "concurrency", "quota", "zone", "quota_per_sku", "quota_max", "cost", "guaranteed", "weight", "expires_at", "temporary",
	} {
		if slices.ContainsFunc(policies, func(p json.RawMessage) bool {
			var members map[string]json.RawMessage
			return json.Unmarshal(p, &members) == nil && members[name] != nil
		}) {
			columns = append(columns, name)
		}
	}
	return columns
}

// readLimitFile reads the document of limits that --file names.
func readLimitFile(cmd *cobra.Command, file string) (map[string]any, error) {
	text, err := readInput(cmd, file)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("flag --file: %w", err)}
	}
	doc, err := readLimits(text)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("flag --file: %s: %w", file, err)}
	}
	return doc, nil
}

// onLimitFile makes a command that reads a document of limits and changes nothing.
func onLimitFile(verb, short string, run func(s *session, doc map[string]any) error) *cobra.Command {
	var file string
	cmd := command(verb+" --file FILE", short, cobra.NoArgs, false, func(s *session, _ []string) error {
		doc, err := readLimitFile(s.cmd, file)
		if err != nil {
			return err
		}
		return run(s, doc)
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "the document, in the form that limits show -o json prints, - for stdin")
	required(cmd, "file")
	if verb == "preview" {
		takesUnknown(cmd)
	}
	return cmd
}

// readLimits reads a document of limits. Numbers stay as they are written.
func readLimits(text []byte) (map[string]any, error) {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var doc map[string]any
	if err := decoder.Decode(&doc); err != nil {
		return nil, err
	}
	if _, ok := doc["policies"].([]any); !ok {
		return nil, errors.New("the member policies is missing, or is no list")
	}
	return doc, nil
}

// limitEdit has the flags of set. given reports whether a flag was given.
type limitEdit struct {
	name, key, match, mode, expires string
	rate, guaranteed                float64
	burst                           int64
	percent, weight                 int
	concurrency, quota              int64
	perSKU, quotaMax                int64
	zone                            string
	cost                            map[string]int64
	given                           func(flag string) bool
}

// apply sets the policy of the given name. If the change is temporary, only the policy's temporary
// values are set.
func (e *limitEdit) apply(policies []map[string]any) ([]map[string]any, error) {
	at := slices.IndexFunc(policies, func(p map[string]any) bool { return p["name"] == e.name })
	if at < 0 {
		need := []string{"key", "rate"}
		if e.concurrency > 0 || e.quota > 0 {
			need = need[:1]
		}
		for _, flag := range need {
			if !e.given(flag) {
				return nil, &exitError{exitUsage, fmt.Errorf("flag --%s: is required: there is no limit %q yet", flag, e.name)}
			}
		}
		p := map[string]any{"name": e.name, "mode": "enforce"}
		e.values(p)
		e.subject(p)
		if e.given("expires-in") {
			p["expires_in"] = e.expires
		}
		return append(policies, p), nil
	}
	policies = slices.Clone(policies)
	p := maps.Clone(policies[at])
	policies[at] = p
	if e.given("expires-in") && p["expires_at"] == nil {
		for _, flag := range []string{
			"key", "match", "guaranteed", "weight", "concurrency", "quota", "zone", "quota-per-sku", "quota-max", "cost",
		} {
			if e.given(flag) {
				return nil, &exitError{exitUsage, fmt.Errorf("flag --%s: can't be set for a while only: leave out --expires-in", flag)}
			}
		}
		while := map[string]any{"mode": p["mode"], "expires_in": e.expires}
		for _, name := range []string{"rate", "burst", "percent"} {
			if p[name] != nil {
				while[name] = p[name]
			}
		}
		e.values(while)
		p["temporary"] = while
		return policies, nil
	}
	if e.given("rate") || e.given("burst") || e.given("mode") || e.given("percent") {
		delete(p, "temporary") // the values that are set now hold at once; a change of another bound keeps the temporary ones
	}
	e.values(p)
	e.subject(p)
	if e.given("expires-in") {
		delete(p, "expires_at")
		p["expires_in"] = e.expires
	}
	return policies, nil
}

// values sets those values that can also be set for a while.
func (e *limitEdit) values(p map[string]any) {
	if e.given("rate") {
		p["rate"], p["burst"] = e.rate, int64(max(math.Ceil(e.rate), 1))
	}
	if e.given("burst") {
		p["burst"] = e.burst
	}
	if e.given("mode") {
		p["mode"] = e.mode
		if e.mode != "percent" {
			delete(p, "percent")
		}
	}
	if e.given("percent") {
		p["percent"] = e.percent
		if !e.given("mode") {
			p["mode"] = "percent"
		}
	}
}

func (e *limitEdit) subject(p map[string]any) {
	for flag, value := range map[string]any{
		"key": e.key, "match": e.match, "guaranteed": e.guaranteed, "weight": e.weight, "concurrency": e.concurrency,
		"quota": e.quota, "zone": e.zone, "quota-per-sku": e.perSKU, "quota-max": e.quotaMax,
	} {
		if e.given(flag) {
			p[strings.ReplaceAll(flag, "-", "_")] = value
		}
	}
	if p["match"] == "" {
		delete(p, "match")
	}
	if p["guaranteed"] == 0.0 {
		delete(p, "guaranteed")
	}
	if p["quota"] == int64(0) { // without a quota, its other members go too
		maps.DeleteFunc(p, func(name string, _ any) bool { return name == "zone" || strings.HasPrefix(name, "quota") })
	}
	for _, name := range []string{"concurrency", "quota_per_sku", "quota_max"} {
		if p[name] == int64(0) {
			delete(p, name)
		}
	}
	if p["zone"] == "" {
		delete(p, "zone")
	}
	if !e.given("cost") {
		return
	}
	before, _ := p["cost"].(map[string]any)
	cost := maps.Clone(before)
	if cost == nil {
		cost = make(map[string]any)
	}
	for name, n := range e.cost {
		cost[name] = n
	}
	p["cost"] = cost
}

// limiterKeys and limiterModes are the words that a policy may have.
var (
	limiterKeys  = []string{"global", "merchant", "caller", "user", "ip", "activity", "sku"}
	limiterModes = []string{"enforce", "shadow", "off", "percent"}
)

// limitClasses are the classes of requests that a policy may charge for.
var limitClasses = [...]string{"purchase", "unit", "page", "status"}

// maxEdits is how many times an edit is tried when other changes come first.
const maxEdits = 5

// editLimits reads the limits, changes them and puts them back. If another change came first, it
// starts again.
func (s *session) editLimits(edit func([]map[string]any) ([]map[string]any, error)) error {
	if err := s.needsReason(); err != nil {
		return err
	}
	for try := 1; ; try++ {
		text, header, err := s.call(s.cmd.Context(), get("limits"))
		if err != nil {
			return err
		}
		var doc struct{ Policies []map[string]any }
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.UseNumber()
		if err := decoder.Decode(&doc); err != nil {
			return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		policies, err := edit(doc.Policies)
		if err != nil {
			return err
		}
		body := map[string]any{"policies": policies, "reason": s.reason}
		if len(policies) == 0 {
			body["policies"], body["confirm"] = []any{}, true
		}
		if s.allowsUnknown() {
			body["allow_unknown"] = true
		}
		request := put(body, "limits")
		request.header = http.Header{"If-Match": {header.Get("ETag")}}
		err = s.showPublished(request)
		var refused *problemError
		if !errors.As(err, &refused) || refused.Status != http.StatusPreconditionFailed || try == maxEdits {
			return err
		}
	}
}

// diffLimits prints how the limits of a file differ from those in force.
func (s *session) diffLimits(doc map[string]any) error {
	text, _, err := s.call(s.cmd.Context(), get("limits"))
	if err != nil {
		return err
	}
	now, err := readLimits(text)
	if err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	lines := limitsDiff(now, doc)
	if s.printer.json {
		return s.printer.value(map[string]any{"version": now["version"], "lines": lines})
	}
	if len(lines) == 0 {
		return s.note("no difference from version %v", now["version"])
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(s.printer.out, shown(line)); err != nil {
			return err
		}
	}
	return nil
}

// limitsDiff compares two documents and returns, as lines, the policies that only one of them has.
func limitsDiff(is, want map[string]any) []string {
	before, _ := is["policies"].([]any)
	after, _ := want["policies"].([]any)
	was, now := policyLines(before), policyLines(after)
	lines := []string{}
	for _, line := range was {
		if !slices.Contains(now, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range now {
		if !slices.Contains(was, line) {
			lines = append(lines, "+ "+line)
		}
	}
	return lines
}

// previewLimits prints how much the limits of a file would have refused.
func (s *session) previewLimits(doc map[string]any) error {
	body := map[string]any{"policies": doc["policies"], "allow_unknown": s.allowsUnknown()}
	text, _, err := s.call(s.cmd.Context(), post(body, "limits", "preview"))
	if err != nil {
		return err
	}
	if s.printer.json {
		return s.object(text)
	}
	var out struct {
		Missing        string
		Span           int `json:"span_seconds"`
		Asked, Refused uint64
		Policies       []json.RawMessage
		Callers        []json.RawMessage
		Unseen         []string `json:"not_previewed"`
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	if out.Missing != "" {
		if err := s.note("%s", out.Missing); err != nil {
			return err
		}
	}
	if len(out.Unseen) > 0 {
		names := strings.Join(out.Unseen, ", ")
		if err := s.note("not previewed, or not in full, because only purchases are counted, by caller and second: %s", names); err != nil {
			return err
		}
	}
	share := 0.0
	if out.Asked > 0 {
		share = 100 * float64(out.Refused) / float64(out.Asked)
	}
	if err := s.note("would have refused %d of %d purchases (%.1f %%) in the last %d s", out.Refused, out.Asked, share, out.Span); err != nil {
		return err
	}
	if err := s.printer.list(out.Policies, "name", "key", "mode", "refused"); err != nil || len(out.Callers) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(s.printer.out); err != nil {
		return err
	}
	return s.printer.list(out.Callers, "merchant", "caller", "asked", "refused", "policy")
}

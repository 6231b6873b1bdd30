package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock/seckill"
)

// This file finds mistakes in the values of apply's files, before anything is changed.

// values returns the mistakes in a document's values that need no other document.
func (a *applied) values() (wrong []string) {
	add := func(field, detail string) {
		if detail != "" {
			wrong = append(wrong, field+": "+detail)
		}
	}
	switch a.kind {
	case "merchant":
		add("merchant", seckill.CheckName(a.text("merchant")))
		add("name", seckill.CheckTitle(a.text("name")))
	case "caller":
		add("merchant", seckill.CheckName(a.text("merchant")))
		add("name", seckill.CheckTitle(a.text("name")))
		rights, _ := a.doc["rights"].([]any)
		if len(rights) == 0 || slices.ContainsFunc(rights, func(r any) bool { return r != "buy" && r != "merchant" }) {
			add("rights", "must be a list of buy, merchant or both")
		}
		if shadow, given := a.doc["shadow"]; given && shadow != true && shadow != false {
			add("shadow", "must be true or false")
		}
	case "activity":
		wrong = append(wrong, a.activityValues()...)
	case "switch":
		scope, isScope := a.doc["scope"].(map[string]any)
		for kind := range scope {
			isScope = isScope && len(scope) == 1 && slices.Contains([]string{"merchant", "activity", "sku", "caller"}, kind)
		}
		if a.doc["scope"] != nil && !isScope {
			add("scope", "must be one of merchant, activity, sku and caller, like {merchant: m1}")
		}
	}
	return wrong
}

// activityDocument is an activity as a file has it.
type activityDocument struct {
	Activity      string `json:"activity"`
	Merchant      string `json:"merchant"`
	Name          string `json:"name"`
	State         string `json:"state"`
	StartsAt      string `json:"starts_at"`
	EndsAt        string `json:"ends_at"`
	PaymentWindow string `json:"payment_window"`
	Items         []struct {
		SKU       string `json:"sku"`
		Price     int64  `json:"price"`
		Currency  string `json:"currency"`
		Quantity  int64  `json:"quantity"`
		PerUser   int    `json:"per_user"`
		MaxOrders int    `json:"max_orders"`
		Spread    *int   `json:"spread"` // nil: on one shard
	} `json:"items"`
}

// activityValues returns the mistakes in an activity, like the server. Only the server knows the
// number of shards.
func (a *applied) activityValues() (wrong []string) {
	text, err := json.Marshal(a.doc)
	if err != nil {
		return []string{err.Error()}
	}
	var doc activityDocument
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return []string{fmt.Sprintf("%s: can't be a %s", kind.Field, kind.Value)}
		}
		return []string{strings.TrimPrefix(err.Error(), "json: ")}
	}
	is := seckill.Activity{ID: seckill.ActivityID(doc.Activity), Merchant: seckill.MerchantID(doc.Merchant), Name: doc.Name}
	for _, t := range []struct {
		field, text string
		to          *time.Time
	}{{"starts_at", doc.StartsAt, &is.StartsAt}, {"ends_at", doc.EndsAt, &is.EndsAt}} {
		if *t.to, err = time.Parse(time.RFC3339, strings.ToUpper(t.text)); err != nil {
			wrong = append(wrong, t.field+": must be a time like 2026-06-18T20:00:00+08:00 (RFC 3339)")
		}
	}
	if is.PaymentWindow, err = time.ParseDuration(doc.PaymentWindow); err != nil {
		wrong = append(wrong, "payment_window: must be a duration like 90s, 15m or 1h30m")
	}
	for _, item := range doc.Items {
		is.Items = append(is.Items, seckill.Item{
			SKU: seckill.SKU(item.SKU), Price: seckill.Money{Minor: item.Price, Currency: item.Currency}, Quantity: item.Quantity,
			PerUser: item.PerUser, MaxOrders: item.MaxOrders, Spread: *cmp.Or(item.Spread, new(1)),
		})
	}
	if len(wrong) > 0 {
		return wrong // don't report further mistakes that follow from it
	}
	for _, e := range is.Check(maxShardsOfItems) {
		wrong = append(wrong, e.Field+": "+e.Detail)
	}
	return wrong
}

// wrong records a mistake that otherwise only the server could report.
func (p *plan) wrong(a *applied, format string, args ...any) {
	p.mistakes = append(p.mistakes, fmt.Errorf("%s: %s", a.at, fmt.Sprintf(format, args...)))
}

// needsMerchant adds a mistake if a document's merchant is neither on the server nor in a file.
func (p *plan) needsMerchant(a *applied) error {
	id := a.text("merchant")
	if p.merchants[id] {
		return nil
	}
	is, _, err := p.find("merchants", id)
	if err == nil && is == nil {
		p.wrong(a, "merchant: there is no merchant %s, and no file makes it", id)
	}
	return err
}

// makes records the names that a document creates.
func (p *plan) makes(a *applied) {
	switch a.kind {
	case "merchant":
		p.merchants[a.text("merchant")], p.made[a.text("merchant")] = true, true
	case "caller":
		p.made[a.text("merchant")+"/"+a.text("name")] = true
	case "activity":
		p.made[a.text("activity")] = true
		items, _ := a.doc["items"].([]any)
		for _, item := range items {
			if item, ok := item.(map[string]any); ok {
				p.made[fmt.Sprint(item["sku"])], p.made[fmt.Sprintf("%s/%v", a.text("activity"), item["sku"])] = true, true
			}
		}
	}
}

// checkPolicies makes the server check policies, without a change. A policy may match something
// that the files make.
func (p *plan) checkPolicies(a *applied, policies []any) error {
	body := map[string]any{"policies": policies, "allow_unknown": p.allowsUnknown()}
	_, _, err := p.call(p.cmd.Context(), post(body, "limits", "preview"))
	problem, ok := errors.AsType[*problemError](err)
	if !ok || problem.Code != "invalid-request" {
		return err
	}
	made := make(map[string]bool) // fields that name something that the files create
	for i := range policies {
		policy, _ := policies[i].(map[string]any)
		match, _ := policy["match"].(string)
		merchant, _, _ := strings.Cut(match, "/")
		if p.made[match] || policy["key"] == "user" && p.made[merchant] {
			made[fmt.Sprintf("policies[%d].match", i)] = true
		}
	}
	for _, e := range problem.Errors {
		if !made[e.Field] {
			p.wrong(a, "%s: %s", e.Field, e.Detail)
		}
	}
	return nil
}

// tryActivity makes the server check an activity, without a change: a running sale keeps its items,
// their prices and limits, and only the server knows its clock and the number of its shards. A
// token that may not change it may not ask.
func (p *plan) tryActivity(a *applied, want map[string]any) error {
	if !p.holder.may(roleAdmin) {
		return nil
	}
	asked := maps.Clone(want)
	asked["dry_run"] = true
	_, _, err := p.call(p.cmd.Context(), put(asked, "activities", a.text("activity")))
	if problem, ok := errors.AsType[*problemError](err); ok && problem.Code == "unknown-merchant" {
		return nil // which the server checks last, and needsMerchant has looked at
	}
	return p.refused(a, err, nil)
}

// trySwitch makes the server check a switch, without a change. Its scope may be something that the
// files make.
func (p *plan) trySwitch(a *applied) error {
	if !p.holder.may(roleOperator) {
		return nil
	}
	err := p.putSwitch(a.text("name"), a.doc["value"], a.doc["scope"], true)
	scope, _ := a.doc["scope"].(map[string]any)
	for _, name := range scope {
		if p.made[fmt.Sprint(name)] {
			return p.refused(a, err, map[string]bool{"scope": true})
		}
	}
	return p.refused(a, err, nil)
}

// refused adds what the server refuses of a document to the mistakes, but not that of the fields in
// but. Any other error it returns.
func (p *plan) refused(a *applied, err error, but map[string]bool) error {
	problem, ok := errors.AsType[*problemError](err)
	switch {
	case !ok || problem.Status < 400 || problem.Status >= 500 || problem.Status == http.StatusUnauthorized:
		return err
	case len(problem.Errors) == 0:
		p.wrong(a, "%s %s: %s", a.kind, a.key(), problem.Detail)
	}
	for _, e := range problem.Errors {
		if !but[e.Field] {
			p.wrong(a, "%s: %s", e.Field, e.Detail)
		}
	}
	return nil
}

// The roles that changes need; an admin may do what an operator may.
const (
	roleOperator = "operator"
	roleAdmin    = "admin"
)

// holder is the token that apply works with.
type holder struct{ Name, Role string }

// may reports whether the token may make a change that needs a role.
func (h *holder) may(needs string) bool { return h.Role == roleAdmin || h.Role == needs }

// checkRole refuses to begin what the token may not end.
func (p *plan) checkRole() error {
	var errs []error
	for i := range p.changes {
		if c := &p.changes[i]; !p.holder.may(c.needs) {
			errs = append(errs, fmt.Errorf("%s: needs the role %s; the token %s has %s", c.title, c.needs, p.holder.Name, p.holder.Role))
		}
	}
	return errors.Join(errs...)
}

// knowsSwitch adds a mistake, and returns false, if there is no such switch or if it can't have the
// value.
func (p *plan) knowsSwitch(a *applied) bool {
	name := a.text("name")
	values, known := p.values[name]
	if !known {
		var names []string
		for name := range p.values {
			names = append(names, name)
		}
		slices.Sort(names)
		p.wrong(a, "name: there is no switch %q%s", name, nearest(name, names))
		return false
	}
	if value := fmt.Sprint(a.doc["value"]); !takesValue(values, value) {
		p.wrong(a, "value: %q is none of %s", value, values)
		return false
	}
	return true
}

// takesValue reports whether a value is one of those that a switch's list names: words with commas
// between, or "0 to 100".
func takesValue(values, value string) bool {
	if from, to, ok := strings.Cut(values, " to "); ok {
		n, err := strconv.Atoi(value)
		least, _ := strconv.Atoi(from)
		most, _ := strconv.Atoi(to)
		return err == nil && n >= least && n <= most
	}
	return slices.Contains(strings.Split(values, ", "), value)
}

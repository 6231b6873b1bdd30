package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
)

// liveChange is a change as a sentence.
func (n *Node) liveChange(c *seckill.Change) *live.Change {
	text := changeText(c)
	if c.Reason != "" {
		text += ", because: " + c.Reason
	}
	return &live.Change{Number: c.Number, At: c.At.UTC().Truncate(time.Millisecond), By: c.Actor, Text: text, Merchant: n.changeMerchant(c)}
}

// changeText describes a change. Even a record that can't be read, because another version wrote
// it, gets a text.
func changeText(c *seckill.Change) string {
	switch c.Kind {
	case settings.Switches:
		return switchesText(c)
	case settings.Limits:
		return limitsText(c)
	case seckill.ChangeActivity:
		before, after := recorded[seckill.Activity](c.Before), recorded[seckill.Activity](c.After)
		if before.State != "" && after.State != "" && before.State != after.State {
			return fmt.Sprintf("activity %s went from %s to %s", c.Key, before.State, after.State)
		}
	case seckill.ChangeStock:
		if now := recorded[seckill.StockRecord](c.After); now.Delta != 0 {
			return fmt.Sprintf("the stock of %s was changed by %+d to %d", c.Key, now.Delta, now.Total)
		}
	case settings.KindNode:
		if now := recorded[struct{ Drain *bool }](c.After); now.Drain != nil && *now.Drain {
			return c.Key + ": somebody asked it to take no new buyers"
		} else if now.Drain != nil {
			return c.Key + ": somebody asked it to take buyers again"
		}
	case seckill.ChangeToken:
		switch {
		case recorded[seckill.TokenRecord](c.After).Session:
			return c.Key + " logged in"
		case recorded[seckill.TokenRecord](c.Before).Session:
			return c.Key + " logged out"
		}
	}
	switch {
	case c.Before == "":
		return fmt.Sprintf("%s %s was made", c.Kind, c.Key)
	case c.After == "":
		return fmt.Sprintf("%s %s was deleted", c.Kind, c.Key)
	}
	return fmt.Sprintf("%s %s was changed", c.Kind, c.Key)
}

// ofSession reports whether a change is a login or a logout. It is recorded, but operators need not
// see it.
func ofSession(c *seckill.Change) bool {
	return c.Kind == seckill.ChangeToken &&
		(recorded[seckill.TokenRecord](c.Before).Session || recorded[seckill.TokenRecord](c.After).Session)
}

// recorded reads one side of a change record; it returns the zero value if there is none.
func recorded[T any](text string) (v T) {
	if text == "" || json.Unmarshal([]byte(text), &v) != nil {
		var none T
		return none
	}
	return v
}

// switchesText says which switches were set and removed.
func switchesText(c *seckill.Change) string {
	before, after := recorded[degrade.Document](c.Before).Switches, recorded[degrade.Document](c.After).Switches
	lacks := func(in []degrade.Switch, one degrade.Switch) bool {
		return !slices.ContainsFunc(in, func(other degrade.Switch) bool {
			return one.Name == other.Name && one.Value == other.Value && one.Scope == other.Scope && one.Since.Equal(other.Since)
		})
	}
	var parts []string
	replaced := make(map[string]bool)
	for i := range after {
		if s := &after[i]; lacks(before, *s) {
			parts = append(parts, fmt.Sprintf("%s was set to %s for %s", s.Name, s.Value, s.Scope))
			replaced[string(s.Name)+" "+s.Scope.String()] = true
		}
	}
	for i := range before {
		if s := &before[i]; lacks(after, *s) && !replaced[string(s.Name)+" "+s.Scope.String()] {
			parts = append(parts, fmt.Sprintf("%s %s for %s was removed", s.Name, s.Value, s.Scope))
		}
	}
	return someOf(parts, "the switches were changed")
}

// limitsText says which limits were added, changed and removed.
func limitsText(c *seckill.Change) string {
	before, after := policyTexts(c.Before), policyTexts(c.After)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		switch old, had := before[name]; {
		case !had:
			parts = append(parts, "the limit "+name+" was added")
		case old != after[name]:
			parts = append(parts, "the limit "+name+" was changed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, has := after[name]; !has {
			parts = append(parts, "the limit "+name+" was removed")
		}
	}
	return someOf(parts, "the limits were changed")
}

// policyTexts are the policies of recorded limits, by name.
func policyTexts(text string) map[string]string {
	out := make(map[string]string)
	for _, raw := range recorded[struct{ Policies []json.RawMessage }](text).Policies {
		out[recorded[struct{ Name string }](string(raw)).Name] = string(raw)
	}
	return out
}

// someOf joins the first few parts. If there are none, it returns otherwise.
func someOf(parts []string, otherwise string) string {
	const most = 3
	switch n := len(parts); {
	case n == 0:
		return otherwise
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(parts[:most], ", "), n-most)
	}
	return strings.Join(parts, ", ")
}

// changeMerchant is the merchant of a change. It is "" if there are several, or if the merchant is
// unknown.
func (n *Node) changeMerchant(c *seckill.Change) string {
	front, _, _ := strings.Cut(c.Key, "/")
	switch c.Kind {
	case seckill.ChangeMerchant, seckill.ChangeCaller, seckill.ChangeRefund:
		return front
	case seckill.ChangeActivity, seckill.ChangeStock, seckill.ChangeExtension:
		return activityMerchant(n.sale.Desk.Catalog(), front)
	}
	return ""
}

package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
)

// publishedDoc answers a change of the settings.
type publishedDoc struct {
	Version  int64    `json:"version"`
	Recorded bool     `json:"recorded"`
	Applied  int      `json:"applied"`
	Nodes    int      `json:"nodes"`
	Lagging  []string `json:"lagging"`
	Message  string   `json:"message"` // what is in force where, for people
}

// published answers a change of the settings: what was changed, and where it is in force. If no
// gateway has it in force, the answer is an error, because a success would be misunderstood.
func (c *call) published(what string, p *settings.Published) error {
	if p.Nodes == 0 {
		return &refusal{problem.Problem{
			Code: problem.Unavailable, RetryAfter: time.Second,
			Detail: fmt.Sprintf("Version %d is written, but no gateway is running: it is in force on 0 of 0. A gateway that starts will use it.",
				p.Version),
		}}
	}
	return c.json(http.StatusOK, publishedDoc{p.Version, p.Recorded, p.Applied, p.Nodes, p.Lagging, what + " " + p.String()})
}

// switchValue is a switch's value in an answer: a number if the switch has numbers.
type switchValue struct {
	name degrade.Name
	text string
}

// MarshalJSON implements json.Marshaler.
func (v switchValue) MarshalJSON() ([]byte, error) {
	if v.name.IsNumber() {
		return []byte(v.text), nil
	}
	return json.Marshal(v.text)
}

// setDoc is the value of a switch that is set for a scope.
type setDoc struct {
	Name      degrade.Name  `json:"name"`
	Scope     degrade.Scope `json:"scope,omitzero"`
	Value     switchValue   `json:"value"`
	Reason    string        `json:"reason"`
	By        string        `json:"by"`
	Since     stamp         `json:"since"`
	StartsAt  *stamp        `json:"starts_at,omitempty"`
	ExpiresAt *stamp        `json:"expires_at,omitempty"`
	// Unrecorded means that it was set while the database was away. It is in force, but not written
	// to the database yet.
	Unrecorded bool `json:"unrecorded,omitempty"`
}

func newSetDoc(s *degrade.Switch) setDoc {
	doc := setDoc{s.Name, s.Scope, switchValue{s.Name, s.Value}, s.Reason, s.By, stamp(s.Since), nil, nil, false}
	if !s.StartsAt.IsZero() {
		begins := stamp(s.StartsAt)
		doc.StartsAt = &begins
	}
	if !s.ExpiresAt.IsZero() {
		ends := stamp(s.ExpiresAt)
		doc.ExpiresAt = &ends
	}
	return doc
}

func newSetDocs(switches []degrade.Switch) []setDoc {
	docs := make([]setDoc, len(switches))
	for i := range switches {
		docs[i] = newSetDoc(&switches[i])
	}
	return docs
}

// switchDoc is a switch with all its values that are set.
type switchDoc struct {
	Name    degrade.Name `json:"name"`
	Value   switchValue  `json:"value"` // outside of all scopes
	Default switchValue  `json:"default"`
	Values  string       `json:"values"`
	Effect  string       `json:"effect"`
	Set     []setDoc     `json:"set"` // of one scope the last is in force
}

type switchesDoc struct {
	Version    int64       `json:"version"`
	Unrecorded int         `json:"unrecorded"` // changes that were made while the database was away, and aren't written there yet
	Items      []switchDoc `json:"items"`
}

// currentSwitches reads the switches that are in force, and the database's time.
func (c *call) currentSwitches(ctx context.Context) (settings.Document, degrade.Document, time.Time, error) {
	stored, now, err := c.document(ctx, settings.Switches)
	if err != nil {
		return stored, degrade.Document{}, now, err
	}
	document, err := degrade.ParseDocument(stored.Body)
	if err != nil {
		return stored, document, now, fmt.Errorf("read version %d of the switches: %w", stored.Version, err)
	}
	return stored, document, now, nil
}

// switchesInForce reads the switches from the database. If the database is away, or changes aren't
// recorded yet, it returns those in force on this node. amended are the changes that aren't
// recorded.
func (c *call) switchesInForce() (version int64, d degrade.Document, amended []degrade.Amendment, now time.Time, err error) {
	if w := c.server.deps.Settings.Watcher; w != nil {
		state := w.State()
		if state.Waiting > 0 || state.Away != nil && state.Known {
			stored, waiting, now := w.InForce(settings.Switches)
			for i := range waiting {
				var a degrade.Amendment
				if err := json.Unmarshal(waiting[i].Body, &a); err != nil {
					return 0, d, nil, now, fmt.Errorf("read change %s of the switches: %w", waiting[i].ID, err)
				}
				amended = append(amended, a)
			}
			d, err = degrade.ParseDocument(stored.Body)
			return stored.Version, d, amended, now, err
		}
	}
	stored, d, now, err := c.currentSwitches(c.context())
	return stored.Version, d, nil, now, err
}

// listSwitches answers GET /admin/v1/switches.
func (c *call) listSwitches() error {
	version, document, amended, now, err := c.switchesInForce()
	if err != nil {
		return err
	}
	doc := switchesDoc{Version: version, Unrecorded: len(amended)}
	for _, d := range degrade.Descriptions() {
		item := switchDoc{
			Name: d.Name, Value: switchValue{d.Name, d.Normal}, Default: switchValue{d.Name, d.Normal}, Values: d.Values, Effect: d.Help,
			Set: []setDoc{},
		}
		for i := range document.Switches {
			s := &document.Switches[i]
			if s.Name != d.Name || s.Over(now) || s.Scope != (degrade.Scope{}) && !c.token.mayScope(c.server.deps.Catalog(), &s.Scope) {
				continue
			}
			set := newSetDoc(s)
			set.Unrecorded = slices.ContainsFunc(amended, func(a degrade.Amendment) bool {
				return !a.Unset && equalSwitches(a.Switch, *s) && a.Since.Equal(s.Since)
			})
			item.Set = append(item.Set, set)
			if s.Scope == (degrade.Scope{}) && s.Active(now) {
				item.Value.text = s.Value
			}
		}
		doc.Items = append(doc.Items, item)
	}
	return c.json(http.StatusOK, doc)
}

// The bounds of a switch's end: a shorter time may be over before the switch is in force
// everywhere, and a longer one would be forgotten.
const (
	minExpiry = time.Second
	maxExpiry = 30 * 24 * time.Hour
)

// levelExpiry is how long a pinned level lasts by default.
const levelExpiry = time.Hour

// startOf begins a starts_at that is relative to the start of an activity, as in start-30s.
const startOf = "start"

// plan finds when a switch begins: at a time, or relative to the start of the activity that it is
// for, as in start-30s.
func (c *call) plan(ctx context.Context, w *wantedSwitch, m *mistakes) error {
	if w.starts == "" {
		return nil
	}
	relative, isRelative := strings.CutPrefix(w.starts, startOf)
	at, ok := parseTime(w.starts)
	if isRelative {
		d, err := time.ParseDuration(cmp.Or(relative, "0s"))
		if ok = err == nil; !ok {
			m.add("starts_at", "must be a time (RFC 3339), or like start-30s with the scope of an activity")
			return nil
		}
		if w.Scope.Activity == "" {
			m.add("starts_at", "can be relative to the start of an activity only with the scope of one")
			return nil
		}
		a, err := c.server.findActivity(ctx, seckill.ActivityID(w.Scope.Activity))
		if err != nil {
			return err
		}
		at = a.StartsAt.Add(d)
	}
	if !ok {
		m.add("starts_at", "must be a time (RFC 3339), or like start-30s with the scope of an activity")
	}
	w.StartsAt = at.UTC().Truncate(time.Millisecond)
	return nil
}

// wantedSwitch is the body of a PUT.
type wantedSwitch struct {
	degrade.Switch
	unset        bool // its value is null: the value of the scope is removed
	expiresIn    time.Duration
	starts       string // when it begins; "" at once
	allowUnknown bool   // the scope may name an unknown merchant, activity, item or caller
}

// at returns the switch with its values at now.
func (w *wantedSwitch) at(now time.Time, by string) degrade.Switch {
	s := w.Switch
	s.By, s.Since = by, now.Truncate(time.Millisecond)
	if w.expiresIn > 0 {
		s.ExpiresAt = s.Since.Add(w.expiresIn)
	}
	if !s.StartsAt.IsZero() {
		s.ExpiresAt = s.StartsAt.Add(w.expiresIn)
	}
	return s
}

// String describes the wanted change, for people.
func (w *wantedSwitch) String() string {
	if w.unset {
		return fmt.Sprintf("%s is not set for %s,", w.Name, w.Scope)
	}
	planned := ""
	if !w.StartsAt.IsZero() {
		planned = " from " + w.StartsAt.Format(time.RFC3339) + " on"
	}
	return fmt.Sprintf("%s is %s for %s%s,", w.Name, w.Value, w.Scope, planned)
}

// putSwitch answers PUT /admin/v1/switches/{name}. With dry_run the switch is only checked.
func (c *call) putSwitch() error {
	name := degrade.Name(c.r.PathValue("name"))
	if !isSwitch(name) {
		return refuse(problem.UnknownSwitch, "")
	}
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	wanted := takeSwitch(o, name)
	wanted.Reason = c.reason(o, m, true)
	dryRun := o.boolean("dry_run")
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	if !c.token.mayScope(c.server.deps.Catalog(), &wanted.Scope) {
		return refuse(problem.Forbidden, boundScope(&c.token))
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if !wanted.unset && !wanted.allowUnknown {
		m.add("scope", c.unknownScope(ctx, &wanted.Scope))
		if err := m.err(); err != nil {
			return err
		}
	}
	if err := errors.Join(c.plan(ctx, &wanted, m), m.err()); err != nil {
		return err
	}
	if dryRun {
		return c.none()
	}
	published, err := c.setSwitch(ctx, &wanted, m)
	if err != nil {
		return err
	}
	return c.published(wanted.String(), &published)
}

// unknownScope returns an error text if the name in a scope is unknown, and "" if it is known.
func (c *call) unknownScope(ctx context.Context, s *degrade.Scope) string {
	for _, named := range []struct{ kind, name string }{
		{kindOfMerchant, s.Merchant}, {kindOfActivity, s.Activity}, {kindOfSKU, s.SKU}, {kindOfCaller, s.Caller},
	} {
		if named.name == "" {
			continue
		}
		if wrong := c.unknownName(ctx, named.kind, named.name); wrong != "" {
			return wrong
		}
	}
	return ""
}

// emergencyPatience is how long a change of an emergency switch waits for the database before it is
// made without.
const emergencyPatience = 1500 * time.Millisecond

// setSwitch writes a switch into the database. If the database is away, an emergency switch is put
// in force without it.
func (c *call) setSwitch(ctx context.Context, wanted *wantedSwitch, m *mistakes) (settings.Published, error) {
	write := func(ctx context.Context) (settings.Published, error) {
		p, _, err := c.changeSwitches(ctx, c.author(wanted.Reason), func(d *degrade.Document, now time.Time) error {
			if wanted.unset {
				d.Unset(wanted.Name, wanted.Scope, now)
				return nil
			}
			d.Set(wanted.at(now, c.token.name), now)
			if len(d.Switches) > degrade.MaxSwitches {
				m.add("scope", fmt.Sprintf("is one too many: %d switches are set, take some out first", degrade.MaxSwitches))
			}
			return m.err()
		})
		return p, err
	}
	watcher := c.server.deps.Settings.Watcher
	if watcher == nil {
		return write(ctx)
	}
	if !wanted.Name.Emergency() {
		p, err := write(ctx)
		if _, away := errors.AsType[*seckill.Failure](err); away {
			return p, c.onlyInEmergency(err)
		}
		return p, err
	}
	if watcher.State().Away == nil {
		short, cancel := context.WithTimeout(ctx, emergencyPatience)
		defer cancel()
		p, err := write(short)
		if _, away := errors.AsType[*seckill.Failure](err); !away {
			return p, err
		}
		c.server.quiet.write(kindUnavailable, slog.LevelWarn, "switch set without the database, which can't be reached",
			"switch", string(wanted.Name), "err", err)
	}
	return c.amendSwitches(ctx, wanted)
}

// onlyInEmergency is the refusal of a switch that can't be set while the database is away; it names
// those that can.
func (c *call) onlyInEmergency(err error) error {
	c.server.quiet.write(kindUnavailable, slog.LevelWarn, "admin request not served", "route", c.routeName(), "request", c.id(), "err", err)
	var names []string
	for _, name := range degrade.EmergencyNames() {
		names = append(names, string(name))
	}
	return &refusal{problem.Problem{
		Code: problem.Unavailable, RetryAfter: time.Second,
		Detail: "The database can't be asked. Without it only these can be set: " + strings.Join(names, ", ") + ".",
	}}
}

// amendSwitches sets a switch without the database.
func (c *call) amendSwitches(ctx context.Context, wanted *wantedSwitch) (settings.Published, error) {
	publisher := c.server.deps.Settings
	_, _, now := publisher.Watcher.InForce(settings.Switches)
	body, err := json.Marshal(degrade.Amendment{Switch: wanted.at(now.UTC(), c.token.name), Unset: wanted.unset})
	if err != nil {
		return settings.Published{}, fmt.Errorf("encode the change: %w", err)
	}
	p, err := publisher.Amend(ctx, settings.Switches, body, settings.Author(c.author(wanted.Reason)))
	switch {
	case errors.Is(err, settings.ErrTooManyAmendments):
		return p, &refusal{problem.Problem{
			Code: problem.Overloaded, RetryAfter: time.Second, Detail: "Too many changes wait already to be recorded when the database is back.",
		}}
	case err != nil:
		return p, failed("set the switch without the database", err)
	}
	return p, nil
}

func isSwitch(name degrade.Name) bool {
	for _, d := range degrade.Descriptions() {
		if d.Name == name {
			return true
		}
	}
	return false
}

// takeSwitch takes a switch's members.
func takeSwitch(o *object, name degrade.Name) wantedSwitch {
	w := wantedSwitch{Switch: degrade.Switch{Name: name}}
	raw, given := o.raw["value"]
	delete(o.raw, "value")
	switch {
	case !given:
		o.add("value", "is required; null removes the value of the scope")
	case string(raw) == "null":
		w.unset = true
	default:
		w.Value = string(bytes.TrimSpace(raw))
		if raw[0] == '"' {
			w.Value = o.string("value", raw)
		}
		o.add("value", degrade.CheckValue(name, w.Value))
	}
	if text := o.take("scope"); text != nil {
		scope := parseObject(text, "scope.", o.mistakes)
		given := len(scope.raw)
		w.Scope.Merchant, _ = scope.optionalText("merchant")
		w.Scope.Activity, _ = scope.optionalText("activity")
		w.Scope.SKU, _ = scope.optionalText("sku")
		w.Scope.Caller, _ = scope.optionalText("caller")
		scope.end()
		if wrong := w.Scope.Check(name); wrong != "" {
			o.add("scope", wrong)
		} else if given > 1 {
			o.add("scope", "must be one of merchant, activity, sku, caller")
		} else if w.Scope == (degrade.Scope{}) && given > 0 {
			o.add("scope", "must have a name; without a scope the switch is for everybody")
		}
	}
	if text, given := o.optionalText("expires_in"); given {
		d, err := time.ParseDuration(text)
		if err != nil || d < minExpiry || d > maxExpiry {
			o.add("expires_in", fmt.Sprintf("must be a duration like 90s, 15m or 1h30m, from %v to %v", minExpiry, shortDuration(maxExpiry)))
		}
		if w.unset {
			o.add("expires_in", "must not be given when a value is removed")
		}
		w.expiresIn = d
	}
	w.starts, _ = o.optionalText("starts_at")
	if w.starts != "" && w.expiresIn == 0 {
		o.add("expires_in", "is required with starts_at, and counts from then")
	}
	if name == degrade.LevelSwitch && !w.unset && w.expiresIn == 0 {
		w.expiresIn = levelExpiry
	}
	w.allowUnknown = o.boolean("allow_unknown")
	return w
}

// maxTries is how many times a change is tried when other changes come first.
const maxTries = 8

// errSame means that a change would change nothing.
var errSame = errors.New("nothing to change")

// changeSwitches changes the switches that are in force, together with concurrent changes of
// others. changed is false if change returns errSame.
func (c *call) changeSwitches(ctx context.Context, by seckill.Author,
	change func(d *degrade.Document, now time.Time) error,
) (p settings.Published, changed bool, err error) {
	for range maxTries {
		stored, document, now, err := c.currentSwitches(ctx)
		if err != nil {
			return p, false, err
		}
		if err := change(&document, now); errors.Is(err, errSame) {
			return p, false, nil
		} else if err != nil {
			return p, false, err
		}
		body, err := json.Marshal(document)
		if err != nil {
			return p, false, fmt.Errorf("encode the switches: %w", err)
		}
		p, err = c.server.deps.Settings.Publish(ctx, settings.Switches, stored.Version, body, settings.Author(by))
		switch {
		case errors.Is(err, settings.ErrConflict):
			continue
		case err != nil:
			return p, false, failed("write the switches", err)
		}
		return p, true, nil
	}
	return p, false, refuseOverloaded()
}

// planSwitches reverts a change for the switches that it changed. Later changes of other switches
// stay.
func planSwitches(ch *seckill.Change) (undo, error) {
	before, after, _, err := sides[degrade.Document](ch)
	if err != nil {
		return nil, err
	}
	touched := touchedSwitches(&before, &after)
	if len(touched) == 0 {
		return nil, notRevertible("It changed no switch.")
	}
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		_, changed, err := c.changeSwitches(ctx, by, func(d *degrade.Document, now time.Time) error {
			same := true
			for _, t := range touched {
				is, was, made := d.All(t.Name, t.Scope, now), before.All(t.Name, t.Scope, now), after.All(t.Name, t.Scope, now)
				switch {
				case slices.EqualFunc(is, was, equalSwitches):
					continue
				case !slices.EqualFunc(is, made, equalSwitches):
					return overtaken()
				}
				same = false
				d.Unset(t.Name, t.Scope, now)
				for _, s := range was { // sorted by end, latest first: an earlier value comes back when a later one expires
					d.Set(s, now)
				}
			}
			if same {
				return errSame
			}
			return nil
		})
		return changed, err
	}, nil
}

// touchedSwitches returns the switches that differ between two documents, expired ones included.
func touchedSwitches(before, after *degrade.Document) []degrade.Switch {
	var out []degrade.Switch
	for _, side := range [][]degrade.Switch{after.Switches, before.Switches} {
		for i := range side {
			s := &side[i]
			known := false
			for _, t := range out {
				known = known || t.Name == s.Name && t.Scope == s.Scope
			}
			was, is := before.All(s.Name, s.Scope, time.Time{}), after.All(s.Name, s.Scope, time.Time{})
			if !known && !slices.EqualFunc(was, is, equalSwitches) {
				out = append(out, *s)
			}
		}
	}
	return out
}

func equalSwitches(a, b degrade.Switch) bool {
	return a.Name == b.Name && a.Scope == b.Scope && a.Value == b.Value && a.StartsAt.Equal(b.StartsAt) && a.ExpiresAt.Equal(b.ExpiresAt)
}

package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"penstock/degrade"
	"penstock/gateway/problem"
	"penstock/internal/settings"
	"penstock/seckill"
)

// publishedDoc answers a change of the settings.
type publishedDoc struct {
	Version int64    `json:"version"`
	Applied int      `json:"applied"`
	Nodes   int      `json:"nodes"`
	Lagging []string `json:"lagging"`
}

func newPublishedDoc(p settings.Published) publishedDoc {
	return publishedDoc{p.Version, p.Applied, p.Nodes, p.Lagging}
}

// switchValue is a switch's value as it is answered: a number where the switch has numbers.
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

// setDoc is a switch that somebody set, for a scope.
type setDoc struct {
	Name      degrade.Name  `json:"name"`
	Scope     degrade.Scope `json:"scope,omitzero"`
	Value     switchValue   `json:"value"`
	Reason    string        `json:"reason"`
	By        string        `json:"by"`
	Since     stamp         `json:"since"`
	ExpiresAt *stamp        `json:"expires_at,omitempty"`
}

func newSetDoc(s *degrade.Switch) setDoc {
	doc := setDoc{s.Name, s.Scope, switchValue{s.Name, s.Value}, s.Reason, s.By, stamp(s.Since), nil}
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

// switchDoc is a switch and everything that is set of it.
type switchDoc struct {
	Name    degrade.Name `json:"name"`
	Value   switchValue  `json:"value"` // for who is in no scope
	Default switchValue  `json:"default"`
	Values  string       `json:"values"`
	Effect  string       `json:"effect"`
	Set     []setDoc     `json:"set"` // of one scope the last is in force
}

type switchesDoc struct {
	Version int64       `json:"version"`
	Items   []switchDoc `json:"items"`
}

// currentSwitches reads the switches that are in force, and the database's time.
func (c *call) currentSwitches(ctx context.Context) (settings.Document, degrade.Document, time.Time, error) {
	stored, now, err := c.server.deps.Settings.Store.FindSettings(ctx, settings.Switches)
	if err != nil {
		return stored, degrade.Document{}, now, failed("read the switches", err)
	}
	document, err := degrade.ParseDocument(stored.Body)
	if err != nil {
		return stored, document, now, fmt.Errorf("read version %d of the switches: %w", stored.Version, err)
	}
	return stored, document, now, nil
}

// listSwitches answers GET /admin/v1/switches.
func (c *call) listSwitches() error {
	stored, document, now, err := c.currentSwitches(c.context())
	if err != nil {
		return err
	}
	doc := switchesDoc{Version: stored.Version}
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
			item.Set = append(item.Set, newSetDoc(s))
			if s.Scope == (degrade.Scope{}) {
				item.Value.text = s.Value
			}
		}
		doc.Items = append(doc.Items, item)
	}
	return c.json(http.StatusOK, doc)
}

// The bounds of a switch's end: a shorter time is over before it is in force everywhere, a longer one is no end.
const (
	minExpiry = time.Second
	maxExpiry = 30 * 24 * time.Hour
)

// wantedSwitch is the body of a PUT.
type wantedSwitch struct {
	degrade.Switch
	unset     bool // its value is null: what is set for the scope is taken out
	expiresIn time.Duration
}

// putSwitch answers PUT /admin/v1/switches/{name}.
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
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	if !c.token.mayScope(c.server.deps.Catalog(), &wanted.Scope) {
		return refuse(problem.Forbidden, boundScope(&c.token))
	}
	ctx, cancel := c.lasting()
	defer cancel()
	published, _, err := c.changeSwitches(ctx, c.author(wanted.Reason), func(d *degrade.Document, now time.Time) error {
		if wanted.unset {
			d.Unset(name, wanted.Scope, now)
			return nil
		}
		s := wanted.Switch
		s.By, s.Since = c.token.name, now.Truncate(time.Millisecond)
		if wanted.expiresIn > 0 {
			s.ExpiresAt = s.Since.Add(wanted.expiresIn)
		}
		d.Set(s, now)
		if len(d.Switches) > degrade.MaxSwitches {
			m.add("scope", fmt.Sprintf("is one too many: %d switches are set, take some out first", degrade.MaxSwitches))
		}
		return m.err()
	})
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newPublishedDoc(published))
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
		o.add("value", "is required; null takes out what is set for the scope")
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
		} else if w.Scope == (degrade.Scope{}) && given > 0 {
			o.add("scope", "must name somebody; without a scope it is for everybody")
		}
	}
	if text, given := o.optionalText("expires_in"); given {
		d, err := time.ParseDuration(text)
		if err != nil || d < minExpiry || d > maxExpiry {
			o.add("expires_in", fmt.Sprintf("must be a duration like 90s, 15m or 1h30m, from %v to %v", minExpiry, shortDuration(maxExpiry)))
		}
		if w.unset {
			o.add("expires_in", "means nothing where a switch is taken out")
		}
		w.expiresIn = d
	}
	return w
}

// maxTries is how often a change that was overtaken by another one is made again on top of it.
const maxTries = 8

// errSame says that a change would change nothing.
var errSame = errors.New("nothing to change")

// changeSwitches changes the switches that are in force, on top of whatever others change at the same time. changed is false where
// change says errSame.
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

// planSwitches takes back what a change did to each switch, and leaves what others did to other switches since.
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
				for _, s := range was { // each outlives the next: what is beneath comes back when that one is over
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

// touchedSwitches returns what differs between two documents, whether it was over by then or not.
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
	return a.Name == b.Name && a.Scope == b.Scope && a.Value == b.Value && a.ExpiresAt.Equal(b.ExpiresAt)
}

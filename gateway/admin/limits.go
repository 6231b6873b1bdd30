package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

type limitsDoc struct {
	Version  int64            `json:"version"`
	Policies []limiter.Policy `json:"policies"`
	Staged   *limiter.Staged  `json:"staged,omitempty"`
}

// parseLimits reads a stored version. Version 0, before the first write, has no policies.
func parseLimits(d *settings.Document) (limiter.Document, error) {
	out := limiter.Document{Policies: []limiter.Policy{}}
	if d.Version == 0 {
		return out, nil
	}
	if err := json.Unmarshal(d.Body, &out); err != nil {
		return out, fmt.Errorf("read version %d of the limits: %w", d.Version, err)
	}
	return out, nil
}

// limitsInForce returns the limits as this node has them in force: it needs no database.
func (c *call) limitsInForce() (limiter.Document, error) {
	w := c.server.deps.Settings.Watcher
	if w == nil {
		return limiter.Document{}, nil
	}
	stored, _, now := w.InForce(settings.Limits)
	d, err := parseLimits(&stored)
	d.Prune(now)
	return d, err
}

func (c *call) currentLimits(ctx context.Context) (settings.Document, error) {
	stored, _, err := c.limitsNow(ctx)
	return stored, err
}

// limitsNow reads the newest version of the limits, and the database's time.
func (c *call) limitsNow(ctx context.Context) (settings.Document, time.Time, error) {
	return c.document(ctx, settings.Limits)
}

// versionTag is a version as an entity tag.
func versionTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// getLimits answers GET /admin/v1/limits. It leaves out expired policies and values.
func (c *call) getLimits() error {
	stored, now, err := c.limitsNow(c.context())
	if err != nil {
		return err
	}
	document, err := parseLimits(&stored)
	if err != nil {
		return err
	}
	document.Prune(now)
	c.w.Header().Set("ETag", versionTag(stored.Version))
	return c.json(http.StatusOK, limitsDoc{stored.Version, document.Policies, document.Staged})
}

// wantedLimits is the body of a request that replaces limits.
type wantedLimits struct {
	limiter.Document
	confirmed, allowUnknown bool
	reason                  string
}

// takeWanted takes the members that all such bodies have.
func (c *call) takeWanted(o *object, now time.Time, m *mistakes) wantedLimits {
	w := wantedLimits{Document: takeLimits(o, now)}
	o.take("version") // present when a GET is put back; If-Match has the version
	w.confirmed, w.allowUnknown, w.reason = o.boolean("confirm"), o.boolean("allow_unknown"), c.reason(o, m, false)
	return w
}

// check adds the mistakes in the wanted limits, if they are well formed.
func (w *wantedLimits) check(c *call, now time.Time, m *mistakes) error {
	if err := m.err(); err != nil {
		return err
	}
	if len(c.r.Header.Values("If-Match")) == 0 {
		return refuse(problem.PreconditionRequired, "")
	}
	if w.reason == "" {
		m.add("reason", "is required")
	}
	checkLimits(&w.Document, now, m)
	return m.err()
}

// limitsToChange reads the limits that If-Match names, with the values at the present time.
func (c *call) limitsToChange(ctx context.Context) (version int64, before limiter.Document, err error) {
	fields := c.r.Header.Values("If-Match")
	if len(fields) == 0 {
		return 0, before, refuse(problem.PreconditionRequired, "")
	}
	stored, now, err := c.limitsNow(ctx)
	if err != nil {
		return 0, before, err
	}
	if !matchesVersion(fields, stored.Version) {
		c.w.Header().Set("ETag", versionTag(stored.Version))
		return 0, before, refuse(problem.PreconditionFailed, "")
	}
	before, err = parseLimits(&stored)
	before.Prune(now)
	return stored.Version, before, err
}

// limitsToReplace reads the limits that are to be replaced, now or on trial, and adds the mistakes
// that the new ones have compared with them.
func (c *call) limitsToReplace(ctx context.Context, wanted *wantedLimits, m *mistakes) (int64, limiter.Document, error) {
	version, before, err := c.limitsToChange(ctx)
	if err != nil {
		return 0, before, err
	}
	if before.Staged != nil {
		return 0, before, refuse(problem.NotEditable, isStaged)
	}
	if len(wanted.Policies) == 0 && len(before.Policies) > 0 && !wanted.confirmed {
		m.add("confirm", "must be true: without limits everybody may send as much as they want")
	}
	if !wanted.allowUnknown {
		c.unknownMatches(ctx, &wanted.Document, &before, m)
	}
	return version, before, nil
}

// putLimits answers PUT /admin/v1/limits.
func (c *call) putLimits() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	now := c.settingsTime()
	wanted := c.takeWanted(o, now, m)
	o.take("staged") // present when a GET is put back
	o.end()
	if err := wanted.check(c, now, m); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	version, _, err := c.limitsToReplace(ctx, &wanted, m)
	if err != nil {
		return err
	}
	if err := m.err(); err != nil {
		return err
	}
	return c.changeLimits(ctx, version, &wanted.Document, wanted.reason, "the limits are")
}

// isStaged is the refusal of a write while a change of the limits is staged.
const isStaged = "The limits can't be changed while a change of them is staged: complete it or take it back first."

// changeLimits writes a document on top of a version, and answers.
func (c *call) changeLimits(ctx context.Context, version int64, d *limiter.Document, reason, what string) error {
	published, err := c.publishLimits(ctx, version, d, c.author(reason))
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", versionTag(published.Version))
	return c.published(what, &published)
}

// publishLimits writes a document on top of a version.
func (c *call) publishLimits(ctx context.Context, version int64, d *limiter.Document, by seckill.Author) (settings.Published, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return settings.Published{}, fmt.Errorf("encode the limits: %w", err)
	}
	published, err := c.server.deps.Settings.Publish(ctx, settings.Limits, version, body, settings.Author(by))
	switch {
	case errors.Is(err, settings.ErrConflict):
		return published, refuse(problem.PreconditionFailed, "")
	case err != nil:
		return published, failed("write the limits", err)
	}
	return published, nil
}

// matchesVersion reports whether If-Match fields name a version. Comparison is strong, as RFC 9110
// requires here.
func matchesVersion(fields []string, version int64) bool {
	for _, field := range fields {
		for tag := range strings.SplitSeq(field, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || tag == versionTag(version) {
				return true
			}
		}
	}
	return false
}

// settingsTime is the database's time, as far as this node knows it.
func (c *call) settingsTime() time.Time {
	if w := c.server.deps.Settings.Watcher; w != nil {
		_, _, now := w.InForce(settings.Limits)
		return now
	}
	return time.Now()
}

// checkLimits adds the mistakes of a new document.
func checkLimits(d *limiter.Document, now time.Time, m *mistakes) {
	if wrong, ok := errors.AsType[limiter.FieldErrors](d.Validate()); ok {
		m.addAll(wrong)
	}
	for i := range d.Policies {
		p := &d.Policies[i]
		if !p.ExpiresAt.IsZero() && !p.ExpiresAt.After(now) {
			m.add(fmt.Sprintf("policies[%d].expires_at", i), "must be in the future")
		}
		if t := p.Temporary; t != nil && !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now) {
			m.add(fmt.Sprintf("policies[%d].temporary.expires_at", i), "must be in the future")
		}
	}
}

// takeEnd takes the end of something: expires_at, or expires_in from now on. It returns the zero
// End if both are missing.
func takeEnd(o *object, now time.Time) limiter.End {
	life, given := o.optionalDuration("expires_in", minExpiry, maxExpiry)
	if o.raw["expires_at"] == nil || string(o.raw["expires_at"]) == "null" {
		delete(o.raw, "expires_at")
		if given && life > 0 {
			return limiter.End{Time: now.Add(life).UTC().Truncate(time.Millisecond)}
		}
		return limiter.End{}
	}
	if given {
		o.add(o.at+"expires_in", "must not be given beside expires_at")
	}
	return limiter.End{Time: o.time("expires_at")}
}

// takeValues takes the values that a policy may also have temporarily. A policy with other bounds
// needs no bucket, so rate and burst may be missing.
func takeValues(o *object, bare bool) (rate float64, burst int64, mode limiter.Mode, percent int) {
	mode = limiter.Enforce
	if rated, sized := o.given("rate"), o.given("burst"); !bare || rated || sized {
		rate, burst = o.decimal("rate"), o.integer("burst")
		if bare && rate == 0 && burst == 0 && rated && sized {
			o.add(o.at+"rate", "must be above 0; without a bucket, leave out rate and burst")
		}
	}
	if text, given := o.optionalText("mode"); given {
		mode = limiter.Mode(text)
	}
	if p := o.maybeInteger("percent"); p != nil {
		percent = int(min(max(*p, -1), 1000))
	}
	return rate, burst, mode, percent
}

// takeTemporary takes a policy's temporary values; nil if it has none.
func takeTemporary(o *object, now time.Time, bare bool) *limiter.Temporary {
	raw := o.take("temporary")
	if raw == nil {
		return nil
	}
	inner := parseObject(raw, o.at+"temporary.", o.mistakes)
	t := new(limiter.Temporary)
	t.Rate, t.Burst, t.Mode, t.Percent = takeValues(inner, bare)
	t.ExpiresAt = takeEnd(inner, now)
	inner.end()
	return t
}

// takeLimits takes the policies. Package limiter checks their values.
func takeLimits(o *object, now time.Time) limiter.Document {
	d := limiter.Document{Policies: []limiter.Policy{}}
	raw := o.list("policies")
	if len(raw) > limiter.MaxPolicies {
		o.add("policies", fmt.Sprintf("must be at most %d", limiter.MaxPolicies))
		return d
	}
	for i, text := range raw {
		policy := parseObject(text, fmt.Sprintf("policies[%d].", i), o.mistakes)
		p := limiter.Policy{Name: policy.text("name"), Key: limiter.Kind(policy.text("key"))}
		p.Match, _ = policy.optionalText("match")
		p.Concurrency = takeBound(policy, "concurrency", limiter.MaxConcurrency)
		p.Cost = takeCost(policy)
		p.Quota, p.QuotaMax = takeBound(policy, "quota", limiter.MaxQuota), takeBound(policy, "quota_max", limiter.MaxQuota)
		p.QuotaPerSKU = takeBound(policy, "quota_per_sku", limiter.MaxQuota)
		p.Zone, _ = policy.optionalText("zone")
		bare := p.Concurrency != 0 || p.Quota != 0
		p.Rate, p.Burst, p.Mode, p.Percent = takeValues(policy, bare)
		if policy.raw["guaranteed"] != nil && string(policy.raw["guaranteed"]) != "null" {
			p.Guaranteed = policy.decimal("guaranteed")
		} else {
			delete(policy.raw, "guaranteed")
		}
		if weight := policy.maybeInteger("weight"); weight != nil {
			p.Weight = int(min(max(*weight, -1), limiter.MaxWeight+1))
		}
		p.ExpiresAt, p.Temporary = takeEnd(policy, now), takeTemporary(policy, now, bare)
		policy.end()
		d.Policies = append(d.Policies, p)
	}
	return d
}

// takeBound takes a number of at least 1 that may be missing; it returns 0 then, and -1 for an
// invalid number.
func takeBound(o *object, name string, most int64) int64 {
	n := o.maybeInteger(name)
	switch {
	case n == nil:
		return 0
	case *n == 0:
		return -1 // 0 means missing
	}
	return min(max(*n, -1), most+1)
}

// takeCost takes a policy's costs; nil if it has none.
func takeCost(o *object) *limiter.Cost {
	raw := o.take("cost")
	if raw == nil {
		return nil
	}
	inner := parseObject(raw, o.at+"cost.", o.mistakes)
	cost := limiter.DefaultCost()
	for _, c := range []struct {
		name string
		to   *int64
	}{{"purchase", &cost.Purchase}, {"unit", &cost.Unit}, {"page", &cost.Page}, {"status", &cost.Status}} {
		if n := inner.maybeInteger(c.name); n != nil {
			*c.to = min(max(*n, -1), limiter.MaxCost+1)
		}
	}
	inner.end()
	return &cost
}

// given reports whether a member is present and not null. A null member is taken.
func (o *object) given(name string) bool {
	if raw := o.raw[name]; raw != nil && string(raw) != "null" {
		return true
	}
	delete(o.raw, name)
	return false
}

// decimal takes a required number.
func (o *object) decimal(name string) float64 {
	raw := o.need(name)
	if raw == nil {
		return 0
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		o.noNumber(name, err, "must be a number")
		return 0
	}
	return n
}

// planLimits reverts to the policies before a change, if nothing has changed the limits since.
func planLimits(ch *seckill.Change) (undo, error) {
	before, after, _, err := sides[limiter.Document](ch)
	if err != nil {
		return nil, err
	}
	if before.Policies == nil {
		before.Policies = []limiter.Policy{}
	}
	if after.Staged == nil { // a staged change isn't staged again
		before.Staged = nil
	}
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		stored, err := c.currentLimits(ctx)
		if err != nil {
			return false, err
		}
		now, err := parseLimits(&stored)
		switch {
		case err != nil:
			return false, err
		case reflect.DeepEqual(now, before):
			return false, nil
		case !reflect.DeepEqual(now, after):
			return false, overtaken()
		}
		if _, err := c.publishLimits(ctx, stored.Version, &before, by); err != nil {
			if r, ok := errors.AsType[*refusal](err); ok && r.Code == problem.PreconditionFailed {
				return false, overtaken()
			}
			return false, err
		}
		return true, nil
	}, nil
}

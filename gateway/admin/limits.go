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

	"penstock/gateway/problem"
	"penstock/internal/settings"
	"penstock/limiter"
	"penstock/seckill"
)

type limitsDoc struct {
	Version  int64            `json:"version"`
	Policies []limiter.Policy `json:"policies"`
}

// parseLimits reads a stored version; one that nobody wrote has no policies.
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

func (c *call) currentLimits(ctx context.Context) (settings.Document, error) {
	stored, _, err := c.server.deps.Settings.Store.FindSettings(ctx, settings.Limits)
	if err != nil {
		return stored, failed("read the limits", err)
	}
	return stored, nil
}

// versionTag is a version as an entity tag.
func versionTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// getLimits answers GET /admin/v1/limits.
func (c *call) getLimits() error {
	stored, err := c.currentLimits(c.context())
	if err != nil {
		return err
	}
	document, err := parseLimits(&stored)
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", versionTag(stored.Version))
	return c.json(http.StatusOK, limitsDoc{stored.Version, document.Policies})
}

// putLimits answers PUT /admin/v1/limits.
func (c *call) putLimits() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	document := takeLimits(o)
	o.take("version") // of a GET that is put back: If-Match says it
	reason := c.reason(o, m, false)
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	fields := c.r.Header.Values("If-Match")
	if len(fields) == 0 {
		return refuse(problem.PreconditionRequired, "")
	}
	if reason == "" {
		m.add("reason", "is required")
	}
	if wrong, ok := errors.AsType[limiter.FieldErrors](document.Validate()); ok {
		for _, e := range wrong {
			m.add(e.Field, e.Detail)
		}
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	stored, err := c.currentLimits(ctx)
	if err != nil {
		return err
	}
	if !matchesVersion(fields, stored.Version) {
		c.w.Header().Set("ETag", versionTag(stored.Version))
		return refuse(problem.PreconditionFailed, "")
	}
	published, err := c.publishLimits(ctx, stored.Version, &document, c.author(reason))
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", versionTag(published.Version))
	return c.published("the limits are", &published)
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

// matchesVersion reports whether If-Match fields name a version. Comparison is strong, as RFC 9110 wants it here.
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

// takeLimits takes the policies. What their values must be is the limiter's to say.
func takeLimits(o *object) limiter.Document {
	d := limiter.Document{Policies: []limiter.Policy{}}
	raw := o.list("policies")
	if len(raw) > limiter.MaxPolicies {
		o.add("policies", fmt.Sprintf("must be at most %d", limiter.MaxPolicies))
		return d
	}
	for i, text := range raw {
		policy := parseObject(text, fmt.Sprintf("policies[%d].", i), o.mistakes)
		p := limiter.Policy{Name: policy.text("name"), Key: limiter.Kind(policy.text("key")), Mode: limiter.Enforce}
		p.Match, _ = policy.optionalText("match")
		p.Rate, p.Burst = policy.decimal("rate"), policy.integer("burst")
		if mode, given := policy.optionalText("mode"); given {
			p.Mode = limiter.Mode(mode)
		}
		policy.end()
		d.Policies = append(d.Policies, p)
	}
	return d
}

// decimal takes a required number.
func (o *object) decimal(name string) float64 {
	raw := o.need(name)
	if raw == nil {
		return 0
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case err == nil:
		return n
	case errors.Is(err, strconv.ErrRange):
		o.add(o.at+name, "is out of range")
	default:
		o.add(o.at+name, "must be a number")
	}
	return 0
}

// planLimits puts back the policies that were there before, if those there now are the ones that the change left.
func planLimits(ch *seckill.Change) (undo, error) {
	before, after, _, err := sides[limiter.Document](ch)
	if err != nil {
		return nil, err
	}
	if before.Policies == nil {
		before.Policies = []limiter.Policy{}
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
		case reflect.DeepEqual(now.Policies, before.Policies):
			return false, nil
		case !reflect.DeepEqual(now.Policies, after.Policies):
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

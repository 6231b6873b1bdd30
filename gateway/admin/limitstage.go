package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/limiter"
)

// Bounds of a staged change, and its defaults.
const (
	minWithin, usualWithin, maxWithin = 2 * time.Second, 10 * time.Second, 10 * time.Minute
	usualRefused                      = 10 // percent
)

// wantedStage has the members of a staged change's body beside the limits.
type wantedStage struct {
	limiter.Staged
	percent int
}

func takeStage(o *object, now time.Time) (w wantedStage) {
	if o.given("nodes") {
		w.Nodes = o.texts("nodes")
	}
	if p := o.maybeInteger("percent"); p != nil {
		if w.percent = int(min(max(*p, 0), 100)); *p < 1 || *p > 99 {
			o.add("percent", "must be from 1 to 99: for all gateways, put the limits")
		}
	}
	switch {
	case len(w.Nodes) == 0 && w.percent == 0:
		o.add("nodes", "is required, or percent: which gateways try the change")
	case len(w.Nodes) > 0 && w.percent != 0:
		o.add("percent", "must not be given beside nodes")
	case len(w.Nodes) > limiter.MaxStagedNodes:
		o.add("nodes", fmt.Sprintf("must be at most %d", limiter.MaxStagedNodes))
	}
	w.MaxRefused, w.Seconds = usualRefused, int(usualWithin/time.Second)
	if o.given("max_refused_percent") {
		if w.MaxRefused = o.decimal("max_refused_percent"); !(w.MaxRefused >= 0 && w.MaxRefused <= 100) {
			o.add("max_refused_percent", "must be from 0 to 100; at 100 the change is never taken back")
		}
	}
	if within, given := o.optionalDuration("within", minWithin, maxWithin); given {
		w.Seconds = int(math.Ceil(within.Seconds()))
	}
	if after, given := o.optionalDuration("complete_in", minExpiry, maxExpiry); given && after > 0 {
		w.CompletesAt = limiter.End{Time: now.Add(after).UTC().Truncate(time.Millisecond)}
	}
	w.Since = limiter.End{Time: now.UTC().Truncate(time.Millisecond)}
	return w
}

// stageLimits answers PUT /admin/v1/limits/staged.
func (c *call) stageLimits() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	now := c.settingsTime()
	wanted, stage := c.takeWanted(o, now, m), takeStage(o, now)
	o.take("staged")
	o.end()
	if err := wanted.check(c, now, m); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	version, before, err := c.limitsToReplace(ctx, &wanted, m)
	if err != nil {
		return err
	}
	known, err := c.chooseNodes(ctx, &stage, m)
	if err != nil {
		return err
	}
	if err := m.err(); err != nil {
		return err
	}
	stage.ID, stage.Policies = rand.Text(), wanted.Policies
	before.Staged = &stage.Staged
	return c.changeLimits(ctx, version, &before, wanted.reason,
		fmt.Sprintf("the limits are tried by %d of %d gateways, and the trial is", len(stage.Nodes), known))
}

// chooseNodes finds the gateways that try a change: those that are named, or the given percentage
// of the live ones. It also returns how many are known.
func (c *call) chooseNodes(ctx context.Context, w *wantedStage, m *mistakes) (known int, err error) {
	members, err := c.server.deps.Settings.Store.SettingsMembers(ctx)
	if err != nil {
		return 0, failed("read the nodes", err)
	}
	var names, alive []string
	for i := range members {
		if n := &members[i]; n.Enforces {
			names = append(names, n.Node)
			if n.Silent <= settings.AliveFor {
				alive = append(alive, n.Node)
			}
		}
	}
	for i, name := range w.Nodes {
		if slices.Contains(names, name) {
			continue
		}
		wrong := "there is no gateway " + name
		if near := nearest(name, slices.Values(names)); len(near) > 0 {
			wrong += fmt.Sprintf("; did you mean %s?", near[0])
		}
		m.add(fmt.Sprintf("nodes[%d]", i), wrong)
	}
	if w.percent > 0 {
		slices.Sort(alive)
		if len(alive) == 0 {
			m.add("percent", "is a part of the live gateways, but no gateway is alive")
		}
		w.Nodes = alive[:(len(alive)*w.percent+99)/100]
	}
	slices.Sort(w.Nodes)
	w.Nodes = slices.Compact(w.Nodes)
	return len(names), nil
}

// completeLimits answers POST /admin/v1/limits/staged/complete.
func (c *call) completeLimits() error {
	reason, err := c.onlyReason()
	if err != nil {
		return err
	}
	return c.endStage(reason, "the limits are", func(d *limiter.Document) { d.Policies = d.Staged.Policies })
}

// takeBackLimits answers DELETE /admin/v1/limits/staged.
func (c *call) takeBackLimits() error {
	by, err := c.bodilessAuthor()
	if err != nil {
		return err
	}
	return c.endStage(by.Reason, "the limits before are", func(*limiter.Document) {})
}

// endStage ends a staged change.
func (c *call) endStage(reason, what string, change func(d *limiter.Document)) error {
	ctx, cancel := c.lasting()
	defer cancel()
	version, d, err := c.limitsToChange(ctx)
	if err != nil {
		return err
	}
	if d.Staged == nil {
		return refuse(problem.NotFound, "No change of the limits is staged: it was completed or taken back. See the changes.")
	}
	change(&d)
	d.Staged = nil
	return c.changeLimits(ctx, version, &d, reason, what)
}

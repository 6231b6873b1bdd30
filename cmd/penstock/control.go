package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"penstock/degrade"
	"penstock/gateway/admin"
	"penstock/internal/settings"
	"penstock/limiter"
)

// publishWait is how long a change of the settings waits for the nodes; the contract says one second.
const publishWait = time.Second

// openControl brings limits and switches into force, before anybody is served. Only gateways have them.
func (p *Process) openControl(ctx context.Context) error {
	p.publisher = &settings.Publisher{Store: p.documents, Nudge: func() { p.stock.Ring(ringSettings) }, Wait: publishWait}
	if p.role&RoleGateway == 0 {
		return nil
	}
	trusted, err := p.cfg.trustedProxies()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if p.limits, err = limiter.New(limiter.DefaultConfig(), time.Now()); err != nil {
		return err
	}
	p.switches = degrade.NewController()
	p.gate = newGate(&p.cfg, p.switches, p.limits, trusted, p.log)
	p.cfg.Gateway.Gate, p.cfg.Gateway.Proxies = p.gate, trusted
	parts := []settings.Part{{Name: settings.Limits, Apply: p.applyLimits}, {Name: settings.Switches, Apply: p.applySwitches}}
	config := settings.Config{Node: p.nodeName(), Path: p.settingsFile()}
	watcher, err := settings.NewWatcher(config, p.documents, parts, p.log)
	if err != nil {
		return err
	}
	if err := watcher.Start(ctx); err != nil {
		return err
	}
	p.watcher = watcher
	p.publisher.Nudge = func() {
		watcher.Nudge()
		p.stock.Ring(ringSettings)
	}
	return nil
}

// ringSettings is rung when the settings have changed: the watchers look at once, and not with their next poll.
const ringSettings = "settings"

// rung takes what another process has rung.
func (p *Process) rung(message string) {
	if message != ringSettings {
		return
	}
	select {
	case p.changed <- struct{}{}:
	default: // the watcher is about to look
	}
}

// hearSettings has the watcher look when another process has changed the settings.
func (p *Process) hearSettings(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
			p.watcher.Nudge()
		}
	}
}

// applyLimits puts limits in force. A limit of the cluster is shared evenly by the nodes that are alive.
func (p *Process) applyLimits(d settings.Document, m settings.Moment) (next time.Time, err error) {
	var document limiter.Document
	if d.Version > 0 {
		decoder := json.NewDecoder(bytes.NewReader(d.Body))
		decoder.DisallowUnknownFields() // it may mean something
		if err := decoder.Decode(&document); err != nil {
			return time.Time{}, fmt.Errorf("limits: %w", err)
		}
	}
	if err := p.limits.Apply(document, min(m.Nodes, limiter.MaxNodes), time.Now()); err != nil {
		return time.Time{}, err
	}
	p.gate.refusals.Store(newLimitRefusals(&document))
	return time.Time{}, nil
}

// trustedProxies returns the networks of the proxies in front of the public listener.
func (c *Config) trustedProxies() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range c.TrustedProxies {
		network, err := netip.ParsePrefix(text)
		if addr, err2 := netip.ParseAddr(text); err2 == nil && addr.Zone() == "" {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || network.Addr().Is4In6() {
			return nil, fmt.Errorf("trusted-proxies: %q is neither an address nor a network like 10.0.0.0/8", text)
		}
		out = append(out, network.Masked())
	}
	return out, nil
}

// applySwitches puts switches in force.
func (p *Process) applySwitches(d settings.Document, m settings.Moment) (next time.Time, err error) {
	document, err := degrade.ParseDocument(d.Body)
	if err != nil {
		return time.Time{}, err
	}
	next, err = p.switches.Apply(document, m.Now)
	if err == nil {
		p.breakers.setModes(p.switches)
	}
	return next, err
}

// nodeName names this process for people: the machine, and where it listens.
func (p *Process) nodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + p.public.Addr().String()
}

// settingsFile is where the settings are kept for a start without the database; "" where they can't be kept.
func (p *Process) settingsFile() string {
	if err := os.MkdirAll(p.cfg.DataDir, 0o700); err != nil {
		p.log.Warn("settings are not kept on disk", "data-dir", p.cfg.DataDir, "err", err)
		return ""
	}
	return filepath.Join(p.cfg.DataDir, "settings.json")
}

// controlMetrics are those of limits, switches and settings.
func (p *Process) controlMetrics() []admin.Sample {
	if p.watcher == nil {
		return nil
	}
	s, state := p.switches.Stats(), p.watcher.State()
	out := []admin.Sample{
		gauge("penstock_gate_in_flight_visits", "Visits that the gate has let in.", s.InFlight),
		gauge("penstock_gate_in_flight_limit", "Visits that may be inside at once; new orders may fill four fifths of them.", s.Capacity),
		gauge("penstock_switches_set", "Switches that are set.", int64(s.Set)),
		gauge("penstock_settings_nodes", "Nodes that were alive at the last look at the settings.", int64(state.Nodes)),
		gauge("penstock_settings_age_seconds", "Time since the settings were looked at.", int64(state.Age.Seconds())),
	}
	for cause, n := range s.Refused {
		out = append(out, counter("penstock_gate_refused_total", "Visits that the gate sent away, by cause.", n,
			admin.Label{Name: "cause", Value: cause.String()}))
	}
	out = append(out, p.limitMetrics()...)
	for name, version := range state.Applied {
		document := admin.Label{Name: "document", Value: name}
		out = append(out,
			gauge("penstock_settings_version", "Version of a settings document that is in force.", version, document),
			gauge("penstock_settings_rejected_version", "Newest version of a settings document that this node refused; 0 without one.",
				state.Rejected[name], document))
	}
	return out
}

// maxLimitMetrics is how many policies have metrics of their own; the names of the others would make a scrape too large.
const maxLimitMetrics = 100

// limitMetrics are those of the limits.
func (p *Process) limitMetrics() []admin.Sample {
	s := p.limits.Stats(time.Now())
	out := []admin.Sample{gauge("penstock_limit_policies", "Policies in force.", int64(len(s.Policies)))}
	for i := range s.Policies[:min(len(s.Policies), maxLimitMetrics)] {
		policy := &s.Policies[i]
		for verdict, n := range map[string]uint64{
			"allowed": policy.Allowed, "refused": policy.Refused, "shadowed": policy.Shadowed, "returned": policy.Returned,
		} {
			out = append(out, counter("penstock_limit_decisions_total", "Decisions of a policy, of the first hundred policies.", int64(n),
				admin.Label{Name: "policy", Value: policy.Policy.Name}, admin.Label{Name: "verdict", Value: verdict}))
		}
	}
	for _, t := range s.Tables {
		key := admin.Label{Name: "key", Value: string(t.Key)}
		out = append(out,
			gauge("penstock_limit_buckets", "Buckets that aren't full.", int64(t.Live), key),
			gauge("penstock_limit_buckets_limit", "Buckets there is room for.", int64(t.Capacity), key),
			counter("penstock_limit_strangers_total", "Decisions by a shared bucket, for want of room.", int64(t.Strangers), key))
	}
	return out
}

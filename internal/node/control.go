package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/leases"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/internal/webhook"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// control has the parts that operators change while a node runs: limits, switches and webhooks.
// Workers use only the switches.
type control struct {
	publisher *settings.Publisher
	watcher   *settings.Watcher
	reports   limitReports
	switches  *degrade.Controller
	limits    *limiter.Limiter // nil without RoleGateway
	admission *gateway.Admission
	webhooks  *webhook.Sender
	stage     stage
	quotas    *leases.Kept  // nil if the servers remember the quotas
	changed   chan struct{} // gets a value when another process has changed the settings; capacity 1
	revoked   chan struct{} // the same, when it has revoked a caller or a key
}

// publishWait is how long a change of the settings waits for the nodes; the contract says one
// second.
const publishWait = time.Second

// openSettings brings limits and switches into force before the first request is served.
func (n *Node) openSettings(ctx context.Context) error {
	c := &n.control
	c.switches = degrade.NewController()
	c.reports.node, c.reports.wanted = n.name(), make(chan struct{}, 1)
	if n.cfg.Real() { // the embedded parts serve this node alone
		c.reports.pool, c.reports.ring = leases.New(n.servers.stock), n.servers.stock.Ring
	}
	if err := n.openWebhooks(); err != nil {
		return err
	}
	parts := []settings.Part{{Name: settings.Switches, Apply: n.applySwitches, Amend: amendSwitches}}
	if n.role&RoleGateway != 0 {
		if err := n.openAdmission(); err != nil {
			return err
		}
		parts = append(parts, settings.Part{Name: settings.Limits, Apply: n.applyLimits},
			settings.Part{Name: settings.Webhooks, Apply: n.applyWebhooks})
	}
	config := settings.Config{Node: n.name(), Enforces: n.role&RoleGateway != 0, Path: n.settingsFile()}
	var err error
	c.watcher, err = settings.NewWatcher(config, n.servers.database, n.servers.stock, parts, n.status, part(n.root, "settings"))
	if err != nil {
		return err
	}
	c.publisher = &settings.Publisher{
		Store: n.servers.database, Board: n.servers.stock, Watcher: c.watcher, Wait: publishWait,
		Took: func(d time.Duration, _ bool) { n.live.spread.Observe(d) },
		Nudge: func() {
			c.watcher.Nudge()
			n.servers.stock.Ring(ringSettings)
		},
		NudgeCatalog: func() {
			c.watcher.Nudge()
			n.servers.stock.Ring(ringCatalog)
		},
	}
	n.health.settings = c.watcher
	return c.watcher.Start(ctx)
}

// The limits of an address on one gateway, for requests without a valid key and for health checks.
// Load balancers and probes send several requests a second, and many of them may share one address.
var (
	strangers = limiter.AddressConfig{Rate: 100, Burst: 400, Room: 1 << 16}
	probes    = limiter.AddressConfig{Rate: 50, Burst: 200, Room: 1 << 14}
)

// openAdmission makes the gateway's Admission.
func (n *Node) openAdmission() error {
	c := &n.control
	trusted, err := n.cfg.trustedProxies()
	if err != nil {
		return badSetting(err)
	}
	cfg := limiter.DefaultConfig()
	cfg.QuotasOnly = !n.cfg.Real()
	if c.limits, err = limiter.New(cfg, n.limitPool(), time.Now()); err != nil {
		return err
	}
	c.limits.CountSKUs(func(merchant string) int { return n.catalogNow().SKUs(seckill.MerchantID(merchant)) })
	c.reports.meter, c.reports.history = limiter.NewMeter(c.limits), limiter.NewHistory(time.Now())
	c.admission = gateway.NewAdmission(gateway.AdmissionConfig{
		ShedRate: n.cfg.shedRate(), LongestPause: n.cfg.Sale.AcceptDeadline, Trusted: trusted, History: c.reports.history,
		Addresses: strangers, Probes: probes,
		Known: func() bool { return c.watcher.Known() },
	}, c.switches, c.limits, part(n.root, "gateway"))
	n.cfg.Gateway.Gate, n.cfg.Gateway.Proxies = c.admission, trusted
	return nil
}

// limitPool is the pool that counts over all nodes. The embedded Redis is empty after each start,
// so the used quotas of the day are kept in a file.
func (n *Node) limitPool() limiter.Pool {
	pool := leases.New(n.servers.stock)
	if n.cfg.Real() {
		return pool
	}
	kept, err := leases.Keep(pool, filepath.Join(n.cfg.DataDir, "quotas.json"))
	if err != nil {
		n.log.Error("the quotas of the day begin again, all or some of them, because their file can't be read", "err", err)
	}
	n.control.quotas = kept
	return kept
}

// keepQuotas writes the used quotas of the day to the file each second, until ctx ends, and then
// once more.
func (n *Node) keepQuotas(ctx context.Context) {
	failed := false
	for {
		goes := wait.ForTick(ctx, time.Second)
		err := n.control.quotas.Save()
		if err != nil && !failed {
			n.log.Warn("the quotas of the day can't be kept on disk, and would begin again with a restart", "err", err)
		}
		failed = err != nil
		if !goes {
			return
		}
	}
}

// catalogNow is the catalog in force; nil if there is none yet.
func (n *Node) catalogNow() *seckill.Catalog {
	if n.sale == nil {
		return nil
	}
	return n.sale.Desk.Catalog()
}

// ringSettings is called when the settings have changed, so that the watchers look at once and
// don't wait for their next poll.
const ringSettings = "settings"

// ringCatalog is rung when a caller or a key is revoked: the nodes look for a newer catalog at
// once.
const ringCatalog = "catalog"

// rung takes what another process has rung.
func (n *Node) rung(message string) {
	if shard, item, ok := parseWanted(message); ok {
		n.signals.OnWanted(shard, item)
	}
	switch message {
	case ringSettings:
		signal(n.control.changed)
	case ringCatalog:
		signal(n.control.revoked)
	case ringHistory:
		signal(n.control.reports.wanted)
	case ringOutbox:
		signal(n.signals.outbox)
	}
}

// hearSettings makes the watcher look when another process has changed the settings.
func (n *Node) hearSettings(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.control.changed:
			n.control.watcher.Nudge()
		}
	}
}

// hearCatalog looks for a newer catalog when another process has rung, and reports it.
func (n *Node) hearCatalog(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.control.revoked:
			if n.sale.Desk.Refresh(ctx) == nil { // otherwise the desk goes on trying, and says so
				n.control.watcher.Nudge()
			}
		}
	}
}

// applyLimits puts limits in force.
func (n *Node) applyLimits(d settings.Document, m settings.Moment) (next time.Time, err error) {
	var document limiter.Document
	if d.Version > 0 {
		decoder := json.NewDecoder(bytes.NewReader(d.Body))
		decoder.DisallowUnknownFields() // an unknown field may change the meaning
		if err := decoder.Decode(&document); err != nil {
			return time.Time{}, fmt.Errorf("limits: %w", err)
		}
	}
	stored := document
	document, tried, next := stored.On(n.control.reports.node, n.control.stage.bad(), m.Now)
	nodes := min(m.Nodes, limiter.MaxNodes)
	err = n.control.limits.Apply(document, nodes, time.Now())
	if err != nil && tried != nil { // then the limits for all gateways are in force
		n.control.stage.refuse(tried.ID, "taken back: it can't be applied: "+err.Error())
		document, tried, next = stored.On(n.control.reports.node, tried.ID, m.Now)
		err = n.control.limits.Apply(document, nodes, time.Now())
	}
	if err != nil {
		return time.Time{}, err
	}
	n.control.admission.SetTrial(n.control.stage.try(tried))
	n.control.admission.SetLimits(&document)
	n.control.switches.Weigh(document.Weights())
	return next, nil
}

// applySwitches puts switches in force.
func (n *Node) applySwitches(d settings.Document, m settings.Moment) (next time.Time, err error) {
	document, err := degrade.ParseDocument(d.Body)
	if err != nil {
		return time.Time{}, err
	}
	next, err = n.control.switches.Apply(document, m.Now)
	if err == nil {
		n.breakers.setModes(n.control.switches)
	}
	return next, err
}

// amendSwitches is the function for settings.Part.Amend of the switches.
func amendSwitches(body []byte, a settings.Amendment) ([]byte, error) {
	amended, recorded, err := degrade.AmendDocument(body, a.ID, a.Body)
	if recorded {
		return nil, settings.ErrRecorded
	}
	return amended, err
}

// name names this process for people and in its pages: the machine, and its address.
func (n *Node) name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	listener := n.public
	if listener == nil {
		listener = n.private
	}
	at := "@" + listener.Addr().String()
	return host[:min(len(host), seckill.MaxNameLength-len(at))] + at // a page has no room for a longer name
}

// settingsFile returns the file that keeps the settings for a start without the database; "" if
// they can't be kept.
func (n *Node) settingsFile() string {
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		n.log.Warn("settings are not kept on disk", "data-dir", n.cfg.DataDir, "err", err)
		return ""
	}
	file := "settings.json"
	if n.role&RoleGateway == 0 {
		file = "worker-settings.json" // it has no limits, and a gateway may use the same directory
	}
	return filepath.Join(n.cfg.DataDir, file)
}

// controlMetrics returns the metrics of limits, switches and settings.
func (n *Node) controlMetrics() []admin.Sample {
	s, state := n.control.switches.Stats(), n.control.watcher.State()
	out := []admin.Sample{
		gauge("penstock_settings_unrecorded", "Changes that were made while the database couldn't be reached, and are not recorded yet."+same,
			int64(state.Waiting)),
		gauge("penstock_gate_in_flight_visits", "Visits that the gate has admitted.", s.InFlight),
		gauge("penstock_gate_in_flight_limit", "Visits that may be inside at once; new orders may fill four fifths of them.", s.Capacity),
		gauge("penstock_gate_fitted_places", "Places for new orders while purchases wait too long in the line; 0 while they don't.", s.Fitted),
		gauge("penstock_switches_set", "Switches that are set.", int64(s.Set)),
		gauge("penstock_settings_nodes", "Gateways that were alive when the settings were last read."+same, int64(state.Nodes)),
		gauge("penstock_settings_age_seconds", "Time since the settings were last read.", int64(state.Age.Seconds())),
	}
	level := n.control.switches.Level()
	out = append(out,
		gauge("penstock_level", "Degrade level in force, 0 to 5.", int64(level.Level)),
		gauge("penstock_level_found", "Degrade level that the node's own signals ask for.", int64(level.Found.Level)))
	for cause, count := range s.Refused {
		out = append(out, counter("penstock_gate_refused_total", "Visits that the gate refused, by cause.", count,
			admin.Label{Name: "cause", Value: cause.String()}))
	}
	if n.control.limits != nil {
		short := int64(0)
		if n.control.admission.Short() {
			short = 1
		}
		out = append(out, gauge("penstock_processor_short",
			"1 while goroutines wait for the processor, and refusals are therefore delayed.", short))
		out = append(append(out, n.limitMetrics()...), n.control.trialMetrics()...)
	}
	for name, version := range state.Applied {
		document := admin.Label{Name: "document", Value: name}
		out = append(out,
			gauge("penstock_settings_version", "Version of a settings document that is in force.", version.Number, document),
			gauge("penstock_settings_rejected_version", "Newest version of a settings document that this node refused; 0 without one.",
				state.Rejected[name].Number, document))
	}
	return out
}

// trialMetrics returns the metrics of limits on trial, and of quotas that are kept on disk.
func (c *control) trialMetrics() []admin.Sample {
	tries, taken := c.stage.stats()
	out := []admin.Sample{
		gauge("penstock_limits_staged", "1 while this gateway tries a staged change of the limits.", tries),
		counter("penstock_limits_taken_back_total", "Staged changes of the limits that this gateway has taken back for all.", taken),
	}
	if kept := c.quotas; kept != nil {
		out = append(out,
			gauge("penstock_limit_quotas_kept", "Keys whose used quota of the day is kept on disk, with the embedded parts.", int64(kept.Len())),
			gauge("penstock_limit_quotas_kept_limit", "Keys for which there is room.", leases.MaxKept),
			counter("penstock_limit_quotas_not_kept_total", "Uses of a quota that are not kept, because there is no room.", kept.Full()))
	}
	return out
}

// maxLimitMetrics is how many policies have metrics of their own; more would make a scrape too
// large.
const maxLimitMetrics = 100

// limitMetrics returns the metrics of the limits.
func (n *Node) limitMetrics() []admin.Sample {
	s := n.control.limits.Stats(time.Now())
	out := []admin.Sample{gauge("penstock_limit_policies", "Policies in force.", int64(len(s.Policies)))}
	now := n.control.reports.meter.Report(time.Now())
	shares := make(map[string]float64, len(now.Policies))
	for i := range now.Policies {
		shares[now.Policies[i].Name] = now.Policies[i].Share
	}
	for i := range s.Policies[:min(len(s.Policies), maxLimitMetrics)] {
		policy := &s.Policies[i]
		label := admin.Label{Name: "policy", Value: policy.Policy.Name}
		if policy.Policy.Rate > 0 {
			out = append(out, gaugeFloat("penstock_limit_configured_rate", "Rate of a policy, per second and key, over all gateways."+same,
				policy.Policy.Rate, label))
		}
		if policy.Policy.Rate > 0 {
			out = append(out, gauge("penstock_limit_excess_tokens",
				"Most tokens that a key of a policy may get in any time beyond its burst and rate: what all gateways may hold."+same,
				policy.Excess, label))
		}
		share := shares[policy.Policy.Name]
		if n.control.reports.pool == nil { // this gateway has no pool
			share = 1
		}
		if share > 0 && policy.Policy.Rate > 0 {
			out = append(out, gaugeFloat("penstock_limit_effective_rate",
				"The part of a policy's rate that this gateway got lately, per second, for a policy with one key.", share*policy.Policy.Rate, label))
		}
		for verdict, n := range map[string]uint64{
			"allowed": policy.Allowed, "refused": policy.Refused - policy.Crowded - policy.Exhausted, "crowded": policy.Crowded,
			"exhausted": policy.Exhausted,
			"shadowed":  policy.Shadowed, "returned": policy.Returned,
		} {
			out = append(out, counter("penstock_limit_decisions_total", "Decisions of a policy, of the first hundred policies.", int64(n),
				label, admin.Label{Name: "verdict", Value: verdict}))
		}
	}
	out = append(out,
		gauge("penstock_limit_in_flight", "Places of limits on requests in flight that are taken.", s.Places.InFlight),
		gauge("penstock_limit_in_flight_keys", "Keys with such places.", int64(s.Places.Keys)),
		gauge("penstock_limit_in_flight_keys_limit", "Keys for which there is room.", int64(s.Places.Capacity)),
		counter("penstock_limit_in_flight_strangers_total", "Decisions by a shared count of places, because there was no room.",
			int64(s.Places.Strangers)))
	alone := int64(0)
	if s.Pool.Alone > 0 {
		alone = 1
	}
	out = append(out,
		gauge("penstock_limit_alone", "1 while this node decides limits by its last shares, because Redis can't be reached.", alone),
		gauge("penstock_limit_leases", "Keys whose tokens are leased from Redis.", int64(s.Pool.Leases)),
		gauge("penstock_limit_owed_tokens",
			"Tokens that this gateway let pass while Redis was away or late, and that are not charged yet: they come on top of the limits.",
			s.Pool.Owed),
		counter("penstock_limit_repeats_total", "Purchases that limits weren't asked about: repeats of what they had let in a moment ago.",
			n.control.admission.Repeats()),
		counter("penstock_limit_exchanges_total", "Exchanges of tokens with Redis.", int64(s.Pool.Rounds)),
		counter("penstock_limit_exchanged_keys_total", "Keys in these exchanges.", int64(s.Pool.Asks)),
		counter("penstock_limit_exchanges_failed_total", "Exchanges that failed.", int64(s.Pool.Failed)),
		counter("penstock_limit_exchanges_late_total", "Exchanges whose answer came too late for its requests.", int64(s.Pool.Late)))
	for _, hot := range now.Top {
		out = append(out, gauge("penstock_limit_refused_keys", "Refusals in the last minute or two, for the keys that are refused most.",
			int64(hot.Refused), admin.Label{Name: "policy", Value: hot.Policy}, admin.Label{Name: "key", Value: hot.Key}))
	}
	for _, t := range s.Tables {
		key := admin.Label{Name: "key", Value: string(t.Key)}
		out = append(out,
			gauge("penstock_limit_buckets", "Buckets that aren't full.", int64(t.Live), key),
			gauge("penstock_limit_buckets_limit", "Buckets for which there is room.", int64(t.Capacity), key),
			counter("penstock_limit_strangers_total", "Decisions by a shared bucket, because there was no room.", int64(t.Strangers), key))
	}
	return out
}

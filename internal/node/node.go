package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/probe"
	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/internal/webhook"
	"github.com/penstock/penstock/seckill"
)

// Node is a running process. Every command that runs a process starts one.
type Node struct {
	// Fixed after Start.
	cfg      Config
	role     Role
	root     *slog.Logger // the log from which the parts derive theirs
	log      *slog.Logger
	kept     keptNode // from an earlier process
	vault    *vault.Vault
	signals  *Signals
	breakers *breakers
	health   *health
	observed *observations
	timeouts timeoutSwitch // used by the loop that cancels orders
	totals   saleTotals
	live     *liveView
	prober   *probe.Prober // nil if nothing is probed
	trace    *trace.Tracer // nil if nothing is traced
	started  time.Time

	public  net.Listener // nil without RoleGateway
	private net.Listener
	servers serverSet
	control control
	sale    *Sale
	gateway *gateway.Server // nil without RoleGateway
	admin   *admin.Server

	layers   []layer // the layers that were started
	stopWork context.CancelFunc
	work     sync.WaitGroup
	failed   chan error // its capacity is 4
	stopOnce sync.Once
	stopErr  error
}

// layer is a part of a process that starts and stops as a whole. stop ends everything that start
// has begun, even if start failed halfway.
type layer struct {
	name  string
	start func(context.Context) error
	stop  func(context.Context) error
}

// Start starts a process. It returns when the process serves. An error is a *FaultError if a
// setting or a server is at fault; in that case all started parts are stopped. A server that can't
// be reached is not an error.
func Start(ctx context.Context, cfg Config, role Role, log *slog.Logger) (*Node, error) {
	cfg = cfg.Derive()
	n := &Node{
		cfg: cfg, role: role, root: log, log: part(log, "node"), signals: NewSignals(),
		control: control{changed: make(chan struct{}, 1), revoked: make(chan struct{}, 1)}, failed: make(chan error, 4),
	}
	n.health, n.observed, n.started = newHealth(), new(observations), time.Now().UTC().Truncate(time.Millisecond)
	n.live = newLiveView()
	for _, l := range n.plan() {
		n.layers = append(n.layers, l)
		if err := l.start(ctx); err != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
			defer cancel()
			return nil, errors.Join(err, n.Stop(stop))
		}
	}
	return n, nil
}

// plan returns the layers, in the order in which they start.
func (n *Node) plan() []layer {
	return []layer{
		{"listeners", n.listen, n.closeListeners},
		{"log and breakers", n.prepare, nothing},
		{"traces", n.openTraces, n.closeTraces},
		{"servers", n.openServers, n.closeServers},
		{"settings", n.openSettings, nothing},
		{"sale", n.openSale, n.closeSale},
		{"loops", n.startLoops, n.stopLoops},
		{"admin listener", n.serveAdmin, n.shutAdmin},
		{"shards", n.awaitShards, nothing},
		{"public listener", n.servePublic, n.shutPublic},
	}
}

// nothing is the stop function of a layer whose loops end together with the others.
func nothing(context.Context) error { return nil }

// Stop ends the process within ctx. The public listener becomes unready, waits for the drain delay
// and answers the requests in flight. Then the other layers stop, in reverse order. A second Stop
// does nothing more.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() {
		n.health.draining.Store(true)
		var errs []error
		for i := len(n.layers) - 1; i >= 0; i-- {
			if err := n.layers[i].stop(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop the %s: %w", n.layers[i].name, err))
			}
		}
		n.stopErr = errors.Join(errs...)
	})
	return n.stopErr
}

// Failed is a channel that gets an error when the process can't go on: a listener ended
// unexpectedly, or the database turned out to be unusable.
func (n *Node) Failed() <-chan error { return n.failed }

// fail reports that the process can't go on.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // one error is enough
	}
}

// PublicURL is the address of the public listener, or "" if there is none.
func (n *Node) PublicURL() string {
	if n.public == nil {
		return ""
	}
	return n.cfg.ListenTLS.scheme() + n.public.Addr().String()
}

// AdminURL is the address of the admin listener.
func (n *Node) AdminURL() string { return n.cfg.AdminTLS.scheme() + n.private.Addr().String() }

// Sale returns the parts of the sale.
func (n *Node) Sale() *Sale { return n.sale }

// listen opens the ports.
func (n *Node) listen(ctx context.Context) error {
	var config net.ListenConfig
	var err error
	if n.role&RoleGateway != 0 {
		if n.public, err = config.Listen(ctx, "tcp", n.cfg.Listen); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	if n.private, err = config.Listen(ctx, "tcp", n.cfg.AdminListen); err != nil {
		return fmt.Errorf("admin-listen: %w", err)
	}
	for _, what := range n.cfg.ExposedListeners(n.role) {
		n.log.Warn("not for production", "what", what)
	}
	if n.public == nil {
		return nil
	}
	return n.makeProber()
}

// prepare adds the process's name to its log, now that its ports are known, and reads the kept
// files.
func (n *Node) prepare(context.Context) (err error) {
	n.root = n.root.With("node", n.name(), "version", n.cfg.Version)
	n.log = part(n.root, "node")
	if n.breakers, err = newBreakers(&n.cfg, part(n.root, "breaker")); err != nil {
		return err
	}
	n.restore()
	return nil
}

// closeListeners closes the listeners that serve nothing yet.
func (n *Node) closeListeners(context.Context) error {
	var errs []error
	for _, l := range []net.Listener{n.public, n.private} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openSale joins the parts of the sale, and puts the kept data in force.
func (n *Node) openSale(ctx context.Context) error {
	s := &n.servers
	if err := n.openVault(ctx); err != nil {
		return err
	}
	bell := &outboxBell{ring: s.stock.Ring}
	seams := Seams{
		Stock: s.stock, Queue: s.queue, Store: s.database,
		BuyerQueue: newGuardedQueue(s.queue, n.breakers.kafka), BuyerStore: &guardedStore{s.database, n.breakers},
		Wanted: (&wants{ring: s.stock.Ring}).want,
		Full:   s.stock.Full,
		Held:   n.heldTimeouts,
		Moved: func(o *seckill.Order) {
			n.live.moved.count(o)
			bell.ringFor(o)
		},
		Trace:   n.trace,
		Signals: n.signals, Seen: s.stock.Seen, Name: n.name(), Open: n.vault.Open, DropAfter: n.cfg.DropAfter, Alone: s.embedded != nil,
	}
	if s.events != nil {
		seams.Announcer = s.events
	}
	var err error
	if n.sale, err = NewSale(n.cfg.Sale, seams, n.role, n.root); err != nil {
		return err
	}
	n.health.hasCatalog = func() bool { return n.sale.Desk.Catalog().Version != (seckill.CatalogVersion{}) }
	if n.kept.catalog != nil {
		n.sale.Install(n.kept.catalog, n.kept.rows)
		n.kept.catalog = nil
	}
	// A process must start without waiting for a large catalog, or for a server that doesn't
	// answer. The desk goes on loading.
	first, cancel := context.WithTimeout(ctx, n.cfg.Sale.StoreTimeout)
	defer cancel()
	if err := n.sale.Desk.Refresh(first); err != nil {
		n.log.Warn("the catalog can't be loaded yet; trying again", "err", err)
	}
	return n.checkSecrets()
}

func (n *Node) closeSale(context.Context) error {
	if n.sale != nil {
		n.sale.Close()
	}
	return nil
}

// startLoops starts all background loops.
func (n *Node) startLoops(ctx context.Context) error {
	ctx, n.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	for _, job := range append(n.sale.Jobs(), n.ownJobs(ctx)...) {
		n.work.Go(func() {
			if job.Tier == degrade.Other {
				n.whileNotHeld(ctx, job.Tier, job.Run)
			} else {
				job.Run(ctx)
			}
		})
	}
	return nil
}

// ownJobs are the loops of the process itself, which report its state. They never wait for a
// degrade level, except the job that keeps files for a later start.
func (n *Node) ownJobs(ctx context.Context) []Job {
	jobs := []Job{
		{"health", degrade.Purchasing, n.watchHealth}, {"lags", degrade.Purchasing, n.observe}, {"clock", degrade.Purchasing, n.watchClock},
		{"breakers", degrade.Purchasing, func(ctx context.Context) { n.breakers.run(ctx, n.servers.queue, n.role&RoleGateway != 0) }},
		{"settings", degrade.Purchasing, n.control.watcher.Run}, {"news of settings", degrade.Purchasing, n.hearSettings},
		{"news of the catalog", degrade.Purchasing, n.hearCatalog},
		{"live view", degrade.Purchasing, n.runLive}, {"live books", degrade.Purchasing, n.runBooks},
		{"live stock", degrade.Purchasing, n.runStock},
		{"level", degrade.Purchasing, n.findLevel}, {"uses of tokens and keys", degrade.Other, n.noteUses},
	}
	if n.cfg.AdminToken == "" && n.tryToken(ctx) != nil {
		jobs = append(jobs, Job{"first token", degrade.Purchasing, n.makeToken})
	}
	if n.role&RoleGateway != 0 {
		if n.prober != nil {
			jobs = append(jobs, Job{"probes", degrade.Purchasing, n.runProbes})
		}
		feed := webhook.Feed{Hub: n.live.hub, Sender: n.control.webhooks, Log: part(n.root, "webhooks")}
		jobs = append(jobs, Job{"webhooks", degrade.Purchasing, n.control.webhooks.Run},
			Job{"events for webhooks", degrade.Purchasing, feed.Run})
	}
	if n.control.limits != nil {
		jobs = append(jobs, Job{"leases of limits", degrade.Purchasing, n.control.limits.Run},
			Job{"reports of limits", degrade.Other, n.control.reports.run},
			Job{"staged limits", degrade.Purchasing, n.watchStage})
		if n.control.quotas != nil {
			jobs = append(jobs, Job{"quotas on disk", degrade.Purchasing, n.keepQuotas})
		}
	}
	if len(n.cfg.certificates()) > 0 {
		jobs = append(jobs, Job{"certificates", degrade.Purchasing, n.watchCertificates})
	}
	if n.cfg.Real() {
		jobs = append(jobs, Job{"catalog on disk", degrade.Other, n.keepCatalog}, Job{"live frames", degrade.Purchasing, n.runFrames})
	} else {
		jobs = append(jobs, Job{"disk", degrade.Purchasing, n.watchDisk})
	}
	return jobs
}

// stopLoops ends the loops and waits for them.
func (n *Node) stopLoops(context.Context) error {
	if n.stopWork != nil {
		n.stopWork()
	}
	n.work.Wait()
	return nil
}

// serveAdmin starts the admin listener.
func (n *Node) serveAdmin(context.Context) error {
	config := admin.DefaultConfig()
	config.Token, config.OpenMetrics, config.Version = n.cfg.AdminToken, n.cfg.OpenMetrics, n.cfg.Version
	var err error
	if config.Proxies, err = n.cfg.trustedProxies(); err != nil {
		return badSetting(err)
	}
	if config.Login, err = n.cfg.Login.admin(); err != nil {
		return badSetting(err)
	}
	config.Login.Secure = config.Login.Secure || n.cfg.AdminTLS.Cert != ""
	if config.Hosts, err = n.cfg.adminHosts(); err != nil {
		return badSetting(err)
	}
	if n.admin, err = admin.New(config, n.adminDeps(), part(n.root, "admin")); err != nil {
		return err
	}
	n.serveOn("admin listener", n.cfg.AdminTLS.on(n.private), n.admin.Serve)
	return nil
}

func (n *Node) shutAdmin(ctx context.Context) error {
	if n.admin == nil {
		return nil
	}
	return n.admin.Shutdown(ctx)
}

// servePublic starts the public listener.
func (n *Node) servePublic(context.Context) error {
	if n.role&RoleGateway == 0 {
		return nil
	}
	var err error
	if n.gateway, err = gateway.New(n.cfg.Gateway, n.sale.Desk, n.health, part(n.root, "gateway")); err != nil {
		return badSetting(err)
	}
	n.live.edge.Store(n.gateway)
	n.control.switches.Resize(int(n.gateway.Stats().MaxInFlight))
	n.serveOn("public listener", n.cfg.ListenTLS.on(n.public), n.gateway.Serve)
	return nil
}

// shutPublic answers the requests in flight. Requests that wait for an order get the answer of that
// moment.
func (n *Node) shutPublic(ctx context.Context) error {
	if n.gateway == nil {
		return nil
	}
	n.sale.Desk.StopWaiting()
	return n.gateway.Shutdown(ctx)
}

// serveOn serves in the background until the listener is closed. If it ends before that, it reports
// an error.
func (n *Node) serveOn(name string, l net.Listener, serve func(net.Listener) error) {
	go func() {
		if err := serve(l); err != nil {
			n.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
}

// awaitShards waits, with embedded parts, until all shards are open: a process that serves alone
// opens the shards of the process before, which takes moments. The port is open by then, so buyers
// wait for their first answer instead of a refusal. The report of /readyz?verbose says so by then.
func (n *Node) awaitShards(ctx context.Context) error {
	if n.servers.embedded == nil || n.role&RoleWorker == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		shards, err := n.lookAtShards(ctx, n.cfg.Sale.Shards)
		if err == nil && shards.Open == n.cfg.Sale.Shards && n.follows() && n.health.report.Load().Shards.allOpen() {
			return nil
		}
		select {
		case <-ctx.Done():
			n.log.Warn("not all shards are open yet; their items can't be sold")
			return nil
		case <-tick.C:
		}
	}
}

// follows reports whether the desk uses the epochs that were given out last.
func (n *Node) follows() bool {
	return !slices.ContainsFunc(n.sale.Rows(), func(row seckill.ShardRow) bool { return row.Ref.Epoch != row.NextEpoch })
}

// openPatience is how long Start waits for the shards of the embedded parts.
const openPatience = 10 * time.Second

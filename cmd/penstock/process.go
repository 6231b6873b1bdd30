package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"penstock/degrade"
	"penstock/gateway"
	"penstock/gateway/admin"
	"penstock/internal/kafka"
	"penstock/internal/settings"
	"penstock/inventory"
	"penstock/limiter"
	"penstock/seckill"
)

// Role is which half of penstock a process is; serve and demo are both.
type Role uint8

// The halves.
const (
	RoleGateway Role = 1 << iota // answers buyers
	RoleWorker                   // makes orders, ends them, keeps the stock healthy
)

// Process is a running penstock: the parts opened in order, closed in reverse. Every command that runs one starts this.
type Process struct {
	// Fixed after startProcess.
	cfg        Config
	role       Role
	log        *slog.Logger
	public     net.Listener // nil without RoleGateway
	private    net.Listener
	store      seckill.Store
	documents  settings.Store // the same store
	queue      *kafka.Queue
	stock      *inventory.Stock
	desk       *seckill.Desk
	rebuilder  *seckill.Rebuilder
	office     *seckill.Office
	worker     *seckill.Worker
	relay      *seckill.Relay
	sweeper    *seckill.Sweeper
	timeouts   *seckill.Timeouts
	events     *announcements   // nil where nobody is told
	limits     *limiter.Limiter // nil without RoleGateway, like the next three
	gate       *gate
	switches   *degrade.Controller
	breakers   *breakers
	watcher    *settings.Watcher
	publisher  *settings.Publisher
	gateway    *gateway.Server // nil without RoleGateway
	admin      *admin.Server
	firstToken string // made at this start, "" when one was known already

	stopWork context.CancelFunc
	work     sync.WaitGroup
	failed   chan error // a listener that ended by itself
	lost     chan inventory.Ref
	changed  chan struct{}            // gets a value when another process has changed the settings; capacity 1
	health   atomic.Pointer[[]string] // what isn't ready
	herald   atomic.Pointer[seckill.Herald]
	closers  []closer // in the order of opening
	stopOnce sync.Once
	stopErr  error
}

// closer is a part that was opened.
type closer struct {
	name  string
	close func(ctx context.Context) error
}

// startProcess opens every part of a process that is both halves; startRole, of one that may be one of them. It starts serving, and
// returns when every item on sale is open. What was opened is closed again when it fails.
func startProcess(ctx context.Context, cfg Config, log *slog.Logger) (*Process, error) {
	return startRole(ctx, cfg, RoleGateway|RoleWorker, log)
}

func startRole(ctx context.Context, cfg Config, role Role, log *slog.Logger) (*Process, error) {
	p := &Process{
		cfg: cfg, role: role, log: log,
		failed: make(chan error, 2), lost: make(chan inventory.Ref, 256), changed: make(chan struct{}, 1),
	}
	starting := []string{"starting"}
	p.health.Store(&starting)
	var err error
	if p.breakers, err = newBreakers(cfg, log); err != nil {
		return nil, err
	}
	if err := p.open(ctx); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
		defer cancel()
		return nil, errors.Join(err, p.Stop(stopCtx))
	}
	return p, nil
}

// open opens the parts in order: listeners first, since a taken port is the commonest mistake and costs nothing to find.
func (p *Process) open(ctx context.Context) error {
	openServers := p.openEmbedded
	if p.cfg.real() {
		openServers = p.openReal
	}
	steps := []func(context.Context) error{p.listen, openServers, p.openSale, p.openControl, p.openToken, p.serve, p.startWork}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if !p.cfg.real() { // whoever serves alone opens what the last process left
		if err := p.rebuilder.OpenAll(ctx); err != nil {
			return &exitError{exitDependency, err}
		}
	}
	p.checkHealth(ctx)
	return nil
}

// opened notes a part for Stop.
func (p *Process) opened(name string, close func(ctx context.Context) error) {
	p.closers = append(p.closers, closer{name, close})
}

func (p *Process) listen(ctx context.Context) error {
	var config net.ListenConfig
	for _, l := range []struct {
		role      Role
		key, addr string
		listener  *net.Listener
	}{{RoleGateway, "listen", p.cfg.Listen, &p.public}, {RoleGateway | RoleWorker, "admin-listen", p.cfg.AdminListen, &p.private}} {
		if p.role&l.role == 0 {
			continue
		}
		listener, err := config.Listen(ctx, "tcp", l.addr)
		if err != nil {
			return fmt.Errorf("%s: %w", l.key, err)
		}
		*l.listener = listener
		p.opened(l.key, func(context.Context) error {
			if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
	}
	return nil
}

// nudge asks the desk for a fresh catalog.
func (p *Process) nudge() {
	if desk := p.desk; desk != nil {
		desk.Nudge()
	}
}

// openSale joins the parts of the sale.
func (p *Process) openSale(ctx context.Context) error {
	desk, err := seckill.NewDesk(p.cfg.Sale, p.stock, p.breakers.queue(p.queue), p.breakers.store(p.store), p.log)
	if err != nil {
		return err
	}
	p.opened("desk", func(context.Context) error { desk.Close(); return nil })
	p.desk = desk
	if err := desk.Refresh(ctx); err != nil {
		return &exitError{exitDependency, fmt.Errorf("load the catalog: %w", err)}
	}
	refresh := func(ctx context.Context) {
		if err := desk.Refresh(ctx); err != nil {
			p.log.Warn("catalog not refreshed", "err", err)
		}
	}
	p.rebuilder = seckill.NewRebuilder(p.cfg.Sale, p.stock, p.queue, p.store, desk.Catalog, refresh, p.log)
	if !p.cfg.real() {
		p.rebuilder.Alone()
	}
	p.office = seckill.NewOffice(p.stock, p.queue, p.store, desk, p.rebuilder, p.log)
	p.worker = seckill.NewWorker(p.stock, p.queue, p.store, p.log)
	p.relay = seckill.NewRelay(p.cfg.Sale, p.stock, p.store, p.log)
	p.timeouts = seckill.NewTimeouts(p.cfg.Sale, p.store, p.log)
	p.sweeper = seckill.NewSweeper(p.cfg.Sale, p.stock, p.queue, p.store, desk.Live, p.log)
	p.joinEvents()
	return nil
}

// openToken makes the first admin token where there is none.
func (p *Process) openToken(ctx context.Context) error {
	if p.cfg.AdminToken != "" {
		return nil
	}
	tokens, err := p.store.Tokens(ctx)
	if err != nil {
		return &exitError{exitDependency, fmt.Errorf("read admin tokens: %w", err)}
	}
	if len(tokens) > 0 {
		return nil
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("make an admin token: %w", err)
	}
	token := "pst_" + base64.RawURLEncoding.EncodeToString(secret[:])
	first := seckill.Token{Name: "first", Role: seckill.RoleAdmin, Hash: sha256.Sum256([]byte(token)), Created: time.Now()}
	if err := p.store.PutToken(ctx, first, seckill.Author{Actor: "penstock", Reason: "first start"}); err != nil {
		return &exitError{exitDependency, fmt.Errorf("keep the admin token: %w", err)}
	}
	p.firstToken = token
	return nil
}

// serve starts both listeners. Until the items are open, purchases are answered 503 and /readyz says what is missing.
func (p *Process) serve(context.Context) error {
	var err error
	if p.admin, err = admin.New(p.adminConfig(), p.adminDeps(), p.log); err != nil {
		return err
	}
	p.opened("admin listener", p.admin.Shutdown)
	p.serveOn("admin listener", p.private, p.admin.Serve)
	if p.role&RoleGateway == 0 {
		return nil
	}
	if p.gateway, err = gateway.New(p.cfg.Gateway, p.desk, p.unready, p.log); err != nil {
		return err
	}
	p.switches.Resize(int(p.gateway.Stats().MaxInFlight))
	p.opened("public listener", func(ctx context.Context) error {
		p.desk.StopWaiting()
		return p.gateway.Shutdown(ctx)
	})
	p.serveOn("public listener", p.public, p.gateway.Serve)
	return nil
}

// serveOn serves in the background until the listener is closed; its end before that is reported.
func (p *Process) serveOn(name string, l net.Listener, serve func(net.Listener) error) {
	go func() {
		if err := serve(l); err != nil {
			p.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
}

// startWork starts everything that works by itself. Stop ends it after the listeners and before the parts it works with.
func (p *Process) startWork(ctx context.Context) error {
	ctx, p.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	runs := []func(context.Context){p.desk.Run, p.markLost, p.watchHealth, p.watchServers}
	if p.watcher != nil {
		runs = append(runs, p.watcher.Run, p.hearSettings)
	}
	if p.role&RoleWorker != 0 {
		runs = append(runs, p.worker.Run, p.relay.Run, p.timeouts.Run, p.sweeper.Run, p.rebuilder.Run, p.dropEnded)
		runs = append(runs, p.events.runs()...)
	}
	for _, run := range runs {
		p.work.Go(func() { run(ctx) })
	}
	return nil
}

// markLost asks for a rebuild of shards that were seen to have lost writes.
func (p *Process) markLost(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ref := <-p.lost:
			if err := p.store.MarkSuspect(ctx, ref); err != nil && ctx.Err() == nil {
				p.log.Error("can't ask for a rebuild", "item", ref.Item, "epoch", ref.Epoch, "err", err)
				continue
			}
			p.desk.Nudge()
		}
	}
}

// healthEvery is how often readiness is looked at, and healthTimeout how long one look may take.
const (
	healthEvery   = time.Second
	healthTimeout = time.Second
)

// watchHealth keeps what /readyz answers.
func (p *Process) watchHealth(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.checkHealth(ctx)
		}
	}
}

// checkHealth asks each dependency a cheap question.
func (p *Process) checkHealth(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var unready []string
	if _, err := p.store.LoadCatalog(ctx, p.desk.Catalog().Version); err != nil {
		unready = append(unready, "database")
	}
	if _, err := p.queue.End(ctx); err != nil {
		unready = append(unready, "queue")
	}
	shut, err := p.rebuilder.Unhealthy(ctx)
	if err != nil {
		unready = append(unready, "stock")
	}
	for _, name := range shut {
		unready = append(unready, "stock of "+name)
	}
	p.health.Store(&unready)
}

// unready names what isn't ready.
func (p *Process) unready() []string { return *p.health.Load() }

// PublicURL is the address of the public listener, "" where there is none.
func (p *Process) PublicURL() string {
	if p.public == nil {
		return ""
	}
	return "http://" + p.public.Addr().String()
}

// AdminURL is the address of the admin listener.
func (p *Process) AdminURL() string { return "http://" + p.private.Addr().String() }

// Failed is a channel that gets the error of a listener that ended by itself.
func (p *Process) Failed() <-chan error { return p.failed }

// Stop drains and closes everything within ctx: the public listener answers what is in flight, then the background work ends,
// then the parts close in reverse. Stopping twice is fine.
func (p *Process) Stop(ctx context.Context) error {
	p.stopOnce.Do(func() {
		var errs []error
		worked := false
		for i := len(p.closers) - 1; i >= 0; i-- {
			c := p.closers[i]
			if c.name == "desk" && !worked {
				worked = true
				p.endWork()
			}
			if err := c.close(ctx); err != nil {
				errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
			}
		}
		p.stopErr = errors.Join(errs...)
	})
	return p.stopErr
}

// endWork stops the background work and waits for it.
func (p *Process) endWork() {
	if p.stopWork != nil {
		p.stopWork()
	}
	p.work.Wait()
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"penstock/inventory"
	"penstock/seckill"
)

// process is a running penstock, both gateway and worker: the parts as cmd/penstock joins them, but for their loops. The
// driver says when a part makes its next step.
type process struct {
	rig    *rig
	name   string
	ctx    context.Context // ends with the process
	stop   context.CancelFunc
	dead   chan struct{} // closed when it crashes
	work   sync.WaitGroup
	member *member

	stock     *stockSeam
	queue     *queueSeam
	store     *storeSeam
	desk      *seckill.Desk
	office    *seckill.Office
	rebuilder *seckill.Rebuilder
	parts     []*part

	mu   sync.Mutex
	lost []inventory.Ref // guarded by mu: shards seen to have lost writes, nobody told yet
}

// part is one of a process's loops.
type part struct {
	name string
	step func(context.Context) error
	busy atomic.Bool
}

// The parts of a process.
const (
	partCatalog   = "catalog"
	partWatch     = "watch"
	partWorker    = "worker"
	partRelay     = "relay"
	partTimeouts  = "timeouts"
	partSweeper   = "sweeper"
	partRebuilder = "rebuilder"
)

// start starts a process of that name. It has loaded the catalog when start returns, as a real one has before it serves.
func (r *rig) start(name string) (*process, error) {
	p := &process{rig: r, name: name, dead: make(chan struct{}), member: new(member)}
	p.ctx, p.stop = context.WithCancel(r.ctx)
	p.stock = &stockSeam{p, r.redis.Peer()}
	p.queue = &queueSeam{process: p, far: r.log, slots: r.terms.Slots}
	p.store = &storeSeam{p, r.store}
	logger := slog.New(&pathLog{p})
	var err error
	single := r.cfg
	single.BatchCap = 1 // who shares a batch wakes together, and who goes first then is the Go scheduler's secret
	if p.desk, err = seckill.NewDesk(single, p.stock, p.queue, p.store, logger); err != nil {
		return nil, err
	}
	refresh := func(ctx context.Context) {
		if err := p.desk.Refresh(ctx); err != nil {
			r.path.hear("%s: catalog not refreshed: %v", name, err)
		}
	}
	p.rebuilder = seckill.NewRebuilder(r.cfg, p.stock, p.queue, p.store, p.desk.Catalog, refresh, logger)
	p.office = seckill.NewOffice(p.stock, p.queue, p.store, p.desk, p.rebuilder, logger)
	worker := seckill.NewWorker(p.stock, p.queue, p.store, logger)
	relay := seckill.NewRelay(r.cfg, p.stock, p.store, logger)
	timeouts := seckill.NewTimeouts(r.cfg, p.store, logger)
	sweeper := seckill.NewSweeper(r.cfg, p.stock, p.queue, p.store, p.desk.Live, logger)
	p.parts = []*part{
		{name: partCatalog, step: p.desk.Refresh},
		{name: partWatch, step: p.watch},
		{name: partWorker, step: worker.Step},
		{name: partRelay, step: relay.Step},
		{name: partTimeouts, step: timeouts.Step},
		{name: partSweeper, step: func(ctx context.Context) error { sweeper.Step(ctx); return nil }},
		{name: partRebuilder, step: func(ctx context.Context) error { p.rebuilder.Step(ctx); return nil }},
	}
	r.processes = append(r.processes, p)
	slices.SortFunc(r.processes, func(a, b *process) int { return strings.Compare(a.name, b.name) })
	was := r.wire.isDirect()
	r.wire.setDirect(true)
	defer r.wire.setDirect(was)
	return p, p.desk.Refresh(p.ctx)
}

// gone returns an error when the process is dead or ctx has ended.
func (p *process) gone(ctx context.Context) error {
	select {
	case <-p.dead:
		return errCrashed
	default:
		return ctx.Err()
	}
}

func (p *process) alive() bool { return p.gone(context.Background()) == nil }

// part returns the part of that name, nil where there is none.
func (p *process) part(name string) *part {
	for _, part := range p.parts {
		if part.name == name {
			return part
		}
	}
	return nil
}

// begin makes a part take its next step, in the background.
func (p *process) begin(part *part) {
	part.busy.Store(true)
	p.work.Go(func() {
		defer part.busy.Store(false)
		if err := part.step(as(p.ctx, part.name)); err != nil && p.alive() {
			p.rig.path.hear("%s %s: %v", p.name, part.name, err)
		}
	})
}

// watch does what inventory's polls and callbacks do in a real process: it looks at every live shard, asks for a rebuild of
// those that have lost writes, and for the catalog where one is of a later epoch.
func (p *process) watch(ctx context.Context) error {
	refresh := false
	for _, ref := range p.desk.Live() {
		_, err := p.stock.Find(ctx, ref, "a poll")
		refresh = refresh || errors.Is(err, inventory.ErrEpoch)
	}
	p.mu.Lock()
	lost := p.lost
	p.lost = nil
	p.mu.Unlock()
	for _, ref := range lost {
		if err := p.store.MarkSuspect(ctx, ref); err != nil {
			return fmt.Errorf("ask for a rebuild: %w", err) // it will be seen lost again
		}
		refresh = true
	}
	if refresh {
		return p.desk.Refresh(ctx)
	}
	return nil
}

func (p *process) noteLost(ref inventory.Ref, err error) {
	if !errors.Is(err, inventory.ErrLost) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.lost, ref) {
		p.lost = append(p.lost, ref)
	}
}

// crash kills a process. Its calls in flight may still be executed; nobody hears of them.
func (r *rig) crash(p *process) {
	close(p.dead)
	p.stop()
	r.processes = slices.DeleteFunc(r.processes, func(other *process) bool { return other == p })
	r.wire.orphan(p.name)
	r.log.leave(p.member)
	r.dead = append(r.dead, p)
}

// bury waits for the goroutines of processes that have crashed. They can't do anything any more.
func (r *rig) bury() {
	for _, p := range r.dead {
		p.work.Wait()
		p.desk.Close()
	}
	r.dead = nil
}

// pathLog writes a process's log into the path. A process that has crashed says nothing more.
type pathLog struct{ process *process }

func (l *pathLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && l.process.alive()
}

func (l *pathLog) Handle(_ context.Context, record slog.Record) error {
	var b strings.Builder
	record.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	l.process.rig.path.hear("%s log: %s%s", l.process.name, record.Message, b.String())
	if strings.HasPrefix(record.Message, "the books don't balance") {
		l.process.rig.unbalanced.Store(true)
	}
	return nil
}

func (l *pathLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *pathLog) WithGroup(string) slog.Handler      { return l }

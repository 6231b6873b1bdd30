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
	"time"

	"github.com/penstock/penstock/internal/node"
	"github.com/penstock/penstock/inventory"
)

// process is a running penstock, both gateway and worker: the assembly that ships (node.NewSale),
// but for its loops. The driver says when a part makes its next step.
type process struct {
	rig    *rig
	name   string
	ctx    context.Context // ends with the process
	stop   context.CancelFunc
	dead   chan struct{} // closed when it crashes
	work   sync.WaitGroup
	member *member

	stock   *stockSeam
	queue   *queueSeam
	store   *storeSeam
	signals *node.Signals
	sale    *node.Sale
	parts   []*part
	cut     map[server]bool // that it can't reach; the driver's
}

// part is one of a process's loops.
type part struct {
	name string
	step func(context.Context) error
	next func() error // begins the step
	busy atomic.Bool
}

// The parts of a process.
const (
	partCatalog   = "catalog"
	partWatch     = "watch"
	partWorker    = "worker"
	partTeller    = "teller"
	partRelay     = "relay"
	partTimeouts  = "timeouts"
	partUnparker  = "unparker"
	partSweeper   = "sweeper"
	partBury      = "bury"
	partBarrier   = "barrier"
	partRebuilder = "rebuilder"
	partAuditor   = "auditor"
	partMover     = "mover"
)

// dropAfter is when an activity is dropped. No run lasts so long, but one that says so.
const dropAfter = 30 * 24 * time.Hour

// start starts a process of that name. It has loaded the catalog when start returns, as a real one
// has before it serves. alone means that all others are dead, as for an embedded process.
func (r *rig) start(name string, alone bool) (*process, error) {
	p := &process{rig: r, name: name, dead: make(chan struct{}), member: new(member), signals: node.NewSignals(),
		cut: make(map[server]bool)}
	p.ctx, p.stop = context.WithCancel(r.ctx)
	p.stock = &stockSeam{p, r.redis.Peer()}
	p.queue = &queueSeam{process: p, far: r.log, slots: r.terms.Slots}
	p.store = &storeSeam{p, r.store}
	var err error
	p.sale, err = node.NewSale(r.cfg, node.Seams{
		Stock: p.stock, Queue: p.queue, Store: p.store, Signals: p.signals, Name: name, Alone: alone,
		DropAfter: dropAfter,
	}, node.RoleGateway|node.RoleWorker, slog.New(&pathLog{p}))
	if err != nil {
		return nil, err
	}
	quietly := func(step func(context.Context)) func(context.Context) error {
		return func(ctx context.Context) error { step(ctx); return nil }
	}
	p.parts = []*part{
		{name: partCatalog, step: p.sale.Desk.Refresh},
		{name: partWatch, step: p.watch},
		{name: partWorker, step: p.sale.Worker.Step},
		{name: partTeller, step: p.sale.Teller.Step},
		{name: partRelay, step: p.sale.Relay.Step},
		{name: partTimeouts, step: p.sale.Timeouts.Step},
		{name: partUnparker, step: p.sale.Unparker.Step},
		{name: partSweeper, step: quietly(p.sale.Sweeper.Step)},
		{name: partBury, step: p.sale.Sweeper.Bury},
		{name: partBarrier, step: p.sale.Barrier.Step},
		{name: partRebuilder, step: p.sale.Rebuilder.Step},
		{name: partAuditor, step: quietly(p.sale.Auditor.Step)},
		{name: partMover, step: quietly(p.sale.Mover.Step)},
	}
	for _, part := range p.parts {
		part.next = func() error { p.begin(part); return nil }
	}
	r.processes = append(r.processes, p)
	slices.SortFunc(r.processes, func(a, b *process) int { return strings.Compare(a.name, b.name) })
	was := r.wire.isDirect()
	r.wire.setDirect(true)
	defer r.wire.setDirect(was)
	return p, errors.Join(p.sale.Desk.Refresh(p.ctx), p.sale.Follow(p.ctx))
}

// gone returns an error if the process is dead or ctx has ended.
func (p *process) gone(ctx context.Context) error {
	select {
	case <-p.dead:
		return errCrashed
	default:
		return ctx.Err()
	}
}

func (p *process) alive() bool { return p.gone(context.Background()) == nil }

// part returns the part of that name, nil if there is none.
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
	p.goes(func() {
		defer part.busy.Store(false)
		if err := part.step(as(p.ctx, part.name)); err != nil && p.alive() {
			p.rig.path.hear("%s %s: %v", p.name, part.name, err)
		}
	})
}

// goes lets something go on beside the driver. It ends before the process is buried.
func (p *process) goes(do func()) {
	p.work.Add(1)
	p.rig.hands.do(func() {
		defer p.work.Done()
		do()
	})
}

// watch does what inventory's polls and the followers do in a real process: it looks at every
// shard, asks for a rebuild of those that have lost writes, and follows the others.
func (p *process) watch(ctx context.Context) error {
	for shard := range inventory.ShardID(p.rig.cfg.Shards) {
		all, errs := p.stock.AllNumbers(ctx, []inventory.ShardID{shard})
		if errs[0] != nil {
			continue
		}
		ref := inventory.Ref{Shard: shard, Epoch: p.stock.Epoch(shard)}
		if ref.Epoch != 0 {
			_, _ = p.stock.Find(ctx, ref, pollItem, pollName) // the seam hears it, if it lost something
		}
		if all[0].Epoch > ref.Epoch {
			p.signals.OnEpoch(shard, all[0].Epoch)
		}
	}
	return errors.Join(p.sale.Suspect(ctx), p.sale.Follow(ctx))
}

// pollItem and pollName name a hold that doesn't exist.
const (
	pollItem = inventory.ItemID(1)
	pollName = "a poll asks for this one alone"
)

func (p *process) noteLost(ref inventory.Ref, err error) {
	if errors.Is(err, inventory.ErrLost) {
		p.signals.OnLost(ref)
	}
}

// crash kills a process. Its calls in flight may still be executed, but their answers are lost.
func (r *rig) crash(p *process) {
	close(p.dead)
	p.stop()
	r.processes = slices.DeleteFunc(r.processes, func(other *process) bool { return other == p })
	r.met.strike(r.wire, p.name, fateCrashed)
	r.wire.died(p.name)
	r.wire.orphan(p.name)
	r.log.leave(p.member)
	r.dead = append(r.dead, p)
}

// bury waits for the goroutines of processes that have crashed. They can't do anything any more.
func (r *rig) bury() {
	for _, p := range r.dead {
		p.work.Wait()
		p.sale.Rebuilder.Wait()
		p.sale.Close()
	}
	r.dead = nil
}

// pathLog writes a process's log into the path. A crashed process writes nothing more.
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

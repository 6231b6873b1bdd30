package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/backoffice"
	"github.com/penstock/penstock/seckill/desk"
)

// Role says which half of Penstock a process is. serve and demo are both.
type Role uint8

// The halves.
const (
	RoleGateway Role = 1 << iota // answers buyers
	RoleWorker                   // makes orders, ends them, keeps the stock right
)

// Seams are the parts that a sale works with.
type Seams struct {
	Stock seckill.Stock
	Queue seckill.Queue
	Store seckill.Store
	// BuyerQueue and BuyerStore are Queue and Store for buyers' requests, behind breakers. nil
	// means Queue and Store themselves. Background work doesn't use breakers: it must try until it
	// succeeds.
	BuyerQueue seckill.Producer
	BuyerStore seckill.Store
	// Signals has the stock's callbacks. Make it first, with NewSignals, because the stock needs it
	// when it is opened.
	Signals *Signals

	// Held returns the orders that are not timed out for now; nil means none.
	Held func(ctx context.Context) (backoffice.Held, error)

	// Announcer publishes events to other systems; it may be nil. Seen reports the last sighting of
	// an item.
	Announcer seckill.Announcer
	Seen      func(shard inventory.ShardID, item inventory.ItemID) (inventory.Sighting, bool)

	// Moved is called for orders that the desk has paid or cancelled; it may be nil (see
	// desk.Parts).
	Moved func(o *seckill.Order)

	// Wanted is called when units of a spread item are wanted on a shard; it may be nil (see
	// desk.Parts).
	Wanted func(shard inventory.ShardID, item inventory.ItemID)
	// Full reports whether the stock takes no new purchases on a shard; nil means never (see
	// desk.Parts).
	Full func(shard inventory.ShardID) bool

	// Open decrypts payment secrets; nil means that they are not encrypted.
	Open func(sealed, owner string) (string, error)

	// Trace records what traced orders go through; nil records nothing.
	Trace *trace.Tracer

	// Name names this process in its pages.
	Name string
	// DropAfter is the time after an activity's close when it is deleted with its orders; 0 means
	// never.
	DropAfter time.Duration
	// Alone means that no other process serves buyers: the first rebuild of a shard needs no
	// wait-out.
	Alone bool
}

// Sale has the joined parts of a sale. The parts of the back office are nil without RoleWorker.
// Each part can be run by its loop (Jobs), or driven step by step, as the simulator does.
type Sale struct {
	// Fixed after NewSale.
	Desk   *desk.Desk
	Office *desk.Office

	Owner     *backoffice.Ownership
	Barrier   *backoffice.Barrier
	Teller    *backoffice.Teller
	Worker    *backoffice.Worker
	Relay     *backoffice.Relay
	Timeouts  *backoffice.Timeouts
	Unparker  *backoffice.Unparker
	Sweeper   *backoffice.Sweeper
	Rebuilder *backoffice.Rebuilder
	Auditor   *backoffice.Auditor
	Mover     *backoffice.Mover
	Upkeep    *backoffice.Upkeep
	Events    *backoffice.EventRelay // nil if there are no events, like the next field
	Herald    *backoffice.Herald

	cfg     seckill.Config
	store   seckill.Store
	signals *Signals
	log     *slog.Logger
	hot     *hotItems

	rows     atomic.Pointer[[]seckill.ShardRow] // as they were read last
	followed timing.Moment                      // when that was; before it, when this was made
	failing  atomic.Pointer[error]              // why the last try to read them failed; nil where it did not
	ahead    atomic.Int64                       // how far the database's clock is ahead, in nanoseconds
}

// NewSale joins the parts of a sale. It makes no call to the seams.
func NewSale(cfg seckill.Config, seams Seams, role Role, log *slog.Logger) (*Sale, error) {
	if seams.BuyerQueue == nil {
		seams.BuyerQueue = seams.Queue
	}
	if seams.BuyerStore == nil {
		seams.BuyerStore = seams.Store
	}
	if seams.Signals == nil {
		seams.Signals = NewSignals()
	}
	d, err := desk.New(cfg, desk.Parts{
		Stock: seams.Stock, Queue: seams.BuyerQueue, Store: seams.BuyerStore, Node: seams.Name, Wanted: seams.Wanted,
		Full:  seams.Full,
		Moved: seams.Moved, Open: seams.Open, Trace: seams.Trace, Log: part(log, "desk"),
	})
	if err != nil {
		return nil, err
	}
	s := &Sale{
		Desk: d, Office: desk.NewOffice(d, seams.Stock),
		cfg: cfg, store: seams.Store, signals: seams.Signals, log: part(log, "sale"), hot: newHotItems(),
	}
	s.followed.Set(time.Now()) // no reading has failed yet
	if role&RoleWorker != 0 {
		s.joinBackOffice(&seams, log)
		s.joinEvents(&seams, log)
	}
	return s, nil
}

// part returns the logger of a part.
func part(log *slog.Logger, name string) *slog.Logger { return log.With("component", name) }

// joinBackOffice makes the parts that work in the background.
func (s *Sale) joinBackOffice(seams *Seams, log *slog.Logger) {
	cfg, stock, store := s.cfg, seams.Stock, seams.Store
	s.Owner = backoffice.NewOwnership(cfg.Shards, seams.Queue.Owned)
	s.Barrier = backoffice.NewBarrier(seams.Queue, store.Positions, part(log, "barrier"))
	s.Teller = backoffice.NewTeller(stock, s.suspect, seams.Trace, part(log, "teller"))
	told := func(accepted []seckill.Acceptance) {
		s.hot.count(accepted)
		s.Teller.Told(accepted)
	}
	s.Worker = backoffice.NewWorker(seams.Queue, store, told, seams.Trace, part(log, "worker"))
	s.Relay = backoffice.NewRelay(cfg, stock, store, s.Owner, s.signals.outbox, part(log, "relay"))
	s.Timeouts = backoffice.NewTimeouts(cfg, store, seams.Held, s.Owner, part(log, "timeouts"))
	s.Unparker = backoffice.NewUnparker(cfg, store, s.Owner, s.Teller.Told, part(log, "unparker"))
	s.Sweeper = backoffice.NewSweeper(cfg, stock, store, s.Barrier, s.Owner, part(log, "sweeper"))
	s.Rebuilder = backoffice.NewRebuilder(cfg, stock, store, s.Barrier, s.Owner, s.hot.of, s.opened, part(log, "rebuilder"))
	if seams.Alone {
		s.Rebuilder.Alone()
	}
	s.Upkeep = backoffice.NewUpkeep(cfg, seams.DropAfter, stock, store, s.Desk.Catalog, s.Owner, s.signals.nudge, part(log, "upkeep"))
	s.Auditor = backoffice.NewAuditor(cfg, stock, store, s.Owner, s.Upkeep, part(log, "auditor"))
	s.Mover = backoffice.NewMover(cfg, stock, store, s.Owner, s.spread, part(log, "mover"))
	s.signals.wanted.Store(&itemFunc{s.Mover.Wanted})
}

// joinEvents makes the parts that publish events.
func (s *Sale) joinEvents(seams *Seams, log *slog.Logger) {
	if seams.Announcer == nil {
		return
	}
	if steps, ok := seams.Store.(backoffice.EventStore); ok {
		s.Events = backoffice.NewEventRelay(s.cfg, steps, seams.Announcer, part(log, "events"))
	}
	inStock := func(offer seckill.Offer) bool {
		has, _ := s.Desk.InStock(offer)
		return has
	}
	s.Herald = backoffice.NewHerald(s.cfg, s.Desk.Catalog, inStock, seams.Announcer, part(log, "herald"))
	seen, herald := seams.Seen, s.Herald
	s.signals.crossed.Store(&itemFunc{func(shard inventory.ShardID, item inventory.ItemID) {
		if at, ok := seen(shard, item); ok {
			herald.Crossed(inventory.Ref{Shard: shard, Epoch: at.Epoch}, at.Seq, item)
		}
	}})
}

// spread returns the spread items of activities that may be selling.
func (s *Sale) spread() (offers []seckill.Offer) {
	now := s.Desk.Now()
	for offer := range s.Desk.Catalog().Spread() {
		if offer.Sale.State == seckill.ActivityPublished && now.Before(offer.Sale.Closes()) {
			offers = append(offers, offer)
		}
	}
	return offers
}

// Job is a background loop that runs until its context ends.
type Job struct {
	Name string
	Tier degrade.Tier // under overload, lower tiers wait first
	Run  func(context.Context)
}

// Jobs are the loops of all parts. The loops that make orders and keep the stock correct never wait
// for a degrade level.
func (s *Sale) Jobs() []Job {
	jobs := []Job{
		{"catalog", degrade.Purchasing, s.Desk.Run}, {"follow", degrade.Purchasing, s.RunFollow},
		{"suspect", degrade.Purchasing, s.RunSuspect},
	}
	if s.Worker != nil {
		jobs = append(jobs,
			Job{"worker", degrade.Purchasing, s.Worker.Run}, Job{"teller", degrade.Purchasing, s.Teller.Run},
			Job{"barrier", degrade.Purchasing, s.Barrier.Run}, Job{"rebuilder", degrade.Purchasing, s.Rebuilder.Run},
			Job{"mover", degrade.Purchasing, s.Mover.Run},
			Job{"relay", degrade.OrderHandling, s.Relay.Run}, Job{"timeouts", degrade.OrderHandling, s.Timeouts.Run},
			Job{"unparker", degrade.OrderHandling, s.Unparker.Run}, Job{"sweeper", degrade.OrderHandling, s.Sweeper.Run},
			Job{"burials", degrade.OrderHandling, s.Sweeper.RunBury}, Job{"auditor", degrade.OrderHandling, s.Auditor.Run},
			Job{"upkeep", degrade.Other, s.Upkeep.Run})
	}
	if s.Events != nil {
		jobs = append(jobs, Job{"events", degrade.Other, s.Events.Run})
	}
	if s.Herald != nil {
		jobs = append(jobs, Job{"herald", degrade.Other, s.Herald.Run})
	}
	return jobs
}

// Close ends the desk. The loops must have ended before. Pages that the queue still has end with
// the queue.
func (s *Sale) Close() { s.Desk.Close() }

// Install puts in force a catalog and shards' rows that an earlier process has kept.
func (s *Sale) Install(kept *seckill.Catalog, rows []seckill.ShardRow) {
	s.Desk.Install(kept)
	if s.rows.CompareAndSwap(nil, &rows) {
		s.follow(rows)
	}
}

// Rows returns the shards' rows of the last reading; it is empty before the first.
func (s *Sale) Rows() []seckill.ShardRow {
	if rows := s.rows.Load(); rows != nil {
		return *rows
	}
	return nil
}

// RunFollow follows the shards until ctx ends: at every tick, and at once after a shard has
// answered with an epoch that this process doesn't know.
func (s *Sale) RunFollow(ctx context.Context) {
	s.followed.Set(time.Now()) // the servers may have been open for a while
	tick := wait.NewTicker(s.cfg.Tick)
	defer tick.Stop()
	for {
		if err := s.Follow(ctx); ctx.Err() == nil {
			s.noteFollow(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tick.Next()
		case <-s.Desk.Behind():
		case <-s.signals.changed:
		}
	}
}

// noteFollow keeps how the last try to read the rows ended, and logs it where that is news.
func (s *Sale) noteFollow(err error) {
	failed := s.failing.Load() != nil
	switch {
	case err != nil:
		s.failing.Store(&err)
		if !failed {
			s.log.Warn("the shards' rows can't be read: the last ones stay in force", "err", err)
		}
	case failed:
		s.failing.Store(nil)
		s.log.Info("the shards' rows can be read again")
	}
}

// Follow reads the shards' rows once, and passes them to the desk.
func (s *Sale) Follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StoreTimeout)
	defer cancel()
	rows, err := s.store.Shards(ctx)
	if err == nil && len(rows) != s.cfg.Shards {
		err = fmt.Errorf("%w: the database has %d shards, but this process is set to %d", seckill.ErrLayout, len(rows), s.cfg.Shards)
	}
	if err != nil {
		s.follow(s.Rows()) // the stock may have reported later epochs since
		return err
	}
	s.rows.Store(&rows)
	s.followed.Set(time.Now())
	s.follow(rows)
	return nil
}

// follow makes the desk follow the rows, or later epochs that the stock has reported. A shard has a
// later epoch than the books while it is being rebuilt, and after the books were restored or can't
// be read.
func (s *Sale) follow(rows []seckill.ShardRow) {
	if len(rows) == 0 {
		return
	}
	s.Desk.Follow(s.signals.latest(rows))
}

// opened is called after the rebuilder has opened a shard.
func (s *Sale) opened(ctx context.Context) {
	if err := s.Follow(ctx); err != nil && ctx.Err() == nil {
		s.signals.nudge()
	}
}

// suspect asks for the rebuild of a shard.
func (s *Sale) suspect(ctx context.Context, ref inventory.Ref) error {
	if err := s.store.MarkSuspect(ctx, ref); err != nil {
		return fmt.Errorf("ask for the rebuild of shard %d: %w", ref.Shard, err)
	}
	return nil
}

// RunSuspect asks for the rebuild of shards that have lost writes, until ctx ends.
func (s *Sale) RunSuspect(ctx context.Context) {
	pause := newBackoff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.signals.suspected:
		}
		for {
			err := s.Suspect(ctx)
			if err == nil {
				pause.Reset()
				break
			}
			if ctx.Err() == nil {
				s.log.Error("can't ask for the rebuild of shards that lost writes; asking again", "err", err)
			}
			if !pause.Wait(ctx) {
				return
			}
		}
	}
}

// Suspect asks once for the rebuild of shards that have lost writes. It keeps the shards for which
// the request failed.
func (s *Sale) Suspect(ctx context.Context) error {
	var errs []error
	for _, ref := range s.signals.suspects() {
		if ref.Epoch == 0 { // reported without an epoch: use the epoch in the books
			for _, row := range s.Rows() {
				if row.Ref.Shard == ref.Shard {
					ref.Epoch = row.Ref.Epoch
				}
			}
		}
		if ref.Epoch == 0 {
			continue // a shard that was never opened has nothing to lose
		}
		call, cancel := context.WithTimeout(ctx, s.cfg.StoreTimeout)
		err := s.suspect(call, ref)
		cancel()
		if err != nil {
			s.signals.OnLost(ref)
			errs = append(errs, err)
		}
	}
	s.signals.nudge()
	return errors.Join(errs...)
}

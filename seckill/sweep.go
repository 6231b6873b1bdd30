package seckill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"penstock/inventory"
)

// Sweeper decides the holds that nobody finished: their buyer never came back, their record was lost, or their confirmation
// was. It decides nothing by clocks of two machines: it notes a shard's seq, lets its own monotonic clock run for the sweep
// age, and takes what is still fresh at or below the note. For those, in this order:
//
//  1. when the workers have passed the queue's end of the time of the note: the ones with an order row are confirmed,
//  2. the others are doomed, if nobody touched them since; from now on a repeat of their key puts no record,
//  3. when the workers have passed the queue's end of a time after the doom, so that no record of a touch before it is left:
//     a tombstone is buried under the order id, in a transaction that sees the item's epoch unchanged,
//  4. where the tombstone lost to a row, the order exists and is confirmed; else the outbox relay settles the hold void.
//
// A crash after any step leaves the hold fresh or doomed, and the next sweep begins it again. Any number of sweepers may
// run. One Sweeper runs in one goroutine.
type Sweeper struct {
	// Fixed after NewSweeper.
	cfg   Config
	stock Stock
	queue Queue
	store Store
	live  func() []inventory.Ref
	log   *slog.Logger

	notes map[inventory.ItemID]note // of Run's goroutine

	counts SweepCounts
}

// SweepCounts counts what a sweeper decided since it was made.
type SweepCounts struct {
	Confirmed atomic.Int64
	Buried    atomic.Int64
}

// note is a sweep under way: what is fresh at or below seq is old at due.
type note struct {
	epoch inventory.Epoch
	seq   uint64
	end   Positions
	due   time.Time
}

// NewSweeper makes a sweeper of the shards that live returns.
func NewSweeper(cfg Config, stock Stock, queue Queue, store Store, live func() []inventory.Ref, log *slog.Logger) *Sweeper {
	return &Sweeper{cfg: cfg, stock: stock, queue: queue, store: store, live: live, log: log, notes: make(map[inventory.ItemID]note)}
}

// Counts returns the sweeper's counters.
func (s *Sweeper) Counts() *SweepCounts { return &s.counts }

// Run works until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	for pauseFor(ctx, s.cfg.Tick) {
		s.Step(ctx)
	}
}

// Step notes the shards that have no note and sweeps those whose note is due. What fails is logged and comes again.
func (s *Sweeper) Step(ctx context.Context) {
	refs := s.live()
	alive := make(map[inventory.ItemID]bool, len(refs))
	for _, ref := range refs {
		alive[ref.Item] = true
		if err := s.item(ctx, ref); err != nil && ctx.Err() == nil && !rebuilding(err) {
			s.log.Warn("sweep goes on later", "item", ref.Item, "epoch", ref.Epoch, "err", err)
		}
	}
	for item := range s.notes {
		if !alive[item] {
			delete(s.notes, item)
		}
	}
}

// item moves one shard's sweep on as far as it goes without waiting for the sweep age.
func (s *Sweeper) item(ctx context.Context, ref inventory.Ref) error {
	n, ok := s.notes[ref.Item]
	if ok && n.epoch == ref.Epoch {
		if time.Now().Before(n.due) {
			return nil
		}
		if err := s.sweep(ctx, ref, n); err != nil {
			if errors.Is(err, ErrFenced) || rebuilding(err) {
				delete(s.notes, ref.Item)
			}
			return err
		}
	}
	return s.note(ctx, ref)
}

// note begins a sweep. The queue's end is read after the shard's seq: what a noted touch has put lies below it, or was put
// by an attempt that dies within the sweep age and is met by the second look at the end.
func (s *Sweeper) note(ctx context.Context, ref inventory.Ref) error {
	delete(s.notes, ref.Item)
	seq, err := s.stock.Note(ctx, ref)
	if err != nil {
		return fmt.Errorf("note: %w", err)
	}
	end, err := s.queue.End(ctx)
	if err != nil {
		return fmt.Errorf("note the queue's end: %w", err)
	}
	s.notes[ref.Item] = note{ref.Epoch, seq, end, time.Now().Add(s.cfg.SweepAge)}
	return nil
}

// sweep decides what is old by the note, batch by batch, until there is no more or a batch was left as it is: its orders
// have ended and the outbox relay is about to settle them.
func (s *Sweeper) sweep(ctx context.Context, ref inventory.Ref, n note) error {
	for {
		old, err := s.stock.Old(ctx, ref, n.seq, s.cfg.BatchCap)
		if err != nil {
			return fmt.Errorf("list old holds: %w", err)
		}
		if len(old) == 0 {
			return nil
		}
		decided, err := s.decide(ctx, ref, n, old)
		if err != nil || decided == 0 {
			return err
		}
	}
}

// decide takes a batch of old holds through the four steps and returns how many of them are no longer fresh or doomed.
func (s *Sweeper) decide(ctx context.Context, ref inventory.Ref, n note, old []inventory.Entry) (decided int, err error) {
	if err := drain(ctx, s.queue, n.end); err != nil {
		return 0, err
	}
	orphans, confirmed, err := s.confirmOrdered(ctx, ref, old)
	if err != nil {
		return 0, err
	}
	doomed, err := s.doom(ctx, ref, n, orphans)
	if err != nil || len(doomed) == 0 {
		return confirmed, err
	}
	end, err := s.queue.End(ctx)
	if err != nil {
		return confirmed, fmt.Errorf("read the queue's end: %w", err)
	}
	if err := drain(ctx, s.queue, end); err != nil {
		return confirmed, err
	}
	buried, err := s.bury(ctx, ref, doomed)
	return confirmed + buried, err
}

// doom dooms the holds that nobody touched since the note and returns those that are doomed now.
func (s *Sweeper) doom(ctx context.Context, ref inventory.Ref, n note, orphans []inventory.Hold) ([]inventory.Hold, error) {
	if len(orphans) == 0 {
		return nil, nil
	}
	ids := make([]string, len(orphans))
	for i := range orphans {
		ids[i] = orphans[i].ID
	}
	states, err := s.stock.Doom(ctx, ref, n.seq, ids)
	if err != nil {
		return nil, fmt.Errorf("doom: %w", err)
	}
	doomed := orphans[:0]
	for i, state := range states {
		if state == inventory.Doomed {
			doomed = append(doomed, orphans[i])
		}
	}
	return doomed, nil
}

// confirmOrdered confirms the holds whose orders are open and returns those without a row, and how many it confirmed. Ended
// orders are the outbox relay's.
func (s *Sweeper) confirmOrdered(ctx context.Context, ref inventory.Ref,
	old []inventory.Entry) (orphans []inventory.Hold, confirmed int, err error) {
	ids := make([]OrderID, len(old))
	for i := range old {
		ids[i] = OrderID(old[i].ID)
	}
	orders, err := s.store.FindOrders(ctx, ids)
	if err != nil {
		return nil, 0, fmt.Errorf("look %d orders up: %w", len(ids), err)
	}
	var open []inventory.Hold
	for i := range old {
		switch {
		case orders[i].ID == "":
			orphans = append(orphans, old[i].Hold)
		case orders[i].Units == UnitsOpen:
			open = append(open, old[i].Hold)
		}
	}
	return orphans, len(open), s.confirm(ctx, ref, open)
}

// bury decides doomed holds in the store and returns how many of them the next look finds decided. A withdrawal's tombstone is
// not found by order id: it comes again until the outbox relay has settled it, and must not keep the sweep going.
func (s *Sweeper) bury(ctx context.Context, ref inventory.Ref, doomed []inventory.Hold) (decided int, err error) {
	exists, err := s.store.Bury(ctx, ref, doomed)
	if err != nil {
		return 0, fmt.Errorf("bury %d holds: %w", len(doomed), err)
	}
	var ordered []inventory.Hold
	for i := range doomed {
		if exists[i] {
			ordered = append(ordered, doomed[i])
		}
		if exists[i] || !IsWithdrawal(doomed[i].ID) {
			decided++
		}
	}
	s.counts.Buried.Add(int64(len(doomed) - len(ordered)))
	return decided, s.confirm(ctx, ref, ordered)
}

func (s *Sweeper) confirm(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) error {
	if len(holds) == 0 {
		return nil
	}
	if err := s.stock.Confirm(ctx, ref, holds); err != nil {
		return fmt.Errorf("confirm %d holds: %w", len(holds), err)
	}
	s.counts.Confirmed.Add(int64(len(holds)))
	return nil
}

// drainLook is the pause between two looks at the workers' offsets.
const drainLook = 50 * time.Millisecond

// drainLimit is how long a drain is waited for in one go: after that the caller begins again later, so that one stalled
// partition doesn't hold everything else up.
const drainLimit = 30 * time.Second

// errNotDrained means that the workers are behind.
var errNotDrained = errors.New("the workers have not passed the queue's end")

// drain waits until the workers' committed offsets have passed end.
func drain(ctx context.Context, queue Queue, end Positions) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for {
		committed, err := queue.Committed(ctx)
		if err == nil && committed.Passed(end) {
			return nil
		}
		if !pauseFor(ctx, drainLook) {
			return errors.Join(errNotDrained, err)
		}
	}
}

// rebuilding reports whether a shard refused because it is being rebuilt, or has to be.
func rebuilding(err error) bool {
	return errors.Is(err, inventory.ErrClosed) || errors.Is(err, inventory.ErrEpoch) || errors.Is(err, inventory.ErrLost)
}

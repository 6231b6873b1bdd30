package backoffice

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Sweeper decides the holds that nobody finished: their buyer never came back, their page was lost,
// or their confirmation was. No clock of one machine is compared with another's: it notes a shard's
// seq, lets its own monotonic clock run for the sweep age, and takes what is still fresh at or
// below the note.
//
//  1. Holds whose order has a row are told what the row says: confirmed, or settled. States are
//     compared; no message is expected.
//  2. The others are doomed, if nobody touched them since, and the replicas have that: from now on
//     a repeat of their key puts no page, and a failover does not forget it.
//  3. The wait-out passes, so that nobody can be given a 202 for a touch of before the doom, and
//     then a barrier, so that every page of before has its row. One wait and one barrier serve all
//     shards.
//  4. A tombstone is written under the order's id, in a transaction that compares the shard's epoch
//     and the database's incarnation with those of before the doom. Where there is a row by then,
//     the order exists. The relay settles the hold of a tombstone.
//
// A crash after any step leaves the hold fresh or doomed, and the next sweep begins it again.
type Sweeper struct {
	// Fixed after NewSweeper.
	cfg     seckill.Config
	stock   seckill.Stock
	store   seckill.Store
	barrier *Barrier
	owner   *Ownership
	log     *slog.Logger
	doomed  chan struct{} // gets a value when something was doomed; capacity 1

	notes map[inventory.ShardID]note // of Run's goroutine
	held  trouble                    // of Run's goroutine

	mu      sync.Mutex
	pending []doom // guarded by mu: wait for the next wait-out; one a shard at most

	counts SweepCounts
}

// SweepCounts counts what a sweeper decided since it was made.
type SweepCounts struct {
	Confirmed atomic.Int64
	Settled   atomic.Int64 // ended orders of which the stock did not know it
	Buried    atomic.Int64
}

// note is a sweep under way: what is fresh at or below seq is old at due.
type note struct {
	epoch inventory.Epoch
	seq   uint64
	due   time.Time
}

// doom is what was doomed of a shard.
type doom struct {
	ref         inventory.Ref
	incarnation string
	holds       []inventory.Hold
}

// NewSweeper makes a sweeper for the shards that owner says.
func NewSweeper(cfg seckill.Config, stock seckill.Stock, store seckill.Store, barrier *Barrier, owner *Ownership,
	log *slog.Logger) *Sweeper {
	return &Sweeper{cfg: cfg, stock: stock, store: store, barrier: barrier, owner: owner, log: log,
		doomed: make(chan struct{}, 1), notes: make(map[inventory.ShardID]note),
		held: trouble{log: log, failing: "shards can't be swept, their old holds wait", over: "shards are swept again"}}
}

// Counts returns the sweeper's counters.
func (s *Sweeper) Counts() *SweepCounts { return &s.counts }

// Run works until ctx ends. RunBury must run beside it.
func (s *Sweeper) Run(ctx context.Context) {
	for wait.For(ctx, s.cfg.Tick) {
		s.Step(ctx)
	}
}

// RunBury decides what was doomed, until ctx ends.
func (s *Sweeper) RunBury(ctx context.Context) {
	for wait.Woken(ctx, s.doomed) {
		if err := s.Bury(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("doomed holds not decided, a later sweep will", "err", err)
		}
	}
}

// Step notes the shards that have no note and sweeps those whose note is due. What fails is logged
// and comes again; it keeps no other shard waiting.
func (s *Sweeper) Step(ctx context.Context) {
	shards := s.owner.Shards()
	mine := make(map[inventory.ShardID]bool, len(shards))
	var left []inventory.ShardID
	var why error
	for _, shard := range shards {
		mine[shard] = true
		if ctx.Err() != nil {
			return
		}
		ref := inventory.Ref{Shard: shard, Epoch: s.stock.Epoch(shard)}
		if ref.Epoch == 0 {
			continue
		}
		if err := s.shard(ctx, ref); err != nil && ctx.Err() == nil && !rebuilding(err) {
			why, left = err, append(left, shard)
		}
	}
	if ctx.Err() == nil {
		s.held.note(why, "shards", left)
	}
	for shard := range s.notes {
		if !mine[shard] {
			delete(s.notes, shard)
		}
	}
}

// shard moves one shard's sweep on as far as it goes without waiting.
func (s *Sweeper) shard(ctx context.Context, ref inventory.Ref) error {
	n, ok := s.notes[ref.Shard]
	if ok && n.epoch == ref.Epoch {
		if time.Now().Before(n.due) || s.waits(ref.Shard) {
			return nil
		}
		if err := s.sweep(ctx, ref, n); err != nil {
			return err
		}
	}
	seq, err := s.stock.Note(ctx, ref)
	if err != nil {
		return fmt.Errorf("note the shard's seq: %w", err)
	}
	s.notes[ref.Shard] = note{ref.Epoch, seq, time.Now().Add(s.cfg.SweepAge)}
	return nil
}

// waits reports whether holds of the shard are doomed and not decided yet.
func (s *Sweeper) waits(shard inventory.ShardID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.pending {
		if s.pending[i].ref.Shard == shard {
			return true
		}
	}
	return false
}

// maxDoomed is the most holds of a shard that wait for their burial; the others are for the next
// sweep.
const maxDoomed = 100_000

// sweep goes through the shard's old holds once.
func (s *Sweeper) sweep(ctx context.Context, ref inventory.Ref, n note) error {
	incarnation, err := s.store.Incarnation(ctx) // of before the dooms
	if err != nil {
		return fmt.Errorf("read the database's incarnation: %w", err)
	}
	d := doom{ref: ref, incarnation: incarnation}
	defer func() { s.await(d) }()
	for cursor, more := int64(0), true; more && len(d.holds) < maxDoomed; {
		var old []inventory.Entry
		old, cursor, more, err = s.stock.Old(ctx, ref, n.seq, cursor, s.cfg.BatchCap)
		if err != nil {
			return fmt.Errorf("read old holds: %w", err)
		}
		orphans, err := s.tellRows(ctx, ref, old)
		if err != nil {
			return err
		}
		doomed, err := s.doom(ctx, ref, n, orphans)
		if err != nil {
			return err
		}
		d.holds = append(d.holds, doomed...)
	}
	return nil
}

// await hands what was doomed to RunBury.
func (s *Sweeper) await(d doom) {
	if len(d.holds) == 0 {
		return
	}
	s.mu.Lock()
	s.pending = append(s.pending, d)
	s.mu.Unlock()
	select {
	case s.doomed <- struct{}{}:
	default:
	}
}

// tellRows tells the stock what the rows of old holds say, and returns the holds without one.
func (s *Sweeper) tellRows(ctx context.Context, ref inventory.Ref, old []inventory.Entry) (orphans []inventory.Hold, err error) {
	if len(old) == 0 {
		return nil, nil
	}
	ids := make([]seckill.OrderID, len(old))
	for i := range old {
		ids[i] = seckill.OrderID(old[i].ID)
	}
	orders, err := s.store.FindOrders(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("look %d orders up: %w", len(ids), err)
	}
	var open []inventory.Hold
	var ended []inventory.Settlement
	for i := range old {
		switch {
		case orders[i].ID == "":
			orphans = append(orphans, old[i].Hold)
		case orders[i].Units == seckill.UnitsSold:
			ended = append(ended, inventory.Settlement{Hold: old[i].Hold, Kind: inventory.SettleSold})
		case orders[i].Units == seckill.UnitsVoid:
			ended = append(ended, inventory.Settlement{Hold: old[i].Hold, Kind: inventory.SettleVoid})
		default:
			open = append(open, old[i].Hold)
		}
	}
	if err := s.settle(ctx, ref, ended); err != nil {
		return nil, err
	}
	return orphans, s.confirm(ctx, ref, open)
}

// doom dooms the holds that nobody touched since the note and returns those that are doomed now.
func (s *Sweeper) doom(ctx context.Context, ref inventory.Ref, n note, orphans []inventory.Hold) ([]inventory.Hold, error) {
	if len(orphans) == 0 {
		return nil, nil
	}
	states, err := s.stock.Doom(ctx, ref, n.seq, orphans)
	if err != nil {
		return nil, fmt.Errorf("doom %d holds: %w", len(orphans), err)
	}
	doomed := orphans[:0]
	for i, state := range states {
		if state == inventory.Doomed {
			doomed = append(doomed, orphans[i])
		}
	}
	return doomed, nil
}

// Bury decides all that is doomed: one wait-out and one barrier, then each shard's holds. One
// shard's failure keeps no other from being decided; its holds come again with its next sweep.
func (s *Sweeper) Bury(ctx context.Context) error {
	s.mu.Lock()
	dooms := len(s.pending)
	s.mu.Unlock()
	if dooms == 0 {
		return nil
	}
	err := s.waitOut(ctx)
	s.mu.Lock()
	now := s.pending[:dooms]
	s.pending = append([]doom(nil), s.pending[dooms:]...)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	for _, d := range now {
		if err := s.bury(ctx, &d); err != nil && ctx.Err() == nil && !rebuilding(err) {
			s.log.Warn("doomed holds of a shard not decided, a later sweep will", "shard", d.ref.Shard, "holds", len(d.holds), "err", err)
		}
	}
	return ctx.Err()
}

// waitOut returns when no 202 can be given for what was doomed before, and what was promised has
// its row.
func (s *Sweeper) waitOut(ctx context.Context) error {
	if !wait.For(ctx, s.cfg.WaitOut()) {
		return ctx.Err()
	}
	if err := s.barrier.Pass(ctx); err != nil {
		return fmt.Errorf("pass a barrier: %w", err)
	}
	return nil
}

// bury decides doomed holds in the store. The relay settles those that get a tombstone; a
// withdrawal's hold is settled here as well, since no row tells a later sweep of a tombstone whose
// settlement a Redis has lost again.
func (s *Sweeper) bury(ctx context.Context, d *doom) error {
	for holds := d.holds; len(holds) > 0; {
		n := min(len(holds), s.cfg.BatchCap)
		exists, err := s.store.Bury(ctx, d.ref, d.incarnation, holds[:n])
		if err != nil {
			return fmt.Errorf("bury %d holds: %w", n, err)
		}
		var open []inventory.Hold
		var over []inventory.Settlement
		for i, there := range exists {
			if !there {
				s.counts.Buried.Add(1)
			}
			switch withdrawal := seckill.IsWithdrawal(holds[i].ID); {
			case withdrawal && there:
				over = append(over, inventory.Settlement{Hold: holds[i], Kind: inventory.SettleSold})
			case withdrawal:
				over = append(over, inventory.Settlement{Hold: holds[i], Kind: inventory.SettleVoid})
			case there:
				open = append(open, holds[i])
			}
		}
		if err := s.settle(ctx, d.ref, over); err != nil {
			return err
		}
		if err := s.confirm(ctx, d.ref, open); err != nil {
			return err
		}
		holds = holds[n:]
	}
	return nil
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

func (s *Sweeper) settle(ctx context.Context, ref inventory.Ref, ends []inventory.Settlement) error {
	if len(ends) == 0 {
		return nil
	}
	if err := s.stock.Settle(ctx, ref, ends); err != nil {
		return fmt.Errorf("settle %d holds: %w", len(ends), err)
	}
	s.counts.Settled.Add(int64(len(ends)))
	return nil
}

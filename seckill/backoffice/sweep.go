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

// Sweeper decides unfinished holds: their buyer never came back, or their page or confirmation was
// lost. It compares no clocks of different machines: it records a shard's seq, and waits for the
// sweep age by its own monotonic clock. Then it takes the holds that are still fresh and were last
// touched at or below that seq.
//
//  1. Holds whose order has a row are confirmed or settled, as the row says. It compares states, so
//     it needs no message.
//  2. The other holds are doomed if they were not touched since, and the replicas have received the
//     doom. From then on, a repeat of their key puts no page, even after a failover.
//  3. The wait-out passes, so that no 202 can be given for a touch before the doom. Then a barrier
//     passes, so that every earlier page has its row. All shards share one wait and one barrier.
//  4. A tombstone is written under the order's id, in a transaction that compares the shard's epoch
//     and the database's incarnation with those before the doom. If there is a row by then, the
//     order exists. The relay settles the hold of a tombstone.
//
// A crash after any step leaves the hold fresh or doomed, and the next sweep decides it.
type Sweeper struct {
	// Fixed after NewSweeper.
	cfg     seckill.Config
	stock   seckill.Stock
	store   seckill.Store
	barrier *Barrier
	owner   *Ownership
	log     *slog.Logger
	doomed  chan struct{} // gets a value when something was doomed; capacity 1

	notes map[inventory.ShardID]note // used by Run's goroutine only
	held  trouble                    // used by Run's goroutine only

	mu      sync.Mutex
	pending []doom // dooms that wait for the next wait-out, at most one for each shard; guarded by mu

	counts SweepCounts
}

// SweepCounts counts the decisions of a sweeper since it was made.
type SweepCounts struct {
	Confirmed atomic.Int64
	Settled   atomic.Int64 // ended orders whose holds the stock had not settled yet
	Buried    atomic.Int64
}

// note is a sweep in progress: holds that are still fresh at or below seq may be decided at due.
type note struct {
	epoch inventory.Epoch
	seq   uint64
	due   time.Time
}

// doom has the doomed holds of a shard.
type doom struct {
	ref         inventory.Ref
	incarnation string
	holds       []inventory.Hold
}

// NewSweeper makes a sweeper for the shards of owner.
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
	for wait.ForTick(ctx, s.cfg.Tick) {
		s.Step(ctx)
	}
}

// RunBury decides doomed holds until ctx ends.
func (s *Sweeper) RunBury(ctx context.Context) {
	for wait.Woken(ctx, s.doomed) {
		if err := s.Bury(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("doomed holds not decided, a later sweep will", "err", err)
		}
	}
}

// Step records the shards that have no note and sweeps those whose note is due. A failure is logged
// and tried again; it doesn't delay other shards.
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

// shard continues one shard's sweep until it would have to wait.
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

// waits reports whether the shard has doomed holds that are not decided yet.
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

// maxDoomed is the most holds of a shard that wait to be buried; the next sweep takes the others.
const maxDoomed = 100_000

// sweep goes through the shard's old holds once.
func (s *Sweeper) sweep(ctx context.Context, ref inventory.Ref, n note) error {
	incarnation, err := s.store.Incarnation(ctx) // read before the dooms
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

// await passes doomed holds to RunBury.
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

// tellRows confirms or settles old holds that have rows, and returns the holds without one.
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

// doom dooms the holds that were not touched since the note. It returns those that are doomed now.
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

// Bury decides all doomed holds: after one wait-out and one barrier, shard by shard. A shard's
// failure doesn't stop the others; its holds come again with its next sweep.
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

// waitOut returns when no 202 can be given for holds that were doomed before it, and every promise
// has its row.
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
// withdrawal's hold is settled here as well. If Redis lost that settlement, no order row would show
// it to a later sweep.
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

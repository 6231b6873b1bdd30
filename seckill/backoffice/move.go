package backoffice

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Mover moves units between the shards of spread items after a buyer got the answer busy, which
// means that the buyer's shard has no unit and another shard has some. Half of the fullest shard's
// units go to the wanted shards. The owner of the item's first shard does it. A move is a
// withdrawal and a restock: a hold by the shop, then one transaction that changes both totals,
// then, through the outbox, a settlement on one shard and a restock on the other. So a unit is
// never in two places. A crash after any step leaves a hold that the sweeper decides.
//
// It moves units only on demand. Without demand the last unit could move for ever, and each move
// leaves a marker. Wanted is safe for concurrent use.
type Mover struct {
	// Fixed after NewMover.
	cfg    seckill.Config
	stock  seckill.Stock
	store  seckill.StockStore
	owner  *Ownership
	spread func() []seckill.Offer // the spread items of activities that may be selling
	log    *slog.Logger
	began  int64

	mu     sync.Mutex
	wanted map[inventory.ItemID]map[inventory.ShardID]bool // guarded by mu: shards whose buyers got the answer busy
	woken  chan struct{}                                   // has a value where wanted may have something

	moves atomic.Int64
	moved atomic.Int64
}

// moveEvery is the pause between two looks at what is wanted: a buyer whose shard is empty gets
// busy for about this long.
const moveEvery = 100 * time.Millisecond

// maxWanted is how many items may be wanted at a time; further ones must be asked for again (L8).
const maxWanted = 10_000

// NewMover makes a mover.
func NewMover(cfg seckill.Config, stock seckill.Stock, store seckill.StockStore, owner *Ownership,
	spread func() []seckill.Offer, log *slog.Logger) *Mover {
	return &Mover{
		cfg: cfg, stock: stock, store: store, owner: owner, spread: spread, log: log, began: time.Now().UnixNano(),
		wanted: make(map[inventory.ItemID]map[inventory.ShardID]bool), woken: make(chan struct{}, 1),
	}
}

// Moved returns how many units were moved.
func (m *Mover) Moved() int64 { return m.moved.Load() }

// Wanted reports that a buyer of an item got the answer busy because the shard has no unit. It does
// not block.
func (m *Mover) Wanted(shard inventory.ShardID, item inventory.ItemID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	on := m.wanted[item]
	if on == nil && len(m.wanted) < maxWanted {
		on = make(map[inventory.ShardID]bool)
		m.wanted[item] = on
	}
	if on != nil {
		on[shard] = true
		select {
		case m.woken <- struct{}{}:
		default:
		}
	}
}

// Run works until ctx ends.
func (m *Mover) Run(ctx context.Context) {
	for wait.Woken(ctx, m.woken) && wait.For(ctx, moveEvery) {
		m.Step(ctx)
	}
}

// Step moves units to the shards that have asked for them since the last step.
func (m *Mover) Step(ctx context.Context) {
	m.mu.Lock()
	wanted := m.wanted
	m.wanted = make(map[inventory.ItemID]map[inventory.ShardID]bool)
	m.mu.Unlock()
	if len(wanted) == 0 {
		return
	}
	mine := make(map[inventory.ShardID]bool)
	for _, shard := range m.owner.Shards() {
		mine[shard] = true
	}
	for _, offer := range m.spread() {
		if ctx.Err() != nil || wanted[offer.ID] == nil || !mine[inventory.Home(offer.ID, m.cfg.Shards)] {
			continue
		}
		if err := m.item(ctx, offer, wanted[offer.ID]); err != nil && ctx.Err() == nil && !rebuilding(err) {
			m.log.Warn("units not moved", "item", offer.ID, "sku", offer.SKU, "err", err)
		}
	}
}

// item moves half of the units of the item's fullest shard to its empty shards that have buyers.
func (m *Mover) item(ctx context.Context, offer seckill.Offer, wanted map[inventory.ShardID]bool) error {
	var empty []inventory.ShardID
	var full inventory.ShardID
	most := int64(0)
	for i := range offer.Spread {
		shard := inventory.ShardAt(offer.ID, i, m.cfg.Shards)
		levels, items, err := m.stock.ItemNumbers(ctx, shard, []inventory.ItemID{offer.ID})
		switch {
		case err != nil:
			return fmt.Errorf("read shard %d: %w", shard, err)
		case levels.Closed || !items[0].Known:
		case items[0].Available <= 0 && wanted[shard]:
			empty = append(empty, shard)
		case items[0].Available > most:
			full, most = shard, items[0].Available
		}
	}
	give := (most + 1) / 2
	for i, shard := range empty {
		units := seckill.Share(give, i, len(empty))
		if units == 0 {
			return nil
		}
		if err := m.move(ctx, offer.ID, full, shard, int(min(units, seckill.MaxItemQuantity))); err != nil {
			return fmt.Errorf("move %d units from shard %d to %d: %w", units, full, shard, err)
		}
	}
	return nil
}

// move takes units by a hold, and moves them in one transaction. After a failure the sweeper gives
// the hold's units back.
func (m *Mover) move(ctx context.Context, item inventory.ItemID, from, to inventory.ShardID, units int) error {
	key := "move " + strconv.FormatInt(m.began, 36) + " " + strconv.FormatInt(m.moves.Add(1), 10)
	ref := inventory.Ref{Shard: from, Epoch: m.stock.Epoch(from)}
	hold := inventory.Hold{Item: item, ID: seckill.NewWithdrawalID(item, from, key), Quantity: units}
	call := &inventory.HoldCall{Ref: ref, Claims: []inventory.Claim{{Hold: hold}}}
	m.stock.Hold(ctx, []*inventory.HoldCall{call})
	switch {
	case call.Err != nil:
		return call.Err
	case call.Verdicts[0] != inventory.Held:
		return nil // buyers have taken the units
	}
	if err := m.store.MoveUnits(ctx, seckill.Taken{Ref: ref, Hold: hold}, to); err != nil {
		return err
	}
	m.moved.Add(int64(units))
	return nil
}

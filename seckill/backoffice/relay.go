package backoffice

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Relay tells the stock what the store has decided: it settles the holds of ended orders and
// applies restocks, then deletes the outbox rows. Each step can be repeated: settling twice does
// nothing, a restock is applied once per epoch by its id.
type Relay struct {
	// Fixed after NewRelay.
	cfg   seckill.Config
	stock seckill.Books
	store seckill.OrderStore
	owner *Ownership
	woken <-chan struct{}
	log   *slog.Logger

	stuck   trouble                     // of Run's goroutine
	resting map[inventory.ShardID]*rest // of Run's goroutine: shards that refused
	began   time.Time                   // of Run's goroutine: this pass
	given   int                         // of Run's goroutine: rows of this call
	left    int                         // of Run's goroutine: rows of this pass that the stock has not taken

	delivered atomic.Int64
	refused   atomic.Int64
	current   timing.Moment // until then everything was delivered
	took      timing.Histogram
}

// rest is the pause of a shard that refuses rows.
type rest struct {
	pause wait.Backoff
	until time.Time
	said  bool // the refusal was logged
}

// NewRelay makes a relay for the shards of owner. A value of woken makes it look at the outbox at
// once; nil means never.
func NewRelay(cfg seckill.Config, stock seckill.Books, store seckill.OrderStore, owner *Ownership, woken <-chan struct{},
	log *slog.Logger) *Relay {
	return &Relay{cfg: cfg, stock: stock, store: store, owner: owner, woken: woken, log: log, resting: make(map[inventory.ShardID]*rest),
		stuck: trouble{log: log, failing: "the outbox can't be relayed", over: "the outbox is relayed again"}}
}

// Delivered returns how many rows were delivered, and how often the stock refused one.
func (r *Relay) Delivered() (delivered, refused int64) { return r.delivered.Load(), r.refused.Load() }

// Took returns how long rows waited at most until they were delivered, and for how long at most the
// oldest one waits that isn't: it waits since the last time when nothing was left.
func (r *Relay) Took() (took *timing.Histogram, oldest time.Duration) {
	oldest, _ = r.current.Age()
	return &r.took, oldest
}

// The pause after an empty outbox. It grows while the outbox stays empty. Units that come back are
// on sale again after one and a half of the longest pause (see wait.UntilTick), or at once if the
// relay is woken.
const (
	relayPause        = 25 * time.Millisecond
	longestRelayPause = 200 * time.Millisecond
)

// Run works until ctx ends.
func (r *Relay) Run(ctx context.Context) {
	pause, idle := newBackoff(), wait.Backoff{First: relayPause, Longest: longestRelayPause, OnTick: true}
	for ctx.Err() == nil {
		before := r.delivered.Load()
		if !r.stuck.attempt(ctx, r.Step(ctx), pause) {
			continue
		}
		if r.delivered.Load() != before {
			idle.Reset()
			continue
		}
		if wait.ForOrWoken(ctx, idle.Next(), r.woken) {
			idle.Reset()
		}
	}
}

// Step goes through the outbox of the owned shards once, from its oldest row to its newest. A shard
// that refuses doesn't delay others.
func (r *Relay) Step(ctx context.Context) error {
	began := time.Now()
	r.began, r.left = began, 0
	shards := r.awake(began)
	for after := int64(0); len(shards) > 0; {
		r.given = 0
		last, err := r.store.Relay(ctx, shards, after, r.cfg.BatchCap, r.deliver)
		if err != nil {
			return err
		}
		if r.given < r.cfg.BatchCap {
			r.emptied(began)
		}
		if last == 0 {
			return nil
		}
		after, began = last, time.Now()
		shards = r.awake(began)
	}
	r.given = 0
	r.emptied(began) // it owns no shard, or all of them rest
	return nil
}

// emptied notes that all rows from before that moment were given to the stock. Where it has not
// taken all, or a shard pauses, some still wait.
func (r *Relay) emptied(then time.Time) {
	pauses := func(shard inventory.ShardID) bool {
		rest := r.resting[shard]
		return rest != nil && rest.until.After(r.began)
	}
	if r.left > 0 || slices.ContainsFunc(r.owner.Shards(), pauses) {
		return
	}
	if age, known := r.current.Age(); known && r.given > 0 {
		r.took.Observe(age)
	}
	r.current.Set(then)
}

// awake returns the owned shards that don't pause at now.
func (r *Relay) awake(now time.Time) []inventory.ShardID {
	var shards []inventory.ShardID
	for _, shard := range r.owner.Shards() {
		if rest := r.resting[shard]; rest == nil || !now.Before(rest.until) {
			shards = append(shards, shard)
		}
	}
	return shards
}

// deliver sends rows to the stock and returns the indexes of those that arrived.
func (r *Relay) deliver(ctx context.Context, rows []seckill.Outgoing) []int {
	arrived := make([]int, 0, len(rows))
	var groups byRef[int]
	for i := range rows {
		groups.add(rows[i].Ref, i)
	}
	for _, group := range groups {
		arrived = append(arrived, r.tell(ctx, group.ref, rows, group.list)...)
	}
	r.delivered.Add(int64(len(arrived)))
	r.given += len(rows)
	r.left += len(rows) - len(arrived)
	return arrived
}

// tell sends the rows of one shard: its restocks, then its settlements. The order matters, because
// a withdrawal's settlement may depend on a restock.
func (r *Relay) tell(ctx context.Context, ref inventory.Ref, rows []seckill.Outgoing, of []int) (arrived []int) {
	var restocks []inventory.Restock
	var ends []inventory.Settlement
	var restocked, settled []int
	for _, i := range of {
		if rows[i].Restock.Item != 0 {
			restocks, restocked = append(restocks, rows[i].Restock), append(restocked, i)
		} else {
			ends, settled = append(ends, rows[i].Settlement), append(settled, i)
		}
	}
	if len(restocks) > 0 {
		applied, err := r.stock.Restock(ctx, ref, restocks)
		if !r.sent(ctx, ref, len(restocks), err) {
			return nil
		}
		for j, ok := range applied {
			if ok {
				arrived = append(arrived, restocked[j])
			}
		}
	}
	if len(ends) > 0 && r.sent(ctx, ref, len(ends), r.stock.Settle(ctx, ref, ends)) {
		arrived = append(arrived, settled...)
	}
	return arrived
}

// sent counts and reports a delivery. A shard that refuses is left alone for a while. If it is
// closed or has another epoch, it is being rebuilt, and its rows wait.
func (r *Relay) sent(ctx context.Context, ref inventory.Ref, rows int, err error) bool {
	if err == nil {
		if at := r.resting[ref.Shard]; at != nil && at.said {
			r.log.Info("stock is told again", "shard", ref.Shard, "epoch", ref.Epoch)
		}
		delete(r.resting, ref.Shard)
		return true
	}
	r.refused.Add(int64(rows))
	at := r.resting[ref.Shard]
	if at == nil {
		at = &rest{pause: wait.Backoff{First: relayPause, Longest: time.Second}}
		r.resting[ref.Shard] = at
	}
	at.until = time.Now().Add(at.pause.Next())
	if ctx.Err() == nil && !rebuilding(err) && !at.said {
		at.said = true
		r.log.Warn("stock not told", "shard", ref.Shard, "epoch", ref.Epoch, "rows", rows, "err", err)
	}
	return false
}

// rebuilding reports whether a shard refused because it is being rebuilt, or must be.
func rebuilding(err error) bool {
	return errors.Is(err, inventory.ErrClosed) || errors.Is(err, inventory.ErrEpoch) || errors.Is(err, inventory.ErrLost)
}

// byRef groups values by shard, so that each shard gets one call. The groups are in the order of
// first appearance.
type byRef[T any] []refGroup[T]

type refGroup[T any] struct {
	ref  inventory.Ref
	list []T
}

// add puts v into the group of ref. There are at most as many groups as shards, so a linear search
// is enough.
func (g *byRef[T]) add(ref inventory.Ref, v T) {
	for i := range *g {
		if (*g)[i].ref == ref {
			(*g)[i].list = append((*g)[i].list, v)
			return
		}
	}
	*g = append(*g, refGroup[T]{ref, []T{v}})
}

// newBackoff returns the back-off for a part that meets errors: 20 ms to 2 s.
func newBackoff() *wait.Backoff {
	return &wait.Backoff{First: 20 * time.Millisecond, Longest: 2 * time.Second}
}

// idlePause returns the pauses for a part that finds nothing to do: about one tick at first, and
// about four ticks later, see wait.UntilTick. Most of an idle process's cost is its queries to the
// database.
func idlePause(cfg seckill.Config) *wait.Backoff {
	return &wait.Backoff{First: cfg.Tick, Longest: 4 * cfg.Tick, OnTick: true}
}

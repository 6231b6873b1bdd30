package backoffice

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// EventStore keeps every step of every order for other systems, written in the transaction of the
// step itself, so no step is missing or wrong. internal/sqlite and internal/postgres implement it.
type EventStore interface {
	// RelayEvents passes about limit of the oldest steps to deliver, each with its order after the
	// step, and deletes them when deliver returns nil. The steps of one order come in sequence. It
	// returns how many were delivered: 0 if there are none, or while another process relays. A step
	// may be passed more than once.
	RelayEvents(ctx context.Context, limit int, deliver func(ctx context.Context, steps []seckill.Step) error) (int, error)
	// EventsWaiting returns how long the oldest step has waited, by the database's clock; 0 when
	// there is none.
	EventsWaiting(ctx context.Context) (time.Duration, error)
}

// announceTimeout bounds one announcement: a relay keeps its place in the store for that time.
const announceTimeout = 10 * time.Second

// announceBatch is the most steps of one announcement: 2,000 steps have some 700 KB, and are read,
// sent and deleted in tens of milliseconds.
const announceBatch = 2_000

// AnnounceCounts counts the announced steps.
type AnnounceCounts struct {
	Announced atomic.Int64
	Failed    atomic.Int64 // announcements that failed; they are repeated
}

// EventRelay announces the steps of orders. It works independently of the sale: if it fails, steps
// wait in the store, and no other part waits for them. One EventRelay runs in one goroutine; any
// number of processes may run one, and one of them works at a time.
type EventRelay struct {
	// Fixed after NewEventRelay.
	cfg       seckill.Config
	store     EventStore
	announcer seckill.Announcer

	stuck  trouble // used by Run's goroutine only
	counts AnnounceCounts
}

// NewEventRelay makes a relay.
func NewEventRelay(cfg seckill.Config, store EventStore, announcer seckill.Announcer, log *slog.Logger) *EventRelay {
	return &EventRelay{cfg: cfg, store: store, announcer: announcer,
		stuck: trouble{log: log, failing: "order events not announced, they wait", over: "order events are announced again"}}
}

// Counts returns the relay's counters.
func (r *EventRelay) Counts() *AnnounceCounts { return &r.counts }

// Run works until ctx ends.
func (r *EventRelay) Run(ctx context.Context) {
	pause, idle := newBackoff(), idlePause(r.cfg)
	for ctx.Err() == nil {
		n, err := r.Step(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.counts.Failed.Add(1)
				r.stuck.note(err)
			}
			pause.Wait(ctx)
			continue
		}
		r.stuck.note(nil)
		pause.Reset()
		if n > 0 {
			idle.Reset()
		}
		if n < announceBatch {
			// No part waits for an event, and one announcement of many events is much cheaper than
			// many announcements.
			idle.Wait(ctx)
		}
	}
}

// Step announces one batch of steps and returns how many.
func (r *EventRelay) Step(ctx context.Context) (int, error) {
	n, err := r.store.RelayEvents(ctx, announceBatch, func(ctx context.Context, steps []seckill.Step) error {
		events, err := seckill.AnnounceSteps(steps)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, announceTimeout)
		defer cancel()
		return r.announcer.Announce(ctx, seckill.StreamOrders, events)
	})
	r.counts.Announced.Add(int64(n))
	return n, err
}

// Herald announces items that go from none available to some, and back. It keeps only the present
// state: of several crossings that it could not announce in time, it announces the last one. Any
// number of processes may run one, and each announces what it sees. A status has the epoch and seq
// of the shard, so that a consumer can ignore older ones. Crossed is safe for concurrent use.
type Herald struct {
	// Fixed after NewHerald.
	cfg       seckill.Config
	catalog   func() *seckill.Catalog
	inStock   func(seckill.Offer) bool
	announcer seckill.Announcer
	nudged    chan struct{}
	stuck     trouble // used by Run's goroutine only

	mu      sync.Mutex
	crossed map[inventory.ItemID]crossing // guarded by mu: not announced yet

	counts AnnounceCounts
}

// crossing is where and when an item crossed last.
type crossing struct {
	ref inventory.Ref
	seq uint64
	at  time.Time
}

// maxCrossed is how many items may wait to be announced; crossings beyond it are counted as failed
// (L8).
const maxCrossed = 100_000

// NewHerald makes a herald of the catalog's items. inStock reports, from memory, whether an item
// has a unit on any of its shards.
func NewHerald(cfg seckill.Config, catalog func() *seckill.Catalog, inStock func(seckill.Offer) bool,
	announcer seckill.Announcer, log *slog.Logger) *Herald {
	return &Herald{
		cfg: cfg, catalog: catalog, inStock: inStock, announcer: announcer,
		nudged: make(chan struct{}, 1), crossed: make(map[inventory.ItemID]crossing),
		stuck: trouble{log: log, failing: "stock status not announced, the latest will be", over: "stock status is announced again"},
	}
}

// Counts returns the herald's counters.
func (h *Herald) Counts() *AnnounceCounts { return &h.counts }

// Crossed reports a crossing of an item on a shard, as of seq. It never blocks.
func (h *Herald) Crossed(ref inventory.Ref, seq uint64, item inventory.ItemID) {
	h.mu.Lock()
	_, waits := h.crossed[item]
	if waits || len(h.crossed) < maxCrossed {
		h.crossed[item] = crossing{ref, seq, time.Now()}
	} else {
		h.counts.Failed.Add(1)
	}
	h.mu.Unlock()
	select {
	case h.nudged <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (h *Herald) Run(ctx context.Context) {
	pause := newBackoff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.nudged:
		}
		for h.Step(ctx) != nil && pause.Wait(ctx) {
		}
		pause.Reset()
	}
}

// Step announces the crossings that were not announced yet.
func (h *Herald) Step(ctx context.Context) error {
	now := h.take()
	events := make([]seckill.Announcement, 0, len(now))
	catalog := h.catalog()
	for item, c := range now {
		offer, ok := catalog.Offer(item)
		if !ok {
			continue
		}
		event, err := seckill.AnnounceStock(&seckill.StockStatus{
			Ref: c.ref, Item: item, Seq: c.seq, InStock: h.inStock(offer),
			Merchant: offer.Sale.Merchant, Activity: offer.Sale.ID, SKU: offer.SKU, At: c.at,
		})
		if err != nil {
			return err
		}
		events = append(events, event)
	}
	if len(events) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	if err := h.announcer.Announce(ctx, seckill.StreamStock, events); err != nil {
		h.counts.Failed.Add(1)
		h.stuck.note(err)
		h.putBack(now)
		return err
	}
	h.stuck.note(nil)
	h.counts.Announced.Add(int64(len(events)))
	return nil
}

func (h *Herald) take() map[inventory.ItemID]crossing {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.crossed
	h.crossed = make(map[inventory.ItemID]crossing)
	return now
}

// putBack keeps crossings that could not be announced, unless there are newer ones.
func (h *Herald) putBack(old map[inventory.ItemID]crossing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for item, c := range old {
		if _, newer := h.crossed[item]; !newer && len(h.crossed) < maxCrossed {
			h.crossed[item] = c
		}
	}
}

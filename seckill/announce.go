package seckill

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"penstock/inventory"
)

// EventStore keeps every step of every order for other systems, written in the transaction of the step itself: none is made up and
// none forgotten. internal/sqlite and internal/postgres implement it.
type EventStore interface {
	// RelayEvents hands up to limit of the oldest steps to deliver, orders as they were after them, and deletes them when deliver
	// returns nil. Those of one order come in their order. It returns how many were delivered: 0 when there are none, and while
	// another process is at it. Steps may be handed out more than once. Steps of orders that are gone are deleted without a word.
	RelayEvents(ctx context.Context, limit int, deliver func(ctx context.Context, steps []Order) error) (int, error)
	// EventsWaiting returns how long the oldest step has waited, by the database's clock; 0 when there is none.
	EventsWaiting(ctx context.Context) (time.Duration, error)
}

// announceTimeout bounds one announcement: a relay holds its place in the store for as long.
const announceTimeout = 10 * time.Second

// announceBatch is the most steps of one announcement: 2,000 are some 700 KB, read, sent and deleted in tens of milliseconds.
const announceBatch = 2_000

// AnnounceCounts counts what was announced.
type AnnounceCounts struct {
	Announced atomic.Int64
	Failed    atomic.Int64 // announcements that failed, and were or will be repeated
}

// EventRelay announces the steps of orders. It works beside the sale: whatever happens to it, steps wait in the store and
// nobody else waits for them. One EventRelay runs in one goroutine; any number of processes may run one, and one of them
// works at a time.
type EventRelay struct {
	// Fixed after NewEventRelay.
	cfg       Config
	store     EventStore
	announcer Announcer
	log       *slog.Logger

	counts AnnounceCounts
}

// NewEventRelay makes a relay.
func NewEventRelay(cfg Config, store EventStore, announcer Announcer, log *slog.Logger) *EventRelay {
	return &EventRelay{cfg: cfg, store: store, announcer: announcer, log: log}
}

// Counts returns the relay's counters.
func (r *EventRelay) Counts() *AnnounceCounts { return &r.counts }

// Run works until ctx ends.
func (r *EventRelay) Run(ctx context.Context) {
	pause := newBackoff()
	for ctx.Err() == nil {
		n, err := r.Step(ctx)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				r.counts.Failed.Add(1)
				r.log.Warn("order events not announced, they wait", "err", err)
			}
			pause.wait(ctx)
		case n == 0:
			pause.reset()
			pauseFor(ctx, r.cfg.Tick)
		default:
			pause.reset()
		}
	}
}

// Step announces one batch of steps and returns how many.
func (r *EventRelay) Step(ctx context.Context) (int, error) {
	n, err := r.store.RelayEvents(ctx, announceBatch, func(ctx context.Context, steps []Order) error {
		events := make([]Announcement, len(steps))
		for i := range steps {
			var err error
			if events[i], err = announceOrder(&steps[i]); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, announceTimeout)
		defer cancel()
		return r.announcer.Announce(ctx, StreamOrders, events)
	})
	r.counts.Announced.Add(int64(n))
	return n, err
}

// Herald announces the crossings of items between sold out and in stock. It keeps only what is true now: of crossings that it could
// not announce in time, the last one goes out. What it begins with, and what changed while no herald was at work, it announces once.
//
// Any number of processes may run one. Each announces what it sees, so a crossing is announced by each; a status carries epoch and
// seq of the shard, by which a consumer tells an older one. One Herald runs in one goroutine.
type Herald struct {
	// Fixed after NewHerald.
	cfg       Config
	catalog   func() *Catalog
	seen      func(inventory.ItemID) (inventory.Sighting, bool)
	announcer Announcer
	log       *slog.Logger
	nudged    chan struct{}

	told map[inventory.ItemID]bool // of Run's goroutine: in stock or not, of every live item that was announced

	counts AnnounceCounts
}

// NewHerald makes a herald of the catalog's items; seen says what is known of one, from memory.
func NewHerald(cfg Config, catalog func() *Catalog, seen func(inventory.ItemID) (inventory.Sighting, bool), announcer Announcer,
	log *slog.Logger) *Herald {
	return &Herald{
		cfg: cfg, catalog: catalog, seen: seen, announcer: announcer, log: log,
		nudged: make(chan struct{}, 1), told: make(map[inventory.ItemID]bool),
	}
}

// Counts returns the herald's counters.
func (h *Herald) Counts() *AnnounceCounts { return &h.counts }

// Nudge says that an item may have crossed. It never blocks.
func (h *Herald) Nudge() {
	select {
	case h.nudged <- struct{}{}:
	default:
	}
}

// Run works until ctx ends: at every tick, and at once after Nudge.
func (h *Herald) Run(ctx context.Context) {
	tick := time.NewTicker(h.cfg.Tick)
	defer tick.Stop()
	pause := newBackoff()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.nudged:
		}
		if err := h.Step(ctx); err != nil {
			if ctx.Err() == nil {
				h.counts.Failed.Add(1)
				h.log.Warn("stock status not announced, the latest will be", "err", err)
			}
			pause.wait(ctx)
			continue
		}
		pause.reset()
	}
}

// Step announces every item whose status is another than what was announced last.
func (h *Herald) Step(ctx context.Context) error {
	now := time.Now()
	live := make(map[inventory.ItemID]bool, len(h.told))
	var events []Announcement
	fresh := make(map[inventory.ItemID]bool)
	for _, offer := range h.catalog().offers {
		if offer.Epoch == 0 || !offer.Sale.live(now, h.cfg.Retention) {
			continue
		}
		live[offer.ID] = true
		seen, ok := h.seen(offer.ID)
		if told, before := h.told[offer.ID]; !ok || before && told == seen.InStock {
			continue
		}
		event, err := announceStock(&StockStatus{
			Ref: inventory.Ref{Item: offer.ID, Epoch: seen.Epoch}, Seq: seen.Seq, InStock: seen.InStock,
			Merchant: offer.Sale.Merchant, Activity: offer.Sale.ID, SKU: offer.SKU, At: now,
		})
		if err != nil {
			return err
		}
		events = append(events, event)
		fresh[offer.ID] = seen.InStock
	}
	for item := range h.told {
		if !live[item] {
			delete(h.told, item)
		}
	}
	if len(events) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	if err := h.announcer.Announce(ctx, StreamStock, events); err != nil {
		return err
	}
	for item, inStock := range fresh {
		h.told[item] = inStock
	}
	h.counts.Announced.Add(int64(len(events)))
	return nil
}

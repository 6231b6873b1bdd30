package inventory

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/batch"
)

// view is this process's memory of a watched shard under one epoch. With it, sold-out can be
// answered without asking Redis.
//
// A refusal from memory needs two facts: the item has no unit, and the buyer has no hold of it yet.
// (With a hold, the request may be a repeat, which must get its order.) Each shard therefore keeps
// a log of the hashes of all heads and of all crossings, in the order in which they happened. The
// view follows the log: it puts heads into a filter, and crossings into a table of items. When it
// has followed the log to the end that the log had at some moment, it knows the shard as of that
// moment. So a refusal needs:
//
//	a moment not older than staleAfter, the item out in the log, and the head's hash not in the filter.
//
// Heads are put into the filter before a later crossing is put into the table, and a reader looks
// at the table first. If the table says that the item has no unit, the filter has all earlier
// heads.
//
// The view learns of crossings in three ways: by the log, by messages on the channel, and by the
// verdict sold out. If an item has no unit, it follows the log at once. If messages and verdicts
// are missed, the poll finds the crossings: it looks at a view that has not been sure for cfg.Poll,
// and syncs it if its shard was written to. At most one sync runs at a time. A reply makes the view
// sure without a sync in two cases: the log is not longer than what was followed, or the seq is
// that of the last such reply, because every write increments the seq.
type view struct {
	// Fixed after newView.
	ref   Ref
	stock *Stock
	finds *batch.Batcher[findIn, Entry]
	later bool // there was a view before this one, so a change is reported as a crossing

	names   nameFilter
	sure    atomic.Pointer[moment]
	items   atomic.Pointer[itemTable] // replaced under mu; its words are written under mu
	syncing atomic.Int32              // one of the sync states

	page int64 // of the sync in flight: elements to read next

	mu       sync.Mutex
	position int64    // guarded by mu: elements of the log that were followed
	ended    uint64   // a seq at which the log had no more elements than were followed; guarded by mu
	kept     int64    // guarded by mu: this view's part of stock.known
	blind    bool     // guarded by mu: too many heads to remember; the filter is empty and stays so
	dropped  bool     // it is no longer watched; guarded by mu
	untold   []ItemID // items for which OnCrossing must be called; guarded by mu
}

// moment is the time at which a view knew its shard. It never changes.
type moment struct {
	at    time.Duration // the shard was in this state at that time or later
	shut  bool          // closed, lost or of another epoch, so that its state is unknown
	blind bool          // heads are not known
}

// The states of view.syncing.
const (
	syncIdle int32 = iota
	syncRunning
	syncAgain // running, and another sync was requested since it began
)

// newView returns a view without knowledge. before is the shard's view under an earlier epoch, or
// nil: InStock uses its last state until the new view is sure.
func (s *Stock) newView(ref Ref, before *view) (*view, error) {
	v := &view{ref: ref, stock: s, later: before != nil, page: minPage}
	v.items.Store(newItemTable(minItems))
	if before != nil {
		before.mu.Lock()
		v.items.Store(before.items.Load().inherit())
		before.mu.Unlock()
	}
	var err error
	cfg := batch.Config{Cap: s.cfg.Cap, Queue: s.cfg.Queue, Parallel: parallel, Timeout: s.cfg.CallTimeout}
	v.finds, err = batch.New(cfg, func(ctx context.Context, in []findIn, out []Entry) error { return s.find(ctx, ref, in, out) })
	return v, err
}

// soldOut reports whether it is certain that the item has no unit and that no hold has the head.
func (v *view) soldOut(item ItemID, head string) bool {
	if !v.items.Load().has(item, bitOut|bitLogged) { // this check comes first: see view
		return false
	}
	sure := v.sure.Load()
	return sure != nil && !sure.shut && !sure.blind && v.stock.now()-sure.at < staleAfter && !v.names.has(hashName(head))
}

// absent reports whether it is certain that no hold had the head at since.
func (v *view) absent(head string, since time.Duration) bool {
	sure := v.sure.Load()
	return sure != nil && !sure.shut && !sure.blind && sure.at >= since && !v.names.has(hashName(head))
}

// inStock reports whether the item was last seen with a unit, and how old that is.
func (v *view) inStock(item ItemID) (bool, time.Duration) {
	age := v.stock.now()
	if sure := v.sure.Load(); sure != nil {
		age -= sure.at
	}
	return !v.items.Load().has(item, bitOut), age
}

// observe takes the length of the log and the seq from a good reply of the shard to a call that was
// sent at at.
func (v *view) observe(log int64, seq uint64, at time.Duration) {
	v.mu.Lock()
	if log <= v.position && v.sure.Load() != nil {
		v.ended = max(v.ended, seq)
		v.surely(at)
	}
	v.mu.Unlock()
}

// glance takes the shard's numbers, which were read at the time at or later. It reports whether
// nothing was written since the view followed the log to its end. If something was, the view must
// be synced.
func (v *view) glance(levels *Numbers, at time.Duration) bool {
	if levels.Epoch != v.ref.Epoch || levels.Closed {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if sure := v.sure.Load(); sure == nil || sure.shut || levels.Seq != v.ended {
		return false
	}
	v.surely(at)
	return true
}

// surely makes the view sure as of the time at. The caller holds mu.
func (v *view) surely(at time.Duration) {
	if old := v.sure.Load(); old == nil || old.shut || old.at < at {
		v.sure.Store(&moment{at: at, blind: v.blind})
	}
}

// heard takes a crossing from the channel.
func (v *view) heard(item ItemID, seq uint64, has bool) {
	v.mu.Lock()
	v.cross(item, seq, has, false)
	v.mu.Unlock()
}

// shut stops all answers from memory until the shard answers normally again.
func (v *view) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if sure := v.sure.Load(); sure != nil && !sure.shut {
		v.sure.Store(&moment{at: sure.at, shut: true, blind: sure.blind})
	}
}

// sync starts following the shard in the background.
func (v *view) sync() {
	for {
		switch state := v.syncing.Load(); state {
		case syncIdle:
			if v.syncing.CompareAndSwap(syncIdle, syncRunning) {
				if !v.stock.spawn(v.run) {
					v.syncing.Store(syncIdle)
				}
				return
			}
		case syncRunning:
			if v.syncing.CompareAndSwap(syncRunning, syncAgain) {
				return
			}
		case syncAgain:
			return
		}
	}
}

// run follows the shard until no further sync is asked for.
func (v *view) run(ctx context.Context) {
	for {
		select {
		case v.stock.syncs <- struct{}{}:
			err := v.follow(ctx)
			<-v.stock.syncs
			v.stock.synced(ctx, v.ref, err)
		case <-ctx.Done():
		}
		if ctx.Err() != nil || v.syncing.CompareAndSwap(syncRunning, syncIdle) {
			return
		}
		v.syncing.Store(syncRunning)
	}
}

// Sizes of a page of the log, in elements. Elements have 9 bytes to 80 KB, so pages grow and
// shrink.
const (
	minPage    = 16
	maxPage    = 8192
	smallBytes = 64 << 10
	largeBytes = 256 << 10
)

// follow reads the shard until the view has followed its log to the end.
func (v *view) follow(ctx context.Context) error {
	for {
		v.mu.Lock()
		from, dropped := v.position, v.dropped
		v.mu.Unlock()
		if dropped {
			return nil
		}
		seen, at := v.stock.seenOf(v.ref), v.stock.now()
		state, elements, err := v.stock.levels(ctx, v.ref.Shard, from, v.page, nil)
		if err != nil {
			return err
		}
		switch {
		case state.Epoch < v.ref.Epoch || state.Epoch == v.ref.Epoch && state.Seq < seen:
			v.stock.refused(v.ref, &refusedError{ErrLost, state.Epoch})
			return nil
		case state.Epoch > v.ref.Epoch:
			v.stock.refused(v.ref, &refusedError{ErrEpoch, state.Epoch})
			return nil
		case state.Closed:
			v.shut()
			return nil
		}
		v.stock.saw(v.ref, state.Seq)
		if err := v.apply(elements); err != nil {
			return err
		}
		if from+int64(len(elements)) >= state.log {
			v.followed(state.Seq, at)
			return nil
		}
	}
}

// apply takes the next elements of the log. Only the sync in progress calls it.
func (v *view) apply(elements []string) error {
	size := 0
	for _, element := range elements {
		size += len(element)
		if err := v.applyOne(element); err != nil {
			return err
		}
	}
	if int64(len(elements)) == v.page && size < smallBytes {
		v.page = min(2*v.page, maxPage)
	} else if size > largeBytes {
		v.page = max(v.page/2, minPage)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.position += int64(len(elements))
	return nil
}

// applyOne takes one element of the log.
func (v *view) applyOne(element string) error {
	kind, rest := "", ""
	if element != "" {
		kind, rest = element[:1], element[1:]
	}
	switch {
	case kind == "N" && len(rest)%hashBytes == 0:
		v.remember(rest)
		return nil
	case kind == "C":
		seq, crossings, ok := parseCrossings(rest)
		if ok {
			v.mu.Lock()
			defer v.mu.Unlock()
			for _, c := range crossings {
				v.cross(c.item, seq, c.has, true)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: %.40q in the log", errReply, element)
}

// remember puts hashes into the filter.
func (v *view) remember(hashes string) {
	v.mu.Lock()
	forget := v.blind || v.dropped
	v.mu.Unlock()
	if forget {
		return
	}
	for i := 0; i < len(hashes); i += hashBytes {
		v.names.add(binary.BigEndian.Uint64([]byte(hashes[i : i+hashBytes])))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	added := v.names.n.Load() - v.kept
	switch {
	case v.dropped:
	case v.stock.known.Add(added) > int64(v.stock.cfg.MaxKnown):
		v.stock.known.Add(-added - v.kept)
		v.kept, v.blind = 0, true
		if sure := v.sure.Load(); sure != nil {
			v.sure.Store(&moment{at: sure.at, shut: sure.shut, blind: true})
		}
		v.names.clear()
	default:
		v.kept += added
	}
}

// followed makes the view sure as of the time at: it has followed the log to the end that the log
// had at seq.
func (v *view) followed(seq uint64, at time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = max(v.ended, seq)
	if v.sure.Load() == nil {
		v.forgetInherited()
	}
	v.surely(at)
}

// isBlind reports whether the view has stopped remembering names.
func (v *view) isBlind() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.blind
}

// drop ends the view. It forgets what the view remembers, and finishes its batches.
func (v *view) drop() {
	v.mu.Lock()
	v.stock.known.Add(-v.kept)
	v.dropped, v.kept = true, 0
	v.mu.Unlock()
	v.finds.Close()
	v.stock.dropped(v)
}

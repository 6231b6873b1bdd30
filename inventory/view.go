package inventory

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"penstock/internal/batch"
)

// view is what this process remembers of a watched shard under one epoch, so that sold-out costs nothing.
//
// A refusal from memory must be right twice: nothing is available, and the buyer's key has no hold yet (else it is a repeat, and is
// owed its order). Each shard therefore keeps a log of the hashes of all hold names, and each reply carries its length (known) with
// seq and available. The view follows the log into a set. It is complete as of a reply when it has followed as far as that
// reply's known: then the set has every name that existed at that seq. So a refusal needs no more than the newest snapshot:
//
//	complete, available <= 0, not older than staleAfter, and the name's hash not in the set.
//
// Rejected: a set of one's own sales only (a repeat through another node would be told sold-out); a Bloom filter (its errors
// would be false repeats only, but it needs its size in advance and the same log to fill it).
//
// Everything a Stock learns of the shard goes through observe: replies, syncs (levels.lua: numbers and a stretch of the log at one moment),
// crossings heard on the channel. Newer seq wins. A sync is made at every poll, and at once where an answer shows that the
// shard is empty and the view isn't complete; there is never more than one at a time.
type view struct {
	// Fixed after newView.
	ref   Ref
	shard *shard
	stock *Stock
	holds *batch.Batcher[holdIn, Grant]
	finds *batch.Batcher[string, Entry]
	first bool // what InStock says before the first snapshot: what an earlier view knew, or yes (L6: no false sold-out)

	snap    atomic.Pointer[snapshot] // nil before the first; replaced under mu
	seen    atomic.Uint64            // highest seq seen
	syncing atomic.Int32             // one of the sync states

	told atomic.Int32 // a stockState: what OnCrossing was told last

	set nameSet // of the sync in flight

	mu       sync.Mutex
	position int64      // guarded by mu: names of the log that are in table
	table    *nameTable // guarded by mu
	kept     int64      // guarded by mu: this view's part of stock.known
	blind    bool       // guarded by mu: too many names to remember; the set is empty and stays so
	dropped  bool       // guarded by mu: no longer watched
}

// snapshot is a shard at one seq, as this process believes it. It never changes.
type snapshot struct {
	seq       uint64
	available int64
	shut      bool          // closed, lost or of another epoch: nothing can be said
	complete  bool          // table has every name that existed at seq
	at        time.Duration // the shard was at seq at that time or later
	table     *nameTable
}

// observation is something learned of a shard.
type observation struct {
	seq       uint64
	available int64
	known     int64
	closed    bool
	at        time.Duration // when the call was sent whose reply this is
}

// The states of view.syncing.
const (
	syncIdle int32 = iota
	syncRunning
	syncAgain // running, and asked for since it began
)

func (s *Stock) newView(ref Ref, before *view) (*view, error) {
	v := &view{ref: ref, shard: newShard(s.cfg.Prefix, ref.Item), stock: s, first: true}
	if before != nil {
		v.first = before.inStock()
		v.told.Store(before.told.Load())
	}
	var err error
	cfg := batch.Config{Cap: s.cfg.Cap, Queue: s.cfg.Queue, Parallel: parallel, Timeout: s.cfg.CallTimeout}
	v.holds, err = batch.New(cfg, func(ctx context.Context, in []holdIn, out []Grant) error { return s.hold(ctx, ref, in, out) })
	if err != nil {
		return nil, err
	}
	v.finds, err = batch.New(cfg, func(ctx context.Context, in []string, out []Entry) error { return s.find(ctx, ref, in, out) })
	return v, err
}

// soldOut reports that nothing is available and that no hold has the name.
func (v *view) soldOut(id string) bool {
	snap := v.snap.Load()
	return snap != nil && snap.complete && snap.available <= 0 && !snap.shut && v.stock.now()-snap.at < staleAfter &&
		!snap.table.has(hashName(id))
}

// absent reports that no hold had the name at since.
func (v *view) absent(id string, since time.Duration) bool {
	snap := v.snap.Load()
	return snap != nil && snap.complete && !snap.shut && snap.at >= since && !snap.table.has(hashName(id))
}

// inStock reports whether the shard was last seen with a unit.
func (v *view) inStock() bool {
	snap := v.snap.Load()
	if snap == nil {
		return v.first
	}
	return snap.available > 0
}

// observe takes what was learned of the shard, where it is news, and reports whether a sync is needed at once: the shard is
// empty, and refusals from memory wait for the rest of the log.
func (v *view) observe(o observation) (needSync bool) {
	for {
		seen := v.seen.Load()
		if o.seq <= seen || v.seen.CompareAndSwap(seen, o.seq) {
			break
		}
	}
	v.mu.Lock()
	old := v.snap.Load()
	if old != nil && o.seq < old.seq {
		v.mu.Unlock()
		return false
	}
	next := &snapshot{
		seq: o.seq, available: o.available, shut: o.closed, at: o.at,
		complete: !v.blind && v.position >= o.known, table: v.table,
	}
	if old != nil && old.seq == o.seq {
		next.at = max(next.at, old.at)
	}
	v.snap.Store(next)
	blind := v.blind
	v.mu.Unlock()
	if old == nil || old.available > 0 != (next.available > 0) {
		v.stock.emit(event{kind: eventCrossing, view: v})
	}
	return next.available <= 0 && !next.complete && !blind
}

// heard takes a crossing from the channel. How old it is nobody knows, so it makes the view no younger.
func (v *view) heard(o observation) {
	o.at = -staleAfter
	if snap := v.snap.Load(); snap != nil {
		o.at = snap.at
	}
	if v.observe(o) {
		v.sync()
	}
}

// shut stops all answers from memory until the shard answers well again.
func (v *view) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if snap := v.snap.Load(); snap != nil && !snap.shut {
		next := *snap
		next.shut = true
		v.snap.Store(&next)
	}
}

// sync has the view follow its shard, soon and in the background.
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

// run follows the shard until nobody asks for it any more.
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

// follow reads the shard until the view has followed its log to the end.
func (v *view) follow(ctx context.Context) error {
	for {
		v.mu.Lock()
		from, blind, dropped := v.position, v.blind, v.dropped
		v.mu.Unlock()
		if dropped {
			return nil
		}
		names := int64(syncNames)
		if blind {
			names = 0
		}
		seen, at := v.seen.Load(), v.stock.now()
		levels, log, err := v.stock.levels(ctx, v.shard, from, names)
		if err != nil {
			return err
		}
		switch {
		case levels.Epoch < v.ref.Epoch || levels.Epoch == v.ref.Epoch && levels.Seq < seen:
			v.stock.refused(v.ref, v, &refusedError{ErrLost, levels.Epoch})
			return nil
		case levels.Epoch > v.ref.Epoch:
			v.stock.refused(v.ref, v, &refusedError{ErrEpoch, levels.Epoch})
			return nil
		}
		if len(log)%hashBytes != 0 {
			return fmt.Errorf("%w: %d bytes of log", errReply, len(log))
		}
		v.remember(log)
		v.observe(observation{seq: levels.Seq, available: levels.Available, known: levels.Known, closed: levels.Closed, at: at})
		if len(log) == 0 || from+int64(len(log)/hashBytes) >= levels.Known {
			return nil
		}
	}
}

// remember adds the next names of the log to the set. It is called by the sync in flight only.
func (v *view) remember(log string) {
	for i := 0; i < len(log); i += hashBytes {
		v.set.add(binary.BigEndian.Uint64([]byte(log[i : i+hashBytes])))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dropped || v.blind {
		return
	}
	added := int64(v.set.n) - v.kept
	if v.stock.known.Add(added) > int64(v.stock.cfg.MaxKnown) {
		v.stock.known.Add(-added - v.kept)
		v.set, v.table, v.kept, v.blind = nameSet{}, nil, 0, true
		return
	}
	v.kept += added
	v.position += int64(len(log) / hashBytes)
	v.table = v.set.table
}

// isBlind reports whether the view has given up on names.
func (v *view) isBlind() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.blind
}

// drop ends the view: what it remembers is forgotten, and its batches finish.
func (v *view) drop() {
	v.mu.Lock()
	v.stock.known.Add(-v.kept)
	v.dropped, v.kept, v.table = true, 0, nil
	v.mu.Unlock()
	v.holds.Close()
	v.finds.Close()
	v.stock.dropped(v)
}

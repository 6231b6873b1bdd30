package inventory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"penstock/internal/batch"
)

// Stock keeps items' stock in Redis. It is made by the function Open and ended by Stop; all its methods may be called concurrently.
//
// Holds and finds of watched shards travel in natural batches, one queue per shard; the other calls come as batches already
// and are cut to Cap. For each watched shard a view is kept in memory (see view), from which SoldOut, Absent and InStock answer
// without a lock and without allocating.
//
// Locks: mu is never held together with a view's mu, and none of them across I/O or a callback.
type Stock struct {
	// Fixed after Open.
	cfg     Config
	client  rueidis.Client
	scripts *scripts
	channel string             // of crossings
	bell    string             // the channel of rings
	began   time.Time          // what views count their time from
	cancel  context.CancelFunc // ends the background goroutines
	spawn   func(work func(ctx context.Context)) bool
	direct  chan struct{} // a slot for each hold or find of a shard that isn't watched
	syncs   chan struct{} // a slot for each sync in flight
	events  chan event

	args    argumentsPool
	views   atomic.Pointer[map[ItemID]*view] // replaced by Watch, never changed
	known   atomic.Int64                     // names that all views remember, at most cfg.MaxKnown
	failing atomic.Bool                      // the last sync failed

	full, lost, missed, syncErrors atomic.Uint64 // counted for Stats

	mu       sync.Mutex
	stopped  bool           // guarded by mu
	ended    Stats          // guarded by mu: what dropped views have counted
	dropping map[*view]bool // guarded by mu: views that are not watched any more and finish
	seen     map[Ref]uint64 // guarded by mu: highest seq seen of shards that aren't watched, at most maxSeen
	wg       sync.WaitGroup // background goroutines; Add under mu while not stopped
}

// Bounds that no Config changes.
const (
	maxDirect = 256   // holds and finds in flight on shards that aren't watched
	maxSyncs  = 32    // syncs in flight
	maxEvents = 1024  // callbacks that wait
	maxSeen   = 4096  // shards that aren't watched whose seq is remembered
	syncNames = 10000 // names read by one sync call: 80 KB
	// parallel is how many batches of one shard may be in flight: in a flood, a full second one is on its way while Redis works on
	// the first.
	parallel = 2
)

// errStopped is the answer of a Stock after Stop.
var errStopped = errors.New("the stock is stopped")

// checkRunning returns errStopped after Stop.
func (s *Stock) checkRunning() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errStopped
	}
	return nil
}

// holdIn is a hold on its way into a batch.
type holdIn struct {
	Hold
	limit int
}

// Hold takes units for h.Buyer, who may have limit units of the item at most (0 is no limit), or says why not.
//
// A repeat with the same h.ID is answered like the first call and takes nothing. Of an error that wraps *UnknownError the hold may
// have been taken; after any other error it was not. ErrFull is answered at once when too many wait. The strings in h must
// stay unchanged for ever: the call may outlive ctx.
func (s *Stock) Hold(ctx context.Context, ref Ref, h Hold, limit int) (Grant, error) {
	if err := errors.Join(ref.Validate(), h.Validate()); err != nil {
		return Grant{}, err
	}
	if limit < 0 {
		return Grant{}, fmt.Errorf("%w: limit %d", ErrInvalid, limit)
	}
	v, err := s.viewOf(ref)
	if err == nil && v != nil {
		var g Grant
		if g, err = v.holds.Do(ctx, holdIn{h, limit}); !errors.Is(err, batch.ErrClosed) {
			return g, batchError("hold", h.ID, err)
		}
		err = nil
	}
	var out [1]Grant
	if err == nil {
		err = s.alone(ctx, func() error { return s.hold(ctx, ref, []holdIn{{h, limit}}, out[:]) })
	}
	return out[0], batchError("hold", h.ID, err)
}

// Find returns the hold named id in the shard, with state None where there is none.
func (s *Stock) Find(ctx context.Context, ref Ref, id string) (Entry, error) {
	if err := errors.Join(ref.Validate(), validateName(id)); err != nil {
		return Entry{}, err
	}
	v, err := s.viewOf(ref)
	if err == nil && v != nil {
		var e Entry
		if e, err = v.finds.Do(ctx, id); !errors.Is(err, batch.ErrClosed) {
			return e, batchError("find", id, readOnly(err))
		}
		err = nil
	}
	var out [1]Entry
	if err == nil {
		err = s.alone(ctx, func() error { return s.find(ctx, ref, []string{id}, out[:]) })
	}
	return out[0], batchError("find", id, readOnly(err))
}

// viewOf returns the watched shard that ref names, nil where it isn't watched, and ErrEpoch where a later epoch is: the store gave
// that out after the shard had been closed under it.
func (s *Stock) viewOf(ref Ref) (*view, error) {
	v := (*s.views.Load())[ref.Item]
	switch {
	case v == nil || v.ref.Epoch < ref.Epoch:
		return nil, nil
	case v.ref.Epoch > ref.Epoch:
		return nil, &refusedError{ErrEpoch, v.ref.Epoch}
	}
	return v, nil
}

// alone makes a call that no batch takes.
func (s *Stock) alone(ctx context.Context, call func() error) error {
	if err := s.checkRunning(); err != nil {
		return err
	}
	select {
	case s.direct <- struct{}{}:
	default:
		s.full.Add(1)
		return ErrFull
	}
	defer func() { <-s.direct }()
	if err := ctx.Err(); err != nil {
		return err
	}
	return call()
}

// batchError says what was attempted and translates what a batcher answers.
func batchError(what, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, batch.ErrFull):
		err = ErrFull
	case errors.Is(err, batch.ErrClosed):
		err = errStopped
	case errors.Is(err, batch.ErrAbandoned), errors.Is(err, batch.ErrPanic):
		err = &UnknownError{err}
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}

// readOnly takes the doubt from the error of a call that changes nothing.
func readOnly(err error) error {
	var unknown *UnknownError
	switch {
	case errors.As(err, &unknown):
		return unknown.Err
	case errors.Is(err, batch.ErrAbandoned), errors.Is(err, batch.ErrPanic):
		return fmt.Errorf("no answer: %v", err) // %v: batchError must not find an outcome in it
	}
	return err
}

// hold is one call of hold.lua.
func (s *Stock) hold(ctx context.Context, ref Ref, in []holdIn, out []Grant) error {
	r, err := s.ask(ctx, &s.scripts.hold, ref, 1, func(a *arguments) { addHolds(a, in) })
	if err != nil {
		return err
	}
	verdicts, err := r.rest[0].ToString()
	if err != nil || len(verdicts) != len(in) {
		return &UnknownError{fmt.Errorf("%w: %d verdicts on %d holds", errReply, len(verdicts), len(in))}
	}
	for i := range out {
		verdict := Verdict(verdicts[i] - '0')
		if verdict < Held || verdict > Reused {
			return &UnknownError{fmt.Errorf("%w: verdict %q", errReply, verdicts[i])}
		}
		out[i] = Grant{Verdict: verdict, Shard: shardNumber, Seq: r.seq}
	}
	return nil
}

// addHolds adds the arguments of hold.lua for in, which isn't empty. Most batches are of one quantity and one limit: these are sent
// once, since each argument costs Redis as much as a step of the script.
func addHolds(a *arguments, in []holdIn) {
	quantity := func(i int) int64 { return int64(in[i].Quantity) }
	limit := func(i int) int64 { return int64(in[i].limit) }
	a.add("")
	a.number(int64(len(in)))
	oneQuantity := a.common(len(in), quantity)
	oneLimit := a.common(len(in), limit)
	for i := range in {
		a.add(in[i].ID)
		a.hash(in[i].ID)
	}
	for i := range in {
		a.add(in[i].Buyer)
	}
	if !oneQuantity {
		a.column(len(in), quantity)
	}
	if !oneLimit {
		a.column(len(in), limit)
	}
	a.sealHashes(hashesAt)
}

// find is one call of find.lua.
func (s *Stock) find(ctx context.Context, ref Ref, ids []string, out []Entry) error {
	r, err := s.ask(ctx, &s.scripts.find, ref, len(ids), func(a *arguments) { a.add(ids...) })
	if err != nil {
		return err
	}
	for i, id := range ids {
		value, err := r.rest[i].ToString()
		if err != nil {
			return fmt.Errorf("%w: %w", errReply, err)
		}
		out[i] = Entry{Hold: Hold{ID: id}}
		if value == "" {
			continue
		}
		if out[i], err = parseEntry(id, value); err != nil {
			return err
		}
	}
	return nil
}

// ask makes one call on the shard of ref, and tells the view what the reply shows. fill adds the script's own arguments; extra is how
// many elements it adds to the reply at least.
func (s *Stock) ask(ctx context.Context, sc *script, ref Ref, extra int, fill func(*arguments)) (reply, error) {
	v := (*s.views.Load())[ref.Item]
	if v != nil && v.ref != ref {
		v = nil
	}
	sh := s.shardOf(ref.Item, v)
	at := s.now()
	a := s.args.get()
	a.number(int64(ref.Epoch))
	a.number(int64(s.seenOf(ref, v)))
	a.add(s.channel, sh.item)
	fill(a)
	messages, err := s.eval(ctx, sc, sh, a.list)
	s.args.put(a)
	var r reply
	if err == nil {
		r, err = parseReply(messages, extra)
	}
	var refused *refusedError
	switch {
	case err == nil:
		s.saw(ref, v, r, at)
	case errors.As(err, &refused):
		s.refused(ref, v, refused)
	}
	return r, err
}

// shardOf returns the item's shard.
func (s *Stock) shardOf(item ItemID, v *view) *shard {
	if v != nil {
		return v.shard
	}
	return newShard(s.cfg.Prefix, item)
}

// seenOf returns the highest seq that this process has seen of the shard.
func (s *Stock) seenOf(ref Ref, v *view) uint64 {
	if v != nil {
		return v.seen.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[ref]
}

// saw takes note of a reply to a call that was sent at at.
func (s *Stock) saw(ref Ref, v *view, r reply, at time.Duration) {
	if v != nil {
		if v.observe(observation{seq: r.seq, available: r.available, known: r.known, at: at}) {
			v.sync()
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.seen[ref]; !ok && len(s.seen) >= maxSeen {
		clear(s.seen) // what one process forgets, the others and the auditor still see
	}
	s.seen[ref] = max(s.seen[ref], r.seq)
}

// refused takes note of a refusal of a whole call.
func (s *Stock) refused(ref Ref, v *view, refused *refusedError) {
	if v != nil {
		v.shut()
	}
	switch {
	case errors.Is(refused, ErrLost):
		s.lost.Add(1)
		s.emit(event{kind: eventLost, ref: ref})
	case errors.Is(refused, ErrEpoch) && v != nil:
		s.emit(event{kind: eventEpoch, ref: Ref{ref.Item, refused.epoch}})
	}
}

// now is the time of views: monotonic, since the Stock began.
func (s *Stock) now() time.Duration { return time.Since(s.began) }

func validateName(id string) error {
	if id == "" || len(id) > maxName {
		return fmt.Errorf("%w: name %.40q", ErrInvalid, id)
	}
	return nil
}

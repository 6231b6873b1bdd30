package inventory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/penstock/penstock/internal/batch"
	"github.com/penstock/penstock/internal/timing"
)

// Stock keeps the shards in Redis. Open makes it, and Stop ends it. All its methods may be called
// concurrently.
//
// Holds come in batches already (see HoldCall). Finds of watched shards are collected in natural
// batches, with one queue per shard. Lists of the other calls are divided into parts of Cap. For
// each watched shard a view is kept in memory (see view), from which SoldOut, Absent and InStock
// answer without a lock and without allocating.
//
// Locks: mu is never held together with a view's mu, and none of them across I/O or a callback.
type Stock struct {
	// Fixed after Open.
	cfg     Config
	scripts *scripts
	keys    []shardKeys        // by ShardID
	channel string             // of crossings
	bell    string             // the channel of rings
	began   time.Time          // the zero of the views' clock
	cancel  context.CancelFunc // ends the background goroutines
	spawn   func(work func(ctx context.Context)) bool
	direct  chan struct{} // one slot for each find of a shard that isn't watched
	syncs   chan struct{} // one slot for each sync in progress
	events  chan event
	kicks   chan struct{} // asks attend to look at the servers

	args     argumentsPool
	client   atomic.Pointer[rueidis.Client] // nil until the Redis was reached
	lanes    atomic.Pointer[layout]
	refusals timing.Streak
	crowded  atomic.Pointer[map[string]bool]  // addresses of servers whose memory is nearly used up; nil before the first look
	views    atomic.Pointer[[MaxShards]*view] // replaced by Watch, never changed
	seen     [MaxShards]mark
	known    atomic.Int64 // heads that all views remember, at most cfg.MaxKnown
	failing  atomic.Bool  // the last sync failed
	apart    atomic.Bool  // each shard gets its own run of hold.lua: see runs

	rounds, calls, claims, full, lost, missed, syncErrors atomic.Uint64 // counted for Stats

	health health

	mu       sync.Mutex
	stopped  bool           // guarded by mu
	ended    Stats          // guarded by mu: what dropped views have counted
	dropping map[*view]bool // views that are no longer watched and are finishing; guarded by mu
	wg       sync.WaitGroup // background goroutines; Add is called under mu, and not after stopped
}

// mark is the highest seq that this process has seen in a shard under one epoch.
type mark struct {
	mu    sync.Mutex
	epoch Epoch  // guarded by mu
	seq   uint64 // guarded by mu
}

// Bounds that no field of Config changes.
const (
	maxDirect = 256  // finds in progress on shards that aren't watched
	maxSyncs  = 32   // syncs in flight
	maxEvents = 1024 // callbacks that wait
	// parallel is how many batches of finds of one shard may be in progress.
	parallel = 2
)

var (
	// errStopped is the answer of a Stock after Stop.
	errStopped = errors.New("the stock is stopped")
	// errFull is the answer if too many finds wait.
	errFull = errors.New("too many finds wait for the shard")
)

// checkRunning returns errStopped after Stop.
func (s *Stock) checkRunning() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errStopped
	}
	return nil
}

// findIn is a find that will join a batch.
type findIn struct {
	item ItemID
	id   string
}

// Find returns the hold with this id in the shard; its state is None if there is none.
func (s *Stock) Find(ctx context.Context, ref Ref, item ItemID, id string) (Entry, error) {
	in := findIn{item, id}
	if err := errors.Join(ref.Validate(), Hold{Item: item, ID: id, Quantity: 1}.Validate()); err != nil {
		return Entry{}, err
	}
	v, err := s.viewOf(ref)
	if err == nil && v != nil {
		var e Entry
		if e, err = v.finds.Do(ctx, in); !errors.Is(err, batch.ErrClosed) {
			return e, findError(id, err)
		}
		err = nil
	}
	var out [1]Entry
	if err == nil {
		err = s.alone(ctx, func() error { return s.find(ctx, ref, []findIn{in}, out[:]) })
	}
	return out[0], findError(id, err)
}

// viewOf returns the watched shard that ref names, or nil if it isn't watched. If a later epoch is
// watched, it returns ErrEpoch: that epoch was given out after the shard had been closed.
func (s *Stock) viewOf(ref Ref) (*view, error) {
	v := s.views.Load()[ref.Shard]
	switch {
	case v == nil || v.ref.Epoch < ref.Epoch:
		return nil, nil
	case v.ref.Epoch > ref.Epoch:
		return nil, &refusedError{ErrEpoch, v.ref.Epoch}
	}
	return v, nil
}

// alone makes a find outside of any batch.
func (s *Stock) alone(ctx context.Context, call func() error) error {
	if err := s.checkRunning(); err != nil {
		return err
	}
	select {
	case s.direct <- struct{}{}:
	default:
		s.full.Add(1)
		return errFull
	}
	defer func() { <-s.direct }()
	if err := ctx.Err(); err != nil {
		return err
	}
	return call()
}

// findError adds what was attempted, translates the errors of a batcher, and makes an unknown
// outcome a failure, because a find changes nothing.
func findError(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, batch.ErrFull):
		err = errFull
	case errors.Is(err, batch.ErrClosed):
		err = errStopped
	}
	return fmt.Errorf("find %s: %w", id, readOnly(err))
}

// readOnly makes the unknown outcome of a call a failure, because the call changes nothing.
func readOnly(err error) error {
	var unknown *UnknownError
	if errors.As(err, &unknown) {
		return unknown.Err
	}
	return err
}

// find is one call of find.lua, made by the guard.
func (s *Stock) find(ctx context.Context, ref Ref, in []findIn, out []Entry) error {
	var r reply
	var err error
	guarded := s.cfg.Guard(ctx, s.Lane(ref.Shard), func(ctx context.Context) error {
		r, err = s.ask(ctx, &s.scripts.find, ref, len(in), func(a *arguments) {
			for i := range in {
				a.text(Head(in[i].id))
			}
			a.seal(0)
		})
		if isRefusal(err) {
			return nil
		}
		return err
	})
	if err := errors.Join(err, guarded); err != nil {
		return err
	}
	var holds []touched
	for i, f := range in {
		value, err := r.text(i)
		if err != nil {
			return err
		}
		out[i] = Entry{Hold: Hold{Item: f.item, ID: f.id}}
		if value == "" {
			continue
		}
		if holds, err = parseValue(holds[:0], Head(f.id), value); err != nil {
			return err
		}
		for _, h := range holds {
			if h.ID == f.id {
				out[i] = h.Entry
			}
		}
	}
	return nil
}

// isRefusal reports whether err is a shard's refusal of a whole call.
func isRefusal(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused)
}

// ask makes one call on the shard of ref, and records what the reply shows. fill adds the script's
// own arguments and seals them. extra is the least number of elements that the script adds to the
// reply.
func (s *Stock) ask(ctx context.Context, sc *script, ref Ref, extra int, fill func(*arguments)) (reply, error) {
	at := s.now()
	a := s.args.get()
	s.head(a, ref, s.seenOf(ref))
	fill(a)
	messages, err := s.eval(ctx, sc, ref.Shard, a.list)
	s.args.put(a)
	return s.took(ref, messages, err, extra, at)
}

// head adds the arguments with which every script begins.
func (s *Stock) head(a *arguments, ref Ref, seen uint64) {
	a.number(int64(ref.Epoch))
	a.number(int64(seen))
	a.constant(s.channel, s.keys[ref.Shard].number)
}

// took reads the reply to a call that was sent at the time at, and records what it shows.
func (s *Stock) took(ref Ref, messages []rueidis.RedisMessage, err error, extra int, at time.Duration) (reply, error) {
	var r reply
	if err == nil {
		r, err = parseReply(messages, extra)
	}
	var refused *refusedError
	switch {
	case err == nil:
		s.saw(ref, r.seq)
		if v := s.watched(ref); v != nil {
			v.observe(r.log, r.seq, at)
		}
	case errors.As(err, &refused):
		s.refused(ref, refused)
	}
	return r, err
}

// watched returns the view of this shard under exactly this epoch, or nil.
func (s *Stock) watched(ref Ref) *view {
	if v := s.views.Load()[ref.Shard]; v != nil && v.ref == ref {
		return v
	}
	return nil
}

// seenOf returns the highest seq that this process has seen of the shard.
func (s *Stock) seenOf(ref Ref) uint64 {
	m := &s.seen[ref.Shard]
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != ref.Epoch {
		return 0
	}
	return m.seq
}

// saw records a seq of the shard.
func (s *Stock) saw(ref Ref, seq uint64) {
	m := &s.seen[ref.Shard]
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case ref.Epoch > m.epoch:
		m.epoch, m.seq = ref.Epoch, seq
	case ref.Epoch == m.epoch:
		m.seq = max(m.seq, seq)
	}
}

// refused records a refusal of a whole call.
func (s *Stock) refused(ref Ref, refused *refusedError) {
	v := s.watched(ref)
	if v != nil {
		v.shut()
	}
	switch {
	case errors.Is(refused, ErrLost):
		s.lost.Add(1)
		s.emit(event{kind: eventLost, ref: ref})
	case errors.Is(refused, ErrEpoch) && v != nil:
		s.emit(event{kind: eventEpoch, ref: Ref{ref.Shard, refused.epoch}})
	}
}

// now is the clock of views: it is monotonic, and starts with the Stock.
func (s *Stock) now() time.Duration { return time.Since(s.began) }

// eval sends a script to a shard and returns its reply.
func (s *Stock) eval(ctx context.Context, sc *script, shard ShardID, args []string) ([]rueidis.RedisMessage, error) {
	client, err := s.conn()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err // nothing was sent
	}
	messages, err := client.Do(ctx, s.command(client, sc, shard, args, false)).ToArray()
	if isNoScript(err) {
		messages, err = client.Do(ctx, s.command(client, sc, shard, args, true)).ToArray()
	}
	return messages, s.outcome(err)
}

// command builds a call of a script: by its name, or by its source if Redis doesn't know it yet.
func (s *Stock) command(client rueidis.Client, sc *script, shard ShardID, args []string, whole bool) rueidis.Completed {
	return scriptCommand(client, sc, s.keys[shard].keys[:sc.keys], args, whole)
}

// scriptCommand builds a call of a script with any keys.
func scriptCommand(client rueidis.Client, sc *script, keys, args []string, whole bool) rueidis.Completed {
	if whole {
		return client.B().Eval().Script(sc.source).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	}
	return client.B().Evalsha().Sha1(sc.sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

// isNoScript reports whether Redis doesn't know the script.
func isNoScript(err error) bool {
	refused, ok := rueidis.IsRedisErr(err)
	return ok && refused.IsNoScript()
}

// outcome separates errors after which nothing can have happened from errors after which something
// may have happened. Most error replies are of the first kind: Redis refused the script, or its
// first write (see replies).
func (s *Stock) outcome(err error) error {
	if err == nil {
		return nil
	}
	switch ReplyOf(err) {
	case ReplyUnknown:
		return &UnknownError{fmt.Errorf("redis: %w", err)}
	case ReplyWait, ReplyRefused:
		s.noteRefusal(err)
		return fmt.Errorf("redis: %w", err)
	}
	s.kick() // another server may be there when the connection is back
	if notSent(err) {
		return fmt.Errorf("redis: %w", err)
	}
	return &UnknownError{fmt.Errorf("redis: %w", err)}
}

// notSent reports whether err happened before anything was sent.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, rueidis.ErrNoSlot) || errors.Is(err, rueidis.ErrNoAddr)
}

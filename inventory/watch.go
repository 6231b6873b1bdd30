package inventory

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/penstock/penstock/internal/wait"
)

// Watch makes the Stock follow the shards in refs, and no others. A ref that is watched already
// keeps its view. If two refs name one shard, the later epoch counts.
func (s *Stock) Watch(refs []Ref) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	old := s.views.Load()
	next := new([MaxShards]*view)
	var fresh []*view
	for _, ref := range refs {
		if ref.Validate() != nil || next[ref.Shard] != nil && next[ref.Shard].ref.Epoch >= ref.Epoch {
			continue
		}
		if v := old[ref.Shard]; v != nil && v.ref == ref {
			next[ref.Shard] = v
			continue
		}
		v, err := s.newView(ref, old[ref.Shard])
		if err != nil {
			s.cfg.Logger.Error("shard is not watched", "shard", ref.Shard, "epoch", ref.Epoch, "err", err)
			continue
		}
		next[ref.Shard] = v
		fresh = append(fresh, v)
	}
	s.views.Store(next)
	var gone []*view
	for i, v := range old {
		if v != nil && next[i] != v {
			s.dropping[v] = true
			gone = append(gone, v)
		}
	}
	s.mu.Unlock()
	for _, v := range gone {
		if !s.spawn(func(context.Context) { v.drop() }) {
			v.drop() // the Stock was stopped in the meantime
		}
	}
	for _, v := range fresh {
		v.sync()
	}
}

// Epoch returns the epoch under which the shard is watched, or 0 if it is not watched.
func (s *Stock) Epoch(shard ShardID) Epoch {
	if v := s.viewAt(shard); v != nil {
		return v.ref.Epoch
	}
	return 0
}

// viewAt returns the view of a shard, or nil.
func (s *Stock) viewAt(shard ShardID) *view {
	if shard >= MaxShards {
		return nil
	}
	return s.views.Load()[shard]
}

// SoldOut reports, from memory, that the item has no unit on the shard and that no hold with the
// head of id exists there. It is false at the latest 900 ms after a unit came back. False means
// only that memory doesn't know: Hold decides.
func (s *Stock) SoldOut(ref Ref, item ItemID, id string) bool {
	v := s.viewAt(ref.Shard)
	return v != nil && v.ref == ref && v.soldOut(item, Head(id))
}

// Absent reports, from memory, that no hold with the head of id existed at since. False means only
// that memory doesn't know: ask Find.
func (s *Stock) Absent(ref Ref, id string, since time.Time) bool {
	v := s.viewAt(ref.Shard)
	return v != nil && v.ref == ref && v.absent(Head(id), since.Sub(s.began))
}

// InStock reports whether the item was last seen with a unit on the shard, and how old that
// knowledge is. An unknown item counts as in stock: if that is wrong, Hold corrects it, but a buyer
// who gets a wrong sold-out goes away. On a shard that isn't watched nothing is in stock.
func (s *Stock) InStock(shard ShardID, item ItemID) (bool, time.Duration) {
	v := s.viewAt(shard)
	if v == nil {
		return false, s.now()
	}
	return v.inStock(item)
}

// Sighting is what this process knows about an item on a shard: whether it had a unit after the
// crossing at Seq. A sighting of a later epoch is newer. Within an epoch, the one with the higher
// Seq is newer.
type Sighting struct {
	Epoch   Epoch
	Seq     uint64
	InStock bool
}

// Seen returns, from memory, the last sighting of an item on a watched shard. ok is false if the
// shard was not seen yet, or is being rebuilt.
func (s *Stock) Seen(shard ShardID, item ItemID) (sighting Sighting, ok bool) {
	v := s.viewAt(shard)
	if v == nil {
		return Sighting{}, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if sure := v.sure.Load(); sure == nil || sure.shut {
		return Sighting{}, false
	}
	slot := v.items.Load().place(item)
	return Sighting{v.ref.Epoch, slot.seq, slot.word.Load()&bitOut == 0}, true
}

// poll looks at the views that were silent, and repeats the events that found no room. It looks at
// each view twice within cfg.Poll, so no view is older than one and a half times cfg.Poll.
func (s *Stock) poll(ctx context.Context) {
	tick := wait.NewTicker(s.cfg.Poll / 2)
	defer tick.Stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	lanes := make(map[int]*atomic.Bool) // lanes on which a look is in progress
	for tick.Wait(ctx) {
		now := s.now()
		silent := make(map[int][]*view)
		for _, v := range s.views.Load() {
			if v == nil {
				continue
			}
			if sure := v.sure.Load(); sure == nil || sure.shut {
				v.sync()
			} else if now-sure.at >= s.cfg.Poll {
				lane := s.Lane(v.ref.Shard)
				silent[lane] = append(silent[lane], v)
			}
			if v.hasNews() {
				s.emit(event{kind: eventCrossing, view: v})
			}
		}
		for lane, views := range silent {
			if lanes[lane] == nil {
				lanes[lane] = new(atomic.Bool)
			}
			if busy := lanes[lane]; busy.CompareAndSwap(false, true) {
				looking.Go(func() {
					s.glance(ctx, views)
					busy.Store(false)
				})
			}
		}
	}
}

// glance reads the shards of views in one write. It syncs a view if its shard was written to, or
// could not be read.
func (s *Stock) glance(ctx context.Context, views []*view) {
	shards := make([]ShardID, len(views))
	for i, v := range views {
		shards[i] = v.ref.Shard
	}
	at := s.now()
	levels, errs := s.AllNumbers(ctx, shards)
	for i, v := range views {
		if errs[i] != nil || !v.glance(&levels[i], at) {
			v.sync()
		}
	}
}

// synced records how a sync ended. It logs the first failure after a success, and the first success
// after a failure. A sync runs four times per second and shard, so the others are not logged.
func (s *Stock) synced(ctx context.Context, ref Ref, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.syncErrors.Add(1)
	}
	if failed := err != nil; s.failing.Swap(failed) != failed {
		if failed {
			s.cfg.Logger.Warn("shards cannot be read", "shard", ref.Shard, "epoch", ref.Epoch, "err", err)
		} else {
			s.cfg.Logger.Info("shards can be read again")
		}
	}
}

// listen receives crossings until ctx ends. It signals on ready when the subscription works, or
// when the first attempt has failed. After each subscription it syncs all views, because messages
// may have been missed. It also checks the servers, because they may have changed.
func (s *Stock) listen(ctx context.Context, client rueidis.Client, ready chan<- error) {
	answer := func(err error) {
		s.health.subscribed(err)
		select {
		case ready <- err:
		default:
		}
	}
	hooked := rueidis.WithOnSubscriptionHook(ctx, func(sub rueidis.PubSubSubscription) {
		if sub.Kind != "subscribe" {
			return
		}
		answer(nil)
		s.kick()
		for _, v := range s.views.Load() {
			if v != nil {
				v.sync()
			}
		}
	})
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := s.now()
		err := client.Receive(hooked, client.B().Subscribe().Channel(s.channel, s.bell).Build(), s.heard)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("unsubscribed")
		}
		answer(err)
		if s.now()-began > lastPause {
			pause = firstPause
		}
		s.cfg.Logger.Warn("crossings are not heard, so the poll has to find them", "channel", s.channel, "again_in", pause, "err", err)
		if !wait.For(ctx, pause) {
			return
		}
	}
}

// Pauses between two attempts to connect or to subscribe.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// heard takes a message from the channel. It runs on the connection's reading goroutine and must
// not block.
func (s *Stock) heard(message rueidis.PubSubMessage) {
	if message.Channel == s.bell {
		s.emit(event{kind: eventRing, message: message.Message})
		return
	}
	ref, seq, crossings, ok := parseMessage(message.Message)
	if !ok {
		s.cfg.Logger.Warn("not a crossing", "channel", message.Channel, "message", message.Message)
		return
	}
	v := s.viewAt(ref.Shard)
	switch {
	case v == nil || ref.Epoch < v.ref.Epoch:
	case ref.Epoch > v.ref.Epoch:
		s.refused(v.ref, &refusedError{ErrEpoch, ref.Epoch})
	default:
		s.saw(ref, seq)
		follow := len(crossings) == 0
		for _, c := range crossings {
			v.heard(c.item, seq, c.has)
			follow = follow || !c.has
		}
		if follow {
			v.sync()
		}
	}
}

// Ring makes every process on this Redis, including this one, call its OnRing with the message. It
// doesn't wait and promises nothing, so a process that needs the news must also look for it
// regularly.
func (s *Stock) Ring(message string) {
	s.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
		client, err := s.conn()
		if err == nil {
			err = client.Do(ctx, client.B().Publish().Channel(s.bell).Message(message).Build()).Error()
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("could not ring", "channel", s.bell, "message", message, "err", err)
		}
	})
}

// event is something for which a callback must be called.
type event struct {
	kind    eventKind
	ref     Ref       // set for eventLost and eventEpoch
	view    *view     // set for eventCrossing
	message string    // set for eventRing
	shards  []ShardID // set for eventSuspect
	err     error     // set for eventForeign
}

type eventKind uint8

const (
	eventLost eventKind = iota + 1
	eventEpoch
	eventCrossing
	eventRing
	eventSuspect
	eventForeign
)

// emit makes deliver call a callback soon, and reports whether there was room. It never blocks.
func (s *Stock) emit(e event) bool {
	select {
	case s.events <- e:
		return true
	default:
		s.missed.Add(1)
		return false
	}
}

// deliver makes the callbacks, one after another, until ctx ends.
func (s *Stock) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.events:
			switch e.kind {
			case eventLost:
				s.cfg.OnLost(e.ref)
			case eventEpoch:
				s.cfg.OnEpoch(e.ref.Shard, e.ref.Epoch)
			case eventCrossing:
				e.view.tell(s.cfg.OnCrossing)
			case eventRing:
				s.cfg.OnRing(e.message)
			case eventSuspect:
				s.cfg.OnSuspect(e.shards)
			case eventForeign:
				s.cfg.OnForeign(e.err)
			}
		}
	}
}

package inventory

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// Watch has the Stock keep an eye on the shards that refs names, and on no others: they get a queue for their holds and a view in
// memory. A ref that is watched already keeps both. Of two refs of one item the later epoch counts.
func (s *Stock) Watch(refs []Ref) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	old := *s.views.Load()
	next := make(map[ItemID]*view, len(refs))
	var fresh []*view
	for _, ref := range refs {
		if ref.Validate() != nil || next[ref.Item] != nil && next[ref.Item].ref.Epoch >= ref.Epoch {
			continue
		}
		if v := old[ref.Item]; v != nil && v.ref == ref {
			next[ref.Item] = v
			continue
		}
		v, err := s.newView(ref, old[ref.Item])
		if err != nil {
			s.cfg.Logger.Error("shard not watched", "item", ref.Item, "epoch", ref.Epoch, "err", err)
			continue
		}
		next[ref.Item] = v
		fresh = append(fresh, v)
	}
	s.views.Store(&next)
	var gone []*view
	for item, v := range old {
		if next[item] != v {
			s.dropping[v] = true
			gone = append(gone, v)
		}
	}
	s.mu.Unlock()
	for _, v := range gone {
		if !s.spawn(func(context.Context) { v.drop() }) {
			v.drop() // the Stock was stopped meanwhile
		}
	}
	for _, v := range fresh {
		v.sync()
	}
}

// SoldOut reports, from memory, that the shard has no unit and that no hold named id exists. It is never true later than 900 ms
// after a unit came back. False says nothing: Hold decides.
func (s *Stock) SoldOut(ref Ref, id string) bool {
	v := (*s.views.Load())[ref.Item]
	return v != nil && v.ref == ref && v.soldOut(id)
}

// Absent reports, from memory, that no hold named id existed in the shard at since. False says nothing: ask Find.
func (s *Stock) Absent(ref Ref, id string, since time.Time) bool {
	v := (*s.views.Load())[ref.Item]
	return v != nil && v.ref == ref && v.absent(id, since.Sub(s.began))
}

// InStock reports whether the watched item was last seen with a unit available. One that is watched but wasn't seen yet is in stock:
// a buyer who is told so wrongly learns better from Hold, one who is told sold-out goes away. An item that isn't watched is not in stock.
func (s *Stock) InStock(item ItemID) bool {
	v := (*s.views.Load())[item]
	return v != nil && v.inStock()
}

// Sighting is what this process knows of a shard: whether a unit was available when the shard was at Seq. Of two, the one of the later
// epoch is newer, and within an epoch the one of the higher Seq.
type Sighting struct {
	Epoch   Epoch
	Seq     uint64
	InStock bool
}

// Seen returns, from memory, what was last seen of a watched item's shard. ok is false where nothing was seen yet, and while the
// shard can say nothing because it is being rebuilt.
func (s *Stock) Seen(item ItemID) (sighting Sighting, ok bool) {
	v := (*s.views.Load())[item]
	if v == nil {
		return Sighting{}, false
	}
	snap := v.snap.Load()
	if snap == nil || snap.shut {
		return Sighting{}, false
	}
	return Sighting{v.ref.Epoch, snap.seq, snap.available > 0}, true
}

// poll has all views follow their shards, every cfg.Poll, and repeats the events that found no place.
func (s *Stock) poll(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, v := range *s.views.Load() {
			v.sync()
			if v.news() {
				s.emit(event{kind: eventCrossing, view: v})
			}
		}
	}
}

// synced takes note of how a sync ended. The first failure after a success is logged, and the first success after a failure: in
// between there is nothing new to say, four times a second and shard.
func (s *Stock) synced(ctx context.Context, ref Ref, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.syncErrors.Add(1)
	}
	if failed := err != nil; s.failing.Swap(failed) != failed {
		if failed {
			s.cfg.Logger.Warn("shards cannot be read", "item", ref.Item, "epoch", ref.Epoch, "err", err)
		} else {
			s.cfg.Logger.Info("shards can be read again")
		}
	}
}

// listen hears crossings until ctx ends. It answers on ready once, when the subscription stands or has failed. After each
// subscription all views are synced, for what was said while nobody listened.
func (s *Stock) listen(ctx context.Context, ready chan<- error) {
	var once sync.Once
	answer := func(err error) { once.Do(func() { ready <- err }) }
	hooked := rueidis.WithOnSubscriptionHook(ctx, func(sub rueidis.PubSubSubscription) {
		if sub.Kind != "subscribe" {
			return
		}
		answer(nil)
		for _, v := range *s.views.Load() {
			v.sync()
		}
	})
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := s.now()
		err := s.client.Receive(hooked, s.client.B().Subscribe().Channel(s.channel, s.bell).Build(), s.heard)
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
		s.cfg.Logger.Warn("crossings are not heard, the poll has to find them", "channel", s.channel, "again_in", pause, "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Pauses between two tries to subscribe.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// heard takes a message from the channel. It runs on the connection's reading goroutine and must not block.
func (s *Stock) heard(message rueidis.PubSubMessage) {
	if message.Channel == s.bell {
		s.emit(event{kind: eventRing, message: message.Message})
		return
	}
	item, epoch, o, ok := parseCrossing(message.Message)
	if !ok {
		s.cfg.Logger.Warn("not a crossing", "channel", message.Channel, "message", message.Message)
		return
	}
	v := (*s.views.Load())[item]
	switch {
	case v == nil || epoch < v.ref.Epoch:
	case epoch > v.ref.Epoch:
		s.refused(v.ref, v, &refusedError{ErrEpoch, epoch})
	default:
		v.heard(o)
	}
}

// Ring has every process on this Redis, this one too, call its OnRing with the message. It doesn't wait and promises nothing: who
// relies on the news has to look for it now and then as well.
func (s *Stock) Ring(message string) {
	s.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
		if err := s.client.Do(ctx, s.client.B().Publish().Channel(s.bell).Message(message).Build()).Error(); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("could not ring", "channel", s.bell, "message", message, "err", err)
		}
	})
}

// parseCrossing reads a message of lua/shard.lua: item, epoch, seq, available, known.
func parseCrossing(message string) (ItemID, Epoch, observation, bool) {
	fields := strings.Split(message, " ")
	if len(fields) != 5 {
		return 0, 0, observation{}, false
	}
	item, err1 := strconv.ParseUint(fields[0], 10, 32)
	epoch, err2 := strconv.ParseUint(fields[1], 10, 32)
	seq, err3 := strconv.ParseUint(fields[2], 10, 64)
	available, err4 := strconv.ParseInt(fields[3], 10, 64)
	known, err5 := strconv.ParseInt(fields[4], 10, 64)
	if errors.Join(err1, err2, err3, err4, err5) != nil {
		return 0, 0, observation{}, false
	}
	return ItemID(item), Epoch(epoch), observation{seq: seq, available: available, known: known}, true
}

// event is something to call back about.
type event struct {
	kind eventKind
	ref  Ref
	view *view // of eventCrossing

	message string // of eventRing
}

type eventKind uint8

const (
	eventLost eventKind = iota + 1
	eventEpoch
	eventCrossing
	eventRing
)

// emit has deliver call back soon. It never blocks.
func (s *Stock) emit(e event) {
	select {
	case s.events <- e:
	default:
		s.missed.Add(1)
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
				s.cfg.OnEpoch(e.ref.Item, e.ref.Epoch)
			case eventCrossing:
				e.view.tell(s.cfg.OnCrossing)
			case eventRing:
				s.cfg.OnRing(e.message)
			}
		}
	}
}

// stockState is whether an item is in stock, as far as OnCrossing knows.
type stockState = int32

const (
	stockUnknown stockState = iota
	stockIn
	stockOut
)

func stateOf(inStock bool) stockState {
	if inStock {
		return stockIn
	}
	return stockOut
}

// news reports whether OnCrossing has to be told something.
func (v *view) news() bool {
	return v.snap.Load() != nil && v.told.Load() != stateOf(v.inStock())
}

// tell tells of a crossing since the last call. What a view saw first is no crossing, unless an earlier view knew otherwise.
func (v *view) tell(onCrossing func(ItemID, bool)) {
	now := v.inStock()
	if before := v.told.Swap(stateOf(now)); before != stockUnknown && before != stateOf(now) {
		onCrossing(v.ref.Item, now)
	}
}

package stocktest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"penstock/inventory"
)

// Model is a stock in memory that does what the contracts of inventory say, at once and without goroutines or clocks. It is safe
// for concurrent use. Peer gives what another process would have.
type Model struct {
	world *world
	seen  map[inventory.Ref]uint64 // guarded by world.mu: highest seq this process has seen
}

// world is the Redis.
type world struct {
	mu     sync.Mutex
	shards map[inventory.ItemID]*shard // guarded by mu
}

// shard is an item's stock.
type shard struct {
	epoch                 inventory.Epoch
	closed                bool
	seq                   uint64
	available, held, sold int64
	holds                 map[string]*hold
	restocks              map[string]bool
}

type hold struct {
	inventory.Entry
	touch uint64
}

// NewModel returns a stock that knows nothing.
func NewModel() *Model {
	return &Model{&world{shards: make(map[inventory.ItemID]*shard)}, make(map[inventory.Ref]uint64)}
}

// Peer returns the stock of another process: the same shards, but nothing seen yet.
func (m *Model) Peer() *Model { return &Model{m.world, make(map[inventory.Ref]uint64)} }

// Save returns a function that puts all shards back to what they are now, as a failover to a replica that was behind does.
func (m *Model) Save() (restore func()) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	saved := cloneShards(m.world.shards)
	return func() {
		m.world.mu.Lock()
		defer m.world.mu.Unlock()
		m.world.shards = cloneShards(saved)
	}
}

// Lose forgets all shards.
func (m *Model) Lose() {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	clear(m.world.shards)
}

func cloneShards(shards map[inventory.ItemID]*shard) map[inventory.ItemID]*shard {
	clone := make(map[inventory.ItemID]*shard, len(shards))
	for item, s := range shards {
		c := *s
		c.restocks = maps.Clone(s.restocks)
		c.holds = make(map[string]*hold, len(s.holds))
		for id, h := range s.holds {
			ch := *h
			c.holds[id] = &ch
		}
		clone[item] = &c
	}
	return clone
}

// at locks the world and returns the shard of a call that is meant for ref. The caller calls done.
func (m *Model) at(ref inventory.Ref) (s *shard, done func(), err error) {
	if err := ref.Validate(); err != nil {
		return nil, func() {}, err
	}
	m.world.mu.Lock()
	s = m.world.shards[ref.Item]
	switch {
	case s == nil || s.epoch < ref.Epoch:
		err = inventory.ErrLost
	case s.epoch > ref.Epoch:
		err = inventory.ErrEpoch
	case s.seq < m.seen[ref]:
		err = inventory.ErrLost
	case s.closed:
		err = inventory.ErrClosed
	}
	return s, func() {
		if err == nil {
			m.seen[ref] = s.seq
		}
		m.world.mu.Unlock()
	}, err
}

// write is at for a call that takes a seq.
func (m *Model) write(ref inventory.Ref) (*shard, func(), error) {
	s, done, err := m.at(ref)
	if err == nil {
		s.seq++
	}
	return s, done, err
}

// bought is what counts against the buyer's limit.
func (s *shard) bought(buyer string) (units int64) {
	for _, h := range s.holds {
		if h.Buyer == buyer && h.State != inventory.Void {
			units += int64(h.Quantity)
		}
	}
	return units
}

// Hold is seckill.Stock's.
func (m *Model) Hold(ctx context.Context, ref inventory.Ref, want inventory.Hold, limit int) (inventory.Grant, error) {
	if err := want.Validate(); err != nil {
		return inventory.Grant{}, err
	}
	if limit < 0 {
		return inventory.Grant{}, fmt.Errorf("%w: limit %d", inventory.ErrInvalid, limit)
	}
	grants, err := m.HoldBatch(ctx, ref, []inventory.Hold{want}, []int{limit})
	if err != nil {
		return inventory.Grant{}, err
	}
	return grants[0], nil
}

// HoldBatch takes valid holds one after another, under one seq.
func (m *Model) HoldBatch(_ context.Context, ref inventory.Ref, holds []inventory.Hold, limits []int) ([]inventory.Grant, error) {
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return nil, err
	}
	grants := make([]inventory.Grant, len(holds))
	for i, h := range holds {
		grants[i] = inventory.Grant{Verdict: s.hold(h, int64(limits[i])), Seq: s.seq}
	}
	return grants, nil
}

func (s *shard) hold(want inventory.Hold, limit int64) inventory.Verdict {
	units := int64(want.Quantity)
	if h := s.holds[want.ID]; h != nil {
		switch {
		case h.Quantity != want.Quantity:
			return inventory.Reused
		case h.State == inventory.Ordered:
			return inventory.HeldOrdered
		case h.State == inventory.Doomed:
			return inventory.HeldDoomed
		case h.State != inventory.Fresh:
			return inventory.HeldEnded
		}
		h.touch = s.seq
		return inventory.HeldAgain
	}
	switch {
	case s.available <= 0:
		return inventory.SoldOut
	case limit > 0 && want.Buyer != "" && s.bought(want.Buyer)+units > limit:
		return inventory.OverLimit
	case s.available < units:
		return inventory.SoldOut
	}
	s.available -= units
	s.held += units
	s.holds[want.ID] = &hold{inventory.Entry{Hold: want, State: inventory.Fresh}, s.seq}
	return inventory.Held
}

// SoldOut is seckill.Stock's; the Model always knows.
func (m *Model) SoldOut(ref inventory.Ref, id string) bool {
	s, done, err := m.at(ref)
	defer done()
	return err == nil && s.available <= 0 && s.holds[id] == nil
}

// Absent is seckill.Stock's; the Model always knows.
func (m *Model) Absent(ref inventory.Ref, id string, _ time.Time) bool {
	s, done, err := m.at(ref)
	defer done()
	return err == nil && s.holds[id] == nil
}

// InStock is seckill.Stock's; the Model watches every item.
func (m *Model) InStock(item inventory.ItemID) bool {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	s := m.world.shards[item]
	return s != nil && s.available > 0
}

// Find is seckill.Stock's.
func (m *Model) Find(_ context.Context, ref inventory.Ref, id string) (inventory.Entry, error) {
	s, done, err := m.at(ref)
	defer done()
	if err != nil {
		return inventory.Entry{}, err
	}
	if h := s.holds[id]; h != nil {
		return h.Entry, nil
	}
	return inventory.Entry{Hold: inventory.Hold{ID: id}}, nil
}

// Watch is seckill.Stock's; the Model watches every item.
func (m *Model) Watch([]inventory.Ref) {}

// Confirm is seckill.Stock's.
func (m *Model) Confirm(_ context.Context, ref inventory.Ref, holds []inventory.Hold) error {
	for _, h := range holds {
		if err := h.Validate(); err != nil {
			return err
		}
	}
	if len(holds) == 0 {
		return ref.Validate()
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return err
	}
	for _, want := range holds {
		switch h := s.holds[want.ID]; {
		case h == nil:
			s.available -= int64(want.Quantity)
			s.held += int64(want.Quantity)
			s.holds[want.ID] = &hold{inventory.Entry{Hold: want, State: inventory.Ordered}, s.seq}
		case h.State == inventory.Fresh || h.State == inventory.Doomed:
			h.State = inventory.Ordered
		}
	}
	return nil
}

// Settle is seckill.Stock's.
func (m *Model) Settle(_ context.Context, ref inventory.Ref, ends []inventory.Settlement) error {
	for _, e := range ends {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	if len(ends) == 0 {
		return ref.Validate()
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return err
	}
	for _, e := range ends {
		s.settle(e)
	}
	return nil
}

func (s *shard) settle(e inventory.Settlement) {
	marker := inventory.Void
	if e.Kind == inventory.SettleSold {
		marker = inventory.Sold
	}
	h := s.holds[e.ID]
	switch {
	case h == nil:
		s.holds[e.ID] = &hold{inventory.Entry{Hold: e.Hold, State: marker}, s.seq}
		return
	case h.State == inventory.Void || h.State == inventory.Sold:
		return
	}
	units := int64(h.Quantity)
	s.held -= units
	switch {
	case marker == inventory.Void:
		s.available += units
	case h.Buyer != "": // a withdrawal's units leave the total
		s.sold += units
	}
	h.State = marker
}

// Restock is seckill.Stock's.
func (m *Model) Restock(_ context.Context, ref inventory.Ref, id string, units int) error {
	if err := inventory.ValidateRestock(id, units); err != nil {
		return err
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return err
	}
	if !s.restocks[id] {
		s.restocks[id] = true
		s.available += int64(units)
	}
	return nil
}

// Levels is seckill.Stock's.
func (m *Model) Levels(_ context.Context, item inventory.ItemID) (inventory.Levels, error) {
	if item == 0 {
		return inventory.Levels{}, fmt.Errorf("%w: item 0", inventory.ErrInvalid)
	}
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	s := m.world.shards[item]
	if s == nil {
		return inventory.Levels{}, nil
	}
	levels := inventory.Levels{
		Epoch: s.epoch, Closed: s.closed, Seq: s.seq,
		Available: s.available, Held: s.held, Sold: s.sold, Known: int64(len(s.holds)),
	}
	for _, h := range s.holds {
		if h.State == inventory.Fresh || h.State == inventory.Doomed {
			levels.Fresh += int64(h.Quantity)
		}
	}
	return levels, nil
}

// Note is seckill.Stock's.
func (m *Model) Note(_ context.Context, ref inventory.Ref) (uint64, error) {
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return 0, err
	}
	return s.seq, nil
}

// Old is seckill.Stock's; the oldest come first.
func (m *Model) Old(_ context.Context, ref inventory.Ref, note uint64, limit int) ([]inventory.Entry, error) {
	if limit < 1 {
		return nil, ref.Validate()
	}
	s, done, err := m.at(ref)
	defer done()
	if err != nil {
		return nil, err
	}
	var old []*hold
	for _, h := range s.holds {
		if (h.State == inventory.Fresh || h.State == inventory.Doomed) && h.touch <= note {
			old = append(old, h)
		}
	}
	slices.SortFunc(old, func(a, b *hold) int { return cmp.Or(cmp.Compare(a.touch, b.touch), cmp.Compare(a.ID, b.ID)) })
	var entries []inventory.Entry
	for _, h := range old[:min(limit, len(old))] {
		entries = append(entries, h.Entry)
	}
	return entries, nil
}

// Doom is seckill.Stock's.
func (m *Model) Doom(_ context.Context, ref inventory.Ref, note uint64, ids []string) ([]inventory.State, error) {
	if slices.Contains(ids, "") {
		return nil, fmt.Errorf("%w: no name", inventory.ErrInvalid)
	}
	if len(ids) == 0 {
		return nil, ref.Validate()
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return nil, err
	}
	states := make([]inventory.State, len(ids))
	for i, id := range ids {
		if h := s.holds[id]; h != nil {
			if h.State == inventory.Fresh && h.touch <= note {
				h.State = inventory.Doomed
			}
			states[i] = h.State
		}
	}
	return states, nil
}

// Close is seckill.Stock's.
func (m *Model) Close(_ context.Context, ref inventory.Ref) error {
	if err := ref.Validate(); err != nil {
		return err
	}
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	s := m.world.shards[ref.Item]
	if s != nil && (s.epoch > ref.Epoch || s.epoch == ref.Epoch && (!s.closed || len(s.holds) > 0)) {
		return inventory.ErrEpoch
	}
	m.world.shards[ref.Item] = &shard{epoch: ref.Epoch, closed: true, holds: make(map[string]*hold), restocks: make(map[string]bool)}
	return nil
}

// Load is seckill.Stock's.
func (m *Model) Load(_ context.Context, ref inventory.Ref, entries []inventory.Entry) error {
	for _, e := range entries {
		if err := inventory.ValidateLoad(e); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return ref.Validate()
	}
	s, done, err := m.rebuilding(ref)
	defer done()
	if err != nil {
		return err
	}
	if !s.closed {
		return inventory.ErrEpoch
	}
	for _, e := range entries {
		if s.holds[e.ID] == nil {
			s.holds[e.ID] = &hold{Entry: e}
		}
	}
	return nil
}

// Open is seckill.Stock's.
func (m *Model) Open(_ context.Context, ref inventory.Ref, available, held, sold, known int64) error {
	s, done, err := m.rebuilding(ref)
	defer done()
	if err != nil {
		return err
	}
	if s.closed {
		if int64(len(s.holds)) != known {
			return inventory.ErrLost
		}
		s.closed, s.seq = false, 1
		s.available, s.held, s.sold = available, held, sold
	}
	return nil
}

// rebuilding locks the world and returns the shard that carries just ref's epoch. The caller calls done.
func (m *Model) rebuilding(ref inventory.Ref) (s *shard, done func(), err error) {
	if err := ref.Validate(); err != nil {
		return nil, func() {}, err
	}
	m.world.mu.Lock()
	s = m.world.shards[ref.Item]
	if s == nil || s.epoch != ref.Epoch {
		err = inventory.ErrEpoch
	}
	return s, m.world.mu.Unlock, err
}

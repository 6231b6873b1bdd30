package stocktest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Model is a stock in memory that follows the contracts of inventory, at once and without
// goroutines or clocks. It is safe for concurrent use. Peer returns the stock of another process.
type Model struct {
	world   *world
	seen    map[inventory.Ref]uint64              // guarded by world.mu: highest seq this process has seen
	watched map[inventory.ShardID]inventory.Epoch // guarded by world.mu
}

// world is the Redis.
type world struct {
	mu     sync.Mutex
	shards map[inventory.ShardID]*shard // guarded by mu
}

// shard is a shard's stock.
type shard struct {
	epoch  inventory.Epoch
	closed bool
	seq    uint64
	items  map[inventory.ItemID]*item
	holds  map[string]*hold
	heads  map[string][]*hold // the same by head
	young  []string           // heads, as lua/shard.lua has them: one or more for each that has a fresh or doomed hold
}

// item has an item's numbers. held is the rest of the total.
type item struct {
	total, available, sold int64
	restocks               map[string]bool
}

type hold struct {
	inventory.Entry
	touch uint64
}

// undecided reports whether a sweep has to look at the hold.
func (h *hold) undecided() bool { return h.State == inventory.Fresh || h.State == inventory.Doomed }

// NewModel returns an empty stock.
func NewModel() *Model {
	m := &Model{world: &world{shards: make(map[inventory.ShardID]*shard)}}
	return m.Peer()
}

// Peer returns the stock of another process: the same shards, but nothing seen yet.
func (m *Model) Peer() *Model {
	return &Model{m.world, make(map[inventory.Ref]uint64), make(map[inventory.ShardID]inventory.Epoch)}
}

// Save returns a function that restores all shards to their present state, like a failover to a
// replica that was behind. It may be called more than once.
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

// SaveShard is Save for one shard: restore leaves the others as they are.
func (m *Model) SaveShard(id inventory.ShardID) (restore func()) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	var saved *shard
	if s := m.world.shards[id]; s != nil {
		saved = s.clone()
	}
	return func() {
		m.world.mu.Lock()
		defer m.world.mu.Unlock()
		if saved == nil {
			delete(m.world.shards, id)
			return
		}
		m.world.shards[id] = saved.clone()
	}
}

// Lose forgets all shards.
func (m *Model) Lose() {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	clear(m.world.shards)
}

// Entries returns all holds of the shard, in the order of their names.
func (m *Model) Entries(id inventory.ShardID) []inventory.Entry {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	var entries []inventory.Entry
	if s := m.world.shards[id]; s != nil {
		for _, h := range s.holds {
			entries = append(entries, h.Entry)
		}
	}
	slices.SortFunc(entries, func(a, b inventory.Entry) int { return cmp.Compare(a.ID, b.ID) })
	return entries
}

func cloneShards(shards map[inventory.ShardID]*shard) map[inventory.ShardID]*shard {
	clone := make(map[inventory.ShardID]*shard, len(shards))
	for id, s := range shards {
		clone[id] = s.clone()
	}
	return clone
}

func (s *shard) clone() *shard {
	c := *s
	c.young = slices.Clone(s.young)
	c.items = make(map[inventory.ItemID]*item, len(s.items))
	for id, i := range s.items {
		ci := *i
		ci.restocks = maps.Clone(i.restocks)
		c.items[id] = &ci
	}
	c.holds, c.heads = make(map[string]*hold, len(s.holds)), make(map[string][]*hold, len(s.heads))
	for _, holds := range s.heads {
		for _, h := range holds {
			c.add(h.Entry, h.touch)
		}
	}
	return &c
}

// add adds a hold.
func (s *shard) add(e inventory.Entry, touch uint64) *hold {
	h := &hold{e, touch}
	s.holds[e.ID] = h
	s.heads[inventory.Head(e.ID)] = append(s.heads[inventory.Head(e.ID)], h)
	return h
}

// at locks the world and returns the shard for a call under ref. The caller calls done.
func (m *Model) at(ref inventory.Ref) (s *shard, done func(), err error) {
	if err := ref.Validate(); err != nil {
		return nil, func() {}, err
	}
	m.world.mu.Lock()
	s = m.world.shards[ref.Shard]
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

// Hold is seckill.Stock's.
func (m *Model) Hold(ctx context.Context, calls []*inventory.HoldCall) {
	for _, c := range calls {
		c.Verdicts, c.Seq = c.Verdicts[:0], 0
		c.Err = cmp.Or(c.Validate(), ctx.Err())
		if c.Err == nil && len(c.Claims) > 0 {
			m.hold(c)
		}
	}
}

func (m *Model) hold(c *inventory.HoldCall) {
	s, done, err := m.write(c.Ref)
	defer done()
	if err != nil {
		c.Err = err
		return
	}
	for _, claim := range c.Claims {
		c.Verdicts = append(c.Verdicts, s.hold(claim))
	}
	c.Seq = s.seq
}

func (s *shard) hold(want inventory.Claim) inventory.Verdict {
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
	units, head := int64(want.Quantity), inventory.Head(want.ID)
	bought, made, undecided := s.buyer(head)
	i := s.items[want.Item]
	switch {
	case i == nil:
		return inventory.Unopened
	case i.available <= 0:
		return inventory.SoldOut
	case want.Buyer != "" && want.Limit > 0 && bought+units > int64(want.Limit):
		return inventory.OverLimit
	case want.Buyer != "" && want.MaxOrders > 0 && made >= want.MaxOrders:
		return inventory.TooMany
	case i.available < units:
		return inventory.SoldOut
	}
	i.available -= units
	s.add(inventory.Entry{Hold: want.Hold, State: inventory.Fresh}, s.seq)
	if !undecided {
		s.young = append(s.young, head)
	}
	return inventory.Held
}

// buyer returns counts of a head's holds: units against the limit, holds, and whether some are
// undecided.
func (s *shard) buyer(head string) (units int64, made int, undecided bool) {
	for _, h := range s.heads[head] {
		made++
		if h.State != inventory.Void {
			units += int64(h.Quantity)
		}
		undecided = undecided || h.undecided()
	}
	return units, made, undecided
}

// Lane is seckill.Stock's; the Model has one node.
func (m *Model) Lane(inventory.ShardID) int { return 0 }

// Epoch is seckill.Stock's.
func (m *Model) Epoch(id inventory.ShardID) inventory.Epoch {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	return m.watched[id]
}

// Watch is seckill.Stock's; the Model knows all shards, watched or not.
func (m *Model) Watch(refs []inventory.Ref) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	clear(m.watched)
	for _, ref := range refs {
		if ref.Validate() == nil {
			m.watched[ref.Shard] = max(m.watched[ref.Shard], ref.Epoch)
		}
	}
}

// SoldOut is seckill.Stock's; the Model always knows.
func (m *Model) SoldOut(ref inventory.Ref, id inventory.ItemID, name string) bool {
	s, done, err := m.at(ref)
	defer done()
	if err != nil {
		return false
	}
	i := s.items[id]
	_, made, _ := s.buyer(inventory.Head(name))
	return i != nil && i.available <= 0 && made == 0
}

// Absent is seckill.Stock's; the Model always knows.
func (m *Model) Absent(ref inventory.Ref, name string, _ time.Time) bool {
	s, done, err := m.at(ref)
	defer done()
	if err != nil {
		return false
	}
	_, made, _ := s.buyer(inventory.Head(name))
	return made == 0
}

// InStock is seckill.Stock's; the Model watches every shard, and knows it as of now.
func (m *Model) InStock(id inventory.ShardID, of inventory.ItemID) (bool, time.Duration) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	s := m.world.shards[id]
	if s == nil {
		return false, 0
	}
	i := s.items[of]
	return i == nil || i.available > 0, 0
}

// Find is seckill.Stock's.
func (m *Model) Find(_ context.Context, ref inventory.Ref, of inventory.ItemID, id string) (inventory.Entry, error) {
	if err := (inventory.Hold{Item: of, ID: id, Quantity: 1}).Validate(); err != nil {
		return inventory.Entry{}, err
	}
	s, done, err := m.at(ref)
	defer done()
	if err != nil {
		return inventory.Entry{}, err
	}
	if h := s.holds[id]; h != nil {
		return h.Entry, nil
	}
	return inventory.Entry{Hold: inventory.Hold{Item: of, ID: id}}, nil
}

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
		h, i := s.holds[want.ID], s.items[want.Item]
		switch {
		case h != nil && h.undecided():
			h.State = inventory.Ordered
		case h == nil && i != nil:
			i.available -= int64(want.Quantity)
			want.Seq = 0 // the shard doesn't keep it
			s.add(inventory.Entry{Hold: want, State: inventory.Ordered}, s.seq)
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
	h, i := s.holds[e.ID], s.items[e.Item]
	taken := h != nil
	switch {
	case h == nil && i == nil:
		return
	case h == nil:
		h = s.add(inventory.Entry{Hold: e.Hold}, s.seq)
	case h.State == inventory.Void || h.State == inventory.Sold:
		return
	}
	h.State = inventory.Void
	if e.Kind == inventory.SettleSold {
		h.State = inventory.Sold
	}
	if i == nil {
		return
	}
	units := int64(h.Quantity)
	switch {
	case h.State == inventory.Void && taken:
		i.available += units
	case h.State == inventory.Sold:
		if !taken {
			i.available -= units
		}
		if h.Buyer == "" {
			i.total -= units
		} else {
			i.sold += units
		}
	}
}

// Restock is seckill.Stock's.
func (m *Model) Restock(_ context.Context, ref inventory.Ref, restocks []inventory.Restock) ([]bool, error) {
	for _, r := range restocks {
		if err := r.Validate(); err != nil {
			return nil, err
		}
	}
	if len(restocks) == 0 {
		return []bool{}, ref.Validate()
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return nil, err
	}
	applied := make([]bool, len(restocks))
	for n, r := range restocks {
		applied[n] = s.restock(r)
	}
	return applied, nil
}

func (s *shard) restock(r inventory.Restock) bool {
	i := s.items[r.Item]
	switch {
	case i == nil && !r.Publish:
		return false
	case i == nil:
		s.items[r.Item] = &item{r.Units, r.Units, 0, make(map[string]bool)}
	case !r.Publish && !i.restocks[r.ID]:
		i.restocks[r.ID] = true
		i.total += r.Units
		i.available += r.Units
	}
	return true
}

// Numbers reads one shard.
func (m *Model) Numbers(ctx context.Context, id inventory.ShardID) (inventory.Numbers, error) {
	levels, _, err := m.ItemNumbers(ctx, id, nil)
	return levels, err
}

// AllNumbers is seckill.Stock's.
func (m *Model) AllNumbers(ctx context.Context, shards []inventory.ShardID) ([]inventory.Numbers, []error) {
	all, errs := make([]inventory.Numbers, len(shards)), make([]error, len(shards))
	for i, shard := range shards {
		all[i], errs[i] = m.Numbers(ctx, shard)
	}
	return all, errs
}

// ItemNumbers is seckill.Stock's.
func (m *Model) ItemNumbers(
	_ context.Context, id inventory.ShardID, items []inventory.ItemID,
) (inventory.Numbers, []inventory.ItemNumbers, error) {
	if id >= inventory.MaxShards || len(items) > inventory.MaxCall {
		return inventory.Numbers{}, nil, fmt.Errorf("%w: %d items of shard %d", inventory.ErrInvalid, len(items), id)
	}
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	found := make([]inventory.ItemNumbers, len(items))
	for n := range items {
		found[n].Item = items[n]
	}
	s := m.world.shards[id]
	if s == nil {
		return inventory.Numbers{}, found, nil
	}
	for n := range found {
		if i := s.items[items[n]]; i != nil {
			found[n].Known, found[n].Available, found[n].Sold = true, i.available, i.sold
			found[n].Held = i.total - i.available - i.sold
		}
	}
	return s.levels(), found, nil
}

func (s *shard) levels() inventory.Numbers {
	levels := inventory.Numbers{Epoch: s.epoch, Closed: s.closed, Seq: s.seq, Items: int64(len(s.items))}
	levels.Names = int64(len(s.heads))
	for id, h := range s.holds {
		switch {
		case h.undecided():
			levels.Fresh += int64(h.Quantity)
		case h.Buyer == "":
		case h.State == inventory.Ordered:
			levels.Ordered = levels.Ordered.Add(inventory.NameDigest(id))
		case h.State == inventory.Sold:
			levels.Sold = levels.Sold.Add(inventory.NameDigest(id))
		}
	}
	return levels
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

// Old is seckill.Stock's. Each look is at one head.
func (m *Model) Old(
	_ context.Context, ref inventory.Ref, note uint64, cursor int64, limit int,
) (old []inventory.Entry, next int64, more bool, err error) {
	if cursor < 0 || limit < 1 {
		return nil, 0, false, fmt.Errorf("%w: cursor %d, limit %d", inventory.ErrInvalid, cursor, limit)
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return nil, 0, false, err
	}
	left := cursor
	if left == 0 {
		left = int64(len(s.young))
	}
	met := make(map[string]bool)
	var back []string
	for left > 0 && len(s.young) > 0 && len(met) < limit {
		head := s.young[0]
		s.young = s.young[1:]
		left--
		if met[head] {
			continue
		}
		met[head] = true
		entries, undecided := s.old(head, note)
		old = append(old, entries...)
		if undecided {
			back = append(back, head)
		}
	}
	if len(s.young) == 0 {
		left = 0
	}
	s.young = append(s.young, back...)
	return old, left, left > 0, nil
}

// old returns the old holds of a head, and whether it has undecided ones.
func (s *shard) old(head string, note uint64) (old []inventory.Entry, undecided bool) {
	for _, h := range s.heads[head] {
		if !h.undecided() {
			continue
		}
		undecided = true
		if h.touch <= note {
			old = append(old, h.Entry)
		}
	}
	slices.SortFunc(old, func(a, b inventory.Entry) int { return cmp.Compare(a.ID, b.ID) })
	return old, undecided
}

// Doom is seckill.Stock's.
func (m *Model) Doom(
	_ context.Context, ref inventory.Ref, note uint64, holds []inventory.Hold,
) ([]inventory.State, error) {
	for _, h := range holds {
		if err := h.Validate(); err != nil {
			return nil, err
		}
	}
	if len(holds) == 0 {
		return nil, ref.Validate()
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return nil, err
	}
	states := make([]inventory.State, len(holds))
	for i, want := range holds {
		if h := s.holds[want.ID]; h != nil {
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
	s := m.world.shards[ref.Shard]
	if s != nil && (s.epoch > ref.Epoch || s.epoch == ref.Epoch && (!s.closed || len(s.holds) > 0 || len(s.items) > 0)) {
		return inventory.ErrEpoch
	}
	m.world.shards[ref.Shard] = &shard{
		epoch: ref.Epoch, closed: true, items: make(map[inventory.ItemID]*item),
		holds: make(map[string]*hold), heads: make(map[string][]*hold),
	}
	return nil
}

// Load is seckill.Stock's.
func (m *Model) Load(_ context.Context, ref inventory.Ref, items []inventory.Stocked, entries []inventory.Entry) error {
	for _, i := range items {
		if i.Item == 0 {
			return fmt.Errorf("%w: load item 0", inventory.ErrInvalid)
		}
	}
	for _, e := range entries {
		if err := inventory.ValidateLoad(e); err != nil {
			return err
		}
	}
	if len(items)+len(entries) == 0 {
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
	for _, i := range items {
		if s.items[i.Item] == nil {
			s.items[i.Item] = &item{i.Total, i.Available, i.Sold, make(map[string]bool)}
		}
	}
	for _, e := range entries {
		if s.holds[e.ID] == nil {
			s.add(e, 0)
		}
	}
	return nil
}

// Open is seckill.Stock's.
func (m *Model) Open(_ context.Context, ref inventory.Ref, items, names int64) error {
	s, done, err := m.rebuilding(ref)
	defer done()
	if err != nil {
		return err
	}
	if s.closed {
		if l := s.levels(); l.Items != items || l.Names != names {
			return inventory.ErrLost
		}
		s.closed, s.seq = false, 1
	}
	return nil
}

// rebuilding locks the world and returns the shard if it has exactly ref's epoch. The caller calls
// done.
func (m *Model) rebuilding(ref inventory.Ref) (s *shard, done func(), err error) {
	if err := ref.Validate(); err != nil {
		return nil, func() {}, err
	}
	m.world.mu.Lock()
	s = m.world.shards[ref.Shard]
	if s == nil || s.epoch != ref.Epoch {
		err = inventory.ErrEpoch
	}
	return s, m.world.mu.Unlock, err
}

// Forget is seckill.Stock's.
func (m *Model) Forget(_ context.Context, ref inventory.Ref, items []inventory.ItemID, heads []string) error {
	if slices.Contains(heads, "") {
		return fmt.Errorf("%w: no head", inventory.ErrInvalid)
	}
	if len(items)+len(heads) == 0 {
		return ref.Validate()
	}
	s, done, err := m.write(ref)
	defer done()
	if err != nil {
		return err
	}
	for _, head := range heads {
		for _, h := range s.heads[head] {
			delete(s.holds, h.ID)
		}
		delete(s.heads, head)
	}
	for _, id := range items {
		delete(s.items, id)
	}
	return nil
}

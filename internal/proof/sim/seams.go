package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/proof/stocktest"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

var (
	_ seckill.Stock = (*stockSeam)(nil)
	_ seckill.Queue = (*queueSeam)(nil)
	_ seckill.Store = (*storeSeam)(nil)
)

// none is the answer of a call without a result.
type none struct{}

func only(_ none, err error) error { return err }

// stockSeam is a process's connection to Redis. Questions that a process answers from memory are
// answered by the model, which always knows.
type stockSeam struct {
	*process
	far *stocktest.Model // as this process sees it
}

func (s *stockSeam) at(ref inventory.Ref, names ...string) string {
	return s.ref(ref) + s.names(names)
}

// ref writes a shard and its epoch as the path shows them.
func (p *process) ref(ref inventory.Ref) string {
	return fmt.Sprintf(" s%d e%d", ref.Shard, p.rig.epochNumber(ref))
}

// names writes names as the path shows them.
func (p *process) names(ids []string) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(" " + p.rig.alias(id))
	}
	return b.String()
}

func holdNames(holds []inventory.Hold) []string {
	names := make([]string, len(holds))
	for i := range holds {
		names[i] = holds[i].ID
	}
	return names
}

// heard records a shard that has lost writes, like inventory's OnLost.
func (s *stockSeam) heard(ref inventory.Ref, err error) error {
	s.noteLost(ref, err)
	return err
}

func (s *stockSeam) Hold(ctx context.Context, calls []*inventory.HoldCall) {
	// Each call is sent separately: they are for different shards.
	for _, c := range calls {
		far := &inventory.HoldCall{Ref: c.Ref, Claims: slices.Clone(c.Claims)}
		about := s.at(c.Ref)
		for i := range far.Claims {
			about += fmt.Sprintf(" %s ×%d", s.rig.alias(far.Claims[i].ID), far.Claims[i].Quantity)
		}
		answer, err := through(ctx, s.process, callHold, about, func(ctx context.Context) (*inventory.HoldCall, error) {
			s.far.Hold(ctx, []*inventory.HoldCall{far})
			return far, far.Err
		})
		if err != nil {
			c.Err = s.heard(c.Ref, err)
			continue
		}
		c.Verdicts, c.Seq, c.Err = answer.Verdicts, answer.Seq, nil
	}
}

func (s *stockSeam) Lane(shard inventory.ShardID) int              { return s.far.Lane(shard) }
func (s *stockSeam) Epoch(shard inventory.ShardID) inventory.Epoch { return s.far.Epoch(shard) }
func (s *stockSeam) Watch(refs []inventory.Ref)                    { s.far.Watch(refs) }

func (s *stockSeam) SoldOut(ref inventory.Ref, item inventory.ItemID, id string) bool {
	return s.far.SoldOut(ref, item, id)
}

func (s *stockSeam) Absent(ref inventory.Ref, id string, since time.Time) bool {
	return s.far.Absent(ref, id, since)
}

func (s *stockSeam) InStock(shard inventory.ShardID, item inventory.ItemID) (bool, time.Duration) {
	return s.far.InStock(shard, item)
}

func (s *stockSeam) Find(ctx context.Context, ref inventory.Ref, item inventory.ItemID, id string) (inventory.Entry, error) {
	e, err := through(ctx, s.process, callFind, s.at(ref, id), func(ctx context.Context) (inventory.Entry, error) {
		return s.far.Find(ctx, ref, item, id)
	})
	return e, s.heard(ref, err)
}

func (s *stockSeam) Confirm(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) error {
	holds = slices.Clone(holds)
	_, err := through(ctx, s.process, callConfirm, s.at(ref, holdNames(holds)...), func(ctx context.Context) (none, error) {
		return none{}, s.far.Confirm(ctx, ref, holds)
	})
	return s.heard(ref, err)
}

func (s *stockSeam) Settle(ctx context.Context, ref inventory.Ref, ends []inventory.Settlement) error {
	ends = slices.Clone(ends)
	about := s.at(ref)
	for _, e := range ends {
		about += fmt.Sprintf(" %s %s", s.rig.alias(e.ID), settled(e.Kind))
	}
	_, err := through(ctx, s.process, callSettle, about, func(ctx context.Context) (none, error) {
		return none{}, s.far.Settle(ctx, ref, ends)
	})
	return s.heard(ref, err)
}

func settled(kind inventory.Kind) string {
	if kind == inventory.SettleSold {
		return "sold"
	}
	return "void"
}

func (s *stockSeam) Restock(ctx context.Context, ref inventory.Ref, restocks []inventory.Restock) ([]bool, error) {
	restocks = slices.Clone(restocks)
	about := s.at(ref)
	for _, r := range restocks {
		about += fmt.Sprintf(" %s +%d", r.ID, r.Units)
	}
	applied, err := through(ctx, s.process, callRestock, about, func(ctx context.Context) ([]bool, error) {
		return s.far.Restock(ctx, ref, restocks)
	})
	return applied, s.heard(ref, err)
}

// allLevels is the answer to AllNumbers.
type allLevels struct {
	all  []inventory.Numbers
	errs []error
}

func (s *stockSeam) AllNumbers(ctx context.Context, shards []inventory.ShardID) ([]inventory.Numbers, []error) {
	shards = slices.Clone(shards)
	about := ""
	for _, shard := range shards {
		about += fmt.Sprintf(" s%d", shard)
	}
	read, err := through(ctx, s.process, callLevels, about, func(ctx context.Context) (r allLevels, err error) {
		r.all, r.errs = s.far.AllNumbers(ctx, shards)
		return r, nil
	})
	if err != nil {
		return make([]inventory.Numbers, len(shards)), slices.Repeat([]error{err}, len(shards))
	}
	return read.all, read.errs
}

// numbers is the answer to ItemNumbers.
type numbers struct {
	levels inventory.Numbers
	items  []inventory.ItemNumbers
}

func (s *stockSeam) ItemNumbers(ctx context.Context, shard inventory.ShardID,
	items []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error) {
	items = slices.Clone(items)
	n, err := through(ctx, s.process, callItems, fmt.Sprintf(" s%d", shard), func(ctx context.Context) (n numbers, err error) {
		n.levels, n.items, err = s.far.ItemNumbers(ctx, shard, items)
		return n, err
	})
	return n.levels, n.items, err
}

func (s *stockSeam) Note(ctx context.Context, ref inventory.Ref) (uint64, error) {
	seq, err := through(ctx, s.process, callNote, s.at(ref), func(ctx context.Context) (uint64, error) { return s.far.Note(ctx, ref) })
	return seq, s.heard(ref, err)
}

// oldHolds is the answer to Old.
type oldHolds struct {
	old  []inventory.Entry
	next int64
	more bool
}

func (o oldHolds) String() string { return fmt.Sprintf("%d holds, more=%v", len(o.old), o.more) }

func (s *stockSeam) Old(ctx context.Context, ref inventory.Ref, note uint64, cursor int64,
	limit int) ([]inventory.Entry, int64, bool, error) {
	about := fmt.Sprintf("%s ≤%d", s.at(ref), note)
	o, err := through(ctx, s.process, callOld, about, func(ctx context.Context) (o oldHolds, err error) {
		o.old, o.next, o.more, err = s.far.Old(ctx, ref, note, cursor, limit)
		return o, err
	})
	return o.old, o.next, o.more, s.heard(ref, err)
}

func (s *stockSeam) Doom(ctx context.Context, ref inventory.Ref, note uint64, holds []inventory.Hold) ([]inventory.State, error) {
	holds = slices.Clone(holds)
	about := s.at(ref, holdNames(holds)...)
	states, err := throughAt(ctx, s.process, callDoom, ref.Shard, about, func(ctx context.Context) ([]inventory.State, error) {
		return s.far.Doom(ctx, ref, note, holds)
	})
	return states, s.heard(ref, err)
}

func (s *stockSeam) Close(ctx context.Context, ref inventory.Ref) error {
	return only(throughAt(ctx, s.process, callClose, ref.Shard, s.at(ref), func(ctx context.Context) (none, error) {
		return none{}, s.far.Close(ctx, ref)
	}))
}

func (s *stockSeam) Load(ctx context.Context, ref inventory.Ref, items []inventory.Stocked, entries []inventory.Entry) error {
	items, entries = slices.Clone(items), slices.Clone(entries)
	about := fmt.Sprintf("%s %d items", s.at(ref), len(items))
	for _, e := range entries {
		about += fmt.Sprintf(" %s %s", s.rig.alias(e.ID), e.State)
	}
	return only(throughAt(ctx, s.process, callLoad, ref.Shard, about, func(ctx context.Context) (none, error) {
		return none{}, s.far.Load(ctx, ref, items, entries)
	}))
}

func (s *stockSeam) Open(ctx context.Context, ref inventory.Ref, items, names int64) error {
	about := fmt.Sprintf("%s items=%d names=%d", s.at(ref), items, names)
	return only(throughAt(ctx, s.process, callOpen, ref.Shard, about, func(ctx context.Context) (none, error) {
		return none{}, s.far.Open(ctx, ref, items, names)
	}))
}

func (s *stockSeam) Forget(ctx context.Context, ref inventory.Ref, items []inventory.ItemID, heads []string) error {
	items, heads = slices.Clone(items), slices.Clone(heads)
	return only(through(ctx, s.process, callDrop, s.at(ref), func(ctx context.Context) (none, error) {
		return none{}, s.far.Forget(ctx, ref, items, heads)
	}))
}

// queueSeam is a process's way to the queue: a producer with so many slots, and a member of the
// workers' group.
type queueSeam struct {
	*process
	far *log

	mu    sync.Mutex
	slots int // guarded by mu: those that are free
}

func (q *queueSeam) Reserve() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.slots == 0 {
		return seckill.ErrNoSlot
	}
	q.slots--
	return nil
}

func (q *queueSeam) Release(slots int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.slots += slots
}

var errNoLeader = errors.New("no partition has a leader")

// Put parks no goroutine: the call is the producer's.
func (q *queueSeam) Put(shard inventory.ShardID, value []byte, slots int, done func(error)) {
	value = slices.Clone(value)
	c := &call{
		process: q.name, actor: "producer", method: callPut, about: q.pageNames(value),
		execute: func() (any, error) {
			if !q.far.append(shard, value) {
				return none{}, errNoLeader
			}
			return none{}, nil
		},
		deliver: func(_ any, err error) {
			q.Release(slots)
			done(err)
		},
	}
	if q.rig.wire.isDirect() {
		_, err := c.execute()
		c.deliver(nil, err)
		return
	}
	select {
	case <-q.dead: // and nobody waits any more
	default:
		q.rig.wire.arrive(c)
	}
}

// pageNames returns how the path shows a page.
func (p *process) pageNames(value []byte) string {
	page, err := seckill.ParsePage(value)
	if err != nil {
		return " " + err.Error()
	}
	about := p.ref(page.Ref)
	for i := range page.Orders {
		about += " " + p.rig.alias(string(page.Orders[i].Order))
	}
	return about
}

func (q *queueSeam) Mark(ctx context.Context) ([]seckill.Position, error) {
	marker := seckill.AppendPage(nil, &seckill.Page{PageHeader: seckill.PageHeader{Put: time.Now()}})
	return through(ctx, q.process, callMark, "", func(context.Context) ([]seckill.Position, error) {
		behind, ok := q.far.mark(marker)
		if !ok {
			return nil, errNoLeader
		}
		return behind, nil
	})
}

// Poll asks the store where to begin when the member is new to a partition.
func (q *queueSeam) Poll(ctx context.Context) (seckill.Haul, error) {
	for {
		h, err := through(ctx, q.process, callPoll, "", func(context.Context) (seckill.Haul, error) { return q.far.poll(q.member), nil })
		if err != nil || len(h.Moves) > 0 {
			q.far.took(q.member, h.Moves)
			return h, err
		}
		if q.far.isStale(q.member) {
			if err := q.Rewind(ctx); err != nil {
				return h, err
			}
		}
	}
}

func (q *queueSeam) Rewind(ctx context.Context) error {
	for {
		at, err := q.store.Positions(ctx)
		if err != nil {
			return err
		}
		topic := q.far.topic()
		if !slices.ContainsFunc(at, func(p seckill.Position) bool { return p.Topic != topic }) {
			q.far.seek(q.member, at)
			return nil
		}
		if err := q.register(ctx, topic); err != nil {
			return err
		}
	}
}

// register brings a topic that was made again into the books, as a worker does.
func (q *queueSeam) register(ctx context.Context, topic seckill.TopicID) error {
	return only(through(ctx, q.process, callTopic, "", func(ctx context.Context) (none, error) {
		return none{}, q.rig.store.AddPartitions(ctx, topic, partitions)
	}))
}

func (q *queueSeam) Committed([]seckill.Move) {}

func (q *queueSeam) Owned() ([]int32, int) { return q.far.owned(q.member), partitions }

// storeSeam is a process's connection to the database. Methods that the sale's parts don't call go
// straight through.
type storeSeam struct {
	*process
	seckill.Store
}

// news is the result of a LoadCatalog.
type news struct {
	version seckill.CatalogVersion
	whole   bool
	changes []seckill.CatalogChange
}

func (n news) String() string { return fmt.Sprintf("%d changes, all=%v", len(n.changes), n.whole) }

func (s *storeSeam) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(bool),
	apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	n, err := through(ctx, s.process, callCatalog, "", func(ctx context.Context) (n news, err error) {
		n.version, err = s.rig.store.LoadCatalog(ctx, since, func(whole bool) { n.whole = whole },
			func(c seckill.CatalogChange) error { n.changes = append(n.changes, c); return nil })
		return n, err
	})
	if err != nil {
		return since, err
	}
	begin(n.whole)
	for _, c := range n.changes {
		if err := apply(c); err != nil {
			return since, err
		}
	}
	return n.version, nil
}

func (s *storeSeam) FindActivity(ctx context.Context, id seckill.ActivityID) (*seckill.Activity, error) {
	return through(ctx, s.process, callActivity, "", func(ctx context.Context) (*seckill.Activity, error) {
		return s.rig.store.FindActivity(ctx, id)
	})
}

func (s *storeSeam) UpdateActivity(ctx context.Context, id seckill.ActivityID, by seckill.Author,
	change func(*seckill.Activity) (*seckill.Activity, error)) (*seckill.Activity, error) {
	return through(ctx, s.process, callActivity, "", func(ctx context.Context) (*seckill.Activity, error) {
		return s.rig.store.UpdateActivity(ctx, id, by, change)
	})
}

func (s *storeSeam) Accept(ctx context.Context, b seckill.Batch) ([]seckill.Acceptance, error) {
	b.Pages, b.Moves, b.Letters = slices.Clone(b.Pages), slices.Clone(b.Moves), slices.Clone(b.Letters)
	about := ""
	for i := range b.Pages {
		about += s.ref(b.Pages[i].Ref)
		for j := range b.Pages[i].Promises {
			about += " " + s.rig.alias(string(b.Pages[i].Promises[j].Order))
		}
	}
	for _, m := range b.Moves {
		about += fmt.Sprintf(" p%d %d→%d", m.To.Partition, m.From.Next, m.To.Next)
	}
	return through(ctx, s.process, callAccept, about, func(ctx context.Context) ([]seckill.Acceptance, error) {
		return s.rig.store.Accept(ctx, b)
	})
}

func (s *storeSeam) Positions(ctx context.Context) ([]seckill.Position, error) {
	return through(ctx, s.process, callPositions, "", func(ctx context.Context) ([]seckill.Position, error) {
		return s.rig.store.Positions(ctx)
	})
}

func (s *storeSeam) FindOrders(ctx context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	ids = slices.Clone(ids)
	return through(ctx, s.process, callOrders, s.orderNames(ids), func(ctx context.Context) ([]seckill.Order, error) {
		return s.rig.store.FindOrders(ctx, ids)
	})
}

func (p *process) orderNames(ids []seckill.OrderID) string {
	about := ""
	for _, id := range ids {
		about += " " + p.rig.alias(string(id))
	}
	return about
}

func (s *storeSeam) Cancel(ctx context.Context, cancels []seckill.Cancellation) ([]seckill.Moved, error) {
	cancels = slices.Clone(cancels)
	about := ""
	for i := range cancels {
		about += " " + s.rig.alias(string(cancels[i].Order))
		if cancels[i].Queued != nil {
			about += " queued" + s.ref(cancels[i].Ref)
		}
	}
	return through(ctx, s.process, callCancel, about, func(ctx context.Context) ([]seckill.Moved, error) {
		return s.rig.store.Cancel(ctx, cancels)
	})
}

func (s *storeSeam) Pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	payments = slices.Clone(payments)
	about := ""
	for _, p := range payments {
		about += " " + s.rig.alias(string(p.Order))
	}
	return through(ctx, s.process, callPay, about, func(ctx context.Context) ([]seckill.PaymentResult, error) {
		return s.rig.store.Pay(ctx, payments)
	})
}

func (s *storeSeam) TimeOut(ctx context.Context, shards []inventory.ShardID, held []seckill.ActivityID, limit int) (int, error) {
	return through(ctx, s.process, callTimeOut, "", func(ctx context.Context) (int, error) {
		return s.rig.store.TimeOut(ctx, shards, held, limit)
	})
}

func (s *storeSeam) ApplyEarly(ctx context.Context, limit int) (int, error) {
	return through(ctx, s.process, callEarly, "", func(ctx context.Context) (int, error) {
		return s.rig.store.ApplyEarly(ctx, limit)
	})
}

func (s *storeSeam) Unpark(ctx context.Context, shards []inventory.ShardID, limit int) ([]seckill.Acceptance, error) {
	return through(ctx, s.process, callUnpark, "", func(ctx context.Context) ([]seckill.Acceptance, error) {
		return s.rig.store.Unpark(ctx, shards, limit)
	})
}

func (s *storeSeam) Bury(ctx context.Context, ref inventory.Ref, incarnation string, holds []inventory.Hold) ([]bool, error) {
	holds = slices.Clone(holds)
	about := s.ref(ref) + s.names(holdNames(holds))
	return through(ctx, s.process, callBury, about, func(ctx context.Context) ([]bool, error) {
		return s.rig.store.Bury(ctx, ref, incarnation, holds)
	})
}

// Relay has a callback that calls Redis, so it runs in its caller. There is a seam before the
// outbox is read, and one before rows are deleted.
func (s *storeSeam) Relay(ctx context.Context, shards []inventory.ShardID, after int64, limit int,
	deliver func(context.Context, []seckill.Outgoing) []int) (int64, error) {
	pass := func(context.Context) (none, error) { return none{}, nil }
	if _, err := through(ctx, s.process, callOutbox, fmt.Sprintf(" after %d", after), pass); err != nil {
		return 0, err
	}
	var forget error
	last, err := s.rig.store.Relay(ctx, shards, after, limit, func(ctx context.Context, rows []seckill.Outgoing) []int {
		delivered := deliver(ctx, rows)
		if len(delivered) == 0 {
			return nil
		}
		about := fmt.Sprintf(" %d of %d rows", len(delivered), len(rows))
		if _, forget = through(ctx, s.process, callForget, about, pass); forget != nil {
			return nil
		}
		return delivered
	})
	if forget != nil {
		return 0, forget
	}
	return last, err
}

func (s *storeSeam) Shards(ctx context.Context) ([]seckill.ShardRow, error) {
	return through(ctx, s.process, callShards, "", func(ctx context.Context) ([]seckill.ShardRow, error) {
		return s.rig.store.Shards(ctx)
	})
}

// life is the answer to a question for the incarnation; the path shows it by number.
type life struct {
	name   string
	number int
}

func (l life) String() string { return fmt.Sprintf("life %d", l.number) }

func (s *storeSeam) Incarnation(ctx context.Context) (string, error) {
	l, err := through(ctx, s.process, callIncarnation, "", func(ctx context.Context) (life, error) {
		name, err := s.rig.store.Incarnation(ctx)
		return life{name, len(s.rig.old)}, err
	})
	return l.name, err
}

func (s *storeSeam) NextEpoch(ctx context.Context, shard inventory.ShardID) (inventory.Epoch, error) {
	return through(ctx, s.process, callNextEpoch, fmt.Sprintf(" s%d", shard), func(ctx context.Context) (inventory.Epoch, error) {
		return s.rig.store.NextEpoch(ctx, shard)
	})
}

func (s *storeSeam) Fence(ctx context.Context, ref inventory.Ref, incarnation string) error {
	about := s.ref(ref)
	return only(through(ctx, s.process, callFence, about, func(ctx context.Context) (none, error) {
		return none{}, s.rig.store.Fence(ctx, ref, incarnation)
	}))
}

// snapshot is the result of a Snapshot.
type snapshot struct {
	items   []inventory.Stocked
	entries []inventory.Entry
}

func (s snapshot) String() string {
	return fmt.Sprintf("%d items, %d holds", len(s.items), len(s.entries))
}

// Snapshot has a callback that calls Redis. The far side reads all, and the callback runs in the
// caller. The state that is read is pinned: others may write meanwhile.
func (s *storeSeam) Snapshot(ctx context.Context, ref inventory.Ref, hot []inventory.ItemID,
	load func([]inventory.Stocked, []inventory.Entry) error) error {
	about := s.ref(ref)
	read, err := through(ctx, s.process, callSnapshot, about, func(ctx context.Context) (read snapshot, err error) {
		err = s.rig.store.Snapshot(ctx, ref, hot, func(items []inventory.Stocked, entries []inventory.Entry) error {
			if s.rig.amid != nil {
				s.rig.amid()
			}
			read.items, read.entries = append(read.items, items...), append(read.entries, entries...)
			return nil
		})
		return read, err
	})
	if err != nil {
		return err
	}
	return load(read.items, read.entries)
}

func (s *storeSeam) MarkSuspect(ctx context.Context, ref inventory.Ref) error {
	about := s.ref(ref)
	return only(through(ctx, s.process, callSuspect, about, func(ctx context.Context) (none, error) {
		return none{}, s.rig.store.MarkSuspect(ctx, ref)
	}))
}

// total is the answer to a stock change.
type total struct {
	total    int64
	replayed bool
}

func (t total) String() string { return fmt.Sprintf("total %d, replayed=%v", t.total, t.replayed) }

func (s *storeSeam) Restock(ctx context.Context, c seckill.StockChange, by seckill.Author) (int64, bool, error) {
	t, err := through(ctx, s.process, callRaise, fmt.Sprintf(" %s %+d", c.Key, c.Delta), func(ctx context.Context) (t total, err error) {
		t.total, t.replayed, err = s.rig.store.Restock(ctx, c, by)
		return t, err
	})
	return t.total, t.replayed, err
}

func (s *storeSeam) Withdraw(ctx context.Context, c seckill.StockChange, holds []seckill.Taken, by seckill.Author) (int64, bool, error) {
	holds = slices.Clone(holds)
	t, err := through(ctx, s.process, callWithdraw, fmt.Sprintf(" %s %+d", c.Key, c.Delta), func(ctx context.Context) (t total, err error) {
		t.total, t.replayed, err = s.rig.store.Withdraw(ctx, c, holds, by)
		return t, err
	})
	return t.total, t.replayed, err
}

func (s *storeSeam) MoveUnits(ctx context.Context, from seckill.Taken, to inventory.ShardID) error {
	about := s.ref(from.Ref) + fmt.Sprintf(" → s%d", to)
	return only(through(ctx, s.process, callMove, about, func(ctx context.Context) (none, error) {
		return none{}, s.rig.store.MoveUnits(ctx, from, to)
	}))
}

// found is the answer to a question for a stock change.
type found struct {
	change seckill.StockChange
	ok     bool
}

func (f found) String() string {
	if f.ok {
		return fmt.Sprintf("%+d", f.change.Delta)
	}
	return "none"
}

func (s *storeSeam) FindStockChange(ctx context.Context, item inventory.ItemID, key string) (seckill.StockChange, bool, error) {
	f, err := through(ctx, s.process, callChange, " "+key, func(ctx context.Context) (f found, err error) {
		f.change, f.ok, err = s.rig.store.FindStockChange(ctx, item, key)
		return f, err
	})
	return f.change, f.ok, err
}

func (s *storeSeam) ActivityBooks(ctx context.Context, id seckill.ActivityID) ([]seckill.Book, error) {
	return through(ctx, s.process, callBooks, "", func(ctx context.Context) ([]seckill.Book, error) {
		return s.rig.store.ActivityBooks(ctx, id)
	})
}

func (s *storeSeam) ShardBooks(ctx context.Context, shard inventory.ShardID, after inventory.ItemID, limit int) ([]seckill.Book, error) {
	return through(ctx, s.process, callBooks, fmt.Sprintf(" s%d", shard), func(ctx context.Context) ([]seckill.Book, error) {
		return s.rig.store.ShardBooks(ctx, shard, after, limit)
	})
}

func (s *storeSeam) ShardSums(ctx context.Context, shard inventory.ShardID) (seckill.ShardSums, error) {
	return through(ctx, s.process, callSums, fmt.Sprintf(" s%d", shard), func(ctx context.Context) (seckill.ShardSums, error) {
		return s.rig.store.ShardSums(ctx, shard)
	})
}

func (s *storeSeam) Unpublished(ctx context.Context, id seckill.ActivityID) (int, error) {
	return through(ctx, s.process, callUnpublished, "", func(ctx context.Context) (int, error) {
		return s.rig.store.Unpublished(ctx, id)
	})
}

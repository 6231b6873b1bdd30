package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"penstock/internal/proof/stocktest"
	"penstock/inventory"
	"penstock/seckill"
)

var (
	_ seckill.Stock = (*stockSeam)(nil)
	_ seckill.Queue = (*queueSeam)(nil)
	_ seckill.Store = (*storeSeam)(nil)
)

// none is the answer of a call that has nothing to say.
type none struct{}

func only(_ none, err error) error { return err }

// stockSeam is a process's way to Redis. What a process answers from memory is answered by the model, which always knows.
type stockSeam struct {
	*process
	far *stocktest.Model // as this process sees it
}

func (s *stockSeam) at(ref inventory.Ref, names ...string) string {
	return fmt.Sprintf(" e%d%s", ref.Epoch, s.names(names))
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

// heard takes note of a shard that has lost writes, as inventory's OnLost does.
func (s *stockSeam) heard(ref inventory.Ref, err error) error {
	s.noteLost(ref, err)
	return err
}

func (s *stockSeam) Hold(ctx context.Context, ref inventory.Ref, h inventory.Hold, limit int) (inventory.Grant, error) {
	about := fmt.Sprintf("%s ×%d", s.at(ref, h.ID), h.Quantity)
	g, err := through(ctx, s.process, callHold, about, func(ctx context.Context) (inventory.Grant, error) {
		return s.far.Hold(ctx, ref, h, limit)
	})
	return g, s.heard(ref, err)
}

func (s *stockSeam) SoldOut(ref inventory.Ref, id string) bool { return s.far.SoldOut(ref, id) }

func (s *stockSeam) Absent(ref inventory.Ref, id string, since time.Time) bool {
	return s.far.Absent(ref, id, since)
}

func (s *stockSeam) InStock(item inventory.ItemID) bool { return s.far.InStock(item) }

func (s *stockSeam) Find(ctx context.Context, ref inventory.Ref, id string) (inventory.Entry, error) {
	e, err := through(ctx, s.process, callFind, s.at(ref, id), func(ctx context.Context) (inventory.Entry, error) {
		return s.far.Find(ctx, ref, id)
	})
	return e, s.heard(ref, err)
}

func (s *stockSeam) Watch(refs []inventory.Ref) { s.far.Watch(refs) }

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

func (s *stockSeam) Restock(ctx context.Context, ref inventory.Ref, id string, units int) error {
	_, err := through(ctx, s.process, callRestock, fmt.Sprintf("%s %s +%d", s.at(ref), id, units), func(ctx context.Context) (none, error) {
		return none{}, s.far.Restock(ctx, ref, id, units)
	})
	return s.heard(ref, err)
}

func (s *stockSeam) Levels(ctx context.Context, item inventory.ItemID) (inventory.Levels, error) {
	return through(ctx, s.process, callLevels, "", func(ctx context.Context) (inventory.Levels, error) { return s.far.Levels(ctx, item) })
}

func (s *stockSeam) Note(ctx context.Context, ref inventory.Ref) (uint64, error) {
	seq, err := through(ctx, s.process, callNote, s.at(ref), func(ctx context.Context) (uint64, error) { return s.far.Note(ctx, ref) })
	return seq, s.heard(ref, err)
}

func (s *stockSeam) Old(ctx context.Context, ref inventory.Ref, note uint64, limit int) ([]inventory.Entry, error) {
	about := fmt.Sprintf("%s ≤%d", s.at(ref), note)
	old, err := through(ctx, s.process, callOld, about, func(ctx context.Context) ([]inventory.Entry, error) {
		return s.far.Old(ctx, ref, note, limit)
	})
	return old, s.heard(ref, err)
}

func (s *stockSeam) Doom(ctx context.Context, ref inventory.Ref, note uint64, ids []string) ([]inventory.State, error) {
	ids = slices.Clone(ids)
	states, err := through(ctx, s.process, callDoom, s.at(ref, ids...), func(ctx context.Context) ([]inventory.State, error) {
		return s.far.Doom(ctx, ref, note, ids)
	})
	return states, s.heard(ref, err)
}

func (s *stockSeam) Close(ctx context.Context, ref inventory.Ref) error {
	return only(through(ctx, s.process, callClose, s.at(ref), func(ctx context.Context) (none, error) {
		return none{}, s.far.Close(ctx, ref)
	}))
}

func (s *stockSeam) Load(ctx context.Context, ref inventory.Ref, entries []inventory.Entry) error {
	entries = slices.Clone(entries)
	about := s.at(ref)
	for _, e := range entries {
		about += fmt.Sprintf(" %s %s", s.rig.alias(e.ID), e.State)
	}
	return only(through(ctx, s.process, callLoad, about, func(ctx context.Context) (none, error) {
		return none{}, s.far.Load(ctx, ref, entries)
	}))
}

func (s *stockSeam) Open(ctx context.Context, ref inventory.Ref, available, held, sold, known int64) error {
	about := fmt.Sprintf("%s available=%d held=%d sold=%d known=%d", s.at(ref), available, held, sold, known)
	return only(through(ctx, s.process, callOpen, about, func(ctx context.Context) (none, error) {
		return none{}, s.far.Open(ctx, ref, available, held, sold, known)
	}))
}

// queueSeam is a process's way to the queue: a producer with so many slots, and a member of the workers' group.
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

func (q *queueSeam) Release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.slots++
}

// Put parks no goroutine: the call is the producer's.
func (q *queueSeam) Put(key seckill.OrderID, value []byte, done func(error)) {
	value = slices.Clone(value)
	c := &call{
		process: q.name, actor: "producer", method: callPut, about: " " + q.rig.alias(string(key)),
		execute: func() (any, error) { q.far.append(key, value); return none{}, nil },
		deliver: func(_ any, err error) {
			q.Release()
			done(err)
		},
	}
	if q.rig.wire.isDirect() {
		_, err := c.execute()
		c.deliver(nil, err)
		return
	}
	select {
	case <-q.dead: // and nobody listens any more
	default:
		q.rig.wire.arrive(c)
	}
}

func (q *queueSeam) Poll(ctx context.Context) ([]seckill.Message, error) {
	return through(ctx, q.process, callPoll, "", func(context.Context) ([]seckill.Message, error) { return q.far.poll(q.member), nil })
}

func (q *queueSeam) Commit(ctx context.Context) error {
	return only(through(ctx, q.process, callCommit, "", func(context.Context) (none, error) { return none{}, q.far.commit(q.member) }))
}

func (q *queueSeam) End(ctx context.Context) (seckill.Positions, error) {
	return through(ctx, q.process, callEnd, "", func(context.Context) (seckill.Positions, error) { return q.far.end(), nil })
}

func (q *queueSeam) Committed(ctx context.Context) (seckill.Positions, error) {
	return through(ctx, q.process, callCommitted, "", func(context.Context) (seckill.Positions, error) {
		return q.far.committedOffsets(), nil
	})
}

// storeSeam is a process's way to the database. What the sale's parts don't call goes straight through.
type storeSeam struct {
	*process
	seckill.Store
}

func (s *storeSeam) LoadCatalog(ctx context.Context, known int64) (*seckill.CatalogData, error) {
	return through(ctx, s.process, callCatalog, "", func(ctx context.Context) (*seckill.CatalogData, error) {
		return s.Store.LoadCatalog(ctx, known)
	})
}

func (s *storeSeam) UpdateActivity(ctx context.Context, id seckill.ActivityID, by seckill.Author,
	change func(*seckill.Activity) (*seckill.Activity, error)) (*seckill.Activity, error) {
	return through(ctx, s.process, callActivity, "", func(ctx context.Context) (*seckill.Activity, error) {
		return s.Store.UpdateActivity(ctx, id, by, change)
	})
}

func (s *storeSeam) Accept(ctx context.Context, records []seckill.Record) ([]seckill.Acceptance, error) {
	records = slices.Clone(records)
	about := ""
	for i := range records {
		about += fmt.Sprintf(" %s e%d", s.rig.alias(string(records[i].Order)), records[i].Grant.Epoch)
	}
	return through(ctx, s.process, callAccept, about, func(ctx context.Context) ([]seckill.Acceptance, error) {
		return s.Store.Accept(ctx, records)
	})
}

func (s *storeSeam) FindOrders(ctx context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	ids = slices.Clone(ids)
	return through(ctx, s.process, callOrders, s.orderNames(ids), func(ctx context.Context) ([]seckill.Order, error) {
		return s.Store.FindOrders(ctx, ids)
	})
}

func (p *process) orderNames(ids []seckill.OrderID) string {
	about := ""
	for _, id := range ids {
		about += " " + p.rig.alias(string(id))
	}
	return about
}

func (s *storeSeam) Cancel(ctx context.Context, ids []seckill.OrderID) ([]seckill.Moved, error) {
	ids = slices.Clone(ids)
	return through(ctx, s.process, callCancel, s.orderNames(ids), func(ctx context.Context) ([]seckill.Moved, error) {
		return s.Store.Cancel(ctx, ids)
	})
}

func (s *storeSeam) Pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	payments = slices.Clone(payments)
	about := ""
	for _, p := range payments {
		about += " " + s.rig.alias(string(p.Order))
	}
	return through(ctx, s.process, callPay, about, func(ctx context.Context) ([]seckill.PaymentResult, error) {
		return s.Store.Pay(ctx, payments)
	})
}

func (s *storeSeam) TimeOut(ctx context.Context, limit int) (int, error) {
	return through(ctx, s.process, callTimeOut, "", func(ctx context.Context) (int, error) { return s.Store.TimeOut(ctx, limit) })
}

func (s *storeSeam) Bury(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) ([]bool, error) {
	holds = slices.Clone(holds)
	about := fmt.Sprintf(" e%d%s", ref.Epoch, s.names(holdNames(holds)))
	return through(ctx, s.process, callBury, about, func(ctx context.Context) ([]bool, error) { return s.Store.Bury(ctx, ref, holds) })
}

// Relay has a callback that calls Redis, so it runs in its caller. The seam stands in front of the reading of the outbox, and
// in front of the deletion.
func (s *storeSeam) Relay(ctx context.Context, after int64, limit int,
	deliver func(context.Context, []seckill.Outgoing) []int) (int64, error) {
	pass := func(context.Context) (none, error) { return none{}, nil }
	if _, err := through(ctx, s.process, callOutbox, fmt.Sprintf(" after %d", after), pass); err != nil {
		return 0, err
	}
	var forget error
	last, err := s.Store.Relay(ctx, after, limit, func(ctx context.Context, rows []seckill.Outgoing) []int {
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

// locked is the answer to who asks for a rebuild lock.
type locked struct {
	unlock func()
	ok     bool
}

func (l locked) String() string {
	if l.ok {
		return "got it"
	}
	return "somebody else has it"
}

// lease is a rebuild lock. Its connection may break while the process that has it goes on.
type lease struct {
	item   inventory.ItemID
	unlock func()
}

func (s *storeSeam) LockItem(ctx context.Context, item inventory.ItemID) (func(), bool, error) {
	l, err := through(ctx, s.process, callLock, "", func(ctx context.Context) (locked, error) {
		unlock, ok, err := s.Store.LockItem(ctx, item)
		return locked{unlock, ok}, err
	})
	if err != nil || !l.ok {
		return nil, false, err
	}
	held := &lease{item, l.unlock}
	s.rig.leases.Store(held, true)
	return func() {
		s.rig.leases.Delete(held)
		held.unlock()
	}, true, nil
}

func (s *storeSeam) NextEpoch(ctx context.Context, item inventory.ItemID) (inventory.Epoch, error) {
	return through(ctx, s.process, callNextEpoch, "", func(ctx context.Context) (inventory.Epoch, error) {
		return s.Store.NextEpoch(ctx, item)
	})
}

func (s *storeSeam) Fence(ctx context.Context, ref inventory.Ref) (seckill.StockSnapshot, error) {
	return through(ctx, s.process, callFence, fmt.Sprintf(" e%d", ref.Epoch), func(ctx context.Context) (seckill.StockSnapshot, error) {
		return s.Store.Fence(ctx, ref)
	})
}

func (s *storeSeam) MarkSuspect(ctx context.Context, ref inventory.Ref) error {
	return only(through(ctx, s.process, callSuspect, fmt.Sprintf(" e%d", ref.Epoch), func(ctx context.Context) (none, error) {
		return none{}, s.Store.MarkSuspect(ctx, ref)
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
		t.total, t.replayed, err = s.Store.Restock(ctx, c, by)
		return t, err
	})
	return t.total, t.replayed, err
}

func (s *storeSeam) Withdraw(ctx context.Context, ref inventory.Ref, hold string, c seckill.StockChange,
	by seckill.Author) (int64, bool, error) {
	about := fmt.Sprintf(" e%d %s %+d", ref.Epoch, c.Key, c.Delta)
	t, err := through(ctx, s.process, callWithdraw, about, func(ctx context.Context) (t total, err error) {
		t.total, t.replayed, err = s.Store.Withdraw(ctx, ref, hold, c, by)
		return t, err
	})
	return t.total, t.replayed, err
}

// found is the answer to who asks for a stock change.
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
		f.change, f.ok, err = s.Store.FindStockChange(ctx, item, key)
		return f, err
	})
	return f.change, f.ok, err
}

func (s *storeSeam) Books(ctx context.Context, id seckill.ActivityID) ([]seckill.Book, error) {
	return through(ctx, s.process, callBooks, "", func(ctx context.Context) ([]seckill.Book, error) { return s.Store.Books(ctx, id) })
}

func (s *storeSeam) AddDeadLetters(ctx context.Context, letters []seckill.DeadLetter) error {
	letters = slices.Clone(letters)
	return only(through(ctx, s.process, callLetters, fmt.Sprintf(" %d", len(letters)), func(ctx context.Context) (none, error) {
		return none{}, s.Store.AddDeadLetters(ctx, letters)
	}))
}

// breakLeases breaks the connection behind every rebuild lock and returns how many there were.
func (r *rig) breakLeases() int {
	held := make(map[*lease]bool)
	r.leases.Range(func(key, _ any) bool {
		held[key.(*lease)] = true
		return true
	})
	for l := range maps.Keys(held) {
		l.unlock()
	}
	return len(held)
}

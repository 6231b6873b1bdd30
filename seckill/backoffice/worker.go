package backoffice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Worker makes orders from pages. For each poll it writes one transaction: order rows, stock rows,
// outbox rows, and the position. So a record that is read twice is written once, and a record that
// was not written doesn't count as read. After a restore of the database, or when another worker
// took the partition, a worker gets ErrMoved and reads again from the position in the store.
//
// No promise is given up. After any error of the store the worker tries again; a promise is parked
// only if the decision says so (seckill.DecideAccept). If a row is locked for too long, only the
// promises of its item are parked. If a single partition can't be committed, it is set aside, and
// the others go on (see acceptApart).
type Worker struct {
	// Fixed after NewWorker.
	queue seckill.Consumer
	store seckill.Store
	told  func([]seckill.Acceptance)
	trace *trace.Tracer
	log   *slog.Logger

	stuck       map[int32]bool // used by Run's goroutine only: partitions that are paused for now
	unread      map[int32]bool // used by Run's goroutine only: partitions with a record that this worker can't read
	frail       map[int32]bool // used by Run's goroutine only: partitions that could not be committed when others could
	again       time.Time      // when the partitions in stuck are tried again; used by Run's goroutine only
	refused     trouble        // used by Run's goroutine only
	incarnation string         // the incarnation of the database from which the positions were read; used by Run's goroutine only

	counts WorkerCounts
	took   timing.Histogram
	aside  atomic.Pointer[setAside] // the last partition that was; nil before
}

// setAside is a partition that could not be committed.
type setAside struct {
	at        time.Time
	partition int32
	err       error
}

// Aside returns the partition that waits because it could not be committed a moment ago, and why;
// nil if there is none. A partition that goes on failing is set aside again before that is over.
func (w *Worker) Aside() (partition int32, why error) {
	last := w.aside.Load()
	if last == nil || time.Since(last.at) > apartPatience+2*asidePause {
		return 0, nil
	}
	return last.partition, last.err
}

// WorkerCounts counts a worker's promises by outcome, since the worker was made. Opened, Exists,
// Rejected, Skipped and Parked add up to all promises that it committed.
type WorkerCounts struct {
	Batches  atomic.Int64
	Pages    atomic.Int64
	Opened   atomic.Int64
	Exists   atomic.Int64
	Rejected atomic.Int64
	Skipped  atomic.Int64
	Parked   atomic.Int64
	Letters  atomic.Int64 // damaged pages that became dead letters
	Retries  atomic.Int64 // transactions that failed and were tried again
	Rewinds  atomic.Int64 // how often the position in the store had moved
	Stuck    atomic.Int64 // partitions that stand still now at a record that this worker can't read
	Aside    atomic.Int64 // partitions that were set aside, since they alone could not be committed
}

// NewWorker makes a worker. told is called with the outcomes of each committed transaction; it must
// not block. tracer records the transactions of traced orders; nil records nothing.
func NewWorker(queue seckill.Consumer, store seckill.Store, told func([]seckill.Acceptance), tracer *trace.Tracer,
	log *slog.Logger) *Worker {
	return &Worker{
		queue: queue, store: store, told: told, trace: tracer, log: log, stuck: make(map[int32]bool),
		unread: make(map[int32]bool), frail: make(map[int32]bool),
		refused: trouble{log: log, failing: "the store takes no batch, the worker goes on trying", over: "the store takes batches again"},
	}
}

// Counts returns the worker's counters.
func (w *Worker) Counts() *WorkerCounts { return &w.counts }

// Took returns how long pages took from their gateway until their orders were committed, if the two
// machines' clocks agree.
func (w *Worker) Took() *timing.Histogram { return &w.took }

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	pause := newBackoff()
	for ctx.Err() == nil {
		if err := w.Step(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("worker could not finish a batch, and tries again", "err", err)
			pause.Wait(ctx)
			continue
		}
		pause.Reset()
	}
}

// idleLook is how long a worker waits for records before it checks whether the database is still
// the same.
const idleLook = 5 * time.Second

// Step polls the queue once and commits the records; it tries that until ctx ends. After an error
// nothing was committed, and the records come again. If no record comes for a while, it returns
// nil.
func (w *Worker) Step(ctx context.Context) error {
	if err := w.unstick(ctx); err != nil {
		return err
	}
	patience := idleLook
	if len(w.stuck) > 0 {
		patience = min(patience, time.Until(w.again))
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	haul, err := w.queue.Poll(waiting)
	idle := waiting.Err() != nil && ctx.Err() == nil
	cancel()
	if idle && err != nil {
		return w.lookBack(ctx)
	}
	if err != nil {
		return fmt.Errorf("poll the queue: %w", err)
	}
	if batch := w.read(&haul); len(batch.Moves) > 0 {
		return w.accept(ctx, batch)
	}
	return nil
}

// lookBack reads again from the positions in the store if the database has another incarnation. A
// restore sets the positions back, and without new records nothing else would show it.
func (w *Worker) lookBack(ctx context.Context) error {
	now, err := w.store.Incarnation(ctx)
	if err != nil {
		return fmt.Errorf("read the database's incarnation: %w", err)
	}
	if w.incarnation == now {
		return nil
	}
	if err := w.rewind(ctx); err != nil {
		return err
	}
	w.incarnation = now
	return nil
}

// accept commits a batch, no matter how long it takes.
func (w *Worker) accept(ctx context.Context, batch seckill.Batch) error {
	pause := newBackoff()
	for try := 0; ; try++ {
		var err error
		apart := w.hasFrail(&batch)
		if !apart {
			err = w.try(ctx, &batch)
		}
		if err == nil && !apart {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, seckill.ErrMoved) {
			failed, goOn := w.acceptApart(ctx, batch, try)
			if goOn {
				return nil
			}
			err = cmp.Or(failed, err)
		}
		if errors.Is(err, seckill.ErrMoved) {
			w.counts.Rewinds.Add(1)
			w.log.Warn("the position in the store is not where this worker has read from, so it reads again from there", "err", err)
			return w.rewind(ctx)
		}
		w.counts.Retries.Add(1)
		w.refused.note(err, "pages", len(batch.Pages))
		if !pause.Wait(ctx) {
			return fmt.Errorf("accept %d pages: %w", len(batch.Pages), err)
		}
	}
}

// try makes one attempt to commit a batch.
func (w *Worker) try(ctx context.Context, batch *seckill.Batch) error {
	began := time.Now()
	accepted, err := w.store.Accept(ctx, *batch)
	if errors.Is(err, seckill.ErrLocked) && !batch.Park {
		w.log.Warn("stock rows are locked, their promises are parked", "err", err)
		batch.Park = true
		accepted, err = w.store.Accept(ctx, *batch)
	}
	if err != nil {
		return err
	}
	w.refused.note(nil)
	w.count(batch, accepted)
	for _, m := range batch.Moves {
		if p := m.From.Partition; !w.stuck[p] {
			delete(w.unread, p)
		}
	}
	w.counts.Stuck.Store(int64(len(w.unread)))
	w.queue.Committed(batch.Moves)
	now := time.Now()
	for i := range batch.Pages {
		w.took.Observe(now.Sub(batch.Pages[i].Put))
	}
	if w.trace != nil {
		w.traceBatch(batch, accepted, began, now)
	}
	w.told(accepted)
	return nil
}

// traceBatch records the transaction of a batch for each traced order in it.
func (w *Worker) traceBatch(batch *seckill.Batch, accepted []seckill.Acceptance, began, now time.Time) {
	var traced map[seckill.OrderID]*seckill.Page
	for i := range batch.Pages {
		page := &batch.Pages[i]
		for j := range page.Promises {
			if r := &page.Promises[j]; r.Trace != "" {
				if traced == nil {
					traced = make(map[seckill.OrderID]*seckill.Page)
				}
				traced[r.Order] = page
				w.trace.Span(trace.Context(r.Trace), "transaction", began, now, false, trace.Attr{Key: "penstock.order", Text: string(r.Order)},
					trace.Attr{Key: "penstock.partition", Number: int64(page.Partition)}, trace.Attr{Key: "penstock.offset", Number: page.Offset},
					trace.Attr{Key: "penstock.pages", Number: int64(len(batch.Pages))})
			}
		}
	}
	for i := 0; i < len(accepted) && len(traced) > 0; i++ {
		page := traced[accepted[i].Order.ID]
		if page == nil {
			continue
		}
		for j := range page.Promises {
			if page.Promises[j].Order == accepted[i].Order.ID {
				accepted[i].Trace = page.Promises[j].Trace
			}
		}
	}
}

// apartPatience is how long a partition is tried alone while others wait. asidePause is how long a
// partition is set aside.
const (
	apartPatience = time.Second
	asidePause    = 2 * time.Second
)

// acceptApart finds the cause when a batch can't be committed: it tries each partition separately.
// If some can be committed, or the store at least answers, the others are set aside for a while: a
// locked row of a shard or of a position must not delay other partitions (L10). It reports false if
// the store itself fails, so that all wait for it. It also reports false if a position has moved
// (ErrMoved), which may be the effect of an attempt whose answer was lost.
func (w *Worker) acceptApart(ctx context.Context, batch seckill.Batch, try int) (failed error, goOn bool) {
	parts := partsOf(&batch)
	var left []int32
	for i := range parts {
		part := &parts[(i+try)%len(parts)]
		err := w.tryAlone(ctx, part)
		p := part.Moves[0].From.Partition
		if err == nil {
			delete(w.frail, p)
			goOn = true
			continue
		}
		if errors.Is(err, seckill.ErrMoved) {
			delete(w.frail, p)
			return err, false
		}
		failed, left = err, append(left, p)
		if !goOn && len(left) == 2 {
			break // most likely not both of them
		}
	}
	if !goOn && len(parts) == 1 {
		goOn = w.answers(ctx)
	}
	if !goOn || ctx.Err() != nil {
		return failed, false
	}
	for _, p := range left {
		w.frail[p], w.stuck[p] = true, true
		w.counts.Aside.Add(1)
		w.again = time.Now().Add(asidePause)
		w.aside.Store(&setAside{time.Now(), p, failed})
		w.log.Error("a partition can't be committed, it is set aside for a moment", "partition", p, "err", failed)
	}
	return nil, true
}

func (w *Worker) tryAlone(ctx context.Context, part *seckill.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, apartPatience)
	defer cancel()
	return w.try(ctx, part)
}

// answers reports whether the store answers at all.
func (w *Worker) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, apartPatience)
	defer cancel()
	_, err := w.store.Incarnation(ctx)
	return err == nil
}

func (w *Worker) hasFrail(batch *seckill.Batch) bool {
	return slices.ContainsFunc(batch.Moves, func(m seckill.Move) bool { return w.frail[m.From.Partition] })
}

// partsOf splits a batch by partitions.
func partsOf(batch *seckill.Batch) []seckill.Batch {
	var parts []seckill.Batch
	at := make(map[int32]int)
	for _, m := range batch.Moves {
		p := m.From.Partition
		i, ok := at[p]
		if !ok {
			i = len(parts)
			at[p], parts = i, append(parts, seckill.Batch{Park: batch.Park})
		}
		parts[i].Moves = append(parts[i].Moves, m)
	}
	for i := range batch.Pages {
		part := &parts[at[batch.Pages[i].Partition]]
		part.Pages = append(part.Pages, batch.Pages[i])
	}
	for i := range batch.Letters {
		part := &parts[at[batch.Letters[i].Partition]]
		part.Letters = append(part.Letters, batch.Letters[i])
	}
	return parts
}

func (w *Worker) rewind(ctx context.Context) error {
	clear(w.stuck)
	mine, _ := w.queue.Owned()
	maps.DeleteFunc(w.unread, func(p int32, _ bool) bool { return !slices.Contains(mine, p) })
	maps.DeleteFunc(w.frail, func(p int32, _ bool) bool { return !slices.Contains(mine, p) })
	w.counts.Stuck.Store(int64(len(w.unread)))
	if err := w.queue.Rewind(ctx); err != nil {
		return fmt.Errorf("go back to the positions in the store: %w", err)
	}
	return nil
}

// stuckPause is how long a partition pauses at a record of an unknown version.
const stuckPause = 10 * time.Second

// read makes a batch of a haul. A partition stops at a record of an unknown version, until a newer
// worker reads it. For a damaged record, the orders that its header names are parked, and the
// record is kept as a dead letter. If the header is damaged, too, the partition stops.
func (w *Worker) read(haul *seckill.Haul) seckill.Batch {
	var batch seckill.Batch
	stands := make(map[int32]int64) // from a partition to the offset at which it stands still
	for _, m := range haul.Messages {
		if _, ok := stands[m.Partition]; ok || w.stuck[m.Partition] {
			continue
		}
		page, err := seckill.ParsePage(m.Value)
		page.Partition, page.Offset = m.Partition, m.Offset
		if err != nil && len(page.Orders) == 0 {
			stands[m.Partition] = m.Offset
			w.log.Error("this worker can't read a record, its partition stands still until a worker can",
				"partition", m.Partition, "offset", m.Offset, "err", err)
			continue
		}
		if err != nil {
			batch.Letters = append(batch.Letters, seckill.DeadLetter{
				Partition: m.Partition, Offset: m.Offset, Problem: err.Error(), Value: m.Value,
			})
			page.Promises = bare(&page)
		}
		if len(page.Promises) > 0 {
			batch.Pages = append(batch.Pages, page)
		}
	}
	for _, move := range haul.Moves {
		p := move.To.Partition
		if w.stuck[p] {
			continue
		}
		if before, ok := stands[p]; ok {
			w.stuck[p], w.unread[p] = true, true
			w.counts.Stuck.Store(int64(len(w.unread)))
			w.again = time.Now().Add(stuckPause)
			if move.To = (seckill.Position{Topic: move.To.Topic, Partition: p, Next: before, LeaderEpoch: -1}); before <= move.From.Next {
				continue
			}
		}
		batch.Moves = append(batch.Moves, move)
	}
	return batch
}

// unstick tries partitions again that stand still.
func (w *Worker) unstick(ctx context.Context) error {
	if len(w.stuck) == 0 || time.Now().Before(w.again) {
		return nil
	}
	return w.rewind(ctx)
}

// bare makes promises from the header of a damaged page. They fit no item, so they are parked.
func bare(page *seckill.Page) []seckill.Promise {
	promises := make([]seckill.Promise, len(page.Orders))
	for i, claimed := range page.Orders {
		promises[i] = seckill.Promise{Order: claimed.Order, Quantity: claimed.Quantity, Accepted: page.Put}
	}
	return promises
}

func (w *Worker) count(batch *seckill.Batch, accepted []seckill.Acceptance) {
	w.counts.Batches.Add(1)
	w.counts.Pages.Add(int64(len(batch.Pages)))
	w.counts.Letters.Add(int64(len(batch.Letters)))
	for i := range accepted {
		switch accepted[i].Outcome {
		case seckill.OutcomeOpened:
			w.counts.Opened.Add(1)
		case seckill.OutcomeExists:
			w.counts.Exists.Add(1)
		case seckill.OutcomeSkipped:
			w.counts.Skipped.Add(1)
		case seckill.OutcomeRejected:
			w.counts.Rejected.Add(1)
		case seckill.OutcomeParked:
			w.counts.Parked.Add(1)
		}
	}
}

// Teller confirms holds in the stock, concurrently with the worker. It also asks for the rebuild of
// shards whose database is behind, or whose promises were impossible. It is best effort: the
// sweeper and the auditor find what it misses. Told is safe for concurrent use.
type Teller struct {
	// Fixed after NewTeller.
	stock   seckill.Books
	suspect func(context.Context, inventory.Ref) error
	trace   *trace.Tracer
	log     *slog.Logger
	told    chan untold
	failing trouble // used by Run's goroutine only

	confirmed atomic.Int64
	dropped   atomic.Int64
	took      timing.Histogram
	oldest    timing.Moment // commit time of the orders that are being told now
}

// untold has the outcomes of a transaction, and its commit time.
type untold struct {
	at       time.Time
	accepted []seckill.Acceptance
}

// tellQueue is how many transactions may wait for the teller.
const tellQueue = 256

// NewTeller makes a teller. suspect asks for the rebuild of a shard; tracer may be nil.
func NewTeller(stock seckill.Books, suspect func(context.Context, inventory.Ref) error, tracer *trace.Tracer, log *slog.Logger) *Teller {
	return &Teller{stock: stock, suspect: suspect, trace: tracer, log: log, told: make(chan untold, tellQueue),
		failing: trouble{log: log, failing: "orders can't be confirmed, the sweeper will", over: "orders are confirmed again"}}
}

// Told passes the outcomes of a transaction to the teller. It does not block.
func (t *Teller) Told(accepted []seckill.Acceptance) {
	if len(accepted) == 0 {
		return
	}
	select {
	case t.told <- untold{time.Now(), accepted}:
	default:
		t.dropped.Add(int64(len(accepted)))
	}
}

// Took returns the times from an order's commit to the confirmation of its hold, and how long the
// oldest unconfirmed one has waited.
func (t *Teller) Took() (took *timing.Histogram, oldest time.Duration) {
	oldest, _ = t.oldest.Age()
	return &t.took, oldest
}

// Counts returns how many holds were confirmed, and how many orders were left to the sweeper.
func (t *Teller) Counts() (confirmed, dropped int64) { return t.confirmed.Load(), t.dropped.Load() }

// Run works until ctx ends.
func (t *Teller) Run(ctx context.Context) {
	for wait := true; wait; {
		wait = t.next(ctx, ctx.Done())
	}
}

// Step tells what waits now.
func (t *Teller) Step(ctx context.Context) error {
	for len(t.told) > 0 && t.next(ctx, ctx.Done()) {
	}
	return nil
}

// next tells what waits, together. It reports false when the process ends.
func (t *Teller) next(ctx context.Context, ended <-chan struct{}) bool {
	var first untold
	select {
	case <-ended:
		return false
	case first = <-t.told:
	}
	all := first.accepted
	for len(t.told) > 0 && len(all) < tellBatch {
		all = append(all, (<-t.told).accepted...)
	}
	t.oldest.Set(first.at)
	t.tell(ctx, all)
	t.oldest.Clear()
	t.took.Observe(time.Since(first.at))
	return true
}

// tellBatch is about how many orders are told in one call.
const tellBatch = 2_048

func (t *Teller) tell(ctx context.Context, accepted []seckill.Acceptance) {
	var holds byRef[inventory.Hold]
	for i := range accepted {
		a := &accepted[i]
		if a.Ahead || a.Outcome == seckill.OutcomeRejected {
			t.report(ctx, a)
		}
		if units := a.Order.Units; units == seckill.UnitsOpen || units == seckill.UnitsParked {
			hold := a.Order.Hold()
			hold.Seq = a.Order.Grant.Seq
			holds.add(a.Ref, hold)
		}
	}
	var why error
	for _, group := range holds {
		began := time.Now()
		err := t.stock.Confirm(ctx, group.ref, group.list)
		if t.trace != nil {
			t.traceConfirm(accepted, group.ref, began, err)
		}
		if err == nil {
			t.confirmed.Add(int64(len(group.list)))
			continue
		}
		t.dropped.Add(int64(len(group.list)))
		if !rebuilding(err) {
			why = err
		}
	}
	if len(holds) > 0 && ctx.Err() == nil {
		t.failing.note(why)
	}
}

// traceConfirm records the confirmation of the traced orders of a shard.
func (t *Teller) traceConfirm(accepted []seckill.Acceptance, ref inventory.Ref, began time.Time, err error) {
	now := time.Now()
	for i := range accepted {
		if a := &accepted[i]; a.Trace != "" && a.Ref == ref {
			t.trace.Span(trace.Context(a.Trace), "confirm", began, now, err != nil, trace.Attr{Key: "penstock.shard", Number: int64(ref.Shard)})
		}
	}
}

// report asks for a rebuild. If the request fails, the auditor will find the shard.
func (t *Teller) report(ctx context.Context, a *seckill.Acceptance) {
	if a.Outcome == seckill.OutcomeRejected {
		t.log.Error("an accepted order is impossible: a store lost what it had acknowledged",
			"order", a.Order.ID, "reason", a.Order.Reason)
	}
	if err := t.suspect(ctx, a.Ref); err != nil && ctx.Err() == nil {
		t.log.Error("can't ask for a rebuild", "shard", a.Ref.Shard, "err", err)
	}
}

package seckill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"penstock/inventory"
)

// Worker turns queue records into order rows: a batch of records, one transaction, then the offsets. What was committed to
// the store and not to the queue comes again and finds its rows. A record that can't become an order is kept as a dead
// letter, so that no partition ever stops on it. One Worker runs in one goroutine.
type Worker struct {
	// Fixed after NewWorker.
	stock Stock
	queue Queue
	store Store
	log   *slog.Logger

	counts WorkerCounts
}

// WorkerCounts counts what a worker made of records since it was made. Opened, Exists, Rejected, Skipped and Dead add up
// to the records it committed.
type WorkerCounts struct {
	Batches  atomic.Int64
	Opened   atomic.Int64
	Exists   atomic.Int64
	Rejected atomic.Int64
	Skipped  atomic.Int64
	Dead     atomic.Int64
	Retries  atomic.Int64 // transactions that failed and were tried again
}

// NewWorker makes a worker.
func NewWorker(stock Stock, queue Queue, store Store, log *slog.Logger) *Worker {
	return &Worker{stock: stock, queue: queue, store: store, log: log}
}

// Counts returns the worker's counters.
func (w *Worker) Counts() *WorkerCounts { return &w.counts }

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	pause := newBackoff()
	for ctx.Err() == nil {
		if err := w.Step(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("worker could not finish a batch, and tries again", "err", err)
			pause.wait(ctx)
			continue
		}
		pause.reset()
	}
}

// Step takes one batch from the queue all the way, and tries until ctx ends. After an error nothing was committed to the queue,
// and the batch comes again.
func (w *Worker) Step(ctx context.Context) error {
	messages, err := w.queue.Poll(ctx)
	if err != nil {
		return fmt.Errorf("poll the queue: %w", err)
	}
	records, letters := parseMessages(messages)
	if err := w.keepDead(ctx, letters); err != nil {
		return err
	}
	accepted, err := w.accept(ctx, records)
	if err != nil {
		return err
	}
	for pause := newBackoff(); ; {
		if err = w.queue.Commit(ctx); err == nil {
			break
		}
		if errors.Is(err, ErrFenced) || !w.again(ctx, pause, err) {
			return fmt.Errorf("commit offsets: %w", err) // the batch comes again, here or elsewhere, and finds its rows
		}
	}
	w.counts.Batches.Add(1)
	w.tell(ctx, accepted)
	return nil
}

// again reports a failed try and waits before the next; false means that ctx has ended.
func (w *Worker) again(ctx context.Context, pause *backoff, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	w.counts.Retries.Add(1)
	w.log.Warn("worker tries again", "err", err)
	return pause.wait(ctx)
}

// parsed is a record and the message it came in.
type parsed struct {
	record  Record
	message Message
}

// parseMessages separates records from messages that aren't any.
func parseMessages(messages []Message) (records []parsed, letters []DeadLetter) {
	records = make([]parsed, 0, len(messages))
	for _, m := range messages {
		record, err := ParseRecord(m.Value)
		if err != nil {
			letters = append(letters, m.letter(err.Error()))
			continue
		}
		records = append(records, parsed{record, m})
	}
	return records, letters
}

// letter makes a dead letter of the message.
func (m Message) letter(problem string) DeadLetter {
	return DeadLetter{Partition: m.Partition, Offset: m.Offset, Problem: problem, Value: m.Value}
}

// triesBeforeSplit is how often a batch may fail against a healthy store before it is halved in search of the culprit.
const triesBeforeSplit = 3

// accept brings the records into the store, whatever it takes. A store that is away is waited for. One that is well but
// refuses the batch time and again gets it in halves, and a record that it refuses alone becomes a dead letter.
func (w *Worker) accept(ctx context.Context, batch []parsed) ([]Acceptance, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	records := make([]Record, len(batch))
	for i := range batch {
		records[i] = batch[i].record
	}
	pause := newBackoff()
	for tries := 0; ; {
		accepted, err := w.store.Accept(ctx, records)
		if err == nil {
			return accepted, w.bury(ctx, batch, accepted)
		}
		if _, sick := w.store.FindOrders(ctx, []OrderID{records[0].Order}); sick == nil {
			tries++
		}
		if tries == triesBeforeSplit {
			return w.split(ctx, batch, err)
		}
		if !w.again(ctx, pause, err) {
			return nil, fmt.Errorf("accept %d records: %w", len(records), err)
		}
	}
}

// split accepts the halves of a batch that the store refuses, or buries a single record. That the store took the dead letter
// shows that it takes writes: one more try then tells a record that it will never take from an hour in which it took nothing,
// such as of a full disk or a primary that was made a replica. The letter stays; its replay finds the row.
func (w *Worker) split(ctx context.Context, batch []parsed, cause error) ([]Acceptance, error) {
	if len(batch) == 1 {
		if err := w.keepDead(ctx, []DeadLetter{batch[0].message.letter(cause.Error())}); err != nil {
			return nil, err
		}
		if accepted, err := w.store.Accept(ctx, []Record{batch[0].record}); err == nil {
			w.counts.Dead.Add(-1)
			return accepted, w.bury(ctx, batch, accepted)
		}
		return []Acceptance{{Outcome: OutcomeUnfit}}, nil
	}
	half := len(batch) / 2
	first, err := w.accept(ctx, batch[:half])
	if err != nil {
		return nil, err
	}
	second, err := w.accept(ctx, batch[half:])
	return append(first, second...), err
}

// bury keeps the records that the store's decision found unfit.
func (w *Worker) bury(ctx context.Context, batch []parsed, accepted []Acceptance) error {
	var letters []DeadLetter
	for i := range accepted {
		if accepted[i].Outcome == OutcomeUnfit {
			letters = append(letters, batch[i].message.letter("no item fits this record"))
		}
	}
	return w.keepDead(ctx, letters)
}

// keepDead keeps dead letters, however long it takes.
func (w *Worker) keepDead(ctx context.Context, letters []DeadLetter) error {
	for pause := newBackoff(); len(letters) > 0; {
		err := w.store.AddDeadLetters(ctx, letters)
		if err == nil {
			w.counts.Dead.Add(int64(len(letters)))
			w.log.Error("records became dead letters", "count", len(letters), "problem", letters[0].Problem)
			return nil
		}
		if !w.again(ctx, pause, err) {
			return fmt.Errorf("keep %d dead letters: %w", len(letters), err)
		}
	}
	return nil
}

// tell confirms the holds of orders that exist and asks for a rebuild of items that two buyers were sold. What fails here
// is left to the sweeper: the hold stays fresh.
func (w *Worker) tell(ctx context.Context, accepted []Acceptance) {
	var holds byRef[inventory.Hold]
	for i := range accepted {
		a := &accepted[i]
		ref := inventory.Ref{Item: a.Order.Item, Epoch: a.Epoch}
		switch a.Outcome {
		case OutcomeOpened:
			w.counts.Opened.Add(1)
		case OutcomeExists:
			w.counts.Exists.Add(1)
		case OutcomeSkipped:
			w.counts.Skipped.Add(1)
		case OutcomeRejected:
			w.counts.Rejected.Add(1)
			reportImpossible(ctx, w.store, w.log, a)
		}
		if (a.Outcome == OutcomeOpened || a.Outcome == OutcomeExists) && a.Order.Units == UnitsOpen {
			holds.add(ref, a.Order.Hold())
		}
	}
	for _, group := range holds {
		if err := w.stock.Confirm(ctx, group.ref, group.list); err != nil && ctx.Err() == nil {
			w.log.Warn("orders not confirmed, the sweeper will", "item", group.ref.Item, "epoch", group.ref.Epoch,
				"count", len(group.list), "err", err)
		}
	}
}

// reportImpossible asks for a rebuild of the item of a rejected order. What fails here is found by the auditor.
func reportImpossible(ctx context.Context, store Store, log *slog.Logger, a *Acceptance) {
	log.Error("an accepted order is impossible: a store lost what it had acknowledged", "order", a.Order.ID, "reason", a.Order.Reason)
	if err := store.MarkSuspect(ctx, inventory.Ref{Item: a.Order.Item, Epoch: a.Epoch}); err != nil {
		log.Error("can't ask for a rebuild", "item", a.Order.Item, "err", err)
	}
}

// byRef groups what goes to the same shard into one call, in the order of first appearance.
type byRef[T any] []refGroup[T]

type refGroup[T any] struct {
	ref  inventory.Ref
	list []T
}

// add puts v into the group of ref. Groups are few: a batch is mostly of one or two items.
func (g *byRef[T]) add(ref inventory.Ref, v T) {
	for i := range *g {
		if (*g)[i].ref == ref {
			(*g)[i].list = append((*g)[i].list, v)
			return
		}
	}
	*g = append(*g, refGroup[T]{ref, []T{v}})
}

// Hold returns the hold that stands behind the order.
func (o *Order) Hold() inventory.Hold {
	return inventory.Hold{ID: string(o.ID), Buyer: string(o.User), Quantity: o.Quantity}
}

// backoff doubles the pause between tries, from 20 ms to 2 s.
type backoff struct{ next time.Duration }

const (
	firstPause   = 20 * time.Millisecond
	longestPause = 2 * time.Second
)

func newBackoff() *backoff { return &backoff{firstPause} }

func (b *backoff) reset() { b.next = firstPause }

// wait pauses; false means that ctx has ended.
func (b *backoff) wait(ctx context.Context) bool {
	ok := pauseFor(ctx, b.next)
	b.next = min(2*b.next, longestPause)
	return ok
}

// pauseFor waits for d; false means that ctx has ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

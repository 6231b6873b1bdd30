package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// LogReader reads old records of the queue, independently of the workers.
type LogReader interface {
	// Between returns records of a range of time, and the place to go on; nil at the end.
	Between(ctx context.Context, s seckill.Stretch) ([]seckill.Message, *seckill.LogPlace, error)
}

// LogReplay selects the records to read again.
type LogReplay struct {
	seckill.Stretch
	Activity seckill.ActivityID // only orders of this activity; "" means all
	DryRun   bool               // nothing is made
}

// LogReplayed counts the promises of a part of the log by outcome. Existed, Made, Missing,
// Rejected, Parked and Skipped add up to Promises.
type LogReplayed struct {
	Records  int // read
	Damaged  int // those of them that can't be read completely
	Promises int // promises of the activity
	Existed  int // orders that had a row
	Made     int // orders that were made now
	Missing  int // in a dry run: orders that would be tried
	Rejected int // orders that are impossible now
	Parked   int // orders that fit no item now: they are dead letters
	// Skipped are promises that can't become orders any more. Either their shard was rebuilt since,
	// and a promise without a row was never acknowledged with a 202; or their activity was dropped.
	Skipped int
	Next    *seckill.LogPlace // nil at the end of the range
}

// ReplayLog reads a part of the log again, and makes the orders that have no row. It works as a
// worker does: seckill.DecideAccept decides under the locks of a worker's transaction, which makes
// an order only once (L4). No position moves. A second replay does no harm, and without missing
// orders nothing changes. If a promise shows that a store lost data, the shard becomes suspect, as
// with a worker.
//
// Each record is decided separately. If a later record fails, the results of the earlier ones are
// returned without an error, and Next is the place of the failed record: the next call begins
// there.
func (o *Office) ReplayLog(ctx context.Context, log LogReader, r LogReplay, by seckill.Author) (out LogReplayed, err error) {
	rows, err := o.store.Shards(ctx)
	if err != nil {
		return out, storeFailure("read the shards", err)
	}
	epochs := make(map[inventory.ShardID]inventory.Epoch, len(rows))
	for _, row := range rows {
		epochs[row.Ref.Shard] = row.Ref.Epoch
	}
	messages, next, err := log.Between(ctx, r.Stretch)
	if err != nil {
		return out, failure(seckill.CodeUnavailable, fmt.Errorf("read the log: %w", err))
	}
	out.Next = next
	for i := range messages {
		page, err := seckill.ParsePage(messages[i].Value)
		if err != nil {
			out.Records++
			out.Damaged++ // a worker has made dead letters from it, or stands still at it
			continue
		}
		page.Partition, page.Offset = messages[i].Partition, messages[i].Offset
		done := out
		if err := o.replayPage(ctx, &page, epochs[page.Ref.Shard], &r, by, &done); err != nil {
			if i > 0 {
				o.log.WarnContext(ctx, "a replay of the log ends early, and can be continued from there", "partition", page.Partition,
					"offset", page.Offset, "err", err)
				out.Next, err = &seckill.LogPlace{Partition: page.Partition, Offset: page.Offset}, nil
			}
			return out, err
		}
		done.Records++
		out = done
	}
	return out, nil
}

// replayPage makes the missing orders of a page.
func (o *Office) replayPage(ctx context.Context, page *seckill.Page, epoch inventory.Epoch, r *LogReplay, by seckill.Author,
	out *LogReplayed) error {
	asked := page.Promises[:0]
	for i := range page.Promises {
		if r.Activity == "" || page.Promises[i].Activity == r.Activity {
			asked = append(asked, page.Promises[i])
		}
	}
	out.Promises += len(asked)
	if len(asked) == 0 {
		return nil
	}
	ids := make([]seckill.OrderID, len(asked))
	for i := range asked {
		ids[i] = asked[i].Order
	}
	found, err := o.store.FindOrders(ctx, ids)
	if err != nil {
		return storeFailure("find the orders", err)
	}
	missing := asked[:0]
	for i := range asked {
		offer, known := o.desk.Catalog().Offer(asked[i].Item())
		switch {
		case found[i].ID != "":
			out.Existed++
		case page.Ref.Epoch < epoch || !known || !offer.Sale.Live(time.Now(), o.desk.cfg.Retention):
			out.Skipped++
		default:
			missing = append(missing, asked[i])
		}
	}
	if r.DryRun {
		out.Missing += len(missing)
		return nil
	}
	if len(missing) == 0 {
		return nil
	}
	page.Promises = missing
	accepted, err := o.store.Accept(ctx, seckill.Batch{Pages: []seckill.Page{*page}, By: by})
	if errors.Is(err, seckill.ErrLocked) {
		return failure(seckill.CodeUnavailable, fmt.Errorf("a stock row is locked, continue from here later: %w", err))
	}
	if err != nil {
		return storeFailure("accept promises", err)
	}
	suspect := false
	for i := range accepted {
		out.count(accepted[i].Outcome)
		suspect = suspect || accepted[i].Ahead || accepted[i].Outcome == seckill.OutcomeRejected
	}
	if suspect {
		if err := o.store.MarkSuspect(ctx, accepted[0].Ref); err != nil {
			// The orders have rows now, so a second replay would not ask for the rebuild.
			o.log.ErrorContext(ctx, "a store has lost data, and no rebuild could be requested: the audit must find it",
				"shard", page.Ref.Shard, "err", err)
		}
	}
	return nil
}

func (l *LogReplayed) count(outcome seckill.Outcome) {
	switch outcome {
	case seckill.OutcomeOpened:
		l.Made++
	case seckill.OutcomeExists:
		l.Existed++
	case seckill.OutcomeRejected:
		l.Rejected++
	case seckill.OutcomeParked:
		l.Parked++
	default:
		l.Skipped++
	}
}

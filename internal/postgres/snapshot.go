package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// snapshotPage is how many rows are read and passed on at once.
const snapshotPage = 20_000

// snapshotTime bounds each statement of a snapshot.
const snapshotTime = 5 * time.Minute

// snapshotSettings are the settings of a snapshot's transaction. The rows of a shard are found by
// the shard's index, read in the order in which they are on the disk, with many reads at once, and
// then sorted. An index in the order of the names would need a separate read for each row: a minute
// for a million rows that are not in memory. While load works, the session is idle for as long as
// Redis takes.
const snapshotSettings = `SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'off', true),
	set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true),
	set_config('cursor_tuple_fraction', '1', true), set_config('work_mem', '64MB', true),
	set_config('effective_io_concurrency', '64', true), set_config('idle_in_transaction_session_timeout', '2min', true)`

// The two parts of a snapshot. $2 are the hot items, and $3 says whether these are read or all
// others. Items of drafts are left out with their holds. But parked orders keep their units,
// whatever their item is.
const (
	snapshotItems = `SELECT s.item, s.total, s.open, s.sold, coalesce(e.parked, 0) FROM stock AS s
		JOIN items AS i ON i.id = s.item JOIN activities AS a USING (sale)
		LEFT JOIN stock_exceptions AS e ON e.item = s.item AND e.shard = s.shard
		WHERE s.shard = $1 AND a.published AND (s.item = ANY($2)) = $3 ORDER BY s.item`
	// The items on sale are found once: a subquery would be run again for each partition of orders.
	snapshotHolds = `WITH on_sale AS MATERIALIZED (
			SELECT s.item FROM stock AS s JOIN items AS i ON i.id = s.item JOIN activities AS a USING (sale)
			WHERE s.shard = $1 AND a.published)
		SELECT item, id AS name, "user", quantity, units FROM orders
			WHERE shard = $1 AND (item = ANY($2)) = $3 AND (units = 'parked' OR item IN (SELECT item FROM on_sale))
		UNION ALL SELECT item, hold, '', quantity, CASE WHEN buried THEN 'void' ELSE 'sold' END FROM withdrawals
			WHERE shard = $1 AND (item = ANY($2)) = $3 AND item IN (SELECT item FROM on_sale)
		ORDER BY item, name`
)

// Snapshot implements seckill.StockStore. A snapshot is taken only once in an epoch. After it stock
// changes are relayed, and a second snapshot would count those on their way twice.
func (s *Store) Snapshot(ctx context.Context, ref inventory.Ref, hot []inventory.ItemID,
	load func([]inventory.Stocked, []inventory.Entry) error) error {
	what := fmt.Sprintf("read a snapshot of shard %d in epoch %d", ref.Shard, ref.Epoch)
	if !s.calls.Enter() { // held while load runs, so that Close waits for it
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	conn, done, err := s.keep(ctx)
	if err != nil {
		return describe(what, err)
	}
	defer done()
	sn := &snapshot{pipe: s.newPipe(conn.Conn()), ref: ref, hot: make([]int64, len(hot)), load: load}
	for i, item := range hot {
		sn.hot[i] = int64(item)
	}
	// Until load is called for the first time, a snapshot that conflicts with another transaction
	// may begin again.
	err = s.retry(ctx, what, func() error { return errors.Join(sn.begin(ctx), sn.failed(ctx)) })
	if err == nil {
		err = errors.Join(sn.read(ctx), sn.rollback(ctx))
	}
	return describe(what, err)
}

// snapshot is a snapshot that is being read.
type snapshot struct {
	*pipe
	ref  inventory.Ref
	hot  []int64
	load func([]inventory.Stocked, []inventory.Entry) error
	bad  bool // begin has failed
}

// begin fixes the state that is read, and deletes the outbox rows that the state includes. They
// stay locked until the end, so a relay that has delivered one of them in an older epoch leaves it
// out.
func (sn *snapshot) begin(ctx context.Context) error {
	sn.bad = true
	sn.exec(beginSnapshot)
	current, err := sn.exists(ctx, `SELECT FROM shards AS s JOIN shard_loads AS l ON l.shard = s.id
		WHERE s.id = $1 AND s.epoch = $2 AND l.epoch < s.epoch`, int32(sn.ref.Shard), int64(sn.ref.Epoch))
	if err != nil {
		return err
	}
	if !current {
		return seckill.ErrFenced
	}
	sn.exec("DELETE FROM outbox WHERE shard = $1 AND stock", int32(sn.ref.Shard))
	sn.takesLong(snapshotTime)
	sn.exec(snapshotSettings)
	if err := sn.flush(ctx); err != nil {
		return err
	}
	sn.bad = false
	return nil
}

// failed rolls back what begin did not finish.
func (sn *snapshot) failed(ctx context.Context) error {
	if !sn.bad {
		return nil
	}
	sn.batch = new(pgx.Batch)
	return sn.rollback(ctx)
}

// read passes everything to load, hot items first, and commits.
func (sn *snapshot) read(ctx context.Context) error {
	parts := []bool{true, false}
	if len(sn.hot) == 0 {
		parts = parts[1:]
	}
	for _, hot := range parts {
		if err := sn.items(ctx, hot); err != nil {
			return err
		}
	}
	for _, hot := range parts {
		if err := sn.holds(ctx, hot); err != nil {
			return err
		}
	}
	sn.exec("UPDATE shard_loads SET epoch = $2 WHERE shard = $1", int32(sn.ref.Shard), int64(sn.ref.Epoch))
	sn.commit()
	return sn.flush(ctx)
}

func (sn *snapshot) items(ctx context.Context, hot bool) error {
	var page []inventory.Stocked
	return sn.pages(ctx, snapshotItems, hot, func(rows pgx.Rows) error {
		var item, total, open, sold, parked int64
		err := rows.Scan(&item, &total, &open, &sold, &parked)
		page = append(page, inventory.Stocked{
			// A shard that forgot its data can have promised more than there is: then the number of
			// available units is negative.
			Item: inventory.ItemID(item), Total: total, Available: total - open - sold - parked, Sold: sold,
		})
		return err
	}, func() error {
		done := page
		page = nil
		return sn.load(done, nil)
	})
}

func (sn *snapshot) holds(ctx context.Context, hot bool) error {
	page := make([]inventory.Entry, 0, snapshotPage)
	return sn.pages(ctx, snapshotHolds, hot, func(rows pgx.Rows) error {
		var e inventory.Entry
		var item, quantity int64
		var units string
		if err := rows.Scan(&item, &e.ID, &e.Buyer, &quantity, &units); err != nil {
			return err
		}
		e.Item, e.Quantity, e.State = inventory.ItemID(item), int(quantity), seckill.UnitState(units).HoldState()
		page = append(page, e)
		return nil
	}, func() error {
		done := page
		page = make([]inventory.Entry, 0, snapshotPage)
		return sn.load(nil, done)
	})
}

// pages reads a query page by page. If the process stops in between, the server ends the session,
// because it is idle in a transaction.
func (sn *snapshot) pages(ctx context.Context, text string, hot bool, scan func(pgx.Rows) error, page func() error) error {
	sn.exec("DECLARE page NO SCROLL CURSOR FOR "+text, int32(sn.ref.Shard), sn.hot, hot)
	for {
		n := 0
		sn.each(func(rows pgx.Rows) error {
			n++
			return scan(rows)
		}, fmt.Sprintf("FETCH %d FROM page", snapshotPage))
		if err := sn.flush(ctx); err != nil {
			return err
		}
		if n > 0 {
			if err := page(); err != nil {
				return err
			}
		}
		if n < snapshotPage {
			sn.exec("CLOSE page")
			return nil
		}
	}
}

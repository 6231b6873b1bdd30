package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func insertOutbox(tx *transaction, rows []seckill.Outgoing) {
	if len(rows) == 0 {
		return
	}
	n := len(rows)
	shards, items, quantities := make([]int32, n), make([]int64, n), make([]int64, n)
	kinds, stocks := make([]string, n), make([]bool, n)
	names, buyers := make([]string, n), make([]string, n)
	for i := range rows {
		r := rows[i].Row()
		shards[i], stocks[i] = int32(rows[i].Ref.Shard), rows[i].Stock
		kinds[i], items[i], names[i], buyers[i], quantities[i] = r.Kind, int64(r.Item), r.Name, r.Buyer, r.Quantity
	}
	tx.exec(`INSERT INTO outbox (shard, item, kind, stock, name, buyer, quantity)
		SELECT * FROM unnest($1::int[], $2::bigint[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::bigint[])`,
		shards, items, kinds, stocks, names, buyers, quantities)
}

// outgoing has the outbox rows of shards, each with its shard's epoch. Rows of a shard that no
// fence has opened yet are left out, because its first snapshot counts them. Stock changes are also
// left out until the snapshot of the shard's epoch was taken: it counts them, and deletes their
// rows.
const outgoing = `SELECT o.id, o.shard, s.epoch, o.item, o.kind, o.stock, o.name, o.buyer, o.quantity
	FROM shards AS s JOIN shard_loads AS l ON l.shard = s.id CROSS JOIN LATERAL (
		SELECT * FROM outbox WHERE outbox.shard = s.id AND id > $2 AND NOT (stock AND l.epoch <> s.epoch)
		ORDER BY id LIMIT $3
	) AS o
	WHERE s.id = ANY($1) AND s.epoch > 0 ORDER BY o.id LIMIT $3`

// outboxRows are rows that were read, with their keys.
type outboxRows struct {
	ids    []int64
	shards []int32
	rows   []seckill.Outgoing
}

func (o *outboxRows) scan(rows pgx.Rows) error {
	var id, epoch, item int64
	var shard int32
	var row seckill.OutboxRow
	var out seckill.Outgoing
	if err := rows.Scan(&id, &shard, &epoch, &item, &row.Kind, &out.Stock, &row.Name, &row.Buyer, &row.Quantity); err != nil {
		return err
	}
	out.Ref = inventory.Ref{Shard: inventory.ShardID(shard), Epoch: inventory.Epoch(epoch)}
	row.Item = inventory.ItemID(item)
	out.SetRow(&row)
	o.ids, o.shards, o.rows = append(o.ids, id), append(o.shards, shard), append(o.rows, out)
	return nil
}

// Relay implements seckill.OrderStore. No row is locked and no connection is used while deliver
// runs, so rows that can't be delivered cost only a read. Two relays may deliver the same rows,
// which does no harm.
func (s *Store) Relay(ctx context.Context, shards []inventory.ShardID, after int64, limit int,
	deliver func(context.Context, []seckill.Outgoing) []int) (int64, error) {
	const what = "relay the outbox"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d rows at most", what, limit)
	}
	if !s.calls.Enter() { // held while deliver runs, so that Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	var out outboxRows
	err := s.query(ctx, what, func(ctx context.Context, p *pipe) error {
		out = outboxRows{}
		p.each(out.scan, outgoing, shardColumn(shards), after, limit)
		return p.flush(ctx)
	})
	if err != nil || len(out.rows) == 0 {
		return 0, describe(what, err)
	}
	last := out.ids[len(out.ids)-1]
	var ids []int64
	var places []int32
	for _, index := range deliver(ctx, out.rows) {
		ids, places = append(ids, out.ids[index]), append(places, out.shards[index])
	}
	if len(ids) == 0 {
		return last, nil
	}
	// A snapshot or another relay may be about to delete the same rows; then it deletes them.
	err = s.transact(ctx, what, func(_ context.Context, tx *transaction) error {
		tx.exec(`DELETE FROM outbox AS o USING (
				SELECT o.shard, o.id FROM unnest($1::int[], $2::bigint[]) AS d (shard, id) JOIN outbox AS o USING (shard, id)
				FOR UPDATE OF o SKIP LOCKED
			) AS d WHERE o.shard = d.shard AND o.id = d.id`, places, ids)
		return nil
	})
	if err != nil {
		return 0, describe(what, err)
	}
	return last, nil
}

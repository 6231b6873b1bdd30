package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// bookColumns are the books of stock rows s, each with its item i, its activity a, its shard h, and
// its sums from the outbox.
const bookColumns = `s.item, i.sku, s.shard, h.epoch, a.published, s.total, s.open, s.sold, coalesce(e.parked, 0),
	coalesce(o.units, 0)::bigint, coalesce(o.stock, 0)::bigint, coalesce(e.skipped, 0), coalesce(e.rejected, 0)`

const bookJoins = ` JOIN shards AS h ON h.id = s.shard
	LEFT JOIN stock_exceptions AS e ON e.item = s.item AND e.shard = s.shard
	LEFT JOIN LATERAL (
		SELECT sum(quantity) FILTER (WHERE NOT stock) AS units,
			sum(CASE kind WHEN 'sold' THEN -quantity WHEN 'void' THEN 0 ELSE quantity END) FILTER (WHERE stock) AS stock
		FROM outbox WHERE outbox.shard = s.shard AND outbox.item = s.item
	) AS o ON true`

// One statement sees one consistent state.
const (
	activityBooks = "SELECT " + bookColumns + ` FROM activities AS a JOIN items AS i USING (sale) JOIN stock AS s ON s.item = i.id` +
		bookJoins + " WHERE a.id = $1 ORDER BY i.position, s.shard"
	shardBooks = "SELECT " + bookColumns + ` FROM (SELECT * FROM stock WHERE shard = $1 AND item > $2 ORDER BY item LIMIT $3) AS s
		JOIN items AS i ON i.id = s.item JOIN activities AS a USING (sale)` + bookJoins + " ORDER BY s.item"
)

func scanBook(rows pgx.Rows) (seckill.Book, error) {
	var b seckill.Book
	var item, epoch int64
	var shard int32
	err := rows.Scan(&item, (*string)(&b.SKU), &shard, &epoch, &b.Published, &b.Total, &b.Open, &b.Sold, &b.Parked,
		&b.PendingUnits, &b.PendingStock, &b.Skipped, &b.Rejected)
	b.Item, b.Shard, b.Epoch = inventory.ItemID(item), inventory.ShardID(shard), inventory.Epoch(epoch)
	return b, err
}

// ActivityBooks implements seckill.StockStore.
func (s *Store) ActivityBooks(ctx context.Context, id seckill.ActivityID) ([]seckill.Book, error) {
	return listByIndex(ctx, s, "read the books of activity "+string(id), scanBook, activityBooks, string(id))
}

// ShardBooks implements seckill.StockStore.
func (s *Store) ShardBooks(ctx context.Context, shard inventory.ShardID, after inventory.ItemID, limit int) ([]seckill.Book, error) {
	return list(ctx, s, fmt.Sprintf("read the books of shard %d", shard), scanBook,
		shardBooks, int32(shard), int64(after), max(limit, 0))
}

// Unpublished implements seckill.StockStore.
func (s *Store) Unpublished(ctx context.Context, id seckill.ActivityID) (int, error) {
	n := 0
	err := s.read(ctx, "count restocks of publication", func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, `SELECT count(*) FROM activities AS a JOIN items AS i USING (sale) JOIN outbox AS o ON o.item = i.id
			WHERE a.id = $1 AND o.kind = 'publish'`, []any{string(id)}, &n)
		return err
	})
	return n, err
}

package postgres

import (
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// queueChanges queues the changes of a decision. f has the orders that were read for it, and week
// returns the partition of new orders. The statements follow the common order of locks: the digests
// come last, because all writers of a shard need them.
func queueChanges(tx *transaction, f *found, week func(*seckill.Order) int32, c *seckill.Changes) {
	insertOrders(tx, week, c.Inserted)
	updateOrders(tx, f, week, c.Updated)
	updateStock(tx, c.Stock)
	insertOutbox(tx, c.Outbox)
	insertLetters(tx, c.Letters)
	writePayments(tx, c)
	insertSteps(tx, c.Steps)
	updateDigests(tx, c.Shards)
}

// updateStock queues changes of counts. Rows whose units change are locked already; the other rows
// change only their parked units.
func updateStock(tx *transaction, deltas map[seckill.StockKey]*seckill.StockDelta) {
	var items, open, sold []int64
	var shards []int32
	for _, key := range keysInOrder(deltas) {
		d := deltas[key]
		if d.Open != 0 || d.Sold != 0 {
			items, shards = append(items, int64(key.Item)), append(shards, int32(key.Shard))
			open, sold = append(open, d.Open), append(sold, d.Sold)
		}
		if d.Parked != 0 || d.Skipped != 0 || d.Rejected != 0 {
			addExceptions(tx, key, d)
		}
	}
	if len(items) > 0 {
		tx.exec(`UPDATE stock AS s SET open = s.open + c.open, sold = s.sold + c.sold
			FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[]) AS c (item, shard, open, sold)
			WHERE s.item = c.item AND s.shard = c.shard`, items, shards, open, sold)
	}
}

// addExceptions queues a change of an item's exceptions. A row can't start below zero, so the sum
// is computed before the insert.
func addExceptions(tx *transaction, key seckill.StockKey, d *seckill.StockDelta) {
	if d.Parked >= 0 {
		tx.exec(`INSERT INTO stock_exceptions AS e (item, shard, parked, skipped, rejected) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (item, shard) DO UPDATE SET parked = e.parked + excluded.parked,
				skipped = e.skipped + excluded.skipped, rejected = e.rejected + excluded.rejected`,
			int64(key.Item), int32(key.Shard), d.Parked, d.Skipped, d.Rejected)
		return
	}
	tx.exec(`UPDATE stock_exceptions SET parked = parked + $3, skipped = skipped + $4, rejected = rejected + $5
		WHERE item = $1 AND shard = $2`, int64(key.Item), int32(key.Shard), d.Parked, d.Skipped, d.Rejected)
}

// digestSlots is how many rows a shard's digests have.
const digestSlots = 16

// updateDigests queues changes of the shards' digests. The slot is chosen by the backend, and two
// transactions of one backend never run at once. So transactions that write at the same time seldom
// wait for each other. It is the last lock that a transaction takes, and the commit is in the same
// round trip.
func updateDigests(tx *transaction, deltas map[inventory.ShardID]*seckill.ShardDelta) {
	var shards []int32
	var open, sold []int64
	for _, shard := range inOrder(deltas) {
		if d := deltas[shard]; *d != (seckill.ShardDelta{}) {
			shards, open, sold = append(shards, int32(shard)), append(open, int64(d.Open)), append(sold, int64(d.Sold))
		}
	}
	if len(shards) == 0 {
		return
	}
	if len(shards) > 1 { // because an UPDATE locks its rows in the order of its plan
		tx.exec(`SELECT FROM shard_digests WHERE shard = ANY($1) AND slot = pg_backend_pid() % $2::int
			ORDER BY shard FOR NO KEY UPDATE`, shards, digestSlots)
	}
	tx.exec(`UPDATE shard_digests AS d SET open = (d.open + c.open) % $5::bigint, sold = (d.sold + c.sold) % $5::bigint
		FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS c (shard, open, sold)
		WHERE d.shard = c.shard AND d.slot = pg_backend_pid() % $4::int`,
		shards, open, sold, digestSlots, int64(inventory.DigestModulus))
}

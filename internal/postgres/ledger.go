package postgres

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// keysInOrder are the keys of stock rows, in the order in which all transactions lock them.
func keysInOrder[V any](m map[seckill.StockKey]V) []seckill.StockKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b seckill.StockKey) int {
		return cmp.Or(cmp.Compare(a.Item, b.Item), cmp.Compare(a.Shard, b.Shard))
	})
}

// keyColumns are keys as two columns.
func keyColumns(keys []seckill.StockKey) (items []int64, shards []int32) {
	items, shards = make([]int64, len(keys)), make([]int32, len(keys))
	for i, key := range keys {
		items[i], shards[i] = int64(key.Item), int32(key.Shard)
	}
	return items, shards
}

func scanKey(rows pgx.Rows, rest ...any) (seckill.StockKey, error) {
	var item int64
	var shard int32
	err := rows.Scan(append([]any{&item, &shard}, rest...)...)
	return seckill.StockKey{Item: inventory.ItemID(item), Shard: inventory.ShardID(shard)}, err
}

// ledgers has the stock rows of given keys, with the data of their items that decisions need.
const ledgers = `SELECT s.item, s.shard, a.id, a.merchant, i.sku, i.price, i.currency, i.per_user, a.payment_window,
		s.total, s.open, s.sold
	FROM unnest($1::bigint[], $2::int[]) AS k (item, shard) JOIN stock AS s USING (item, shard)
	JOIN items AS i ON i.id = s.item JOIN activities AS a USING (sale)`

// The ways to lock stock rows, always in their order: waiting for locked rows, or leaving them out.
const (
	lockLedgers     = ledgers + " ORDER BY s.item, s.shard FOR NO KEY UPDATE OF s"
	lockFreeLedgers = lockLedgers + " SKIP LOCKED"
)

// exceptions has the parked units of given keys. It is a separate statement after the one that
// takes the locks, so it sees everything that the former holders of the locks have committed.
const exceptions = `SELECT e.item, e.shard, e.parked FROM unnest($1::bigint[], $2::int[]) AS k (item, shard)
	JOIN stock_exceptions AS e USING (item, shard) WHERE e.parked > 0`

// queueLedgers queues the reading of stock rows by one of the texts above. They are in the result
// after the flush.
func queueLedgers(p *pipe, text string, keys []seckill.StockKey) map[seckill.StockKey]*seckill.Ledger {
	found := make(map[seckill.StockKey]*seckill.Ledger, len(keys))
	if len(keys) == 0 {
		return found
	}
	items, shards := keyColumns(keys)
	p.lock(func(rows pgx.Rows) error {
		l, window := new(seckill.Ledger), int64(0)
		key, err := scanKey(rows, (*string)(&l.Activity), (*string)(&l.Merchant), (*string)(&l.SKU), &l.Price.Minor,
			&l.Price.Currency, &l.PerUser, &window, &l.Total, &l.Open, &l.Sold)
		l.PaymentWindow = time.Duration(window)
		found[key] = l
		return err
	}, text, items, shards)
	p.each(func(rows pgx.Rows) error {
		var parked int64
		key, err := scanKey(rows, &parked)
		if l := found[key]; l != nil {
			l.Parked = parked
		}
		return err
	}, exceptions, items, shards)
	return found
}

// queueKeys queues a query for which stock rows exist, locked or not.
func queueKeys(p *pipe, keys []seckill.StockKey) map[seckill.StockKey]bool {
	there := make(map[seckill.StockKey]bool, len(keys))
	items, shards := keyColumns(keys)
	p.each(func(rows pgx.Rows) error {
		key, err := scanKey(rows)
		there[key] = true
		return err
	}, `SELECT s.item, s.shard FROM unnest($1::bigint[], $2::int[]) AS k (item, shard) JOIN stock AS s USING (item, shard)`,
		items, shards)
	return there
}

// queueEpochs queues the reading of shards' epochs, and locks the rows FOR SHARE, so that no fence
// commits meanwhile. FOR KEY SHARE would be too weak, because it allows an UPDATE. With how "", it
// waits for the rows.
func queueEpochs(p *pipe, how string, shards []int32) map[inventory.ShardID]inventory.Epoch {
	epochs := make(map[inventory.ShardID]inventory.Epoch, len(shards))
	slices.Sort(shards)
	p.each(func(rows pgx.Rows) error {
		var shard int32
		var epoch int64
		err := rows.Scan(&shard, &epoch)
		epochs[inventory.ShardID(shard)] = inventory.Epoch(epoch)
		return err
	}, "SELECT id, epoch FROM shards WHERE id = ANY($1) ORDER BY id FOR SHARE"+how, slices.Compact(shards))
	return epochs
}

// skipLocked leaves out rows that another transaction has locked.
const skipLocked = " SKIP LOCKED"

// setLockTimeout queues a bound on how long the later statements wait for a row, until the
// transaction ends or resetLockTimeout is called.
func setLockTimeout(p *pipe, d time.Duration) {
	p.exec("SELECT set_config('lock_timeout', $1, true)", d.String())
}

// resetLockTimeout restores the session's own bound.
func resetLockTimeout(p *pipe) { p.exec("SET LOCAL lock_timeout TO DEFAULT") }

// ordersOfBuyers has the orders of buyers whose units count, and those of given ids. All orders of
// a buyer and an item have ids with the same head, so they are a range of the primary key: no
// further index is needed, and one query finds both. OFFSET 0 keeps the planner from making a join
// of it. For a join by two inequalities it would expect a ninth of the table, and read through the
// table for each buyer.
const ordersOfBuyers = "SELECT week, " + orderColumns + ` FROM unnest($2::text[]) AS b (head) CROSS JOIN LATERAL (
		SELECT * FROM orders WHERE week = $1 AND id >= b.head AND id < b.head || '~' ORDER BY id OFFSET 0
	) AS o WHERE units IN ('open', 'sold') OR id = ANY($3)`

// boughtBy is the same query for buyers of whom only the units are needed.
const boughtBy = `SELECT o.item, o."user", sum(o.quantity)::bigint FROM unnest($2::text[]) AS b (head) CROSS JOIN LATERAL (
		SELECT item, "user", quantity FROM orders WHERE week = $1 AND id >= b.head AND id < b.head || '~'
			AND units IN ('open', 'sold') ORDER BY id OFFSET 0
	) AS o GROUP BY 1, 2`

// buyers are the buyers whose units are read, by the weeks of the items.
type buyers struct {
	bought map[seckill.BuyerKey]int64
	heads  map[int32][]string
}

func newBuyers() *buyers {
	return &buyers{make(map[seckill.BuyerKey]int64), make(map[int32][]string)}
}

// add requests the units of an order's item that its buyer has. The item must have a home.
func (b *buyers) add(h home, id seckill.OrderID, item inventory.ItemID, user seckill.UserID) {
	key := seckill.BuyerKey{Item: item, User: user}
	if _, asked := b.bought[key]; !asked {
		b.bought[key] = 0
		b.heads[h.week] = append(b.heads[h.week], inventory.Head(string(id)))
	}
}

// queue queues the reading of the units.
func (b *buyers) queue(p *pipe) map[seckill.BuyerKey]int64 {
	for _, week := range inOrder(b.heads) {
		p.each(func(rows pgx.Rows) error {
			var item, units int64
			var user string
			err := rows.Scan(&item, &user, &units)
			b.bought[seckill.BuyerKey{Item: inventory.ItemID(item), User: seckill.UserID(user)}] = units
			return err
		}, boughtBy, week, b.heads[week])
	}
	return b.bought
}

// orderStock locks the stock rows of orders whose units are open, except rows that another
// transaction has locked.
const orderStock = `SELECT s.item, s.shard FROM stock AS s JOIN (
		SELECT DISTINCT item, shard FROM orders WHERE week = $1 AND id = ANY($2) AND units = 'open'
	) AS o USING (item, shard) ORDER BY s.item, s.shard FOR NO KEY UPDATE OF s SKIP LOCKED`

// queueOrderStock queues the locking of the stock rows whose units the orders may change.
func queueOrderStock(p *pipe, pl places) map[seckill.StockKey]bool {
	held := make(map[seckill.StockKey]bool)
	for _, week := range inOrder(pl.ids) {
		if week == strays {
			continue // no order there is open
		}
		p.each(func(rows pgx.Rows) error {
			key, err := scanKey(rows)
			held[key] = true
			return err
		}, orderStock, week, pl.ids[week])
	}
	return held
}

// stockPatience is how long the end of an order waits for its stock row. A worker that makes orders
// of a hot item has the row locked nearly all the time, but never for longer than a batch. Without
// any wait, an end of an order would hardly ever find it free. The other orders of the call wait no
// longer than this.
const stockPatience = 100 * time.Millisecond

// awaitStock waits for the stock rows that were locked, and adds them to held. Rows that stay
// locked too long are left out.
func (tx *transaction) awaitStock(ctx context.Context, held map[seckill.StockKey]bool, wanted []seckill.StockKey) error {
	missing := make(map[seckill.StockKey]bool)
	for _, key := range wanted {
		if !held[key] {
			missing[key] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	items, shards := keyColumns(keysInOrder(missing))
	var got []seckill.StockKey
	tx.exec("SAVEPOINT stock")
	setLockTimeout(tx.pipe, stockPatience)
	tx.lock(func(rows pgx.Rows) error {
		key, err := scanKey(rows)
		got = append(got, key)
		return err
	}, `SELECT s.item, s.shard FROM unnest($1::bigint[], $2::int[]) AS k (item, shard) JOIN stock AS s USING (item, shard)
		ORDER BY s.item, s.shard FOR NO KEY UPDATE OF s`, items, shards)
	resetLockTimeout(tx.pipe)
	err := tx.flush(ctx)
	if errors.Is(err, seckill.ErrLocked) {
		_, err = tx.change(ctx, "ROLLBACK TO SAVEPOINT stock")
		return err
	}
	if err != nil {
		return err
	}
	for _, key := range got {
		held[key] = true
	}
	return nil
}

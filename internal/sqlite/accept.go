package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Accept implements seckill.OrderStore. The write lock replaces the locks on the rows of shards and
// items: nothing that was read can change before the commit.
func (s *Store) Accept(ctx context.Context, b seckill.Batch) ([]seckill.Acceptance, error) {
	if len(b.Pages) == 0 && len(b.Letters) == 0 && len(b.Moves) == 0 {
		return nil, nil
	}
	var out []seckill.Acceptance
	err := s.write(ctx, "accept a batch", func(ctx context.Context, tx *transaction) error {
		out = nil
		if err := tx.move(ctx, b.Moves); err != nil {
			return err
		}
		in, err := tx.readInput(ctx, claimsOf(b.Pages))
		if err != nil {
			return err
		}
		changes := seckill.NewChanges()
		for i := range b.Pages {
			out = append(out, seckill.DecideAccept(&b.Pages[i], in, changes)...)
		}
		if !b.Park {
			if err := seckill.CheckLocked(out); err != nil {
				return err
			}
		}
		if err := tx.writeChanges(ctx, changes); err != nil {
			return err
		}
		if err := tx.keepLetters(ctx, seckill.MergeLetters(b.Letters, changes.Letters)); err != nil || b.By == (seckill.Author{}) {
			return err
		}
		records, err := seckill.RecordAccepted(out)
		for i := 0; i < len(records) && err == nil; i++ {
			err = tx.record(ctx, b.By, records[i])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// move moves positions, if they are still those from which the batch was read.
func (tx *transaction) move(ctx context.Context, moves []seckill.Move) error {
	for i := range moves {
		from, to := &moves[i].From, &moves[i].To
		if from.Topic != to.Topic || from.Partition != to.Partition {
			return fmt.Errorf("a move from one partition to another: %+v", moves[i])
		}
		n, err := tx.change(ctx, `UPDATE positions SET next = ?, leader_epoch = ?
			WHERE "partition" = ? AND topic = ? AND next = ? AND leader_epoch = ?`,
			to.Next, to.LeaderEpoch, from.Partition, from.Topic[:], from.Next, from.LeaderEpoch)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("partition %d: %w from offset %d", from.Partition, seckill.ErrMoved, from.Next)
		}
	}
	return nil
}

// claim has the keys that a promise or a parked order needs: its row, its stock row, its buyer.
type claim struct {
	order seckill.OrderID
	key   seckill.StockKey
	user  seckill.UserID
}

func claimsOf(pages []seckill.Page) []claim {
	var out []claim
	for i := range pages {
		for k := range pages[i].Promises {
			r := &pages[i].Promises[k]
			key := seckill.StockKey{Item: r.Item(), Shard: pages[i].Ref.Shard}
			out = append(out, claim{r.Order, key, r.User})
		}
	}
	return out
}

func claimOf(o *seckill.Order) claim { return claim{o.ID, o.Stock(), o.User} }

// readInput reads the data for decisions about claims.
func (tx *transaction) readInput(ctx context.Context, claims []claim) (*seckill.AcceptInput, error) {
	in := &seckill.AcceptInput{Locked: tx.locked, Now: tx.now, Bought: make(map[seckill.BuyerKey]int64)}
	ids := make([]seckill.OrderID, len(claims))
	keys := make([]seckill.StockKey, len(claims))
	for i := range claims {
		ids[i], keys[i] = claims[i].order, claims[i].key
	}
	var err error
	if in.Epochs, err = tx.epochs(ctx, keys); err != nil {
		return nil, err
	}
	if in.Stock, err = tx.ledgers(ctx, keys); err != nil {
		return nil, err
	}
	if in.Existing, err = findOrders(ctx, tx, ids); err != nil {
		return nil, err
	}
	return in, tx.readBought(ctx, claims, in)
}

// epochs reads the epochs of the keys' shards.
func (tx *transaction) epochs(ctx context.Context, keys []seckill.StockKey) (map[inventory.ShardID]inventory.Epoch, error) {
	out := make(map[inventory.ShardID]inventory.Epoch)
	var shards []inventory.ShardID
	for _, key := range keys {
		if _, known := out[key.Shard]; !known {
			out[key.Shard] = 0
			shards = append(shards, key.Shard)
		}
	}
	rows, err := tx.query(ctx, "SELECT id, epoch FROM shards WHERE id IN (SELECT value FROM json_each(?))", list(shards))
	err = each(rows, err, func(rows *sql.Rows) error {
		var shard inventory.ShardID
		var epoch inventory.Epoch
		err := rows.Scan(&shard, &epoch)
		out[shard] = epoch
		return err
	})
	return out, err
}

func bindKey(args []any, key *seckill.StockKey) []any {
	return append(args, int64(key.Item), int64(key.Shard))
}

// parkedOf is the sum of the parked units of the stock row s. It is read from the orders: see the
// schema.
const parkedOf = `(SELECT ifnull(sum(quantity), 0) FROM orders
	WHERE orders.shard = s.shard AND orders.item = s.item AND orders.units = 'parked')`

// ledgers reads stock rows with what decisions need of their items. Rows that don't exist are left
// out.
func (tx *transaction) ledgers(ctx context.Context, keys []seckill.StockKey) (map[seckill.StockKey]*seckill.Ledger, error) {
	out := make(map[seckill.StockKey]*seckill.Ledger)
	var wanted []seckill.StockKey
	for _, key := range keys {
		if _, known := out[key]; !known {
			out[key] = nil
			wanted = append(wanted, key)
		}
	}
	clear(out)
	err := lookup(ctx, tx, `SELECT s.item, s.shard, i.activity, a.merchant, i.sku, i.price, i.currency, i.per_user,
			a.payment_window, s.total, s.open, s.sold, `+parkedOf+`
		FROM (VALUES {(?,?)}) AS k CROSS JOIN stock AS s ON s.item = k.column1 AND s.shard = k.column2
		CROSS JOIN items AS i ON i.id = s.item CROSS JOIN activities AS a ON a.id = i.activity`,
		nil, wanted, bindKey, func(rows *sql.Rows) error {
			var key seckill.StockKey
			l := new(seckill.Ledger)
			err := rows.Scan(&key.Item, &key.Shard, &l.Activity, &l.Merchant, &l.SKU, &l.Price.Minor, &l.Price.Currency,
				&l.PerUser, &l.PaymentWindow, &l.Total, &l.Open, &l.Sold, &l.Parked)
			out[key] = l
			return err
		})
	return out, err
}

// readBought reads how many units the buyers of claims have, if that matters: for items with a
// limit, and claims that are not orders yet.
func (tx *transaction) readBought(ctx context.Context, claims []claim, in *seckill.AcceptInput) error {
	var buyers []seckill.BuyerKey
	for i := range claims {
		c := &claims[i]
		row := in.Stock[c.key]
		if existing, exists := in.Existing[c.order]; row == nil || row.PerUser == 0 ||
			exists && existing.State != seckill.OrderParked {
			continue
		}
		key := seckill.BuyerKey{Item: c.key.Item, User: c.user}
		if _, asked := in.Bought[key]; !asked {
			in.Bought[key] = 0
			buyers = append(buyers, key)
		}
	}
	bind := func(args []any, b *seckill.BuyerKey) []any { return append(args, int64(b.Item), string(b.User)) }
	return lookup(ctx, tx, `SELECT item, user, quantity FROM (VALUES {(?,?)}) AS buyer
		CROSS JOIN orders ON orders.item = buyer.column1 AND orders.user = buyer.column2 AND units IN ('open', 'sold')`,
		nil, buyers, bind, func(rows *sql.Rows) error {
			var key seckill.BuyerKey
			var units int64
			err := rows.Scan(&key.Item, &key.User, &units)
			in.Bought[key] += units
			return err
		})
}

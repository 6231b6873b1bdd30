package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

const orderColumns = `id, item, merchant, caller, activity, sku, "user", quantity, amount, currency, state, reason,
	units, created_at, pay_by, updated_at, ended_at, shard, epoch, seq, "partition", "offset", request, node, accepted`

// scanOrder scans the columns of an order, after other columns that go to first.
func scanOrder(rows pgx.Rows, first ...any) (seckill.Order, error) {
	var o seckill.Order
	var item, epoch, seq int64
	var shard int32
	var ended *time.Time
	err := rows.Scan(append(first, (*string)(&o.ID), &item, (*string)(&o.Caller.Merchant),
		(*string)(&o.Caller.Caller), (*string)(&o.Activity), (*string)(&o.SKU), (*string)(&o.User), &o.Quantity,
		&o.Amount.Minor, &o.Amount.Currency, (*string)(&o.State), (*string)(&o.Reason), (*string)(&o.Units),
		&o.CreatedAt, &o.PayBy, &o.UpdatedAt, &ended, &shard, &epoch, &seq, &o.Grant.Partition, &o.Grant.Offset,
		&o.Request, &o.Node, &o.Accepted)...)
	o.Item = inventory.ItemID(item)
	o.CreatedAt, o.PayBy, o.UpdatedAt = o.CreatedAt.UTC(), o.PayBy.UTC(), o.UpdatedAt.UTC()
	o.Accepted = o.Accepted.UTC()
	o.EndedAt = orZero(ended)
	o.Grant.Shard, o.Grant.Epoch, o.Grant.Seq = inventory.ShardID(shard), inventory.Epoch(epoch), uint64(seq)
	return o, err
}

// orNull and orZero keep the zero time as NULL.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// found are orders that were read, and the partitions in which they are.
type found struct {
	orders map[seckill.OrderID]seckill.Order
	in     map[seckill.OrderID]int32
	parked map[seckill.OrderID]bool // orders that were parked when they were read
}

func newFound() *found {
	return &found{
		make(map[seckill.OrderID]seckill.Order), make(map[seckill.OrderID]int32), make(map[seckill.OrderID]bool),
	}
}

func (f *found) scan(rows pgx.Rows) error {
	_, err := f.add(rows)
	return err
}

// add scans an order after its week, and returns it.
func (f *found) add(rows pgx.Rows) (seckill.Order, error) {
	var week int32
	o, err := scanOrder(rows, &week)
	f.orders[o.ID], f.in[o.ID] = o, week
	if o.State == seckill.OrderParked {
		f.parked[o.ID] = true
	}
	return o, err
}

// stay gives orders the partitions in which they are.
func (f *found) stay(o *seckill.Order) int32 { return f.in[o.ID] }

// One statement names one week, so that one partition is planned and locked, no matter how many
// there are.
const (
	findOrders = "SELECT week, " + orderColumns + " FROM orders WHERE week = $1 AND id = ANY($2)"
	// awaitOrders waits for locked rows; lockOrders skips them. All lock rows in the same order.
	awaitOrders = findOrders + " ORDER BY id FOR NO KEY UPDATE"
	lockOrders  = awaitOrders + skipLocked
)

// queueOrders queues the reading of the orders that exist; they are in the result after the flush.
func queueOrders(p *pipe, text string, pl places) *found {
	f := newFound()
	for _, week := range inOrder(pl.ids) {
		p.each(f.scan, text, week, pl.ids[week])
	}
	return f
}

// FindOrders implements seckill.OrderStore.
func (s *Store) FindOrders(ctx context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	out := make([]seckill.Order, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	err := s.read(ctx, "find orders", func(ctx context.Context, p *pipe) error {
		pl, err := s.placesOf(ctx, p, ids)
		if err != nil {
			return err
		}
		f := queueOrders(p, findOrders, pl)
		if err := p.flush(ctx); err != nil {
			return err
		}
		for i, id := range ids {
			out[i] = f.orders[id]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ordersOf are the ids of an item's orders in its own partition and among the strays. An order's id
// begins with its item, so these ids are a range of the primary key in each of the two.
const ordersOf = `SELECT id FROM (
		(SELECT id FROM orders WHERE week = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4) UNION ALL
		(SELECT id FROM orders WHERE week = 0 AND $1 <> 0 AND id > $2 AND id < $3 ORDER BY id LIMIT $4)
	) AS o ORDER BY id LIMIT $4`

// OrdersOf implements seckill.OrderStore.
func (s *Store) OrdersOf(ctx context.Context, item inventory.ItemID, after seckill.OrderID, limit int) ([]seckill.OrderID, error) {
	var out []seckill.OrderID
	err := s.read(ctx, "list the orders of an item", func(ctx context.Context, p *pipe) error {
		out = nil
		known, err := s.homesOf(ctx, p, []inventory.ItemID{item})
		if err != nil {
			return err
		}
		from, to := rangeOf(item)
		p.each(func(rows pgx.Rows) error {
			var id seckill.OrderID
			err := rows.Scan((*string)(&id))
			out = append(out, id)
			return err
		}, ordersOf, known[item].week, max(from, string(after)), to, max(limit, 0))
		return p.flush(ctx)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// idAlphabet are the digits of an order id, in their order.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// rangeOf returns two texts: the ids of an item's orders are above the first and below the second.
// Six digits have the first 30 bits of the item, the seventh its last two and three of the buyer's
// digest.
func rangeOf(item inventory.ItemID) (from, to string) {
	var digits [7]byte
	for i, rest := 0, uint64(item)<<3; i < len(digits); i++ {
		digits[len(digits)-1-i] = idAlphabet[rest&31]
		rest >>= 5
	}
	from = string(digits[:])
	digits[6] = idAlphabet[uint64(item)<<3&31|7]
	return from, string(digits[:]) + "~"
}

// insertOrders queues new rows, each with its partition. One statement takes them as columns, so
// that its fixed cost is the same for one row and for hundreds. The values that the orders of an
// item share are sent as separate rows and joined, because the cost of a row depends mostly on its
// number of columns.
func insertOrders(tx *transaction, week func(*seckill.Order) int32, orders []seckill.Order) {
	if len(orders) == 0 {
		return
	}
	var c commonRows
	places := make(map[common]int32, 4)
	n := len(orders)
	in, quantities, amounts := make([]int32, n), make([]int32, n), make([]int64, n)
	ids, users, requests, accepted := make([]string, n), make([]string, n), make([]string, n), make([]time.Time, n)
	for i := range orders {
		o := &orders[i]
		shared := commonOf(o, week(o))
		at, ok := places[shared]
		if !ok {
			at = c.add(&shared)
			places[shared] = at
		}
		in[i], quantities[i], amounts[i], accepted[i] = at, int32(o.Quantity), o.Amount.Minor, o.Accepted
		ids[i], users[i], requests[i] = string(o.ID), string(o.User), o.Request
	}
	tx.exec(`INSERT INTO orders (week, id, item, merchant, caller, activity, sku, "user", quantity, amount, currency, state,
			reason, units, created_at, pay_by, updated_at, ended_at, shard, epoch, seq, "partition", "offset", request, node, accepted)
		SELECT c.week, o.id, c.item, c.merchant, c.caller, c.activity, c.sku, o."user", o.quantity, o.amount, c.currency, c.state,
			c.reason, c.units, c.created_at, c.pay_by, c.updated_at, c.ended_at, c.shard, c.epoch, c.seq, c."partition", c."offset",
			o.request, c.node, o.accepted
		FROM unnest($1::int[], $2::text[], $3::text[], $4::int[], $5::bigint[], $6::text[], $7::timestamptz[])
			AS o (place, id, "user", quantity, amount, request, accepted)
		JOIN unnest($8::int[], $9::int[], $10::bigint[], $11::int[], $12::bigint[], $13::bigint[], $14::timestamptz[], $15::timestamptz[],
			$16::timestamptz[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[],
			$25::text[], $26::timestamptz[], $27::int[], $28::bigint[])
			AS c (place, week, item, shard, epoch, seq, created_at, pay_by, updated_at, merchant, caller, activity, sku, currency,
				state, reason, units, node, ended_at, "partition", "offset") USING (place)`,
		in, ids, users, quantities, amounts, requests, accepted,
		c.places, c.weeks, c.items, c.shards, c.epochs, c.seqs, c.created, c.payBy, c.updated, c.merchants, c.callers, c.activities,
		c.skus, c.currencies, c.states, c.reasons, c.units, c.nodes, c.ended, c.partitions, c.offsets)
}

// common is what many orders of a batch share.
type common struct {
	week                    int32
	item                    inventory.ItemID
	grant                   seckill.Provenance
	created, payBy, updated int64 // microseconds
	ended                   time.Time
	caller                  seckill.CallerRef
	activity                seckill.ActivityID
	sku                     seckill.SKU
	currency, node          string
	state                   seckill.OrderState
	reason                  seckill.Reason
	units                   seckill.UnitState
}

func commonOf(o *seckill.Order, week int32) common {
	return common{
		week, o.Item, o.Grant, o.CreatedAt.UnixMicro(), o.PayBy.UnixMicro(), o.UpdatedAt.UnixMicro(), o.EndedAt, o.Caller, o.Activity, o.SKU,
		o.Amount.Currency, o.Node, o.State, o.Reason, o.Units,
	}
}

// commonRows are the different values of common in a batch, as columns.
type commonRows struct {
	places, weeks, shards, partitions         []int32
	items, epochs, seqs, offsets              []int64
	created, payBy, updated                   []time.Time
	ended                                     []*time.Time
	merchants, callers, activities, skus      []string
	currencies, states, reasons, units, nodes []string
}

// add adds a row and returns its place.
func (c *commonRows) add(r *common) int32 {
	place := int32(len(c.places))
	c.places, c.weeks, c.shards = append(c.places, place), append(c.weeks, r.week), append(c.shards, int32(r.grant.Shard))
	c.items, c.epochs = append(c.items, int64(r.item)), append(c.epochs, int64(r.grant.Epoch))
	c.seqs, c.created = append(c.seqs, int64(r.grant.Seq)), append(c.created, time.UnixMicro(r.created))
	c.payBy, c.updated = append(c.payBy, time.UnixMicro(r.payBy)), append(c.updated, time.UnixMicro(r.updated))
	c.merchants, c.callers = append(c.merchants, string(r.caller.Merchant)), append(c.callers, string(r.caller.Caller))
	c.activities, c.skus = append(c.activities, string(r.activity)), append(c.skus, string(r.sku))
	c.currencies, c.nodes = append(c.currencies, r.currency), append(c.nodes, r.node)
	c.states, c.reasons = append(c.states, string(r.state)), append(c.reasons, string(r.reason))
	c.units, c.ended = append(c.units, string(r.units)), append(c.ended, orNull(r.ended))
	c.partitions, c.offsets = append(c.partitions, r.grant.Partition), append(c.offsets, r.grant.Offset)
	return place
}

// target is the new state of orders, and their partition. A batch has few targets, so it is written
// in few statements.
type target struct {
	week    int32
	state   seckill.OrderState
	reason  seckill.Reason
	units   seckill.UnitState
	updated time.Time
	ended   bool // at the time of the change
}

// updateOrders queues the changed orders. An order that was parked may have changed completely,
// because its record was read again; it moves to its item's partition.
func updateOrders(tx *transaction, f *found, week func(*seckill.Order) int32, orders []seckill.Order) {
	targets := make(map[target][]string)
	for i := range orders {
		o := &orders[i]
		at := f.in[o.ID]
		if !f.parked[o.ID] {
			t := target{at, o.State, o.Reason, o.Units, o.UpdatedAt, o.EndedAt.Equal(o.UpdatedAt)}
			targets[t] = append(targets[t], string(o.ID))
			continue
		}
		to := at
		if at == strays && o.State != seckill.OrderParked {
			to = week(o)
		}
		tx.exec(`UPDATE orders SET week = $3, merchant = $4, caller = $5, activity = $6, sku = $7, "user" = $8,
				amount = $9, currency = $10, state = $11, reason = $12, units = $13, pay_by = $14, updated_at = $15,
				request = $16, node = $17, accepted = $18, ended_at = $19
			WHERE week = $1 AND id = $2`,
			at, string(o.ID), to, string(o.Caller.Merchant), string(o.Caller.Caller), string(o.Activity),
			string(o.SKU), string(o.User), o.Amount.Minor, o.Amount.Currency, string(o.State), string(o.Reason),
			string(o.Units), o.PayBy, o.UpdatedAt, o.Request, o.Node, o.Accepted, orNull(o.EndedAt))
	}
	for t, ids := range targets {
		tx.exec(`UPDATE orders SET state = $3, reason = $4, units = $5, updated_at = $6,
				ended_at = CASE WHEN $7 THEN $6 ELSE ended_at END
			WHERE week = $1 AND id = ANY($2)`,
			t.week, ids, string(t.state), string(t.reason), string(t.units), t.updated, t.ended)
	}
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// searchColumns are the columns with which the indexes of a search begin.
var searchColumns = map[seckill.OrderIndex]string{
	seckill.OrdersByUser: `"user"`, seckill.OrdersByRequest: "request", seckill.OrdersByCaller: "caller",
	seckill.OrdersByActivity: "activity", seckill.OrdersByState: "state",
}

// searchText searches some weeks for the newest orders of each value of an index. An empty value in
// a condition matches every order.
func searchText(column string) string {
	return `SELECT o.* FROM unnest($2::text[]) AS v (value) CROSS JOIN LATERAL (
			SELECT week, ` + orderColumns + ` FROM orders WHERE week = ANY($1) AND orders.` + column + ` = v.value
				AND created_at <= $3 AND (created_at < $3 OR id < $4) AND created_at >= $5 AND created_at < $6
				AND ($7 = '' OR "user" = $7) AND ($8 = '' OR request = $8) AND ($9 = '' OR caller = $9)
				AND ($10 = '' OR merchant = $10) AND ($11 = '' OR activity = $11) AND ($12 = '' OR sku = $12)
				AND ($13 = '' OR state = $13)
			ORDER BY created_at DESC, id DESC LIMIT $14
		) AS o`
}

// farAway is later than every stored time.
var farAway = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// SearchOrders implements seckill.OrderBooks.
func (s *Store) SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error) {
	index, values := q.Index()
	text := searchText(searchColumns[index])
	before, to := q.Before, q.To
	if before.CreatedAt.IsZero() {
		before = seckill.OrderMark{CreatedAt: farAway}
	}
	if to.IsZero() {
		to = farAway
	}
	var out []seckill.Order
	err := s.read(ctx, "search orders", func(ctx context.Context, p *pipe) error {
		out = nil
		return eachWeeks(ctx, p, func(weeks []int32) error {
			p.each(func(rows pgx.Rows) error {
				var week int32
				o, err := scanOrder(rows, &week)
				out = append(out, o)
				return err
			}, text, weeks, values, before.CreatedAt, string(before.ID), q.From, to, string(q.User), q.Request, string(q.Caller),
				string(q.Merchant), string(q.Activity), string(q.SKU), string(q.State), max(q.Limit, 0))
			return p.flush(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b seckill.Order) int { return a.Mark().Compare(b.Mark()) })
	return out[:min(len(out), max(q.Limit, 0))], nil
}

// OrderTrail implements seckill.OrderBooks.
func (s *Store) OrderTrail(ctx context.Context, o *seckill.Order) (seckill.OrderTrail, error) {
	var t seckill.OrderTrail
	err := s.readSnapshot(ctx, fmt.Sprintf("read what is kept of order %s", o.ID), func(p *pipe) {
		t = seckill.OrderTrail{Announces: s.events}
		p.each(func(rows pgx.Rows) error {
			k, err := scanPayment(rows)
			t.Payments = append(t.Payments, k)
			return err
		}, "SELECT "+paymentColumns+" FROM payments WHERE order_id = $1 ORDER BY kept_at, payment", string(o.ID))
		p.each(func(rows pgx.Rows) error {
			var r seckill.RefusedPayment
			err := rows.Scan((*string)(&r.Merchant), (*string)(&r.ID), (*string)(&r.Order), &r.Amount.Minor, &r.Amount.Currency,
				(*string)(&r.Problem), &r.Count, &r.At)
			r.At = r.At.UTC()
			t.Refused = append(t.Refused, r)
			return err
		}, `SELECT merchant, payment, order_id, amount, currency, problem, count, at FROM refused_payments WHERE order_id = $1
			ORDER BY at, payment`, string(o.ID))
		p.each(func(rows pgx.Rows) error {
			c, err := scanChange(rows)
			t.Changes = append(t.Changes, c)
			return err
		}, "SELECT "+changeColumns+` FROM changes WHERE kind IN ('order', 'extension')
			AND key = ANY(ARRAY[$1, $2]) AND key = CASE kind WHEN 'order' THEN $1 ELSE $2 END ORDER BY number`, string(o.ID), string(o.Activity))
		p.each(func(pgx.Rows) error { t.Settling = true; return nil }, "SELECT FROM outbox WHERE shard = $1 AND item = $2 AND name = $3",
			int32(o.Grant.Shard), int64(o.Item), string(o.ID))
		p.each(func(rows pgx.Rows) error {
			err := rows.Scan(&t.Waiting)
			t.Waiting = t.Waiting.UTC()
			return err
		}, "SELECT at FROM order_events ORDER BY id LIMIT 1")
	})
	return t, err
}

// extendTimeout bounds the one statement that moves pay_by of all open orders of an activity.
const extendTimeout = 5 * time.Minute

// ExtendOrders implements seckill.OrderBooks. It waits for orders that another transaction is about
// to pay or cancel.
func (s *Store) ExtendOrders(ctx context.Context, id seckill.ActivityID, d time.Duration, by seckill.Author) (int64, error) {
	var n int64
	err := s.write(ctx, "extend the orders of activity "+string(id), func(ctx context.Context, tx *transaction) error {
		found, err := tx.exists(ctx, "SELECT FROM activities WHERE id = $1", string(id))
		if err == nil && !found {
			err = seckill.ErrNotFound
		}
		if err != nil {
			return err
		}
		tx.takesLong(extendTimeout)
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		n, err = tx.change(ctx, `UPDATE orders SET pay_by = pay_by + $2, updated_at = $3
			WHERE week = (SELECT week FROM activities WHERE id = $1) AND activity = $1 AND state = 'pending_payment'`,
			string(id), d, tx.now)
		if err != nil {
			return err
		}
		r, err := seckill.RecordExtension(id, d, n)
		if err != nil {
			return err
		}
		tx.record(by, r)
		return nil
	})
	return n, err
}

// A statement is made from orders whose units reached their end, and from payments. Its days are in
// UTC.
const (
	statementOrders = `SELECT to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, activity, sku, currency, units, count(*),
			sum(quantity)::bigint, sum(amount)::bigint
		FROM orders WHERE week = ANY($4) AND merchant = $1 AND ended_at >= $2 AND ended_at < $3
			AND (units = 'sold' OR reason IN ('cancelled-by-buyer', 'payment-timeout'))
		GROUP BY 1, 2, 3, 4, 5`
	statementPayments = `SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, activity, sku, currency, state, count(*),
			0::bigint, sum(amount)::bigint
		FROM (SELECT *, CASE state WHEN 'due' THEN kept_at ELSE done_at END AS at FROM payments
			WHERE merchant = $1 AND state IN ('due', 'done')) AS p
		WHERE at >= $2 AND at < $3 GROUP BY 1, 2, 3, 4, 5`
)

// Statement implements seckill.OrderBooks. All of it is read at one moment.
func (s *Store) Statement(ctx context.Context, merchant seckill.MerchantID, from, to time.Time) ([]seckill.StatementRow, error) {
	var st seckill.Statement
	scan := func(rows pgx.Rows) error {
		var l seckill.StatementRow
		var what string
		var t seckill.Tally
		err := rows.Scan(&l.Day, (*string)(&l.Activity), (*string)(&l.SKU), &l.Currency, &what, &t.Count, &t.Units, &t.Amount)
		st.Add(l, what, t)
		return err
	}
	err := s.read(ctx, "read the statement of merchant "+string(merchant), func(ctx context.Context, p *pipe) error {
		st = seckill.Statement{}
		p.exec(beginRead)
		p.takesLong(extendTimeout)
		err := eachWeeks(ctx, p, func(weeks []int32) error {
			p.each(scan, statementOrders, string(merchant), from, to, weeks)
			return p.flush(ctx)
		})
		if err == nil {
			p.each(scan, statementPayments, string(merchant), from, to)
			p.exec(commit)
			err = p.flush(ctx)
		}
		if err != nil {
			p.batch = new(pgx.Batch)
		}
		return errors.Join(err, p.rollback(ctx))
	})
	if err != nil {
		return nil, err
	}
	return st.Lines(), nil
}

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/seckill"
)

// searchColumns are the columns that the indexes of a search begin with.
var searchColumns = map[seckill.OrderIndex]string{
	seckill.OrdersByUser: "user", seckill.OrdersByRequest: "request", seckill.OrdersByCaller: "caller",
	seckill.OrdersByActivity: "activity", seckill.OrdersByState: "state",
}

// searchText is a search for one value of an index, newest orders first. An empty value in a
// condition matches every order.
func searchText(column string) string {
	return "SELECT " + orderColumns + " FROM orders INDEXED BY orders_by_" + column + " WHERE " + column + ` = ?1
		AND created_at <= ?2 AND created_at >= ?3 AND (created_at < ?2 OR id < ?4) AND created_at < ?5
		AND (?6 = '' OR user = ?6) AND (?7 = '' OR request = ?7) AND (?8 = '' OR caller = ?8) AND (?9 = '' OR merchant = ?9)
		AND (?10 = '' OR activity = ?10) AND (?11 = '' OR sku = ?11) AND (?12 = '' OR state = ?12)
		ORDER BY created_at DESC, id DESC LIMIT ?13`
}

// SearchOrders implements seckill.OrderBooks.
func (s *Store) SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error) {
	index, values := q.Index()
	text := searchText(searchColumns[index])
	before, id := farAway, ""
	if !q.Before.CreatedAt.IsZero() {
		before, id = q.Before.CreatedAt.UnixMicro(), string(q.Before.ID)
	}
	to := farAway + 1
	if !q.To.IsZero() {
		to = q.To.UnixMicro()
	}
	var out []seckill.Order
	err := s.read(ctx, "search orders", func(st *statements) error {
		for _, value := range values {
			rows, err := st.query(ctx, text, value, before, micros(q.From), id, to, string(q.User), q.Request, string(q.Caller),
				string(q.Merchant), string(q.Activity), string(q.SKU), string(q.State), max(q.Limit, 0))
			err = each(rows, err, func(rows *sql.Rows) error {
				o, err := scanOrder(rows)
				out = append(out, o)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b seckill.Order) int { return a.Mark().Compare(b.Mark()) })
	return out[:min(len(out), max(q.Limit, 0))], nil
}

// OrderTrail implements seckill.OrderBooks.
func (s *Store) OrderTrail(ctx context.Context, o *seckill.Order) (seckill.OrderTrail, error) {
	t := seckill.OrderTrail{Announces: s.events}
	err := s.read(ctx, fmt.Sprintf("read what is kept of order %s", o.ID), func(sn *statements) (err error) {
		if t.Payments, err = readPayments(ctx, sn, "WHERE order_id = ? ORDER BY kept_at, payment", string(o.ID)); err != nil {
			return err
		}
		if t.Refused, err = readRefused(ctx, sn, o.ID); err != nil {
			return err
		}
		rows, err := sn.query(ctx, "SELECT "+changeColumns+` FROM changes WHERE kind IN ('order', 'extension')
			AND key IN (?1, ?2) AND key = iif(kind = 'order', ?1, ?2) ORDER BY number`, string(o.ID), string(o.Activity))
		err = each(rows, err, func(rows *sql.Rows) error {
			c, err := scanChange(rows)
			t.Changes = append(t.Changes, c)
			return err
		})
		if err != nil {
			return err
		}
		t.Settling, err = exists(ctx, sn, "SELECT 1 FROM outbox WHERE shard = ? AND item = ? AND name = ?",
			int64(o.Grant.Shard), int64(o.Item), string(o.ID))
		if err != nil {
			return err
		}
		var at int64
		waits, err := one(ctx, sn, "SELECT at FROM order_events ORDER BY id LIMIT 1", nil, &at)
		if waits {
			t.Waiting = fromMicros(at)
		}
		return err
	})
	return t, err
}

func readRefused(ctx context.Context, q querier, id seckill.OrderID) ([]seckill.RefusedPayment, error) {
	var out []seckill.RefusedPayment
	rows, err := q.query(ctx, `SELECT merchant, payment, order_id, amount, currency, problem, count, at FROM refused_payments
		WHERE order_id = ? ORDER BY at, payment`, string(id))
	err = each(rows, err, func(rows *sql.Rows) error {
		var r seckill.RefusedPayment
		var at int64
		err := rows.Scan(&r.Merchant, &r.ID, &r.Order, &r.Amount.Minor, &r.Amount.Currency, &r.Problem, &r.Count, &at)
		r.At = fromMicros(at)
		out = append(out, r)
		return err
	})
	return out, err
}

// ExtendOrders implements seckill.OrderBooks.
func (s *Store) ExtendOrders(ctx context.Context, id seckill.ActivityID, d time.Duration, by seckill.Author) (int64, error) {
	var n int64
	err := s.write(ctx, "extend the orders of activity "+string(id), func(ctx context.Context, tx *transaction) error {
		found, err := exists(ctx, tx, "SELECT 1 FROM activities WHERE id = ?", string(id))
		if err == nil && !found {
			err = seckill.ErrNotFound
		}
		if err != nil {
			return err
		}
		n, err = tx.change(ctx, `UPDATE orders INDEXED BY orders_by_activity SET pay_by = pay_by + ?, updated_at = ?
			WHERE activity = ? AND state = 'pending_payment'`, d.Microseconds(), tx.now.UnixMicro(), string(id))
		if err != nil {
			return err
		}
		r, err := seckill.RecordExtension(id, d, n)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, r)
	})
	return n, err
}

// A statement is made from orders whose units reached their end, and from payments. Its days are in
// UTC.
const (
	statementOrders = `SELECT date(ended_at / 1000000, 'unixepoch') AS day, activity, sku, currency, units, count(*), sum(quantity),
			sum(amount)
		FROM orders WHERE merchant = ? AND ended_at >= ? AND ended_at < ? AND (units = 'sold' OR reason IN
			('cancelled-by-buyer', 'payment-timeout'))
		GROUP BY day, activity, sku, currency, units`
	statementPayments = `SELECT date(at / 1000000, 'unixepoch') AS day, activity, sku, currency, state, count(*), 0, sum(amount)
		FROM (SELECT *, iif(state = 'due', kept_at, done_at) AS at FROM payments WHERE merchant = ? AND state IN ('due', 'done'))
		WHERE at >= ? AND at < ? GROUP BY day, activity, sku, currency, state`
)

// Statement implements seckill.OrderBooks.
func (s *Store) Statement(ctx context.Context, merchant seckill.MerchantID, from, to time.Time) ([]seckill.StatementRow, error) {
	var st seckill.Statement
	err := s.readState(ctx, s.loads, "read the statement of merchant "+string(merchant), func(sn snapshot) error {
		for _, query := range []string{statementOrders, statementPayments} {
			rows, err := sn.query(ctx, query, string(merchant), from.UnixMicro(), to.UnixMicro())
			err = each(rows, err, func(rows *sql.Rows) error {
				var l seckill.StatementRow
				var what string
				var t seckill.Tally
				err := rows.Scan(&l.Day, &l.Activity, &l.SKU, &l.Currency, &what, &t.Count, &t.Units, &t.Amount)
				st.Add(l, what, t)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return st.Lines(), nil
}

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

// lookup is the way to orders by one index: the condition on an order. v.value is a value that is
// looked up.
type lookup string

const (
	byUser     lookup = `"user" = v.value`
	byRequest  lookup = "request = v.value"
	byCaller   lookup = "caller = v.value"
	byActivity lookup = "activity = v.value"
	// Pending orders have an index of their own, so a query must say in its text which it means.
	byPending    lookup = "state = 'pending_payment'"
	byOtherState lookup = "state = v.value AND state <> 'pending_payment'"
)

// text searches some weeks for the newest orders of each value. An empty value in a condition
// matches every order. The conditions compare expressions, so that no other index fits them: the
// server would read all orders in a state, because they are in order already, to find one user's.
func (l lookup) text() string {
	return "SELECT o.* FROM unnest($2::text[]) AS v (value) CROSS JOIN LATERAL (SELECT week, " + orderColumns + `
			FROM orders WHERE week = ANY($1) AND ` + string(l) + `
				AND created_at <= $3 AND (created_at < $3 OR id < $4) AND created_at >= $5 AND created_at < $6
				AND ($7 = '' OR "user" || '' = $7) AND ($8 = '' OR request || '' = $8) AND ($9 = '' OR caller || '' = $9)
				AND ($10 = '' OR merchant = $10) AND ($11 = '' OR activity || '' = $11) AND ($12 = '' OR sku = $12)
				AND ($13 = '' OR state || '' = $13)
			ORDER BY created_at DESC, id DESC LIMIT $14
		) AS o`
}

// count counts the orders of a value, but no more than $3.
func (l lookup) count() string {
	return `SELECT count(*) FROM (
			SELECT FROM unnest($2::text[]) AS v (value) JOIN orders ON week = ANY($1) AND ` + string(l) + ` LIMIT $3
		) AS few`
}

// farAway is later than every stored time.
var farAway = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// SearchOrders implements seckill.OrderBooks.
func (s *Store) SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error) {
	q.Limit = max(q.Limit, 0)
	if q.Before.CreatedAt.IsZero() {
		q.Before = seckill.OrderMark{CreatedAt: farAway}
	}
	if q.To.IsZero() {
		q.To = farAway
	}
	var found search
	err := s.read(ctx, "search orders", func(ctx context.Context, p *pipe) error {
		found = search{OrderQuery: q, p: p}
		return eachWeeks(ctx, p, func(weeks []int32) error {
			found.weeks = weeks
			return p.atOneMoment(ctx, func() error {
				if q.Request == "" { // its orders are few, and have no order in their index
					p.exec(withoutSort)
				}
				return found.run(ctx)
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return found.orders, nil
}

// search is a query in progress. Its From moves ahead: see keep.
type search struct {
	seckill.OrderQuery
	p      *pipe
	weeks  []int32 // those that are searched now
	orders []seckill.Order
}

// run looks for the orders of the query by its index.
func (s *search) run(ctx context.Context) error {
	switch index, values := s.Index(); index {
	case seckill.OrdersByUser:
		return s.look(ctx, byUser, values)
	case seckill.OrdersByRequest:
		return s.look(ctx, byRequest, values)
	case seckill.OrdersByCaller:
		return s.look(ctx, byCaller, values)
	case seckill.OrdersByActivity:
		if s.State != "" {
			if few, err := s.fewIn(ctx, s.State); err != nil || few {
				return errors.Join(err, s.inState(ctx, s.State))
			}
		}
		return s.look(ctx, byActivity, values)
	default:
		for _, state := range values {
			if err := s.inState(ctx, seckill.OrderState(state)); err != nil {
				return err
			}
		}
		return nil
	}
}

// byState returns the lookup of a state.
func byState(state seckill.OrderState) lookup {
	if state == seckill.OrderPending {
		return byPending
	}
	return byOtherState
}

func (s *search) inState(ctx context.Context, state seckill.OrderState) error {
	return s.look(ctx, byState(state), []string{string(state)})
}

// fewOrders is a number of orders that can all be read while somebody waits.
const fewOrders = 20_000

// fewIn reports whether there are so few orders in a state that they can all be read. They are then
// found by their state: an activity with a million orders may have none in it.
func (s *search) fewIn(ctx context.Context, state seckill.OrderState) (bool, error) {
	var n int
	s.p.each(func(rows pgx.Rows) error { return rows.Scan(&n) }, byState(state).count(), s.weeks, []string{string(state)}, fewOrders)
	err := s.p.flush(ctx)
	return n < fewOrders, err
}

// mostFound is about how many orders one lookup may return: there may be as many as the limit for
// each of its values. (L8)
const mostFound = 10_000

// look looks for the orders of values: first of one, then of more and more at a time. So for most
// of them it asks only for orders that are newer than those that it has found already.
func (s *search) look(ctx context.Context, l lookup, values []string) error {
	most := max(mostFound/max(s.Limit, 1), 1)
	for n := 1; len(values) > 0; n = min(4*n, most) {
		some := values[:min(n, len(values))]
		values = values[len(some):]
		s.p.each(func(rows pgx.Rows) error {
			var week int32
			o, err := scanOrder(rows, &week)
			s.orders = append(s.orders, o)
			return err
		}, l.text(), s.weeks, some, s.Before.CreatedAt, string(s.Before.ID), s.From, s.To, string(s.User), s.Request,
			string(s.Caller), string(s.Merchant), string(s.Activity), string(s.SKU), string(s.State), s.Limit)
		if err := s.p.flush(ctx); err != nil {
			return err
		}
		s.keep()
	}
	return nil
}

// keep drops all but the newest orders. If there are enough of them, older ones are not asked for
// any more.
func (s *search) keep() {
	slices.SortFunc(s.orders, func(a, b seckill.Order) int { return a.Mark().Compare(b.Mark()) })
	if len(s.orders) < s.Limit {
		return
	}
	clear(s.orders[s.Limit:])
	s.orders = s.orders[:s.Limit]
	if s.Limit > 0 && s.orders[s.Limit-1].CreatedAt.After(s.From) {
		s.From = s.orders[s.Limit-1].CreatedAt
	}
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
		var week int32
		found, err := tx.one(ctx, "SELECT week FROM activities WHERE id = $1", []any{string(id)}, &week)
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
			WHERE week = $4 AND activity = $1 AND state = 'pending_payment'`, string(id), d, tx.now, week)
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
	// Each state is named apart, because it has an index of its own.
	statementPayments = `SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, activity, sku, currency, state, count(*),
			0::bigint, sum(amount)::bigint
		FROM (
			SELECT *, kept_at AS at FROM payments WHERE merchant = $1 AND state = 'due' AND kept_at >= $2 AND kept_at < $3
			UNION ALL SELECT *, done_at FROM payments WHERE merchant = $1 AND state = 'done' AND done_at >= $2 AND done_at < $3
		) AS p GROUP BY 1, 2, 3, 4, 5`
	// inTableOrder makes the server read the orders in the order in which they are on the disk. In
	// a partition without statistics it would read them all by an index, one after another.
	inTableOrder = "SELECT set_config('enable_indexscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"
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
		return p.atOneMoment(ctx, func() error {
			p.takesLong(extendTimeout)
			p.each(scan, statementPayments, string(merchant), from, to)
			p.exec(inTableOrder)
			return eachWeeks(ctx, p, func(weeks []int32) error {
				p.each(scan, statementOrders, string(merchant), from, to, weeks)
				return p.flush(ctx)
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return st.Lines(), nil
}

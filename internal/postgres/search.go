package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// lookup is the way to one kind of order by an index: the values that are looked up, and the
// condition on an order.
type lookup struct{ values, condition string }

var (
	byUser    = lookup{"unnest($2::text[]) AS v (value)", `"user" = v.value`}
	byRequest = lookup{"unnest($2::text[]) AS v (value)", "request = v.value"}
	// Pending orders have an index of their own, so a query must say in its text which it means.
	byPending    = lookup{"unnest($2::text[]) AS v (value)", "state = 'pending_payment'"}
	byOtherState = lookup{"unnest($2::text[]) AS v (value)", "state = v.value AND state <> 'pending_payment'"}
	byGroup      = lookup{"unnest($2::text[], $15::text[]) AS v (activity, caller)", "activity = v.activity AND caller = v.caller"}
)

// text searches some weeks for the newest orders of each value. An empty value in a condition
// matches every order.
func (l lookup) text() string {
	return "SELECT o.* FROM " + l.values + ` CROSS JOIN LATERAL (
			SELECT week, ` + orderColumns + ` FROM orders WHERE week = ANY($1) AND ` + l.condition + `
				AND created_at <= $3 AND (created_at < $3 OR id < $4) AND created_at >= $5 AND created_at < $6
				AND ($7 = '' OR "user" = $7) AND ($8 = '' OR request = $8) AND ($9 = '' OR caller = $9)
				AND ($10 = '' OR merchant = $10) AND ($11 = '' OR activity = $11) AND ($12 = '' OR sku = $12)
				AND ($13 = '' OR state = $13)
			ORDER BY created_at DESC, id DESC LIMIT $14
		) AS o`
}

// The orders of an activity are found by their callers, and those of a caller by their activities:
// one index serves both, and an order is added to it once. These list the groups that have orders.
// Each next one is found by one look at the index, for any number of orders in between.
const (
	callersOf = `SELECT v.value, g.caller FROM unnest($2::text[]) AS v (value) CROSS JOIN LATERAL (
			WITH RECURSIVE g (caller) AS (
				(SELECT caller FROM orders WHERE week = ANY($1) AND activity = v.value ORDER BY caller LIMIT 1)
				UNION ALL
				SELECT (SELECT caller FROM orders WHERE week = ANY($1) AND activity = v.value AND caller > g.caller ORDER BY caller LIMIT 1)
				FROM g WHERE g.caller IS NOT NULL
			) SELECT caller FROM g WHERE caller IS NOT NULL
		) AS g`
	allActivities = `WITH RECURSIVE g (activity) AS (
			(SELECT activity FROM orders WHERE week = ANY($1) ORDER BY activity LIMIT 1)
			UNION ALL
			SELECT (SELECT activity FROM orders WHERE week = ANY($1) AND activity > g.activity ORDER BY activity LIMIT 1)
			FROM g WHERE g.activity IS NOT NULL
		) SELECT g.activity, v.value FROM g CROSS JOIN unnest($2::text[]) AS v (value) WHERE g.activity IS NOT NULL`
)

// farAway is later than every stored time.
var farAway = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// SearchOrders implements seckill.OrderBooks.
func (s *Store) SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error) {
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
			look := func(l lookup, values []string, more ...any) {
				p.each(func(rows pgx.Rows) error {
					var week int32
					o, err := scanOrder(rows, &week)
					out = append(out, o)
					return err
				}, l.text(), append([]any{weeks, values, before.CreatedAt, string(before.ID), q.From, to, string(q.User), q.Request,
					string(q.Caller), string(q.Merchant), string(q.Activity), string(q.SKU), string(q.State), max(q.Limit, 0)}, more...)...)
			}
			return p.atOneMoment(ctx, func() error {
				p.exec(withoutSort)
				return queueSearch(ctx, p, weeks, &q, look)
			})
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b seckill.Order) int { return a.Mark().Compare(b.Mark()) })
	return out[:min(len(out), max(q.Limit, 0))], nil
}

// looking queues a lookup. more are the arguments that only some lookups have.
type looking func(l lookup, values []string, more ...any)

// queueSearch looks for the orders of a query by its index.
func queueSearch(ctx context.Context, p *pipe, weeks []int32, q *seckill.OrderQuery, look looking) error {
	switch index, values := q.Index(); index {
	case seckill.OrdersByUser:
		look(byUser, values)
	case seckill.OrdersByRequest:
		look(byRequest, values)
	case seckill.OrdersByState:
		if i := slices.Index(values, string(seckill.OrderPending)); i >= 0 {
			look(byPending, values[i:i+1])
			values = slices.Concat(values[:i], values[i+1:])
		}
		look(byOtherState, values)
	case seckill.OrdersByCaller:
		return lookInGroups(ctx, p, allActivities, weeks, values, look)
	case seckill.OrdersByActivity:
		if q.Caller == "" {
			return lookInGroups(ctx, p, callersOf, weeks, values, look)
		}
		look(byGroup, values, slices.Repeat([]string{string(q.Caller)}, len(values)))
	}
	return nil
}

// lookInGroups lists the groups of activity and caller with a statement, and looks into them.
func lookInGroups(ctx context.Context, p *pipe, statement string, weeks []int32, values []string, look looking) error {
	var activities, callers []string
	p.each(func(rows pgx.Rows) error {
		var activity, caller string
		err := rows.Scan(&activity, &caller)
		activities, callers = append(activities, activity), append(callers, caller)
		return err
	}, statement, weeks, values)
	if err := p.flush(ctx); err != nil {
		return err
	}
	look(byGroup, activities, callers)
	return nil
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

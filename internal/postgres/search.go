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
// matches every order. The conditions compare expressions, so that no other index fits them: the
// server would read all orders in a state, because they are in order already, to find one user's.
func (l lookup) text() string {
	return "SELECT o.* FROM " + l.values + ` CROSS JOIN LATERAL (
			SELECT week, ` + orderColumns + ` FROM orders WHERE week = ANY($1) AND ` + l.condition + `
				AND created_at <= $3 AND (created_at < $3 OR id < $4) AND created_at >= $5 AND created_at < $6
				AND ($7 = '' OR "user" || '' = $7) AND ($8 = '' OR request || '' = $8) AND ($9 = '' OR caller || '' = $9)
				AND ($10 = '' OR merchant = $10) AND ($11 = '' OR activity || '' = $11) AND ($12 = '' OR sku = $12)
				AND ($13 = '' OR state || '' = $13)
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
			err := p.atOneMoment(ctx, func() error {
				if q.Request == "" { // its orders are few, and have no order in their index
					p.exec(inIndexOrder)
				}
				return found.queue(ctx)
			})
			found.keep()
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return found.orders, nil
}

// inIndexOrder makes the server read an index in its order and stop at the limit. A new partition
// has no statistics, so the server would expect a single order there, and sort them all.
const inIndexOrder = "SET LOCAL enable_sort = off"

// search is a query in progress. Its From moves ahead: see keep.
type search struct {
	seckill.OrderQuery
	p      *pipe
	weeks  []int32 // those that are searched now
	orders []seckill.Order
}

// look queues a lookup. more are the arguments that only some lookups have.
func (s *search) look(l lookup, values []string, more ...any) {
	s.p.each(func(rows pgx.Rows) error {
		var week int32
		o, err := scanOrder(rows, &week)
		s.orders = append(s.orders, o)
		return err
	}, l.text(), append([]any{s.weeks, values, s.Before.CreatedAt, string(s.Before.ID), s.From, s.To, string(s.User), s.Request,
		string(s.Caller), string(s.Merchant), string(s.Activity), string(s.SKU), string(s.State), s.Limit}, more...)...)
}

// keep drops all but the newest orders. If there are enough of them, older ones are not asked for
// any more.
func (s *search) keep() {
	slices.SortFunc(s.orders, func(a, b seckill.Order) int { return a.Mark().Compare(b.Mark()) })
	if len(s.orders) < s.Limit || s.Limit == 0 {
		return
	}
	clear(s.orders[s.Limit:])
	s.orders = s.orders[:s.Limit]
	if oldest := s.orders[s.Limit-1].CreatedAt; oldest.After(s.From) {
		s.From = oldest
	}
}

// queue looks for the orders of the query by its index.
func (s *search) queue(ctx context.Context) error {
	switch index, values := s.Index(); index {
	case seckill.OrdersByUser:
		s.look(byUser, values)
	case seckill.OrdersByRequest:
		s.look(byRequest, values)
	case seckill.OrdersByState:
		if i := slices.Index(values, string(seckill.OrderPending)); i >= 0 {
			s.look(byPending, values[i:i+1])
			values = slices.Concat(values[:i], values[i+1:])
		}
		s.look(byOtherState, values)
	case seckill.OrdersByCaller:
		return s.inGroups(ctx, allActivities, values)
	case seckill.OrdersByActivity:
		if s.Caller == "" {
			return s.inGroups(ctx, callersOf, values)
		}
		s.look(byGroup, values, slices.Repeat([]string{string(s.Caller)}, len(values)))
	}
	return nil
}

// mostFound is about how many orders one lookup in groups may return: each of the groups may have
// as many as the limit. (L8)
const mostFound = 10_000

// inGroups lists the groups of activity and caller with a statement, and looks into them: first
// into one, then into more and more at a time. So most of them are asked only for orders that are
// newer than those that were found already.
func (s *search) inGroups(ctx context.Context, statement string, values []string) error {
	var activities, callers []string
	s.p.each(func(rows pgx.Rows) error {
		var activity, caller string
		err := rows.Scan(&activity, &caller)
		activities, callers = append(activities, activity), append(callers, caller)
		return err
	}, statement, s.weeks, values)
	if err := s.p.flush(ctx); err != nil {
		return err
	}
	most := max(mostFound/max(s.Limit, 1), 1)
	for first, n := 0, 1; first < len(activities); n = min(4*n, most) {
		end := min(first+n, len(activities))
		s.look(byGroup, activities[first:end], callers[first:end])
		if err := s.p.flush(ctx); err != nil {
			return err
		}
		s.keep()
		first = end
	}
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
		return p.atOneMoment(ctx, func() error {
			p.takesLong(extendTimeout)
			err := eachWeeks(ctx, p, func(weeks []int32) error {
				p.each(scan, statementOrders, string(merchant), from, to, weeks)
				return p.flush(ctx)
			})
			p.each(scan, statementPayments, string(merchant), from, to)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return st.Lines(), nil
}

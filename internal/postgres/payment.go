package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// Pay implements seckill.OrderStore. Two calls with the same payment and order are serialized by
// the order's row. With the same payment and two orders, or none, they conflict at the payment's
// primary key; the second one begins again and finds the payment.
func (s *Store) Pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	if len(payments) == 0 {
		return nil, nil
	}
	ids := make([]seckill.OrderID, len(payments))
	for i := range payments {
		ids[i] = payments[i].Order
	}
	var out []seckill.PaymentResult
	err := s.write(ctx, "book payments", func(ctx context.Context, tx *transaction) error {
		pl, err := s.placesOf(ctx, tx.pipe, ids)
		if err != nil {
			return err
		}
		var kept map[seckill.PaymentKey]*seckill.KeptPayment
		e, err := tx.lockForEvents(ctx, pl, ids, func() { kept = queueKept(tx.pipe, payments) })
		if err != nil {
			return err
		}
		out = make([]seckill.PaymentResult, len(payments))
		for i := range payments {
			out[i] = e.pay(&payments[i], kept, tx)
		}
		queueChanges(tx, e.found, e.week, e.changes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pay decides one payment.
func (e *ends) pay(p *seckill.Payment, kept map[seckill.PaymentKey]*seckill.KeptPayment, tx *transaction) seckill.PaymentResult {
	order, ok := e.orders[p.Order]
	switch {
	case !ok && e.locked[p.Order]:
		return seckill.PaymentResult{Verdict: seckill.PaymentLocked}
	case !ok:
		return seckill.DecidePayment(*p, nil, kept, tx.now, e.changes)
	case !e.free(&order):
		return seckill.PaymentResult{Verdict: seckill.PaymentLocked, Order: order}
	}
	result := seckill.DecidePayment(*p, &order, kept, tx.now, e.changes)
	e.orders[p.Order] = order
	return result
}

const paymentColumns = `merchant, payment, order_id, activity, sku, amount, currency, state, cause, kept_at, done_at, done_by,
	reference`

func scanPayment(rows pgx.Rows) (seckill.KeptPayment, error) {
	var k seckill.KeptPayment
	var done *time.Time
	err := rows.Scan((*string)(&k.Merchant), (*string)(&k.ID), (*string)(&k.Order), (*string)(&k.Activity), (*string)(&k.SKU),
		&k.Amount.Minor, &k.Amount.Currency, (*string)(&k.State), (*string)(&k.Cause), &k.KeptAt, &done, &k.DoneBy, &k.Reference)
	k.KeptAt, k.DoneAt = k.KeptAt.UTC(), orZero(done)
	return k, err
}

// queueKept queues the reading of the stored payments with these merchants and ids.
func queueKept(p *pipe, payments []seckill.Payment) map[seckill.PaymentKey]*seckill.KeptPayment {
	byMerchant := make(map[seckill.MerchantID][]string)
	for i := range payments {
		m := payments[i].Merchant
		byMerchant[m] = append(byMerchant[m], string(payments[i].ID))
	}
	kept := make(map[seckill.PaymentKey]*seckill.KeptPayment)
	for _, merchant := range inOrder(byMerchant) {
		p.each(func(rows pgx.Rows) error {
			k, err := scanPayment(rows)
			kept[k.Key()] = &k
			return err
		}, "SELECT "+paymentColumns+" FROM payments WHERE merchant = $1 AND payment = ANY($2)", string(merchant), byMerchant[merchant])
	}
	return kept
}

// writePayments queues the payments that a decision keeps or changes, and the notices that it
// refuses. If another call has stored the same new payment meanwhile, there is a conflict, and the
// call begins again.
func writePayments(tx *transaction, c *seckill.Changes) {
	var fresh []seckill.KeptPayment
	for _, k := range c.LastPayments() {
		if k.IsNew() {
			fresh = append(fresh, k)
			continue
		}
		tx.exec(`UPDATE payments SET order_id = $3, activity = $4, sku = $5, amount = $6, currency = $7, state = $8, cause = $9,
				kept_at = $10, done_at = $11, done_by = $12, reference = $13
			WHERE merchant = $1 AND payment = $2`, string(k.Merchant), string(k.ID), string(k.Order), string(k.Activity),
			string(k.SKU), k.Amount.Minor, k.Amount.Currency, string(k.State), string(k.Cause), k.KeptAt, orNull(k.DoneAt), k.DoneBy,
			k.Reference)
	}
	insertPayments(tx, fresh)
	for i := range c.Refused {
		refuse(tx, &c.Refused[i])
	}
}

func insertPayments(tx *transaction, payments []seckill.KeptPayment) {
	if len(payments) == 0 {
		return
	}
	n := len(payments)
	merchants, ids, orders, currencies := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	activities, skus, states, causes := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	amounts, times := make([]int64, n), make([]time.Time, n)
	for i := range payments {
		k := &payments[i]
		merchants[i], ids[i], orders[i], currencies[i] = string(k.Merchant), string(k.ID), string(k.Order), k.Amount.Currency
		activities[i], skus[i], states[i], causes[i] = string(k.Activity), string(k.SKU), string(k.State), string(k.Cause)
		amounts[i], times[i] = k.Amount.Minor, k.KeptAt
	}
	tx.exec("INSERT INTO payments ("+paymentColumns+`) SELECT *, NULL, '', '' FROM unnest($1::text[], $2::text[], $3::text[],
			$4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::timestamptz[])`,
		merchants, ids, orders, activities, skus, amounts, currencies, states, causes, times)
}

// refuse queues the storing or counting of a refused notice.
func refuse(tx *transaction, r *seckill.RefusedPayment) {
	tx.exec(`INSERT INTO refused_payments AS r (order_id, merchant, payment, amount, currency, problem, count, at)
		SELECT $1, $2, $3, $4, $5, $6, 1, $7 WHERE (SELECT count(*) FROM refused_payments WHERE order_id = $1) < $8
			OR EXISTS (SELECT FROM refused_payments WHERE order_id = $1 AND merchant = $2 AND payment = $3 AND amount = $4
				AND currency = $5 AND problem = $6)
		ON CONFLICT (order_id, merchant, payment, amount, currency, problem) DO UPDATE SET count = r.count + 1, at = excluded.at`,
		string(r.Order), string(r.Merchant), string(r.ID), r.Amount.Minor, r.Amount.Currency, string(r.Problem), r.At,
		seckill.MaxRefused)
}

// RefusePayment implements seckill.OrderBooks.
func (s *Store) RefusePayment(ctx context.Context, r seckill.RefusedPayment) error {
	return s.write(ctx, "keep a refused payment notice", func(ctx context.Context, tx *transaction) error {
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		r.At = tx.now
		refuse(tx, &r)
		return nil
	})
}

// earlyPage is how many early payments are looked at in one call.
const earlyPage = 500

// ApplyEarly implements seckill.OrderBooks.
func (s *Store) ApplyEarly(ctx context.Context, limit int) (int, error) {
	var ready []seckill.Payment
	mark := seckill.RefundMark{}
	for len(ready) < limit {
		found, err := list(ctx, s, "look for early payments", scanPayment, "SELECT "+paymentColumns+` FROM payments WHERE state = 'early'
			AND (kept_at, merchant, payment) > ($1, $2, $3) ORDER BY kept_at, merchant, payment LIMIT $4`,
			mark.KeptAt, string(mark.Merchant), string(mark.ID), earlyPage)
		if err != nil || len(found) == 0 && len(ready) == 0 {
			return 0, err
		}
		ids := make([]seckill.OrderID, len(found))
		for i := range found {
			ids[i] = found[i].Order
		}
		orders, err := s.FindOrders(ctx, ids)
		if err != nil {
			return 0, err
		}
		for i := range orders {
			if orders[i].ID != "" && orders[i].State != seckill.OrderParked {
				ready = append(ready, found[i].Payment)
			}
		}
		if len(found) < earlyPage {
			break
		}
		mark = found[len(found)-1].Mark()
	}
	results, err := s.Pay(ctx, ready[:min(len(ready), limit)])
	count := 0
	for i := range results {
		if results[i].Verdict != seckill.PaymentLocked {
			count++
		}
	}
	return count, err
}

// FindPayments implements seckill.OrderBooks.
func (s *Store) FindPayments(ctx context.Context, merchant seckill.MerchantID, id seckill.PaymentID) ([]seckill.KeptPayment, error) {
	return list(ctx, s, "find a payment", scanPayment, "SELECT "+paymentColumns+` FROM payments
		WHERE payment = $1 AND ($2 = '' OR merchant = $2) ORDER BY merchant`, string(id), string(merchant))
}

// Refunds implements seckill.OrderBooks. The state is a constant in the statement, so that the
// index for it is used.
func (s *Store) Refunds(ctx context.Context, q seckill.RefundQuery) ([]seckill.KeptPayment, error) {
	text := "SELECT " + paymentColumns + " FROM payments WHERE (kept_at, merchant, payment) < ($1, $2, $3) AND " + stateOf(q.State)
	mark := q.Before
	if mark.KeptAt.IsZero() {
		mark.KeptAt = farAway
	}
	args := []any{mark.KeptAt, string(mark.Merchant), string(mark.ID), max(q.Limit, 0)}
	if q.Merchant != "" {
		text, args = text+" AND merchant = $5", append(args, string(q.Merchant))
	}
	return list(ctx, s, "list refunds", scanPayment, text+" ORDER BY kept_at DESC, merchant DESC, payment DESC LIMIT $4", args...)
}

// stateOf is the condition of the indexes of refunds, and of early payments.
func stateOf(state seckill.PaymentState) string {
	switch state {
	case seckill.PaymentStateDone:
		return "state = 'done'"
	case seckill.PaymentStateEarly:
		return "state = 'early'"
	default:
		return "state = 'due'"
	}
}

// RefundSums implements seckill.OrderBooks.
func (s *Store) RefundSums(ctx context.Context, state seckill.PaymentState, merchant seckill.MerchantID) ([]seckill.RefundSum, error) {
	scan := func(rows pgx.Rows) (r seckill.RefundSum, err error) {
		err = rows.Scan((*string)(&r.Merchant), (*string)(&r.Cause), &r.Amount.Currency, &r.Amount.Minor, &r.Count)
		return r, err
	}
	// The server would sort all payments to return the sums in order.
	sums, err := listWith(ctx, s, "add refunds up", func(p *pipe) { p.exec(withoutSort) }, scan,
		`SELECT merchant, cause, currency, sum(amount)::bigint, count(*) FROM payments WHERE `+stateOf(state)+`
		AND ($1 = '' OR merchant = $1) GROUP BY merchant, cause, currency`, string(merchant))
	slices.SortFunc(sums, func(a, b seckill.RefundSum) int {
		return cmp.Or(cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Amount.Currency, b.Amount.Currency))
	})
	return sums, err
}

// SettleRefund implements seckill.OrderBooks. It locks the order's row first, as Pay does.
func (s *Store) SettleRefund(ctx context.Context, r seckill.Refund, by seckill.Author,
) (kept seckill.KeptPayment, order seckill.Order, err error) {
	what := fmt.Sprintf("settle the refund of payment %s", r.Payment)
	known, err := s.FindPayments(ctx, r.Merchant, r.Payment)
	if err != nil || len(known) == 0 {
		return kept, order, cmp.Or(err, describe(what, seckill.ErrNotFound))
	}
	ids := []seckill.OrderID{known[0].Order}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		pl, err := s.placesOf(ctx, tx.pipe, ids)
		if err != nil {
			return err
		}
		othersDue := false
		var found map[seckill.PaymentKey]*seckill.KeptPayment
		e, err := tx.lockForEvents(ctx, pl, ids, func() {
			found = queueKept(tx.pipe, []seckill.Payment{known[0].Payment})
			tx.each(func(pgx.Rows) error { othersDue = true; return nil },
				"SELECT FROM payments WHERE order_id = $1 AND state = 'due' AND (merchant, payment) <> ($2, $3)",
				string(known[0].Order), string(r.Merchant), string(r.Payment))
		})
		if err != nil {
			return err
		}
		if e.locked[ids[0]] {
			return seckill.ErrLocked
		}
		return e.refund(&r, found[known[0].Key()], othersDue, by, tx, &kept, &order)
	})
	return kept, order, err
}

// refund decides about a refund, and queues the changes.
func (e *ends) refund(r *seckill.Refund, found *seckill.KeptPayment, othersDue bool, by seckill.Author, tx *transaction,
	kept *seckill.KeptPayment, order *seckill.Order) error {
	var row *seckill.Order
	if found != nil {
		if o, ok := e.orders[found.Order]; ok {
			row = &o
		}
	}
	var before seckill.KeptPayment
	if found != nil {
		before = *found
	}
	if err := seckill.DecideRefund(r, found, row, othersDue, by, tx.now, e.changes); err != nil {
		if found != nil {
			*kept = before
		}
		return err
	}
	record, err := seckill.RecordRefund(&before, found)
	if err != nil {
		return err
	}
	*kept, *order = *found, seckill.Order{}
	if row != nil {
		*order = *row
	}
	tx.record(by, record)
	queueChanges(tx, e.found, e.week, e.changes)
	return nil
}

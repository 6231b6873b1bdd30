package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"penstock/seckill"
)

type paymentKey struct {
	merchant seckill.MerchantID
	id       seckill.PaymentID
}

func keyOf(p *seckill.Payment) paymentKey { return paymentKey{p.Merchant, p.ID} }

// Pay implements seckill.OrderStore. Two calls with one payment and one order meet at the order's
// row; with one payment and two orders at the payment's primary key, and the second one begins
// again and finds it.
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
		var kept map[paymentKey]*seckill.KeptPayment
		e, err := tx.lockForEvents(ctx, pl, ids, func() { kept = queueKept(tx.pipe, payments) })
		if err != nil {
			return err
		}
		out = make([]seckill.PaymentResult, len(payments))
		var fresh []seckill.KeptPayment
		for i := range payments {
			p := &payments[i]
			out[i] = e.pay(p, kept[keyOf(p)], tx)
			switch out[i].Verdict {
			case seckill.PaymentBooked, seckill.PaymentLate:
				keep := seckill.KeptPayment{Payment: *p, RefundDue: out[i].Verdict == seckill.PaymentLate}
				kept[keyOf(p)] = &keep
				fresh = append(fresh, keep)
			}
		}
		insertPayments(tx, fresh)
		queueChanges(tx, e.found, e.week, e.changes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pay decides one payment.
func (e *ends) pay(p *seckill.Payment, earlier *seckill.KeptPayment, tx *transaction) seckill.PaymentResult {
	order, ok := e.orders[p.Order]
	switch {
	case !ok && e.locked[p.Order]:
		return seckill.PaymentResult{Verdict: seckill.PaymentLocked}
	case !ok:
		return seckill.DecidePayment(*p, nil, earlier, tx.now, e.changes)
	case !e.free(&order):
		return seckill.PaymentResult{Verdict: seckill.PaymentLocked, Order: order}
	}
	result := seckill.DecidePayment(*p, &order, earlier, tx.now, e.changes)
	e.orders[p.Order] = order
	return result
}

// queueKept queues the reading of what is kept under the payments' merchants and ids.
func queueKept(p *pipe, payments []seckill.Payment) map[paymentKey]*seckill.KeptPayment {
	byMerchant := make(map[seckill.MerchantID][]string)
	for i := range payments {
		m := payments[i].Merchant
		byMerchant[m] = append(byMerchant[m], string(payments[i].ID))
	}
	kept := make(map[paymentKey]*seckill.KeptPayment)
	for _, merchant := range inOrder(byMerchant) {
		p.each(func(rows pgx.Rows) error {
			k := &seckill.KeptPayment{Payment: seckill.Payment{Merchant: merchant}}
			err := rows.Scan((*string)(&k.ID), (*string)(&k.Order), &k.Amount.Minor, &k.Amount.Currency, &k.RefundDue)
			kept[keyOf(&k.Payment)] = k
			return err
		}, "SELECT payment, order_id, amount, currency, refund_due FROM payments WHERE merchant = $1 AND payment = ANY($2)",
			string(merchant), byMerchant[merchant])
	}
	return kept
}

func insertPayments(tx *transaction, payments []seckill.KeptPayment) {
	if len(payments) == 0 {
		return
	}
	n := len(payments)
	merchants, ids, orders, currencies := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	amounts, refunds := make([]int64, n), make([]bool, n)
	for i := range payments {
		p := &payments[i]
		merchants[i], ids[i], orders[i] = string(p.Merchant), string(p.ID), string(p.Order)
		amounts[i], currencies[i], refunds[i] = p.Amount.Minor, p.Amount.Currency, p.RefundDue
	}
	tx.exec(`INSERT INTO payments (merchant, payment, order_id, amount, currency, refund_due, kept_at)
		SELECT *, $7::timestamptz FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::boolean[])`,
		merchants, ids, orders, amounts, currencies, refunds, tx.now)
}

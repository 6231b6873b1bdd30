package sqlite

import (
	"context"
	"database/sql"

	"penstock/seckill"
)

type paymentKey struct {
	merchant seckill.MerchantID
	id       seckill.PaymentID
}

func keyOf(p *seckill.Payment) paymentKey { return paymentKey{p.Merchant, p.ID} }

// Pay implements seckill.OrderStore.
func (s *Store) Pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	if len(payments) == 0 {
		return nil, nil
	}
	var out []seckill.PaymentResult
	err := s.write(ctx, "book payments", func(ctx context.Context, tx *transaction) error {
		ids := make([]seckill.OrderID, len(payments))
		for i := range payments {
			ids[i] = payments[i].Order
		}
		orders, err := findOrders(ctx, tx, ids)
		if err != nil {
			return err
		}
		kept, err := tx.findPayments(ctx, payments)
		if err != nil {
			return err
		}
		out = make([]seckill.PaymentResult, len(payments))
		changes := seckill.NewChanges()
		var fresh []seckill.KeptPayment
		for i := range payments {
			p := payments[i]
			var order *seckill.Order
			if found, ok := orders[p.Order]; ok {
				order = &found
			}
			if order != nil && tx.held(order) {
				out[i] = seckill.PaymentResult{Verdict: seckill.PaymentLocked, Order: *order}
				continue
			}
			out[i] = seckill.DecidePayment(p, order, kept[keyOf(&p)], tx.now, changes)
			switch out[i].Verdict {
			case seckill.PaymentBooked, seckill.PaymentLate:
				keep := seckill.KeptPayment{Payment: p, RefundDue: out[i].Verdict == seckill.PaymentLate}
				kept[keyOf(&p)] = &keep
				fresh = append(fresh, keep)
				orders[p.Order] = *order
			}
		}
		if err := insertPayments(ctx, tx, fresh); err != nil {
			return err
		}
		return tx.writeChanges(ctx, changes)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// findPayments returns what is kept under the payments' merchants and ids.
func (tx *transaction) findPayments(ctx context.Context, payments []seckill.Payment) (map[paymentKey]*seckill.KeptPayment, error) {
	byMerchant := make(map[seckill.MerchantID][]seckill.PaymentID)
	for i := range payments {
		p := &payments[i]
		byMerchant[p.Merchant] = append(byMerchant[p.Merchant], p.ID)
	}
	kept := make(map[paymentKey]*seckill.KeptPayment)
	for merchant, ids := range byMerchant {
		err := lookup(ctx, tx, `SELECT payment, order_id, amount, currency, refund_due FROM payments
			WHERE merchant = ? AND payment IN ({?})`, []any{string(merchant)}, ids, text[seckill.PaymentID], func(rows *sql.Rows) error {
			k := &seckill.KeptPayment{Payment: seckill.Payment{Merchant: merchant}}
			err := rows.Scan(&k.ID, &k.Order, &k.Amount.Minor, &k.Amount.Currency, &k.RefundDue)
			kept[keyOf(&k.Payment)] = k
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return kept, nil
}

func insertPayments(ctx context.Context, tx *transaction, payments []seckill.KeptPayment) error {
	const query = "INSERT INTO payments (merchant, payment, order_id, amount, currency, refund_due, kept_at) VALUES {(?,?,?,?,?,?,?)}"
	return insert(ctx, tx.statements, query, payments, func(args []any, p *seckill.KeptPayment) []any {
		return append(args, string(p.Merchant), string(p.ID), string(p.Order), p.Amount.Minor, p.Amount.Currency,
			p.RefundDue, tx.now.UnixMicro())
	})
}

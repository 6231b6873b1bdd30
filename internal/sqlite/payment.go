package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/penstock/penstock/seckill"
)

// Pay implements seckill.OrderStore.
func (s *Store) Pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	if len(payments) == 0 {
		return nil, nil
	}
	var out []seckill.PaymentResult
	err := s.write(ctx, "book payments", func(ctx context.Context, tx *transaction) (err error) {
		out, err = tx.pay(ctx, payments)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pay decides payments, and writes the changes.
func (tx *transaction) pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	ids := make([]seckill.OrderID, len(payments))
	for i := range payments {
		ids[i] = payments[i].Order
	}
	orders, err := findOrders(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	kept, err := tx.findPayments(ctx, payments)
	if err != nil {
		return nil, err
	}
	out := make([]seckill.PaymentResult, len(payments))
	changes := seckill.NewChanges()
	for i := range payments {
		p := payments[i]
		order, ok := orders[p.Order]
		switch {
		case !ok:
			out[i] = seckill.DecidePayment(p, nil, kept, tx.now, changes)
		case tx.held(&order):
			out[i] = seckill.PaymentResult{Verdict: seckill.PaymentLocked, Order: order}
		default:
			out[i] = seckill.DecidePayment(p, &order, kept, tx.now, changes)
			orders[p.Order] = order
		}
	}
	return out, tx.writeChanges(ctx, changes)
}

const paymentColumns = `merchant, payment, order_id, activity, sku, amount, currency, state, cause, kept_at, done_at, done_by,
	reference`

func scanPayment(rows *sql.Rows) (seckill.KeptPayment, error) {
	var k seckill.KeptPayment
	var kept, done int64
	err := rows.Scan(&k.Merchant, &k.ID, &k.Order, &k.Activity, &k.SKU, &k.Amount.Minor, &k.Amount.Currency, &k.State, &k.Cause,
		&kept, &done, &k.DoneBy, &k.Reference)
	k.KeptAt, k.DoneAt = fromMicros(kept), orZero(done)
	return k, err
}

// readPayments returns the payments of a query; the query's text follows after the columns.
func readPayments(ctx context.Context, q querier, tail string, args ...any) ([]seckill.KeptPayment, error) {
	var out []seckill.KeptPayment
	rows, err := q.query(ctx, "SELECT "+paymentColumns+" FROM payments "+tail, args...)
	err = each(rows, err, func(rows *sql.Rows) error {
		k, err := scanPayment(rows)
		out = append(out, k)
		return err
	})
	return out, err
}

// findPayments returns the stored payments with these merchants and ids.
func (tx *transaction) findPayments(ctx context.Context, payments []seckill.Payment) (map[seckill.PaymentKey]*seckill.KeptPayment, error) {
	byMerchant := make(map[seckill.MerchantID][]seckill.PaymentID)
	for i := range payments {
		p := &payments[i]
		byMerchant[p.Merchant] = append(byMerchant[p.Merchant], p.ID)
	}
	kept := make(map[seckill.PaymentKey]*seckill.KeptPayment)
	for merchant, ids := range byMerchant {
		err := lookup(ctx, tx, "SELECT "+paymentColumns+" FROM payments WHERE merchant = ? AND payment IN ({?})",
			[]any{string(merchant)}, ids, text[seckill.PaymentID], func(rows *sql.Rows) error {
				k, err := scanPayment(rows)
				kept[k.Key()] = &k
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// writePayments writes the payments that a decision keeps or changes, and the notices that it
// refuses.
func (tx *transaction) writePayments(ctx context.Context, c *seckill.Changes) error {
	const query = "INSERT INTO payments (" + paymentColumns + `) VALUES {(?,?,?,?,?,?,?,?,?,?,?,?,?)}
		ON CONFLICT (merchant, payment) DO UPDATE SET order_id = excluded.order_id, activity = excluded.activity, sku = excluded.sku,
			amount = excluded.amount, currency = excluded.currency, state = excluded.state, cause = excluded.cause,
			kept_at = excluded.kept_at, done_at = excluded.done_at, done_by = excluded.done_by, reference = excluded.reference`
	err := insert(ctx, tx.statements, query, c.LastPayments(), func(args []any, k *seckill.KeptPayment) []any {
		return append(args, string(k.Merchant), string(k.ID), string(k.Order), string(k.Activity), string(k.SKU), k.Amount.Minor,
			k.Amount.Currency, string(k.State), string(k.Cause), k.KeptAt.UnixMicro(), micros(k.DoneAt), k.DoneBy, k.Reference)
	})
	if err != nil {
		return err
	}
	for i := range c.Refused {
		if err := tx.refuse(ctx, &c.Refused[i]); err != nil {
			return err
		}
	}
	return nil
}

// refuse keeps or counts a refused notice.
func (tx *transaction) refuse(ctx context.Context, r *seckill.RefusedPayment) error {
	args := []any{string(r.Order), string(r.Merchant), string(r.ID), r.Amount.Minor, r.Amount.Currency, string(r.Problem), r.At.UnixMicro()}
	n, err := tx.change(ctx, `UPDATE refused_payments SET count = count + 1, at = ?7 WHERE order_id = ?1 AND merchant = ?2
		AND payment = ?3 AND amount = ?4 AND currency = ?5 AND problem = ?6`, args...)
	if err != nil || n > 0 {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO refused_payments (order_id, merchant, payment, amount, currency, problem, count, at)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, 1, ?7 WHERE (SELECT count(*) FROM refused_payments WHERE order_id = ?1) < ?8`,
		append(args, seckill.MaxRefused)...)
	return err
}

// RefusePayment implements seckill.OrderBooks.
func (s *Store) RefusePayment(ctx context.Context, r seckill.RefusedPayment) error {
	return s.write(ctx, "keep a refused payment notice", func(ctx context.Context, tx *transaction) error {
		r.At = tx.now
		return tx.refuse(ctx, &r)
	})
}

// ApplyEarly implements seckill.OrderBooks. In most cases nothing is early, and a reader can see
// that without the writer.
func (s *Store) ApplyEarly(ctx context.Context, limit int) (int, error) {
	const what = "apply early payments"
	const ready = `WHERE state = 'early' AND EXISTS (SELECT 1 FROM orders WHERE orders.id = payments.order_id AND orders.state <> 'parked')
		ORDER BY kept_at LIMIT ?`
	var found []seckill.KeptPayment
	err := s.read(ctx, what, func(q *statements) (err error) {
		found, err = readPayments(ctx, q, ready, max(limit, 0))
		return err
	})
	if err != nil || len(found) == 0 {
		return 0, err
	}
	payments := make([]seckill.Payment, len(found))
	for i := range found {
		payments[i] = found[i].Payment
	}
	count := 0
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		count = 0
		results, err := tx.pay(ctx, payments)
		for i := range results {
			if results[i].Verdict != seckill.PaymentLocked {
				count++
			}
		}
		return err
	})
	return count, err
}

// FindPayments implements seckill.OrderBooks.
func (s *Store) FindPayments(ctx context.Context, merchant seckill.MerchantID, id seckill.PaymentID) ([]seckill.KeptPayment, error) {
	var out []seckill.KeptPayment
	err := s.read(ctx, "find a payment", func(q *statements) (err error) {
		out, err = readPayments(ctx, q, "INDEXED BY payments_by_id WHERE payment = ?1 AND (?2 = '' OR merchant = ?2) ORDER BY merchant",
			string(id), string(merchant))
		return err
	})
	return out, err
}

// Refunds implements seckill.OrderBooks.
func (s *Store) Refunds(ctx context.Context, q seckill.RefundQuery) ([]seckill.KeptPayment, error) {
	// Each of the two lists is read backwards in an index, beginning at the mark.
	const behind = `AND state IN ('due', 'done') AND state = ? AND kept_at <= ?
		AND (kept_at, merchant, payment) < (?, ?, ?) ORDER BY kept_at DESC, merchant DESC, payment DESC LIMIT ?`
	tail, args := "WHERE true ", []any{}
	if q.Merchant != "" {
		tail, args = "WHERE merchant = ? ", append(args, string(q.Merchant))
	}
	mark := farAway
	if !q.Before.KeptAt.IsZero() {
		mark = q.Before.KeptAt.UnixMicro()
	}
	args = append(args, string(q.State), mark, mark, string(q.Before.Merchant), string(q.Before.ID), max(q.Limit, 0))
	var out []seckill.KeptPayment
	err := s.read(ctx, "list refunds", func(st *statements) (err error) {
		out, err = readPayments(ctx, st, tail+behind, args...)
		return err
	})
	return out, err
}

// farAway is later than every stored time, in microseconds.
const farAway = int64(1) << 62

// RefundSums implements seckill.OrderBooks.
func (s *Store) RefundSums(ctx context.Context, state seckill.PaymentState, merchant seckill.MerchantID) ([]seckill.RefundSum, error) {
	var out []seckill.RefundSum
	among := "state IN ('due', 'done')"
	if state == seckill.PaymentStateEarly {
		among = "state = 'early'"
	}
	err := s.read(ctx, "add refunds up", func(q *statements) error {
		rows, err := q.query(ctx, "SELECT merchant, cause, currency, sum(amount), count(*) FROM payments WHERE "+among+` AND state = ?1
			AND (?2 = '' OR merchant = ?2) GROUP BY merchant, cause, currency ORDER BY merchant, cause, currency`, string(state), string(merchant))
		return each(rows, err, func(rows *sql.Rows) error {
			var r seckill.RefundSum
			err := rows.Scan(&r.Merchant, &r.Cause, &r.Amount.Currency, &r.Amount.Minor, &r.Count)
			out = append(out, r)
			return err
		})
	})
	return out, err
}

// SettleRefund implements seckill.OrderBooks.
func (s *Store) SettleRefund(ctx context.Context, r seckill.Refund, by seckill.Author) (seckill.KeptPayment, seckill.Order, error) {
	var kept seckill.KeptPayment
	var order seckill.Order
	what := fmt.Sprintf("settle the refund of payment %s", r.Payment)
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		found, err := readPayments(ctx, tx, "WHERE merchant = ? AND payment = ?", string(r.Merchant), string(r.Payment))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return seckill.ErrNotFound
		}
		kept = found[0]
		before := kept
		othersDue, err := exists(ctx, tx, `SELECT 1 FROM payments WHERE order_id = ? AND state = 'due'
			AND (merchant, payment) <> (?, ?)`, string(kept.Order), string(kept.Merchant), string(kept.ID))
		if err != nil {
			return err
		}
		orders, err := findOrders(ctx, tx, []seckill.OrderID{kept.Order})
		if err != nil {
			return err
		}
		var row *seckill.Order
		order = seckill.Order{}
		if o, ok := orders[kept.Order]; ok {
			order, row = o, &order
		}
		changes := seckill.NewChanges()
		if err := seckill.DecideRefund(&r, &kept, row, othersDue, by, tx.now, changes); err != nil {
			return err
		}
		record, err := seckill.RecordRefund(&before, &kept)
		if err != nil {
			return err
		}
		if err := tx.record(ctx, by, record); err != nil {
			return err
		}
		return tx.writeChanges(ctx, changes)
	})
	return kept, order, err
}

package node

import (
	"context"
	"time"

	"github.com/penstock/penstock/seckill"
)

// SearchOrders implements seckill.Store.
func (d *database) SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.SearchOrders(ctx, q)
}

// FindPayments implements seckill.Store.
func (d *database) FindPayments(ctx context.Context, merchant seckill.MerchantID, id seckill.PaymentID) ([]seckill.KeptPayment, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.FindPayments(ctx, merchant, id)
}

// OrderTrail implements seckill.Store.
func (d *database) OrderTrail(ctx context.Context, o *seckill.Order) (seckill.OrderTrail, error) {
	s, err := d.store()
	if err != nil {
		return seckill.OrderTrail{}, err
	}
	return s.OrderTrail(ctx, o)
}

// ApplyEarly implements seckill.Store.
func (d *database) ApplyEarly(ctx context.Context, limit int) (int, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.ApplyEarly(ctx, limit)
}

// RefusePayment implements seckill.Store.
func (d *database) RefusePayment(ctx context.Context, r seckill.RefusedPayment) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.RefusePayment(ctx, r)
}

// Refunds implements seckill.Store.
func (d *database) Refunds(ctx context.Context, q seckill.RefundQuery) ([]seckill.KeptPayment, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Refunds(ctx, q)
}

// RefundSums implements seckill.Store.
func (d *database) RefundSums(ctx context.Context, state seckill.PaymentState, merchant seckill.MerchantID) ([]seckill.RefundSum, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.RefundSums(ctx, state, merchant)
}

// SettleRefund implements seckill.Store.
func (d *database) SettleRefund(ctx context.Context, r seckill.Refund, by seckill.Author) (seckill.KeptPayment, seckill.Order, error) {
	s, err := d.store()
	if err != nil {
		return seckill.KeptPayment{}, seckill.Order{}, err
	}
	return s.SettleRefund(ctx, r, by)
}

// ExtendOrders implements seckill.Store.
func (d *database) ExtendOrders(ctx context.Context, id seckill.ActivityID, by time.Duration, author seckill.Author) (int64, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.ExtendOrders(ctx, id, by, author)
}

// Statement implements seckill.Store.
func (d *database) Statement(ctx context.Context, merchant seckill.MerchantID, from, to time.Time) ([]seckill.StatementRow, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Statement(ctx, merchant, from, to)
}

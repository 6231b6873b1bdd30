package admin

import (
	"context"
	"errors"
	"time"

	"penstock/internal/settings"
	"penstock/seckill"
	"penstock/seckill/desk"
)

// Deps is what the listener works with. All fields but Metrics are needed.
type Deps struct {
	Office Office
	Store  Store
	// Settings changes what every node has in force.
	Settings *settings.Publisher
	// Refresh brings what was written to the catalog into force on this node; the others look for themselves.
	Refresh func(ctx context.Context) error
	// Catalog returns the catalog in force on this node. It must not block.
	Catalog func() *seckill.Catalog
	// Health says how this node does.
	Health Health
	// Metrics are asked at every scrape. They must not block for long, and may be called by two scrapes at once.
	Metrics []func() []Sample
}

// Health says how a node does, from memory. Its methods must not block.
type Health interface {
	// Missing names what the node needs to answer buyers and doesn't have; "" where it has all.
	Missing() string
	// AppendReport appends the JSON document of /readyz?verbose, which begins with ready and draining.
	AppendReport(dst []byte, ready, draining bool) []byte
}

// Office is what of *desk.Office the listener uses.
type Office interface {
	PutActivity(ctx context.Context, a seckill.Activity, by seckill.Author) (*seckill.Activity, error)
	Publish(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error)
	Pause(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error)
	Resume(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error)
	End(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error)
	Restock(ctx context.Context, id seckill.ActivityID, sku seckill.SKU, key string, delta int64, by seckill.Author) (desk.Restocked, error)
	Audit(ctx context.Context, id seckill.ActivityID) ([]desk.Audit, error)
	Replay(ctx context.Context, ids []int64, by seckill.Author) ([]seckill.Acceptance, error)
	Discard(ctx context.Context, ids []int64, by seckill.Author) (int, error)

	SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error)
	OrdersPaidBy(ctx context.Context, merchant seckill.MerchantID, id seckill.PaymentID) ([]seckill.Order, error)
	OrderDetails(ctx context.Context, id seckill.OrderID) (desk.OrderDetails, error)
	CancelOrder(ctx context.Context, id seckill.OrderID, by seckill.Author) (seckill.Order, error)
	Refunds(ctx context.Context, q seckill.RefundQuery) ([]seckill.KeptPayment, error)
	RefundSums(ctx context.Context, state seckill.PaymentState, merchant seckill.MerchantID) ([]seckill.RefundSum, error)
	SettleRefund(ctx context.Context, r seckill.Refund, by seckill.Author) (seckill.KeptPayment, seckill.Order, error)
	ExtendOrders(ctx context.Context, id seckill.ActivityID, d time.Duration, by seckill.Author) (int64, error)
	Statement(ctx context.Context, merchant seckill.MerchantID, from, to time.Time) ([]seckill.StatementLine, error)
}

// Store is what of seckill.Store the listener uses: merchants and callers have no rules but those of their fields, which are
// checked here.
type Store interface {
	FindActivity(ctx context.Context, id seckill.ActivityID) (*seckill.Activity, error)
	PutMerchant(ctx context.Context, m seckill.Merchant, by seckill.Author) error
	AddCaller(ctx context.Context, c seckill.Caller, by seckill.Author) error
	SetCallerRevoked(ctx context.Context, c seckill.CallerRef, revoked bool, by seckill.Author) error

	Changes(ctx context.Context, before int64, limit int) ([]seckill.Change, error)
	FindChange(ctx context.Context, number int64) (seckill.Change, error)
	DeadLetters(ctx context.Context, after int64, limit int) ([]seckill.DeadLetter, error)
	PutToken(ctx context.Context, t seckill.Token, by seckill.Author) error
	Tokens(ctx context.Context) ([]seckill.Token, error)
	DropToken(ctx context.Context, name string, by seckill.Author) error
}

func (d *Deps) validate() error {
	if d.Office == nil || d.Store == nil || d.Settings == nil || d.Refresh == nil || d.Catalog == nil || d.Health == nil {
		return errors.New("office, store, settings, refresh, catalog and health are needed")
	}
	return nil
}

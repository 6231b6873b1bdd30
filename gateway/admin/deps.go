package admin

import (
	"context"
	"errors"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/desk"
)

// Deps has the parts that the listener uses. A field is needed unless its comment says otherwise.
type Deps struct {
	Office Office
	Store  Store
	// Settings publishes changes of limits, switches and webhooks to all nodes.
	Settings *settings.Publisher
	// Refresh brings a written catalog into force on this node; the other nodes notice it
	// themselves.
	Refresh func(ctx context.Context) error
	// Catalog returns the catalog in force on this node. It must not block.
	Catalog func() *seckill.Catalog
	// Queue asks the brokers how far the workers have read each partition.
	Queue func(ctx context.Context) ([]Partition, error)
	// Log reads the records that the queue has kept.
	Log desk.LogReader
	// Secrets encrypts the secrets of merchants and webhooks at rest; nil keeps them as they are.
	Secrets *vault.Vault
	// Health tells the state of this node.
	Health Health
	// Limits reports how much the gateways admit and refuse by their limits.
	Limits LimitReports
	// Memory asks the servers of the stock how much memory they use. nil: the stock is in this
	// process.
	Memory func(ctx context.Context) ([]StockMemory, error)
	// Webhooks reports the state of the deliveries to receivers of events.
	Webhooks Webhooks
	// Level returns this node's degrade level. It must not block. nil: the node has no levels.
	Level func() degrade.LevelState
	// Live has the live view; nil: there is none.
	Live *live.Hub
	// Metrics are called at every scrape, possibly by two scrapes at once. They must not block for
	// long.
	Metrics []func() []Sample
}

// Health tells the state of a node, from memory. Its methods must not block.
type Health interface {
	// Missing names what the node lacks to answer buyers; "" if it lacks nothing.
	Missing() string
	// AppendReport appends the JSON document of /readyz?verbose, which begins with ready and
	// draining.
	AppendReport(dst []byte, ready, draining bool) []byte
}

// LimitReports reports how much the gateways admit and refuse by their limits.
type LimitReports interface {
	// LimitReports returns the reports that are there. missing names what is missing; "" if nothing
	// is.
	LimitReports(ctx context.Context) (reports []limiter.NodeReport, missing string)
	// LimitHistory returns the requests that all gateways' limits counted in the last
	// limiter.HistorySpan. missing names what is missing; "" if nothing is.
	LimitHistory(ctx context.Context) (series []limiter.Series, missing string)
}

// Office has the methods of *desk.Office that the listener uses.
type Office interface {
	PutActivity(ctx context.Context, a seckill.Activity, by seckill.Author) (*seckill.Activity, error)
	CheckActivity(ctx context.Context, a seckill.Activity) error
	EditItem(ctx context.Context, id seckill.ActivityID, sku seckill.SKU, edit desk.ItemEdit, by seckill.Author) (*seckill.Activity, error)
	Delete(ctx context.Context, id seckill.ActivityID, by seckill.Author) error
	Publish(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error)
	Pause(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error)
	Resume(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error)
	End(ctx context.Context, id seckill.ActivityID, confirmed bool, by seckill.Author) (*seckill.Activity, error)
	Archive(ctx context.Context, id seckill.ActivityID, copied seckill.Archive, by seckill.Author) (*seckill.Activity, error)
	KeptUntil(a *seckill.Activity) time.Time
	Restock(ctx context.Context, id seckill.ActivityID, sku seckill.SKU, key string, delta int64, by seckill.Author) (desk.Restocked, error)
	Audit(ctx context.Context, id seckill.ActivityID) ([]desk.Audit, error)
	AuditShard(ctx context.Context, shard int, mend bool, by seckill.Author) (*desk.ShardAudit, error)
	Replay(ctx context.Context, ids []int64, by seckill.Author) ([]seckill.Acceptance, error)
	Discard(ctx context.Context, ids []int64, by seckill.Author) (int, error)
	ReplayLog(ctx context.Context, log desk.LogReader, r desk.LogReplay, by seckill.Author) (desk.LogReplayed, error)

	SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error)
	OrdersPaidBy(ctx context.Context, merchant seckill.MerchantID, id seckill.PaymentID) ([]seckill.Order, error)
	OrderDetails(ctx context.Context, id seckill.OrderID) (desk.OrderDetails, error)
	CancelOrder(ctx context.Context, id seckill.OrderID, by seckill.Author) (seckill.Order, error)
	Refunds(ctx context.Context, q seckill.RefundQuery) ([]seckill.KeptPayment, error)
	RefundSums(ctx context.Context, state seckill.PaymentState, merchant seckill.MerchantID) ([]seckill.RefundSum, error)
	SettleRefund(ctx context.Context, r seckill.Refund, by seckill.Author) (seckill.KeptPayment, seckill.Order, error)
	ExtendOrders(ctx context.Context, id seckill.ActivityID, d time.Duration, by seckill.Author) (int64, error)
	Statement(ctx context.Context, merchant seckill.MerchantID, from, to time.Time) ([]seckill.StatementRow, error)
}

// Store has the methods of seckill.Store that the listener uses. For merchants and callers the only
// rules are those of their fields, which this package checks.
type Store interface {
	FindActivity(ctx context.Context, id seckill.ActivityID) (*seckill.Activity, error)
	UpdateMerchant(ctx context.Context, id seckill.MerchantID, by seckill.Author,
		change func(old *seckill.Merchant, now time.Time) (*seckill.Merchant, error)) (*seckill.Merchant, error)
	UpdateCaller(ctx context.Context, ref seckill.CallerRef, by seckill.Author,
		change func(old *seckill.Caller, now time.Time) (*seckill.Caller, error)) (*seckill.Caller, error)
	KeyUses(ctx context.Context, ref seckill.CallerRef) ([]seckill.KeyUse, error)

	Changes(ctx context.Context, before int64, limit int) ([]seckill.Change, error)
	FindChange(ctx context.Context, number int64) (seckill.Change, error)
	DeadLetters(ctx context.Context, after int64, limit int) ([]seckill.DeadLetter, error)
	AddToken(ctx context.Context, t seckill.Token, life time.Duration, by seckill.Author) (seckill.Token, error)
	Tokens(ctx context.Context) ([]seckill.Token, error)
	DropToken(ctx context.Context, id seckill.TokenID, by seckill.Author) error
	NoteTokenUse(ctx context.Context, u seckill.TokenUse) error
}

func (d *Deps) validate() error {
	missing := d.Office == nil || d.Store == nil || d.Settings == nil || d.Refresh == nil || d.Catalog == nil || d.Queue == nil || d.Log == nil
	if missing || d.Health == nil || d.Limits == nil || d.Webhooks == nil {
		return errors.New("office, store, settings, refresh, catalog, queue, log, health, limits and webhooks are needed")
	}
	return nil
}

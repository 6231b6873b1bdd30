package node

import (
	"context"
	"time"

	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// This file passes calls to the store, once it is available (database.store).

// LoadCatalog implements seckill.Store.
func (d *database) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(whole bool),
	apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	s, err := d.store()
	if err != nil {
		return seckill.CatalogVersion{}, err
	}
	return s.LoadCatalog(ctx, since, begin, apply)
}

// FindActivity implements seckill.Store.
func (d *database) FindActivity(ctx context.Context, id seckill.ActivityID) (*seckill.Activity, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.FindActivity(ctx, id)
}

// UpdateMerchant implements seckill.Store.
func (d *database) UpdateMerchant(ctx context.Context, id seckill.MerchantID, by seckill.Author,
	change func(*seckill.Merchant, time.Time) (*seckill.Merchant, error)) (*seckill.Merchant, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.UpdateMerchant(ctx, id, by, change)
}

// UpdateCaller implements seckill.Store.
func (d *database) UpdateCaller(ctx context.Context, ref seckill.CallerRef, by seckill.Author,
	change func(*seckill.Caller, time.Time) (*seckill.Caller, error)) (*seckill.Caller, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.UpdateCaller(ctx, ref, by, change)
}

// NoteKeyUses implements seckill.Store.
func (d *database) NoteKeyUses(ctx context.Context, uses []seckill.KeyUse) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.NoteKeyUses(ctx, uses)
}

// KeyUses implements seckill.Store.
func (d *database) KeyUses(ctx context.Context, ref seckill.CallerRef) ([]seckill.KeyUse, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.KeyUses(ctx, ref)
}

// UpdateActivity implements seckill.Store.
func (d *database) UpdateActivity(ctx context.Context, id seckill.ActivityID, by seckill.Author,
	change func(old *seckill.Activity) (*seckill.Activity, error)) (*seckill.Activity, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.UpdateActivity(ctx, id, by, change)
}

// MayDrop implements seckill.Store.
func (d *database) MayDrop(ctx context.Context, id seckill.ActivityID, before, archived time.Time) (bool, error) {
	s, err := d.store()
	if err != nil {
		return false, err
	}
	return s.MayDrop(ctx, id, before, archived)
}

// DropEnded implements seckill.Store.
func (d *database) DropEnded(ctx context.Context, before, archived time.Time, limit int) ([]seckill.ActivityID, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.DropEnded(ctx, before, archived, limit)
}

// Accept implements seckill.Store.
func (d *database) Accept(ctx context.Context, b seckill.Batch) ([]seckill.Acceptance, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Accept(ctx, b)
}

// Positions implements seckill.Store.
func (d *database) Positions(ctx context.Context) ([]seckill.Position, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Positions(ctx)
}

// AddPartitions implements seckill.Store.
func (d *database) AddPartitions(ctx context.Context, topic seckill.TopicID, n int32) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.AddPartitions(ctx, topic, n)
}

// FindOrders implements seckill.Store.
func (d *database) FindOrders(ctx context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.FindOrders(ctx, ids)
}

// OrdersOf implements seckill.Store.
func (d *database) OrdersOf(ctx context.Context, item inventory.ItemID, after seckill.OrderID,
	limit int) ([]seckill.OrderID, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.OrdersOf(ctx, item, after, limit)
}

// Cancel implements seckill.Store.
func (d *database) Cancel(ctx context.Context, cancels []seckill.Cancellation) ([]seckill.Moved, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Cancel(ctx, cancels)
}

// Pay implements seckill.Store.
func (d *database) Pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Pay(ctx, payments)
}

// TimeOut implements seckill.Store.
func (d *database) TimeOut(ctx context.Context, shards []inventory.ShardID, held []seckill.ActivityID,
	limit int) (int, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.TimeOut(ctx, shards, held, limit)
}

// Unpark implements seckill.Store.
func (d *database) Unpark(ctx context.Context, shards []inventory.ShardID, limit int) ([]seckill.Acceptance, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Unpark(ctx, shards, limit)
}

// Bury implements seckill.Store.
func (d *database) Bury(ctx context.Context, ref inventory.Ref, incarnation string,
	holds []inventory.Hold) ([]bool, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Bury(ctx, ref, incarnation, holds)
}

// Relay implements seckill.Store.
func (d *database) Relay(ctx context.Context, shards []inventory.ShardID, after int64, limit int,
	deliver func(ctx context.Context, rows []seckill.Outgoing) (delivered []int)) (int64, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.Relay(ctx, shards, after, limit, deliver)
}

// Shards implements seckill.Store.
func (d *database) Shards(ctx context.Context) ([]seckill.ShardRow, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Shards(ctx)
}

// Incarnation implements seckill.Store.
func (d *database) Incarnation(ctx context.Context) (string, error) {
	s, err := d.store()
	if err != nil {
		return "", err
	}
	return s.Incarnation(ctx)
}

// NextEpoch implements seckill.Store.
func (d *database) NextEpoch(ctx context.Context, shard inventory.ShardID) (inventory.Epoch, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.NextEpoch(ctx, shard)
}

// Fence implements seckill.Store.
func (d *database) Fence(ctx context.Context, ref inventory.Ref, incarnation string) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.Fence(ctx, ref, incarnation)
}

// Snapshot implements seckill.Store.
func (d *database) Snapshot(ctx context.Context, ref inventory.Ref, hot []inventory.ItemID,
	load func(items []inventory.Stocked, entries []inventory.Entry) error) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.Snapshot(ctx, ref, hot, load)
}

// MarkSuspect implements seckill.Store.
func (d *database) MarkSuspect(ctx context.Context, ref inventory.Ref) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.MarkSuspect(ctx, ref)
}

// Restock implements seckill.Store.
func (d *database) Restock(ctx context.Context, c seckill.StockChange, by seckill.Author) (int64, bool, error) {
	s, err := d.store()
	if err != nil {
		return 0, false, err
	}
	return s.Restock(ctx, c, by)
}

// Withdraw implements seckill.Store.
func (d *database) Withdraw(ctx context.Context, c seckill.StockChange, holds []seckill.Taken,
	by seckill.Author) (int64, bool, error) {
	s, err := d.store()
	if err != nil {
		return 0, false, err
	}
	return s.Withdraw(ctx, c, holds, by)
}

// MoveUnits implements seckill.Store.
func (d *database) MoveUnits(ctx context.Context, from seckill.Taken, to inventory.ShardID) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.MoveUnits(ctx, from, to)
}

// FindStockChange implements seckill.Store.
func (d *database) FindStockChange(ctx context.Context, item inventory.ItemID,
	key string) (seckill.StockChange, bool, error) {
	s, err := d.store()
	if err != nil {
		return seckill.StockChange{}, false, err
	}
	return s.FindStockChange(ctx, item, key)
}

// ActivityBooks implements seckill.Store.
func (d *database) ActivityBooks(ctx context.Context, id seckill.ActivityID) ([]seckill.Book, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.ActivityBooks(ctx, id)
}

// ShardBooks implements seckill.Store.
func (d *database) ShardBooks(ctx context.Context, shard inventory.ShardID, after inventory.ItemID,
	limit int) ([]seckill.Book, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.ShardBooks(ctx, shard, after, limit)
}

// ShardSums implements seckill.Store.
func (d *database) ShardSums(ctx context.Context, shard inventory.ShardID) (seckill.ShardSums, error) {
	s, err := d.store()
	if err != nil {
		return seckill.ShardSums{}, err
	}
	return s.ShardSums(ctx, shard)
}

// Recount implements seckill.Store.
func (d *database) Recount(ctx context.Context, shard inventory.ShardID, mend bool, by seckill.Author) (*seckill.Recount, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Recount(ctx, shard, mend, by)
}

// Unpublished implements seckill.Store.
func (d *database) Unpublished(ctx context.Context, id seckill.ActivityID) (int, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.Unpublished(ctx, id)
}

// Changes implements seckill.Store.
func (d *database) Changes(ctx context.Context, before int64, limit int) ([]seckill.Change, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Changes(ctx, before, limit)
}

// AdminNews implements seckill.Store.
func (d *database) AdminNews(ctx context.Context) (seckill.AdminNews, error) {
	s, err := d.store()
	if err != nil {
		return seckill.AdminNews{}, err
	}
	return s.AdminNews(ctx)
}

// FindChange implements seckill.Store.
func (d *database) FindChange(ctx context.Context, number int64) (seckill.Change, error) {
	s, err := d.store()
	if err != nil {
		return seckill.Change{}, err
	}
	return s.FindChange(ctx, number)
}

// DeadLetters implements seckill.Store.
func (d *database) DeadLetters(ctx context.Context, after int64, limit int) ([]seckill.DeadLetter, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.DeadLetters(ctx, after, limit)
}

// ReplayDeadLetters implements seckill.Store.
func (d *database) ReplayDeadLetters(ctx context.Context, ids []int64,
	by seckill.Author) ([]seckill.Acceptance, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.ReplayDeadLetters(ctx, ids, by)
}

// DiscardDeadLetters implements seckill.Store.
func (d *database) DiscardDeadLetters(ctx context.Context, ids []int64, by seckill.Author) (int, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.DiscardDeadLetters(ctx, ids, by)
}

// AddToken implements seckill.Store.
func (d *database) AddToken(ctx context.Context, t seckill.Token, life time.Duration, by seckill.Author) (seckill.Token, error) {
	s, err := d.store()
	if err != nil {
		return t, err
	}
	return s.AddToken(ctx, t, life, by)
}

// NoteTokenUse implements seckill.Store.
func (d *database) NoteTokenUse(ctx context.Context, u seckill.TokenUse) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.NoteTokenUse(ctx, u)
}

// Tokens implements seckill.Store.
func (d *database) Tokens(ctx context.Context) ([]seckill.Token, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.Tokens(ctx)
}

// DropToken implements seckill.Store.
func (d *database) DropToken(ctx context.Context, id seckill.TokenID, by seckill.Author) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.DropToken(ctx, id, by)
}

// ExchangeSettings implements settings.Store.
func (d *database) ExchangeSettings(ctx context.Context, b settings.Beat) (settings.Update, error) {
	s, err := d.store()
	if err != nil {
		return settings.Update{}, err
	}
	return s.ExchangeSettings(ctx, b)
}

// LeaveSettings implements settings.Store.
func (d *database) LeaveSettings(ctx context.Context, instance string) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.LeaveSettings(ctx, instance)
}

// SettingsMembers implements settings.Store.
func (d *database) SettingsMembers(ctx context.Context) ([]settings.Member, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	return s.SettingsMembers(ctx)
}

// FindSettings implements settings.Store.
func (d *database) FindSettings(ctx context.Context, name string) (settings.Document, time.Time, error) {
	s, err := d.store()
	if err != nil {
		return settings.Document{}, time.Time{}, err
	}
	return s.FindSettings(ctx, name)
}

// RemoveMember implements settings.Store.
func (d *database) RemoveMember(ctx context.Context, node string, by settings.Author) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.RemoveMember(ctx, node, by)
}

// DrainMember implements settings.Store.
func (d *database) DrainMember(ctx context.Context, node string, drain bool, by settings.Author) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.DrainMember(ctx, node, drain, by)
}

// PutSettings implements settings.Store.
func (d *database) PutSettings(ctx context.Context, document settings.Document, by settings.Author) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	return s.PutSettings(ctx, document, by)
}

// RelayEvents implements backoffice.EventStore.
func (d *database) RelayEvents(ctx context.Context, limit int,
	deliver func(ctx context.Context, steps []seckill.Step) error) (int, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.RelayEvents(ctx, limit, deliver)
}

// EventsWaiting implements backoffice.EventStore.
func (d *database) EventsWaiting(ctx context.Context) (time.Duration, error) {
	s, err := d.store()
	if err != nil {
		return 0, err
	}
	return s.EventsWaiting(ctx)
}

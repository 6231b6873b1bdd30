package seckill

import (
	"context"
	"time"

	"penstock/inventory"
)

// Stock is what a sale needs of its stock; inventory.Stock and stocktest.Model implement it. Every method may be called
// from many goroutines and repeated for ever. An error that wraps *inventory.UnknownError may have taken effect; any other
// error means nothing happened; inventory.ErrClosed, ErrEpoch and ErrLost are answers of the shard.
type Stock interface {
	// Hold takes units, or says why not. limit is the most units the buyer may have of the item; 0 is no limit.
	// Strings in h must stay unchanged for ever: the call may outlive ctx.
	Hold(ctx context.Context, ref inventory.Ref, h inventory.Hold, limit int) (inventory.Grant, error)
	// SoldOut reports, from memory, that the item has no unit and that no hold named id exists.
	SoldOut(ref inventory.Ref, id string) bool
	// Absent reports, from memory, that no hold named id existed at since. False means: ask Find.
	Absent(ref inventory.Ref, id string, since time.Time) bool
	// InStock reports whether the item was last seen with a unit available.
	InStock(item inventory.ItemID) bool
	// Find returns a hold's state in the shard of the given epoch, with its quantity and buyer.
	Find(ctx context.Context, ref inventory.Ref, id string) (inventory.Entry, error)
	// Watch tells which shards to keep an eye on, replacing the earlier list.
	Watch(refs []inventory.Ref)

	// Confirm marks holds whose orders exist; one that the shard forgot is put back.
	Confirm(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) error
	// Settle ends holds.
	Settle(ctx context.Context, ref inventory.Ref, ends []inventory.Settlement) error
	// Restock adds units once per id and epoch.
	Restock(ctx context.Context, ref inventory.Ref, id string, units int) error
	// Levels reads the shard whatever its epoch; a shard that knows nothing has Epoch 0.
	Levels(ctx context.Context, item inventory.ItemID) (inventory.Levels, error)

	// Note begins a sweep: it returns the shard's seq. Fresh holds touched at or below it are old once the sweep's age has passed.
	Note(ctx context.Context, ref inventory.Ref) (uint64, error)
	// Old returns up to limit fresh or doomed holds last touched at or below note.
	Old(ctx context.Context, ref inventory.Ref, note uint64, limit int) ([]inventory.Entry, error)
	// Doom dooms those of the holds that are fresh and not touched since note. It returns, for each, its state afterwards.
	Doom(ctx context.Context, ref inventory.Ref, note uint64, ids []string) ([]inventory.State, error)

	// Close empties the item's shard and marks it {ref.Epoch, closed}. ErrEpoch where a later epoch stands, or this one is open.
	// It returns when every connected replica has the mark: a failover must not forget it.
	Close(ctx context.Context, ref inventory.Ref) error
	// Load writes holds into the shard that ref's own Close left; ErrEpoch where it isn't there any more.
	Load(ctx context.Context, ref inventory.Ref, entries []inventory.Entry) error
	// Open sets the counts and opens the shard that ref's own Close left; ErrEpoch where it isn't there any more, ErrLost where
	// it has not just the known names that were loaded: a failover may keep a close and forget what was loaded since.
	Open(ctx context.Context, ref inventory.Ref, available, held, sold, known int64) error
}

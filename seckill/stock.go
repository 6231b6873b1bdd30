package seckill

import (
	"context"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Stock has the methods of the stock that a sale needs; inventory.Stock and stocktest.Model
// implement it. Every method may be called from many goroutines, and repeated any number of times.
// An error that wraps *inventory.UnknownError may have taken effect. Any other error means that
// nothing happened. inventory.ErrClosed, ErrEpoch and ErrLost are answers of the shard.
type Stock interface {
	Holder
	Books
	Repair
}

// Holder has the methods of the stock that the desk uses.
type Holder interface {
	// Hold takes units for many buyers. All calls go to their shards in one write; each gets its
	// own answers. The calls should be of one Redis node (see Lane).
	Hold(ctx context.Context, calls []*inventory.HoldCall)
	// Lane returns the number of the group of shards that one Redis node has: shards of one lane
	// are best asked together. The numbers are small and begin at 0. It is a hint and may change.
	Lane(shard inventory.ShardID) int
	// Find returns a hold with its state; State is None if there is none.
	Find(ctx context.Context, ref inventory.Ref, item inventory.ItemID, id string) (inventory.Entry, error)

	// Watch sets the shards to follow, with their epochs. It replaces the earlier list.
	Watch(refs []inventory.Ref)
	// Epoch returns the shard's epoch that this process follows; 0 if none was set yet.
	Epoch(shard inventory.ShardID) inventory.Epoch
	// SoldOut reports, from memory, that the item has no unit on the shard and that no hold with
	// the head of id exists there.
	SoldOut(ref inventory.Ref, item inventory.ItemID, id string) bool
	// Absent reports, from memory, that no hold with the head of id existed at since. False means
	// that memory doesn't know: call Find.
	Absent(ref inventory.Ref, id string, since time.Time) bool
	// InStock reports whether the item was last seen with a unit on the shard, and how old that is.
	// An unknown item counts as in stock.
	InStock(shard inventory.ShardID, item inventory.ItemID) (inStock bool, age time.Duration)
}

// Books has the methods that tell the stock what the store decided, and those that read the stock.
type Books interface {
	// Confirm marks holds whose orders exist. A hold that the shard has forgotten is restored.
	Confirm(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) error
	// Settle ends holds.
	Settle(ctx context.Context, ref inventory.Ref, ends []inventory.Settlement) error
	// Restock adds units. It returns for each whether it is applied, now or before.
	Restock(ctx context.Context, ref inventory.Ref, restocks []inventory.Restock) (applied []bool, err error)
	// AllNumbers reads several shards in any epoch, each at its own moment; an empty shard has
	// Epoch 0. errs has an error for each that could not be read.
	AllNumbers(ctx context.Context, shards []inventory.ShardID) (all []inventory.Numbers, errs []error)
	// ItemNumbers reads items of the shard at one moment with its levels, whatever its epoch.
	ItemNumbers(ctx context.Context, shard inventory.ShardID, items []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error)
}

// Repair has the methods of the stock that sweeper and rebuilder use.
type Repair interface {
	// Note begins a sweep: it returns the shard's seq. Fresh holds last touched at or below it are
	// old once the sweep's age has passed.
	Note(ctx context.Context, ref inventory.Ref) (uint64, error)
	// Old returns fresh or doomed holds last touched at or below note, about limit of them. The
	// holds that it looked at move to the end, so that undecidable holds don't hide others. more is
	// false when all were looked at. Begin with cursor 0, and pass the returned cursor to the next
	// call.
	Old(ctx context.Context, ref inventory.Ref, note uint64, cursor int64, limit int) (old []inventory.Entry, next int64, more bool, err error)
	// Doom dooms those of the holds that are fresh and not touched since note. It returns, for
	// each, its state afterwards. It returns when the connected replicas have the doom, which must
	// not be lost.
	Doom(ctx context.Context, ref inventory.Ref, note uint64, holds []inventory.Hold) ([]inventory.State, error)

	// Close empties the shard and marks it {ref.Epoch, closed}. ErrEpoch: the shard has a later
	// epoch, or is open under this one. It returns when the connected replicas have the mark.
	Close(ctx context.Context, ref inventory.Ref) error
	// Load writes items and holds into the shard that ref's own Close left; ErrEpoch if it isn't
	// there any more. It may be called again with the same, and from many goroutines.
	Load(ctx context.Context, ref inventory.Ref, items []inventory.Stocked, entries []inventory.Entry) error
	// Open opens the shard that ref's own Close closed, if it has all loaded data: that many items
	// and heads of names. ErrEpoch: it is no longer closed by that Close. ErrLost: a failover kept
	// the close and lost loaded data. It returns when the connected replicas have it.
	Open(ctx context.Context, ref inventory.Ref, items, names int64) error
	// Forget drops items, and the holds of theirs whose names have these heads. Heads may come in
	// many calls; the items last.
	Forget(ctx context.Context, ref inventory.Ref, items []inventory.ItemID, heads []string) error
}

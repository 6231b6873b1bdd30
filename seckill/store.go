package seckill

import (
	"context"
	"errors"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Store keeps the truth: totals, orders, changes. internal/sqlite and internal/postgres implement
// it and pass internal/proof/storetest. Every method is one transaction (unless it says otherwise),
// safe for concurrent use by many processes, and may be repeated after an error. Times come from
// the database's clock. The pure functions of this package decide what a change means for rows and
// counts. A store only writes their result (Changes).
//
// Everything that decides is an UPDATE with its condition in the WHERE. No row updated is ErrMoved
// or ErrFenced: begin again. The four conditions are:
//
//	position = the one this batch was read from           Accept                            ErrMoved
//	epoch = mine, with the shard's row held FOR SHARE      Accept, Cancel, Bury, Withdraw    ErrFenced
//	next_epoch = mine (the last epoch given out)           Fence                             ErrFenced
//	incarnation = the one read before the doom or barrier  Bury, Fence                       ErrFenced
type Store interface {
	CatalogStore
	OrderStore
	StockStore
	AdminStore
	OrderBooks
	// Close releases the store. It returns when no call is in progress.
	Close() error
}

// Answers of a store that are decisions, not failures.
var (
	ErrNotFound = errors.New("not found")
	// ErrExists means that the name is taken.
	ErrExists = errors.New("already exists")
	// ErrFenced means that the call came too late: the shard's epoch is not the one it was meant
	// for, a later epoch was given out, or the database was restored or restarted since.
	ErrFenced = errors.New("fenced off")
	// ErrMoved means that another worker, or a restored database, has moved the position: read
	// again from the position in the store.
	ErrMoved = errors.New("the position has moved")
	// ErrLocked means that another transaction has locked the row of an item for too long.
	ErrLocked = errors.New("a stock row is locked")
	// ErrKeyReused means that the idempotency key was used for something else.
	ErrKeyReused = errors.New("idempotency key reused")
	// ErrTooLow means that the total would fall below what is sold and ordered.
	ErrTooLow = errors.New("less stock than that")
	// ErrTooHigh means that the total would rise above MaxItemQuantity.
	ErrTooHigh = errors.New("more stock than an item may have")
	// ErrLayout means that the installation has another number of shards or more partitions than
	// asked for.
	ErrLayout = errors.New("another layout")
	// ErrForeign means that a server has the data of another installation.
	ErrForeign = errors.New("it belongs to another installation")
)

// Author is the author of a change, with the reason.
type Author struct {
	Actor   string
	Token   string // the id of the token; "" for a change that the system makes itself
	Address string // the client's address without a port; "" if unknown
	Reason  string
}

// CatalogVersion is the point up to which a catalog was read. The zero value is the beginning.
// Versions of different incarnations can't be compared.
type CatalogVersion struct {
	Incarnation string
	Number      int64
}

// CatalogChange is one present entry of the catalog. Exactly one of its members is set. An activity
// whose items did not change since the caller's version comes without them (ItemsKept).
type CatalogChange struct {
	Merchant  *Merchant
	Caller    *Caller
	Activity  *Activity
	ItemsKept bool
	Dropped   ActivityID // it is gone
}

// CatalogStore keeps merchants, callers and activities, which change seldom.
type CatalogStore interface {
	// LoadCatalog passes everything that changed since a version to apply, and returns the version
	// it has read. whole means that the whole catalog was passed: an entry that was not passed is
	// deleted. whole is true if since is zero or of another incarnation. begin is called before the
	// first change, also when there is none. Merchants come before callers and activities.
	// Activities hold their items in the order of their places. Quantities are those of this moment
	// only: a restock is no change of the catalog.
	LoadCatalog(ctx context.Context, since CatalogVersion, begin func(whole bool),
		apply func(CatalogChange) error) (CatalogVersion, error)
	// FindActivity reads an activity with its present quantities, or ErrNotFound.
	FindActivity(ctx context.Context, id ActivityID) (*Activity, error)

	// UpdateMerchant reads a merchant (nil if there is none), calls change to compute the new one
	// (see MerchantEdit), and writes it with a change record. now is the database's time. A change
	// that changes nothing is not recorded. An error from change is returned and nothing is
	// written. change must be pure: it may run again, and it owns its arguments.
	UpdateMerchant(ctx context.Context, id MerchantID, by Author,
		change func(old *Merchant, now time.Time) (*Merchant, error)) (*Merchant, error)
	// UpdateCaller is UpdateMerchant for a caller with its keys (see CallerEdit); ErrNotFound
	// without its merchant.
	UpdateCaller(ctx context.Context, ref CallerRef, by Author,
		change func(old *Caller, now time.Time) (*Caller, error)) (*Caller, error)
	// NoteKeyUses stores the last uses of keys that are later than the stored ones. It ignores
	// deleted keys. It is no change of the catalog and is not recorded.
	NoteKeyUses(ctx context.Context, uses []KeyUse) error
	// KeyUses returns the last use of each key of a caller; a key that was never used is left out.
	KeyUses(ctx context.Context, ref CallerRef) ([]KeyUse, error)

	// UpdateActivity reads an activity (nil if there is none), calls change to compute the new one,
	// and writes it with a change record. New items (ID 0) get ids, and a stock row for each of
	// their shards; items that are no longer listed are deleted (only a draft's are). Quantity is
	// written to the stock rows while the activity is a draft, and moves by restock afterwards. A
	// draft that becomes published leaves the restocks of PublishRestocks in the outbox, in the
	// same transaction. An error from change is returned as it is and nothing is written. change
	// must be pure: it may run again. Where change returns nil the activity is deleted, which it
	// must never have been on sale for, and nil is returned.
	UpdateActivity(ctx context.Context, id ActivityID, by Author,
		change func(old *Activity) (*Activity, error)) (*Activity, error)
	// DropEnded deletes up to limit activities with their items, and returns them: those that
	// closed before a time, and those that have an archive and closed before archived. An activity
	// with open orders, outbox rows or refunds due is not deleted; neither is one with a payment or
	// a new order since its archive. The orders are deleted with their partition, when all of its
	// sales are over.
	DropEnded(ctx context.Context, before, archived time.Time, limit int) ([]ActivityID, error)
	// MayDrop reports whether DropEnded would delete the activity now.
	MayDrop(ctx context.Context, id ActivityID, before, archived time.Time) (bool, error)
}

// Batch is the input of a worker's transaction: pages, unreadable records, and the moves of the
// positions.
type Batch struct {
	Pages   []Page
	Letters []DeadLetter
	Moves   []Move
	// Park means that promises of items with locked rows are parked. Without it, Accept returns
	// ErrLocked after a short wait.
	Park bool
	// By is the person that replays the log. Each order that is made is recorded as a change by
	// this person. Such a batch has no Moves. The zero value is a worker.
	By Author
}

// OrderStore keeps orders, and the outbox of what Redis must be told about them.
type OrderStore interface {
	// Accept makes order rows of promises, as DecideAccept decides under the rows of their shards
	// and items, keeps letters, and moves the positions; all in one transaction. It returns the
	// outcome of each promise, page by page. ErrMoved: a position is not the From of its move.
	Accept(ctx context.Context, b Batch) ([]Acceptance, error)
	// Positions returns the workers' position in every known partition.
	Positions(ctx context.Context) ([]Position, error)
	// AddPartitions adds the partitions 0 to n-1 of a topic for workers and barriers; new ones
	// begin at offset 0. With another topic id, all begin again at offset 0. ErrLayout: more than n
	// partitions are known.
	AddPartitions(ctx context.Context, topic TopicID, n int32) error

	// FindOrders returns the orders that exist, in the order of ids; the others have an empty ID.
	FindOrders(ctx context.Context, ids []OrderID) ([]Order, error)
	// OrdersOf returns up to limit ids of orders of an item above after, in order.
	OrdersOf(ctx context.Context, item inventory.ItemID, after OrderID, limit int) ([]OrderID, error)
	// Cancel applies EventCancelled to each, and returns each order as it is afterwards (empty ID:
	// no such order) and whether it moved now. The row of an order that is still queued is made
	// cancelled at once, under the epoch of its hold; if that epoch is over, the result is the same
	// as for an unknown order. Orders whose rows are locked have Locked set, and are to be tried
	// again.
	Cancel(ctx context.Context, cancels []Cancellation) ([]Moved, error)
	// Pay books payments, as DecidePayment decides. Those whose order's row is locked have the
	// verdict PaymentLocked, and must be tried again.
	Pay(ctx context.Context, payments []Payment) ([]PaymentResult, error)
	// TimeOut applies EventTimedOut to up to limit orders of the shards whose pay_by has passed,
	// oldest first, and returns how many. Locked rows are left for the next call, and so are orders
	// of the activities in held.
	TimeOut(ctx context.Context, shards []inventory.ShardID, held []ActivityID, limit int) (int, error)
	// Unpark tries up to limit parked orders of the shards again, beginning with those whose last
	// try is longest ago. A parked order with a dead letter is tried only when its letter is
	// replayed.
	Unpark(ctx context.Context, shards []inventory.ShardID, limit int) ([]Acceptance, error)
	// Bury writes tombstones for holds whose orders don't exist (withdrawals too). ErrFenced unless
	// the shard's epoch is ref's and the incarnation is the database's. Each tombstone leaves a
	// settlement (void) in the outbox. It returns for each hold whether its order exists, and is
	// not buried.
	Bury(ctx context.Context, ref inventory.Ref, incarnation string, holds []inventory.Hold) ([]bool, error)

	// Relay passes up to limit outbox rows of the shards, with ids above after and in their order,
	// to deliver. Each comes with its shard's epoch as the same statement read it. Relay deletes
	// the rows whose index deliver returns. It returns the id of the last row it passed, 0 if there
	// was none. A row may be passed more than once, also to two relays.
	Relay(ctx context.Context, shards []inventory.ShardID, after int64, limit int,
		deliver func(ctx context.Context, rows []Outgoing) (delivered []int)) (last int64, err error)
}

// StockStore keeps totals, shards and epochs.
type StockStore interface {
	// Shards returns the row of every shard, in order.
	Shards(ctx context.Context) ([]ShardRow, error)
	// Incarnation names this life of the database: it changes with each failover, restore and
	// restart.
	Incarnation(ctx context.Context) (string, error)
	// NextEpoch gives out the shard's next epoch: the greatest of the last one given out + 1, the
	// shard's + 1, and the database's clock in milliseconds. Each is given out once.
	NextEpoch(ctx context.Context, shard inventory.ShardID) (inventory.Epoch, error)
	// Fence makes ref.Epoch the shard's epoch, where it is the last one given out and the
	// incarnation is the database's; ErrFenced otherwise. Repeating it changes nothing.
	Fence(ctx context.Context, ref inventory.Ref, incarnation string) error
	// Snapshot reads the shard at one moment after ref's fence and passes it to load in pages of a
	// bounded size: its published items, then its holds, those of one item together and in the
	// order of their names. Open and parked orders are Ordered, paid ones Sold, the others Void;
	// withdrawals too. The outbox rows of stock changes that the snapshot counts are deleted in the
	// same transaction, which commits when load has returned nil for all. The items in hot come
	// first. ErrFenced where the epoch is not ref's, or its snapshot was committed before: between
	// fence and snapshot no outbox row of a stock change is handed out, since the snapshot counts
	// it.
	Snapshot(ctx context.Context, ref inventory.Ref, hot []inventory.ItemID,
		load func(items []inventory.Stocked, entries []inventory.Entry) error) error
	// MarkSuspect asks for a rebuild of the shard if its epoch is ref's or earlier.
	MarkSuspect(ctx context.Context, ref inventory.Ref) error

	// Restock raises the item's total once per key, and leaves restocks in the outbox. replayed is
	// true if the key was used before for the same change; ErrKeyReused if it was used for another
	// one.
	Restock(ctx context.Context, c StockChange, by Author) (total int64, replayed bool, err error)
	// Withdraw lowers the item's total once per key, for units that holds have taken, and leaves a
	// settlement (sold) of each hold in the outbox. The sum of the holds is -c.Delta. ErrFenced
	// unless the epoch of each hold's shard is its own; ErrNotFound when a hold has a tombstone.
	Withdraw(ctx context.Context, c StockChange, holds []Taken, by Author) (total int64, replayed bool, err error)
	// MoveUnits moves a hold's units of an item from its shard to another one: both totals change,
	// the hold is settled (sold) there and the units restocked here. Once per hold. Errors as
	// Withdraw.
	MoveUnits(ctx context.Context, from Taken, to inventory.ShardID) error
	// FindStockChange returns the change made under a key of the item; a withdrawal's tombstone is
	// none.
	FindStockChange(ctx context.Context, item inventory.ItemID, key string) (StockChange, bool, error)

	// ActivityBooks returns the database's side of the stock equation of an activity's items, in
	// the items' order, a book for each shard of an item.
	ActivityBooks(ctx context.Context, id ActivityID) ([]Book, error)
	// ShardBooks returns the books of items of a shard with an id above after, in order, up to
	// limit.
	ShardBooks(ctx context.Context, shard inventory.ShardID, after inventory.ItemID, limit int) ([]Book, error)
	// ShardSums returns the sums of a shard that the audit compares, read at one moment.
	ShardSums(ctx context.Context, shard inventory.ShardID) (ShardSums, error)
	// Recount reads a shard at one moment: its counters and digests, and what its orders' rows add
	// up to. With mend, differing counters that are mendable are set to the sums of the rows, in
	// the same transaction and with a change record. The result has the values from before.
	Recount(ctx context.Context, shard inventory.ShardID, mend bool, by Author) (*Recount, error)
	// Unpublished returns how many restocks of the activity's publication still wait in the outbox.
	Unpublished(ctx context.Context, id ActivityID) (int, error)
}

// ShardRow is a shard in the database. A shard of epoch 0 was never opened.
type ShardRow struct {
	Ref       inventory.Ref
	NextEpoch inventory.Epoch // the last one given out
	Suspect   bool            // this epoch has lost writes: rebuild it
	// Unloaded means that the epoch was fenced, but its snapshot wasn't taken yet: no stock change
	// of the shard is relayed. If the shard is open nevertheless, a database was restored: rebuild
	// it.
	Unloaded bool
}

// ShardSums is the database's side of a shard's audit: digests over the names of orders that are
// open or parked, and of those that are sold; and how many outbox rows of the shard are on their
// way.
type ShardSums struct {
	Ref     inventory.Ref
	Open    inventory.Digest
	Sold    inventory.Digest
	Pending int64
}

// Taken is a hold by the shop on units of an item, and where it was given.
type Taken struct {
	Ref  inventory.Ref
	Hold inventory.Hold
}

// AdminStore keeps changes, dead letters and admin tokens, for the admin listener.
type AdminStore interface {
	// Changes returns up to limit changes with a number below before (0: the newest), newest first.
	Changes(ctx context.Context, before int64, limit int) ([]Change, error)
	// AdminNews returns the number of the newest change, and a bounded count of dead letters. Its
	// cost doesn't grow with their number.
	AdminNews(ctx context.Context) (AdminNews, error)
	// FindChange returns one change, or ErrNotFound.
	FindChange(ctx context.Context, number int64) (Change, error)

	// DeadLetters returns up to limit dead letters with an id above after, in order.
	DeadLetters(ctx context.Context, after int64, limit int) ([]DeadLetter, error)
	// ReplayDeadLetters tries the parked orders of dead letters again, as DecideUnpark decides, and
	// deletes the letters that have no parked order any more. A letter of a whole record is parsed
	// again by ParsePage first. It returns the outcome of each order.
	ReplayDeadLetters(ctx context.Context, ids []int64, by Author) ([]Acceptance, error)
	// DiscardDeadLetters discards dead letters and returns how many there were: their parked orders
	// become rejected (ReasonDiscarded), and their units come back.
	DiscardDeadLetters(ctx context.Context, ids []int64, by Author) (int, error)

	// AddToken adds an admin token if AdmitToken allows it, and returns it with its times.
	AddToken(ctx context.Context, t Token, life time.Duration, by Author) (Token, error)
	// Tokens returns all tokens, expired ones too, in the order of their names and ids.
	Tokens(ctx context.Context) ([]Token, error)
	// DropToken deletes a token; ErrNotFound without it.
	DropToken(ctx context.Context, id TokenID, by Author) error
	// NoteTokenUse stores the last use of a token, if it is later than the stored one. It is not
	// recorded.
	NoteTokenUse(ctx context.Context, u TokenUse) error
}

// Outcome is the outcome of a promise in a worker's transaction.
type Outcome uint8

// The outcomes. OutcomeSkipped is a promise of an older epoch without a row: it was never
// acknowledged with a 202. OutcomeParked keeps its unit and becomes an order later.
const (
	OutcomeOpened Outcome = iota + 1
	OutcomeExists
	OutcomeRejected
	OutcomeSkipped
	OutcomeParked
)

// Acceptance is a promise's outcome. Order is the row, where there is one. Ref is the shard under
// its epoch at that moment. Ahead means that the promise was of a later epoch: the database is
// behind, and the shard must be rebuilt.
type Acceptance struct {
	Outcome Outcome
	Order   Order
	Ref     inventory.Ref
	Ahead   bool
	Trace   string // the promise's span if it is traced; set by the worker, not by the store
}

// Cancellation is the cancellation of an order. Queued has the data of an order without a row, from
// its hold under Ref; nil if the order has a row.
type Cancellation struct {
	Order  OrderID
	Queued *Promise
	Ref    inventory.Ref
	By     Author // the operator that does it instead of the buyer, for a change record; zero for the buyer
}

// Moved is an order after an event, and whether the event moved it now.
type Moved struct {
	Order  Order
	Now    bool
	Locked bool // nothing was decided: another transaction has the row
}

// Outgoing is an outbox row: a settlement, or a restock when Restock.Item is not 0. Stock says that
// a fence's snapshot counts it.
type Outgoing struct {
	Ref        inventory.Ref // with the shard's epoch at the time of reading
	Settlement inventory.Settlement
	Restock    inventory.Restock
	Stock      bool
}

// StockChange is a restock (Delta > 0) or a withdrawal (Delta < 0).
type StockChange struct {
	Item  inventory.ItemID
	Key   string
	Delta int64
}

// Book is the database's side of an item's stock equation on one shard, in units. PendingUnits and
// PendingStock are still in the outbox, to be told to Redis: units of ended orders, and the sum of
// restocks and withdrawals. Published is false while the item is a draft's.
type Book struct {
	Item         inventory.ItemID
	SKU          SKU
	Shard        inventory.ShardID
	Epoch        inventory.Epoch
	Published    bool
	Total        int64
	Open         int64
	Sold         int64
	Parked       int64
	PendingUnits int64
	PendingStock int64
	Skipped      int64
	Rejected     int64
}

// Change is the record of one change by a person.
type Change struct {
	Number int64
	At     time.Time
	Author
	Kind   string // merchant, caller, activity, stock, token, dead-letters, order, refund, extension
	Key    string // the name of the object
	Before string // JSON; "" for a new object
	After  string // JSON; "" for a deleted object
}

// AdminNews tells whether there are new changes or dead letters.
type AdminNews struct {
	Change  int64 // the number of the newest change; 0 without one
	Letters int64 // dead letters, at most MaxLettersCounted
}

// MaxLettersCounted is how many dead letters AdminNews counts at most.
const MaxLettersCounted = 10_000

// DeadLetter is a record that no worker can read, or a promise that fits no item and is parked.
type DeadLetter struct {
	ID        int64
	Order     OrderID // the parked order; "" for a whole record
	Partition int32
	Offset    int64
	At        time.Time
	Problem   string
	Value     []byte
}

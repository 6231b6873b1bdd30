package seckill

import (
	"context"
	"errors"
	"time"

	"penstock/inventory"
)

// Store keeps the truth: totals, orders, changes. internal/sqlite and internal/postgres implement it and pass
// internal/proof/storetest. Every method is one transaction (unless it says otherwise), safe for concurrent use by many
// processes, and may be repeated after an error. Times come from the database's clock.
type Store interface {
	CatalogStore
	OrderStore
	StockStore
	AdminStore
	// Close releases the store. It returns when no call is under way.
	Close() error
}

// Answers of a store that are decisions, not failures.
var (
	ErrNotFound = errors.New("not found")
	// ErrExists means that the name is taken.
	ErrExists = errors.New("already exists")
	// ErrFenced means that the call came too late: the item's epoch is not the one it was meant for, or the partitions have
	// gone to another worker.
	ErrFenced = errors.New("fenced off")
	// ErrKeyReused means that the idempotency key was used for something else.
	ErrKeyReused = errors.New("idempotency key reused")
	// ErrTooLow means that the total would fall below what is sold and ordered.
	ErrTooLow = errors.New("less stock than that")
)

// Author says who changes something and why.
type Author struct {
	Actor  string
	Reason string
}

// CatalogStore keeps what changes seldom: merchants, callers, activities.
type CatalogStore interface {
	// LoadCatalog returns everything a gateway needs, or nil when the catalog's version is still known.
	LoadCatalog(ctx context.Context, known int64) (*CatalogData, error)

	// PutMerchant creates or renames a merchant. An empty PaymentSecret leaves the one there is.
	PutMerchant(ctx context.Context, m Merchant, by Author) error
	// AddCaller adds a caller; ErrNotFound without its merchant, ErrExists when the name was ever used.
	AddCaller(ctx context.Context, c Caller, by Author) error
	// SetCallerRevoked revokes a caller or takes that back; ErrNotFound without it. Repeating it changes nothing.
	SetCallerRevoked(ctx context.Context, c CallerRef, revoked bool, by Author) error

	// UpdateActivity reads an activity (nil when there is none), lets change say what it becomes, and writes that with a
	// change record. New items (ID 0) get ids, items that are no longer listed are deleted (only a draft's are). Quantity is
	// written while the item was never opened (Epoch 0), and moves by restock afterwards; Epoch and Suspect are never written.
	// An error from change is returned as it is and nothing is written. change must be pure: it may run again.
	UpdateActivity(ctx context.Context, id ActivityID, by Author,
		change func(old *Activity) (*Activity, error)) (*Activity, error)
}

// CatalogData is the catalog at one version.
type CatalogData struct {
	Version    int64
	Merchants  []Merchant
	Callers    []Caller
	Activities []Activity // with items; ended ones until they are dropped
}

// OrderStore keeps orders and what has to be told to Redis about them.
type OrderStore interface {
	// Accept makes order rows of records, as DecideAccept decides under the items' rows, and returns what became of each.
	// Rejected orders leave a settlement (void) in the outbox. Records of items that don't exist are Unfit.
	Accept(ctx context.Context, records []Record) ([]Acceptance, error)
	// FindOrders returns the orders that exist, in the order of ids; the others have an empty ID.
	FindOrders(ctx context.Context, ids []OrderID) ([]Order, error)
	// Cancel applies EventCancelled to each, and returns each order as it is afterwards (empty ID: no such order) and
	// whether it moved now. An order that moves leaves a settlement in the outbox.
	Cancel(ctx context.Context, ids []OrderID) ([]Moved, error)
	// Pay books payments, as DecidePayment decides.
	Pay(ctx context.Context, payments []Payment) ([]PaymentResult, error)
	// TimeOut applies EventTimedOut to up to limit orders whose pay_by has passed, oldest first, and returns how many.
	TimeOut(ctx context.Context, limit int) (int, error)
	// Bury writes tombstones for holds whose orders don't exist (withdrawals too), under ErrFenced unless the item's epoch
	// is ref's. Each tombstone leaves a settlement (void) in the outbox. It returns for each hold whether its order
	// exists, and is not buried: then it is to be confirmed.
	Bury(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) ([]bool, error)

	// Relay hands up to limit outbox rows with an id above after to deliver, in the order of their ids, and deletes those
	// whose index deliver returns. It returns the id of the last row it handed out, 0 when there was none: so rows that
	// can't be delivered now (their item is closed) keep nobody waiting. Rows may be handed out more than once, also to
	// two relays.
	Relay(ctx context.Context, after int64, limit int,
		deliver func(ctx context.Context, rows []Outgoing) (delivered []int)) (last int64, err error)
}

// StockStore keeps totals and epochs.
type StockStore interface {
	// LockItem takes the item's rebuild lock. ok is false when somebody else has it. A process that dies loses it.
	LockItem(ctx context.Context, item inventory.ItemID) (unlock func(), ok bool, err error)
	// NextEpoch gives out the item's next epoch; each is given out once. The item's own epoch doesn't change.
	NextEpoch(ctx context.Context, item inventory.ItemID) (inventory.Epoch, error)
	// Fence makes ref.Epoch the item's epoch and returns the item at that moment; ErrFenced where a later one stands.
	// Pending restocks and withdrawals leave the outbox: the snapshot counts them.
	Fence(ctx context.Context, ref inventory.Ref) (StockSnapshot, error)
	// MarkSuspect asks for a rebuild of the item if its epoch is ref's.
	MarkSuspect(ctx context.Context, ref inventory.Ref) error

	// Restock raises the item's total once per key, and leaves a restock in the outbox. replayed is true when the key was
	// used before for the same; ErrKeyReused for something else.
	Restock(ctx context.Context, c StockChange, by Author) (total int64, replayed bool, err error)
	// Withdraw lowers the item's total once per key, for units that hold (of ref's epoch) has taken, and leaves a settlement
	// (sold) of the hold in the outbox. ErrFenced unless the item's epoch is ref's; ErrNotFound when the hold has a tombstone.
	Withdraw(ctx context.Context, ref inventory.Ref, hold string, c StockChange, by Author) (total int64, replayed bool, err error)
	// FindStockChange returns the change made under a key of the item; a withdrawal's tombstone is none.
	FindStockChange(ctx context.Context, item inventory.ItemID, key string) (StockChange, bool, error)

	// Books returns the database's side of the stock equation of an activity's items, in the items' order.
	Books(ctx context.Context, id ActivityID) ([]Book, error)
}

// AdminStore keeps what the admin listener shows and changes beside the catalog.
type AdminStore interface {
	// Changes returns up to limit changes with a number below before (0: the newest), newest first.
	Changes(ctx context.Context, before int64, limit int) ([]Change, error)
	// FindChange returns one change, or ErrNotFound.
	FindChange(ctx context.Context, number int64) (Change, error)

	// AddDeadLetters keeps records that no worker can use; one (partition, offset) is kept once.
	AddDeadLetters(ctx context.Context, letters []DeadLetter) error
	// DeadLetters returns up to limit dead letters with an id above after, in order.
	DeadLetters(ctx context.Context, after int64, limit int) ([]DeadLetter, error)
	// DropDeadLetters deletes dead letters and returns how many there were.
	DropDeadLetters(ctx context.Context, ids []int64, by Author) (int, error)

	// PutToken adds an admin token or replaces the one of that name.
	PutToken(ctx context.Context, t Token, by Author) error
	// Tokens returns all tokens.
	Tokens(ctx context.Context) ([]Token, error)
	// DropToken deletes a token; ErrNotFound without it.
	DropToken(ctx context.Context, name string, by Author) error
}

// Outcome is what a worker's transaction made of a record.
type Outcome uint8

// The outcomes. OutcomeSkipped is a record of an older epoch without a row: nobody was promised it. OutcomeUnfit is a
// record that can never become an order.
const (
	OutcomeOpened Outcome = iota + 1
	OutcomeExists
	OutcomeRejected
	OutcomeSkipped
	OutcomeUnfit
)

// Acceptance is a record's outcome; Order is the row, where there is one; Epoch is the item's epoch at that moment.
type Acceptance struct {
	Outcome Outcome
	Order   Order
	Epoch   inventory.Epoch
}

// Moved is an order after an event, and whether the event moved it now.
type Moved struct {
	Order Order
	Now   bool
}

// Outgoing is an outbox row: a settlement, or a restock when Restock is not 0.
type Outgoing struct {
	Ref        inventory.Ref // with the item's epoch at the time of reading
	Settlement inventory.Settlement
	RestockID  string
	Restock    int
}

// StockSnapshot is an item at the moment of a fence. Entries holds all open orders (Ordered) and ended ones (Sold, Void).
type StockSnapshot struct {
	Total   int64
	Open    int64
	Sold    int64
	Entries []inventory.Entry
}

// StockChange is a restock (Delta > 0) or a withdrawal (Delta < 0).
type StockChange struct {
	Item  inventory.ItemID
	Key   string
	Delta int64
}

// Book is the database's side of an item's stock equation, in units. PendingUnits and PendingStock are what the outbox
// still has to tell Redis: units of ended orders, and the sum of restocks and withdrawals.
type Book struct {
	Item         inventory.ItemID
	SKU          SKU
	Epoch        inventory.Epoch
	Total        int64
	Open         int64
	Sold         int64
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
	Kind   string // merchant, caller, activity, stock, token, dead-letters
	Key    string // which one
	Before string // JSON, "" when it was made
	After  string // JSON, "" when it was deleted
}

// DeadLetter is a record that no worker can use.
type DeadLetter struct {
	ID        int64
	Partition int32
	Offset    int64
	At        time.Time
	Problem   string
	Value     []byte
}

package inventory

import (
	"errors"
	"fmt"
)

// ItemID names a sale item: one SKU of one activity. The database assigns it; zero means no item.
type ItemID uint32

// ShardID names a shard: 0 to the installation's number of shards - 1.
type ShardID uint16

// MaxShards is the most shards that an installation may have.
const MaxShards = 1024

// Epoch counts a shard's rebuilds. A shard only takes calls of its own epoch. Zero means a shard
// without data. An epoch is below 2^53, so that a Lua number can hold it.
type Epoch int64

// Ref names a shard under one epoch.
type Ref struct {
	Shard ShardID
	Epoch Epoch
}

// TailLength is the length in bytes of a name's tail. A name is head and tail. The head names item
// and buyer, so all holds of one buyer on one item have the same head; the tail tells them apart.
const TailLength = 16

// Head returns the part of a hold's name that names its item and buyer. A name that is too short to
// have a tail is its own head.
func Head(id string) string {
	if len(id) <= TailLength {
		return id
	}
	return id[:len(id)-TailLength]
}

// Place returns the shard of a hold. With spread 1, it is the item's home shard. Otherwise it is
// one of the spread shards from there on, chosen by the head of the hold's name, so that all holds
// of a buyer are on one shard. spread must be from 1 to shards.
func Place(item ItemID, spread int, id string, shards int) ShardID {
	if spread <= 1 {
		return Home(item, shards)
	}
	return ShardAt(item, int(fnv64(Head(id))%uint64(spread)), shards)
}

// ShardAt returns the i-th shard of an item, counted from 0: its home, and then the shards after
// it. i must be less than the item's spread.
func ShardAt(item ItemID, i, shards int) ShardID {
	return (Home(item, shards) + ShardID(i)) % ShardID(shards)
}

// Home returns the first shard of an item. An item that is spread over k shards is on this one and
// the k-1 after it, modulo shards.
func Home(item ItemID, shards int) ShardID {
	h := uint64(item) * 0x9e3779b97f4a7c15 // Fibonacci hashing: neighbours get places far apart
	return ShardID((h >> 32) % uint64(shards))
}

// Digest is a sum over the names of holds, modulo DigestModulus. It does not depend on their order,
// and a name can be subtracted again. Two different sets have the same digest with a chance of only
// about one in 10^14.
type Digest uint64

// DigestModulus bounds a digest: it is 2^48, so that a Lua number holds the sum of two digests
// exactly.
const DigestModulus = 1 << 48

// NameDigest returns the digest of one name.
func NameDigest(id string) Digest { return Digest(fnv64(id) % DigestModulus) }

// Add returns the digest with another one added.
func (d Digest) Add(other Digest) Digest { return (d + other) % DigestModulus }

// Sub returns the digest with another one subtracted.
func (d Digest) Sub(other Digest) Digest { return (d + DigestModulus - other) % DigestModulus }

// fnv64 is FNV-1a with a finalizer: FNV alone mixes its last bytes badly.
func fnv64(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h
}

// Hold is a claim to units of an item. ID is its name: the order's id, or a withdrawal's. Buyer is
// the buyer for whom it is held. It is "" for a withdrawal by the shop, which counts against no
// limit. Seq is the shard's seq after the hold was taken, if it is known: Confirm is faster with
// it. It changes no result, even if it is wrong.
type Hold struct {
	Item     ItemID
	ID       string
	Buyer    string
	Quantity int
	Seq      uint64
}

// Claim is a hold that is asked for. Limit is the most units of the item that the buyer may have,
// held and sold together. MaxOrders is the most holds of it that the buyer may ever make, including
// ended ones. 0 means no limit.
type Claim struct {
	Hold
	Limit     int
	MaxOrders int
}

// State is the state of a hold in a shard.
type State uint8

// The states of a hold. Void and Sold are markers: the hold has ended, and its name is remembered.
const (
	None State = iota
	Fresh
	Doomed
	Ordered
	Void
	Sold
)

// String returns the state's name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// stateNames is indexed by State.
var stateNames = [...]string{"none", "fresh", "doomed", "ordered", "void", "sold"}

// Verdict is a shard's answer to one claim.
type Verdict uint8

// The verdicts. Held took units now. HeldAgain, HeldOrdered, HeldEnded and HeldDoomed found a hold
// of the same name and took nothing. That hold is fresh (its age begins again), or its order
// exists, or it is a marker, or the sweeper is deciding it. SoldOut, OverLimit, TooMany and Reused
// are refusals and wrote nothing. Unopened means that the shard doesn't have the item yet: its
// units are on their way.
const (
	Held Verdict = iota + 1
	HeldAgain
	HeldOrdered
	HeldEnded
	HeldDoomed
	SoldOut
	OverLimit // the buyer would have more units than Limit
	TooMany   // the buyer has made MaxOrders holds of the item already
	Reused    // a hold of this name has another quantity
	Unopened
)

// Fresh reports whether the hold is fresh after the call: taken now, or found fresh.
func (v Verdict) Fresh() bool { return v == Held || v == HeldAgain }

// HoldCall is a batch's call to one shard, with its answer. Its strings must stay unchanged until
// Hold has returned.
type HoldCall struct {
	Ref    Ref
	Claims []Claim

	// Verdicts and Seq are set by Hold. If Err is nil, there is a verdict for each claim, and Seq
	// is the shard's seq after them.
	Verdicts []Verdict
	Seq      uint64
	Err      error
}

// Kind is the way in which Settle ends a hold.
type Kind uint8

// The ways to settle: SettleSold keeps the buyer's count and moves the units to sold; for a
// withdrawal, the total gets smaller instead. SettleVoid gives units and count back.
const (
	SettleSold Kind = iota + 1
	SettleVoid
)

// Settlement ends a hold.
type Settlement struct {
	Hold
	Kind Kind
}

// Restock adds units to an item, once per ID and epoch. Publish says that these are the units with
// which the item comes on sale: they are added if the shard does not know the item yet, and ID is
// not remembered. Another restock of an unknown item is not applied.
type Restock struct {
	Item    ItemID
	ID      string
	Units   int64
	Publish bool
}

// Entry is a hold as a shard has it, or as a rebuild writes it: Ordered, Void or Sold.
type Entry struct {
	Hold
	State State
}

// Stocked is an item as a rebuild writes it: its available units and its sold units.
type Stocked struct {
	Item      ItemID
	Total     int64
	Available int64
	Sold      int64
}

// Numbers is a shard at one moment. Fresh counts the units of holds that nobody confirmed yet.
// Ordered and Sold are digests over the names of the holds in that state; withdrawals are in
// neither.
type Numbers struct {
	Epoch   Epoch // 0 is a shard without data
	Closed  bool
	Seq     uint64
	Fresh   int64
	Names   int64 // heads that the shard remembers
	Items   int64
	Ordered Digest
	Sold    Digest
}

// ItemNumbers is an item on a shard at one moment, in units. Known is false if the shard does not
// know the item. Available + Held + Sold is the item's total on that shard.
type ItemNumbers struct {
	Item      ItemID
	Known     bool
	Available int64
	Held      int64
	Sold      int64
}

// Refusals of a whole call. A call that answers one of them has changed nothing.
var (
	// ErrClosed means the shard is being rebuilt.
	ErrClosed = errors.New("shard is closed")
	// ErrEpoch means the shard has a higher epoch than the call.
	ErrEpoch = errors.New("shard is of a later epoch")
	// ErrLost means that the shard has lost writes: its epoch or its seq went back.
	ErrLost = errors.New("shard has lost writes")
	// ErrForeign means that the Redis has the stock of another installation.
	ErrForeign = errors.New("it has the stock of another installation")
)

// UnknownError says that a call may have been executed: its reply never came. Errors of any other
// type mean that nothing happened.
type UnknownError struct{ Err error }

// Error implements error.
func (e *UnknownError) Error() string { return "outcome unknown: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnknownError) Unwrap() error { return e.Err }

// Limits of a hold and of a restock.
const (
	maxName  = 256
	maxUnits = 1_000_000_000
)

// ErrInvalid means that a call is malformed, whatever the state of the shard.
var ErrInvalid = errors.New("invalid call")

// minHead is the length in bytes of the shortest head. It is longer than an item's number, and
// longer than all names of other fields in the same Redis hash (lua/shard.lua).
const minHead = 11

// Validate reports whether h can be held. It needs an item, units, a name and a buyer of at most
// 256 bytes, and a head of at least 11 bytes.
func (h Hold) Validate() error {
	if h.Item == 0 || len(h.ID) < minHead+TailLength || len(h.ID) > maxName || len(h.Buyer) > maxName ||
		h.Quantity < 1 || h.Quantity > maxUnits {
		return fmt.Errorf("%w: hold %.60q of %.40q, %d units of item %d", ErrInvalid, h.ID, h.Buyer, h.Quantity, h.Item)
	}
	return nil
}

// Validate reports whether ref names a shard under an epoch.
func (r Ref) Validate() error {
	if r.Shard >= MaxShards || r.Epoch <= 0 {
		return fmt.Errorf("%w: shard %d, epoch %d", ErrInvalid, r.Shard, r.Epoch)
	}
	return nil
}

// Validate reports whether a restock is well formed.
func (r Restock) Validate() error {
	if r.Item == 0 || r.ID == "" || len(r.ID) > maxName || r.Units < 0 || r.Units > maxUnits || r.Units == 0 && !r.Publish {
		return fmt.Errorf("%w: restock %.40q of %d units of item %d", ErrInvalid, r.ID, r.Units, r.Item)
	}
	return nil
}

// Validate reports whether e can end a hold.
func (e Settlement) Validate() error {
	if e.Kind != SettleSold && e.Kind != SettleVoid {
		return fmt.Errorf("%w: settle %.60q as %d", ErrInvalid, e.ID, e.Kind)
	}
	return e.Hold.Validate()
}

// ValidateLoad reports whether a rebuild may write e.
func ValidateLoad(e Entry) error {
	if e.State != Ordered && e.State != Void && e.State != Sold {
		return fmt.Errorf("%w: load %.60q as %v", ErrInvalid, e.ID, e.State)
	}
	return e.Hold.Validate()
}

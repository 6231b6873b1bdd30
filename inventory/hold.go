package inventory

import (
	"errors"
	"fmt"
)

// ItemID names a sale item: one SKU of one activity. The database gives it out; zero is no item.
type ItemID uint32

// Epoch counts an item's rebuilds. A shard takes calls of its own epoch only. Zero is a shard that knows nothing.
type Epoch uint32

// Ref names an item's shard under one epoch.
type Ref struct {
	Item  ItemID
	Epoch Epoch
}

// Hold is a claim to units. ID is the order id (or a withdrawal's id); Buyer is whose limit it counts against, and "" for
// a merchant's withdrawal, which counts against nobody's.
type Hold struct {
	ID       string
	Buyer    string
	Quantity int
}

// State is what a shard knows of a hold.
type State uint8

// The states of a hold. Void and Sold are markers: the hold has ended, its name is remembered.
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

// Verdict is a shard's answer to one hold.
type Verdict uint8

// The verdicts. Held took units now. HeldAgain, HeldOrdered, HeldEnded and HeldDoomed met a hold of the same name and took
// nothing: a fresh one (its age begins anew), one whose order exists, a marker, and one that the sweeper is deciding.
// SoldOut, OverLimit and Reused are refusals and wrote nothing.
const (
	Held Verdict = iota + 1
	HeldAgain
	HeldOrdered
	HeldEnded
	HeldDoomed
	SoldOut
	OverLimit
	Reused
)

// Fresh reports whether the hold is fresh after the call: taken now, or met again.
func (v Verdict) Fresh() bool { return v == Held || v == HeldAgain }

// Grant is the answer to one hold. Shard and Seq are where and when it was given, for the auditor.
type Grant struct {
	Verdict Verdict
	Shard   uint16
	Seq     uint64
}

// Kind says how Settle ends a hold.
type Kind uint8

// The ways to settle: SettleSold keeps the buyer's count and moves the units to sold (a withdrawal's units leave the
// total instead); SettleVoid gives units and count back.
const (
	SettleSold Kind = iota + 1
	SettleVoid
)

// Settlement ends a hold.
type Settlement struct {
	Hold
	Kind Kind
}

// Entry is a hold as a rebuild writes it: Ordered, Void or Sold.
type Entry struct {
	Hold
	State State
}

// Levels is a shard at one moment. The counts are units; Fresh is the part of Held that nobody confirmed yet.
type Levels struct {
	Epoch     Epoch
	Closed    bool
	Seq       uint64
	Available int64
	Held      int64
	Sold      int64
	Fresh     int64
	Known     int64 // how many hold names the shard remembers
}

// Refusals of a whole call. Nothing was changed by a call that answers one of them.
var (
	// ErrClosed means the shard is being rebuilt.
	ErrClosed = errors.New("shard is closed")
	// ErrEpoch means the shard has a higher epoch than the call.
	ErrEpoch = errors.New("shard is of a later epoch")
	// ErrLost means the shard shows less than somebody has seen of it: an epoch or a seq that went back.
	ErrLost = errors.New("shard has lost writes")
	// ErrFull means the bounded queue in front of the shard is full.
	ErrFull = errors.New("too many calls wait for the shard")
)

// UnknownError says that a call may have been executed: its reply never came. Errors of any other type mean that nothing
// happened.
type UnknownError struct{ Err error }

// Error implements error.
func (e *UnknownError) Error() string { return "outcome unknown: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnknownError) Unwrap() error { return e.Err }

// Limits of what a hold or a restock may be.
const (
	maxName  = 256
	maxUnits = 1_000_000_000
)

// ErrInvalid means that a call makes no sense, whatever the shard says.
var ErrInvalid = errors.New("invalid call")

// Validate reports whether h can be held: a name and a buyer of at most 256 bytes, the name not empty, and units.
func (h Hold) Validate() error {
	if h.ID == "" || len(h.ID) > maxName || len(h.Buyer) > maxName || h.Quantity < 1 || h.Quantity > maxUnits {
		return fmt.Errorf("%w: hold %.40q of %.40q, %d units", ErrInvalid, h.ID, h.Buyer, h.Quantity)
	}
	return nil
}

// Validate reports whether ref names a shard: an item, and an epoch.
func (r Ref) Validate() error {
	if r.Item == 0 || r.Epoch == 0 {
		return fmt.Errorf("%w: item %d, epoch %d", ErrInvalid, r.Item, r.Epoch)
	}
	return nil
}

// ValidateRestock reports whether a restock makes sense.
func ValidateRestock(id string, units int) error {
	if err := validateName(id); err != nil {
		return err
	}
	if units < 1 || units > maxUnits {
		return fmt.Errorf("%w: restock %.40q of %d units", ErrInvalid, id, units)
	}
	return nil
}

// Validate reports whether e can end a hold.
func (e Settlement) Validate() error {
	if e.Kind != SettleSold && e.Kind != SettleVoid {
		return fmt.Errorf("%w: settle %.40q as %d", ErrInvalid, e.ID, e.Kind)
	}
	return e.Hold.Validate()
}

// ValidateLoad reports whether a rebuild may write e.
func ValidateLoad(e Entry) error {
	if e.State != Ordered && e.State != Void && e.State != Sold {
		return fmt.Errorf("%w: load %.40q as %v", ErrInvalid, e.ID, e.State)
	}
	return e.Hold.Validate()
}

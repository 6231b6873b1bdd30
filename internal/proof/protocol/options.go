package protocol

import (
	"errors"
	"fmt"
)

// The most that the model's fixed-size state has room for.
const (
	maxOrders   = 2
	maxAttempts = 4
	maxEpochs   = 6
	maxLog      = 4
)

// Options is a configuration to walk. Each number multiplies the states.
type Options struct {
	Orders   int // keys in use, 1 to 2
	Attempts int // attempts to buy in all, 1 to 4; attempt i is of order i modulo Orders
	Epochs   int // the highest epoch, 1 to 6: a rebuild takes the next, until they are used up
	Units    int // the item's total

	Losses           int // how often Redis may lose what it had
	WorkerCrashes    int
	RebuilderCrashes int
	Cancels          int // how often a desk may cancel an order that has no row yet

	Merchant bool // with one restock and one withdrawal in mid-sale
	Rollback bool // a loss is a failover to a replica that lags, not an empty Redis; excludes Merchant

	Without   Mutant // the rule to leave out; "" keeps them all
	Shortest  bool   // search breadth first: a path to a violation is a shortest one, for several times the memory
	MaxStates int    // give up beyond so many states; 0 is no limit
}

// Validate reports every option out of range.
func (o Options) Validate() error {
	var errs []error
	between := func(name string, n, low, high int) {
		if n < low || n > high {
			errs = append(errs, fmt.Errorf("%s is %d, want %d to %d", name, n, low, high))
		}
	}
	between("Orders", o.Orders, 1, maxOrders)
	between("Attempts", o.Attempts, 1, maxAttempts)
	between("Epochs", o.Epochs, 1, maxEpochs)
	between("Units", o.Units, 1, 100)
	between("Losses", o.Losses, 0, 100)
	between("WorkerCrashes", o.WorkerCrashes, 0, 100)
	between("RebuilderCrashes", o.RebuilderCrashes, 0, 100)
	between("Cancels", o.Cancels, 0, 100)
	if o.Merchant && o.Rollback {
		errs = append(errs, errors.New("options Merchant and Rollback do not combine: the replica keeps no restocks"))
	}
	if o.Without != "" && !o.Without.known() {
		errs = append(errs, fmt.Errorf("no rule is called %q", o.Without))
	}
	return errors.Join(errs...)
}

// Mutant names a rule that is left out.
type Mutant string

// The mutants. Each is a simpler design that looks right.
const (
	NoDoom      Mutant = "nodoom"      // the sweeper decides without marking the hold first
	NoTouch     Mutant = "notouch"     // a repeat of a purchase doesn't renew its hold's age
	NoDrain     Mutant = "nodrain"     // sweeper and rebuild decide before the workers have passed the log's end
	NoWait      Mutant = "nowait"      // a rebuild's snapshot doesn't wait until no older attempt may answer 202
	NoFence     Mutant = "nofence"     // the database takes records and tombstones of any epoch
	NoEpoch     Mutant = "noepoch"     // shards take calls of any epoch
	NoMarker    Mutant = "nomarker"    // a voided hold leaves nothing behind
	Undo        Mutant = "undo"        // a purchase whose put failed gives its unit back
	NoCloseWait Mutant = "noclosewait" // a rebuild goes on before the replicas have its closed mark
	NoAbsorb    Mutant = "noabsorb"    // a rebuild leaves stock changes in the outbox though its snapshot counts them
	NoWdFence   Mutant = "nowdfence"   // a withdrawal commits though its hold's epoch has passed
	NoLook      Mutant = "nolook"      // a desk that cancels makes a row without having seen a hold
	NoRsMark    Mutant = "norsmark"    // the shard doesn't remember which restocks it has applied
)

// Mutants returns every mutant, in the order of their declaration.
func Mutants() []Mutant {
	return []Mutant{
		NoDoom, NoTouch, NoDrain, NoWait, NoFence, NoEpoch, NoMarker, Undo, NoCloseWait, NoAbsorb, NoWdFence, NoLook, NoRsMark,
	}
}

func (m Mutant) known() bool {
	for _, k := range Mutants() {
		if k == m {
			return true
		}
	}
	return false
}

// Smallest returns a small configuration in which leaving the rule out breaks a law.
func (m Mutant) Smallest() Options {
	o := Options{Orders: 1, Attempts: 2, Epochs: 2, Units: 1, Losses: 1, WorkerCrashes: 1, Without: m}
	switch m {
	case NoCloseWait:
		o.Attempts, o.Epochs, o.WorkerCrashes, o.RebuilderCrashes, o.Rollback = 1, 3, 0, 1, true
	case NoLook:
		o.Orders, o.Epochs, o.Losses, o.WorkerCrashes, o.Cancels = 2, 1, 0, 0, 1
	case NoAbsorb, NoWdFence, NoRsMark:
		o.Attempts, o.Losses, o.WorkerCrashes, o.Merchant = 1, 0, 0, true
	}
	return o
}

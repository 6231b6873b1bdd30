package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Options is what to walk. Each number multiplies the states. Parse makes one of a text.
type Options struct {
	Orders     []Order          // at most 3
	Attempts   []int            // the order of each attempt, at most 3
	Units      [maxItems]int8   // of each item at the start
	Faults     [numFaults]uint8 // how often each fault may happen
	Epochs     int8             // the highest epoch of a shard; then no rebuild is started any more
	Shards     int              // 1 or 2: item i lives on shard i modulo Shards
	Spread     bool             // items 0 and 1 are the rows of one item, on two shards
	Gateways   int              // attempt i comes through gateway i modulo Gateways; 1 or 2
	Partitions int              // 1: records are read in order; more: in any order
	Sweepers   int              // 1 or 2; one of two is a stale owner
	Rebuilders int              // 1 or 2; with two shards, one for each
	Pay        bool             // orders are also paid, not only cancelled
	TwoStep    bool             // a fence is two transactions: the epoch, then the snapshot
	Fair       bool             // check that every state can reach a balanced one; 8 bytes more a step
	MaxStates  int              // give up beyond so many; 0 is no limit
	Without    []string         // the rules that are left out, see Mutants
}

// Order is one key: the item that it is of, and its buyer, a letter. Buyer s is the shop: it
// withdraws a unit. Buyer m is the shop, too: it moves a unit of a spread item from this row to the
// other one.
type Order struct {
	Item  int
	Buyer byte
}

// shop is the buyer of a withdrawal, mover that of a move.
const shop, mover = 's', 'm'

// The faults, in the order of faultNames.
const (
	faultEmpty = iota
	faultFailover
	faultSplit
	faultRestore
	faultTail
	faultPark
	faultRestock
	faultLate
	faultEarly
	faultCrash
	faultSuspect
	numFaults
)

var faultNames = [numFaults]string{
	"empty", "failover", "split", "restore", "tail", "park", "restock", "late", "early", "crash", "suspect",
}

// Parse reads options from words like "orders=0a,0b attempts=01 faults=empty,late=2 fair". A word
// that is absent has its default: one order, which is sent twice, and one failover that forgets.
func Parse(text string) (Options, error) {
	o := Options{
		Orders: []Order{{0, 'a'}}, Attempts: []int{0, 0}, Units: [maxItems]int8{1, 1},
		Epochs: 3, Shards: 1, Gateways: 1, Partitions: 1, Sweepers: 1, Rebuilders: 1,
	}
	o.Faults[faultFailover] = 1
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		if err := o.set(key, value); err != nil {
			return Options{}, fmt.Errorf("option %q: %w", word, err)
		}
	}
	return o, o.Validate()
}

// set takes one word.
func (o *Options) set(key, value string) (err error) {
	number := func(to *int) { *to, err = strconv.Atoi(value) }
	switch key {
	case "orders":
		o.Orders = nil
		for _, w := range strings.Split(value, ",") {
			if len(w) != 2 {
				return fmt.Errorf("%q is no order, want an item and a buyer, as 0a", w)
			}
			o.Orders = append(o.Orders, Order{int(w[0]) - '0', w[1]})
		}
	case "attempts":
		o.Attempts = nil
		for _, digit := range value {
			o.Attempts = append(o.Attempts, int(digit)-'0')
		}
	case "units":
		_, err = fmt.Sscanf(value, "%d,%d", &o.Units[0], &o.Units[1])
	case "faults":
		return o.setFaults(value)
	case "epochs":
		var n int
		number(&n)
		o.Epochs = int8(max(0, min(n, 100)))
	case "shards":
		number(&o.Shards)
	case "gateways":
		number(&o.Gateways)
	case "partitions":
		number(&o.Partitions)
	case "sweepers":
		number(&o.Sweepers)
	case "rebuilders":
		number(&o.Rebuilders)
	case "max":
		number(&o.MaxStates)
	case "spread":
		o.Spread = true
	case "pay":
		o.Pay = true
	case "twostep":
		o.TwoStep = true
	case "fair":
		o.Fair = true
	case "without":
		o.Without = strings.Split(value, ",")
	default:
		return fmt.Errorf("there is none of that name")
	}
	return err
}

func (o *Options) setFaults(value string) error {
	o.Faults = [numFaults]uint8{}
	if value == "none" {
		return nil
	}
	for _, f := range strings.Split(value, ",") {
		name, count, found := strings.Cut(f, "=")
		n, i := 1, slices.Index(faultNames[:], name)
		if found {
			var err error
			if n, err = strconv.Atoi(count); err != nil || n < 1 || n > 100 {
				return fmt.Errorf("fault %q: want a count from 1 to 100", f)
			}
		}
		if i < 0 {
			return fmt.Errorf("fault %q is not known, want some of %s", name, strings.Join(faultNames[:], ", "))
		}
		o.Faults[i] = uint8(n)
	}
	return nil
}

// Validate reports the first option out of range.
func (o *Options) Validate() error {
	between := func(name string, n, low, high int) error {
		if n < low || n > high {
			return fmt.Errorf("%s is %d, want %d to %d", name, n, low, high)
		}
		return nil
	}
	checks := []error{
		between("the number of orders", len(o.Orders), 1, maxOrders),
		between("the number of attempts", len(o.Attempts), 1, maxAttempts),
		between("epochs", int(o.Epochs), 1, 100),
		between("shards", o.Shards, 1, maxShards),
		between("gateways", o.Gateways, 1, 2),
		between("partitions", o.Partitions, 1, 100),
		between("sweepers", o.Sweepers, 1, maxWorkers),
		between("rebuilders", o.Rebuilders, 1, maxWorkers),
		between("the fault late", int(o.Faults[faultLate]), 0, maxLate),
		between("max", o.MaxStates, 0, 1<<31),
	}
	for _, order := range o.Orders {
		checks = append(checks, between("the item of an order", order.Item, 0, maxItems-1))
	}
	checks = append(checks, o.validateSpread())
	for _, a := range o.Attempts {
		checks = append(checks, between("the order of an attempt", a, 0, len(o.Orders)-1))
	}
	for _, u := range o.Units {
		checks = append(checks, between("the units of an item", int(u), 0, 100))
	}
	for _, m := range o.Without {
		if !slices.ContainsFunc(Mutants(), func(k Mutant) bool { return k.Name == m }) {
			checks = append(checks, fmt.Errorf("no rule is called %q", m))
		}
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}

// validateSpread checks the options that only a spread item may have, and those that it may not
// have.
func (o *Options) validateSpread() error {
	if o.Spread && o.Shards != maxShards {
		return fmt.Errorf("a spread item has %d shards, shards is %d", maxShards, o.Shards)
	}
	moves := 0
	for i, a := range o.Orders {
		if a.Buyer == mover {
			moves++
		}
		for _, b := range o.Orders[:i] {
			if o.Spread && a.Buyer == b.Buyer && a.Item != b.Item && a.Buyer != shop {
				return fmt.Errorf("buyer %c is on both shards of a spread item: a buyer's shard is by its hash", a.Buyer)
			}
		}
	}
	if moves > 1 || moves == 1 && !o.Spread {
		return fmt.Errorf("there are %d moves: want one, or none where no item is spread", moves)
	}
	return nil
}

package seckill

import (
	"time"

	"github.com/penstock/penstock/inventory"
)

// Purchase is a buyer's wish, checked for form. Its strings may lie in memory that is only valid
// during the call: Buy copies what outlives it.
type Purchase struct {
	Caller   *Caller
	Activity ActivityID
	SKU      SKU
	User     UserID
	Key      string // the idempotency key
	Quantity int
	Arrived  time.Time     // when the request arrived, with its monotonic reading: the accept deadline counts from here
	Wait     time.Duration // how long to wait for the order row after it was accepted; 0 not at all
	Request  string        // id of the request, for people
	Trace    string        // names the request's span where it is traced; else "". It is kept
	// Closed, if there is one, is the answer to a key that has no order: nothing new is sold. A
	// repeat meets its order as ever. ClosedSince is since when nothing is; nil and zero in
	// ordinary times.
	Closed      *Refusal
	ClosedSince time.Time

	id     OrderID // of item, once it was asked for
	idItem inventory.ItemID
}

// OrderID returns the id of the order that the purchase becomes. It is derived once: caller, user
// and key must not change afterwards.
func (p *Purchase) OrderID(item inventory.ItemID) OrderID {
	if p.id == "" || p.idItem != item {
		p.id, p.idItem = NewOrderID(item, p.Caller.CallerRef, p.User, p.Key), item
	}
	return p.id
}

// Made returns the id of the order that the purchase has become or would have, "" where it was not
// asked for.
func (p *Purchase) Made() OrderID { return p.id }

// Receipt says that a purchase is accepted. Order has at least ID and State; the rest is set when
// the order has a row.
type Receipt struct {
	Order    Order
	Replayed bool // the key was used before: nothing new was taken
}

// Notice is a payment notice as the provider signed it; its Payment's Merchant is not known yet.
type Notice struct {
	Payment
	SignedAt int64      // the signature's t, Unix seconds
	MACs     [][32]byte // each v1 of the signature: one that fits is enough
	Body     []byte     // what was signed, after "t."; only read during the call
}

package seckill

import (
	"time"

	"github.com/penstock/penstock/inventory"
)

// Purchase is a request to buy, checked for form. Its strings may lie in memory that is only valid
// during the call: Buy copies what it keeps.
type Purchase struct {
	Caller   *Caller
	Activity ActivityID
	SKU      SKU
	User     UserID
	Key      string // the idempotency key
	Quantity int
	Arrived  time.Time     // when the request arrived, with its monotonic reading: the accept deadline counts from here
	Wait     time.Duration // how long to wait for the order's row after the purchase was accepted; 0 is no wait
	Request  string        // id of the request, for people
	Trace    string        // the request's span if it is traced, else "". Buy keeps it
	// Closed, if not nil, is the answer to a key without an order: no new order is made. A repeat
	// still gets its order. ClosedSince is the time from which no new order is made.
	Closed      *Refusal
	ClosedSince time.Time

	id     OrderID // set by the first call of OrderID
	idItem inventory.ItemID
}

// OrderID returns the id of the purchase's order. It is derived once: caller, user and key must not
// change afterwards.
func (p *Purchase) OrderID(item inventory.ItemID) OrderID {
	if p.id == "" || p.idItem != item {
		p.id, p.idItem = NewOrderID(item, p.Caller.CallerRef, p.User, p.Key), item
	}
	return p.id
}

// Made returns the id that OrderID has derived; "" before its first call.
func (p *Purchase) Made() OrderID { return p.id }

// Receipt is the answer to an accepted purchase. Order has at least ID and State; the rest is set
// if the order has a row.
type Receipt struct {
	Order    Order
	Replayed bool // the key was used before: nothing new was taken
}

// Notice is a signed payment notice. The Merchant of its Payment is not known yet.
type Notice struct {
	Payment
	SignedAt int64      // the signature's t, Unix seconds
	MACs     [][32]byte // each v1 of the signature; one valid MAC is enough
	Body     []byte     // what was signed, after "t."; only read during the call
}

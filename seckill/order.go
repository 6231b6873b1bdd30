package seckill

import (
	"time"

	"github.com/penstock/penstock/inventory"
)

// OrderState is the state of an order. An order without a row yet is OrderQueued.
type OrderState string

// The states of an order.
const (
	OrderQueued    OrderState = "queued"
	OrderParked    OrderState = "parked" // its promise can't become an order now; the public reads queued
	OrderPending   OrderState = "pending_payment"
	OrderPaid      OrderState = "paid"
	OrderCancelled OrderState = "cancelled"
	OrderRejected  OrderState = "rejected"
	OrderRefundDue OrderState = "refund_due"
	OrderRefunded  OrderState = "refunded"
)

// Reason is why an order was cancelled or rejected.
type Reason string

// The reasons.
const (
	ReasonNone           Reason = ""
	ReasonBuyer          Reason = "cancelled-by-buyer"
	ReasonPaymentTimeout Reason = "payment-timeout"
	ReasonNotAccepted    Reason = "not-accepted"
	ReasonSoldOut        Reason = "sold-out"
	ReasonPurchaseLimit  Reason = "purchase-limit"
	ReasonDiscarded      Reason = "discarded" // an operator discarded its dead letter
	ReasonLocked         Reason = "locked"    // of a parked order: the row of its item was locked
	ReasonUnfit          Reason = "unfit"     // of a parked order: no item fits its promise
)

// UnitState is the state of an order's units: open while the order may still be paid, then sold or
// void. It never changes back.
type UnitState string

// The states of an order's units.
const (
	UnitsOpen UnitState = "open"
	UnitsSold UnitState = "sold"
	UnitsVoid UnitState = "void"
	// UnitsParked are units kept for a promise that can't become an order now. They become open or
	// void.
	UnitsParked UnitState = "parked"
)

// HoldState returns the state that a hold of these units has in a shard that is loaded from the
// database.
func (u UnitState) HoldState() inventory.State {
	switch u {
	case UnitsOpen, UnitsParked:
		return inventory.Ordered
	case UnitsSold:
		return inventory.Sold
	default:
		return inventory.Void
	}
}

// Order is an order as the database has it.
type Order struct {
	ID        OrderID
	Item      inventory.ItemID
	Caller    CallerRef
	Activity  ActivityID
	SKU       SKU
	User      UserID
	Quantity  int
	Amount    Money
	State     OrderState
	Reason    Reason
	Units     UnitState
	CreatedAt time.Time
	PayBy     time.Time
	UpdatedAt time.Time
	EndedAt   time.Time // when its units became sold or void; zero before
	Grant     Provenance
	Request   string    // id of the request that made it, for people
	Node      string    // the gateway that made the promise
	Accepted  time.Time // on that gateway's clock; shown to people, never compared
}

// Stock returns the key of the order's stock row.
func (o *Order) Stock() StockKey { return StockKey{o.Item, o.Grant.Shard} }

// Hold returns the order's hold.
func (o *Order) Hold() inventory.Hold {
	return inventory.Hold{Item: o.Item, ID: string(o.ID), Buyer: string(o.User), Quantity: o.Quantity}
}

// Provenance is where and when the order's hold was given, and the record of the queue that has its
// promise. Seq is 0 if there is no such record, as for a cancellation that came before the worker.
type Provenance struct {
	Shard     inventory.ShardID
	Epoch     inventory.Epoch
	Seq       uint64
	Partition int32
	Offset    int64
}

// Event is what can happen to an order that has a row.
type Event uint8

// The events.
const (
	EventPaid      Event = iota + 1 // the right amount was paid
	EventCancelled                  // the buyer cancelled it
	EventTimedOut                   // pay_by passed
	EventRefundDue                  // the shop takes a paid order back
	EventRefunded                   // the money went back
	EventDiscarded                  // an operator discarded a parked order
)

// step is a state, and the change of the units on the way into it.
type step struct {
	state  OrderState
	reason Reason
	units  UnitState // the units' new state; "" if it doesn't change
}

// transitions lists all transitions of an order with a row. No others are possible.
var transitions = map[OrderState]map[Event]step{
	OrderPending: {
		EventPaid:      {OrderPaid, ReasonNone, UnitsSold},
		EventCancelled: {OrderCancelled, ReasonBuyer, UnitsVoid},
		EventTimedOut:  {OrderCancelled, ReasonPaymentTimeout, UnitsVoid},
	},
	OrderParked: {
		EventCancelled: {OrderCancelled, ReasonBuyer, UnitsVoid},
		EventDiscarded: {OrderRejected, ReasonDiscarded, UnitsVoid},
	},
	OrderPaid:      {EventRefundDue: {state: OrderRefundDue}},
	OrderCancelled: {EventPaid: {state: OrderRefundDue}},
	OrderRejected:  {EventPaid: {state: OrderRefundDue}},
	OrderRefundDue: {EventRefunded: {state: OrderRefunded}},
	OrderRefunded:  {EventPaid: {state: OrderRefundDue}}, // another payment came
}

// Apply moves the order by an event at now and reports whether it may move. A cancelled order keeps
// its reason when a late payment makes it refund_due: the reason explains the refund.
func (o *Order) Apply(e Event, now time.Time) bool {
	next, ok := transitions[o.State][e]
	if !ok {
		return false
	}
	o.State, o.UpdatedAt = next.state, now
	if next.reason != ReasonNone {
		o.Reason = next.reason
	}
	if next.units != "" {
		o.Units, o.EndedAt = next.units, now
	}
	return true
}

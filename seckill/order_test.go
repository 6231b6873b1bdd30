package seckill

import (
	"testing"
	"time"
)

// TestOrder_Apply lists the whole table: for every state and event, the next state and the state
// of the units.
func TestOrder_Apply(t *testing.T) {
	events := map[string]Event{
		"paid": EventPaid, "cancelled": EventCancelled, "timed out": EventTimedOut, "refund due": EventRefundDue,
		"refunded": EventRefunded, "discarded": EventDiscarded,
	}
	type after struct {
		state  OrderState
		reason Reason
		units  UnitState
	}
	start := map[OrderState]UnitState{
		OrderParked: UnitsParked, OrderPending: UnitsOpen, OrderPaid: UnitsSold, OrderCancelled: UnitsVoid,
		OrderRejected: UnitsVoid, OrderRefundDue: UnitsVoid, OrderRefunded: UnitsVoid,
	}
	want := map[OrderState]map[string]after{
		OrderParked: {
			"discarded": {OrderRejected, ReasonDiscarded, UnitsVoid},
			"cancelled": {OrderCancelled, ReasonBuyer, UnitsVoid},
		},
		OrderPending: {
			"paid":      {OrderPaid, "", UnitsSold},
			"cancelled": {OrderCancelled, ReasonBuyer, UnitsVoid},
			"timed out": {OrderCancelled, ReasonPaymentTimeout, UnitsVoid},
		},
		OrderPaid:      {"refund due": {OrderRefundDue, "", UnitsSold}},
		OrderCancelled: {"paid": {OrderRefundDue, "", UnitsVoid}},
		OrderRejected:  {"paid": {OrderRefundDue, "", UnitsVoid}},
		OrderRefundDue: {"refunded": {OrderRefunded, "", UnitsVoid}},
		OrderRefunded:  {"paid": {OrderRefundDue, "", UnitsVoid}},
	}
	now := time.Unix(1000, 0)
	for state, units := range start {
		for name, event := range events {
			order := Order{State: state, Units: units}
			moved := order.Apply(event, now)
			w, can := want[state][name]
			if moved != can {
				t.Errorf("%s, %s: moved %v, want %v", state, name, moved, can)
				continue
			}
			if !can {
				w = after{state, "", units}
			}
			if got := (after{order.State, order.Reason, order.Units}); got != w {
				t.Errorf("%s, %s: got %v, want %v", state, name, got, w)
			}
			if can != order.UpdatedAt.Equal(now) {
				t.Errorf("%s, %s: updated at %v", state, name, order.UpdatedAt)
			}
		}
	}
}

// The order of a refund keeps the reason of its cancellation.
func TestOrder_LatePaymentKeepsReason(t *testing.T) {
	order := Order{State: OrderCancelled, Reason: ReasonPaymentTimeout, Units: UnitsVoid}
	if !order.Apply(EventPaid, time.Unix(1, 0)) || order.State != OrderRefundDue || order.Reason != ReasonPaymentTimeout {
		t.Fatalf("got %+v", order)
	}
}

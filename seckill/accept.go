package seckill

import (
	"time"

	"penstock/inventory"
)

// Ledger is an item's row as a worker's transaction locked it. DecideAccept moves its counts.
type Ledger struct {
	Activity      ActivityID
	Merchant      MerchantID
	SKU           SKU
	Epoch         inventory.Epoch
	Total         int64
	Open          int64
	Sold          int64
	PerUser       int
	PaymentWindow time.Duration
}

// BuyerKey names a buyer of an item.
type BuyerKey struct {
	Item inventory.ItemID
	User UserID
}

// DecideAccept is the worker's decision: which of the records become orders. It is called inside the transaction that holds
// the rows of the items, and checks L1 and L5 where they cannot be forgotten.
//
// items has the locked rows, existing the orders that have a row already, bought the units (open and sold) of each buyer.
// now is the database's clock. items, existing and bought are changed to what they are after the batch, so that a record
// that comes twice in one batch is met by its first. The result has one Acceptance per record; rows to insert are those of
// OutcomeOpened and OutcomeRejected.
func DecideAccept(records []Record, items map[inventory.ItemID]*Ledger, existing map[OrderID]Order, bought map[BuyerKey]int64,
	now time.Time) []Acceptance {
	out := make([]Acceptance, len(records))
	for i := range records {
		r := &records[i]
		item, ok := items[r.Item()]
		if !ok || item.Activity != r.Activity || item.SKU != r.SKU || item.Merchant != r.Caller.Merchant {
			out[i] = Acceptance{Outcome: OutcomeUnfit}
			continue
		}
		if order, ok := existing[r.Order]; ok {
			out[i] = Acceptance{OutcomeExists, order, item.Epoch}
			continue
		}
		if r.Grant.Epoch < item.Epoch {
			out[i] = Acceptance{Outcome: OutcomeSkipped, Epoch: item.Epoch}
			continue
		}
		if r.Grant.Epoch > item.Epoch {
			out[i] = Acceptance{Outcome: OutcomeUnfit, Epoch: item.Epoch}
			continue
		}
		out[i] = decideNew(r, item, bought, now)
		existing[r.Order] = out[i].Order
	}
	return out
}

// decideNew makes the row of a record that has none: open where L1 and L5 allow it, rejected otherwise.
func decideNew(r *Record, item *Ledger, bought map[BuyerKey]int64, now time.Time) Acceptance {
	order := Order{
		ID: r.Order, Item: r.Item(), Caller: r.Caller, Activity: r.Activity, SKU: r.SKU, User: r.User,
		Quantity: r.Quantity, Amount: r.Amount, Grant: r.Grant,
		State: OrderPending, Units: UnitsOpen,
		CreatedAt: now, UpdatedAt: now, PayBy: now.Add(item.PaymentWindow),
	}
	buyer, units := BuyerKey{order.Item, r.User}, int64(r.Quantity)
	switch {
	case item.Open+item.Sold+units > item.Total:
		order.State, order.Reason, order.Units = OrderRejected, ReasonSoldOut, UnitsVoid
	case item.PerUser > 0 && bought[buyer]+units > int64(item.PerUser):
		order.State, order.Reason, order.Units = OrderRejected, ReasonPurchaseLimit, UnitsVoid
	default:
		item.Open += units
		bought[buyer] += units
		return Acceptance{OutcomeOpened, order, item.Epoch}
	}
	return Acceptance{OutcomeRejected, order, item.Epoch}
}

// Tombstone is the row under which a hold is buried whose order never came: cancelled, not accepted, nothing held. Its
// primary key makes a record that comes later harmless. item says whose it is; a tombstone has no caller, so nobody but
// the holder of the order id's tag can read it.
func Tombstone(h inventory.Hold, id inventory.ItemID, item *Ledger, now time.Time) Order {
	return Order{
		ID: OrderID(h.ID), Item: id, Caller: CallerRef{Merchant: item.Merchant}, Activity: item.Activity, SKU: item.SKU,
		User: UserID(h.Buyer), Quantity: h.Quantity,
		State: OrderCancelled, Reason: ReasonNotAccepted, Units: UnitsVoid,
		CreatedAt: now, UpdatedAt: now, PayBy: now,
	}
}

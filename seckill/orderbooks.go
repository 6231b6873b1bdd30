package seckill

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// OrderBooks answers questions of people about orders and money, without disturbing the sale. Its
// reads use an index, also while orders are being made.
type OrderBooks interface {
	// SearchOrders returns up to q.Limit orders that fit q, newest first.
	SearchOrders(ctx context.Context, q OrderQuery) ([]Order, error)
	// FindPayments returns the payments with an id, of one merchant or of all ("").
	FindPayments(ctx context.Context, merchant MerchantID, id PaymentID) ([]KeptPayment, error)
	// OrderTrail returns the stored data of an order beside its row. If there is no row, o needs
	// only its ID.
	OrderTrail(ctx context.Context, o *Order) (OrderTrail, error)

	// ApplyEarly applies up to limit early payments whose orders have a row by now, as
	// DecidePayment decides, and returns how many. Payments whose order's row is locked are left
	// for the next call.
	ApplyEarly(ctx context.Context, limit int) (int, error)
	// RefusePayment keeps a notice that was refused without asking for its order.
	RefusePayment(ctx context.Context, r RefusedPayment) error

	// Refunds returns up to q.Limit payments in q.State, the latest first.
	Refunds(ctx context.Context, q RefundQuery) ([]KeptPayment, error)
	// RefundSums adds up the payments of a state (due, done or early), of one merchant or of all
	// (""), by merchant, cause and currency, in their order.
	RefundSums(ctx context.Context, state PaymentState, merchant MerchantID) ([]RefundSum, error)
	// SettleRefund records that a payment was refunded, as DecideRefund decides, with a change
	// record. It returns the payment, and its order afterwards, which has an empty ID if its row is
	// gone. ErrLocked: another transaction has the order's row.
	SettleRefund(ctx context.Context, r Refund, by Author) (KeptPayment, Order, error)

	// ExtendOrders moves pay_by of all open orders of an activity by d, in one transaction, with a
	// change record, and returns how many.
	ExtendOrders(ctx context.Context, id ActivityID, d time.Duration, by Author) (int64, error)
	// Statement adds up a merchant's orders and refunds that moved in [from, to), by day (UTC),
	// activity and SKU, in their order.
	Statement(ctx context.Context, merchant MerchantID, from, to time.Time) ([]StatementRow, error)
}

// OrderQuery says which orders are looked for. An empty member fits every order.
type OrderQuery struct {
	User     UserID
	Request  string
	Caller   CallerID
	Merchant MerchantID
	Activity ActivityID
	SKU      SKU
	State    OrderState
	From, To time.Time // of CreatedAt: From is part of it, To is not
	// Activities are the activities of Merchant. They are used as an index if the query names
	// nothing more selective.
	Activities []ActivityID
	Before     OrderMark // only orders that come after this one in the list
	Limit      int
}

// OrderMark is a place in a list of orders, newest first. The zero value is the beginning.
type OrderMark struct {
	CreatedAt time.Time
	ID        OrderID
}

// Fits reports whether the order fits the query, ignoring its place in the list.
func (q *OrderQuery) Fits(o *Order) bool {
	return (q.User == "" || o.User == q.User) && (q.Request == "" || o.Request == q.Request) &&
		(q.Caller == "" || o.Caller.Caller == q.Caller) && (q.Merchant == "" || o.Caller.Merchant == q.Merchant) &&
		(q.Activity == "" || o.Activity == q.Activity) && (q.SKU == "" || o.SKU == q.SKU) &&
		(q.State == "" || o.State == q.State) && (q.From.IsZero() || !o.CreatedAt.Before(q.From)) &&
		(q.To.IsZero() || o.CreatedAt.Before(q.To))
}

// Compare orders two orders as a search lists them: newest first.
func (m OrderMark) Compare(other OrderMark) int {
	if c := other.CreatedAt.Compare(m.CreatedAt); c != 0 {
		return c
	}
	switch {
	case m.ID > other.ID:
		return -1
	case m.ID < other.ID:
		return 1
	}
	return 0
}

// Mark is the order's place in a list.
func (o *Order) Mark() OrderMark { return OrderMark{o.CreatedAt, o.ID} }

// OrderTrail is the stored data of an order beside its row.
type OrderTrail struct {
	Payments []KeptPayment    // by the time of their notices
	Refused  []RefusedPayment // by time
	Changes  []Change         // changes by people, of the order or of its activity's time to pay; oldest first
	Settling bool             // the stock has not been told yet how the hold ends
	// Announces says whether steps are sent to other systems. Waiting is the time of the oldest
	// step that waits for that; zero if none waits.
	Announces bool
	Waiting   time.Time
}

// RefundQuery says which refunds are listed.
type RefundQuery struct {
	State    PaymentState // PaymentStateDue or PaymentStateDone
	Merchant MerchantID   // "" is all
	Before   RefundMark   // only payments that come after this one in the list
	Limit    int
}

// RefundMark is a place in a list of refunds. The zero value is the beginning.
type RefundMark struct {
	KeptAt time.Time
	PaymentKey
}

// Mark is the payment's place in a list.
func (k *KeptPayment) Mark() RefundMark { return RefundMark{k.KeptAt, k.Key()} }

// RefundSum is the sum of refunds of a merchant, cause and currency.
type RefundSum struct {
	Merchant MerchantID
	Cause    RefundCause
	Amount   Money
	Count    int64
}

// StatementRow is what happened to an item's orders on a day. Units of sold and cancelled orders
// count on the day on which the order was paid or cancelled. Money to refund counts on the day of
// its notice, and refunded money on the day on which the refund was recorded.
type StatementRow struct {
	Day       string // 2006-01-02, UTC
	Activity  ActivityID
	SKU       SKU
	Currency  string
	Sold      Tally
	Cancelled Tally
	RefundDue Tally // money that must still be refunded
	Refunded  Tally
}

// Tally is a number of orders or payments, their units, and their money in minor units. Payments
// have no units.
type Tally struct {
	Count  int64
	Units  int64
	Amount int64
}

// Add adds other to t.
func (t *Tally) Add(other Tally) {
	t.Count, t.Units, t.Amount = t.Count+other.Count, t.Units+other.Units, t.Amount+other.Amount
}

// OrderIndex is an index by which orders are looked for.
type OrderIndex uint8

// The indexes. For each value, an index lists its orders, newest first.
const (
	OrdersByUser OrderIndex = iota + 1
	OrdersByRequest
	OrdersByCaller
	OrdersByActivity
	OrdersByState
)

// Index chooses the index of a query, and the values to look up in it. It prefers the value that
// the fewest orders have. Orders in rare states are found by their state, also within an activity.
func (q *OrderQuery) Index() (index OrderIndex, values []string) {
	switch {
	case q.Request != "":
		return OrdersByRequest, []string{q.Request}
	case q.User != "":
		return OrdersByUser, []string{string(q.User)}
	case q.State.isRare():
		return OrdersByState, []string{string(q.State)}
	case q.Activity != "":
		return OrdersByActivity, []string{string(q.Activity)}
	case q.Caller != "":
		return OrdersByCaller, []string{string(q.Caller)}
	case q.Merchant != "":
		for _, id := range q.Activities {
			values = append(values, string(id))
		}
		return OrdersByActivity, values
	case q.State != "":
		return OrdersByState, []string{string(q.State)}
	}
	for _, state := range OrderStates() {
		values = append(values, string(state))
	}
	return OrdersByState, values
}

// OrderStates returns the states that an order's row may have.
func OrderStates() []OrderState {
	return []OrderState{
		OrderPending, OrderPaid, OrderCancelled, OrderRejected, OrderRefundDue, OrderRefunded, OrderParked,
	}
}

func (s OrderState) isRare() bool {
	return s == OrderRejected || s == OrderRefundDue || s == OrderRefunded || s == OrderParked
}

// Statement adds lines up. Its zero value is empty.
type Statement struct {
	lines map[statementKey]*StatementRow
}

type statementKey struct {
	day      string
	activity ActivityID
	sku      SKU
	currency string
}

// Add adds a tally to the line of l's day, activity, SKU and currency. what is the UnitState of an
// order, or the PaymentState of a payment.
func (s *Statement) Add(l StatementRow, what string, t Tally) {
	key := statementKey{l.Day, l.Activity, l.SKU, l.Currency}
	line := s.lines[key]
	if line == nil {
		if s.lines == nil {
			s.lines = make(map[statementKey]*StatementRow)
		}
		line = &StatementRow{Day: l.Day, Activity: l.Activity, SKU: l.SKU, Currency: l.Currency}
		s.lines[key] = line
	}
	switch what {
	case string(UnitsSold):
		line.Sold.Add(t)
	case string(UnitsVoid):
		line.Cancelled.Add(t)
	case string(PaymentStateDue):
		line.RefundDue.Add(t)
	case string(PaymentStateDone):
		line.Refunded.Add(t)
	}
}

// Lines returns the lines by day, activity, SKU and currency.
func (s *Statement) Lines() []StatementRow {
	out := make([]StatementRow, 0, len(s.lines))
	for _, line := range s.lines {
		out = append(out, *line)
	}
	slices.SortFunc(out, func(a, b StatementRow) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Activity, b.Activity), cmp.Compare(a.SKU, b.SKU),
			cmp.Compare(a.Currency, b.Currency))
	})
	return out
}

// AddLine adds all of a line to the line of its day, activity, SKU and currency.
func (s *Statement) AddLine(l StatementRow) {
	for what, t := range map[string]Tally{
		string(UnitsSold): l.Sold, string(UnitsVoid): l.Cancelled,
		string(PaymentStateDue): l.RefundDue, string(PaymentStateDone): l.Refunded,
	} {
		s.Add(l, what, t)
	}
}

package seckill

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Announcer publishes events to other systems, as CloudEvents 1.0; internal/kafka implements it.
// Announce returns nil when all events are on durable storage. After an error some may be stored,
// and the call must be repeated: delivery is at least once.
type Announcer interface {
	Announce(ctx context.Context, stream Stream, events []Announcement) error
}

// Stream is the subject of a list of announcements.
type Stream uint8

// The streams. StreamStock has an event when an item goes from no available unit to some, and when
// it goes back: the last event of an item is its present state. StreamOrders has every step of
// every order.
const (
	StreamStock Stream = iota + 1
	StreamOrders
)

// Announcement is an event for other systems, without the members that its transport adds.
// docs/events.md is its contract.
type Announcement struct {
	ID      string    // stays the same when the event is announced again
	Type    string    // with its version; consumers ignore types that they don't know
	Subject string    // the object that it is about
	Time    time.Time // when it happened
	Key     string    // events with the same key keep their order
	Data    []byte    // JSON
}

// eventTimeFormat is the format of times in the public API.
const eventTimeFormat = "2006-01-02T15:04:05.000Z07:00"

// orderData is the JSON of an order's step: the members that GET /v1/orders/{order} answers, the
// merchant, and the payment that made the step.
type orderData struct {
	Order     OrderID      `json:"order"`
	Merchant  MerchantID   `json:"merchant"`
	Activity  ActivityID   `json:"activity"`
	SKU       SKU          `json:"sku"`
	User      UserID       `json:"user"`
	Quantity  int          `json:"quantity"`
	Status    OrderState   `json:"status"`
	Reason    *Reason      `json:"reason"`
	Amount    int64        `json:"amount"`
	Currency  *string      `json:"currency"`
	CreatedAt string       `json:"created_at"`
	PayBy     string       `json:"pay_by"`
	UpdatedAt string       `json:"updated_at"`
	Payment   *paymentData `json:"payment,omitempty"`
}

// paymentData is the JSON of a payment.
type paymentData struct {
	Payment  PaymentID   `json:"payment"`
	Amount   int64       `json:"amount"`
	Currency string      `json:"currency"`
	Cause    RefundCause `json:"cause,omitempty"`
}

// AnnounceSteps makes the announcement of each step: the order as it was after it.
func AnnounceSteps(steps []Step) ([]Announcement, error) {
	events := make([]Announcement, len(steps))
	var created, payBy, updated timeText
	for i := range steps {
		s := &steps[i]
		var err error
		if events[i], err = announceStep(s, created.of(s.CreatedAt), payBy.of(s.PayBy), updated.of(s.UpdatedAt)); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// timeText is a time and its text. The orders of a batch have the same times, and making a text
// takes a third of the time of an announcement.
type timeText struct {
	at   time.Time
	text string
}

// of returns the text of a time.
func (t *timeText) of(at time.Time) string {
	if t.text == "" || !at.Equal(t.at) {
		t.at, t.text = at, eventTime(at)
	}
	return t.text
}

// announceStep makes the announcement of a step. An order is created, paid, cancelled and rejected
// once, so for such a step, order and state are enough for the event's id. The ids of other steps
// also have the payment and the time.
func announceStep(s *Step, created, payBy, updated string) (Announcement, error) {
	step, about, id := string(s.State), "order", string(s.ID)+"."
	switch {
	case s.Money == PaymentStateDone:
		about, step = "payment", string(OrderRefunded)
	case s.Money != "":
		about, step = "payment", string(OrderRefundDue)
	case s.State == OrderPending:
		step = "created"
	}
	id += step
	if s.Money != "" || s.Cause != CauseNone {
		id = fmt.Sprintf("%s.%s.%s.%d", id, about, s.Payment, s.UpdatedAt.UnixMicro())
	}
	data := orderData{
		Order: s.ID, Merchant: s.Caller.Merchant, Activity: s.Activity, SKU: s.SKU, User: s.User, Quantity: s.Quantity,
		Status: s.State, Amount: s.Amount.Minor,
		CreatedAt: created, PayBy: payBy, UpdatedAt: updated,
	}
	if s.Reason != ReasonNone {
		data.Reason = &s.Reason
	}
	if s.Amount.Currency != "" { // a tombstone has no amount
		data.Currency = &s.Amount.Currency
	}
	if s.Payment != "" {
		data.Payment = &paymentData{s.Payment, s.Paid.Minor, s.Paid.Currency, s.Cause}
	}
	value, err := json.Marshal(data)
	if err != nil {
		return Announcement{}, fmt.Errorf("encode a step of order %s: %w", s.ID, err)
	}
	return Announcement{
		ID: id, Type: "penstock." + about + "." + step + ".v1", Subject: string(s.ID), Time: s.UpdatedAt,
		Key: string(s.ID), Data: value,
	}, nil
}

// StockStatus tells whether an item had a unit available when its shard was at Seq of Ref's epoch.
// A later epoch is newer; within an epoch, a higher seq is newer.
type StockStatus struct {
	Ref      inventory.Ref
	Item     inventory.ItemID
	Seq      uint64
	InStock  bool
	Merchant MerchantID
	Activity ActivityID
	SKU      SKU
	At       time.Time
}

// stockData is the JSON of a stock status; stock has the values of GET /v1/activities/{activity}.
type stockData struct {
	Merchant MerchantID      `json:"merchant"`
	Activity ActivityID      `json:"activity"`
	SKU      SKU             `json:"sku"`
	Stock    string          `json:"stock"`
	Epoch    inventory.Epoch `json:"epoch"`
	Seq      uint64          `json:"seq"`
}

// AnnounceStock makes the announcement of a stock status.
func AnnounceStock(s *StockStatus) (Announcement, error) {
	stock := "sold_out"
	if s.InStock {
		stock = "in_stock"
	}
	value, err := json.Marshal(stockData{s.Merchant, s.Activity, s.SKU, stock, s.Ref.Epoch, s.Seq})
	if err != nil {
		return Announcement{}, fmt.Errorf("encode the stock status of item %d: %w", s.Item, err)
	}
	subject := string(s.Activity) + "/" + string(s.SKU)
	return Announcement{
		ID:   fmt.Sprintf("%d.%d.%d", s.Item, s.Ref.Epoch, s.Seq),
		Type: "penstock.stock." + stock + ".v1", Subject: subject, Time: s.At, Key: subject, Data: value,
	}, nil
}

func eventTime(t time.Time) string { return t.UTC().Format(eventTimeFormat) }

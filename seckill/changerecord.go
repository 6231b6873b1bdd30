package seckill

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock/inventory"
)

// The kinds of change records that stores write. The documents of settings are kinds, too: their
// names.
const (
	ChangeMerchant    = "merchant"
	ChangeCaller      = "caller"
	ChangeActivity    = "activity"
	ChangeStock       = "stock"
	ChangeToken       = "token"
	ChangeDeadLetters = "dead-letters"
	ChangeCounters    = "counters"
	ChangeOrder       = "order"
	ChangeRefund      = "refund"
	ChangeExtension   = "extension"
)

// ChangeRecord is the part of a Change that says what was changed. Before and After are JSON.
// Before is "" for a new object, and After is "" for a deleted one.
type ChangeRecord struct {
	Kind   string
	Key    string
	Before string
	After  string
}

// The JSON of change records: the types of this package without their secrets. An activity is
// recorded as Activity, dead letters as a list of DeadLetter.
type (
	// MerchantRecord is a merchant in a change record.
	MerchantRecord struct {
		ID               MerchantID
		Name             string
		NewPaymentSecret bool `json:",omitempty"` // it changed; the secret itself is not recorded
		Resealed         bool `json:",omitempty"` // its secrets are the same, but encrypted with another key
		// FormerUntil is the time until which the former payment secret is valid.
		FormerUntil time.Time `json:",omitzero"`
	}
	// CallerRecord is a caller in a change record.
	CallerRecord struct {
		CallerRef
		Name    string
		Rights  Rights
		Shadow  bool
		Revoked bool
		Keys    []KeyRecord `json:",omitempty"`
	}
	// KeyRecord is a caller's key in a change record.
	KeyRecord struct {
		ID      KeyID
		Prefix  string
		Expires time.Time `json:",omitzero"`
		Revoked bool
	}
	// TokenRecord is an admin token in a change record.
	TokenRecord struct {
		ID       TokenID
		Name     string
		Role     Role
		Merchant MerchantID `json:",omitempty"`
		Session  bool       `json:",omitempty"`
		Expires  time.Time  `json:",omitzero"`
	}
	// StockRecord is an item's total in a change record, over all of its shards. Key and Delta are
	// those of the change that made the new total.
	StockRecord struct {
		Item  inventory.ItemID
		Key   string `json:",omitempty"`
		Delta int64  `json:",omitempty"`
		Total int64
	}
	// OrderRecord is an order in a change record.
	OrderRecord struct {
		ID    OrderID
		State OrderState
	}
	// RefundRecord is a payment in a change record.
	RefundRecord struct {
		Merchant  MerchantID
		Payment   PaymentID
		Order     OrderID
		Amount    Money
		State     PaymentState
		Cause     RefundCause
		Reference string `json:",omitempty"`
	}
	// ExtensionRecord says by how much the time to pay of an activity's open orders was moved.
	ExtensionRecord struct {
		By     time.Duration
		Orders int64
	}
)

// RecordMerchant records that a merchant was made (before is nil) or changed.
func RecordMerchant(before, after *Merchant) (ChangeRecord, error) {
	now := MerchantRecord{ID: after.ID, Name: after.Name, FormerUntil: after.FormerUntil}
	if before == nil {
		now.NewPaymentSecret = after.PaymentSecret != ""
		return newChangeRecord(ChangeMerchant, string(after.ID), nil, now)
	}
	now.Resealed = after.resealed
	now.NewPaymentSecret = after.PaymentSecret != before.PaymentSecret && !after.resealed
	was := MerchantRecord{ID: before.ID, Name: before.Name, FormerUntil: before.FormerUntil}
	return newChangeRecord(ChangeMerchant, string(after.ID), was, now)
}

// RecordCaller records that a caller was added (before is nil) or changed.
func RecordCaller(before, after *Caller) (ChangeRecord, error) {
	now := recordOf(after)
	if before == nil {
		return newChangeRecord(ChangeCaller, after.String(), nil, now)
	}
	return newChangeRecord(ChangeCaller, after.String(), recordOf(before), now)
}

func recordOf(c *Caller) CallerRecord {
	r := CallerRecord{CallerRef: c.CallerRef, Name: c.Name, Rights: c.Rights, Shadow: c.Shadow, Revoked: c.Revoked}
	for i := range c.Keys {
		k := &c.Keys[i]
		r.Keys = append(r.Keys, KeyRecord{k.ID, k.Prefix, k.Expires, k.Revoked})
	}
	return r
}

// RecordActivity records that an activity was made (before is nil), changed, or deleted (after is
// nil); changed is false if both are the same. If only the state or the archive changes, both sides
// have no items, because there may be many and a revert doesn't need them.
func RecordActivity(before, after *Activity) (r ChangeRecord, changed bool, err error) {
	switch {
	case before == nil:
		r, err = newChangeRecord(ChangeActivity, string(after.ID), nil, after)
		return r, true, err
	case after == nil:
		r, err = newChangeRecord(ChangeActivity, string(before.ID), before, nil)
		return r, true, err
	}
	sameItems := slices.Equal(before.Items, after.Items)
	if sameItems && sameButItems(before, after) {
		return ChangeRecord{}, false, nil
	}
	was, now := *before, *after
	if sameItems && (was.State != now.State || !was.Archive.Equal(now.Archive)) {
		was.Items, now.Items = nil, nil
	}
	r, err = newChangeRecord(ChangeActivity, string(after.ID), &was, &now)
	return r, true, err
}

// sameButItems reports whether two activities are the same, except for their items.
func sameButItems(a, b *Activity) bool {
	return a.ID == b.ID && a.Merchant == b.Merchant && a.Name == b.Name && a.State == b.State &&
		a.StartsAt.Equal(b.StartsAt) && a.EndsAt.Equal(b.EndsAt) && a.EndedAt.Equal(b.EndedAt) &&
		a.PaymentWindow == b.PaymentWindow && a.Archive.Equal(b.Archive)
}

// RecordStock records a restock or a withdrawal of an item; before and after are its totals.
func RecordStock(activity ActivityID, sku SKU, c StockChange, before, after int64) (ChangeRecord, error) {
	was := StockRecord{Item: c.Item, Total: before}
	now := StockRecord{Item: c.Item, Key: c.Key, Delta: c.Delta, Total: after}
	return newChangeRecord(ChangeStock, string(activity)+"/"+string(sku), was, now)
}

// RecordToken records that a token was made (before is nil) or deleted (after is nil).
func RecordToken(before, after *Token) (ChangeRecord, error) {
	var was, now any
	key := ""
	if before != nil {
		was, key = recordOfToken(before), before.Name
	}
	if after != nil {
		now, key = recordOfToken(after), after.Name
	}
	return newChangeRecord(ChangeToken, key, was, now)
}

func recordOfToken(t *Token) TokenRecord {
	return TokenRecord{t.ID, t.Name, t.Role, t.Merchant, t.Session, t.Expires}
}

// RecordDeadLetters records that dead letters were deleted: their orders were replayed or
// discarded.
func RecordDeadLetters(letters []DeadLetter) (ChangeRecord, error) {
	names := make([]string, len(letters))
	for i := range letters {
		names[i] = strconv.FormatInt(letters[i].ID, 10)
	}
	return newChangeRecord(ChangeDeadLetters, strings.Join(names, ","), letters, nil)
}

// RecordOrder records that an operator moved an order. State is "" if it had no row before.
func RecordOrder(before OrderState, after *Order) (ChangeRecord, error) {
	return newChangeRecord(ChangeOrder, string(after.ID), OrderRecord{after.ID, before}, OrderRecord{after.ID, after.State})
}

// RecordAccepted records the orders that a batch made. Orders that existed before are left out.
func RecordAccepted(accepted []Acceptance) (records []ChangeRecord, err error) {
	for i := range accepted {
		switch accepted[i].Outcome {
		case OutcomeOpened, OutcomeRejected, OutcomeParked:
			r, err := RecordOrder("", &accepted[i].Order)
			if err != nil {
				return nil, err
			}
			records = append(records, r)
		}
	}
	return records, nil
}

// RecordRefund records that the money of a payment went back.
func RecordRefund(before, after *KeptPayment) (ChangeRecord, error) {
	record := func(k *KeptPayment) RefundRecord {
		return RefundRecord{k.Merchant, k.ID, k.Order, k.Amount, k.State, k.Cause, k.Reference}
	}
	return newChangeRecord(ChangeRefund, string(after.Merchant)+"/"+string(after.ID), record(before), record(after))
}

// RecordExtension records that the time to pay of an activity's open orders was moved.
func RecordExtension(id ActivityID, by time.Duration, orders int64) (ChangeRecord, error) {
	return newChangeRecord(ChangeExtension, string(id), nil, ExtensionRecord{by, orders})
}

func newChangeRecord(kind, key string, before, after any) (ChangeRecord, error) {
	r := ChangeRecord{Kind: kind, Key: key}
	for _, side := range []struct {
		value any
		text  *string
	}{{before, &r.Before}, {after, &r.After}} {
		if side.value == nil {
			continue
		}
		text, err := json.Marshal(side.value)
		if err != nil {
			return ChangeRecord{}, fmt.Errorf("record the change of %s %s: %w", kind, key, err)
		}
		*side.text = string(text)
	}
	return r, nil
}

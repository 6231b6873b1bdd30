package seckill

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"

	"penstock/inventory"
)

// Identities. All are opaque, case-sensitive strings of 1 to MaxNameLength bytes.
type (
	// MerchantID names a merchant.
	MerchantID string
	// CallerID names a caller of a merchant; it is unique within its merchant.
	CallerID string
	// ActivityID names an activity, over all merchants.
	ActivityID string
	// SKU names an item within its activity.
	SKU string
	// UserID names a buyer within a merchant, as the caller knows it.
	UserID string
	// PaymentID names a payment within a merchant, as the provider knows it.
	PaymentID string
)

// OrderID names an order, its item and its caller: 32 characters of lower-case base32 over
//
//	item id (4 bytes, big endian) | tag of the caller (4 bytes) | digest of what makes the order unique (12 bytes)
//
// It is derived from (caller, activity, SKU, user, idempotency key), so that a repeat of a purchase meets its own hold.
type OrderID string

const orderIDBytes = 20

// orderIDEncoding is Crockford's alphabet in lower case: it sorts like the bytes and has no vowels but a and e.
var orderIDEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// ErrOrderID says that a string is not an order id.
var ErrOrderID = errors.New("not an order id")

// NewOrderID derives the id of the order that caller asks for with key.
func NewOrderID(item inventory.ItemID, caller CallerRef, activity ActivityID, sku SKU, user UserID, key string) OrderID {
	var buf [512]byte
	in := buf[:0]
	for _, part := range [...]string{string(caller.Merchant), string(caller.Caller), string(activity), string(sku), string(user), key} {
		in = binary.AppendUvarint(in, uint64(len(part)))
		in = append(in, part...)
	}
	digest := sha256.Sum256(in)
	var raw [orderIDBytes]byte
	binary.BigEndian.PutUint32(raw[:4], uint32(item))
	tag := caller.tag()
	copy(raw[4:8], tag[:])
	copy(raw[8:], digest[:12])
	var out [orderIDBytes * 8 / 5]byte
	orderIDEncoding.Encode(out[:], raw[:])
	return OrderID(out[:])
}

// ParseOrderID checks the form of an order id; it does not say that the order exists.
func ParseOrderID(s string) (OrderID, error) {
	var raw [orderIDBytes]byte
	if !decodeOrderID(s, &raw) {
		return "", ErrOrderID
	}
	return OrderID(s), nil
}

// Item returns the item that the order is of, and 0 for a malformed id.
func (id OrderID) Item() inventory.ItemID {
	var raw [orderIDBytes]byte
	if !decodeOrderID(string(id), &raw) {
		return 0
	}
	return inventory.ItemID(binary.BigEndian.Uint32(raw[:4]))
}

// Of reports whether the id carries the caller's tag. Two callers share a tag with probability 2^-32, so where the order
// row is at hand, its caller decides.
func (id OrderID) Of(caller CallerRef) bool {
	var raw [orderIDBytes]byte
	return decodeOrderID(string(id), &raw) && [4]byte(raw[4:8]) == caller.tag()
}

func decodeOrderID(s string, raw *[orderIDBytes]byte) bool {
	if len(s) != orderIDBytes*8/5 {
		return false
	}
	n, err := orderIDEncoding.Decode(raw[:], []byte(s))
	return err == nil && n == orderIDBytes
}

// withdrawalPrefix tells a withdrawal's hold from an order's.
const withdrawalPrefix = "w"

// NewWithdrawalID derives the name of the hold by which a merchant takes stock back.
func NewWithdrawalID(item inventory.ItemID, key string) string {
	return withdrawalPrefix + string(NewOrderID(item, CallerRef{}, "", "", "", key))
}

// IsWithdrawal reports whether a hold's name is a withdrawal's.
func IsWithdrawal(hold string) bool {
	return len(hold) == 1+orderIDBytes*8/5 && hold[:1] == withdrawalPrefix
}

// CallerRef names a caller over all merchants.
type CallerRef struct {
	Merchant MerchantID
	Caller   CallerID
}

// String returns merchant/caller.
func (c CallerRef) String() string { return string(c.Merchant) + "/" + string(c.Caller) }

// tag is a short digest of the caller, FNV-1a over both names.
func (c CallerRef) tag() [4]byte {
	h := uint32(2166136261)
	mix := func(s string) {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
		h = (h ^ 0xff) * 16777619
	}
	mix(string(c.Merchant))
	mix(string(c.Caller))
	return [4]byte(binary.BigEndian.AppendUint32(nil, h))
}

// Money is an amount in minor units of its currency (ISO 4217, three letters).
type Money struct {
	Minor    int64  `json:"minor"`
	Currency string `json:"currency"`
}

// Limits of what a name, a purchase and a sale may be (L8).
const (
	MaxNameLength   = 64
	MaxUserLength   = 128
	MaxKeyLength    = 64
	MaxQuantity     = 1_000
	MaxItemQuantity = 10_000_000
	MaxItems        = 200
	MaxPriceMinor   = 1_000_000_000_000
)

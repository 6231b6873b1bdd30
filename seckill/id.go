package seckill

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/penstock/penstock/inventory"
)

// Identities. All are opaque, case-sensitive strings of 1 to MaxNameLength characters.
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

// OrderID names an order, its item, its buyer and its caller: 40 characters of lower-case base32
// over
//
//	item id (4 bytes, big endian) | digest of the buyer (11) | tag of the caller (4) | digest of the key (6)
//
// It is derived from the purchase, so a repeat of a purchase has the same id and finds its own
// hold. The first 24 characters are the head: they name item and buyer (inventory.Head). The rest
// distinguishes the orders of one buyer.
type OrderID string

const (
	orderIDBytes  = 25
	orderIDLength = orderIDBytes * 8 / 5
	headBytes     = 15
)

// orderIDEncoding is Crockford's alphabet in lower case: it sorts like the bytes and has no vowels
// but a and e.
var orderIDEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// orderIDValues has the value of each character of the alphabet, and 0xff for all other characters.
const orderIDValues = "" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\xff\xff\xff\xff\xff\xff" + // 0 to 9
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\xff\x12\x13\xff\x14\x15\xff" + // a to o, without i, l, o
	"\x16\x17\x18\x19\x1a\xff\x1b\x1c\x1d\x1e\x1f\xff\xff\xff\xff\xff" // p to z, without u

// orderIDValue returns the value of a character of the alphabet, and 0xff for any other.
func orderIDValue(c byte) byte {
	if int(c) >= len(orderIDValues) {
		return 0xff
	}
	return orderIDValues[c]
}

// ErrOrderID says that a string is not an order id.
var ErrOrderID = errors.New("not an order id")

// NewOrderID derives the id of the order that caller asks for with key.
func NewOrderID(item inventory.ItemID, caller CallerRef, user UserID, key string) OrderID {
	var raw [orderIDBytes]byte
	binary.BigEndian.PutUint32(raw[:4], uint32(item))
	buyer := digestOf(raw[:4], string(user))
	copy(raw[4:headBytes], buyer[:])
	tag := caller.tag()
	copy(raw[headBytes:], tag[:])
	order := digestOf(raw[:headBytes], string(caller.Merchant), string(caller.Caller), key)
	copy(raw[headBytes+len(tag):], order[:])
	var out [orderIDLength]byte
	orderIDEncoding.Encode(out[:], raw[:])
	return OrderID(out[:])
}

// digestOf returns the SHA-256 (FIPS 180-4) of the prefix and the parts. Each part comes after its
// length.
func digestOf(prefix []byte, parts ...string) [sha256.Size]byte {
	var buf [512]byte
	in := append(buf[:0], prefix...)
	for _, part := range parts {
		in = binary.AppendUvarint(in, uint64(len(part)))
		in = append(in, part...)
	}
	return sha256.Sum256(in)
}

// ParseOrderID checks the form of an order id; it does not check that the order exists.
func ParseOrderID(s string) (OrderID, error) {
	var raw [orderIDBytes]byte
	if !decodeOrderID(s, &raw) {
		return "", ErrOrderID
	}
	return OrderID(s), nil
}

// Item returns the item of the order, and 0 for a malformed id.
func (id OrderID) Item() inventory.ItemID {
	var raw [orderIDBytes]byte
	if !decodeOrderID(string(id), &raw) {
		return 0
	}
	return inventory.ItemID(binary.BigEndian.Uint32(raw[:4]))
}

// Of reports whether the id carries the caller's tag. Two callers share a tag with probability
// 2^-32, so use the caller of the order row if there is one.
func (id OrderID) Of(caller CallerRef) bool {
	var raw [orderIDBytes]byte
	return decodeOrderID(string(id), &raw) && [4]byte(raw[headBytes:headBytes+4]) == caller.tag()
}

// decodeOrderID decodes an id into its bytes, without allocating: eight characters are five bytes.
func decodeOrderID(s string, raw *[orderIDBytes]byte) bool {
	if len(s) != orderIDLength {
		return false
	}
	var bad byte
	for i := 0; i < orderIDLength/8; i++ {
		var n uint64
		for j := range 8 {
			v := orderIDValue(s[8*i+j])
			bad |= v
			n = n<<5 | uint64(v&31)
		}
		out := raw[5*i : 5*i+5]
		out[0], out[1], out[2], out[3], out[4] = byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	}
	return bad < 32
}

// withdrawalPrefix marks the hold of a withdrawal.
const withdrawalPrefix = "w"

// withdrawalHeads is the number of heads over which the withdrawals of an item from a shard are
// spread. All holds of a head are one value in Redis, which is read and written as a whole. A
// spread item whose units move for hours has a hundred thousand withdrawals.
const withdrawalHeads = 64

// NewWithdrawalID derives the name of the hold by which the shop takes units of an item from a
// shard.
func NewWithdrawalID(item inventory.ItemID, shard inventory.ShardID, key string) string {
	return withdrawalID(item, shard, byte(crc32.ChecksumIEEE([]byte(key))%withdrawalHeads), key)
}

func withdrawalID(item inventory.ItemID, shard inventory.ShardID, part byte, key string) string {
	user := UserID(append(binary.BigEndian.AppendUint16(nil, uint16(shard)), part))
	return withdrawalPrefix + string(NewOrderID(item, CallerRef{}, user, key))
}

// WithdrawalHeads returns the heads that withdrawals of an item from a shard have.
func WithdrawalHeads(item inventory.ItemID, shard inventory.ShardID) []string {
	heads := make([]string, withdrawalHeads)
	for part := range heads {
		heads[part] = inventory.Head(withdrawalID(item, shard, byte(part), ""))
	}
	return heads
}

// IsWithdrawal reports whether a hold's name is a withdrawal's.
func IsWithdrawal(hold string) bool {
	return len(hold) == 1+orderIDLength && hold[:1] == withdrawalPrefix
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

// Limits of a name, a purchase and a sale (L8).
const (
	MaxNameLength    = 64
	MaxUserLength    = 128
	MaxKeyLength     = 64
	MaxRequestLength = 64 // of a request id
	MaxQuantity      = 1_000
	MaxItemQuantity  = 10_000_000
	MaxItems         = 20_000
	MaxPriceMinor    = 1_000_000_000_000
	MaxOrders        = 1_000 // of one buyer and item, including ended ones: they are one value in Redis
)

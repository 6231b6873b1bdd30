package seckill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"penstock/inventory"
)

// Record is the promise: what the queue keeps of an accepted purchase, enough to make its order without asking anybody.
type Record struct {
	Order    OrderID
	Caller   CallerRef
	Activity ActivityID
	SKU      SKU
	User     UserID
	Quantity int
	Amount   Money
	Grant    Provenance
	Accepted time.Time // on the gateway's clock, milliseconds; shown to people, never compared
}

// Item returns the item the record is of.
func (r *Record) Item() inventory.ItemID { return r.Order.Item() }

// Hold returns the hold that stands behind the record.
func (r *Record) Hold() inventory.Hold {
	return inventory.Hold{ID: string(r.Order), Buyer: string(r.User), Quantity: r.Quantity}
}

// recordVersion is the first byte of every record. A reader refuses versions it doesn't know; a new one must be readable
// everywhere before it is written anywhere.
const recordVersion = 1

// ErrRecord says that bytes are not a record.
var ErrRecord = errors.New("not an order record")

// AppendRecord appends the record's encoding to dst: the version, then strings with their length and numbers, all as
// unsigned varints (encoding/binary).
func AppendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, recordVersion)
	for _, s := range [...]string{string(r.Order), string(r.Caller.Merchant), string(r.Caller.Caller), string(r.Activity),
		string(r.SKU), string(r.User), r.Amount.Currency} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	for _, n := range [...]uint64{uint64(r.Quantity), uint64(r.Amount.Minor), uint64(r.Grant.Shard), uint64(r.Grant.Epoch),
		r.Grant.Seq, uint64(r.Accepted.UnixMilli())} {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

// ParseRecord decodes a record. It keeps nothing of b. Every error wraps ErrRecord and says what is wrong.
func ParseRecord(b []byte) (Record, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return Record{}, fmt.Errorf("%w: unknown version", ErrRecord)
	}
	d := recordDecoder{rest: b[1:]}
	var r Record
	r.Order = OrderID(d.text("order", MaxNameLength))
	r.Caller.Merchant = MerchantID(d.text("merchant", MaxNameLength))
	r.Caller.Caller = CallerID(d.text("caller", MaxNameLength))
	r.Activity = ActivityID(d.text("activity", MaxNameLength))
	r.SKU = SKU(d.text("sku", MaxNameLength))
	r.User = UserID(d.text("user", MaxUserLength))
	r.Amount.Currency = d.text("currency", MaxNameLength)
	r.Quantity = int(d.number("quantity", MaxQuantity))
	r.Amount.Minor = int64(d.number("amount", MaxPriceMinor*MaxQuantity))
	r.Grant.Shard = uint16(d.number("shard", 1<<16-1))
	r.Grant.Epoch = inventory.Epoch(d.number("epoch", 1<<32-1))
	r.Grant.Seq = d.number("seq", 1<<63)
	r.Accepted = time.UnixMilli(int64(d.number("accepted", 1<<53)))
	switch {
	case d.err != nil:
		return Record{}, d.err
	case len(d.rest) != 0:
		return Record{}, fmt.Errorf("%w: %d bytes too many", ErrRecord, len(d.rest))
	case r.Item() == 0:
		return Record{}, fmt.Errorf("%w: order %q names no item", ErrRecord, r.Order)
	case r.Quantity == 0:
		return Record{}, fmt.Errorf("%w: no quantity", ErrRecord)
	}
	return r, nil
}

// recordDecoder reads fields until the first error, which it keeps.
type recordDecoder struct {
	rest []byte
	err  error
}

func (d *recordDecoder) number(field string, limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > limit {
		d.err = fmt.Errorf("%w: bad %s", ErrRecord, field)
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *recordDecoder) text(field string, limit uint64) string {
	n := d.number(field, limit)
	if d.err != nil {
		return ""
	}
	if n > uint64(len(d.rest)) {
		d.err = fmt.Errorf("%w: short %s", ErrRecord, field)
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

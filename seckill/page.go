package seckill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/inventory"
)

// Promise is an accepted purchase, with all the data for its order.
type Promise struct {
	Order    OrderID
	Caller   CallerRef
	Activity ActivityID
	SKU      SKU
	User     UserID
	Quantity int
	Amount   Money
	Request  string    // id of the request, for people
	Accepted time.Time // on the gateway's clock, milliseconds; shown to people, never compared
	Trace    string    // names the span of the request where it is traced (trace.Context); else ""
}

// Item returns the promise's item.
func (r *Promise) Item() inventory.ItemID { return r.Order.Item() }

// Hold returns the promise's hold.
func (r *Promise) Hold() inventory.Hold {
	return inventory.Hold{Item: r.Item(), ID: string(r.Order), Buyer: string(r.User), Quantity: r.Quantity}
}

// Page is a record of the queue: the promises of one batch, all of one shard and one epoch. A page
// without promises is a marker.
type Page struct {
	PageHeader
	Promises []Promise

	// The place where the page was read; zero if it was not read from a log. They are not encoded.
	Partition int32
	Offset    int64
}

// PageHeader is the part of a page that can be read even if the rest is damaged: it names every
// promise with its units, so that they can be parked.
type PageHeader struct {
	Ref    inventory.Ref
	Seq    uint64    // the shard's, after the holds were taken
	Node   string    // the gateway that promised
	Put    time.Time // on that node's clock, milliseconds
	Orders []Claimed
}

// Claimed is an order of a page with its units.
type Claimed struct {
	Order    OrderID
	Quantity int
}

// maxTrace is the length of the name of a span.
const maxTrace = 24

// MaxPage is the most promises of one page.
const MaxPage = 512

// pageVersion is the first byte of every record. A reader stops at a version that it doesn't know;
// a new one must be readable everywhere before it is written anywhere.
const pageVersion = 3

// Errors of a record. ErrPageVersion is of another version: newer workers can read it. ErrPage
// means damage. If only the body is damaged, the header is valid.
var (
	ErrPageVersion = errors.New("a page of an unknown version")
	ErrPage        = errors.New("a damaged page")
)

// AppendPage appends the page's encoding to dst. Unless the table says otherwise, numbers are
// unsigned varints (encoding/binary), and a text is its length and its bytes. Both checks are
// CRC-32C (RFC 3720), 4 bytes big endian, over all of their part.
//
//	header  version (1 byte), shard, epoch, seq, node, milliseconds since 1970, count,
//	        count times: order id (25 bytes raw), quantity
//	        check
//	body    count of texts, the texts: names that promises share,
//	        count times: merchant, caller, activity, SKU, currency (each a place among the texts),
//	                     user, request, amount, milliseconds between its acceptance and the page's,
//	                     trace
//	        check
//
// A marker ends behind the check of its header.
func AppendPage(dst []byte, p *Page) []byte {
	start := len(dst)
	dst = append(dst, pageVersion)
	dst = appendNumbers(dst, uint64(p.Ref.Shard), uint64(p.Ref.Epoch), p.Seq)
	dst = appendText(dst, p.Node)
	put := max(0, p.Put.UnixMilli()) // of the zero time it is below zero
	dst = appendNumbers(dst, uint64(put), uint64(len(p.Promises)))
	for i := range p.Promises {
		var raw [orderIDBytes]byte
		decodeOrderID(string(p.Promises[i].Order), &raw)
		dst = append(dst, raw[:]...)
		dst = binary.AppendUvarint(dst, uint64(p.Promises[i].Quantity))
	}
	dst = appendCheck(dst, start)
	if len(p.Promises) == 0 {
		return dst
	}
	start = len(dst)
	var texts textTable
	for i := range p.Promises {
		for _, s := range p.Promises[i].shared() {
			texts.place(s)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(texts.list)))
	for _, s := range texts.list {
		dst = appendText(dst, s)
	}
	for i := range p.Promises {
		r := &p.Promises[i]
		for _, s := range r.shared() {
			dst = binary.AppendUvarint(dst, uint64(texts.place(s)))
		}
		dst = appendText(appendText(dst, string(r.User)), r.Request)
		dst = appendNumbers(dst, uint64(r.Amount.Minor), uint64(max(0, put-r.Accepted.UnixMilli())))
		dst = appendText(dst, r.Trace)
	}
	return appendCheck(dst, start)
}

// shared returns the texts that many promises of a page have in common.
func (r *Promise) shared() [5]string {
	return [...]string{string(r.Caller.Merchant), string(r.Caller.Caller), string(r.Activity), string(r.SKU), r.Amount.Currency}
}

// textTable collects texts and gives each a place. A page has few different texts, and mostly the
// same one as before.
type textTable struct {
	list  []string
	known map[string]int // made when the list is long
}

// place returns the place of a text, and adds it first if need be.
func (t *textTable) place(s string) int {
	if t.known == nil {
		for i, known := range t.list {
			if known == s {
				return i
			}
		}
		t.list = append(t.list, s)
		if len(t.list) > 16 {
			t.known = make(map[string]int, 2*len(t.list))
			for i, s := range t.list {
				t.known[s] = i
			}
		}
		return len(t.list) - 1
	}
	i, ok := t.known[s]
	if !ok {
		i = len(t.list)
		t.list = append(t.list, s)
		t.known[s] = i
	}
	return i
}

func appendNumbers(dst []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func appendCheck(dst []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(dst, castagnoli(dst[start:]))
}

// ParsePage decodes a record. It keeps nothing of b. An error wraps ErrPageVersion or ErrPage. If
// only the body is damaged, the page has its header and no promises.
func ParsePage(b []byte) (Page, error) {
	var p Page
	if len(b) == 0 || b[0] != pageVersion {
		return p, ErrPageVersion
	}
	d := decoder{all: b, rest: b[1:]}
	d.header(&p.PageHeader)
	if d.err != nil {
		return Page{}, d.err
	}
	if len(p.Orders) > 0 {
		d.body(&p)
	}
	if d.err == nil && len(d.rest) != 0 {
		d.err = fmt.Errorf("%w: %d bytes too many", ErrPage, len(d.rest))
	}
	if d.err != nil {
		p.Promises = nil
	}
	return p, d.err
}

// decoder reads fields until the first error, which it keeps.
type decoder struct {
	all  []byte // of the part that is read
	rest []byte
	err  error
}

func (d *decoder) header(h *PageHeader) {
	h.Ref.Shard = inventory.ShardID(d.number("shard", inventory.MaxShards-1))
	h.Ref.Epoch = inventory.Epoch(d.number("epoch", 1<<53-1))
	h.Seq = d.number("seq", 1<<53)
	h.Node = d.text("node", MaxNameLength)
	h.Put = time.UnixMilli(int64(d.number("time", 1<<53)))
	n := int(d.number("count", MaxPage))
	if d.err != nil || n > len(d.rest)/(orderIDBytes+1) {
		d.fail("short list of orders")
		return
	}
	for range n {
		raw := d.bytes("order", orderIDBytes)
		quantity := int(d.number("quantity", MaxQuantity))
		if d.err != nil {
			return
		}
		var id [orderIDLength]byte
		orderIDEncoding.Encode(id[:], raw)
		order := OrderID(id[:])
		if order.Item() == 0 || quantity == 0 {
			d.fail("an order without item or units")
			return
		}
		h.Orders = append(h.Orders, Claimed{order, quantity})
	}
	d.check()
}

func (d *decoder) body(p *Page) {
	texts := d.texts(5*MaxPage, utf8.UTFMax*MaxNameLength)
	p.Promises = make([]Promise, 0, len(p.Orders))
	for _, claimed := range p.Orders {
		shared := d.places(texts, 5)
		r := Promise{
			Order: claimed.Order, Quantity: claimed.Quantity,
			Caller:   CallerRef{MerchantID(shared[0]), CallerID(shared[1])},
			Activity: ActivityID(shared[2]), SKU: SKU(shared[3]),
			User: UserID(d.text("user", utf8.UTFMax*MaxUserLength)), Request: d.text("request", MaxRequestLength),
		}
		r.Amount = Money{int64(d.number("amount", MaxPriceMinor*MaxQuantity)), shared[4]}
		r.Accepted = p.Put.Add(-time.Duration(d.number("age", 1<<40)) * time.Millisecond)
		r.Trace = d.text("trace", maxTrace)
		if d.err != nil {
			return
		}
		p.Promises = append(p.Promises, r)
	}
	d.check()
}

// texts reads a table of at most most texts, each of at most longest bytes.
func (d *decoder) texts(most, longest uint64) []string {
	n := int(d.number("count of texts", most))
	texts := make([]string, 0, min(n, len(d.rest)))
	for range n {
		texts = append(texts, d.text("text", longest))
		if d.err != nil {
			return nil
		}
	}
	return texts
}

// places reads the places of n texts, at most nine, and returns these.
func (d *decoder) places(texts []string, n int) (out [9]string) {
	for i := range n {
		if at := d.number("place", uint64(len(texts))); d.err == nil && at < uint64(len(texts)) {
			out[i] = texts[at]
		} else {
			d.fail("bad place")
		}
	}
	return out
}

// check reads and compares the checksum of the present part, and begins the next part.
func (d *decoder) check() {
	if d.err != nil {
		return
	}
	read := d.all[:len(d.all)-len(d.rest)]
	if want := d.bytes("check", 4); d.err == nil && binary.BigEndian.Uint32(want) != castagnoli(read) {
		d.fail("the check differs")
	}
	d.all = d.rest
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrPage, what)
	}
}

func (d *decoder) bytes(field string, n int) []byte {
	if d.err == nil && len(d.rest) < n {
		d.fail("short " + field)
	}
	if d.err != nil {
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) number(field string, limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > limit {
		d.fail("bad " + field)
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// difference reads a signed number.
func (d *decoder) difference(field string) int64 {
	if d.err != nil {
		return 0
	}
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail("bad " + field)
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) text(field string, limit uint64) string {
	n := d.number(field, limit)
	if d.err != nil {
		return ""
	}
	return string(d.bytes(field, int(n)))
}

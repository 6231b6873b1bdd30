package seckill

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
)

// ErrCatalogFile means that a file is not a kept catalog, or that it has another version, or that
// it is damaged.
var ErrCatalogFile = errors.New("not a kept catalog")

// catalogMagic begins a kept catalog. Its last byte is the version: a file of another version is
// not read, and the catalog comes from the database as at a first start.
const catalogMagic = "penstock catalog\n\x03"

// The blocks of a kept catalog, in this order. The blocks of merchants, callers and shards have as
// many records as fit into catalogBlock; each activity has a block of its own.
const (
	blockHead byte = iota + 1
	blockShards
	blockMerchants
	blockCallers
	blockActivity
	blockEnd
)

// Sizes of blocks, in bytes. The largest activity, with the longest names, has 2 MiB.
const (
	catalogBlock    = 64 << 10
	maxCatalogBlock = 4 << 20
	maxKeptText     = 4 << 10
)

// WriteCatalog writes a catalog, and the rows of the shards, for a start without the database. A
// block is its kind (1 byte), its length (4 bytes big endian), its records, and a CRC-32C (4 bytes)
// over all of it. Records are made of unsigned varints and texts, as in a page (AppendPage). The
// file has secrets: nobody else may be able to read it.
func WriteCatalog(w io.Writer, c *Catalog, shards []ShardRow) error {
	out := blockWriter{to: bufio.NewWriterSize(w, catalogBlock)}
	_, out.err = out.to.WriteString(catalogMagic)
	out.begin(blockHead)
	out.block = appendText(out.block, c.Version.Incarnation)
	out.block = appendNumbers(out.block, uint64(c.Version.Number))
	out.begin(blockShards)
	for _, row := range shards {
		out.block = appendNumbers(out.block, uint64(row.Ref.Shard), uint64(row.Ref.Epoch),
			uint64(row.NextEpoch), bit(row.Suspect), bit(row.Unloaded))
		out.next()
	}
	out.begin(blockMerchants)
	for m := range c.Merchants() {
		for _, s := range []string{string(m.ID), m.Name, m.PaymentSecret, m.FormerSecret} {
			out.block = appendText(out.block, s)
		}
		out.block = appendInstant(out.block, m.FormerUntil)
		out.next()
	}
	out.begin(blockCallers)
	for caller := range c.Callers() {
		out.block = appendCaller(out.block, caller)
		out.next()
	}
	for sale := range c.Sales() {
		out.begin(blockActivity)
		out.block = appendActivity(out.block, sale.Activity)
		out.next()
	}
	records := out.records
	out.begin(blockEnd)
	out.block = appendNumbers(out.block, records)
	out.end()
	if out.err != nil {
		return fmt.Errorf("write the catalog: %w", out.err)
	}
	return out.to.Flush()
}

// blockWriter writes blocks. It keeps the first error.
type blockWriter struct {
	to      *bufio.Writer
	err     error
	kind    byte
	block   []byte // a gap for kind and length, then the records
	records uint64 // records of all blocks
}

const blockFront = 5

// begin ends the block before, if there is one.
func (w *blockWriter) begin(kind byte) {
	if w.kind != 0 {
		w.end()
	}
	w.kind = kind
	w.block = append(w.block[:0], make([]byte, blockFront)...)
}

// next ends a record, and also the block if it is full.
func (w *blockWriter) next() {
	w.records++
	if len(w.block) >= catalogBlock {
		w.begin(w.kind)
	}
}

func (w *blockWriter) end() {
	if len(w.block)-blockFront > maxCatalogBlock && w.err == nil {
		w.err = fmt.Errorf("a block of %d bytes", len(w.block))
	}
	if w.err != nil {
		return
	}
	w.block[0] = w.kind
	binary.BigEndian.PutUint32(w.block[1:], uint32(len(w.block)-blockFront))
	w.block = appendCheck(w.block, 0)
	_, w.err = w.to.Write(w.block)
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// yearOne is the number of seconds from the zero time to 1970.
const yearOne = 62_135_596_800

func appendInstant(dst []byte, t time.Time) []byte {
	return appendNumbers(dst, uint64(t.Unix()+yearOne), uint64(t.Nanosecond()))
}

func appendCaller(dst []byte, c *Caller) []byte {
	dst = appendText(appendText(appendText(dst, string(c.Merchant)), string(c.Caller)), c.Name)
	dst = appendNumbers(dst, uint64(c.Rights), bit(c.Shadow), bit(c.Revoked))
	dst = appendInstant(dst, c.Created)
	dst = appendNumbers(dst, uint64(len(c.Keys)))
	for i := range c.Keys {
		k := &c.Keys[i]
		dst = appendText(appendText(dst, string(k.ID)), k.Prefix)
		dst = append(dst, k.Hash[:]...)
		dst = appendInstant(appendInstant(dst, k.Created), k.Expires)
		dst = appendNumbers(dst, bit(k.Revoked))
	}
	return dst
}

func appendActivity(dst []byte, a *Activity) []byte {
	for _, s := range []string{string(a.ID), string(a.Merchant), a.Name, string(a.State)} {
		dst = appendText(dst, s)
	}
	for _, t := range []time.Time{a.StartsAt, a.EndsAt, a.EndedAt, a.Archive.At} {
		dst = appendInstant(dst, t)
	}
	dst = appendText(dst, a.Archive.Sum)
	dst = appendNumbers(dst, uint64(a.PaymentWindow), uint64(len(a.Items)))
	for i := range a.Items {
		item := &a.Items[i]
		dst = binary.AppendUvarint(dst, uint64(item.ID))
		dst = appendText(appendText(dst, string(item.SKU)), item.Price.Currency)
		dst = appendNumbers(dst, uint64(item.Price.Minor), uint64(item.Quantity), uint64(item.PerUser),
			uint64(item.MaxOrders), uint64(item.Spread))
	}
	return dst
}

// ReadCatalog reads what WriteCatalog wrote. now is the time at which this process first sees it.
// An error that wraps ErrCatalogFile means that the file can't be used.
func ReadCatalog(r io.Reader, now time.Time) (*Catalog, []ShardRow, error) {
	in := blockReader{from: bufio.NewReaderSize(r, catalogBlock)}
	magic := make([]byte, len(catalogMagic))
	if _, err := io.ReadFull(in.from, magic); err != nil || string(magic) != catalogMagic {
		return nil, nil, fmt.Errorf("%w of this version", ErrCatalogFile)
	}
	var (
		edit    = (*Catalog)(nil).Edit(true, now)
		version CatalogVersion
		shards  []ShardRow
		records uint64
	)
	for number := 1; ; number++ {
		kind, d, err := in.next()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: block %d: %w", ErrCatalogFile, number, err)
		}
		switch {
		case kind == blockHead:
			version = CatalogVersion{d.text("incarnation", maxKeptText), int64(d.number("version", 1<<63-1))}
		case kind == blockEnd:
			if d.number("records", 1<<40) != records && d.err == nil {
				d.fail("records are missing")
			}
		default:
			for d.err == nil && len(d.rest) > 0 {
				shards = d.keptRecord(kind, edit, shards)
				records++
			}
		}
		if d.err != nil {
			return nil, nil, fmt.Errorf("%w: block %d: %s", ErrCatalogFile, number, d.err)
		}
		if kind == blockEnd {
			return edit.Done(version), shards, nil
		}
	}
}

// blockReader reads blocks. A block is valid until the next one is read.
type blockReader struct {
	from  *bufio.Reader
	block []byte
}

func (r *blockReader) next() (kind byte, records *decoder, err error) {
	r.block = slices.Grow(r.block[:0], blockFront)[:blockFront]
	if _, err := io.ReadFull(r.from, r.block); err != nil {
		return 0, nil, err
	}
	size := int(binary.BigEndian.Uint32(r.block[1:]))
	if size > maxCatalogBlock {
		return 0, nil, fmt.Errorf("a block of %d bytes", size)
	}
	r.block = slices.Grow(r.block, size+4)[:blockFront+size+4]
	if _, err := io.ReadFull(r.from, r.block[blockFront:]); err != nil {
		return 0, nil, err
	}
	all := r.block[:blockFront+size]
	if binary.BigEndian.Uint32(r.block[len(all):]) != castagnoli(all) {
		return 0, nil, errors.New("the check differs")
	}
	return all[0], &decoder{rest: all[blockFront:]}, nil
}

// keptRecord reads one record of a block into the edit, or appends it to the shards.
func (d *decoder) keptRecord(kind byte, edit *CatalogEdit, shards []ShardRow) []ShardRow {
	var change CatalogChange
	switch kind {
	case blockShards:
		var row ShardRow
		row.Ref.Shard = inventory.ShardID(d.number("shard", inventory.MaxShards-1))
		row.Ref.Epoch = inventory.Epoch(d.number("epoch", 1<<53-1))
		row.NextEpoch = inventory.Epoch(d.number("epoch", 1<<53-1))
		row.Suspect = d.number("suspect", 1) == 1
		row.Unloaded = d.number("unloaded", 1) == 1
		return append(shards, row)
	case blockMerchants:
		change.Merchant = &Merchant{
			ID: MerchantID(d.text("merchant", maxKeptText)), Name: d.text("name", maxKeptText),
			PaymentSecret: d.text("secret", maxKeptText), FormerSecret: d.text("secret", maxKeptText),
			FormerUntil: d.instant("the former secret's end"),
		}
	case blockCallers:
		change.Caller = d.caller()
	case blockActivity:
		change.Activity = d.activity()
	default:
		d.fail("an unknown kind of block")
	}
	if d.err == nil {
		d.err = edit.Apply(change)
	}
	return shards
}

func (d *decoder) instant(field string) time.Time {
	seconds := int64(d.number(field, 1<<40)) - yearOne
	nanoseconds := int64(d.number(field, 1e9-1))
	if d.err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, nanoseconds).UTC()
}

func (d *decoder) caller() *Caller {
	c := &Caller{CallerRef: CallerRef{
		Merchant: MerchantID(d.text("merchant", maxKeptText)), Caller: CallerID(d.text("caller", maxKeptText)),
	}}
	c.Name = d.text("name", maxKeptText)
	c.Rights = Rights(d.number("rights", 1<<8-1))
	c.Shadow = d.number("shadow", 1) == 1
	c.Revoked = d.number("revoked", 1) == 1
	c.Created = d.instant("created")
	n := int(d.number("count of keys", MaxKeys+maxDeadKeys+1))
	if d.err != nil {
		return c
	}
	if n > 0 {
		c.Keys = make([]CallerKey, n)
	}
	for i := range c.Keys {
		k := &c.Keys[i]
		k.ID, k.Prefix = KeyID(d.text("key id", maxKeptText)), d.text("prefix", maxKeptText)
		copy(k.Hash[:], d.bytes("key", len(k.Hash)))
		k.Created, k.Expires = d.instant("created"), d.instant("expires")
		k.Revoked = d.number("revoked", 1) == 1
	}
	return c
}

func (d *decoder) activity() *Activity {
	a := &Activity{
		ID: ActivityID(d.text("activity", maxKeptText)), Merchant: MerchantID(d.text("merchant", maxKeptText)),
		Name: d.text("name", maxKeptText), State: ActivityState(d.text("state", maxKeptText)),
		StartsAt: d.instant("start"), EndsAt: d.instant("end"), EndedAt: d.instant("end by hand"),
		Archive: Archive{At: d.instant("archive"), Sum: d.text("archive", maxKeptText)},
	}
	a.PaymentWindow = time.Duration(d.number("payment window", 1<<62))
	n := int(d.number("count of items", MaxItems))
	if d.err != nil {
		return nil
	}
	a.Items = make([]Item, n)
	for i := range a.Items {
		item := &a.Items[i]
		item.ID = inventory.ItemID(d.number("item", 1<<32-1))
		item.SKU = SKU(d.text("SKU", maxKeptText))
		item.Price.Currency = d.text("currency", maxKeptText)
		item.Price.Minor = int64(d.number("price", 1<<62))
		item.Quantity = int64(d.number("quantity", 1<<62))
		item.PerUser = int(d.number("per_user", 1<<31))
		item.MaxOrders = int(d.number("max_orders", 1<<31))
		item.Spread = int(d.number("spread", inventory.MaxShards))
		if d.err != nil {
			return nil
		}
	}
	return a
}

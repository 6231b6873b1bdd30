package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/penstock/penstock/seckill"
)

// csvTable is a CSV file with a header, read line by line. Every mistake is kept with its line.
type csvTable struct {
	path    string
	reader  *csv.Reader
	columns map[string]int
	width   int
	errs    []error
	record  []string
	line    int
}

// openCSV reads the header: it must have the needed columns, and may have the optional ones.
func openCSV(path string, text []byte, needed, optional []string) *csvTable {
	t := &csvTable{path: path, columns: make(map[string]int)}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		t.line = 1 + bytes.Count(text[:firstInvalid(text)], []byte("\n"))
		t.wrong("", "is not UTF-8: save the file as UTF-8")
		return t
	}
	t.reader = csv.NewReader(bytes.NewReader(text))
	t.reader.FieldsPerRecord = -1
	header, err := t.reader.Read()
	if err != nil {
		t.line = 1
		t.wrong("", "has no header line: the first line names the columns %s", strings.Join(needed, ","))
		t.reader = nil
		return t
	}
	t.width = len(header)
	t.line, _ = t.reader.FieldPos(0)
	all := slices.Concat(needed, optional)
	for i, name := range header {
		name = strings.TrimSpace(name)
		switch _, twice := t.columns[name]; {
		case !slices.Contains(all, name):
			t.wrong("", "unknown column %q%s", name, nearest(name, all))
		case twice:
			t.wrong("", "the column %s is there twice", name)
		default:
			t.columns[name] = i
		}
	}
	for _, name := range needed {
		if _, ok := t.columns[name]; !ok {
			t.wrong("", "the column %s is missing", name)
		}
	}
	return t
}

func firstInvalid(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(text)
}

// wrong records a mistake on the current line.
func (t *csvTable) wrong(column, format string, args ...any) {
	if column != "" {
		column += ": "
	}
	t.errs = append(t.errs, fmt.Errorf("%s:%d: %s%s", t.path, t.line, column, fmt.Sprintf(format, args...)))
}

// next goes to the next valid line; false is the end.
func (t *csvTable) next() bool {
	if t.reader == nil {
		return false
	}
	for {
		record, err := t.reader.Read()
		if parse, ok := errors.AsType[*csv.ParseError](err); ok {
			t.line = parse.StartLine // a quote that isn't closed goes on to the end of the file
			t.wrong("", "is not CSV: %v", parse.Err)
			continue
		} else if err != nil {
			if !errors.Is(err, io.EOF) {
				t.wrong("", "%v", err)
			}
			return false
		}
		t.line, _ = t.reader.FieldPos(0)
		if len(record) != t.width {
			t.wrong("", "has %d values, the header has %d columns", len(record), t.width)
			continue
		}
		t.record = record
		return true
	}
}

// text returns a value; "" if there is no such column.
func (t *csvTable) text(column string) string {
	if i, ok := t.columns[column]; ok {
		return t.record[i]
	}
	return ""
}

// number returns a whole number; fallback if the value is empty.
func (t *csvTable) number(column string, fallback int64, required bool) int64 {
	text := strings.TrimSpace(t.text(column))
	if _, there := t.columns[column]; !there || text == "" {
		if there && required {
			t.wrong(column, "is empty")
		}
		return fallback
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		t.wrong(column, "%s is out of range", text)
	case err != nil && column == "price" && strings.ContainsAny(text, ".,"):
		t.wrong(column, "%q is not a whole number: prices are in minor units, 1999 for 19.99", text)
	case err != nil:
		t.wrong(column, "%q is not a whole number", text)
	default:
		return n
	}
	return fallback
}

// The columns of a file of items. The optional ones are optional in the API, too.
var (
	itemColumns     = []string{"sku", "price", "currency", "quantity", "per_user"}
	moreItemColumns = []string{"max_orders", "spread"}
	restockColumns  = []string{"sku", "delta"}
)

// maxShardsOfItems is the most shards of any installation. The server checks against its own
// number.
const maxShardsOfItems = 1024

// readItems reads the items of a CSV file. The error has every mistake, with its line.
func readItems(path string, text []byte) ([]any, error) {
	t := openCSV(path, text, itemColumns, moreItemColumns)
	var items []any
	first, count := make(map[string]int), 0
	for t.next() {
		count++
		before := len(t.errs)
		item := seckill.Item{
			SKU: seckill.SKU(t.text("sku")), Price: seckill.Money{Minor: t.number("price", 0, true), Currency: t.text("currency")},
			Quantity: t.number("quantity", 0, true), PerUser: int(t.number("per_user", 0, true)),
			MaxOrders: int(t.number("max_orders", 0, false)), Spread: int(t.number("spread", 1, false)),
		}
		for _, e := range item.Check(maxShardsOfItems) {
			t.wrong(e.Field, "%s", e.Detail)
		}
		if line, twice := first[string(item.SKU)]; item.SKU == "" {
			continue // that mistake is reported elsewhere
		} else if twice {
			t.wrong("sku", "%q is on line %d already", item.SKU, line)
		} else {
			first[string(item.SKU)] = t.line
		}
		if len(t.errs) == before {
			items = append(items, map[string]any{
				"sku": item.SKU, "price": item.Price.Minor, "currency": item.Price.Currency, "quantity": item.Quantity,
				"per_user": item.PerUser, "max_orders": item.MaxOrders, "spread": item.Spread,
			})
		}
	}
	switch {
	case count > seckill.MaxItems:
		t.errs = append(t.errs, fmt.Errorf("%s: has %d items: an activity has at most %d", path, count, seckill.MaxItems))
	case count == 0 && len(t.errs) == 0:
		t.errs = append(t.errs, fmt.Errorf("%s: has no items", path))
	}
	return items, errors.Join(t.errs...)
}

// restockLine is a line of a file of restocks.
type restockLine struct {
	line  int
	sku   string
	delta int64
}

// readRestocks reads a CSV file of restocks. The error has every mistake, with its line.
func readRestocks(path string, text []byte, known func(sku string) bool) ([]restockLine, error) {
	t := openCSV(path, text, restockColumns, nil)
	var lines []restockLine
	first := make(map[string]int)
	for t.next() {
		l := restockLine{t.line, t.text("sku"), t.number("delta", 1, true)}
		if line, twice := first[l.sku]; twice {
			t.wrong("sku", "%q is on line %d already", l.sku, line)
		} else if first[l.sku] = t.line; !known(l.sku) {
			t.wrong("sku", "the activity has no item %q", l.sku)
		}
		if l.delta == 0 || l.delta < -seckill.MaxItemQuantity || l.delta > seckill.MaxItemQuantity {
			t.wrong("delta", "must be from 1 to %d, or below zero, down to the same number, to take units back", seckill.MaxItemQuantity)
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 && len(t.errs) == 0 {
		t.errs = append(t.errs, fmt.Errorf("%s: has no lines", path))
	}
	return lines, errors.Join(t.errs...)
}

package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// decoder reads the two bodies this listener takes: flat JSON objects of a few fields. It collects
// every mistake instead of stopping at the first. Returned strings point into its parser: they are
// valid until the next body.
type decoder struct {
	parser fastjson.Parser
	errs   []problem.FieldError
	seen   uint32 // bit i is set when the i-th field was in the body
}

// Bounds of kept memory and of error lists.
const (
	maxFieldErrors = 16
	maxFieldName   = 64
	maxDepth       = 4       // the bodies are flat; fastjson's errors grow with each level, without a bound
	maxKeptBody    = 2 << 10 // a parser that has seen more isn't reused: it holds a value for each comma that it has read
)

const wholeBody = "body"

// The texts of field errors that need no number.
const (
	isMissing    = "is missing"
	isTwice      = "is there twice"
	isUnknown    = "isn't a field of this request"
	notString    = "must be a string"
	notInteger   = "must be a whole number without fraction or exponent"
	notCurrency  = "must be three upper-case letters (ISO 4217)"
	notOrderID   = "isn't an order id"
	notUTF8      = "isn't UTF-8"
	notObject    = "must be one JSON object"
	isDeep       = "is nested too deeply"
	loneHalf     = "has half of a surrogate pair in a string"
	isEmptyBody  = "is empty: a JSON object is expected"
	notVisible   = "must be 1 to 64 visible ASCII characters"
	isManyFields = "is given more than once"
)

// fieldKey is how errors name the Idempotency-Key.
const fieldKey = "header " + headerIdempotencyKey

func (d *decoder) reset() {
	clear(d.errs) // they may point into a request's memory
	d.errs, d.seen = d.errs[:0], 0
}

// shrink frees the memory of a large body.
func (d *decoder) shrink(body int) {
	if body > maxKeptBody {
		d.parser = fastjson.Parser{}
	}
}

func (d *decoder) fail(field, detail string) {
	if len(d.errs) < maxFieldErrors {
		d.errs = append(d.errs, problem.FieldError{Field: field[:min(len(field), maxFieldName)], Detail: detail})
	}
}

// purchase reads the body of POST /v1/orders into p.
func (d *decoder) purchase(body []byte, p *seckill.Purchase) {
	if !plainPurchase(body, p) {
		d.anyPurchase(body, p)
	}
}

// anyPurchase is purchase for any body.
func (d *decoder) anyPurchase(body []byte, p *seckill.Purchase) {
	p.Activity, p.SKU, p.User, p.Quantity = "", "", "", 0
	o := d.object(body)
	if o == nil {
		return
	}
	names := [...]string{"activity", "sku", "user", "quantity"}
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch d.field(key, names[:]) {
		case 0:
			p.Activity = seckill.ActivityID(d.name("activity", v, seckill.MaxNameLength))
		case 1:
			p.SKU = seckill.SKU(d.name("sku", v, seckill.MaxNameLength))
		case 2:
			p.User = seckill.UserID(d.name("user", v, seckill.MaxUserLength))
		case 3:
			p.Quantity = int(d.integer("quantity", v, 1, seckill.MaxQuantity))
		}
	})
	d.requireAll(names[:])
}

// payment reads the body of POST /v1/payments into p.
func (d *decoder) payment(body []byte, p *seckill.Payment) {
	o := d.object(body)
	if o == nil {
		return
	}
	names := [...]string{"payment", "order", "amount", "currency"}
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch d.field(key, names[:]) {
		case 0:
			p.ID = seckill.PaymentID(d.name("payment", v, seckill.MaxNameLength))
		case 1:
			text := d.name("order", v, seckill.MaxNameLength)
			if id, err := seckill.ParseOrderID(text); err == nil {
				p.Order = id
			} else if text != "" {
				d.fail("order", notOrderID)
			}
		case 2:
			p.Amount.Minor = d.integer("amount", v, 0, seckill.MaxPriceMinor*seckill.MaxQuantity)
		case 3:
			p.Amount.Currency = d.name("currency", v, seckill.MaxNameLength)
			if c := p.Amount.Currency; c != "" && (len(c) != 3 || strings.Trim(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
				d.fail("currency", notCurrency)
			}
		}
	})
	d.requireAll(names[:])
}

// object parses a body that must be one strict JSON object; nil after a mistake.
func (d *decoder) object(body []byte) *fastjson.Object {
	// fastjson's parser accepts bad numbers, escapes and control characters. Its validator refuses
	// them. Both recurse.
	switch {
	case len(bytes.Trim(body, " \t\r\n")) == 0:
		d.fail(wholeBody, isEmptyBody)
	case !utf8.Valid(body):
		d.fail(wholeBody, notUTF8)
	case depth(body) > maxDepth:
		d.fail(wholeBody, isDeep)
	case fastjson.ValidateBytes(body) != nil:
		d.fail(wholeBody, syntaxDetail(body))
	case problem.LoneSurrogate(body):
		d.fail(wholeBody, loneHalf)
	default:
		v, err := d.parser.ParseBytes(body)
		if err != nil {
			d.fail(wholeBody, syntaxDetail(body))
			return nil
		}
		if v.Type() != fastjson.TypeObject {
			d.fail(wholeBody, notObject)
			return nil
		}
		return v.GetObject()
	}
	return nil
}

// syntaxDetail says where a body stops being JSON. The standard library finds the place. It is
// slower, but it reads only wrong bodies.
func syntaxDetail(body []byte) string {
	var nothing struct{}
	var syntax *json.SyntaxError
	if errors.As(json.Unmarshal(body, &nothing), &syntax) {
		return fmt.Sprintf("isn't JSON from byte %d on", syntax.Offset)
	}
	return "isn't JSON"
}

// field returns the index of key in names after marking it as seen, or -1 after a mistake.
func (d *decoder) field(key []byte, names []string) int {
	for i, name := range names {
		if name != string(key) {
			continue
		}
		if d.seen&(1<<i) != 0 {
			d.fail(name, isTwice)
			return -1
		}
		d.seen |= 1 << i
		return i
	}
	d.fail(view(key), isUnknown)
	return -1
}

func (d *decoder) requireAll(names []string) {
	for i, name := range names {
		if d.seen&(1<<i) == 0 {
			d.fail(name, isMissing)
		}
	}
}

// name reads a string of 1 to most characters that a person can read; "" after a mistake.
func (d *decoder) name(field string, v *fastjson.Value, most int) string {
	if v.Type() != fastjson.TypeString {
		d.fail(field, notString)
		return ""
	}
	text := view(v.GetStringBytes())
	if len(text) == 0 || len(text) > most && utf8.RuneCountInString(text) > most {
		d.fail(field, "must be 1 to "+strconv.Itoa(most)+" characters long")
		return ""
	}
	if wrong := problem.IllegibleText(text); wrong != "" {
		d.fail(field, wrong)
		return ""
	}
	return text
}

// integer reads a whole number from least to most; 0 after a mistake.
func (d *decoder) integer(field string, v *fastjson.Value, least, most int64) int64 {
	if v.Type() != fastjson.TypeNumber {
		d.fail(field, notInteger)
		return 0
	}
	n, err := v.Int64()
	switch {
	case err != nil && isInteger(v):
		fallthrough // it doesn't even fit into 64 bits
	case err == nil && (n < least || n > most):
		d.fail(field, "must be from "+strconv.FormatInt(least, 10)+" to "+strconv.FormatInt(most, 10))
		return 0
	case err != nil, n == 0 && isNegative(v):
		d.fail(field, notInteger)
		return 0
	}
	return n
}

// isNegative reports whether a number has a minus sign. Parsers differ about minus zero, so it is
// refused.
func isNegative(v *fastjson.Value) bool { return bytes.HasPrefix(v.MarshalTo(nil), []byte("-")) }

// isInteger reports whether a number is written with digits only.
func isInteger(v *fastjson.Value) bool {
	return !bytes.ContainsAny(v.MarshalTo(nil), ".eE")
}

// depth returns how deeply arrays and objects are nested in what may be JSON.
func depth(body []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

package problem

import (
	"context"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/internal/field"
	"github.com/penstock/penstock/seckill"
)

// ContentType is the media type of the bodies that Append makes.
const ContentType = "application/problem+json"

// Problem is one answer. Code is needed. If another field is zero, its member is left out or taken
// from the catalogue.
type Problem struct {
	Code       Code
	Detail     string        // "" uses the catalogue's
	RetryAfter time.Duration // how long the client should wait; Append writes milliseconds, Seconds is for the header
	StartsAt   time.Time     // of not-started
	Order      string        // set if the outcome is unknown
	Limit      string        // the name of the limit that was hit
	Errors     []FieldError  // what is wrong with the request, all of it
	Extra      []Member      // members that only some codes have
}

// FieldError says what is wrong with one field of the body (its name), one header field ("header
// Idempotency-Key") or one parameter.
type FieldError = field.Error

// Member is an extension member of a body: Text or Number makes it.
type Member struct {
	name  string
	value []byte // JSON
}

// Text returns a member with a string.
func Text(name, value string) Member { return Member{name, AppendString(nil, value)} }

// Texts returns a member with an array of strings.
func Texts(name string, values []string) Member {
	out := []byte{'['}
	for i, value := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = AppendString(out, value)
	}
	return Member{name, append(out, ']')}
}

// Number returns a member with a number.
func Number(name string, value int64) Member { return Member{name, strconv.AppendInt(nil, value, 10)} }

// Status returns the problem's HTTP status.
func (p *Problem) Status() int { return entryOf(p.Code).Status }

// FromError makes the public answer for err. For a refusal, that is its reason. For any other error
// the public gets the kind, never the text. A failure is a 503, and an unknown outcome is a 503
// with the order to ask for. Any other error is internal.
//
// RetryAfter is set if waiting helps; the caller adds jitter.
func FromError(err error) Problem {
	var p Problem
	if refusal, ok := errors.AsType[*seckill.Refusal](err); ok {
		p = Problem{Code: refusal.Code, Detail: refusal.Detail, StartsAt: refusal.StartsAt, RetryAfter: refusal.RetryAfter}
	} else if failure, ok := errors.AsType[*seckill.Failure](err); ok {
		p = Problem{Code: failure.Code, RetryAfter: failure.RetryAfter}
	} else if unknown, ok := errors.AsType[*seckill.Unknown](err); ok {
		p = Problem{Code: Unavailable, Order: string(unknown.Order), RetryAfter: unknown.RetryAfter, Detail: unknownDetail}
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		p = Problem{Code: Unavailable}
	} else {
		p = Problem{Code: Internal}
	}
	e, known := byCode[p.Code]
	if !known { // a code without an entry has no status
		return Problem{Code: Internal}
	}
	if p.RetryAfter <= 0 && p.StartsAt.IsZero() {
		p.RetryAfter = e.Retry
	}
	return p
}

const unknownDetail = "The outcome is unknown: it may have happened. Ask for the order, or repeat the same request with the same key."

// Append appends the problem's body to dst: type, title, status, detail, code, retryable, then the
// other members that are set. It allocates only when dst must grow, and keeps no reference to p.
func Append(dst []byte, p *Problem) []byte {
	e := entryOf(p.Code)
	if p.Detail == "" {
		dst = append(dst, e.head...)
	} else {
		dst = appendHead(dst, e, p.Detail)
	}
	if p.RetryAfter > 0 {
		dst = append(dst, `,"retry_after_ms":`...)
		dst = strconv.AppendInt(dst, milliseconds(p.RetryAfter), 10)
	}
	if !p.StartsAt.IsZero() {
		dst = append(dst, `,"starts_at":"`...)
		dst = p.StartsAt.UTC().AppendFormat(dst, TimeFormat)
		dst = append(dst, '"')
	}
	dst = appendText(dst, "order", p.Order)
	dst = appendText(dst, "limit", p.Limit)
	if len(p.Errors) > 0 {
		dst = append(dst, `,"errors":[`...)
		for i := range p.Errors {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"field":`...)
			dst = AppendString(dst, p.Errors[i].Field)
			dst = append(dst, `,"detail":`...)
			dst = AppendString(dst, p.Errors[i].Detail)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	for i := range p.Extra {
		dst = append(dst, ',')
		dst = AppendString(dst, p.Extra[i].name)
		dst = append(dst, ':')
		dst = append(dst, p.Extra[i].value...)
	}
	return append(dst, '}')
}

// TimeFormat is how both listeners write a time.Time in UTC: RFC 3339 with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

func appendHead(dst []byte, e *Entry, detail string) []byte {
	dst = append(dst, `{"type":"/problems/`...)
	dst = append(dst, e.Code...)
	dst = append(dst, `","title":`...)
	dst = AppendString(dst, e.Title)
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(e.Status), 10)
	dst = append(dst, `,"detail":`...)
	dst = AppendString(dst, detail)
	dst = append(dst, `,"code":"`...)
	dst = append(dst, e.Code...)
	dst = append(dst, `","retryable":`...)
	return strconv.AppendBool(dst, e.Retryable)
}

func appendText(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return AppendString(dst, value)
}

// AppendString appends s to dst as a JSON string. Bytes that aren't UTF-8 become U+FFFD, because
// names of unknown fields come from outside.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c < 0x20 || c == 0x7f:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				dst = append(dst, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		dst = utf8.AppendRune(dst, r) // RuneError for what isn't UTF-8
		i += size
	}
	return append(dst, '"')
}

package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/field"
	"github.com/penstock/penstock/seckill"
)

// mistakes collects all mistakes in a request.
type mistakes struct {
	errs    []problem.FieldError
	leftOut int
}

// maxMistakes bounds an answer: a body of a megabyte can have a hundred thousand unknown fields.
const maxMistakes = 100

func (m *mistakes) add(field, detail string) {
	if detail == "" {
		return
	}
	if len(m.errs) == maxMistakes {
		m.leftOut++
		return
	}
	const long = 100
	if len(field) > long {
		field = strings.ToValidUTF8(field[:long], "") + "…"
	}
	m.errs = append(m.errs, problem.FieldError{Field: field, Detail: detail})
}

func (m *mistakes) addAll(errs field.Errors) {
	for _, e := range errs {
		m.add(e.Field, e.Detail)
	}
}

// err returns nil when nothing is wrong.
func (m *mistakes) err() error {
	if len(m.errs) == 0 {
		return nil
	}
	errs := m.errs
	if m.leftOut > 0 {
		errs = append(errs, problem.FieldError{Field: "body", Detail: fmt.Sprintf("has %d more mistakes", m.leftOut)})
	}
	return &refusal{problem.Problem{Code: problem.InvalidRequest, Errors: errs}}
}

// object is a JSON object whose members are taken one by one. The members that are left at the end
// are unknown ones. Every mistake is recorded and gives a zero value.
type object struct {
	at  string // stands before a member's name in messages
	raw map[string]json.RawMessage
	*mistakes
}

// parseObject reads text, which must be one JSON object and nothing else. encoding/json alone would
// accept a repeated member, and stop at the first mistake.
func parseObject(text []byte, at string, m *mistakes) *object {
	o := &object{raw: make(map[string]json.RawMessage), mistakes: m}
	o.parse(text, at)
	return o
}

// parse reads text into o. The members are slices of text.
func (o *object) parse(text []byte, at string) {
	o.at = at
	clear(o.raw)
	where := cmp.Or(strings.TrimSuffix(at, "."), "body")
	switch start := bytes.TrimLeft(text, " \t\r\n"); {
	case !utf8.Valid(text):
		o.add(where, "must be UTF-8")
	case !json.Valid(text):
		o.explain(text, where)
	case start[0] != '{':
		o.add(where, "must be a JSON object")
	default:
		o.split(start)
		o.surrogates(text, where)
	}
}

// surrogates adds a mistake if text has half of a surrogate pair, which a decoder would read as
// U+FFFD.
func (o *object) surrogates(text []byte, where string) {
	if o.at == "" && problem.LoneSurrogate(text) {
		o.add(where, "has half of a surrogate pair in a string")
	}
}

// explain describes why text is not one JSON value. It first takes the members before that place,
// so that their mistakes are reported, too.
func (o *object) explain(text []byte, where string) {
	d := json.NewDecoder(bytes.NewReader(text))
	if first, err := d.Token(); err != nil {
		o.add(where, "is not valid JSON: "+syntax(err))
		return
	} else if first != json.Delim('{') {
		o.add(where, "must be a JSON object")
		return
	}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			o.add(where, "is not valid JSON: "+syntax(err))
			return
		}
		key, _ := name.(string) // the decoder accepts only strings as names
		o.put(key, value)
	}
	if _, err := d.Token(); err != nil {
		o.add(where, "is not valid JSON: "+syntax(err))
	} else if _, err := d.Token(); err != io.EOF {
		o.add(where, "must end after the object")
	} else {
		o.surrogates(text, where)
	}
}

func (o *object) put(key string, value json.RawMessage) {
	if _, twice := o.raw[key]; twice {
		o.add(o.at+key, "is listed twice")
	}
	o.raw[key] = value
}

// split takes the members of text, which is a valid JSON object. An activity has 20,000 of them: a
// json.Decoder for each would take a second.
func (o *object) split(text []byte) {
	i := skipSpace(text, 1)
	for text[i] != '}' {
		end := skipValue(text, i)
		var key string
		if name := text[i+1 : end-1]; bytes.IndexByte(name, '\\') < 0 {
			key = string(name)
		} else if json.Unmarshal(text[i:end], &key) != nil {
			return // the object is valid
		}
		i = skipSpace(text, skipSpace(text, end)+1) // the position after the colon
		end = skipValue(text, i)
		o.put(key, text[i:end:end])
		if i = skipSpace(text, end); text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
}

func skipSpace(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n' {
		i++
	}
	return i
}

// skipValue returns the end of the valid JSON value that begins at i.
func skipValue(text []byte, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 { // after a number or a word
				return i
			}
			depth--
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return i
			}
			continue
		default: // inside a number or a word
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// syntax describes a decoder's error.
func syntax(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

// take returns a member and forgets it; nil when it is missing or null.
func (o *object) take(name string) json.RawMessage {
	raw := o.raw[name]
	delete(o.raw, name)
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// need takes a member that must be present.
func (o *object) need(name string) json.RawMessage {
	raw := o.take(name)
	if raw == nil {
		o.add(o.at+name, "is required")
	}
	return raw
}

// end adds a mistake for each member that was not taken.
func (o *object) end() {
	for _, name := range slices.Sorted(maps.Keys(o.raw)) {
		o.add(o.at+name, "is unknown")
	}
}

func (o *object) string(name string, raw json.RawMessage) string {
	var s string
	if raw == nil {
		return ""
	}
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		o.add(o.at+name, "must be a string")
	}
	return s
}

// text takes a required string.
func (o *object) text(name string) string { return o.string(name, o.need(name)) }

// checked takes a required string, and adds the mistake that check finds.
func (o *object) checked(name string, check func(string) string) string {
	raw := o.need(name)
	s := o.string(name, raw)
	if raw != nil && raw[0] == '"' {
		o.add(o.at+name, check(s))
	}
	return s
}

// optionalText takes a string that may be missing.
func (o *object) optionalText(name string) (s string, given bool) {
	raw := o.take(name)
	return o.string(name, raw), raw != nil
}

// integer takes a required whole number.
func (o *object) integer(name string) int64 {
	raw := o.need(name)
	if raw == nil {
		return 0
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err == nil && (n != 0 || raw[0] != '-') { // minus zero is refused, because parsers read it in different ways
		return n
	}
	o.noNumber(name, err, "must be a whole number")
	return 0
}

// noNumber records why a text is no number: it is too large, or malformed.
func (o *object) noNumber(name string, err error, form string) {
	if errors.Is(err, strconv.ErrRange) {
		form = "is out of range"
	}
	o.add(o.at+name, form)
}

// count takes a whole number that fits an int. If it is missing and not required, count returns
// fallback.
func (o *object) count(name string, required bool, fallback int) int {
	if raw, given := o.raw[name]; !required && (!given || string(raw) == "null") {
		o.take(name)
		return fallback
	}
	n := o.integer(name)
	if n < math.MinInt32 || n > math.MaxInt32 {
		o.add(o.at+name, "is out of range")
		return fallback
	}
	return int(n)
}

// boolean takes a truth value; a missing one is false.
func (o *object) boolean(name string) bool {
	raw := o.take(name)
	if raw != nil && string(raw) != "true" && string(raw) != "false" {
		o.add(o.at+name, "must be true or false")
	}
	return string(raw) == "true"
}

// time takes a required RFC 3339 time, to the millisecond: the stored value must be the one in the
// answer.
func (o *object) time(name string) time.Time {
	raw := o.need(name)
	s := o.string(name, raw)
	if raw == nil || raw[0] != '"' {
		return time.Time{}
	}
	t, ok := parseTime(s)
	if t = t.UTC(); !ok || t.Year() < 1970 || t.Year() > 9999 {
		o.add(o.at+name, "must be a time like 2026-06-18T20:00:00+08:00 (RFC 3339)")
		return time.Time{}
	}
	return t.Truncate(time.Millisecond)
}

// parseTime reads a time of RFC 3339, and no other form, because a loose reading may find a time
// that was not meant. time.Parse alone accepts an hour of one digit, a comma before the fraction,
// and offsets of a day. It refuses the lower-case t and z, which the RFC allows.
func parseTime(s string) (time.Time, bool) {
	const form = "0000-00-00T00:00:00"
	rest, ok := fits(s, form)
	if !ok {
		return time.Time{}, false
	}
	if fraction, found := strings.CutPrefix(rest, "."); found {
		rest = strings.TrimLeft(fraction, "0123456789")
		if len(rest) == len(fraction) {
			return time.Time{}, false
		}
	}
	if offset, fit := fits(strings.Replace(rest, "-", "+", 1), "+00:00"); fit && offset == "" {
		if rest[1:3] > "23" || rest[4:6] > "59" {
			return time.Time{}, false
		}
	} else if rest != "Z" && rest != "z" {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(s))
	return t, err == nil
}

// fits cuts form from the front of s: a digit for each 0, a T in either case, every other character
// exactly.
func fits(s, form string) (rest string, ok bool) {
	if len(s) < len(form) {
		return "", false
	}
	for i := range len(form) {
		switch c := s[i]; {
		case form[i] == '0' && (c < '0' || c > '9'), form[i] == 'T' && c != 'T' && c != 't':
			return "", false
		case form[i] != '0' && form[i] != 'T' && c != form[i]:
			return "", false
		}
	}
	return s[len(form):], true
}

// checkTitle returns what is wrong with a name for people, or "".
func checkTitle(s string) string {
	if wrong := seckill.CheckTitle(s); wrong != "" {
		return wrong
	}
	return problem.IllegibleText(s)
}

// duration takes a required Go duration string.
func (o *object) duration(name string) time.Duration {
	raw := o.need(name)
	s := o.string(name, raw)
	if raw == nil || raw[0] != '"' {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		o.add(o.at+name, "must be a duration like 90s, 15m or 1h30m")
	}
	return d
}

// list takes a required array.
func (o *object) list(name string) []json.RawMessage { return o.elements(name, o.need(name)) }

func (o *object) elements(name string, raw json.RawMessage) []json.RawMessage {
	if raw == nil {
		return nil
	}
	var out []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &out) != nil {
		o.add(o.at+name, "must be an array")
	}
	return out
}

// texts takes a required array of strings.
func (o *object) texts(name string) []string {
	var out []string
	for i, raw := range o.list(name) {
		out = append(out, o.string(fmt.Sprintf("%s[%d]", name, i), raw))
	}
	return out
}

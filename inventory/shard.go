package inventory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/rueidis"
)

// keyNames are a shard's keys in the order of lua/shard.lua. hold.lua gets only the first holdKeys
// of them, because each key costs Redis a tenth of a microsecond per call.
var keyNames = [...]string{"shard", "young", "log", "totals", "restocks"}

const holdKeys = 3

// shardKeys are a shard's names in Redis.
type shardKeys struct {
	number string // as in messages
	keys   [len(keyNames)]string
}

// newShardKeys returns the names of all possible shards.
func newShardKeys(prefix string) []shardKeys {
	all := make([]shardKeys, MaxShards)
	for i := range all {
		number := strconv.Itoa(i)
		all[i].number = number
		for k, name := range keyNames {
			all[i].keys[k] = prefix + ":{" + prefix + "." + number + "}:" + name
		}
	}
	return all
}

// The codes that begin a reply, as in lua/shard.lua.
const (
	codeOK = iota
	codeLost
	codeEpoch
	codeClosed
	codeForeign
)

// reply is a script's answer.
type reply struct {
	seq  uint64
	log  int64 // elements of the log
	rest []rueidis.RedisMessage
}

// refusedError is a shard's refusal of a whole call, with its epoch.
type refusedError struct {
	err   error
	epoch Epoch
}

func (e *refusedError) Error() string { return fmt.Sprintf("%v (epoch %d)", e.err, e.epoch) }
func (e *refusedError) Unwrap() error { return e.err }

// errReply means that a script gave an answer that it can't give.
var errReply = errors.New("malformed reply")

// parseReply reads a script's reply. extra is the least number of elements that the script adds.
// After a malformed reply the outcome is unknown.
func parseReply(messages []rueidis.RedisMessage, extra int) (reply, error) {
	malformed := func(format string, args ...any) (reply, error) {
		return reply{}, &UnknownError{fmt.Errorf("%w: "+format, append([]any{errReply}, args...)...)}
	}
	var ints [3]int64
	n := min(len(messages), len(ints))
	for i := range n {
		number, err := messages[i].AsInt64()
		if err != nil {
			return malformed("element %d: %w", i, err)
		}
		ints[i] = number
	}
	if n == 2 && ints[0] != codeOK {
		refused := &refusedError{epoch: Epoch(ints[1])}
		switch ints[0] {
		case codeLost:
			refused.err = ErrLost
		case codeEpoch:
			refused.err = ErrEpoch
		case codeClosed:
			refused.err = ErrClosed
		case codeForeign:
			refused.err = ErrForeign
		default:
			return malformed("code %d", ints[0])
		}
		return reply{}, refused
	}
	if len(messages) < len(ints)+extra || ints[0] != codeOK || ints[1] < 0 || ints[2] < 0 {
		return malformed("%d elements, begins with %v", len(messages), ints)
	}
	return reply{seq: uint64(ints[1]), log: ints[2], rest: messages[len(ints):]}, nil
}

// text returns element i of the script's own elements. The caller must know that it exists.
func (r *reply) text(i int) (string, error) {
	s, err := r.rest[i].ToString()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errReply, err)
	}
	return s, nil
}

// parseState reads the letter of a state.
func parseState(letter byte) (State, bool) {
	for state, l := range []byte(stateLetters) {
		if l == letter {
			return State(state), true
		}
	}
	return None, false
}

// stateLetters is indexed by State; None is only in replies.
const stateLetters = "NFDOVS"

// touched is a hold of a value, with the seq of its last touch.
type touched struct {
	Entry
	touch uint64
}

// parseValue reads a value of the holds hash, as lua/shard.lua says, and appends its holds to out.
// They keep a part of value.
func parseValue(out []touched, head, value string) ([]touched, error) {
	bad := func() ([]touched, error) { return nil, fmt.Errorf("%w: head %q has %q", errReply, head, value) }
	first, rest := len(out), value
	for rest != "" && rest[0] != '=' {
		var t touched
		var ok bool
		if t, rest, ok = cutEntry(head, rest); !ok {
			return bad()
		}
		out = append(out, t)
	}
	if rest == "" || len(out) == first {
		return bad()
	}
	item, buyer, ok := cutNumber(rest[1:], ' ')
	if !ok || item == 0 || item > 1<<32-1 {
		return bad()
	}
	for i := first; i < len(out); i++ {
		out[i].Item, out[i].Buyer = ItemID(item), buyer
	}
	return out, nil
}

// cutEntry reads the first hold of a value.
func cutEntry(head, value string) (t touched, rest string, ok bool) {
	state, ok := parseState(value[0])
	if !ok || state == None {
		return touched{}, "", false
	}
	quantity, rest, ok := cutNumber(value[1:], ' ')
	if !ok || quantity == 0 || quantity > maxUnits {
		return touched{}, "", false
	}
	touch, rest, ok := cutNumber(rest, ';')
	if !ok || len(rest) < TailLength {
		return touched{}, "", false
	}
	hold := Hold{ID: head + rest[:TailLength], Quantity: int(quantity)}
	return touched{Entry{hold, state}, touch}, rest[TailLength:], true
}

// cutNumber reads a decimal number and the byte after it.
func cutNumber(s string, end byte) (n uint64, rest string, ok bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c == end && i > 0:
			return n, s[i+1:], true
		case c < '0' || c > '9' || i >= 18:
			return 0, "", false
		default:
			n = 10*n + uint64(c-'0')
		}
	}
	return 0, "", false
}

// parseTotals reads a value of the totals hash.
func parseTotals(value string) (total, sold int64, err error) {
	first, second, ok := strings.Cut(value, " ")
	total, err1 := strconv.ParseInt(first, 10, 64)
	sold, err2 := strconv.ParseInt(second, 10, 64)
	if err := errors.Join(err1, err2); err != nil || !ok {
		return 0, 0, fmt.Errorf("%w: totals are %q", errReply, value)
	}
	return total, sold, nil
}

// arguments collects what a call sends. Its strings are copies, all in one piece of memory: after a
// caller has given up a call, the call may still be on its way, and the caller may reuse its
// strings. It goes back into the pool when the call has been built.
type arguments struct {
	list   []string
	buf    []byte
	spans  []span
	hashes []byte
}

// span is a place in list whose string is still a part of buf.
type span struct{ at, from, to int }

type argumentsPool struct{ pool sync.Pool }

func (p *argumentsPool) get() *arguments {
	if a, ok := p.pool.Get().(*arguments); ok {
		return a
	}
	return new(arguments)
}

func (p *argumentsPool) put(a *arguments) {
	clear(a.list)
	a.list, a.buf, a.spans, a.hashes = a.list[:0], a.buf[:0], a.spans[:0], a.hashes[:0]
	p.pool.Put(a)
}

// constant appends strings that never change.
func (a *arguments) constant(s ...string) { a.list = append(a.list, s...) }

// text appends a copy of s.
func (a *arguments) text(s string) {
	from := len(a.buf)
	a.buf = append(a.buf, s...)
	a.mark(from)
}

// mark makes an argument from the bytes in buf after a position.
func (a *arguments) mark(from int) {
	a.spans = append(a.spans, span{len(a.list), from, len(a.buf)})
	a.list = append(a.list, "")
}

// number appends a number.
func (a *arguments) number(n int64) {
	if n >= 0 && n < 100 { // strconv returns these numbers without an allocation
		a.list = append(a.list, strconv.FormatInt(n, 10))
		return
	}
	from := len(a.buf)
	a.buf = strconv.AppendInt(a.buf, n, 10)
	a.mark(from)
}

// common appends the number that all claims of a call have, or a mark that it has a column.
func (a *arguments) common(one bool, n int64) {
	if one {
		a.number(n)
	} else {
		a.constant("")
	}
}

// body appends the body of a hold, as in lua/shard.lua.
func (a *arguments) body(h *Hold) {
	from := len(a.buf)
	a.buf = append(a.buf, h.ID[len(h.ID)-TailLength:]...)
	a.buf = append(a.buf, '=')
	a.buf = strconv.AppendUint(a.buf, uint64(h.Item), 10)
	a.buf = append(a.buf, ' ')
	a.buf = append(a.buf, h.Buyer...)
	a.mark(from)
}

// head appends the head of a hold, and its hash to the hashes.
func (a *arguments) head(h *Hold) {
	head := Head(h.ID)
	a.text(head)
	a.hashes = binary.BigEndian.AppendUint64(a.hashes, hashName(head))
}

// digest appends the digest of a hold's name.
func (a *arguments) digest(h *Hold) { a.number(int64(NameDigest(h.ID))) }

// digests appends the digests of all names in one argument.
func (a *arguments) digests(holds []Hold) {
	from := len(a.buf)
	for i := range holds {
		a.buf = fmt.Appendf(a.buf, "%012x", uint64(NameDigest(holds[i].ID)))
	}
	a.mark(from)
}

// join puts the hashes, if there are any, into the place that was reserved for them.
func (a *arguments) join(hashesAt int) {
	if len(a.hashes) > 0 {
		from := len(a.buf)
		a.buf = append(a.buf, a.hashes...)
		a.spans = append(a.spans, span{hashesAt, from, len(a.buf)})
		a.hashes = a.hashes[:0]
	}
}

// seal joins the hashes and makes the strings.
func (a *arguments) seal(hashesAt int) {
	a.join(hashesAt)
	all := string(a.buf)
	for _, s := range a.spans {
		a.list[s.at] = all[s.from:s.to]
	}
}

// The places of hashes among the arguments, counted from 0: epoch, seen, channel, shard come first.
const (
	hashesAt     = 4
	loadHashesAt = 5
)

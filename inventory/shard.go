package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/redis/rueidis"
)

// shard names an item's stock in Redis. Today an item has one shard, number 0.
type shard struct {
	item string   // as in messages
	keys []string // in the order of lua/shard.lua
}

// shardNumber is the number of an item's only shard; Grant carries it.
const shardNumber = 0

func newShard(prefix string, item ItemID) *shard {
	name := strconv.FormatUint(uint64(item), 10)
	tag := prefix + ":{" + name + "." + strconv.Itoa(shardNumber) + "}:"
	sh := &shard{item: name}
	for _, key := range [...]string{"meta", "holds", "buyers", "young", "old", "log", "restocks"} {
		sh.keys = append(sh.keys, tag+key)
	}
	return sh
}

// The codes that begin a reply, as in lua/shard.lua.
const (
	codeOK = iota
	codeLost
	codeEpoch
	codeClosed
)

// reply is what a script answered.
type reply struct {
	seq       uint64
	available int64
	known     int64
	rest      []rueidis.RedisMessage
}

// refusedError is a shard's refusal of a whole call, with its epoch.
type refusedError struct {
	err   error
	epoch Epoch
}

func (e *refusedError) Error() string { return fmt.Sprintf("%v (epoch %d)", e.err, e.epoch) }
func (e *refusedError) Unwrap() error { return e.err }

// errReply means that a script answered what it never answers.
var errReply = errors.New("malformed reply")

// parseReply reads a script's reply. extra is how many elements the script adds at least. A reply that makes no sense leaves the
// outcome unknown.
func parseReply(messages []rueidis.RedisMessage, extra int) (reply, error) {
	malformed := func(format string, args ...any) (reply, error) {
		return reply{}, &UnknownError{fmt.Errorf("%w: "+format, append([]any{errReply}, args...)...)}
	}
	ints := make([]int64, min(len(messages), 4))
	for i := range ints {
		n, err := messages[i].ToInt64()
		if err != nil {
			return malformed("element %d: %w", i, err)
		}
		ints[i] = n
	}
	if len(ints) == 2 && ints[0] != codeOK {
		refused := &refusedError{epoch: Epoch(ints[1])}
		switch ints[0] {
		case codeLost:
			refused.err = ErrLost
		case codeEpoch:
			refused.err = ErrEpoch
		case codeClosed:
			refused.err = ErrClosed
		default:
			return malformed("code %d", ints[0])
		}
		return reply{}, refused
	}
	if len(messages) < 4+extra || ints[0] != codeOK || ints[1] < 0 {
		return malformed("%d elements, begins with %v", len(messages), ints)
	}
	return reply{seq: uint64(ints[1]), available: ints[2], known: ints[3], rest: messages[4:]}, nil
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

// parseEntry reads a value of the holds hash, as lua/shard.lua says. The entry keeps no part of value but the buyer.
func parseEntry(id, value string) (Entry, error) {
	bad := func() (Entry, error) { return Entry{}, fmt.Errorf("%w: hold %q is %q", errReply, id, value) }
	if value == "" {
		return bad()
	}
	state, ok := parseState(value[0])
	if !ok || state == None {
		return bad()
	}
	quantity, rest, ok := cutNumber(value[1:])
	if !ok || quantity > maxUnits {
		return bad()
	}
	_, buyer, ok := cutNumber(rest)
	if !ok {
		return bad()
	}
	return Entry{Hold: Hold{ID: id, Buyer: buyer, Quantity: int(quantity)}, State: state}, nil
}

// cutNumber reads a decimal number and the blank behind it.
func cutNumber(s string) (n uint64, rest string, ok bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ' && i > 0:
			return n, s[i+1:], true
		case c < '0' || c > '9' || i > 18:
			return 0, "", false
		default:
			n = 10*n + uint64(c-'0')
		}
	}
	return 0, "", false
}

// arguments collects what a call sends. It goes back into argumentsPool when the call has been built.
type arguments struct {
	list   []string
	hashes []byte
}

type argumentsPool struct{ pool sync.Pool }

func (p *argumentsPool) get() *arguments {
	if a, ok := p.pool.Get().(*arguments); ok {
		return a
	}
	return new(arguments)
}

func (p *argumentsPool) put(a *arguments) {
	clear(a.list)
	a.list, a.hashes = a.list[:0], a.hashes[:0]
	p.pool.Put(a)
}

// add appends strings.
func (a *arguments) add(s ...string) { a.list = append(a.list, s...) }

// number appends a number.
func (a *arguments) number(n int64) { a.list = append(a.list, strconv.FormatInt(n, 10)) }

// common appends what each of n numbers is and reports true, or "" and reports false where they differ.
func (a *arguments) common(n int, number func(i int) int64) bool {
	for i := range n {
		if number(i) != number(0) {
			a.add("")
			return false
		}
	}
	a.number(number(0))
	return true
}

// column appends n numbers.
func (a *arguments) column(n int, number func(i int) int64) {
	for i := range n {
		a.number(number(i))
	}
}

// hash adds id's hash to those that sealHashes joins.
func (a *arguments) hash(id string) { a.hashes = binary.BigEndian.AppendUint64(a.hashes, hashName(id)) }

// sealHashes puts the joined hashes at the place that was kept for them.
func (a *arguments) sealHashes(at int) { a.list[at] = string(a.hashes) }

// The places of arguments, as in lua/shard.lua but counted from 0: epoch, seen, channel, item come first.
const hashesAt = 4

// eval sends a script to a shard and returns its reply. args has the script's own arguments behind the four of every script.
func (s *Stock) eval(ctx context.Context, sc *script, sh *shard, args []string) ([]rueidis.RedisMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err // not sent
	}
	if !sc.forBuyers || s.cfg.Guard == nil {
		return s.send(ctx, sc, sh, args)
	}
	var messages []rueidis.RedisMessage
	err := s.cfg.Guard(ctx, func(ctx context.Context) (err error) {
		messages, err = s.send(ctx, sc, sh, args)
		return err
	})
	return messages, err
}

// send is one round trip, or two where Redis doesn't know the script yet.
func (s *Stock) send(ctx context.Context, sc *script, sh *shard, args []string) ([]rueidis.RedisMessage, error) {
	b := s.client.B()
	keys := int64(len(sh.keys))
	messages, err := s.client.Do(ctx, b.Evalsha().Sha1(sc.sha).Numkeys(keys).Key(sh.keys...).Arg(args...).Build()).ToArray()
	if refused, ok := rueidis.IsRedisErr(err); ok && refused.IsNoScript() {
		messages, err = s.client.Do(ctx, b.Eval().Script(sc.source).Numkeys(keys).Key(sh.keys...).Arg(args...).Build()).ToArray()
	}
	return messages, outcome(err)
}

// outcome tells an error after which nothing can have happened from one after which something may have. An error reply is of the first
// kind: Redis refused the script, or the first of its writes (see lua/shard.lua).
func outcome(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := rueidis.IsRedisErr(err); ok || notSent(err) {
		return fmt.Errorf("redis: %w", err)
	}
	return &UnknownError{fmt.Errorf("redis: %w", err)}
}

// notSent reports whether err came before anything was sent.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, rueidis.ErrNoSlot) || errors.Is(err, rueidis.ErrNoAddr)
}

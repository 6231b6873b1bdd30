package inventory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Hold takes units for many buyers. All calls go to their shards in one write, and each gets its
// own answer: Verdicts and Seq, or Err. The calls should be for shards of one Redis node (see
// Lane). In a Cluster, each node gets its calls in one write.
//
// A repeat with the same name is answered like the first claim and takes nothing. If a call's Err
// wraps *UnknownError, its holds may have been taken; after any other Err, none was taken. A call
// has at most MaxCall claims. The limits in a withdrawal are ignored.
func (s *Stock) Hold(ctx context.Context, calls []*HoldCall) {
	sent := make([]*HoldCall, 0, len(calls))
	for _, c := range calls {
		c.Verdicts, c.Seq, c.Err = c.Verdicts[:0], 0, s.admit(c)
		if c.Err == nil && len(c.Claims) > 0 {
			sent = append(sent, c)
		}
	}
	if len(sent) == 0 {
		return
	}
	made := false
	err := ctx.Err()
	if err == nil {
		err = s.cfg.Guard(ctx, s.Lane(sent[0].Ref.Shard), func(ctx context.Context) error {
			made = true
			return s.round(ctx, sent)
		})
	}
	if !made {
		if err == nil {
			err = errors.New("the guard made no call")
		}
		for _, c := range sent {
			c.Err = err
		}
	}
	for _, c := range sent {
		if c.Err != nil {
			c.Verdicts = c.Verdicts[:0]
			c.Err = fmt.Errorf("hold on shard %d: %w", c.Ref.Shard, c.Err)
		}
	}
}

// admit returns an error if a call is invalid, or if it is certain to be refused.
func (s *Stock) admit(c *HoldCall) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if _, err := s.viewOf(c.Ref); err != nil {
		return fmt.Errorf("hold on shard %d: %w", c.Ref.Shard, err)
	}
	return s.checkRunning()
}

// Validate checks the call: its shard, and each of its claims.
func (c *HoldCall) Validate() error {
	if err := c.Ref.Validate(); err != nil {
		return err
	}
	if len(c.Claims) > MaxCall {
		return fmt.Errorf("%w: %d claims in one call, at most %d", ErrInvalid, len(c.Claims), MaxCall)
	}
	for i := range c.Claims {
		claim := &c.Claims[i]
		if claim.Limit < 0 || claim.MaxOrders < 0 {
			return fmt.Errorf("%w: limit %d, max orders %d", ErrInvalid, claim.Limit, claim.MaxOrders)
		}
		if err := claim.Hold.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// round sends valid calls and sets their answers. It returns the first error that comes from Redis
// or the network.
func (s *Stock) round(ctx context.Context, calls []*HoldCall) error {
	client, err := s.conn()
	if err != nil {
		for _, c := range calls {
			c.Err = err
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	s.rounds.Add(1)
	at := s.now()
	s.calls.Add(uint64(len(calls)))
	for _, c := range calls {
		s.claims.Add(uint64(len(c.Claims)))
	}
	var failed error
	for _, run := range s.send(ctx, client, s.runs(client, calls)) {
		if err := s.land(run, at); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// run is one run of hold.lua, for calls of one server.
type run struct {
	calls  []*HoldCall
	result rueidis.RedisResult
}

// maxRunClaims bounds the claims of a run of several shards, so that it keeps Redis busy for a few
// milliseconds only.
const maxRunClaims = MaxCall

// runs divides a round into runs. In a Cluster all keys of a script must be in one slot, so each
// call is a run. On other servers that is done only after a run of several calls has found damaged
// keys.
func (s *Stock) runs(client rueidis.Client, calls []*HoldCall) []run {
	if s.apart.Load() || client.Mode() == rueidis.ClientModeCluster {
		return single(calls)
	}
	runs := make([]run, 0, 1)
	from, claims := 0, 0
	for i, c := range calls {
		if claims += len(c.Claims); i > from && claims > maxRunClaims {
			runs = append(runs, run{calls: calls[from:i]})
			from, claims = i, len(c.Claims)
		}
	}
	return append(runs, run{calls: calls[from:]})
}

// single makes each call a run of its own.
func single(calls []*HoldCall) []run {
	runs := make([]run, len(calls))
	for i := range calls {
		runs[i].calls = calls[i : i+1]
	}
	return runs
}

// send sends runs in one write and returns them with their results. Some runs are sent a second
// time: with the script if the server didn't know it, and call by call if the server accepts no
// script with keys of several shards.
func (s *Stock) send(ctx context.Context, client rueidis.Client, runs []run) []run {
	s.do(ctx, client, runs, false)
	var done, whole, parts []run
	for _, r := range runs {
		switch err := r.result.Error(); {
		case isNoScript(err):
			whole = append(whole, r)
		case len(r.calls) > 1 && isCrossSlot(err):
			s.apart.Store(true)
			parts = append(parts, single(r.calls)...)
		default:
			done = append(done, r)
		}
	}
	if len(done) == len(runs) {
		return runs
	}
	s.do(ctx, client, whole, true)
	done = append(done, whole...)
	if len(parts) > 0 {
		done = append(done, s.send(ctx, client, parts)...)
	}
	return done
}

// do sends runs in one write and sets their results.
func (s *Stock) do(ctx context.Context, client rueidis.Client, runs []run, whole bool) {
	if len(runs) == 0 {
		return
	}
	commands := make([]rueidis.Completed, len(runs))
	for i := range runs {
		commands[i] = s.holdCommand(client, runs[i].calls, whole)
	}
	for i, result := range client.DoMulti(ctx, commands...) {
		runs[i].result = result
	}
}

// isCrossSlot reports whether a server refused a script because its keys are in several slots.
func isCrossSlot(err error) bool {
	refused, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(refused.Error(), "CROSSSLOT")
}

// land answers the calls of a run, and returns an error that comes from Redis or the network.
func (s *Stock) land(r run, at time.Duration) error {
	replies, err := r.result.ToArray()
	if len(r.calls) > 1 && ReplyOf(err) == ReplyUnknown {
		// A command failed because the keys of a shard are damaged. The shards before it may have
		// given their holds. From now on each call is a run of its own.
		s.apart.Store(true)
		s.cfg.Logger.Error("a shard's keys in Redis are damaged", "err", err)
	}
	err = s.outcome(err)
	if err == nil && len(replies) != len(r.calls) {
		err = &UnknownError{fmt.Errorf("%w: %d replies to %d calls", errReply, len(replies), len(r.calls))}
	}
	for i, c := range r.calls {
		if err != nil {
			s.answer(c, nil, err, at)
			continue
		}
		messages, malformed := replies[i].ToArray()
		if malformed != nil {
			malformed = &UnknownError{fmt.Errorf("%w: %w", errReply, malformed)}
		}
		s.answer(c, messages, malformed, at)
	}
	return err
}

// answer sets the answer of a call.
func (s *Stock) answer(c *HoldCall, messages []rueidis.RedisMessage, err error, at time.Duration) {
	r, err := s.took(c.Ref, messages, err, 1, at)
	if err != nil {
		c.Err = err
		return
	}
	letters, err := r.text(0)
	if err != nil || len(letters) != len(c.Claims) {
		c.Err = &UnknownError{fmt.Errorf("%w: %d verdicts on %d claims", errReply, len(letters), len(c.Claims))}
		return
	}
	soldOut := false
	for i := range len(letters) {
		verdict := Verdict(letters[i] - 'A' + 1)
		if verdict < Held || verdict > Unopened {
			c.Err = &UnknownError{fmt.Errorf("%w: verdict %q", errReply, letters[i])}
			return
		}
		soldOut = soldOut || verdict == SoldOut
		c.Verdicts = append(c.Verdicts, verdict)
	}
	c.Seq = r.seq
	if v := s.watched(c.Ref); soldOut && v != nil {
		v.sync() // so that the next purchases can be refused from memory
	}
}

// holdCommand builds a run of hold.lua for calls.
func (s *Stock) holdCommand(client rueidis.Client, calls []*HoldCall, whole bool) rueidis.Completed {
	a := s.args.get()
	defer s.args.put(a)
	keys := s.keys[calls[0].Ref.Shard].keys[:holdKeys]
	if len(calls) > 1 {
		keys = make([]string, 0, holdKeys*len(calls))
		for _, c := range calls {
			keys = append(keys, s.keys[c.Ref.Shard].keys[:holdKeys]...)
		}
	}
	for _, c := range calls {
		s.head(a, c.Ref, s.seenOf(c.Ref))
		addClaims(a, c.Claims)
	}
	a.seal(0)
	return scriptCommand(client, &s.scripts.hold, keys, a.list, whole)
}

// addClaims adds the arguments of hold.lua for the claims, of which there is at least one. Values
// that all claims of a call share are sent once, because each argument costs Redis as much as a
// step of the script.
func addClaims(a *arguments, claims []Claim) {
	first := &claims[0]
	oneItem, oneQuantity, oneLimit, oneOrders := true, true, true, true
	limit, orders := first.limits()
	for i := range claims {
		c := &claims[i]
		l, o := c.limits()
		oneItem = oneItem && c.Item == first.Item
		oneQuantity = oneQuantity && c.Quantity == first.Quantity
		oneLimit = oneLimit && l == limit
		oneOrders = oneOrders && o == orders
	}
	items := claims
	if oneItem {
		items = claims[:1]
	}
	a.number(int64(len(claims)))
	a.number(int64(len(items)))
	hashesAt := len(a.list)
	a.constant("")
	a.common(oneQuantity, int64(first.Quantity))
	a.common(oneLimit, int64(limit))
	a.common(oneOrders, int64(orders))
	for i := range items {
		a.number(int64(items[i].Item))
	}
	for i := range claims {
		a.head(&claims[i].Hold)
	}
	for i := range claims {
		a.body(&claims[i].Hold)
	}
	column := func(one bool, number func(c *Claim) int) {
		for i := 0; i < len(claims) && !one; i++ {
			a.number(int64(number(&claims[i])))
		}
	}
	column(oneQuantity, func(c *Claim) int { return c.Quantity })
	column(oneLimit, func(c *Claim) int { l, _ := c.limits(); return l })
	column(oneOrders, func(c *Claim) int { _, o := c.limits(); return o })
	a.join(hashesAt)
}

// limits returns the buyer's limits; a withdrawal has none.
func (c *Claim) limits() (units, orders int) {
	if c.Buyer == "" {
		return 0, 0
	}
	return c.Limit, c.MaxOrders
}

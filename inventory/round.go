package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// Hold takes units for many buyers, or says why not. All calls go to their shards in one write, and
// each gets its own answer: Verdicts and Seq, or Err. Calls of one Redis node belong together (see
// Lane); where a Cluster's calls are of several, each node gets its own in one write.
//
// A repeat with the same name is answered like the first claim and takes nothing. Of a call whose
// Err wraps *UnknownError the holds may have been taken; after any other Err none was. A call has
// at most MaxCall claims. A withdrawal's limits don't count.
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

// admit reports why a call makes no sense, or is known to be refused.
func (s *Stock) admit(c *HoldCall) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if _, err := s.viewOf(c.Ref); err != nil {
		return fmt.Errorf("hold on shard %d: %w", c.Ref.Shard, err)
	}
	return s.checkRunning()
}

// Validate reports whether the call makes sense: its shard, and each of its claims.
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

// round sends valid calls and sets their answers. It returns what the first of them met that is
// Redis's or the network's fault.
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
	commands := make([]rueidis.Completed, len(calls))
	for i, c := range calls {
		s.calls.Add(1)
		s.claims.Add(uint64(len(c.Claims)))
		commands[i] = s.holdCommand(client, c, false)
	}
	results := client.DoMulti(ctx, commands...)
	s.again(ctx, client, calls, results)
	var failed error
	for i, c := range calls {
		messages, err := results[i].ToArray()
		if err = s.outcome(err); err != nil && failed == nil {
			failed = err
		}
		s.answer(c, messages, err, at)
	}
	return failed
}

// again sends the calls whose script a server didn't know with the script, and puts their results
// in place.
func (s *Stock) again(ctx context.Context, client rueidis.Client, calls []*HoldCall, results []rueidis.RedisResult) {
	var commands []rueidis.Completed
	var places []int
	for i := range results {
		if isNoScript(results[i].Error()) {
			commands = append(commands, s.holdCommand(client, calls[i], true))
			places = append(places, i)
		}
	}
	if len(commands) == 0 {
		return
	}
	for i, result := range client.DoMulti(ctx, commands...) {
		results[places[i]] = result
	}
}

// answer sets what a call is answered.
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
		v.sync() // the next ones can be refused from memory
	}
}

// holdCommand builds a call of hold.lua.
func (s *Stock) holdCommand(client rueidis.Client, c *HoldCall, whole bool) rueidis.Completed {
	a := s.args.get()
	defer s.args.put(a)
	s.head(a, c.Ref, s.seenOf(c.Ref))
	addClaims(a, c.Claims)
	return s.command(client, &s.scripts.hold, c.Ref.Shard, a.list, whole)
}

// addClaims adds the arguments of hold.lua for claims, of which there are some. What all claims of
// a call have in common is sent once, since each argument costs Redis as much as a step of the
// script.
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
	common := func(one bool, n int64) {
		if one {
			a.number(n)
		} else {
			a.constant("")
		}
	}
	a.number(int64(len(claims)))
	a.constant("") // for the hashes
	common(oneItem, int64(first.Item))
	common(oneQuantity, int64(first.Quantity))
	common(oneLimit, int64(limit))
	common(oneOrders, int64(orders))
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
	column(oneItem, func(c *Claim) int { return int(c.Item) })
	column(oneQuantity, func(c *Claim) int { return c.Quantity })
	column(oneLimit, func(c *Claim) int { l, _ := c.limits(); return l })
	column(oneOrders, func(c *Claim) int { _, o := c.limits(); return o })
	a.seal(holdHashesAt)
}

// limits returns what counts for the buyer: nothing for a withdrawal.
func (c *Claim) limits() (units, orders int) {
	if c.Buyer == "" {
		return 0, 0
	}
	return c.Limit, c.MaxOrders
}

package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/rueidis"
)

// Confirm marks holds whose orders exist. A hold that the shard forgot is put back. It takes its
// units even if none are available, because the order is a fact. Holds of an item that the shard
// doesn't know are skipped. holds may have any length; they are sent in parts of Cap.
func (s *Stock) Confirm(ctx context.Context, ref Ref, holds []Hold) error {
	for i := range holds {
		if err := holds[i].Validate(); err != nil {
			return err
		}
	}
	return s.chunks(ctx, "confirm", ref, len(holds), func(from, to int) error {
		_, err := s.ask(ctx, &s.scripts.confirm, ref, 0, func(a *arguments) {
			a.confirm(holds[from:to])
			a.seal(hashesAt)
		})
		return err
	})
}

// confirm appends the arguments of lua/confirm.lua.
func (a *arguments) confirm(holds []Hold) {
	first, oneItem, oneQuantity := &holds[0], true, true
	var sum Digest
	for i := range holds {
		h := &holds[i]
		oneItem, oneQuantity = oneItem && h.Item == first.Item, oneQuantity && h.Quantity == first.Quantity
		if h.Buyer != "" {
			sum = sum.Add(NameDigest(h.ID))
		}
	}
	a.constant("") // reserved for the hashes
	a.number(int64(len(holds)))
	a.number(int64(sum))
	a.common(oneItem, int64(first.Item))
	a.common(oneQuantity, int64(first.Quantity))
	a.digests(holds)
	a.runs(holds)
	for i := range holds {
		a.head(&holds[i])
	}
	for i := range holds {
		a.body(&holds[i])
	}
	for i := range holds {
		if !oneItem {
			a.number(int64(holds[i].Item))
		}
	}
	for i := range holds {
		if !oneQuantity {
			a.number(int64(holds[i].Quantity))
		}
	}
}

// runs appends the lengths and seqs of runs of holds that were taken together.
func (a *arguments) runs(holds []Hold) {
	from := len(a.buf)
	for first := 0; first < len(holds); {
		h, next := &holds[first], first+1
		for next < len(holds) && holds[next].Seq == h.Seq && holds[next].Quantity == h.Quantity {
			next++
		}
		a.buf = append(strconv.AppendInt(a.buf, int64(next-first), 10), ' ')
		a.buf = append(strconv.AppendUint(a.buf, h.Seq, 10), ' ')
		first = next
	}
	a.mark(from)
}

// Settle ends holds. A hold that the shard forgot leaves a marker. If it is void, it gives nothing
// back; if it is sold, its units are taken, because they are sold. Holds of an item that the shard
// doesn't know are skipped. ends may have any length; they are sent in parts of Cap.
func (s *Stock) Settle(ctx context.Context, ref Ref, ends []Settlement) error {
	for i := range ends {
		if err := ends[i].Validate(); err != nil {
			return err
		}
	}
	return s.chunks(ctx, "settle", ref, len(ends), func(from, to int) error {
		_, err := s.ask(ctx, &s.scripts.settle, ref, 0, func(a *arguments) {
			a.constant("") // reserved for the hashes
			for i := range ends[from:to] {
				e := &ends[from+i]
				kind := "V"
				if e.Kind == SettleSold {
					kind = "S"
				}
				a.head(&e.Hold)
				a.body(&e.Hold)
				a.number(int64(e.Item))
				a.number(int64(e.Quantity))
				a.digest(&e.Hold)
				a.constant(kind)
			}
			a.seal(hashesAt)
		})
		return err
	})
}

// Restock adds units, once per item, ID and epoch. It returns for each restock whether it is
// applied, now or before. A restock of an item that the shard doesn't know is not applied, unless
// it is Publish. restocks may have any length; they are sent in parts of Cap.
func (s *Stock) Restock(ctx context.Context, ref Ref, restocks []Restock) ([]bool, error) {
	for i := range restocks {
		if err := restocks[i].Validate(); err != nil {
			return nil, err
		}
	}
	applied := make([]bool, 0, len(restocks))
	err := s.chunks(ctx, "restock", ref, len(restocks), func(from, to int) error {
		r, err := s.ask(ctx, &s.scripts.restock, ref, 1, func(a *arguments) {
			for _, r := range restocks[from:to] {
				kind := "R"
				if r.Publish {
					kind = "P"
				}
				a.number(int64(r.Item))
				a.text(r.ID)
				a.number(r.Units)
				a.constant(kind)
			}
			a.seal(0)
		})
		if err != nil {
			return err
		}
		digits, err := r.text(0)
		if err != nil || len(digits) != to-from {
			return &UnknownError{fmt.Errorf("%w: %d answers to %d restocks", errReply, len(digits), to-from)}
		}
		for i := range len(digits) {
			applied = append(applied, digits[i] == '1')
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return applied, nil
}

// AllNumbers reads several shards in one write, whatever their epochs. Each shard is read at one
// moment, but not all at the same. That costs a tenth of calling ItemNumbers for each shard. A
// shard that Redis doesn't know has Epoch 0. errs has an error for each shard that could not be
// read.
func (s *Stock) AllNumbers(ctx context.Context, shards []ShardID) (all []Numbers, errs []error) {
	all, errs = make([]Numbers, len(shards)), make([]error, len(shards))
	fail := func(err error) ([]Numbers, []error) {
		for i, shard := range shards {
			errs[i] = fmt.Errorf("read shard %d: %w", shard, readOnly(err))
		}
		return all, errs
	}
	if slices.ContainsFunc(shards, func(shard ShardID) bool { return shard >= MaxShards }) {
		return fail(fmt.Errorf("%w: a shard must be below %d", ErrInvalid, MaxShards))
	}
	if err := s.checkRunning(); err != nil {
		return fail(err)
	}
	client, err := s.conn()
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	commands := make([]rueidis.Completed, len(shards))
	for i, shard := range shards {
		commands[i] = client.B().Hmget().Key(s.keys[shard].keys[0]).Field(numberFields...).Build()
	}
	for i, result := range client.DoMulti(ctx, commands...) {
		if all[i], err = parseNumbers(result.ToArray()); err != nil {
			errs[i] = fmt.Errorf("read shard %d: %w", shards[i], readOnly(s.outcome(err)))
		}
	}
	return all, errs
}

// numberFields are the names of a shard's numbers in shard.lua, in the order of parseNumbers.
var numberFields = []string{"epoch", "closed", "seq", "fresh", "names", "items", "ordered", "sold"}

// parseNumbers reads a shard's numbers. A number that is missing is zero.
func parseNumbers(values []rueidis.RedisMessage, err error) (Numbers, error) {
	if err != nil {
		return Numbers{}, err
	}
	numbers := make([]int64, len(numberFields))
	for i := range numbers {
		if i >= len(values) {
			return Numbers{}, fmt.Errorf("%w: %d of %d numbers", errReply, len(values), len(numbers))
		}
		if values[i].IsNil() {
			continue
		}
		if numbers[i], err = values[i].AsInt64(); err != nil {
			return Numbers{}, fmt.Errorf("%w: %s: %w", errReply, numberFields[i], err)
		}
	}
	return Numbers{
		Epoch: Epoch(numbers[0]), Closed: numbers[1] == 1, Seq: uint64(numbers[2]), Fresh: numbers[3], Names: numbers[4],
		Items: numbers[5], Ordered: Digest(numbers[6]), Sold: Digest(numbers[7]),
	}, nil
}

// ItemNumbers reads items of the shard at one moment with its levels, whatever its epoch. At most
// MaxCall items can be read at one moment.
func (s *Stock) ItemNumbers(ctx context.Context, shard ShardID, items []ItemID) (Numbers, []ItemNumbers, error) {
	if shard >= MaxShards || len(items) > MaxCall {
		return Numbers{}, nil, fmt.Errorf("%w: %d items of shard %d", ErrInvalid, len(items), shard)
	}
	if err := s.checkRunning(); err != nil {
		return Numbers{}, nil, err
	}
	state, rest, err := s.levels(ctx, shard, 0, 0, items)
	if err != nil {
		return Numbers{}, nil, err
	}
	if len(rest) != 2*len(items) {
		return Numbers{}, nil, fmt.Errorf("%w: %d values of %d items", errReply, len(rest), len(items))
	}
	found := make([]ItemNumbers, len(items))
	for i, item := range items {
		if found[i], err = parseItem(item, rest[2*i], rest[2*i+1]); err != nil {
			return Numbers{}, nil, err
		}
	}
	return state.Numbers, found, nil
}

// parseItem reads an item from the reply of levels.lua.
func parseItem(item ItemID, units, totals string) (ItemNumbers, error) {
	if units == "" {
		return ItemNumbers{Item: item}, nil
	}
	available, err := strconv.ParseInt(units, 10, 64)
	total, sold, err2 := parseTotals(totals)
	if err := errors.Join(err, err2); err != nil {
		return ItemNumbers{}, fmt.Errorf("item %d: %w", item, err)
	}
	return ItemNumbers{Item: item, Known: true, Available: available, Held: total - available - sold, Sold: sold}, nil
}

// state is a shard in the reply of levels.lua.
type state struct {
	Numbers
	log int64 // number of elements in the log
}

// levels is one call of levels.lua. It reads the shard's numbers, and some items or at most count
// elements of its log from position from.
func (s *Stock) levels(ctx context.Context, shard ShardID, from, count int64, items []ItemID) (state, []string, error) {
	fail := func(err error) (state, []string, error) {
		return state{}, nil, fmt.Errorf("read shard %d: %w", shard, readOnly(err))
	}
	a := s.args.get()
	s.head(a, Ref{shard, 0}, 0)
	a.number(from)
	a.number(count)
	for _, item := range items {
		a.number(int64(item))
	}
	a.seal(0)
	messages, err := s.eval(ctx, &s.scripts.levels, shard, a.list)
	s.args.put(a)
	if err != nil {
		return fail(err)
	}
	const more = 7
	r, err := parseReply(messages, more)
	if err != nil {
		return fail(err)
	}
	var numbers [more]int64
	for i := range numbers {
		if numbers[i], err = r.rest[i].AsInt64(); err != nil {
			return fail(fmt.Errorf("%w: %w", errReply, err))
		}
	}
	rest := make([]string, len(r.rest)-more)
	for i := range rest {
		if rest[i], err = r.text(more + i); err != nil {
			return fail(err)
		}
	}
	return state{Numbers{
		Epoch: Epoch(numbers[0]), Closed: numbers[1] == 1, Seq: r.seq, Fresh: numbers[2], Names: numbers[3], Items: numbers[4],
		Ordered: Digest(numbers[5]), Sold: Digest(numbers[6]),
	}, r.log}, rest, nil
}

// Note begins a sweep: it returns the shard's seq. Fresh holds touched at or below it are old once
// the sweep's age has passed.
func (s *Stock) Note(ctx context.Context, ref Ref) (uint64, error) {
	var seq uint64
	err := s.chunks(ctx, "note", ref, 1, func(int, int) error {
		r, err := s.ask(ctx, &s.scripts.note, ref, 0, func(a *arguments) { a.seal(0) })
		seq = r.seq
		return err
	})
	return seq, err
}

// Old returns fresh or doomed holds last touched at or below note: about limit of them, and perhaps
// none. The holds that it looked at move to the end, so that holds that can't be decided don't hide
// others. more is false when it has looked at all holds that were there when the pass began. A
// caller begins a pass with cursor 0, and then passes the returned next. A hold may come twice in a
// pass.
func (s *Stock) Old(ctx context.Context, ref Ref, note uint64, cursor int64, limit int) (old []Entry, next int64, more bool, err error) {
	if cursor < 0 || limit < 1 {
		return nil, 0, false, fmt.Errorf("%w: old holds from %d, %d of them", ErrInvalid, cursor, limit)
	}
	err = s.chunks(ctx, "list old holds", ref, 1, func(int, int) error {
		r, err := s.ask(ctx, &s.scripts.old, ref, 1, func(a *arguments) {
			a.number(int64(note))
			a.number(cursor)
			a.number(int64(limit))
			a.seal(0)
		})
		if err != nil {
			return err
		}
		if next, err = r.rest[0].AsInt64(); err != nil || len(r.rest)%2 != 1 {
			return &UnknownError{fmt.Errorf("%w: %d elements", errReply, len(r.rest))}
		}
		old, err = parseOld(&r, note)
		return err
	})
	if err != nil {
		return nil, 0, false, err
	}
	return old, next, next > 0, nil
}

// parseOld reads the heads and values of a reply of old.lua.
func parseOld(r *reply, note uint64) ([]Entry, error) {
	var old []Entry
	var holds []touched
	for i := 1; i < len(r.rest); i += 2 {
		head, err := r.text(i)
		if err != nil {
			return nil, &UnknownError{err}
		}
		value, err := r.text(i + 1)
		if err != nil {
			return nil, &UnknownError{err}
		}
		if holds, err = parseValue(holds[:0], head, value); err != nil {
			return nil, &UnknownError{err}
		}
		for _, h := range holds {
			if (h.State == Fresh || h.State == Doomed) && h.touch <= note {
				old = append(old, h.Entry)
			}
		}
	}
	return old, nil
}

// Doom dooms those of the holds that are fresh and not touched since note, and returns the state of
// each afterwards. It returns when every connected replica has received that. holds may have any
// length; they are sent in parts of Cap.
func (s *Stock) Doom(ctx context.Context, ref Ref, note uint64, holds []Hold) ([]State, error) {
	for i := range holds {
		if err := holds[i].Validate(); err != nil {
			return nil, err
		}
	}
	states := make([]State, 0, len(holds))
	err := s.chunks(ctx, "doom", ref, len(holds), func(from, to int) error {
		r, err := s.replicated(ctx, &s.scripts.doom, ref, s.seenOf(ref), 1, func(a *arguments) {
			a.number(int64(note))
			for _, h := range holds[from:to] {
				a.text(Head(h.ID))
				a.text(h.ID[len(h.ID)-TailLength:])
			}
			a.seal(0)
		})
		if err != nil {
			return err
		}
		letters, err := r.text(0)
		if err != nil || len(letters) != to-from {
			return &UnknownError{fmt.Errorf("%w: %d states of %d holds", errReply, len(letters), to-from)}
		}
		for i := range len(letters) {
			state, ok := parseState(letters[i])
			if !ok {
				return &UnknownError{fmt.Errorf("%w: state %q", errReply, letters[i])}
			}
			states = append(states, state)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// chunks runs call for parts of n things, Cap at a time, until one part fails. If it is not the
// first part, the earlier ones have taken effect, so the error means that the outcome is unknown.
func (s *Stock) chunks(ctx context.Context, what string, ref Ref, n int, call func(from, to int) error) error {
	if err := errors.Join(ref.Validate(), s.checkRunning()); err != nil {
		return err
	}
	for from := 0; from < n; from += s.cfg.Cap {
		err := ctx.Err()
		if err == nil {
			err = call(from, min(from+s.cfg.Cap, n))
		}
		if err == nil {
			continue
		}
		var unknown *UnknownError
		if from > 0 && !errors.As(err, &unknown) {
			err = &UnknownError{fmt.Errorf("after %d of %d: %w", from, n, err)}
		}
		return fmt.Errorf("%s, shard %d: %w", what, ref.Shard, err)
	}
	return nil
}

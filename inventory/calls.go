package inventory

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Confirm marks holds whose orders exist; one that the shard forgot is put back, and takes its units even where none is
// available: the order is a fact. holds of any number are sent Cap at a time.
func (s *Stock) Confirm(ctx context.Context, ref Ref, holds []Hold) error {
	for i := range holds {
		if err := holds[i].Validate(); err != nil {
			return err
		}
	}
	return s.chunks(ctx, "confirm", ref, len(holds), func(from, to int) error {
		_, err := s.ask(ctx, &s.scripts.confirm, ref, 0, func(a *arguments) {
			a.add("")
			for i := range holds[from:to] {
				h := &holds[from+i]
				a.add(h.ID, h.Buyer)
				a.number(int64(h.Quantity))
				a.hash(h.ID)
			}
			a.sealHashes(hashesAt)
		})
		return err
	})
}

// Settle ends holds. ends of any number are sent Cap at a time.
func (s *Stock) Settle(ctx context.Context, ref Ref, ends []Settlement) error {
	for i := range ends {
		if err := ends[i].Validate(); err != nil {
			return err
		}
	}
	return s.chunks(ctx, "settle", ref, len(ends), func(from, to int) error {
		_, err := s.ask(ctx, &s.scripts.settle, ref, 0, func(a *arguments) {
			a.add("")
			for i := range ends[from:to] {
				e := &ends[from+i]
				kind := "V"
				if e.Kind == SettleSold {
					kind = "S"
				}
				a.add(e.ID, e.Buyer)
				a.number(int64(e.Quantity))
				a.add(kind)
				a.hash(e.ID)
			}
			a.sealHashes(hashesAt)
		})
		return err
	})
}

// Restock adds units to what is available, once per id and epoch.
func (s *Stock) Restock(ctx context.Context, ref Ref, id string, units int) error {
	if err := ValidateRestock(id, units); err != nil {
		return err
	}
	return s.chunks(ctx, "restock", ref, 1, func(int, int) error {
		_, err := s.ask(ctx, &s.scripts.restock, ref, 0, func(a *arguments) {
			a.add(id)
			a.number(int64(units))
		})
		return err
	})
}

// Levels reads the item's shard whatever its epoch; a shard that knows nothing has Epoch 0.
func (s *Stock) Levels(ctx context.Context, item ItemID) (Levels, error) {
	if item == 0 {
		return Levels{}, fmt.Errorf("%w: item 0", ErrInvalid)
	}
	if err := s.checkRunning(); err != nil {
		return Levels{}, err
	}
	levels, _, err := s.levels(ctx, newShard(s.cfg.Prefix, item), 0, 0)
	return levels, err
}

// levels is one call of levels.lua: the shard's numbers, and at most count entries of its log from position from.
func (s *Stock) levels(ctx context.Context, sh *shard, from, count int64) (Levels, string, error) {
	fail := func(err error) (Levels, string, error) {
		return Levels{}, "", fmt.Errorf("read item %s: %w", sh.item, readOnly(err))
	}
	a := s.args.get()
	a.add("0", "0", s.channel, sh.item)
	a.number(from)
	a.number(count)
	messages, err := s.eval(ctx, &s.scripts.levels, sh, a.list)
	s.args.put(a)
	if err != nil {
		return fail(err)
	}
	r, err := parseReply(messages, 5)
	if err != nil {
		return fail(err)
	}
	var numbers [5]int64
	for i := range numbers {
		if numbers[i], err = r.rest[i].ToInt64(); err != nil {
			return fail(fmt.Errorf("%w: %w", errReply, err))
		}
	}
	var log strings.Builder
	for i := range r.rest[len(numbers):] {
		piece, err := r.rest[len(numbers)+i].ToString()
		if err != nil {
			return fail(fmt.Errorf("%w: %w", errReply, err))
		}
		log.WriteString(piece)
	}
	return Levels{
		Epoch: Epoch(numbers[0]), Closed: numbers[1] == 1, Seq: r.seq,
		Available: r.available, Held: numbers[2], Sold: numbers[3], Fresh: numbers[4], Known: r.known,
	}, log.String(), nil
}

// Note begins a sweep: it returns the shard's seq. Fresh holds touched at or below it are old once the sweep's age has passed.
func (s *Stock) Note(ctx context.Context, ref Ref) (uint64, error) {
	var seq uint64
	err := s.chunks(ctx, "note", ref, 1, func(int, int) error {
		r, err := s.ask(ctx, &s.scripts.note, ref, 0, func(*arguments) {})
		seq = r.seq
		return err
	})
	return seq, err
}

// scanCount is about how many holds one call of old.lua looks at.
const scanCount = 1000

// Old returns up to limit fresh or doomed holds last touched at or below note, in no order and none twice. It looks through the shard's
// index sets, scanCount holds a call, until it has found enough or seen all.
func (s *Stock) Old(ctx context.Context, ref Ref, note uint64, limit int) ([]Entry, error) {
	scan := oldScan{limit: limit, met: make(map[string]bool)}
	err := s.chunks(ctx, "list old holds", ref, min(1, max(limit, 0)), func(int, int) error {
		young, err := s.scanOld(ctx, ref, note, "old", &scan)
		if err == nil && young {
			_, err = s.scanOld(ctx, ref, note, "young", &scan)
		}
		return readOnly(err)
	})
	if err != nil {
		return nil, err
	}
	return scan.found, nil
}

// oldScan is what a scan has found. Redis may show a member twice.
type oldScan struct {
	limit int
	met   map[string]bool
	found []Entry
}

// scanOld looks through one index set. It reports whether young may have old holds too.
func (s *Stock) scanOld(ctx context.Context, ref Ref, note uint64, set string, scan *oldScan) (young bool, err error) {
	for cursor := "0"; len(scan.found) < scan.limit; {
		r, err := s.ask(ctx, &s.scripts.old, ref, 2, func(a *arguments) {
			a.number(int64(note))
			a.add(set, cursor)
			a.number(scanCount)
		})
		if err != nil {
			return false, err
		}
		since, err := r.rest[0].ToInt64()
		if err != nil {
			return false, fmt.Errorf("%w: %w", errReply, err)
		}
		young = uint64(since) < note
		if cursor, err = r.rest[1].ToString(); err != nil {
			return false, fmt.Errorf("%w: %w", errReply, err)
		}
		for i := 2; i+1 < len(r.rest) && len(scan.found) < scan.limit; i += 2 {
			id, err1 := r.rest[i].ToString()
			value, err2 := r.rest[i+1].ToString()
			entry, err3 := parseEntry(id, value)
			if err := errors.Join(err1, err2, err3); err != nil {
				return false, err
			}
			if !scan.met[id] && (entry.State == Fresh || entry.State == Doomed) {
				scan.met[id] = true
				scan.found = append(scan.found, entry)
			}
		}
		if cursor == "0" {
			return young, nil
		}
	}
	return false, nil
}

// Doom dooms those of the holds that are fresh and not touched since note, and returns the state of each afterwards. ids of any
// number are sent Cap at a time.
func (s *Stock) Doom(ctx context.Context, ref Ref, note uint64, ids []string) ([]State, error) {
	for _, id := range ids {
		if err := validateName(id); err != nil {
			return nil, err
		}
	}
	states := make([]State, 0, len(ids))
	err := s.chunks(ctx, "doom", ref, len(ids), func(from, to int) error {
		r, err := s.ask(ctx, &s.scripts.doom, ref, 1, func(a *arguments) {
			a.number(int64(note))
			a.add(ids[from:to]...)
		})
		if err != nil {
			return err
		}
		letters, err := r.rest[0].ToString()
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

// chunks calls call for n things, Cap at a time, until one fails. When a later chunk fails the earlier ones have taken effect, so the error
// is of unknown outcome.
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
		return fmt.Errorf("%s, item %d: %w", what, ref.Item, err)
	}
	return nil
}

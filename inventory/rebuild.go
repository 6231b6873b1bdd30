package inventory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// Close begins a rebuild: it empties the shard and marks it {ref.Epoch, closed}. ErrEpoch: the
// shard has a later epoch, or this epoch is open or has loaded data. So a late repeat of a close
// can't delete what its own rebuild has written.
//
// ErrForeign: another installation has the shard (Config.Owner); OnForeign is called, too.
//
// It returns when every connected replica has the mark. After an error the close may have taken
// effect. The replicas matter: if a failover forgot a close, the older epoch would go on selling
// after the rebuild has counted the units.
func (s *Stock) Close(ctx context.Context, ref Ref) error {
	return s.chunks(ctx, "close", ref, 1, func(int, int) error {
		owner, err := s.owner(ctx)
		if err != nil {
			return fmt.Errorf("look whose stock this is: %w", err)
		}
		_, err = s.replicated(ctx, &s.scripts.close, ref, 0, 0, func(a *arguments) {
			a.text(owner)
			a.seal(0)
		})
		if errors.Is(err, ErrForeign) {
			s.emit(event{kind: eventForeign, err: err}) // if there is no room for the event, the next close sends it
		}
		return err
	})
}

// checkOwner returns ErrForeign if the Redis has the stock of another installation. It looks only
// at the first shard, and returns nil if it can't tell, because Close checks its own shard again.
func (s *Stock) checkOwner(ctx context.Context, client rueidis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	owner, err := s.owner(ctx)
	if err != nil || owner == "" {
		return nil //nolint:nilerr // the owner can't be read now
	}
	has, err := client.Do(ctx, client.B().Hget().Key(s.keys[0].keys[0]).Field(ownerField).Build()).ToString()
	if err != nil || has == owner {
		return nil //nolint:nilerr // the shard has no owner, or the server doesn't answer
	}
	return fmt.Errorf("%w: its owner is %q, this one is %q: name the Redis that belongs to the database, or empty this one if "+
		"nobody needs it", ErrForeign, has, owner)
}

// ownerField is the field in which close.lua keeps the owner.
const ownerField = "owner"

// owner is the name of Config.Owner, "" if owners are not checked.
func (s *Stock) owner(ctx context.Context) (string, error) {
	if s.cfg.Owner == nil {
		return "", nil
	}
	return s.cfg.Owner(ctx)
}

// Load writes items and holds into the shard that ref's own Close left; ErrEpoch: the shard isn't
// in that state any more. Items and names that are loaded already are not changed, so a Load may be
// repeated, and several may run at once. items and entries may have any length; they are sent in
// parts of Cap.
func (s *Stock) Load(ctx context.Context, ref Ref, items []Stocked, entries []Entry) error {
	for i := range items {
		if items[i].Item == 0 {
			return fmt.Errorf("%w: load %+v", ErrInvalid, items[i])
		}
	}
	for i := range entries {
		if err := ValidateLoad(entries[i]); err != nil {
			return err
		}
	}
	// The first chunks are of items, the others of entries.
	return s.chunks(ctx, "load", ref, len(items)+len(entries), func(from, to int) error {
		return s.load(ctx, ref, between(items, from, to), between(entries, from-len(items), to-len(items)))
	})
}

// between returns s[from:to], cut to the length of s.
func between[T any](s []T, from, to int) []T {
	from, to = min(max(from, 0), len(s)), min(max(to, 0), len(s))
	return s[from:to]
}

// load is one call of load.lua.
func (s *Stock) load(ctx context.Context, ref Ref, items []Stocked, entries []Entry) error {
	a := s.args.get()
	s.head(a, ref, 0)
	a.number(int64(len(items)))
	a.constant("") // reserved for the hashes
	for _, item := range items {
		a.number(int64(item.Item))
		a.number(item.Available)
		a.number(item.Total)
		a.number(item.Sold)
	}
	for i := range entries {
		e := &entries[i]
		a.head(&e.Hold)
		a.body(&e.Hold)
		a.number(int64(e.Quantity))
		a.constant(stateLetters[e.State : e.State+1])
		a.digest(&e.Hold)
	}
	a.seal(loadHashesAt)
	messages, err := s.eval(ctx, &s.scripts.load, ref.Shard, a.list)
	s.args.put(a)
	if err == nil {
		_, err = parseReply(messages, 0)
	}
	return err
}

// Open opens the shard that ref's own Close left; ErrEpoch: the shard isn't in that state any more.
// ErrLost: the numbers of items and heads differ from what was loaded; replicas don't confirm
// loads, so a failover may keep the close and lose loaded data. If the shard is open under ref's
// epoch already, nothing changes. Like Close it waits for the replicas.
func (s *Stock) Open(ctx context.Context, ref Ref, items, names int64) error {
	return s.chunks(ctx, "open", ref, 1, func(int, int) error {
		_, err := s.replicated(ctx, &s.scripts.open, ref, 0, 0, func(a *arguments) {
			a.number(items)
			a.number(names)
			a.seal(0)
		})
		return err
	})
}

// Forget drops items, and the holds whose names have these heads. Heads may come in many calls; the
// items must come last. Unknown items and heads are ignored.
func (s *Stock) Forget(ctx context.Context, ref Ref, items []ItemID, heads []string) error {
	for _, head := range heads {
		if head == "" || len(head) > maxName-TailLength {
			return fmt.Errorf("%w: forget head %.60q", ErrInvalid, head)
		}
	}
	n := len(heads) + len(items)
	return s.chunks(ctx, "forget", ref, n, func(from, to int) error {
		return s.forget(ctx, ref, between(items, from-len(heads), to-len(heads)), between(heads, from, to))
	})
}

// maxForgets is how often heads are read again when their holds change at the same time.
const maxForgets = 5

// forget reads heads and drops them, and items. The digests of the dropped holds are computed here,
// so a head is dropped only if it is unchanged since it was read.
func (s *Stock) forget(ctx context.Context, ref Ref, items []ItemID, heads []string) error {
	for range maxForgets {
		values, err := s.values(ctx, ref, heads)
		if err != nil {
			return err
		}
		counted := make([]forgotten, len(heads))
		for i, head := range heads {
			if counted[i], err = countForgotten(head, values[i]); err != nil {
				return err
			}
		}
		r, err := s.ask(ctx, &s.scripts.forget, ref, 1, func(a *arguments) {
			a.number(int64(len(heads)))
			for i, head := range heads {
				a.text(head)
				a.text(values[i])
				a.number(counted[i].fresh)
				a.number(int64(counted[i].ordered))
				a.number(int64(counted[i].sold))
			}
			for _, item := range items {
				a.number(int64(item))
			}
			a.seal(0)
		})
		if err != nil {
			return err
		}
		left, err := r.rest[0].AsInt64()
		if err != nil {
			return &UnknownError{fmt.Errorf("%w: %w", errReply, err)}
		}
		if left == 0 {
			return nil
		}
	}
	return &UnknownError{errors.New("holds that are to be forgotten are changing")}
}

// values reads the values of heads.
func (s *Stock) values(ctx context.Context, ref Ref, heads []string) ([]string, error) {
	values := make([]string, len(heads))
	if len(heads) == 0 {
		return values, nil
	}
	r, err := s.ask(ctx, &s.scripts.find, ref, len(heads), func(a *arguments) {
		for _, head := range heads {
			a.text(head)
		}
		a.seal(0)
	})
	for i := 0; i < len(values) && err == nil; i++ {
		values[i], err = r.text(i)
	}
	return values, readOnly(err)
}

// forgotten is how much a shard's numbers shrink when a head is dropped.
type forgotten struct {
	fresh         int64
	ordered, sold Digest
}

// countForgotten counts what a head's value holds; "" is nothing.
func countForgotten(head, value string) (forgotten, error) {
	var f forgotten
	if value == "" {
		return f, nil
	}
	holds, err := parseValue(nil, head, value)
	for _, h := range holds {
		switch {
		case h.State == Fresh || h.State == Doomed:
			f.fresh += int64(h.Quantity)
		case h.Buyer == "":
		case h.State == Ordered:
			f.ordered = f.ordered.Add(NameDigest(h.ID))
		case h.State == Sold:
			f.sold = f.sold.Add(NameDigest(h.ID))
		}
	}
	return f, err
}

// replicated is like ask, for writes that a failover must not lose. It runs the script, and waits
// until all connected replicas have its writes. Both steps use one connection, because WAIT waits
// for the writes of its own connection.
func (s *Stock) replicated(
	ctx context.Context, sc *script, ref Ref, seen uint64, extra int, fill func(*arguments),
) (reply, error) {
	client, err := s.conn()
	if err != nil {
		return reply{}, err
	}
	var a arguments
	s.head(&a, ref, seen)
	fill(&a)
	keys := s.keys[ref.Shard].keys[:sc.keys]
	var r reply
	err = client.Dedicated(func(c rueidis.DedicatedClient) error {
		call, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
		at := s.now()
		// EVAL, not EVALSHA: these calls are rare, and EVAL never needs a second round trip for an
		// unknown script.
		cmd := c.B().Eval().Script(sc.source).Numkeys(int64(len(keys))).Key(keys...).Arg(a.list...).Build()
		messages, err := c.Do(call, cmd).ToArray()
		if sc == &s.scripts.doom {
			r, err = s.took(ref, messages, s.outcome(err), extra, at)
		} else if err = s.outcome(err); err == nil {
			r, err = parseReply(messages, extra)
		}
		if err != nil {
			return err
		}
		if err := s.waitForReplicas(ctx, c); err != nil {
			return &UnknownError{err}
		}
		return nil
	})
	return r, err
}

// waitForReplicas waits until every connected replica has received what c has written, including
// replicas that are still being filled. If there are none, it waits until the server's own log has
// it, if it keeps one.
func (s *Stock) waitForReplicas(ctx context.Context, c rueidis.DedicatedClient) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReplicaTimeout+s.cfg.CallTimeout)
	defer cancel()
	info, err := c.Do(ctx, c.B().Info().Section("replication").Build()).ToString()
	if refused, ok := rueidis.IsRedisErr(err); ok && unsupported(refused) && s.cfg.MinReplicas == 0 {
		return nil // a server without replication, such as miniredis
	}
	if err != nil {
		return fmt.Errorf("ask for replicas: %w", err)
	}
	replicas, err := connectedReplicas(info)
	if err != nil {
		return err
	}
	if replicas < int64(s.cfg.MinReplicas) {
		return fmt.Errorf("%d replicas are connected, at least %d are asked for", replicas, s.cfg.MinReplicas)
	}
	if replicas == 0 {
		return s.waitForLog(ctx, c)
	}
	reached, err := c.Do(ctx, c.B().Wait().Numreplicas(replicas).Timeout(s.cfg.ReplicaTimeout.Milliseconds()).Build()).ToInt64()
	if err != nil {
		return fmt.Errorf("wait for replicas: %w", err)
	}
	if reached < replicas {
		return fmt.Errorf("%d of %d replicas have it after %v", reached, replicas, s.cfg.ReplicaTimeout)
	}
	return nil
}

// waitForLog waits until the server's append-only file has what c has written. On a server without
// such a file, or older than Redis 7.2, it can't wait: then the operator accepts a loss.
func (s *Stock) waitForLog(ctx context.Context, c rueidis.DedicatedClient) error {
	timeout := strconv.FormatInt(s.cfg.ReplicaTimeout.Milliseconds(), 10)
	reached, err := c.Do(ctx, c.B().Arbitrary("WAITAOF", "1", "0", timeout).Build()).AsIntSlice()
	if refused, ok := rueidis.IsRedisErr(err); ok &&
		(unsupported(refused) || strings.Contains(refused.Error(), "appendonly is disabled")) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the append-only file: %w", err)
	}
	if len(reached) == 0 || reached[0] < 1 {
		return fmt.Errorf("the append-only file does not have it after %v", s.cfg.ReplicaTimeout)
	}
	return nil
}

// connectedReplicas reads the number of replicas from INFO replication.
func connectedReplicas(info string) (int64, error) {
	value, ok := infoField(info, "connected_slaves")
	if !ok {
		return 0, errors.New("INFO replication doesn't say how many replicas there are")
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO replication: %w", err)
	}
	return n, nil
}

// infoField reads a field of INFO.
func infoField(info, name string) (string, bool) {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value, true
		}
	}
	return "", false
}

// unsupported reports whether a server refused a command because it doesn't have it.
func unsupported(err *rueidis.RedisError) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "unknown command") || strings.Contains(text, "not supported") ||
		strings.Contains(text, "unknown subcommand")
}

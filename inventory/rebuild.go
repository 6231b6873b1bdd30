package inventory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// Close begins a rebuild: it empties the item's shard and marks it {ref.Epoch, closed}. ErrEpoch where a later epoch stands, or this
// one is open, or has holds loaded: a late repeat of a close must not take away what its own rebuild has written.
//
// It returns when every replica that is connected has the mark; an error may have taken effect. A failover that forgot a close would
// let an older epoch go on selling while its rebuild has counted.
func (s *Stock) Close(ctx context.Context, ref Ref) error {
	return s.replicated(ctx, "close", &s.scripts.close, ref, nil)
}

// Load writes holds into the shard that ref's own Close left, Cap at a time; ErrEpoch where it isn't there any more. A name that
// is loaded already stays as it is.
func (s *Stock) Load(ctx context.Context, ref Ref, entries []Entry) error {
	for i := range entries {
		if err := ValidateLoad(entries[i]); err != nil {
			return err
		}
	}
	return s.chunks(ctx, "load", ref, len(entries), func(from, to int) error {
		sh := newShard(s.cfg.Prefix, ref.Item)
		a := s.args.get()
		s.head(a, ref, sh)
		a.add("")
		for i := range entries[from:to] {
			e := &entries[from+i]
			a.add(e.ID, e.Buyer)
			a.number(int64(e.Quantity))
			a.add(stateLetters[e.State : e.State+1])
			a.hash(e.ID)
		}
		a.sealHashes(hashesAt)
		messages, err := s.eval(ctx, &s.scripts.load, sh, a.list)
		s.args.put(a)
		if err == nil {
			_, err = parseReply(messages, 0)
		}
		return err
	})
}

// Open sets the counts and opens the shard that ref's own Close left; ErrEpoch where it isn't there any more, ErrLost where it has
// not the known names that were loaded: loads are not waited for, and a failover may keep the close and forget them. A shard
// that is open under ref's epoch already stays as it is. Like Close it waits for the replicas.
func (s *Stock) Open(ctx context.Context, ref Ref, available, held, sold, known int64) error {
	counts := make([]string, 0, 4)
	for _, n := range [...]int64{available, held, sold, known} {
		counts = append(counts, strconv.FormatInt(n, 10))
	}
	return s.replicated(ctx, "open", &s.scripts.open, ref, counts)
}

// head appends the arguments that every script begins with, for a call that has seen nothing.
func (s *Stock) head(a *arguments, ref Ref, sh *shard) {
	a.number(int64(ref.Epoch))
	a.add("0", s.channel, sh.item)
}

// replicated runs a script and waits until all connected replicas have what it wrote. Both on one connection: WAIT waits for
// what its own connection has written.
func (s *Stock) replicated(ctx context.Context, what string, sc *script, ref Ref, args []string) error {
	if err := errors.Join(ref.Validate(), s.checkRunning(), ctx.Err()); err != nil {
		return err
	}
	sh := newShard(s.cfg.Prefix, ref.Item)
	var a arguments
	s.head(&a, ref, sh)
	a.add(args...)
	err := s.client.Dedicated(func(c rueidis.DedicatedClient) error {
		call, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
		// EVAL, not EVALSHA: a call per rebuild is worth no second trip after NOSCRIPT.
		cmd := c.B().Eval().Script(sc.source).Numkeys(int64(len(sh.keys))).Key(sh.keys...).Arg(a.list...).Build()
		messages, err := c.Do(call, cmd).ToArray()
		if err = outcome(err); err != nil {
			return err
		}
		if _, err := parseReply(messages, 0); err != nil {
			return err
		}
		if err := s.waitForReplicas(ctx, c); err != nil {
			return &UnknownError{err}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s item %d, epoch %d: %w", what, ref.Item, ref.Epoch, err)
	}
	return nil
}

// waitForReplicas waits until every replica that is connected, those that are still being filled included, has what c has
// written.
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
		return nil
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

// connectedReplicas reads the number of replicas from INFO replication.
func connectedReplicas(info string) (int64, error) {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "connected_slaves:"); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("INFO replication: %w", err)
			}
			return n, nil
		}
	}
	return 0, errors.New("INFO replication doesn't tell of replicas")
}

// unsupported reports whether a server refused a command because it doesn't have it.
func unsupported(err *rueidis.RedisError) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "unknown command") || strings.Contains(text, "not supported") ||
		strings.Contains(text, "unknown subcommand")
}

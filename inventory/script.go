package inventory

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"
)

// The proof of this file is in internal/leases, whose scripts run here on Redis and on miniredis.

// Script is a Lua script of another package. It runs on the Redis that has the stock, and must only
// use keys of its own. NewScript makes it.
type Script struct{ source, sha string }

// NewScript returns the script with this source.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source)) // the name that Redis gives a script; it is not used for security
	return &Script{source, hex.EncodeToString(sum[:])}
}

// ScriptCall is one call of a Script. Keys is not empty; its names get the prefix of the stock's
// keys and must have one hash tag. Reply is the script's answer, an array of strings and integers.
type ScriptCall struct {
	Keys  []string
	Args  []string
	Reply []string
}

// Run makes calls of a script, in one write if the Redis is not a Cluster, and fills in their
// replies. After an error the outcome of all calls is unknown. It waits at most Config.CallTimeout.
func (s *Stock) Run(ctx context.Context, script *Script, calls []ScriptCall) error {
	client, err := s.conn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	build := func(c *ScriptCall, whole bool) rueidis.Completed {
		keys := make([]string, len(c.Keys))
		for i, key := range c.Keys {
			keys[i] = s.cfg.Prefix + ":" + key
		}
		if whole {
			return client.B().Eval().Script(script.source).Numkeys(int64(len(keys))).Key(keys...).Arg(c.Args...).Build()
		}
		return client.B().Evalsha().Sha1(script.sha).Numkeys(int64(len(keys))).Key(keys...).Arg(c.Args...).Build()
	}
	commands := make([]rueidis.Completed, len(calls))
	for i := range calls {
		commands[i] = build(&calls[i], false)
	}
	results := client.DoMulti(ctx, commands...)
	for i := range results {
		if isNoScript(results[i].Error()) {
			results[i] = client.Do(ctx, build(&calls[i], true))
		}
		messages, err := results[i].ToArray()
		if err != nil {
			return s.outcome(err)
		}
		calls[i].Reply = make([]string, len(messages))
		for j := range messages {
			if calls[i].Reply[j], err = textOf(&messages[j]); err != nil {
				return fmt.Errorf("%w: %w", errReply, err)
			}
		}
	}
	return nil
}

// textOf returns a string or an integer of a reply.
func textOf(m *rueidis.RedisMessage) (string, error) {
	if m.IsInt64() {
		n, err := m.AsInt64()
		return strconv.FormatInt(n, 10), err
	}
	return m.ToString()
}

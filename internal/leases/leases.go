package leases

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/limiter"
)

//go:embed lua/lease.lua
var leaseSource string

//go:embed lua/report.lua
var reportSource string

// Runner runs scripts on the Redis; *inventory.Stock implements it.
type Runner interface {
	Run(ctx context.Context, script *inventory.Script, calls []inventory.ScriptCall) error
}

// Pool is a limiter.Pool on Redis. It is safe for concurrent use.
type Pool struct {
	run    Runner
	lease  *inventory.Script
	report *inventory.Script
}

var _ limiter.Pool = (*Pool)(nil)

// New returns the pool of a Redis.
func New(run Runner) *Pool {
	return &Pool{run, inventory.NewScript(leaseSource), inventory.NewScript(reportSource)}
}

const (
	// groups is the number of hash tags of the keys. With them, the nodes of a Cluster share the
	// work, and one server gets at most this many calls in a write.
	groups = 8
	// maxKeys bounds the keys of one call, because Redis serves no other call meanwhile.
	maxKeys = 500

	inArgs, outArgs = 19, 6
)

var errReply = errors.New("not a reply of the script")

// Exchange implements limiter.Pool.
func (p *Pool) Exchange(ctx context.Context, asks []limiter.Ask) error {
	var calls []inventory.ScriptCall
	var places [][]int // of the asks in each call
	var open [groups]int
	for i := range open {
		open[i] = -1
	}
	for i := range asks {
		a := &asks[i]
		group := groupOf(a.Key)
		at := open[group]
		if at < 0 || len(calls[at].Keys) >= maxKeys {
			at = len(calls)
			open[group] = at
			calls, places = append(calls, inventory.ScriptCall{}), append(places, nil)
		}
		c := &calls[at]
		c.Keys = append(c.Keys, "limit{"+strconv.Itoa(group)+"}:"+a.Key)
		for _, n := range [inArgs]int64{
			a.Back, a.Want, a.Num, a.Den, a.Window, a.Floor, a.Keep, a.Vital, a.Quota, a.Offset, a.Known.Day, a.Known.Granted, a.Known.Used,
			a.Owed, a.Span, a.Depth, a.Deep, int64(a.Debt.Node), a.Debt.Number,
		} {
			c.Args = append(c.Args, strconv.FormatInt(n, 10))
		}
		places[at] = append(places[at], i)
	}
	if err := p.run.Run(ctx, p.lease, calls); err != nil {
		return fmt.Errorf("exchange tokens: %w", err)
	}
	for i := range calls {
		if err := take(asks, places[i], calls[i].Reply); err != nil {
			return err
		}
	}
	return nil
}

// Report is a node's last text, and its age.
type Report struct {
	Node string
	Age  time.Duration
	Text string
}

// Board has the texts of one kind that nodes store for one another.
type Board struct {
	Name string
	Life time.Duration // how long after its storing a text is returned
}

// Share stores a node's text with the texts of the others, and returns all of them. An empty text
// removes the node's own; without a node it only reads.
func (p *Pool) Share(ctx context.Context, board Board, node, text string) ([]Report, error) {
	life := strconv.FormatInt(board.Life.Milliseconds(), 10)
	calls := []inventory.ScriptCall{{Keys: []string{board.Name}, Args: []string{node, text, life}}}
	if err := p.run.Run(ctx, p.report, calls); err != nil {
		return nil, fmt.Errorf("share %s: %w", board.Name, err)
	}
	reply := calls[0].Reply
	if len(reply)%3 != 0 {
		return nil, fmt.Errorf("%w: %d values of reports", errReply, len(reply))
	}
	var out []Report
	for i := 0; i < len(reply); i += 3 {
		age, err := strconv.ParseInt(reply[i+1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errReply, err)
		}
		out = append(out, Report{reply[i], time.Duration(age) * time.Millisecond, reply[i+2]})
	}
	return out, nil
}

// take reads the reply of one call into the asks at places.
func take(asks []limiter.Ask, places []int, reply []string) error {
	if len(reply) != outArgs*len(places) {
		return fmt.Errorf("%w: %d values for %d keys", errReply, len(reply), len(places))
	}
	for i, at := range places {
		a := &asks[at]
		for j, to := range [outArgs]*int64{&a.Granted, &a.Room, &a.Count, &a.Left, &a.Usage.Day, &a.Usage.Granted} {
			n, err := strconv.ParseInt(reply[outArgs*i+j], 10, 64)
			if err != nil {
				return fmt.Errorf("%w: %w", errReply, err)
			}
			*to = n
		}
		a.Usage.Used = max(a.Quota-a.Left, 0)
	}
	return nil
}

// groupOf is the group of a key. It is the same on every node.
func groupOf(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	return int(h.Sum32() % groups)
}

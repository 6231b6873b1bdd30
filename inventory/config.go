package inventory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Config says where the shards are, and how many calls may wait for them. A zero field means its
// default; only Addrs has none.
type Config struct {
	// Addrs are addresses as host:port. They name one server, or some nodes of a Cluster, or, with
	// MasterName, the Sentinels. Required.
	Addrs []string
	// Username and Password log in to Redis. If both are empty, there is no login.
	Username, Password string
	// TLS, if set, is used for every connection, also to the Sentinels. If ServerName is empty, the
	// host of each address is used.
	TLS *tls.Config
	// MasterName is the name under which the Sentinels know the Redis; "" means that there are no
	// Sentinels.
	MasterName string
	// SentinelUsername and SentinelPassword log in to the Sentinels, which have users of their own.
	// If both are empty, there is no login.
	SentinelUsername, SentinelPassword string
	// Dial, if set, makes every connection, whatever the address. It is for a Redis inside the
	// process, which is not a Cluster.
	Dial func(ctx context.Context) (net.Conn, error)
	// Memory, if set, returns how much memory is used and how much may be used, in bytes. It is for
	// a Redis inside the process, which doesn't know this. Otherwise the server's INFO is read.
	Memory func() (used, most int64)
	// Prefix is the first part of the name of every key and channel. Default "ps".
	Prefix string

	// Owner, if set, returns the name of the installation that owns the stock. Close writes this
	// name into the shard. If the shard has another name, Close returns ErrForeign, because it
	// would empty another installation's stock. Open refuses such a Redis, too. If Owner returns an
	// error, nothing is closed.
	Owner func(ctx context.Context) (string, error)

	// Cap is the most holds, restocks or heads in one call; longer lists are sent in parts.
	// HoldCalls are not divided, because their caller decides their size. Default 512: with larger
	// calls a hold costs Redis no less, and other callers wait longer, because Redis has one
	// thread.
	Cap int
	// Queue is the most finds that may wait for one shard; with more, Find fails at once. Default
	// 8,192.
	Queue int
	// CallTimeout is how long one call may take until its outcome is unknown. Default 1 s: half of
	// the accept deadline, and a healthy Redis answers in milliseconds.
	CallTimeout time.Duration
	// ReplicaTimeout is how long Doom, Close and Open wait for the replicas. Default 5 s.
	ReplicaTimeout time.Duration
	// MinReplicas is how many replicas must be connected for Doom, Close and Open to succeed.
	// Default 0, because a single server has none. If replicas may be promoted, it should be at
	// least 1. Otherwise a primary that is cut off from all of them reports success, and its
	// successor doesn't know the change.
	MinReplicas int
	// MaxReplicaLag is the longest time for which a replaced primary may still take writes. The
	// servers must guarantee it: min-replicas-to-write must be at least 1, and min-replicas-max-lag
	// at most this time. Servers that don't are refused (*SafetyError). Required with MinReplicas.
	// Default 0: there are no replicas, and nothing is checked.
	MaxReplicaLag time.Duration
	// Poll is how long a watched shard may be silent before it is read, at most 500 ms. An answer
	// of a shard is used for 900 ms, so that no buyer is told sold-out from memory one second after
	// a unit came back. Poll is so short that a failed read can be repeated in time. Default 250
	// ms.
	Poll time.Duration
	// MaxKnown is the most heads of names that this process remembers, for all watched shards
	// together. A shard that would exceed it gets no refusals from memory. Default 100,000,000,
	// about 2.5 bytes each.
	MaxKnown int

	// Guard, if set, is called instead of each call that buyers wait for. It makes the call, or
	// returns an error without making it. It gets the lane, which is the Redis node. An error from
	// the call comes from Redis or the network, never from a shard's refusal. With nil, calls are
	// made directly.
	Guard func(ctx context.Context, lane int, call func(context.Context) error) error

	// The callbacks report what the Stock has seen:
	//   - OnLost: an answer showed that writes were lost.
	//   - OnEpoch: an open or closed shard has a later epoch than the watched one.
	//   - OnCrossing: an item of a watched shard had units and now has none, or the reverse.
	//   - OnRing: a process called Ring with this message.
	//   - OnSuspect: a server of these watched shards was restarted or replaced. It may have
	//     forgotten writes that nobody can prove.
	//   - OnForeign: the Redis has the stock of another installation. Callbacks run one after
	// another on a goroutine of the Stock, and may call the Stock. While one is slow, calls of
	// OnRing may be left out; the others are repeated. nil means no call.
	OnLost     func(ref Ref)
	OnEpoch    func(shard ShardID, epoch Epoch)
	OnCrossing func(shard ShardID, item ItemID, inStock bool)
	OnRing     func(message string)
	OnSuspect  func(shards []ShardID)
	OnForeign  func(err error)

	// Logger gets the errors of the background work. nil discards them.
	Logger *slog.Logger
}

// MaxCall is the most claims of one HoldCall, and the most items of one ItemNumbers.
const MaxCall = 10_000

// maxPoll is the most that Config.Poll may be.
const maxPoll = 500 * time.Millisecond

// staleAfter is how long an answer of a shard is used. L6 allows a wrong sold-out for at most one
// second.
const staleAfter = 900 * time.Millisecond

// WithDefaults returns c with all defaults filled in.
func (c Config) WithDefaults() Config {
	setDefault(&c.Prefix, "ps")
	setDefault(&c.Cap, 512)
	setDefault(&c.Queue, 8_192)
	setDefault(&c.CallTimeout, time.Second)
	setDefault(&c.ReplicaTimeout, 5*time.Second)
	setDefault(&c.Poll, 250*time.Millisecond)
	setDefault(&c.MaxKnown, 100_000_000)
	if c.Guard == nil {
		c.Guard = func(ctx context.Context, _ int, call func(context.Context) error) error { return call(ctx) }
	}
	if c.OnLost == nil {
		c.OnLost = func(Ref) {}
	}
	if c.OnEpoch == nil {
		c.OnEpoch = func(ShardID, Epoch) {}
	}
	if c.OnCrossing == nil {
		c.OnCrossing = func(ShardID, ItemID, bool) {}
	}
	if c.OnRing == nil {
		c.OnRing = func(string) {}
	}
	if c.OnSuspect == nil {
		c.OnSuspect = func([]ShardID) {}
	}
	if c.OnForeign == nil {
		c.OnForeign = func(error) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports everything that is wrong with c, after the defaults are filled in.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Addrs) > 0, "addrs is empty")
	for _, addr := range c.Addrs {
		check(addr != "", "addrs has an empty address")
	}
	check(c.MasterName != "" || c.SentinelUsername == "" && c.SentinelPassword == "",
		"sentinel credentials are given without a master name")
	check(!strings.ContainsAny(c.Prefix, "{} \r\n"), "prefix %q has braces or spaces", c.Prefix)
	check(c.Cap >= 1 && c.Cap <= MaxCall, "cap is %d, must be 1 to %d", c.Cap, MaxCall)
	check(c.Queue >= c.Cap, "queue is %d, must be at least cap, %d", c.Queue, c.Cap)
	check(c.CallTimeout > 0, "call timeout is %v, must be positive", c.CallTimeout)
	check(c.ReplicaTimeout > 0, "replica timeout is %v, must be positive", c.ReplicaTimeout)
	check(c.Poll > 0 && c.Poll <= maxPoll, "poll is %v, must be at most %v", c.Poll, maxPoll)
	check(c.MinReplicas >= 0, "min replicas is %d, must not be negative", c.MinReplicas)
	check(c.MaxReplicaLag >= 0, "max replica lag is %v, must not be negative", c.MaxReplicaLag)
	check(c.MinReplicas == 0 || c.MaxReplicaLag > 0,
		"max replica lag is 0, must be positive with min replicas %d", c.MinReplicas)
	check(c.MaxKnown >= 0, "max known is %d, must not be negative", c.MaxKnown)
	return errors.Join(errs...)
}

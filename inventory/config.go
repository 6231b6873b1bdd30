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

// Config says where the shards are and how much may wait for them. The zero value of each field but
// Addrs is its default.
type Config struct {
	// Addrs are the addresses, host:port, of the Redis: one of a single server, some of a Cluster's
	// nodes, or, with MasterName, of the Sentinels. Required.
	Addrs []string
	// Username and Password log in; empty ones don't.
	Username, Password string
	// TLS, if set, is used for every connection, the Sentinels' too. An empty ServerName is the
	// host of each address, as Addrs, the Cluster or the Sentinels name it.
	TLS *tls.Config
	// MasterName is the name under which the Sentinels know the Redis; "" is no Sentinel.
	MasterName string
	// SentinelUsername and SentinelPassword log in to the Sentinels, which don't know the Redis'
	// users; empty ones don't.
	SentinelUsername, SentinelPassword string
	// Dial, if set, makes every connection, whatever the address: for a Redis within the process,
	// which is no Cluster.
	Dial func(ctx context.Context) (net.Conn, error)
	// Memory, if set, tells the memory that is used and the most that may be, in bytes, of a Redis
	// within the process, which doesn't know it. Else the server's INFO does.
	Memory func() (used, most int64)
	// Prefix begins the name of every key and channel. Default "ps".
	Prefix string

	// Owner, if set, names the installation whose stock this is. A Close writes the name into the
	// shard, and refuses a shard that has another one (ErrForeign): it would empty it. Open refuses
	// such a Redis, too. An error of Owner keeps a Close from being made.
	Owner func(ctx context.Context) (string, error)

	// Cap is the most holds, restocks or heads of one call; longer lists are sent in several.
	// HoldCalls are not cut: their caller decides. Default 512: larger calls cost Redis no less for
	// each hold and make the other callers of a single-threaded Redis wait longer.
	Cap int
	// Queue is the most finds that wait for one shard; beyond it Find fails at once. Default 8,192.
	Queue int
	// CallTimeout is how long one call may take until its outcome is unknown. Default 1 s: half of
	// the accept deadline, and a healthy Redis answers in milliseconds.
	CallTimeout time.Duration
	// ReplicaTimeout is how long Doom, Close and Open wait for the replicas. Default 5 s.
	ReplicaTimeout time.Duration
	// MinReplicas is how many replicas must be connected for Doom, Close and Open to succeed.
	// Default 0: a single server has none. With replicas that may be promoted it should be 1 or
	// more, or a primary that is cut off from all of them counts as having done what its successor
	// does not know.
	MinReplicas int
	// MaxReplicaLag is the longest time that a primary which was replaced may go on taking writes.
	// The servers must keep to it: min-replicas-to-write at least 1, and min-replicas-max-lag at
	// most this. Servers that do not are refused (*SafetyError). Required with MinReplicas. Default
	// 0: there are no replicas, and nothing is checked.
	MaxReplicaLag time.Duration
	// Poll is how long a watched shard may be silent until it is read, at most 500 ms: what a shard
	// says is believed for 900 ms, so that no buyer is told sold-out from memory a second after a
	// unit came back, and every answer needs a second chance. Default 250 ms.
	Poll time.Duration
	// MaxKnown is the most heads of names that this process remembers of all watched shards
	// together; a shard that would exceed it gets no refusals from memory. Default 100,000,000,
	// about 2.5 bytes each.
	MaxKnown int

	// Guard, if set, stands in front of the calls that buyers wait for: it makes the call, or
	// answers an error without having made it. It is told the lane, which is the Redis node. An
	// error that the call answers is Redis's or the network's, never a shard's refusal. nil makes
	// the call.
	Guard func(ctx context.Context, lane int, call func(context.Context) error) error

	// The callbacks tell what the Stock has seen:
	//   - OnLost: an answer showed lost writes.
	//   - OnEpoch: an open or closed shard has a later epoch than the watched one.
	//   - OnCrossing: an item of a watched shard had units and has none, or the other way round.
	//   - OnRing: a process passed a message to Ring.
	//   - OnSuspect: a server of these watched shards was restarted or replaced. It may have
	//     forgotten writes that nobody can prove.
	//   - OnForeign: the Redis has the stock of another installation.
	// They are called one after another on a goroutine of the Stock and may call it back. While one
	// takes its time, calls of OnRing may be left out; the others come again. nil is nobody.
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

// staleAfter is how long an answer of a shard is believed. L6 allows a false sold-out a second at
// most.
const staleAfter = 900 * time.Millisecond

// WithDefaults returns c with its defaults filled in.
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

// Validate reports all that is wrong with c, its defaults filled in.
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

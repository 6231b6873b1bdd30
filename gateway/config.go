package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/seckill"
)

// Config has the public listener's limits. DefaultConfig gives the values for production.
type Config struct {
	// MaxBody is the largest body in bytes; more is a 413. The contract says 16 KiB; a purchase is
	// a hundred bytes.
	MaxBody int
	// ReadBuffer is the size of a request's read buffer in bytes, and so the longest request line
	// with header; more is a 431. Callers are programs without cookies, whose headers have some 400
	// bytes. Larger costs memory per request that arrives: a connection that waits has no buffer.
	ReadBuffer int
	// WriteBuffer is the size of an answer's write buffer in bytes. All answers but long
	// activities fit in one.
	WriteBuffer int
	// ReadTimeout is how long a request may take to arrive, from its first byte to its last; for a
	// new connection, from the accept. It bounds what a slow client costs.
	ReadTimeout time.Duration
	// WriteTimeout is how long writing an answer may take, from the moment the answer is complete.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. It is longer than the 60
	// s after which most load balancers close an idle connection: if the server closed first, a
	// request might already be on its way.
	IdleTimeout time.Duration
	// MaxConnections is how many connections may be open, idle ones included; more get a 503
	// overloaded and are closed. A sixteenth of them, at most 16, serves health checks only. It
	// must be at most half of the process's file limit: the other half is for Redis, Kafka, the
	// database and files. 0 means half of the file limit, at most 65,536 (some 6 kB each while they
	// wait, and some 12 KiB of buffers more while a request arrives or is answered).
	MaxConnections int
	// MaxPerAddress is how many connections one address may have open, an IPv6 /64 counts as one
	// address; more get a 503 overloaded. 0 means half of MaxConnections, and at least 64.
	MaxPerAddress int
	// Proxies are the networks of trusted proxies: MaxPerAddress doesn't apply to them.
	Proxies []netip.Prefix
	// MaxInFlight is how many requests may be worked on at once; more are answered 503 overloaded.
	// It must be below MaxConnections, or it would never be reached. 0 means 7/8 of MaxConnections,
	// at most 8,192: at 5 ms per request that is 1.6 million requests per second, so this limit is
	// only reached when something stalls.
	MaxInFlight int
	// MaxWaiting is how many requests may use a Prefer: wait; requests above it are answered
	// without waiting. 0 means half of MaxInFlight: waiting requests must not take the places of
	// new buyers.
	MaxWaiting int
	// MaxWait is the longest wait that Prefer: wait gets; the contract says 10 s.
	MaxWait time.Duration
	// RequestTimeout is the deadline of a request after it has arrived. It must be above MaxWait:
	// the rest is for the accept deadline and a slow store.
	RequestTimeout time.Duration
	// StockAge is how long an activity's page may be served before its items' stock is looked at
	// again. Looking costs up to 200 atomic reads; 50 ms is far within the second that L6 allows.
	StockAge time.Duration
	// DrainDelay is how long Shutdown goes on accepting after /readyz has turned to 503, so that
	// load balancers notice: set it to two of their check intervals. 0 if no load balancer asks.
	DrainDelay time.Duration
	// Gate decides which visits are admitted, before Sales is asked. nil admits all.
	Gate Gate
	// Trace records requests; nil records none.
	Trace *trace.Tracer
	// Probes is the catalog of this process's own probes (seckill.ProbeCatalog), beside the shop's
	// catalog. nil: no probes.
	Probes *seckill.Catalog
}

// The bounds of values that are derived when Config leaves them 0.
const (
	mostConnections = 65_536
	mostInFlight    = 8_192
	leastPerAddress = 64
	mostReserved    = 16
)

// Resolve replaces zero values by derived ones, as New does, and checks them against the process's
// file limit.
func (c Config) Resolve() (Config, error) { return c.derive(fileLimit()) }

// reserved is how many of the connections serve health checks only.
func (c Config) reserved() int { return min(c.MaxConnections/16, mostReserved) }

// DefaultConfig returns the values for production.
func DefaultConfig() Config {
	return Config{
		MaxBody:        16 << 10,
		ReadBuffer:     4 << 10,
		WriteBuffer:    4 << 10,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   10 * time.Second,
		IdleTimeout:    75 * time.Second,
		MaxWait:        10 * time.Second,
		RequestTimeout: 15 * time.Second,
		StockAge:       50 * time.Millisecond,
	}
}

// Validate checks each value, and that the values fit together.
func (c Config) Validate() error {
	var errs []error
	atLeast := func(name string, v, least int64) {
		if v < least {
			errs = append(errs, fmt.Errorf("%s: must be at least %d", name, least))
		}
	}
	atLeast("max-body", int64(c.MaxBody), 1<<10)
	atLeast("read-buffer", int64(c.ReadBuffer), 1<<10)
	atLeast("write-buffer", int64(c.WriteBuffer), 1<<10)
	atLeast("max-connections", int64(c.MaxConnections), 0)
	atLeast("max-connections-per-address", int64(c.MaxPerAddress), 0)
	atLeast("max-in-flight", int64(c.MaxInFlight), 0)
	atLeast("max-waiting", int64(c.MaxWaiting), 0)
	positive := func(name string, d time.Duration) {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be above zero", name))
		}
	}
	positive("read-timeout", c.ReadTimeout)
	positive("write-timeout", c.WriteTimeout)
	positive("idle-timeout", c.IdleTimeout)
	positive("request-timeout", c.RequestTimeout)
	notNegative := func(name string, d time.Duration) {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be below zero", name))
		}
	}
	notNegative("max-wait", c.MaxWait)
	notNegative("stock-age", c.StockAge)
	notNegative("drain-delay", c.DrainDelay)
	if c.RequestTimeout <= c.MaxWait {
		errs = append(errs, fmt.Errorf("request-timeout: %v must be longer than max-wait, %v", c.RequestTimeout, c.MaxWait))
	}
	if c.MaxConnections > 0 && c.MaxInFlight >= c.MaxConnections {
		errs = append(errs, fmt.Errorf("max-in-flight: %d must be below max-connections, %d", c.MaxInFlight, c.MaxConnections))
	}
	if c.MaxConnections > 0 && c.MaxPerAddress > c.MaxConnections {
		errs = append(errs, fmt.Errorf("max-connections-per-address: %d must not be above max-connections, %d",
			c.MaxPerAddress, c.MaxConnections))
	}
	if c.MaxInFlight > 0 && c.MaxWaiting > c.MaxInFlight {
		errs = append(errs, fmt.Errorf("max-waiting: %d must not be above max-in-flight, %d", c.MaxWaiting, c.MaxInFlight))
	}
	return errors.Join(errs...)
}

// derive replaces zero values and checks them against the file limit; files 0 means that there is
// no limit.
func (c Config) derive(files uint64) (Config, error) {
	if c.MaxConnections < 0 {
		return c, c.Validate()
	}
	most := uint64(mostConnections)
	if files > 0 {
		most = min(most, files/2)
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = int(most)
	} else if files > 0 && uint64(c.MaxConnections) > files/2 {
		return c, errors.Join(c.Validate(),
			fmt.Errorf("max-connections: %d must be at most %d, half of the file limit (ulimit -n)", c.MaxConnections, files/2))
	}
	if c.MaxConnections < 2 {
		return c, fmt.Errorf("max-connections: the file limit (ulimit -n) of %d is too low: raise it", files)
	}
	if c.MaxPerAddress == 0 {
		c.MaxPerAddress = min(max(c.MaxConnections/2, leastPerAddress), c.MaxConnections)
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = max(min(c.MaxConnections*7/8, mostInFlight), 1)
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = max(c.MaxInFlight/2, 1)
	}
	return c, c.Validate()
}

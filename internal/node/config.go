package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Config is the configuration of a process: the Configs of its parts, and the addresses of servers.
// The errors of Validate begin with the key of a setting, as users write it.
type Config struct {
	Listen          string
	AdminListen     string
	ListenTLS       ListenTLS
	AdminTLS        ListenTLS
	DataDir         string
	Durable         bool
	AdminToken      string
	SecretsKey      string // keys that encrypt payment secrets, as vault.Parse reads them
	SecretsKeyFile  string // or a file with these keys
	OpenMetrics     bool
	ShutdownTimeout time.Duration
	TrustedProxies  []string // addresses and networks
	WebhookNetworks []string // private networks in which receivers of webhooks may be
	Slots           int
	MaxKnown        int
	Shards          int // of the installation; 0 means 16, or 4 with the embedded parts

	// The real servers: all three, or none. With none, the embedded parts are used.
	Redis       []string
	RedisMaster string // the Redis's name at the Sentinels
	RedisUser   string
	RedisSecret string
	MinReplicas int
	DropAfter   time.Duration // 0 keeps ended activities for ever
	Kafka       []string
	KafkaTopic  string
	Partitions  int
	Replication int
	Database    string
	KeepSchema  bool
	Wait        time.Duration // how long a migration waits for the database

	// How to connect to them; the database's URL has its own parameters.
	RedisTransport Transport
	SentinelUser   string
	SentinelSecret string
	KafkaTransport Transport
	KafkaSASL      string // a kafka.Mechanism
	KafkaUser      string
	KafkaSecret    string

	Announce EventsConfig
	Login    LoginConfig
	// AdminHosts are further names by which browsers reach the admin listener.
	AdminHosts []string

	Sale     seckill.Config // Shards is set by Derive
	Gateway  gateway.Config // Gate is set by Start
	ShedRate int            // 0: by the number of processors

	ProbeEvery time.Duration // how often a gateway probes itself; 0 means never
	Objectives ObjectivesConfig
	Trace      TraceConfig

	// Version is the version of the program, for people.
	Version string
	// OnFirstToken, if set, is called with the first admin token, which is made if there is no
	// token yet. That may be long after Start, if the database could not be reached.
	OnFirstToken func(token string)
}

// The numbers of shards of a new installation.
const (
	defaultShards  = 16
	embeddedShards = 4
)

// DefaultConfig returns the values for production.
func DefaultConfig() Config {
	c := Config{
		Listen:          "127.0.0.1:8080",
		AdminListen:     "127.0.0.1:8081",
		DataDir:         "./penstock-data",
		ShutdownTimeout: 15 * time.Second,
		Slots:           32_768,
		MaxKnown:        100_000_000,
		KafkaTopic:      "penstock-orders",
		Partitions:      8,
		Wait:            30 * time.Second,
		ProbeEvery:      10 * time.Second,
		Objectives:      defaultObjectives(),
		Trace:           TraceConfig{Sample: "0.01"},
		Announce:        defaultEventsConfig(),
		Login:           defaultLoginConfig(),
		Sale:            seckill.DefaultConfig(),
		Gateway:         gateway.DefaultConfig(),
	}
	c.Gateway.DrainDelay = 5 * time.Second
	return c
}

// maxShedRate is more than any machine refuses.
const maxShedRate = 100_000_000

// Real reports whether the process uses real servers.
func (c *Config) Real() bool { return len(c.Redis) > 0 && len(c.Kafka) > 0 && c.Database != "" }

// Derive returns c and fills in the values that depend on others.
func (c Config) Derive() Config {
	switch {
	case c.Shards > 0:
		c.Sale.Shards = c.Shards
	case c.Real():
		c.Sale.Shards = defaultShards
	default:
		c.Sale.Shards = embeddedShards
	}
	return c
}

// Validate checks that the values fit together, by the rules of the parts. The error joins all
// mistakes.
func (c Config) Validate() error { return errors.Join(c.Mistakes()...) }

// Mistakes returns each mistake in the values as an error. A mistake begins with the key.
func (c Config) Mistakes() []error {
	var errs []error
	errs = append(errs, checkListen("listen", c.Listen), checkListen("admin-listen", c.AdminListen))
	errs = append(errs, c.validateServers()...)
	errs = append(errs, c.Objectives.mistakes()...)
	errs = append(errs, c.Trace.mistakes()...)
	if err := c.validateProbes(); err != nil {
		errs = append(errs, err)
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("data-dir: is required"))
	}
	if c.ShutdownTimeout <= 0 {
		errs = append(errs, errors.New("shutdown-timeout: must be above zero"))
	}
	if c.Gateway.DrainDelay < 0 || c.Gateway.DrainDelay >= c.ShutdownTimeout {
		errs = append(errs, fmt.Errorf("drain-delay: must be from 0 to below shutdown-timeout, %v", c.ShutdownTimeout))
	}
	if c.Slots <= 0 {
		errs = append(errs, errors.New("slots: must be above zero"))
	}
	if c.ShedRate < 0 || c.ShedRate > maxShedRate {
		errs = append(errs, fmt.Errorf("shed-rate: must be from 0 to %d", maxShedRate))
	}
	if c.MaxKnown < 0 {
		errs = append(errs, errors.New("max-known: must not be below zero"))
	}
	if c.Shards < 0 || c.Shards > inventory.MaxShards {
		errs = append(errs, fmt.Errorf("shards: must be from 1 to %d, or 0 for the default", inventory.MaxShards))
		c.Shards = 0
	}
	if c.Sale.ReplicaLag < 0 {
		errs = append(errs, errors.New("redis-replica-lag: must not be negative"))
		c.Sale.ReplicaLag = 0
	}
	_, err := c.trustedProxies()
	_, err2 := c.webhookNetworks()
	errs = append(errs, err, err2)
	errs = append(errs, c.checkSecretsKeys())
	errs = append(errs, c.Login.mistakes()...)
	if _, err := c.adminHosts(); err != nil {
		errs = append(errs, err)
	}
	errs = Apart(append(errs, c.Derive().Sale.Validate(), c.Gateway.Validate())...)
	said := make(map[string]bool, len(errs))
	for _, err := range errs {
		said[keyOf(err)] = true
	}
	for _, err := range c.validateParts() { // a value that is wrong by our rules may be right by theirs
		if !said[keyOf(err)] {
			errs = append(errs, err)
		}
	}
	return errs
}

// keyOf returns the key with which an error begins.
func keyOf(err error) string {
	key, _, _ := strings.Cut(err.Error(), ":")
	return key
}

// Apart separates joined errors, so that each mistake gets its own line.
func Apart(joined ...error) []error {
	var errs []error
	for _, err := range joined {
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			errs = append(errs, Apart(list.Unwrap()...)...)
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// validateServers checks how the real servers are named. A mix of real and embedded ones is a
// mistake: the embedded ones know only this process, and could not restore what a real one loses.
func (c *Config) validateServers() []error {
	var errs []error
	for _, server := range []struct {
		key    string
		addrs  []string
		absent bool
	}{{"redis", c.Redis, len(c.Redis) == 0}, {"kafka", c.Kafka, len(c.Kafka) == 0}, {"database", nil, c.Database == ""}} {
		if server.absent && (len(c.Redis) > 0 || len(c.Kafka) > 0 || c.Database != "") {
			errs = append(errs, fmt.Errorf("%s: is required: give redis, kafka and database, or none of them", server.key))
		}
		for _, addr := range server.addrs {
			if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
				errs = append(errs, fmt.Errorf("%s: %q is not host:port", server.key, addr))
			}
		}
	}
	if c.DropAfter != 0 && c.DropAfter <= c.Sale.KeptFor() {
		errs = append(errs, fmt.Errorf("drop-ended-after: must be longer than retention and the longest payment window, %v",
			c.Sale.KeptFor()))
	}
	if c.Wait < 0 {
		errs = append(errs, errors.New("wait: must not be below zero"))
	}
	if c.MinReplicas > 0 && c.Sale.ReplicaLag == 0 {
		errs = append(errs, errors.New("redis-replica-lag: is required with redis-min-replicas: "+
			"the value of min-replicas-max-lag in Redis, for example 2s"))
	}
	return append(errs, slices.Concat(c.validateTransports(), c.validateEvents())...)
}

// trustedProxies returns the networks of the proxies in front of the public listener.
func (c *Config) trustedProxies() ([]netip.Prefix, error) {
	return networks("trusted-proxies", c.TrustedProxies)
}

// shedRate is how many refusals a second are sent without delay. Each costs 15 to 25 µs, most of it
// in the kernel, so that by default they take at most a twentieth of the processors.
func (c *Config) shedRate() int {
	if c.ShedRate > 0 {
		return c.ShedRate
	}
	return 2000 * runtime.GOMAXPROCS(0)
}

// databaseName returns a database's address and name, and no other part of its URL, because a URL
// can have passwords in several places.
func databaseName(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(unreadable URL)"
	}
	host := u.Host[strings.LastIndexByte(u.Host, '@')+1:]
	return u.Scheme + "://" + host + u.EscapedPath()
}

// FaultError is why a process can't start. Settings is true if a setting is wrong, and false if a
// server answers but can't be used. A server that can't be reached is not a fault: the process
// waits for it.
type FaultError struct {
	Settings bool
	Err      error
}

// Error implements error.
func (e *FaultError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FaultError) Unwrap() error { return e.Err }

func badSetting(err error) error { return &FaultError{true, err} }

func unfit(err error) error { return &FaultError{false, err} }

package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/penstock/penstock/internal/node"
)

// Config has all settings of a command: a node's Config, and those of the log.
type Config struct {
	node.Config
	LogLevel  string
	LogFormat string
}

func defaultConfig() Config {
	cfg := Config{Config: node.DefaultConfig(), LogLevel: "info", LogFormat: "text"}
	cfg.Version = version()
	return cfg
}

// setting is one value that flags, environment and file can set: key is the name of its flag and
// its YAML key. Its environment variable is PENSTOCK_ and the key, in capitals with underscores.
type setting struct {
	key    string
	help   string
	value  func(*Config) any // a pointer to string, []string, bool, int or time.Duration
	secret bool              // it has no flag, because the process list would show it
}

// allSettings is the one table behind flags, environment, file and `config check`.
func allSettings() []setting {
	return slices.Concat(processSettings(), loginSettings(), serverSettings(), eventSettings(), saleSettings())
}

// processSettings are about the process: its listeners, its data directory and its log.
func processSettings() []setting {
	return []setting{
		{key: "listen", value: func(c *Config) any { return &c.Listen },
			help: "address of the public listener; port 0 picks a free one"},
		{key: "admin-listen", value: func(c *Config) any { return &c.AdminListen },
			help: "address of the admin listener; port 0 picks a free one"},
		{key: "tls-cert", value: func(c *Config) any { return &c.ListenTLS.Cert },
			help: "PEM file with the public listener's certificate and its intermediate certificates; read again every second"},
		{key: "tls-key", value: func(c *Config) any { return &c.ListenTLS.Key },
			help: "PEM file with the key of --tls-cert"},
		{key: "admin-tls-cert", value: func(c *Config) any { return &c.AdminTLS.Cert },
			help: "PEM file with the admin listener's certificate and its intermediate certificates"},
		{key: "admin-tls-key", value: func(c *Config) any { return &c.AdminTLS.Key },
			help: "PEM file with the key of --admin-tls-cert"},
		{key: "data-dir", value: func(c *Config) any { return &c.DataDir },
			help: "directory of the embedded parts, for one process at a time; on real servers, it keeps the last catalog and settings, for " +
				"starts without the database"},
		{key: "durable", value: func(c *Config) any { return &c.Durable },
			help: "embedded parts: sync every write to disk, so that it survives a power loss, too; slower"},
		{key: "admin-token", value: func(c *Config) any { return &c.AdminToken }, secret: true,
			help: "admin token of this configuration; default: the first start creates one"},
		{key: "secrets-key", value: func(c *Config) any { return &c.SecretsKey }, secret: true,
			help: "keys that encrypt payment secrets at rest, as in --secrets-key-file, separated by commas"},
		{key: "secrets-key-file", value: func(c *Config) any { return &c.SecretsKeyFile },
			help: "file with the keys that encrypt payment secrets at rest, one a line: 32 bytes in base64; the first encrypts, all decrypt; " +
				"the embedded parts create a file in --data-dir"},
		{key: "open-metrics", value: func(c *Config) any { return &c.OpenMetrics },
			help: "serve /metrics on the admin listener without a token"},
		{key: "log-level", value: func(c *Config) any { return &c.LogLevel },
			help: "debug, info, warn or error"},
		{key: "log-format", value: func(c *Config) any { return &c.LogFormat },
			help: "text or json"},
		{key: "drain-delay", value: func(c *Config) any { return &c.Gateway.DrainDelay },
			help: "when the process stops: how long it still accepts connections after /readyz has changed to 503, so that load balancers notice"},
		{key: "shutdown-timeout", value: func(c *Config) any { return &c.ShutdownTimeout },
			help: "when the process stops: how long the requests in flight may take"},
		{key: "wait", value: func(c *Config) any { return &c.Wait },
			help: "how long migrate waits for a database that can't be reached; the other commands start without it"},
		{key: "trusted-proxies", value: func(c *Config) any { return &c.TrustedProxies },
			help: "addresses or networks of the proxies in front, separated by commas; their X-Forwarded-For is trusted"},
		{key: "webhook-networks", value: func(c *Config) any { return &c.WebhookNetworks },
			help: "private networks in which receivers of webhooks may be, separated by commas; http is allowed there, too"},
		{key: "max-connections", value: func(c *Config) any { return &c.Gateway.MaxConnections },
			help: "open connections of the public listener; 0 is half of the file limit (ulimit -n), at most 65536"},
		{key: "max-connections-per-address", value: func(c *Config) any { return &c.Gateway.MaxPerAddress },
			help: "open connections of one client address (IPv6: one /64), except trusted proxies; 0 is half of --max-connections, and at least 64"},
		{key: "max-in-flight", value: func(c *Config) any { return &c.Gateway.MaxInFlight },
			help: "requests that the public listener serves at once; more are answered 503 overloaded; 0 is 7/8 of --max-connections, at most 8192"},
		{key: "probe-every", value: func(c *Config) any { return &c.ProbeEvery },
			help: "how often a gateway tests its own public listener with a purchase that takes nothing; 0 never"},
		{key: "objective-availability", value: func(c *Config) any { return &c.Objectives.Availability },
			help: "objective: percent of purchases that must not fail; the rest, up to 100, is the error budget"},
		{key: "objective-latency", value: func(c *Config) any { return &c.Objectives.Latency },
			help: "objective: time within which 99.9 % of the accepted purchases must be answered"},
		{key: "otlp-endpoint", value: func(c *Config) any { return &c.Trace.Endpoint },
			help: "URL of an OpenTelemetry collector (OTLP over HTTP), like http://collector:4318; default: no tracing"},
		{key: "trace-sample", value: func(c *Config) any { return &c.Trace.Sample },
			help: "share of requests that are traced, 0 to 1; a traceparent of the request decides first"},
		{key: "shed-rate", value: func(c *Config) any { return &c.ShedRate },
			help: "refusals per second (503 overloaded, 429, 401) that are sent without delay; further ones are delayed; 0 is 2000 per processor"},
	}
}

// loginSettings are about people that log in to the admin listener.
func loginSettings() []setting {
	return []setting{
		{key: "oidc-issuer", value: func(c *Config) any { return &c.Login.Issuer },
			help: "OpenID provider by which people log in to the admin listener, like https://login.example.com/realms/shop"},
		{key: "oidc-client-id", value: func(c *Config) any { return &c.Login.ClientID },
			help: "client id of Penstock at --oidc-issuer"},
		{key: "oidc-client-secret", value: func(c *Config) any { return &c.Login.ClientSecret }, secret: true,
			help: "client secret of Penstock at --oidc-issuer; default: none, PKCE alone"},
		{key: "oidc-redirect-url", value: func(c *Config) any { return &c.Login.RedirectURL },
			help: "full URL of the admin listener's /login/callback, as browsers reach it"},
		{key: "oidc-groups-claim", value: func(c *Config) any { return &c.Login.GroupsClaim },
			help: "claim of the ID token that lists a person's groups"},
		{key: "oidc-scopes", value: func(c *Config) any { return &c.Login.Scopes },
			help: "scopes to ask for beside openid, separated by commas"},
		{key: "oidc-roles", value: func(c *Config) any { return &c.Login.Roles },
			help: "roles of groups, as group=role or group=role@merchant, separated by commas; a person with several roles has the strongest one"},
		{key: "oidc-session", value: func(c *Config) any { return &c.Login.Session },
			help: "how long a login lasts; also the login with a token"},
		{key: "admin-hosts", value: func(c *Config) any { return &c.AdminHosts },
			help: "host names by which browsers reach the admin listener, separated by commas; IP addresses and localhost are always allowed"},
	}
}

// serverSettings are about the real servers.
func serverSettings() []setting {
	return []setting{
		{key: "redis", value: func(c *Config) any { return &c.Redis },
			help: "host:port of Redis, or of its Sentinels or Cluster nodes, separated by commas"},
		{key: "redis-master", value: func(c *Config) any { return &c.RedisMaster },
			help: "name of the primary at the Sentinels; --redis then names the Sentinels"},
		{key: "redis-username", value: func(c *Config) any { return &c.RedisUser },
			help: "user for Redis"},
		{key: "redis-password", value: func(c *Config) any { return &c.RedisSecret }, secret: true,
			help: "password for Redis"},
		{key: "redis-sentinel-username", value: func(c *Config) any { return &c.SentinelUser },
			help: "user for the Sentinels"},
		{key: "redis-sentinel-password", value: func(c *Config) any { return &c.SentinelSecret }, secret: true,
			help: "password for the Sentinels"},
		{key: "redis-min-replicas", value: func(c *Config) any { return &c.MinReplicas },
			help: "replicas that must be connected when a shard is closed or opened; at least 1 if a replica may be promoted"},
		{key: "redis-replica-lag", value: func(c *Config) any { return &c.Sale.ReplicaLag },
			help: "how long a replaced primary may still take writes: the min-replicas-max-lag of Redis; 0 for a single Redis"},
		{key: "redis-tls", value: func(c *Config) any { return &c.RedisTransport.TLS },
			help: "use TLS to Redis and its Sentinels"},
		{key: "redis-ca", value: func(c *Config) any { return &c.RedisTransport.CA },
			help: "PEM file with the CA for Redis; default: the system's CAs"},
		{key: "redis-cert", value: func(c *Config) any { return &c.RedisTransport.Cert },
			help: "PEM file with the client certificate for Redis; read again for each connection"},
		{key: "redis-key", value: func(c *Config) any { return &c.RedisTransport.Key },
			help: "PEM file with the key of --redis-cert"},
		{key: "kafka", value: func(c *Config) any { return &c.Kafka },
			help: "host:port of some Kafka brokers, separated by commas"},
		{key: "kafka-topic", value: func(c *Config) any { return &c.KafkaTopic },
			help: "topic of the accepted orders; created if missing"},
		{key: "kafka-partitions", value: func(c *Config) any { return &c.Partitions },
			help: "partitions of the topic when it is created"},
		{key: "kafka-replication", value: func(c *Config) any { return &c.Replication },
			help: "replicas of the topic when it is created; 0 is three, or the number of brokers if that is less"},
		{key: "kafka-tls", value: func(c *Config) any { return &c.KafkaTransport.TLS },
			help: "use TLS to the Kafka brokers"},
		{key: "kafka-ca", value: func(c *Config) any { return &c.KafkaTransport.CA },
			help: "PEM file with the CA for Kafka; default: the system's CAs"},
		{key: "kafka-cert", value: func(c *Config) any { return &c.KafkaTransport.Cert },
			help: "PEM file with the client certificate for the brokers; read again for each connection"},
		{key: "kafka-key", value: func(c *Config) any { return &c.KafkaTransport.Key },
			help: "PEM file with the key of --kafka-cert"},
		{key: "kafka-sasl", value: func(c *Config) any { return &c.KafkaSASL },
			help: "SASL login to the brokers: plain, scram-sha-256 or scram-sha-512; default: no login"},
		{key: "kafka-username", value: func(c *Config) any { return &c.KafkaUser },
			help: "user for --kafka-sasl"},
		{key: "kafka-password", value: func(c *Config) any { return &c.KafkaSecret }, secret: true,
			help: "password for --kafka-sasl"},
		{key: "drop-ended-after", value: func(c *Config) any { return &c.DropAfter },
			help: "PostgreSQL: drop ended activities with their orders after this time; 0 keeps them"},
		{key: "database", value: func(c *Config) any { return &c.Database },
			help: "PostgreSQL, as postgres://user:password@host:port/name?sslmode=verify-full&sslrootcert=FILE"},
		{key: "keep-schema", value: func(c *Config) any { return &c.KeepSchema },
			help: "don't migrate the database's schema at the start, and refuse an older one; penstock migrate updates it"},
	}
}

// eventSettings are about events for other systems.
func eventSettings() []setting {
	return []setting{
		{key: "events", value: func(c *Config) any { return &c.Announce.Events },
			help: "on or off: publish stock status and order events to Kafka for other systems; on real servers only"},
		{key: "events-source", value: func(c *Config) any { return &c.Announce.Source },
			help: "ce_source of these events: a URI reference that names this installation"},
		{key: "stock-status-topic", value: func(c *Config) any { return &c.Announce.StockTopic },
			help: "topic of the stock status; created if missing"},
		{key: "order-events-topic", value: func(c *Config) any { return &c.Announce.OrderTopic },
			help: "topic of the order events; created if missing"},
	}
}

// saleSettings are about the sale: sizes, and times. Every process of an installation must have the
// same times.
func saleSettings() []setting {
	return []setting{
		{key: "slots", value: func(c *Config) any { return &c.Slots },
			help: "purchases that may wait at once until Kafka has acknowledged them; further ones are refused"},
		{key: "max-known", value: func(c *Config) any { return &c.MaxKnown },
			help: "holds to remember, so that purchases can be refused from memory, over all shards; about 2.5 bytes each"},
		{key: "shards", value: func(c *Config) any { return &c.Shards },
			help: "shards of the installation, fixed when its database is created; 0 is 16, and 4 for the embedded parts"},
		{key: "queue", value: func(c *Config) any { return &c.Sale.Queue },
			help: "requests that may wait for a batch at once, of each kind: purchases, status reads, cancels, payments"},
		{key: "accept-deadline", value: func(c *Config) any { return &c.Sale.AcceptDeadline },
			help: "how long after its arrival a purchase may still be accepted"},
		{key: "sweep-age", value: func(c *Config) any { return &c.Sale.SweepAge },
			help: "how long a hold stays without an order before the sweeper decides it"},
		{key: "tick", value: func(c *Config) any { return &c.Sale.Tick },
			help: "how often the background work looks for changes"},
		{key: "retention", value: func(c *Config) any { return &c.Sale.Retention },
			help: "how long idempotency keys are remembered after an activity's end"},
		{key: "batch-cap", value: func(c *Config) any { return &c.Sale.BatchCap },
			help: "most entries of one database statement or one stock call"},
		{key: "store-timeout", value: func(c *Config) any { return &c.Sale.StoreTimeout },
			help: "how long one database batch may take"},
	}
}

// env returns the name of the setting's environment variable.
func (s setting) env() string {
	return "PENSTOCK_" + strings.ToUpper(strings.ReplaceAll(s.key, "-", "_"))
}

// set parses text into the setting's value.
func (s setting) set(c *Config, text string) error {
	switch p := s.value(c).(type) {
	case *string:
		*p = text
		return nil
	case *[]string:
		*p = nil
		for _, part := range strings.Split(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p = append(*p, part)
			}
		}
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not true or false", s.key, text)
		}
		*p = b
	case *int:
		digits := strings.ReplaceAll(text, "_", "")
		n, err := strconv.Atoi(digits)
		if err != nil || len(digits) > 1 && digits[0] == '0' { // YAML 1.1 reads 010 as 8, so a leading zero is refused
			return fmt.Errorf("%s: %q is not a whole number", s.key, text)
		}
		*p = n
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not a duration like 500ms, 30s or 15m", s.key, text)
		}
		*p = d
	default:
		return fmt.Errorf("%s: a setting of type %T", s.key, p)
	}
	return nil
}

// addConfigFlags declares --config and a flag for every setting that may have one. loadConfig
// applies the values: flags win over the environment, and the environment over the file.
func addConfigFlags(flags *pflag.FlagSet) {
	defaults := defaultConfig()
	flags.String("config", "", "YAML file of settings (environment: PENSTOCK_CONFIG)")
	for _, s := range allSettings() {
		if s.secret {
			continue
		}
		help := s.help + " (environment: " + s.env() + ")"
		switch p := s.value(&defaults).(type) {
		case *string:
			flags.String(s.key, *p, help)
		case *[]string:
			flags.String(s.key, strings.Join(*p, ","), help)
		case *bool:
			flags.Bool(s.key, *p, help)
		case *int:
			flags.Int(s.key, *p, help)
		case *time.Duration:
			flags.Duration(s.key, *p, help)
		}
	}
}

// loadConfig reads file, environment and flags, in that order, over the defaults. The error has one
// line per mistake.
func loadConfig(flags *pflag.FlagSet, environ func(string) string) (Config, error) {
	config := defaultConfig()
	file := environ("PENSTOCK_CONFIG")
	if f := flags.Lookup("config"); f != nil && f.Changed {
		file = f.Value.String()
	}
	var errs []error
	origin := make(map[string]string) // where each key was set
	if file != "" {
		errs = append(errs, applyFile(&config, file, origin)...)
	}
	for _, s := range allSettings() {
		if text := environ(s.env()); text != "" {
			origin[s.key] = "environment " + s.env()
			if err := s.set(&config, text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", origin[s.key], err))
			}
		}
	}
	for _, s := range allSettings() {
		if f := flags.Lookup(s.key); f != nil && f.Changed {
			origin[s.key] = "flag --" + s.key
			if err := s.set(&config, f.Value.String()); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", origin[s.key], err))
			}
		}
	}
	// A value that couldn't be read is reported once. Its default is not checked and reported as
	// well.
	for _, err := range config.validate() {
		errs = append(errs, located(err, origin))
	}
	sortByLine(errs)
	return config, errors.Join(errs...)
}

// sortByLine puts mistakes of the file in the order of its lines, before the others.
func sortByLine(errs []error) {
	line := func(err error) int {
		_, rest, _ := strings.Cut(err.Error(), ":")
		number, _, _ := strings.Cut(rest, ":")
		if n, err := strconv.Atoi(number); err == nil {
			return n
		}
		return math.MaxInt
	}
	slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(line(a), line(b)) })
}

// located puts the place where the value was set in front of err. err begins with the value's key.
func located(err error, origin map[string]string) error {
	key, _, _ := strings.Cut(err.Error(), ":")
	if where, ok := origin[key]; ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	return err
}

// validate checks the values against each other, by the parts' own rules.
func (c *Config) validate() []error {
	errs := c.Mistakes()
	if _, err := parseLevel(c.LogLevel); err != nil {
		errs = append(errs, err)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		errs = append(errs, fmt.Errorf("log-format: %q is neither text nor json", c.LogFormat))
	}
	return errs
}

// suggestion names the known key that is nearest to name, if one is near enough.
func suggestion(name string, known map[string]setting) string {
	best, distance := "", min(len(name)/3+2, 4) // a longer name may have more typing mistakes
	for key := range known {
		if d := editDistance(name, key); d < distance || d == distance && key < best {
			best, distance = key, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// misspelt returns an error for an environment variable whose name is almost a setting's. Otherwise
// it would be ignored without a word. Other variables that begin with PENSTOCK_ are accepted:
// Kubernetes makes such ones for a service named penstock.
func misspelt(environ []string) error {
	plain := func(name string) string { return strings.ReplaceAll(name, "_", "") }
	settings, known := allSettings(), make(map[string]bool)
	for _, s := range settings {
		known[s.env()] = true
	}
	var errs []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "PENSTOCK_") || value == "" || known[name] {
			continue
		}
		for _, s := range settings {
			d := editDistance(plain(name), plain(s.env()))
			if d == 0 || d == 1 && len(s.key) >= shortestNear {
				errs = append(errs, fmt.Errorf("environment %s: unknown setting, did you mean %s?", name, s.env()))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// shortestNear is the length of the shortest key for which a similar name counts as a typing
// mistake. One letter can turn a shorter key into another word.
const shortestNear = 5

// editDistance is Levenshtein's distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock/penstock/inventory"
)

// Config configures the connection to the database, and its use. Open fills in the defaults.
type Config struct {
	// URL has the database's address and user:
	// postgres://user:password@host:port/name?sslmode=verify-full. It may have several hosts, with
	// target_session_attrs=read-write. Session settings in it win over those of this package.
	URL string

	// MaxConns is the most connections of a process; 10 by default. Calls come in batches, with one
	// in progress for each kind of call. A process that is gateway and worker has eight kinds, and
	// two connections are left for people. More connections would only wait for the same rows.
	MaxConns int

	// Shards is how many shards the installation has. It is fixed when the database is made: 16
	// where this is
	// 0. Open refuses a database that has another number.
	Shards int

	// KeepSchema makes Open refuse an older schema instead of migrating it.
	KeepSchema bool

	// OnMigrate is called before the schema is migrated, which may take long; nil is nobody.
	OnMigrate func()

	// Events keeps every step of every order for RelayEvents; without it there are no order events.
	// Default false.
	Events bool

	// AnswerTimeout is how long the server may be silent before it is asked, on another connection,
	// whether it is working on an answer. If it isn't, the connection counts as dead. 0 means 20 s,
	// twice the time that one statement may take. Statements that are known to take longer get more
	// time.
	AnswerTimeout time.Duration

	// Now replaces the database's clock in tests; nil, the default, asks the database.
	Now func() time.Time

	// Logger logs migrations and repeated transactions. Default: none.
	Logger *slog.Logger

	tracer pgx.QueryTracer // used by tests that check the plans of statements
}

const (
	defaultMaxConns = 10
	minMaxConns     = 4 // half of the calls may wait for the other half: see Store.keep
	maxMaxConns     = 1000

	defaultAnswerTimeout = 20 * time.Second

	connectTimeout = 5 * time.Second
)

// sessionSettings are the session settings of this package, each with its reason. Settings in the
// URL override them.
var sessionSettings = map[string]string{
	"application_name": "penstock",
	// An acknowledged commit must survive, because the queue then forgets the records.
	"synchronous_commit": "on",
	// L8. A statement is a batch and takes milliseconds. If it waits for a row, it waits for one
	// other batch.
	"statement_timeout": "10s",
	"lock_timeout":      "5s",
	// A process that stops in the middle of a transaction must not keep an item's row for long.
	"idle_in_transaction_session_timeout": "20s",
	// A plan that was made while a partition was empty would still read the whole partition when it
	// has a million rows. Planning takes a tenth of a millisecond, and looks at one partition only.
	"plan_cache_mode": "force_custom_plan",
	"jit":             "off",
	// Batches look up hundreds of rows by their keys, in tables that are in memory or on an SSD.
	"random_page_cost": "1.1",
	// If a machine vanishes, its locks must be freed within half a minute.
	"tcp_keepalives_idle":     "10",
	"tcp_keepalives_interval": "5",
	"tcp_keepalives_count":    "3",
}

// Validate returns all mistakes in the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("url: missing"))
	} else if _, err := pgxpool.ParseConfig(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	if c.Shards < 0 || c.Shards > inventory.MaxShards {
		errs = append(errs, fmt.Errorf("shards: %d is not between 1 and %d", c.Shards, inventory.MaxShards))
	}
	if c.AnswerTimeout < 0 {
		errs = append(errs, fmt.Errorf("answer-timeout: %v is below zero", c.AnswerTimeout))
	}
	if c.MaxConns != 0 && (c.MaxConns < minMaxConns || c.MaxConns > maxMaxConns) {
		errs = append(errs, fmt.Errorf("max-conns: %d is not between %d and %d", c.MaxConns, minMaxConns, maxMaxConns))
	}
	return errors.Join(errs...)
}

// pool returns the pool's configuration.
func (c *Config) pool() (*pgxpool.Config, error) {
	p, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, err
	}
	prepare(p.ConnConfig)
	p.ConnConfig.Tracer = c.tracer
	p.PingTimeout = connectTimeout // for a connection that was idle, because it may be dead, too
	switch {
	case c.MaxConns != 0:
		p.MaxConns = int32(c.MaxConns)
	case !strings.Contains(c.URL, "pool_max_conns="):
		p.MaxConns = defaultMaxConns
	default:
		p.MaxConns = max(p.MaxConns, minMaxConns)
	}
	return p, nil
}

// prepare adds the session's settings that the URL leaves open.
func prepare(c *pgx.ConnConfig) {
	for name, value := range sessionSettings {
		if _, ok := c.RuntimeParams[name]; !ok {
			c.RuntimeParams[name] = value
		}
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
}

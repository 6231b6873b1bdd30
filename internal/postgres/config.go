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

	// MaxConns is how many connections a process has at most; 10 by default. Calls come in batches,
	// one in flight for each kind of call. A process that is gateway and worker has eight kinds,
	// and two connections are left for people. More connections would only wait for the same rows.
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

	// AnswerTimeout is how long the server may say nothing before it is asked, on another
	// connection, whether it is at work on an answer; where it is not, the connection counts as
	// dead. 0 is 20 s, twice what one statement may take. Statements that are known to take longer
	// have their time on top.
	AnswerTimeout time.Duration

	// Now stands in for the database's clock in tests; nil, the default, asks the database.
	Now func() time.Time

	// Logger logs migrations and repeated transactions. Default: none.
	Logger *slog.Logger

	tracer pgx.QueryTracer // tests check the plans of its statements
}

const (
	defaultMaxConns = 10
	minMaxConns     = 4 // half of them may wait for the other half: see Store.keep
	maxMaxConns     = 1000

	defaultAnswerTimeout = 20 * time.Second

	connectTimeout = 5 * time.Second
)

// sessionSettings are the session settings of this package, each with its reason. Settings in the
// URL override them.
var sessionSettings = map[string]string{
	"application_name": "penstock",
	// A commit that was acknowledged must survive: the queue forgets the records of it.
	"synchronous_commit": "on",
	// L8. A statement is a batch and takes milliseconds; one that waits for a row waits for a batch
	// before it.
	"statement_timeout": "10s",
	"lock_timeout":      "5s",
	// A process that stops in mid-transaction must not keep an item from the others.
	"idle_in_transaction_session_timeout": "20s",
	// A plan that was made while a partition was empty would read all of it, batch after batch,
	// when it has a million rows. Planning takes a tenth of a millisecond, and looks at one
	// partition only.
	"plan_cache_mode": "force_custom_plan",
	"jit":             "off",
	// Batches look hundreds of rows up by their keys, in tables that are in memory or on an SSD.
	"random_page_cost": "1.1",
	// A machine that vanished is noticed within half a minute, and its locks are free.
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
	p.PingTimeout = connectTimeout // of a connection that was idle: it may be dead, too
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

package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock/penstock/seckill"
)

// Errors of Open about a database.
var (
	// ErrNewerSchema means that a newer binary has migrated the database. This one leaves it alone.
	ErrNewerSchema = errors.New("the database has a newer schema than this program knows")
	// ErrOlderSchema means that the database has to be migrated first, and KeepSchema forbids that.
	ErrOlderSchema = errors.New("the database has an older schema than this program needs")
	// ErrServer means that this package doesn't support the server.
	ErrServer = errors.New("the server is not PostgreSQL 15 or later")
)

// minServerVersion is PostgreSQL 15, the oldest that this package is tested with.
const minServerVersion = 150000

// Open connects to the database and brings its schema up to date. If the database can't be reached,
// Open returns an error at once, for which Unreachable is true. seckill.ErrLayout means that the
// installation has another number of shards than the configuration.
func Open(ctx context.Context, config Config) (*Store, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if err := prepareSchema(ctx, &config); err != nil {
		return nil, describe("open the database", oneLine(err))
	}
	poolConfig, err := config.pool()
	if err != nil {
		return nil, describe("open the database", oneLine(err))
	}
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, describe("open the database", oneLine(err))
	}
	s := &Store{
		clock:  config.Now,
		events: config.Events,
		pool:   pool,
		log:    config.Logger,
		weeks:  newWeeks(),
		parked: make(chan struct{}, poolConfig.MaxConns/2),

		patience: cmp.Or(config.AnswerTimeout, defaultAnswerTimeout),
	}
	if err := s.readLayout(ctx, config.Shards); err != nil {
		pool.Close()
		return nil, oneLine(err)
	}
	return s, nil
}

// readLayout reads how many shards the installation has. If wanted is not 0, the number must be
// equal.
func (s *Store) readLayout(ctx context.Context, wanted int) error {
	return s.read(ctx, "open the database", func(ctx context.Context, p *pipe) error {
		if _, err := p.one(ctx, "SELECT shards FROM installation", nil, &s.shards); err != nil {
			return err
		}
		if wanted != 0 && wanted != s.shards {
			return fmt.Errorf("%w: the installation has %d shards, and not %d: that number is fixed when the database is made",
				seckill.ErrLayout, s.shards, wanted)
		}
		return nil
	})
}

// prepareSchema checks the schema, and migrates it if that is wanted and needed.
func prepareSchema(ctx context.Context, config *Config) error {
	current, err := schemaVersion(ctx, config.URL)
	if err != nil {
		return err
	}
	switch known := latestMigration(); {
	case current > known:
		return fmt.Errorf("%w: the database has version %d, this program knows up to %d",
			ErrNewerSchema, current, known)
	case current == known:
		return nil
	case config.KeepSchema:
		return fmt.Errorf("%w: the database has version %d, this program needs %d: run penstock migrate",
			ErrOlderSchema, current, known)
	}
	if config.OnMigrate != nil {
		config.OnMigrate()
	}
	applied, err := migrate(ctx, config.URL, config.Shards, config.Logger)
	for _, m := range applied {
		config.Logger.InfoContext(ctx, "schema migrated", "schema", m.Source.Version, "took", m.Duration)
	}
	if isState(err, insufficientPrivilege) {
		return fmt.Errorf("%w, and this role may not change it: run penstock migrate as its owner: %w",
			ErrOlderSchema, err)
	}
	return err
}

// schemaVersion returns the version of the database's schema, 0 if there is none. It changes
// nothing, and needs only the right to read.
func schemaVersion(ctx context.Context, url string) (version int64, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return 0, err
	}
	prepare(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var server int
	var migrated bool
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, to_regclass($1) IS NOT NULL", versionTable).
		Scan(&server, &migrated)
	switch {
	case err != nil:
		return 0, err
	case server < minServerVersion:
		return 0, fmt.Errorf("%w: its version is %d", ErrServer, server)
	case !migrated:
		return 0, nil
	}
	err = conn.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable+" WHERE is_applied").Scan(&version)
	return version, err
}

// lined is an error in one line: pgx writes one for every address that it tried.
type lined struct{ error }

// Error implements error.
func (l lined) Error() string {
	lines := strings.Fields(strings.ReplaceAll(l.error.Error(), "\n", " "))
	return strings.Join(lines, " ")
}

// Unwrap returns the error.
func (l lined) Unwrap() error { return l.error }

func oneLine(err error) error {
	if err == nil {
		return nil
	}
	return lined{err}
}

package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	migrationsDir = "migrations"
	versionTable  = "goose_db_version"

	// A process that migrates waits for another one, with a second between two looks, for as long
	// as a large migration may take.
	lockLooks = 600
)

// migrationNames returns the names of the migrations in their order.
func migrationNames() []string {
	names, err := fs.Glob(migrations, path.Join(migrationsDir, "*.sql"))
	if err != nil {
		panic(err) // the pattern is a constant
	}
	slices.Sort(names)
	return names
}

// migrationVersion reads the number that a migration's name begins with.
func migrationVersion(name string) int64 {
	number, _, _ := strings.Cut(path.Base(name), "_")
	version, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		panic(err) // our own files have valid names
	}
	return version
}

func latestMigration() int64 {
	names := migrationNames()
	return migrationVersion(names[len(names)-1])
}

// Migrate brings the schema of the database at url up to date and prints to out what it did. With
// dryRun it only prints what it would do. shards is the number of shards of a new installation; 0
// means 16. An existing installation keeps its number. Processes that migrate at the same time do
// it one after another.
func Migrate(ctx context.Context, url string, shards int, dryRun bool, out io.Writer) error {
	config := Config{URL: url, Shards: shards}
	if err := config.Validate(); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	current, err := schemaVersion(ctx, url)
	if err != nil {
		return describe("read the schema's version", oneLine(err))
	}
	known := latestMigration()
	switch {
	case current > known:
		return fmt.Errorf("%w: the database has version %d, this program knows up to %d", ErrNewerSchema, current, known)
	case current == known:
		_, err := fmt.Fprintf(out, "the schema is up to date: version %d\n", current)
		return err
	case dryRun:
		return printPending(out, current)
	}
	applied, err := migrate(ctx, url, shards, slog.New(slog.DiscardHandler))
	for _, m := range applied {
		_, printed := fmt.Fprintf(out, "applied %s in %v\n", path.Base(m.Source.Path), m.Duration.Round(time.Millisecond))
		err = errors.Join(err, printed)
	}
	if err == nil && len(applied) == 0 { // another process was faster
		_, err = fmt.Fprintf(out, "the schema is up to date: version %d\n", known)
	}
	return err
}

// printPending prints the migrations above a version, as they would be run.
func printPending(out io.Writer, current int64) error {
	for _, name := range migrationNames() {
		if migrationVersion(name) <= current {
			continue
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "-- would apply %s\n%s", path.Base(name), text); err != nil {
			return err
		}
	}
	return nil
}

// migrate applies the pending migrations under a lock of the database, which is freed when the
// process dies.
func migrate(ctx context.Context, url string, shards int, log *slog.Logger) (applied []*goose.MigrationResult, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	prepare(config)
	config.RuntimeParams["statement_timeout"] = "0" // building an index on a large table takes long
	if shards != 0 {
		config.RuntimeParams["penstock.shards"] = strconv.Itoa(shards)
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	dir, err := fs.Sub(migrations, migrationsDir)
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockLooks))
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, dir,
		goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker), goose.WithSlog(log), goose.WithTableName(versionTable))
	if err != nil {
		return nil, err
	}
	applied, err = provider.Up(ctx)
	if err != nil {
		return applied, fmt.Errorf("migrate the schema to version %d: %w", latestMigration(), err)
	}
	return applied, nil
}

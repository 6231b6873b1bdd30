package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	sqldriver "database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Errors of Open about a file.
var (
	// ErrNewerSchema means that a newer binary has written the file. This one leaves it alone.
	ErrNewerSchema = errors.New("the database has a newer schema than this program knows")
	// ErrMissing means that there is no database, or an empty one, although there must be one.
	ErrMissing = errors.New("the database is gone")
	// ErrCorrupt means that the file is not a database, or belongs to another program, or is
	// damaged. Reads and writes may find that, too.
	ErrCorrupt = errors.New("the file is damaged or no Penstock database")
)

// applicationID is in the file's header and marks our databases: "Pstk".
const applicationID = 0x5073746b

// maxLoads is how many shards are loaded at once; more wait. Loads have connections of their own,
// because a snapshot keeps its connection until it is loaded, and buyers' reads must not wait for
// that.
const maxLoads = 4

// Open opens the database, makes it if there is none, and brings its schema up to date.
func Open(ctx context.Context, config Config) (*Store, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	config = config.withDefaults()
	what := "open database " + config.Path
	path, err := prepareFile(config.Path, config.Existing)
	if err != nil {
		return nil, describe(what, err)
	}
	write, err := config.connector(dsn(path, writerPragmas(config.Synchronous)))
	if err != nil {
		return nil, describe(what, err)
	}
	read, err := config.connector(dsn(path, readerPragmas))
	if err != nil {
		return nil, describe(what, err)
	}
	s := &Store{
		clock:  config.Now,
		events: config.Events,
		writer: newWriter(sql.OpenDB(write)),
		pool:   sql.OpenDB(read),
		loads:  sql.OpenDB(read),
		shards: config.Shards,
	}
	s.pool.SetMaxOpenConns(config.Readers)
	s.pool.SetMaxIdleConns(config.Readers)
	s.loads.SetMaxOpenConns(maxLoads)
	s.loads.SetMaxIdleConns(1)
	s.readers = newStatements(s.pool.PrepareContext)
	if err := s.prepareSchema(ctx, config); err != nil {
		return nil, errors.Join(describe(what, err), s.Close())
	}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(describe(what, err), s.Close())
	}
	return s, nil
}

// connector returns how connections are opened.
func (c *Config) connector(dsn string) (sqldriver.Connector, error) {
	if c.Connect != nil {
		return c.Connect(dsn, driver.NewConnector)
	}
	return driver.NewConnector(dsn)
}

// prepareFile makes the file if there is none, unless it must exist. It is readable by its owner
// only, because it has payment secrets; SQLite gives its log the same mode. An existing file is not
// opened here, because closing it would drop the locks that SQLite has on it for another store of
// this process.
func prepareFile(path string, existing bool) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return "", errors.New("not a regular file")
	case err == nil:
		return path, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	case existing:
		return "", fmt.Errorf("%w: there is no such file", ErrMissing)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return path, nil
	case err != nil:
		return "", err
	}
	return path, file.Close()
}

// writerPragmas are the writer's settings.
func writerPragmas(synchronous string) []string {
	return []string{
		// Only one process writes the file. But a person with a shell, or a backup, may lock it for
		// a moment.
		"busy_timeout(5000)",
		// Readers don't wait for the writer, and a commit is one append.
		"journal_mode(WAL)",
		"synchronous(" + synchronous + ")",
		// Callers, activities, items and stock refer to what exists. Orders have no reference,
		// because Accept has their stock row already, and a check for each order would cost time.
		"foreign_keys(1)",
		// A row that is replaced is deleted first, so the triggers of append-only tables see it.
		"recursive_triggers(1)",
		// Orders arrive in the order of a hash, so a batch touches a page per order. 64 MiB hold
		// the inner pages and the hot leaves of a million orders.
		"cache_size(-65536)",
		// Batch after batch writes the same pages. With a checkpoint every 16,000 pages (64 MiB)
		// instead of 1,000, a page is copied once instead of sixteen times. The limit gives the
		// space back after a burst.
		"wal_autocheckpoint(16000)",
		"journal_size_limit(67108864)",
		// No memory map: there, an I/O error would be a SIGBUS that kills the process, and not an
		// error of one call.
		"mmap_size(0)",
		"temp_store(MEMORY)",
	}
}

// readerPragmas are the settings of each reader. A reader that writes is a bug.
var readerPragmas = []string{"busy_timeout(5000)", "cache_size(-16384)", "mmap_size(0)", "temp_store(MEMORY)", "query_only(1)"}

// dsn makes a URI: a plain name would be cut at its first question mark.
func dsn(path string, pragmas []string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a path with a Windows drive
	}
	// _dqs=0: a misspelt column is an error, not a string.
	query := url.Values{"_pragma": pragmas, "_dqs": {"0"}, "_error_rc": {"1"}}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}).String()
}

// prepareSchema checks that the file is ours, and migrates it.
func (s *Store) prepareSchema(ctx context.Context, config Config) error {
	if err := s.identify(ctx, config.Existing); err != nil {
		return err
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer.db, dir,
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(config.Logger))
	if err != nil {
		return err
	}
	current, known, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if current > known {
		return fmt.Errorf("%w: the file has version %d, this program knows up to %d", ErrNewerSchema, current, known)
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate the schema from version %d to %d: %w", current, known, err)
	}
	for _, migration := range applied {
		config.Logger.InfoContext(ctx, "schema migrated", "schema", migration.Source.Version, "took", migration.Duration)
	}
	return nil
}

// identify refuses a file that isn't ours, and marks a new one. A reader looks first: the writer's
// connection would make the other program's file a WAL database.
func (s *Store) identify(ctx context.Context, existing bool) error {
	var id, tables int64
	err := s.pool.QueryRowContext(ctx,
		"SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)").Scan(&id, &tables)
	switch {
	case err != nil:
		return err
	case tables == 0 && existing:
		return fmt.Errorf("%w: the file is empty; what was written last is in the file beside it, whose name ends with -wal", ErrMissing)
	case id == applicationID:
		return nil
	case id != 0 || tables != 0:
		return fmt.Errorf("%w: it is another program's (application id %#x, %d tables and indexes)", ErrCorrupt, id, tables)
	}
	_, err = s.writer.db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	return err
}

// begin makes the installation if there is none, and begins a new incarnation of the database.
func (s *Store) begin(ctx context.Context) error {
	s.incarnation = rand.Text()
	return s.inTurn(ctx, func(ctx context.Context, tx *transaction) error {
		var shards int
		found, err := one(ctx, tx, "SELECT shards FROM installation", nil, &shards)
		switch {
		case err != nil:
			return err
		case found && shards != s.shards:
			return fmt.Errorf("%w: shards: the database was made with %d, the setting is %d; the number can't be changed",
				seckill.ErrLayout, shards, s.shards)
		case !found:
			err = tx.makeInstallation(ctx)
		}
		if err != nil {
			return err
		}
		_, err = one(ctx, tx, "UPDATE installation SET incarnation = lineage || '.' || ? RETURNING incarnation",
			[]any{s.incarnation}, &s.incarnation)
		if err != nil {
			return err
		}
		_, err = tx.exec(ctx, "DELETE FROM dropped_activities")
		return err
	})
}

func (tx *transaction) makeInstallation(ctx context.Context) error {
	_, err := tx.exec(ctx, "INSERT INTO installation (one, shards, lineage, incarnation) VALUES (1, ?, ?, '')",
		tx.shards, rand.Text())
	if err != nil {
		return err
	}
	ids := make([]inventory.ShardID, tx.shards)
	for i := range ids {
		ids[i] = inventory.ShardID(i)
	}
	bind := func(args []any, id *inventory.ShardID) []any { return append(args, int64(*id)) }
	if err := insert(ctx, tx.statements, "INSERT INTO shards (id) VALUES {(?)}", ids, bind); err != nil {
		return err
	}
	return insert(ctx, tx.statements, "INSERT INTO shard_digests (shard) VALUES {(?)}", ids, bind)
}

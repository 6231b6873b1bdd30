package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/seckill"
)

var _ seckill.Store = (*Store)(nil)

// ErrClosed is the answer of a store that was closed.
var ErrClosed = errors.New("the store is closed")

// Store is a seckill.Store on one SQLite file. It is safe for concurrent use within a process.
type Store struct {
	// fixed after Open
	clock   func() time.Time
	events  bool
	writer  *writer
	pool    *sql.DB     // readers
	readers *statements // of pool
	loads   *sql.DB     // readers for snapshots of shards, which may take long
	shards  int
	// incarnation is random per Open: this process has the file alone, so a life of it is a life of
	// the database.
	incarnation string

	calls wait.Calls

	relaying sync.Mutex // held by the RelayEvents in progress

	members members // nodes that use the settings

	locks stockLocks // rows that a test or a simulation locks
}

// now reads the database's clock, to the precision that the file keeps.
func (s *Store) now() time.Time { return fromMicros(s.clock().UnixMicro()) }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// Close waits for the calls in progress and closes the file; its write-ahead log is folded in.
// Closing twice is fine.
func (s *Store) Close() error {
	first := s.calls.Close()
	s.writer.turn <- struct{}{}
	defer func() { <-s.writer.turn }()
	if !first {
		return nil
	}
	s.readers.close()
	// The writer closes last: the last connection of a file folds the log in, and a reader may not
	// write.
	err := errors.Join(s.pool.Close(), s.loads.Close(), s.writer.drop(), s.writer.db.Close())
	return describe("close the database", err)
}

// read runs fn with the readers' prepared statements. Each query of fn sees a state of its own.
func (s *Store) read(ctx context.Context, what string, fn func(q *statements) error) error {
	if !s.calls.Enter() {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	return describe(what, fn(s.readers))
}

// snapshot runs queries that all see one state.
type snapshot struct{ tx *sql.Tx }

func (s snapshot) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return s.tx.QueryContext(ctx, text, args...)
}

func (s snapshot) queryShape(ctx context.Context, sh shape, args []any) (*sql.Rows, error) {
	return s.tx.QueryContext(ctx, sh.String(), args...)
}

// beginSnapshot pins the state that is committed now. The caller ends it.
func beginSnapshot(ctx context.Context, pool *sql.DB) (snapshot, error) {
	tx, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return snapshot{}, err
	}
	sn := snapshot{tx}
	var version int64
	// SQLite takes the snapshot with the first read, not with BEGIN.
	if _, err := one(ctx, sn, "SELECT version FROM catalog", nil, &version); err != nil {
		return snapshot{}, errors.Join(err, sn.end())
	}
	return sn, nil
}

func (s snapshot) end() error {
	err := s.tx.Rollback() // nothing was written
	if errors.Is(err, sql.ErrTxDone) {
		return nil // its context ended, and database/sql has rolled back
	}
	return err
}

// readSnapshot runs fn on one state.
func (s *Store) readSnapshot(ctx context.Context, what string, fn func(sn snapshot) error) error {
	return s.readState(ctx, s.pool, what, fn)
}

// readState runs fn on one state, with a connection of a pool.
func (s *Store) readState(ctx context.Context, pool *sql.DB, what string, fn func(sn snapshot) error) error {
	if !s.calls.Enter() {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	sn, err := beginSnapshot(ctx, pool)
	if err != nil {
		return describe(what, err)
	}
	return describe(what, errors.Join(fn(sn), sn.end()))
}

// describe wraps an error with what was attempted, and marks those that say that the file is
// damaged.
func describe(what string, err error) error {
	if err == nil {
		return nil
	}
	var failed *driver.Error
	if errors.As(err, &failed) {
		switch failed.Code() & 0xff {
		case codes.SQLITE_NOTADB, codes.SQLITE_CORRUPT:
			return fmt.Errorf("%s: %w: %w", what, ErrCorrupt, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock/seckill"
)

// writer is the one connection that writes. Its fields are guarded by turn.
type writer struct {
	turn chan struct{} // has a token while a call uses the writer; waiting calls get it in their order

	db         *sql.DB // at most one connection
	conn       *sql.Conn
	statements *statements
}

func newWriter(db *sql.DB) *writer {
	db.SetMaxOpenConns(1)
	return &writer{turn: make(chan struct{}, 1), db: db}
}

// connect makes the connection if there is none.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	w.conn, w.statements = conn, newStatements(conn.PrepareContext)
	return nil
}

// drop closes a connection whose state is unknown.
func (w *writer) drop() error {
	if w.conn == nil {
		return nil
	}
	w.statements.close()
	err := w.conn.Close()
	w.conn, w.statements = nil, nil
	return err
}

// transaction is a write in progress. Its statements run on the writer's connection.
type transaction struct {
	*statements
	now    time.Time // one reading of the clock for the whole transaction, made under the write lock
	events bool      // steps of orders are kept
	shards int       // of the installation
	locked map[seckill.StockKey]bool
}

// write runs fn in a transaction. The wait for the writer ends with ctx. A transaction that has
// begun runs to its end, which comes soon because its batch is bounded. If a commit were broken
// off, the caller would not know the outcome. Errors are wrapped with what.
func (s *Store) write(ctx context.Context, what string, fn func(ctx context.Context, tx *transaction) error) error {
	if !s.calls.Enter() {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	return describe(what, s.inTurn(ctx, fn))
}

// inTurn is write for a call that has entered.
func (s *Store) inTurn(ctx context.Context, fn func(context.Context, *transaction) error) error {
	if err := context.Cause(ctx); err != nil {
		return err // a select would choose at random
	}
	select {
	case s.writer.turn <- struct{}{}:
		defer func() { <-s.writer.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer: %w", context.Cause(ctx))
	}
	return s.transact(context.WithoutCancel(ctx), fn)
}

// transact must be called with the writer's turn.
func (s *Store) transact(ctx context.Context, fn func(context.Context, *transaction) error) (err error) {
	w := s.writer
	if err := w.connect(ctx); err != nil {
		return err
	}
	if _, err := w.statements.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return errors.Join(err, w.drop())
	}
	committed := false
	defer func() { // also when fn panics: the panic goes on, but the transaction doesn't
		if committed {
			return
		}
		// If the disk is full or broken, SQLite has rolled back already, and says so with an error.
		// A connection that could not be cleaned, for any reason, is not used again.
		if _, rollback := w.statements.exec(ctx, "ROLLBACK"); rollback != nil {
			err = errors.Join(err, w.drop())
		}
	}()
	if err := fn(ctx, &transaction{w.statements, s.now(), s.events, s.shards, s.locks.locked()}); err != nil {
		return err
	}
	if _, err := w.statements.exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return nil
}

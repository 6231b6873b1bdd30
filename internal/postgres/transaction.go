package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock/penstock/seckill"
)

const (
	begin         = "BEGIN ISOLATION LEVEL READ COMMITTED"
	beginRead     = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ"
	commit        = "COMMIT"
)

// pipe queues statements for a connection, and sends them in one round trip. The server runs them
// one after another, each on a snapshot of its own unless the transaction says otherwise: a
// statement that follows a wait for a lock sees what the lock's last holder has committed. After an
// error the rest is skipped.
type pipe struct {
	conn     *pgx.Conn
	batch    *pgx.Batch
	patience time.Duration // how long a flush waits for an answer before it asks whether one will come
	store    *Store
}

// newPipe makes a pipe.
func (s *Store) newPipe(conn *pgx.Conn) *pipe { return &pipe{conn, new(pgx.Batch), s.patience, s} }

// takesLong queues that each statement of the transaction may take up to d.
func (p *pipe) takesLong(d time.Duration) {
	p.patience += d
	p.exec("SELECT set_config('statement_timeout', $1, true)", strconv.FormatInt(d.Milliseconds(), 10))
}

// exec queues a statement without a result.
func (p *pipe) exec(text string, args ...any) { p.batch.Queue(text, args...) }

// each queues a query; scan is called for every row, at the next flush.
func (p *pipe) each(scan func(rows pgx.Rows) error, text string, args ...any) {
	p.batch.Queue(text, args...).Query(func(rows pgx.Rows) error { return eachRow(rows, scan) })
}

func eachRow(rows pgx.Rows, scan func(rows pgx.Rows) error) error {
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// lock is each for a query that locks stock rows. If a row stays locked too long, it returns
// ErrLocked.
func (p *pipe) lock(scan func(rows pgx.Rows) error, text string, args ...any) {
	p.batch.Queue(text, args...).Query(func(rows pgx.Rows) error {
		err := eachRow(rows, scan)
		if isState(err, lockNotAvailable) {
			return fmt.Errorf("%w: %w", seckill.ErrLocked, err)
		}
		return err
	})
}

// count queues a statement; at the next flush, n becomes the number of rows that it changed.
func (p *pipe) count(n *int64, text string, args ...any) {
	p.batch.Queue(text, args...).Exec(func(tag pgconn.CommandTag) error {
		*n = tag.RowsAffected()
		return nil
	})
}

// flush sends what is queued, and returns after all answers. If the connection is dead, it returns
// errSilent: see watch.
func (p *pipe) flush(ctx context.Context) error {
	if p.batch.Len() == 0 {
		return nil
	}
	batch := p.batch
	p.batch = new(pgx.Batch)
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := p.watch(within, cancel, batch.Len())
	err := p.conn.SendBatch(within, batch).Close()
	if ended(); err != nil && errors.Is(context.Cause(within), errSilent) {
		return fmt.Errorf("%w: %v", errSilent, err)
	}
	return err
}

// one runs a query and scans its only row into dest. It reports whether there was one.
func (p *pipe) one(ctx context.Context, text string, args []any, dest ...any) (bool, error) {
	found := false
	p.each(func(rows pgx.Rows) error {
		found = true
		return rows.Scan(dest...)
	}, text, args...)
	return found, p.flush(ctx)
}

// exists reports whether a query has a row.
func (p *pipe) exists(ctx context.Context, text string, args ...any) (bool, error) {
	found := false
	p.each(func(pgx.Rows) error {
		found = true
		return nil
	}, text, args...)
	return found, p.flush(ctx)
}

// change runs a statement and returns how many rows it changed.
func (p *pipe) change(ctx context.Context, text string, args ...any) (int64, error) {
	var n int64
	p.count(&n, text, args...)
	return n, p.flush(ctx)
}

// rollbackTimeout bounds a ROLLBACK, which never waits for a lock. A connection that is too slow
// for it is not used again.
const rollbackTimeout = time.Second

// rollback ends a transaction that has not ended, even after ctx has ended. If that fails, the pool
// drops the connection, and the server rolls back.
func (p *pipe) rollback(ctx context.Context) error {
	if p.conn.IsClosed() || p.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := p.conn.Exec(ctx, "ROLLBACK")
	return err
}

// atOneMoment reads what fn queues at one moment. fn may flush in between.
func (p *pipe) atOneMoment(ctx context.Context, fn func() error) error {
	p.exec(beginRead)
	err := fn()
	if err == nil {
		p.exec(commit)
		err = p.flush(ctx)
	}
	if err != nil {
		p.batch = new(pgx.Batch)
	}
	return errors.Join(err, p.rollback(ctx))
}

// transaction is a write in progress. Statements that are still queued when its function returns
// are sent with the commit, in one round trip.
type transaction struct {
	*pipe
	clock   func() time.Time // nil: the database's
	events  bool             // steps of orders are kept
	now     time.Time        // one reading of the clock, at the place of readClock among the statements
	version int64            // the catalog's version, after the flush of lockCatalog
	raised  bool             // version was raised
}

// readClock queues a reading of the clock. It comes after the statements that take locks, so that
// of two conflicting transactions the later one has the later time.
func (tx *transaction) readClock() {
	tx.each(func(rows pgx.Rows) error {
		if err := rows.Scan(&tx.now); err != nil {
			return err
		}
		if tx.clock != nil {
			tx.now = tx.clock()
		}
		tx.now = toMicros(tx.now)
		return nil
	}, "SELECT clock_timestamp()")
}

// toMicros returns a time with the precision of the database.
func toMicros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// write runs fn in a transaction, and again if the transaction conflicted with others. Errors are
// wrapped with what. After an error the transaction has usually not happened; if the connection
// broke during the commit, the outcome is unknown. So every method may be repeated.
func (s *Store) write(ctx context.Context, what string, fn func(ctx context.Context, tx *transaction) error) error {
	if !s.calls.Enter() {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	return describe(what, s.transact(ctx, what, fn))
}

// transact is write for a call that has entered.
func (s *Store) transact(ctx context.Context, what string, fn func(context.Context, *transaction) error) error {
	return s.retry(ctx, what, func() error { return s.try(ctx, fn) })
}

func (s *Store) try(ctx context.Context, fn func(context.Context, *transaction) error) (err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx := &transaction{pipe: s.newPipe(conn.Conn()), clock: s.clock, events: s.events}
	// This also happens when fn panics: the panic goes on, but the transaction doesn't.
	defer func() { err = errors.Join(err, tx.rollback(ctx)) }()
	tx.exec(begin)
	if err := fn(ctx, tx); err != nil {
		return err
	}
	tx.commit()
	return tx.flush(ctx)
}

// commit queues the commit, and checks the answer: the server answers the commit of a failed
// transaction with a ROLLBACK.
func (p *pipe) commit() {
	p.batch.Queue(commit).Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != commit {
			return fmt.Errorf("commit: the server answered %s", tag)
		}
		return nil
	})
}

const (
	maxTries   = 6
	firstPause = 2 * time.Millisecond
)

// retry calls f until it succeeds, fails finally, or has failed too often.
func (s *Store) retry(ctx context.Context, what string, f func() error) error {
	for try, pause := 1, firstPause; ; try, pause = try+1, 2*pause {
		err := f()
		s.noteRefusal(err)
		if isState(err, readOnlyTransaction) {
			// The open connections lead to a read-only server, such as a former primary after a
			// failover. New connections don't, if the URL names the other servers and has
			// target_session_attrs=read-write.
			s.pool.Reset()
		}
		fault := FaultOf(err)
		if fault == FaultInvariant {
			s.log.ErrorContext(ctx, "the database refused to break an invariant, please report this", "what", what, "err", err)
		}
		if try == maxTries || ctx.Err() != nil || fault != FaultAgain {
			return err
		}
		s.retries.Add(1)
		s.log.DebugContext(ctx, "transaction tried again", "what", what, "try", try, "err", err)
		timer := time.NewTimer(pause/2 + rand.N(pause)) // not all transactions retry at the same time
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// rowInto scans a query's row into dest.
func rowInto(dest ...any) func(pgx.Rows) error {
	return func(rows pgx.Rows) error { return rows.Scan(dest...) }
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/seckill"
)

var _ seckill.Store = (*Store)(nil)

// ErrClosed is the answer of a store that was closed.
var ErrClosed = errors.New("the store is closed")

// Store is a seckill.Store on a PostgreSQL database. It is safe for concurrent use, by any number
// of processes.
type Store struct {
	// Fixed after Open.
	clock  func() time.Time // nil means the database's
	events bool             // steps of orders are kept
	shards int              // of the installation
	pool   *pgxpool.Pool
	// patience is how long a flush waits for its answers.
	patience time.Duration
	log      *slog.Logger
	weeks    *weeks
	// parked has a token for each call that keeps a connection while another part works that may
	// call the store. There are fewer tokens than connections, so one connection is always left.
	parked chan struct{}

	retries  atomic.Int64
	refusals timing.Streak

	calls wait.Calls
}

// ShardCount returns the number of shards of the installation, which was fixed when the database
// was made.
func (s *Store) ShardCount() int { return s.shards }

// Stats are the store's counters since it was opened, and its current connections.
type Stats struct {
	Connections    int           // open connections
	InUse          int           // those of them that are in use
	MaxConnections int           // the most that may be open
	Waits          int64         // waits for a connection, because all were in use
	Waited         time.Duration // the time of all these waits
	Retries        int64         // transactions that conflicted with others and were tried again
}

// Stats returns the store's counters.
func (s *Store) Stats() Stats {
	p := s.pool.Stat()
	return Stats{
		Connections: int(p.TotalConns()), InUse: int(p.AcquiredConns()), MaxConnections: int(p.MaxConns()),
		Waits: p.EmptyAcquireCount(), Waited: p.EmptyAcquireWaitTime(), Retries: s.retries.Load(),
	}
}

// keep acquires a connection for a call that keeps it while another part works. The caller must
// have entered, and must call done.
func (s *Store) keep(ctx context.Context) (conn *pgxpool.Conn, done func(), err error) {
	select {
	case s.parked <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	conn, err = s.pool.Acquire(ctx)
	if err != nil {
		<-s.parked
		return nil, nil, err
	}
	return conn, func() { conn.Release(); <-s.parked }, nil
}

// Close waits for the calls in progress and closes the connections. Closing twice is fine.
func (s *Store) Close() error {
	if s.calls.Close() {
		s.pool.Close()
	}
	return nil
}

// read runs fn with a connection. Each statement of fn sees its own state.
func (s *Store) read(ctx context.Context, what string, fn func(ctx context.Context, p *pipe) error) error {
	if !s.calls.Enter() {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	return describe(what, s.query(ctx, what, fn))
}

// query is read for a call that has entered.
func (s *Store) query(ctx context.Context, what string, fn func(ctx context.Context, p *pipe) error) error {
	return s.retry(ctx, what, func() error {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		return fn(ctx, s.newPipe(conn.Conn()))
	})
}

// readSnapshot runs the statements that fn queues on one consistent state.
func (s *Store) readSnapshot(ctx context.Context, what string, fn func(p *pipe)) error {
	return s.read(ctx, what, func(ctx context.Context, p *pipe) error {
		return p.atOneMoment(ctx, func() error { fn(p); return nil })
	})
}

// describe wraps an error with what was attempted.
func describe(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

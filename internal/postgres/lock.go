package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/inventory"
)

// locks holds the rebuild locks of a process: session-level advisory locks, all on one connection of their own, which is
// there while one is held. The server frees them when the process or its machine is gone, or the connection breaks.
//
// In the last case two may believe that they have the lock, and nobody is told. That is safe, because the lock only saves
// work: each of the two has an epoch of its own from NextEpoch, the shard takes the higher one's close and refuses the
// other's, and Fence refuses an epoch below the item's.
type locks struct {
	config *pgx.ConnConfig

	turn chan struct{}                  // holds a token while somebody uses the fields below
	conn *pgx.Conn                      // nil while nothing is held
	held map[inventory.ItemID]*pgx.Conn // with the connection that took it: the server lets a session take a lock twice
}

// lockClass tells our advisory locks from those of others in the same database: "Pstk".
const lockClass = 0x5073746b

// lockTimeout bounds what is done with the turn. Taking and freeing an advisory lock waits for nobody.
const lockTimeout = 5 * time.Second

func newLocks(config *pgx.ConnConfig) *locks {
	return &locks{config: config.Copy(), turn: make(chan struct{}, 1), held: make(map[inventory.ItemID]*pgx.Conn)}
}

// LockItem implements seckill.StockStore.
func (s *Store) LockItem(ctx context.Context, item inventory.ItemID) (func(), bool, error) {
	what := fmt.Sprintf("lock item %d", item)
	if !s.enter() {
		return nil, false, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.leave()
	ok, err := s.locks.lock(ctx, item)
	if err != nil || !ok {
		return nil, false, describe(what, err)
	}
	return sync.OnceFunc(func() { s.locks.unlock(context.WithoutCancel(ctx), item) }), true, nil
}

// lock takes the item's lock; false means that somebody else has it.
func (l *locks) lock(ctx context.Context, item inventory.ItemID) (bool, error) {
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if l.held[item] != nil {
		return false, nil
	}
	// Not with the caller's context alone: where it ended in the middle, the connection would be closed, and other items'
	// locks with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	defer cancel()
	if l.conn == nil || l.conn.IsClosed() {
		conn, err := pgx.ConnectConfig(ctx, l.config)
		if err != nil {
			return false, err
		}
		l.conn = conn
	}
	var ok bool
	err := l.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", int32(lockClass), int32(item)).Scan(&ok)
	if err != nil {
		return false, errors.Join(err, l.drop(ctx))
	}
	if ok {
		l.held[item] = l.conn
	}
	return ok, l.rest(ctx)
}

// unlock frees a lock that lock has taken.
func (l *locks) unlock(ctx context.Context, item inventory.ItemID) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	conn := l.held[item]
	delete(l.held, item)
	if conn == nil || conn != l.conn || conn.IsClosed() {
		return // the server has freed it with its connection
	}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1, $2)", int32(lockClass), int32(item)); err != nil {
		_ = l.drop(ctx) // which frees it, too
		return
	}
	_ = l.rest(ctx) // the lock is free; a connection that can't say goodbye is gone
}

// rest closes the connection when nothing is held on it.
func (l *locks) rest(ctx context.Context) error {
	for _, conn := range l.held {
		if conn == l.conn {
			return nil
		}
	}
	return l.drop(ctx)
}

func (l *locks) drop(ctx context.Context) error {
	if l.conn == nil {
		return nil
	}
	conn := l.conn
	l.conn = nil
	return conn.Close(ctx)
}

// close frees all locks: a session is over when its connection is closed.
func (l *locks) close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.conn == nil || l.conn.IsClosed() {
		return nil
	}
	return l.conn.PgConn().Conn().Close()
}

// lockCatalog queues a lock that transactions which change the catalog by hand take first, until they end: they are few,
// and each sees what the one before has made. Orders, fences and stock changes don't take it.
func (tx *transaction) lockCatalog() {
	tx.exec("SELECT pg_advisory_xact_lock($1, 0)", int32(lockClass+1))
}

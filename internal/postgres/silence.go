package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errSilent means that a connection is silently dead: it gave no answer and will give none (L8).
// The calls on it may have happened.
var errSilent = errors.New("no answer from the database")

// lastWord is how long an answer may still be on its way after the server has finished.
const lastWord = time.Second

// watch watches a flush of n statements; call ended when the flush has returned. A silent server
// may only be slow, because it sends all answers together, and each statement may use its whole
// time. So when a flush has waited for its patience, the server is asked on another connection
// whether it is working on it. If it is, the flush goes on waiting, for as long as its statements
// may take together. If it isn't, the connection is dead: cancel ends the flush, and no connection
// of that age is used again.
func (p *pipe) watch(ctx context.Context, cancel context.CancelCauseFunc, n int) (ended func()) {
	pid, over := p.conn.PgConn().PID(), make(chan struct{})
	looked := make(chan struct{})
	first := time.AfterFunc(p.patience, func() {
		defer close(looked)
		for look := 1; ; look++ {
			if wait := p.patience; look > n || !p.store.isAtWork(ctx, pid) {
				if pauseFor(over, min(wait, lastWord)) {
					p.store.pool.Reset()
					cancel(errSilent)
				}
				return
			} else if !pauseFor(over, wait) {
				return
			}
		}
	})
	return func() {
		close(over)
		if !first.Stop() {
			cancel(nil) // ends a question in progress
			<-looked
		}
	}
}

// pauseFor waits for d, and returns false if over came first.
func pauseFor(over <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-over:
		return false
	case <-timer.C:
		return true
	}
}

// isAtWork asks the server whether it is working for a connection. A server that can't answer,
// because it has no room for the question, counts as working.
func (s *Store) isAtWork(ctx context.Context, pid uint32) bool {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	config := s.pool.Config().ConnConfig
	config.Tracer = nil
	conn, err := pgx.ConnectConfig(ctx, config)
	var answer *pgconn.PgError
	if err != nil {
		return errors.As(err, &answer)
	}
	defer func() { _ = conn.Close(ctx) }() // it has written nothing
	works := false
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active')", int64(pid)).Scan(&works)
	return works || errors.As(err, &answer)
}

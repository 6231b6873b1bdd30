package postgres

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// refusal is an error by which the server, or a right, kept this process from its work.
type refusal struct {
	since time.Time // of the first of the run
	at    time.Time
	err   error
}

// refusing are codes, and classes of codes, of a server that answers and doesn't do what it is
// asked for: there is no memory, disk or connection left, it may only read, or a grant is missing.
var refusing = map[string]bool{
	"53": true, "54": true, "58": true, "F0": true, "XX": true, readOnlyTransaction: true, insufficientPrivilege: true,
}

// noteRefusal keeps an error that is a refusal.
func (s *Store) noteRefusal(err error) {
	var failed *pgconn.PgError
	if errors.As(err, &failed) && len(failed.Code) == 5 && (refusing[failed.Code] || refusing[failed.Code[:2]]) {
		now := time.Now()
		since := now
		if last := s.refusal.Load(); last != nil && now.Sub(last.at) <= refusalGap {
			since = last.since
		}
		s.refusal.Store(&refusal{since, now, failed})
	}
}

// refusalGap is how long there may be no refusal between two of one run.
const refusalGap = 3 * time.Second

// Refused returns the error by which the server has refused a call within the last span, such as a
// full disk; nil if there was none. A run of refusals has to last for least: a single call may be
// refused by chance, and go through when it is tried again.
func (s *Store) Refused(span, least time.Duration) error {
	last := s.refusal.Load()
	if last == nil || time.Since(last.at) > span || last.at.Sub(last.since) < least {
		return nil
	}
	return last.err
}

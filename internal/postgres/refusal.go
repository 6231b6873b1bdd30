package postgres

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// refusing are codes, and classes of codes, of a server that answers and doesn't do what it is
// asked for: there is no memory, disk or connection left, it may only read, or a grant is missing.
var refusing = map[string]bool{
	"53": true, "54": true, "58": true, "F0": true, "XX": true, readOnlyTransaction: true, insufficientPrivilege: true,
}

// noteRefusal keeps an error that is a refusal.
func (s *Store) noteRefusal(err error) {
	var failed *pgconn.PgError
	if errors.As(err, &failed) && len(failed.Code) == 5 && (refusing[failed.Code] || refusing[failed.Code[:2]]) {
		s.refusals.Note(failed)
	}
}

// Refused returns the error by which the server has refused a call within the last span, such as a
// full disk; nil if there was none. A run of refusals has to last for least: a single call may be
// refused by chance, and go through when it is tried again.
func (s *Store) Refused(span, least time.Duration) error {
	return s.refusals.Err(span, least)
}

package timing

import (
	"sync/atomic"
	"time"
)

// Streak is a run of errors of one source: each comes within three seconds after the one before. It
// is safe for concurrent use. The zero value is no run.
type Streak struct{ last atomic.Pointer[streak] }

type streak struct {
	since time.Time // of the first error of the run
	at    time.Time
	err   error
}

// streakGap is how long there may be no error between two of one run.
const streakGap = 3 * time.Second

// Note keeps an error that has just come.
func (s *Streak) Note(err error) {
	now := time.Now()
	since := now
	if last := s.last.Load(); last != nil && now.Sub(last.at) <= streakGap {
		since = last.since
	}
	s.last.Store(&streak{since, now, err})
}

// Err returns the last error if it came within the last span, and if the run has lasted for least;
// nil otherwise. A single call may fail by chance, and go through when it is tried again.
func (s *Streak) Err(span, least time.Duration) error {
	last := s.last.Load()
	if last == nil || time.Since(last.at) > span || last.at.Sub(last.since) < least {
		return nil
	}
	return last.err
}

package backoffice

import (
	"log/slog"
	"time"
)

// trouble says once that something fails, and once that it doesn't any more, however often it is
// tried in between. It is used by one goroutine. Its texts are said as they are, so that they can
// be searched for.
type trouble struct {
	log     *slog.Logger
	failing string // said when it fails first
	over    string // said when it goes on again

	since time.Time // zero: it does not fail
}

// note takes note of a try. args go with what is said of an error.
func (t *trouble) note(err error, args ...any) {
	switch {
	case err != nil && t.since.IsZero():
		t.since = time.Now()
		t.log.Warn(t.failing, append(args, "err", err)...)
	case err == nil && !t.since.IsZero():
		t.log.Info(t.over, "after", time.Since(t.since).Round(time.Millisecond))
		t.since = time.Time{}
	}
}

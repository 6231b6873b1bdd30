package backoffice

import (
	"context"
	"log/slog"
	"time"

	"github.com/penstock/penstock/internal/wait"
)

// trouble logs a failure once, and once that it is over, no matter how many attempts come in
// between. One goroutine uses it. Its texts are constants, so that they can be searched for.
type trouble struct {
	log     *slog.Logger
	failing string // logged at the first failure
	over    string // logged at the next success

	since time.Time // when the failure began; zero while there is none
}

// note records an attempt. args are attributes of the log line about an error.
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

// attempt records an attempt that ended with err, and pauses after a failure. It returns true after
// a success. An attempt that ctx has ended is not recorded.
func (t *trouble) attempt(ctx context.Context, err error, pause *wait.Backoff) bool {
	if ctx.Err() == nil {
		t.note(err)
	}
	if err != nil {
		pause.Wait(ctx)
		return false
	}
	pause.Reset()
	return true
}

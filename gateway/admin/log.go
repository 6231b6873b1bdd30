package admin

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// quietFor is how long a kind of message keeps silent after it was written.
const quietFor = 10 * time.Second

// quietLog writes messages that clients can provoke: at most one of a kind in quietFor, with the
// number of those left out.
type quietLog struct {
	log   *slog.Logger
	since time.Time
	kinds [kindCount]struct {
		next    atomic.Int64 // when it may be written again, in nanoseconds after since
		leftOut atomic.Int64
	}
	total atomic.Int64 // messages left out, ever
}

// The kinds of messages.
const (
	kindPanic = iota
	kindInternal
	kindUnavailable
	kindRefresh
	kindTokens
	kindRoles
	kindMetrics
	kindHTTP
	kindCount
)

func newQuietLog(log *slog.Logger) *quietLog {
	q := &quietLog{log: log, since: time.Now()}
	for i := range q.kinds {
		q.kinds[i].next.Store(-1)
	}
	return q
}

// write logs a message unless one of its kind was written lately.
func (q *quietLog) write(kind int, level slog.Level, message string, args ...any) {
	k := &q.kinds[kind]
	at, next := int64(time.Since(q.since)), k.next.Load()
	if at < next || !k.next.CompareAndSwap(next, at+int64(quietFor)) {
		k.leftOut.Add(1)
		q.total.Add(1)
		return
	}
	if n := k.leftOut.Swap(0); n > 0 {
		args = append(args, "left_out", n)
	}
	if level >= slog.LevelError {
		q.log.Error(message, args...)
	} else {
		q.log.Warn(message, args...)
	}
}

// httpLog is where net/http logs: broken connections, mostly. It is a slog.Handler.
type httpLog struct{ quiet *quietLog }

// Enabled implements slog.Handler.
func (httpLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l httpLog) Handle(_ context.Context, r slog.Record) error {
	l.quiet.write(kindHTTP, r.Level, "http", "message", r.Message)
	return nil
}

// WithAttrs implements slog.Handler; net/http has none.
func (l httpLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler; net/http has none.
func (l httpLog) WithGroup(string) slog.Handler { return l }

// scrapeLog is where promhttp logs collectors that fail.
type scrapeLog struct{ quiet *quietLog }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) {
	for _, part := range v {
		if err, ok := part.(error); ok {
			l.quiet.write(kindMetrics, slog.LevelWarn, "metrics incomplete", "err", err)
		}
	}
}

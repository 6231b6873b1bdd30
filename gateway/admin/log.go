package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/penstock/penstock/internal/quietlog"
)

// quietLog writes messages that clients can provoke.
type quietLog struct{ log *quietlog.Log }

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

func newQuietLog(log *slog.Logger) quietLog {
	return quietLog{quietlog.New(log, kindCount, time.Now())}
}

// write logs a message, unless one of the same kind was written shortly before.
func (q quietLog) write(kind int, level slog.Level, message string, args ...any) {
	n, ok := q.log.May(kind, time.Now())
	if !ok {
		return
	}
	if n > 0 {
		args = append(args, "left_out", n)
	}
	if level >= slog.LevelError {
		q.log.Log.Error(message, args...)
	} else {
		q.log.Log.Warn(message, args...)
	}
}

// httpLog gets the messages of net/http, mostly about broken connections. It is a slog.Handler.
type httpLog struct{ quiet quietLog }

// Enabled implements slog.Handler.
func (httpLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l httpLog) Handle(_ context.Context, r slog.Record) error {
	l.quiet.write(kindHTTP, r.Level, "http", "message", r.Message)
	return nil
}

// WithAttrs implements slog.Handler; net/http uses none.
func (l httpLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler; net/http uses none.
func (l httpLog) WithGroup(string) slog.Handler { return l }

// scrapeLog gets the messages of promhttp about collectors that fail.
type scrapeLog struct{ quiet quietLog }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) {
	for _, part := range v {
		if err, ok := part.(error); ok {
			l.quiet.write(kindMetrics, slog.LevelWarn, "metrics incomplete", "err", err)
		}
	}
}

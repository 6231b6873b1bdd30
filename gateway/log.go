package gateway

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// quietFor is how long a kind of message keeps silent after it was written.
const quietFor = 10 * time.Second

// quietLog writes messages that outsiders can provoke: at most one of a kind in quietFor, with the
// number of those left out.
type quietLog struct {
	log   *slog.Logger
	since time.Time
	kinds [kindCount]quietKind
}

type quietKind struct {
	next    atomic.Int64 // when it may be written again, in nanoseconds after since
	leftOut atomic.Uint64
	total   atomic.Uint64 // messages left out, ever
}

// The kinds of messages.
const (
	kindPanic = iota
	kindInternal
	kindUnavailable
	kindAccept
	kindHTTP
	kindCrowded
	kindUnauthenticated
	kindSignature
	kindForbidden
	kindCount
)

func newQuietLog(log *slog.Logger, now time.Time) *quietLog {
	q := &quietLog{log: log, since: now}
	for i := range q.kinds {
		q.kinds[i].next.Store(-1)
	}
	return q
}

// may reports whether a message of the kind may be written now, and how many were left out before
// it.
func (q *quietLog) may(kind int, now time.Time) (leftOut uint64, ok bool) {
	k := &q.kinds[kind]
	at, next := int64(now.Sub(q.since)), k.next.Load()
	if at < next || !k.next.CompareAndSwap(next, at+int64(quietFor)) {
		k.leftOut.Add(1)
		k.total.Add(1)
		return 0, false
	}
	return k.leftOut.Swap(0), true
}

// leftOut returns how many messages were never written.
func (q *quietLog) leftOut() uint64 {
	var n uint64
	for i := range q.kinds {
		n += q.kinds[i].total.Load()
	}
	return n
}

// httpLog takes what fasthttp logs: broken connections, mostly.
type httpLog struct{ quiet *quietLog }

// Printf implements fasthttp.Logger.
func (l httpLog) Printf(format string, args ...any) {
	if n, ok := l.quiet.may(kindHTTP, time.Now()); ok {
		l.quiet.log.Warn("http", "message", fmt.Sprintf(format, args...), "left_out", n)
	}
}

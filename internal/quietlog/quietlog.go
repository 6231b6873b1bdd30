// Package quietlog logs messages that outsiders can cause, at a bounded rate.
//
//	const (
//		kindPanic = iota
//		kindHTTP
//		kindCount
//	)
//
//	quiet := quietlog.New(log, kindCount, time.Now())
//	if n, ok := quiet.May(kindHTTP, now); ok {
//		quiet.Log.Warn("connection broken", "err", err, "left_out", n)
//	}
//
// It promises at most one message of a kind in Pause, and that each message left out is counted: in
// the next one of its kind, and in LeftOut. It does not choose among messages: the first one after
// the pause is written. A caller should make its message only after May has returned true, so that
// a message that is left out costs no allocation.
package quietlog

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Pause is how long a kind of message keeps silent after it was written.
const Pause = 10 * time.Second

// Log is a logger with a pause for each kind of message. It is safe for concurrent use.
type Log struct {
	Log *slog.Logger // where a message goes after May has returned true

	since time.Time // fixed
	kinds []kind    // fixed
}

// kind is one kind of message; its fields are atomic.
type kind struct {
	next    atomic.Int64 // when it may be written again, in nanoseconds after since
	leftOut atomic.Uint64
	total   atomic.Uint64 // all messages that were left out
}

// New returns a Log for that many kinds of messages, numbered from 0. now is the time of its start.
func New(log *slog.Logger, kinds int, now time.Time) *Log {
	l := &Log{Log: log, since: now, kinds: make([]kind, kinds)}
	for i := range l.kinds {
		l.kinds[i].next.Store(-1)
	}
	return l
}

// May reports whether a message of the kind may be written now, and how many were left out before
// it.
func (l *Log) May(kind int, now time.Time) (leftOut uint64, ok bool) {
	k := &l.kinds[kind]
	at, next := int64(now.Sub(l.since)), k.next.Load()
	if at < next || !k.next.CompareAndSwap(next, at+int64(Pause)) {
		k.leftOut.Add(1)
		k.total.Add(1)
		return 0, false
	}
	return k.leftOut.Swap(0), true
}

// LeftOut returns how many messages were never written.
func (l *Log) LeftOut() uint64 {
	var n uint64
	for i := range l.kinds {
		n += l.kinds[i].total.Load()
	}
	return n
}

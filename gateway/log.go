package gateway

import (
	"fmt"
	"time"

	"github.com/penstock/penstock/internal/quietlog"
)

// The kinds of messages that outsiders can provoke.
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

// httpLog takes the log messages of fasthttp. Most are about broken connections.
type httpLog struct{ quiet *quietlog.Log }

// Printf implements fasthttp.Logger.
func (l httpLog) Printf(format string, args ...any) {
	if n, ok := l.quiet.May(kindHTTP, time.Now()); ok {
		l.quiet.Log.Warn("http", "message", fmt.Sprintf(format, args...), "left_out", n)
	}
}

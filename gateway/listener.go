package gateway

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/penstock/penstock/internal/quietlog"
	"github.com/penstock/penstock/limiter"
)

// The pauses after a failed accept. The first is too short to be noticed. During the last one, idle
// connections time out and give their files back.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// listener accepts connections and knows those that are open. fasthttp's Serve ends at any error of
// Accept except a timeout. This listener waits and tries again when the machine lacks a resource,
// such as files.
type listener struct {
	// Fixed.
	inner  net.Listener
	stop   chan struct{}
	quiet  *quietlog.Log
	paused *atomic.Uint64 // counts failed accepts
	places *limiter.Connections
	limits timeouts                      // of each connection
	refuse func(net.Conn, limiter.Place) // answers and closes a connection that has no place; it doesn't block

	closeOnce sync.Once
	closeErr  error

	mu    sync.Mutex
	conns map[*conn]struct{} // guarded by mu: one lock per connection, none per request
}

func newListener(inner net.Listener, quiet *quietlog.Log, paused *atomic.Uint64, places *limiter.Connections,
	refuse func(net.Conn, limiter.Place),
) *listener {
	return &listener{
		inner: inner, stop: make(chan struct{}), quiet: quiet, paused: paused, places: places, refuse: refuse, conns: make(map[*conn]struct{}),
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		inner, err := l.inner.Accept()
		if err == nil {
			place := l.places.Enter(inner.RemoteAddr())
			if place == limiter.PlaceFree || place == limiter.PlaceReserved {
				return l.add(inner, place), nil
			}
			l.refuse(inner, place)
			pause = firstPause / 2 // the next failure is the first one again
			continue
		}
		if errors.Is(err, net.ErrClosed) || !passes(err) {
			return nil, err
		}
		l.paused.Add(1)
		if n, ok := l.quiet.May(kindAccept, time.Now()); ok {
			l.quiet.Log.Warn("can't accept a connection, trying again", "err", err, "pause", pause, "left_out", n)
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-l.stop:
			wait.Stop()
			return nil, net.ErrClosed
		}
	}
}

// passes reports whether an error of Accept will pass: its cause is the machine or one connection,
// and not the listener.
func passes(err error) bool {
	for _, errno := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.EINTR, syscall.EAGAIN} {
		if errors.Is(err, errno) {
			return true
		}
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Close implements net.Listener. Closing twice is fine: fasthttp and Shutdown both do.
func (l *listener) Close() error {
	l.closeOnce.Do(func() {
		close(l.stop)
		l.closeErr = l.inner.Close()
	})
	return l.closeErr
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.inner.Addr() }

func (l *listener) add(inner net.Conn, place limiter.Place) *conn {
	c := newConn(inner, l.limits)
	c.owner, c.reserved = l, place == limiter.PlaceReserved
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c
}

// closeConns closes the connections that pick chooses, and returns their number.
func (l *listener) closeConns(pick func(*conn) bool) int {
	l.mu.Lock()
	var picked []*conn
	for c := range l.conns {
		if pick(c) {
			picked = append(picked, c)
		}
	}
	l.mu.Unlock()
	for _, c := range picked {
		_ = c.Close() // the error is not used
	}
	return len(picked)
}

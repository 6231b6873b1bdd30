package gateway

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/penstock/penstock/internal/quietlog"
	"github.com/penstock/penstock/limiter"
)

// The pauses after a failed accept. The first is short enough not to be noticed, the last long
// enough for idle connections to time out and give their files back.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// How much of a refused request is read, and for how long, before its connection is closed. A close
// with unread bytes resets the connection, and the client loses the answer that says why.
const (
	lingerBytes = 256 << 10
	lingerTime  = 500 * time.Millisecond
)

// listener accepts connections and knows those that are open. fasthttp's Serve ends at any error of
// Accept except a timeout. This listener waits and tries again when the machine is short of a
// resource.
type listener struct {
	// Fixed.
	inner  net.Listener
	stop   chan struct{}
	quiet  *quietlog.Log
	paused *atomic.Uint64 // counts failed accepts
	places *limiter.Connections
	slack  time.Duration                 // by how much a deadline of a connection may be early
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
			pause = firstPause / 2 // the next one fails for the first time
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

// passes reports whether an error of Accept is temporary: caused by the machine or by one
// connection, not by the listener.
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
	c := &conn{Conn: inner, owner: l, slack: l.slack, reserved: place == limiter.PlaceReserved}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c
}

// closeConns closes the connections that pick chooses and returns how many.
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

// conn is a connection that its listener knows.
type conn struct {
	net.Conn
	owner  *listener   // nil of one in the lobby
	used   atomic.Bool // a byte was read
	linger atomic.Bool // a request was refused before it was read to its end
	closed atomic.Bool

	reserved   bool   // serves health checks only, and isn't kept for long
	turnedAway string // why it has no place

	// Of one goroutine, fasthttp's for this connection.
	line    firstLine
	slack   time.Duration
	readBy  deadline
	writeBy deadline
}

// deadline is one that is given to the connection only when it is needed. fasthttp sets three for a
// request, and a busy connection would never meet one of them.
type deadline struct {
	wanted, set time.Time
}

// due returns the deadline that the connection has to get, if it has another one: an earlier one by
// less than slack will do.
func (d *deadline) due(slack time.Duration) (at time.Time, is bool) {
	if early := d.wanted.Sub(d.set); d.wanted == d.set || !d.wanted.IsZero() && early >= 0 && early < slack {
		return time.Time{}, false
	}
	d.set = d.wanted
	return d.wanted, true
}

// firstLine watches how the first line of a connection's first request ends: fasthttp takes a bare
// LF too, and doesn't tell. Empty lines before it are skipped.
type firstLine struct {
	ended bool
	bare  bool // it ended with LF alone
	begun bool
	cr    bool // the last byte was CR
}

func (l *firstLine) watch(p []byte) {
	for i := 0; i < len(p) && !l.ended; i++ {
		switch p[i] {
		case '\n':
			l.ended, l.bare = l.begun, l.begun && !l.cr
			l.cr = false
		case '\r':
			l.cr = true
		default:
			l.begun, l.cr = true, false
		}
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if at, is := c.readBy.due(c.slack); is {
		if err := c.Conn.SetReadDeadline(at); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
	}
	if n > 0 && !c.line.ended {
		c.line.watch(p[:n])
	}
	return n, err
}

// reservedIdle is how long a reserved connection may wait for a request: other health checks need
// its place.
const reservedIdle = 5 * time.Second

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if at, is := c.writeBy.due(c.slack); is {
		if err := c.Conn.SetWriteDeadline(at); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline implements net.Conn, for writes that begin later.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.wanted = t
	return nil
}

// SetReadDeadline implements net.Conn, for reads that begin later.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.reserved {
		if most := time.Now().Add(reservedIdle); t.IsZero() || t.After(most) {
			t = most
		}
	}
	c.readBy.wanted = t
	return nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	if c.owner != nil {
		c.owner.mu.Lock()
		delete(c.owner.conns, c)
		c.owner.mu.Unlock()
		c.owner.places.Leave(c.RemoteAddr())
	}
	if c.linger.Load() {
		c.drain()
	}
	return c.Conn.Close()
}

// drain ends our side of the connection and reads what the client still sends, within bounds.
// Errors end it: the connection is to be closed anyway.
func (c *conn) drain() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
}

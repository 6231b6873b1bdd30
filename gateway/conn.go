package gateway

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How much of a refused request is read, and for how long, before its connection is closed. A close
// with unread bytes resets the connection, and the client loses the answer that says why.
const (
	lingerBytes = 256 << 10
	lingerTime  = 500 * time.Millisecond
)

// reservedIdle is how long a reserved connection may wait for a request: other health checks need
// its place.
const reservedIdle = 5 * time.Second

// timeouts are how long a connection may take; see Config.
type timeouts struct {
	idle, read, write time.Duration
}

// conn is a connection that its listener knows. It sets its own deadlines. fasthttp would read the
// clock for three deadlines of each request, and a busy connection meets none of them.
//
// While it waits for a request it has no buffer: fasthttp gives its own back (ReduceMemoryUsage)
// and reads one byte, and conn takes a buffer only when the kernel has something to read. Idle
// connections therefore cost little memory, and busy ones share few buffers, which stay in the
// processor's cache.
type conn struct {
	net.Conn
	owner  *listener   // nil while the connection is in the lobby
	used   atomic.Bool // a byte was read
	linger atomic.Bool // a request was refused before it was read to its end
	closed atomic.Bool

	reserved   bool   // serves health checks only, and isn't kept for long
	turnedAway string // why it has no place

	// Only one goroutine uses these fields: fasthttp's for this connection.
	limits   timeouts
	opened   time.Time
	answered time.Time // when the last request was answered; zero if that isn't known
	line     firstLine
	midway   bool // a request has begun to arrive
	bounded  bool // and the rest of it has a deadline
	readBy   deadline
	writeBy  deadline
	raw      syscall.RawConn // nil if the connection has no file, such as a connection over TLS
	fetch    func(fd uintptr) bool
	chunk    *[]byte // what fetch read, nil if nothing is left of it
	rest     []byte  // the part of chunk that nobody has read
	fetched  int
	fetchErr error
}

func newConn(inner net.Conn, limits timeouts) *conn {
	c := &conn{Conn: inner, limits: limits, opened: time.Now(), raw: rawOf(inner)}
	c.fetch = c.fetchChunk
	return c
}

// deadline is a connection's deadline for reading or for writing. The deadlines of a busy
// connection move all the time, and few are ever met.
type deadline struct{ set time.Time }

// due returns the deadline that is d after from, and whether the connection must be given it: a
// deadline that is earlier by less than an eighth of d is kept.
func (l *deadline) due(from time.Time, d time.Duration) (at time.Time, is bool) {
	at = from.Add(d)
	if early := at.Sub(l.set); early >= 0 && early < d/8 {
		return time.Time{}, false
	}
	l.set = at
	return at, true
}

// firstLine watches how the first line of a connection's first request ends: fasthttp takes a bare
// LF too, and doesn't report it. Empty lines before it are skipped.
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

// chunks are buffers for requests that have just arrived. Most requests fit in one.
var chunks = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// fetchChunk reads what has arrived on the file fd. It reports false if there is nothing yet.
func (c *conn) fetchChunk(fd uintptr) bool {
	chunk := chunks.Get().(*[]byte)
	for {
		n, err := readFile(fd, *chunk)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			chunks.Put(chunk)
			return false
		}
		c.chunk, c.fetched, c.fetchErr = chunk, n, err
		return true
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (n int, err error) {
	switch {
	case len(c.rest) > 0:
		return c.take(p), nil
	case !c.midway && len(p) == 1: // fasthttp waits for a request
		n, err = c.begin(p)
	default:
		n, err = c.more(p)
	}
	if n > 0 {
		c.midway, c.answered = true, time.Time{}
	}
	return n, err
}

// take reads from the chunk.
func (c *conn) take(p []byte) int {
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		chunks.Put(c.chunk)
		c.chunk, c.rest = nil, nil
	}
	return n
}

// begin waits for a request and reads its first byte.
func (c *conn) begin(p []byte) (int, error) {
	if err := c.awaited(); err != nil {
		return 0, err
	}
	if c.raw == nil {
		n, err := c.Conn.Read(p)
		c.watch(p[:n])
		return n, err
	}
	if err := c.raw.Read(c.fetch); err != nil {
		return 0, err
	}
	if c.fetchErr != nil || c.fetched <= 0 {
		chunks.Put(c.chunk)
		c.chunk = nil
		if c.fetchErr != nil {
			return 0, c.fetchErr
		}
		return 0, io.EOF
	}
	c.rest = (*c.chunk)[:c.fetched]
	c.watch(c.rest)
	return c.take(p), nil
}

// more reads more of a request.
func (c *conn) more(p []byte) (int, error) {
	if !c.bounded {
		c.bounded = true
		if err := c.readUntil(time.Now(), c.limits.read); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	c.watch(p[:n])
	return n, err
}

// watch records that p has arrived.
func (c *conn) watch(p []byte) {
	if len(p) == 0 {
		return
	}
	if !c.used.Load() {
		c.used.Store(true)
	}
	if !c.line.ended {
		c.line.watch(p)
	}
}

// awaited sets the deadline of the wait for a request. The deadline of a connection's first request
// is that of the whole request.
func (c *conn) awaited() error {
	from, d := c.now(), c.limits.idle
	if c.bounded = !c.used.Load(); c.bounded {
		from, d = c.opened, c.limits.read
	}
	if c.reserved {
		d = min(d, reservedIdle)
	}
	return c.readUntil(from, d)
}

// now returns the time of the last answer if it is known, so that the clock is not read again.
func (c *conn) now() time.Time {
	if c.answered.IsZero() {
		return time.Now()
	}
	return c.answered
}

// readUntil sets the deadline of reading.
func (c *conn) readUntil(from time.Time, d time.Duration) error {
	if at, is := c.readBy.due(from, d); is {
		return c.Conn.SetReadDeadline(at)
	}
	return nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if at, is := c.writeBy.due(c.now(), c.limits.write); is {
		if err := c.Conn.SetWriteDeadline(at); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Write(p)
	c.midway, c.bounded = false, false
	return n, err
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
// It stops at an error: the connection is closed anyway.
func (c *conn) drain() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
}

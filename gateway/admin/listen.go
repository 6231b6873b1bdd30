package admin

import (
	"net"
	"sync"
	"sync/atomic"
)

// limitedListener closes connections above its limit at once: a client that hoards idle ones must not keep others waiting in
// the kernel's queue. net/http itself waits out a lack of file descriptors.
type limitedListener struct {
	net.Listener
	most    int64
	open    *atomic.Int64
	refused *atomic.Int64
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &limitedConn{Conn: conn, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		if err := conn.Close(); err != nil {
			continue // it is gone either way
		}
	}
}

type limitedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

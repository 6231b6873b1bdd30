package faults

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a TCP proxy in front of a server. It can disturb the connections. Its methods are safe
// for concurrent use.
type proxy struct {
	addr   string
	target string

	listener net.Listener
	delay    atomic.Int64 // nanoseconds, of each piece of data, both ways
	parts    sync.WaitGroup

	mu     sync.Mutex
	silent bool               // guarded by mu: new connections are accepted, and never answered
	pairs  map[*pair]struct{} // guarded by mu
}

// pair is a client's connection with the one to the server.
type pair struct {
	client, server net.Conn
	dead           atomic.Bool // the client's data is dropped
}

func (p *pair) close() {
	p.client.Close()
	if p.server != nil {
		p.server.Close()
	}
}

// newProxy starts a proxy that ends with the test. target may be set later, by aim.
func newProxy(t testing.TB) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	no(t, "listen", err)
	p := &proxy{addr: listener.Addr().String(), listener: listener, pairs: make(map[*pair]struct{})}
	p.parts.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.cut()
		p.parts.Wait()
	})
	return p
}

// aim sets the server behind the proxy. Call it before the first connection.
func (p *proxy) aim(target string) { p.target = target }

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.parts.Go(func() { p.serve(conn) })
	}
}

func (p *proxy) serve(conn net.Conn) {
	q := &pair{client: conn}
	p.mu.Lock()
	silent := p.silent
	q.dead.Store(silent)
	p.pairs[q] = struct{}{}
	p.mu.Unlock()
	defer p.forget(q)
	if silent {
		_, _ = io.Copy(io.Discard, conn) // until one side gives up
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	p.mu.Lock()
	q.server = server
	p.mu.Unlock()
	p.parts.Go(func() {
		p.copy(q, conn, server)
		if !q.dead.Load() {
			conn.Close()
		}
	})
	p.copy(q, server, conn)
}

// copy moves data until one end is closed.
func (p *proxy) copy(q *pair, to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if d := time.Duration(p.delay.Load()); d > 0 {
			<-time.After(d) // the length of the fault, not a wait for something
		}
		if q.dead.Load() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil && !q.dead.Load() {
			return
		}
	}
}

func (p *proxy) forget(q *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pairs, q)
	q.close()
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for q := range p.pairs {
		q.close()
	}
}

// halfOpen silently cuts all clients off from their server: nothing is answered, and nothing is
// closed. New connections are treated the same until heal.
func (p *proxy) halfOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
	for q := range p.pairs {
		q.dead.Store(true)
		if q.server != nil {
			q.server.Close()
		}
	}
}

// heal lets new connections pass. Those that are half open stay so.
func (p *proxy) heal() {
	p.delay.Store(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = false
}

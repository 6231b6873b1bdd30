package gateway

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadlines follows a connection: each read and each write has a deadline, which may be early
// by an eighth of its time and is never late. What still arrives doesn't move the deadline of a
// request.
func TestDeadlines(t *testing.T) {
	limits := timeouts{idle: 80 * time.Second, read: 8 * time.Second, write: 16 * time.Second}
	one, some := make([]byte, 1), make([]byte, 100)
	read := func(p []byte) func(*conn) error {
		return func(c *conn) error { _, err := c.Read(p); return err }
	}
	write := func(c *conn) error { _, err := c.Write(some); return err }
	answer := func(c *conn) error { c.answered = time.Now(); return write(c) }
	for _, test := range []struct {
		name     string
		reserved bool
		steps    []step
	}{
		{"the first request", false, []step{
			{at: 3, do: read(one), read: 8, sets: 1}, // since the accept
			{at: 5, do: read(some), read: 8, sets: 1},
			{at: 7, do: read(some), read: 8, sets: 1},
			{at: 7, do: answer, read: 8, write: 7 + 16, sets: 2},
		}},
		{"a later request", false, []step{
			{at: 1, do: read(one), read: 8, sets: 1},
			{at: 1, do: answer, read: 8, write: 1 + 16, sets: 2},
			{at: 4, do: read(one), read: 1 + 80, write: 1 + 16, sets: 3}, // since the answer
			{at: 50, do: read(some), read: 50 + 8, write: 1 + 16, sets: 4},
			{at: 57, do: read(some), read: 50 + 8, write: 1 + 16, sets: 4},
			{at: 57, do: read(one), read: 50 + 8, write: 1 + 16, sets: 4}, // a body's last byte
		}},
		{"a busy connection", false, []step{
			{at: 0, do: read(one), read: 8, sets: 1},
			{at: 0, do: answer, read: 8, write: 16, sets: 2},
			{at: 1, do: read(one), read: 80, write: 16, sets: 3},
			{at: 1, do: answer, read: 80, write: 16, sets: 3},
			{at: 2, do: read(one), read: 80, write: 16, sets: 3},
			{at: 2, do: answer, read: 80, write: 2 + 16, sets: 4},
			{at: 9, do: read(one), read: 80, write: 2 + 16, sets: 4},
			{at: 12, do: write, read: 80, write: 12 + 16, sets: 5}, // by a caller that doesn't say when
			{at: 13, do: read(one), read: 13 + 80, write: 12 + 16, sets: 6},
		}},
		{"a connection of the reserve", true, []step{
			{at: 1, do: read(one), read: 5, sets: 1},
			{at: 2, do: answer, read: 5, write: 2 + 16, sets: 2},
			{at: 9, do: read(one), read: 2 + 5, write: 2 + 16, sets: 3},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner, began := &deadlines{}, time.Now()
				c := newConn(inner, limits)
				c.reserved = test.reserved
				for i, s := range test.steps {
					time.Sleep(time.Until(began.Add(s.at * time.Second))) // of the bubble's clock
					if err := s.do(c); err != nil {
						t.Fatal(err)
					}
					if inner.sets != s.sets || !inner.read.Equal(began.Add(s.read*time.Second)) ||
						s.write > 0 && !inner.write.Equal(began.Add(s.write*time.Second)) {
						t.Errorf("step %d: %d deadlines were set, reading ends after %v, writing after %v; want %+v", i,
							inner.sets, inner.read.Sub(began), inner.write.Sub(began), s)
					}
				}
			})
		})
	}
}

// step is what a connection does at a time, and the deadlines that it has then. Times are in
// seconds since it was opened.
type step struct {
	at          time.Duration
	do          func(*conn) error
	read, write time.Duration
	sets        int // how many deadlines were set so far
}

// deadlines is a connection that records its deadlines.
type deadlines struct {
	net.Conn
	read, write time.Time
	sets        int
}

func (d *deadlines) Read(p []byte) (int, error)  { return len(p), nil }
func (d *deadlines) Write(p []byte) (int, error) { return len(p), nil }

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write = t
	d.sets++
	return nil
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = t
	d.sets++
	return nil
}

// TestReadsWhatArrives: a connection gives what arrives, in order and whole, whatever the sizes of
// the reads, with a file of its own and without one. It keeps no buffer while it waits.
func TestReadsWhatArrives(t *testing.T) {
	limits := DefaultConfig()
	for _, wrap := range []func(net.Conn) net.Conn{
		func(c net.Conn) net.Conn { return c },
		func(c net.Conn) net.Conn { return struct{ net.Conn }{c} }, // as over TLS
	} {
		here, there := pair(t)
		c := newConn(wrap(here), timeouts{limits.IdleTimeout, limits.ReadTimeout, limits.WriteTimeout})
		var want bytes.Buffer
		go func() {
			defer there.Close()
			for _, n := range []int{1, 2, 100, 4096, 4097, 10_000} {
				_, _ = there.Write([]byte(strings.Repeat("x", n-1) + "\n")) // a lost byte is seen by the reader
			}
		}()
		for _, n := range []int{1, 2, 100, 4096, 4097, 10_000} {
			want.WriteString(strings.Repeat("x", n-1) + "\n")
		}
		var got []byte
		for turn, sizes := 0, []int{1, 50, 4096}; ; turn++ {
			p := make([]byte, sizes[turn%len(sizes)])
			n, err := c.Read(p)
			got = append(got, p[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			if turn%4 == 3 { // an answer: the next read may wait for a request
				c.midway, c.bounded = false, false
			}
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("got %d bytes, want %d", len(got), want.Len())
		}
		if c.chunk != nil || c.rest != nil {
			t.Error("a connection that waits has a buffer")
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
}

// TestWaitEnds: a wait for a request ends with the deadline, and with a close.
func TestWaitEnds(t *testing.T) {
	here, _ := pair(t)
	c := newConn(here, timeouts{time.Minute, time.Millisecond, time.Minute})
	var late net.Error
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.As(err, &late) || !late.Timeout() {
		t.Error(n, err)
	}
	here, _ = pair(t)
	c = newConn(here, timeouts{time.Minute, time.Minute, time.Minute})
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// pair returns both ends of a TCP connection.
func pair(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if there, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if here, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = here.Close(), there.Close() })
	return here, there
}

// TestLingerIsBounded refuses a client that never stops sending.
func TestLingerIsBounded(t *testing.T) {
	here, there := net.Pipe()
	half := &halfConn{Conn: here}
	c := &conn{Conn: half, owner: &listener{places: noLimit(), conns: map[*conn]struct{}{}}}
	c.linger.Store(true)
	sent := make(chan int64, 1)
	go func() {
		n, err := io.Copy(there, zeros{})
		if err == nil {
			t.Error("the client was never cut off")
		}
		sent <- n
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n := <-sent; n != lingerBytes || !half.closed {
		t.Errorf("read %d bytes, our side closed %v", n, half.closed)
	}
}

type halfConn struct {
	net.Conn
	closed bool
}

func (c *halfConn) CloseWrite() error { c.closed = true; return nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

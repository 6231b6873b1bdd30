package gateway

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/quietlog"
	"github.com/penstock/penstock/limiter"
)

// shortListener fails with errs, one after the other, then gives one end of a pipe, then is closed.
type shortListener struct {
	errs   []error
	at     []time.Time
	closed bool
}

func (l *shortListener) Accept() (net.Conn, error) {
	l.at = append(l.at, time.Now())
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: err}
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	l.closed = true
	here, there := net.Pipe()
	_ = there.Close()
	return here, nil
}

func (l *shortListener) Close() error   { return nil }
func (l *shortListener) Addr() net.Addr { return &net.TCPAddr{} }

func noLimit() *limiter.Connections {
	return limiter.NewConnections(limiter.ConnectionsConfig{Most: 100})
}

func TestListenerWaitsOutAShortage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := &shortListener{}
		for range 10 {
			short.errs = append(short.errs, syscall.EMFILE)
		}
		short.errs = append(short.errs, syscall.ENFILE, syscall.ECONNABORTED)
		log, pauses := &safeBuffer{}, atomic.Uint64{}
		l := newListener(short, quietlog.New(slog.New(slog.NewTextHandler(log, nil)), kindCount, time.Now()), &pauses, noLimit(), nil)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		want := firstPause
		for i := 1; i < len(short.at); i++ {
			if got := short.at[i].Sub(short.at[i-1]); got != want {
				t.Errorf("pause %d: %v, want %v", i, got, want)
			}
			want = min(2*want, longestPause)
		}
		if pauses.Load() != 12 || strings.Count(log.String(), "\n") != 1 || len(l.conns) != 1 {
			t.Errorf("%d pauses, %d connections, log %s", pauses.Load(), len(l.conns), log)
		}
		if err := errors.Join(c.Close()); err != nil || len(l.conns) != 0 {
			t.Errorf("close: %v, %d connections", err, len(l.conns))
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestListenerPassesOtherErrorsOn(t *testing.T) {
	l := newListener(&shortListener{errs: []error{syscall.EBADF}}, quietlog.New(slog.New(slog.DiscardHandler), kindCount,
		time.Now()), new(atomic.Uint64), noLimit(), nil)
	if _, err := l.Accept(); !errors.Is(err, syscall.EBADF) {
		t.Errorf("got %v", err)
	}
}

func TestListenerCloseEndsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endless := &shortListener{errs: make([]error, 1000)}
		for i := range endless.errs {
			endless.errs[i] = syscall.EMFILE
		}
		l := newListener(endless, quietlog.New(slog.New(slog.DiscardHandler), kindCount, time.Now()), new(atomic.Uint64), noLimit(), nil)
		ended := make(chan error)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		time.Sleep(10*time.Second + time.Millisecond) // of the bubble's clock: in the middle of a pause
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		before := time.Now()
		if err := <-ended; !errors.Is(err, net.ErrClosed) || time.Since(before) != 0 {
			t.Errorf("%v after %v", err, time.Since(before))
		}
	})
}

// TestServerSurvivesAShortage serves on a listener that has no file descriptors at first.
func TestServerSurvivesAShortage(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := New(DefaultConfig(), newStubSales(), newStubSales(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(&failingListener{Listener: inner, left: 3}) }()
	s := &running{Server: server, addr: inner.Addr().String()}
	if resp, body := s.raw(t, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if n := server.Stats().AcceptPauses; n != 3 {
		t.Errorf("%d pauses", n)
	}
	if err := errors.Join(server.Shutdown(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}

type failingListener struct {
	net.Listener
	left int
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left > 0 {
		l.left--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

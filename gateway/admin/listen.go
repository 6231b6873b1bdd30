package admin

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
)

// placedListener gives each connection a place; without a free place it answers and closes it. So a
// client with many idle connections doesn't make others wait in the kernel's queue. When file
// descriptors are short, net/http itself waits.
type placedListener struct {
	net.Listener
	server *Server
}

// Bounds of the work for connections without a place: connections above lobbySeats are closed
// without an answer.
const (
	lobbySeats   = 32
	lobbyTimeout = time.Second
	// reservedIdle is how long a connection that serves health checks only may wait for a request.
	reservedIdle = 5 * time.Second
)

// Accept implements net.Listener.
func (l *placedListener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		switch place := l.server.places.Enter(inner.RemoteAddr()); place {
		case limiter.PlaceFree, limiter.PlaceReserved:
			c := &placedConn{Conn: inner, server: l.server, reserved: place == limiter.PlaceReserved}
			c.leave = sync.OnceFunc(func() { l.server.places.Leave(inner.RemoteAddr()) })
			return c, nil
		default:
			l.server.turnAway(inner, place)
		}
	}
}

// placedConn is a connection that has a place.
type placedConn struct {
	net.Conn
	server   *Server
	reserved bool // it serves health checks only
	leave    func()
}

// Close implements net.Conn.
func (c *placedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// SetReadDeadline implements net.Conn.
func (c *placedConn) SetReadDeadline(t time.Time) error {
	if c.reserved {
		if most := time.Now().Add(reservedIdle); t.IsZero() || t.After(most) {
			t = most
		}
	}
	return c.Conn.SetReadDeadline(t)
}

// Write implements net.Conn. Answers that net/http makes itself are replaced by problem documents.
func (c *placedConn) Write(b []byte) (int, error) {
	if own := c.server.inOurWords(b); own != nil {
		if _, err := c.Conn.Write(own); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// netHTTPError follows the status line in answers that net/http makes itself. In answers of
// handlers, a Date follows it.
var netHTTPError = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// inOurWords returns a problem document for a request that net/http couldn't read, and nil for any
// other.
func (s *Server) inOurWords(b []byte) []byte {
	line, _, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) || len(line) < 12 || !bytes.HasPrefix(b[len(line):], netHTTPError) {
		return nil
	}
	p := problem.Problem{Code: problem.InvalidRequest, Detail: "The request isn't well-formed HTTP/1.1."}
	switch string(line[9:12]) {
	case "431":
		p = problem.Problem{Code: problem.HeaderTooLarge}
	case "505":
		p = problem.Problem{Code: problem.VersionNotSupported}
	}
	return s.raw(&p, s.newID())
}

// raw is an answer as bytes, for a connection that is closed after it.
func (s *Server) raw(p *problem.Problem, id string) []byte {
	body := problem.Append(nil, p)
	h := http.Header{
		"Content-Type": {problem.ContentType}, "Content-Length": {strconv.Itoa(len(body))}, "Connection": {"close"},
		"X-Request-Id": {id}, "X-Content-Type-Options": {"nosniff"}, "Cache-Control": {"no-store"},
		"Date": {time.Now().UTC().Format(http.TimeFormat)},
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(problem.Seconds(p.RetryAfter), 10))
	}
	var out bytes.Buffer
	out.WriteString("HTTP/1.1 " + strconv.Itoa(p.Status()) + " " + http.StatusText(p.Status()) + "\r\n")
	_ = h.Write(&out) // a buffer takes everything
	out.WriteString("\r\n")
	out.Write(body)
	return out.Bytes()
}

// turnAway answers a connection that has no place, in the background: it reads the request first,
// because an answer before that would be lost.
func (s *Server) turnAway(c net.Conn, place limiter.Place) {
	s.refused.Add(1)
	detail := "Too many connections are open."
	if place == limiter.PlaceAddress {
		detail = "Too many connections of this address are open: use each for many requests."
	}
	if s.inLobby.Add(1) > lobbySeats {
		s.inLobby.Add(-1)
		_ = c.Close() // nobody needs this error
		return
	}
	s.lobby.Go(func() {
		defer s.inLobby.Add(-1)
		defer func() { _ = c.Close() }()
		if c.SetDeadline(time.Now().Add(lobbyTimeout)) != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, int64(s.cfg.MaxHeader))))
		if err != nil {
			return
		}
		id := r.Header.Get("X-Request-Id")
		if !isRequestID(id) {
			id = s.newID()
		}
		p := problem.Problem{Code: problem.Overloaded, Detail: detail, RetryAfter: time.Second}
		_, _ = c.Write(s.raw(&p, id)) // the connection ends here, even if the write fails
	})
}

// placeKey is the context key of a request's connection.
type placeKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, placeKey{}, c)
}

// isReserved reports whether a request came on a connection that serves health checks only.
func isReserved(ctx context.Context) bool {
	c, ok := ctx.Value(placeKey{}).(*placedConn)
	return ok && c.reserved
}

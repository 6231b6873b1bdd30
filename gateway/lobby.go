package gateway

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
)

// The lobby answers connections that are above a limit: each gets one answer, a 503 with a problem
// document, and is closed. fasthttp's own answer would be plain text. It would be sent before the
// request was read, and a reset would destroy it.

// Bounds of the lobby. Connections above lobbySeats are closed without an answer.
const (
	lobbySeats   = 64
	lobbyTimeout = time.Second
)

// The answers to a connection without a place.
const (
	manyOpen      = "Too many connections are open."
	manyOfAddress = "Too many connections of this address are open: use each for many requests."
)

// newLobby makes the lobby's server.
func newLobby(s *Server) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      s.sendAway,
		ErrorHandler:                 s.handleUnreadable,
		ExpectHandler:                func(ctx *fasthttp.RequestCtx) int { s.sendAway(ctx); return ctx.Response.StatusCode() },
		Logger:                       httpLog{s.quiet},
		ReadBufferSize:               s.cfg.ReadBuffer,
		WriteBufferSize:              s.cfg.WriteBuffer,
		ReduceMemoryUsage:            true, // see conn, which has the timeouts, too
		MaxRequestBodySize:           s.cfg.MaxBody,
		DisableKeepalive:             true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
	}
}

// turnAway answers a connection that has no place, in the background.
func (s *Server) turnAway(inner net.Conn, place limiter.Place) {
	s.rejected.Add(1)
	detail, message := manyOpen, "too many connections are open"
	if place == limiter.PlaceAddress {
		detail, message = manyOfAddress, "too many connections of one address are open"
	}
	if n, ok := s.quiet.May(kindCrowded, time.Now()); ok {
		s.quiet.Log.Warn(message, "peer", inner.RemoteAddr().String(), "max_connections", s.cfg.MaxConnections,
			"max_connections_per_address", s.cfg.MaxPerAddress, "left_out", n)
	}
	if s.inLobby.Add(1) > lobbySeats {
		s.inLobby.Add(-1)
		_ = inner.Close() // the error is not used
		return
	}
	s.lobbyWork.Go(func() {
		defer s.inLobby.Add(-1)
		c := newConn(inner, timeouts{idle: lobbyTimeout, read: lobbyTimeout, write: lobbyTimeout})
		c.turnedAway = detail
		c.linger.Store(true)
		_ = s.lobby.ServeConn(c) // the connection ends here in any case
	})
}

// sendAway answers a request on a connection that has no place.
func (s *Server) sendAway(ctx *fasthttp.RequestCtx) {
	x := s.exchanges.Get().(*exchange)
	x.begin(ctx, time.Now())
	if s.guarded(x, func(_ *Server, x *exchange) {
		x.route, x.param = match(ctx.URI().PathOriginal())
		if c, ok := ctx.Conn().(*conn); ok {
			x.crowded(c.turnedAway)
		}
	}) {
		x.finish()
		s.exchanges.Put(x)
	}
}

// crowded refuses a request because too many connections are open, and closes this one.
func (x *exchange) crowded(detail string) {
	x.closing()
	x.problem(&problem.Problem{Code: problem.Overloaded, Detail: detail, RetryAfter: time.Second})
}

// isReserved reports whether the request came on a connection that serves health checks only.
func (x *exchange) isReserved() bool {
	c, ok := x.http.Conn().(*conn)
	return ok && c.reserved
}

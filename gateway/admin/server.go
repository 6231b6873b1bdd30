package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"penstock/gateway/problem"
	"penstock/seckill"
)

// Server is the admin listener. It is safe for concurrent use.
type Server struct {
	// Fixed after New.
	cfg       Config
	deps      Deps
	quiet     *quietLog
	mux       *http.ServeMux
	crossSite *http.CrossOriginProtection
	metrics   *metrics
	http      *http.Server
	pages     pages
	idPrefix  string
	tokens    *tokens

	large    chan struct{} // has a value for each large body under way; its capacity bounds them
	ids      atomic.Uint64
	draining atomic.Bool

	// Counted for metrics.
	inFlight    atomic.Int64
	connections atomic.Int64
	refused     atomic.Int64 // connections above the limit
	panics      atomic.Int64
}

// New makes a server; Serve starts it.
func New(cfg Config, deps Deps, log *slog.Logger) (*Server, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	s := &Server{
		cfg: cfg, deps: deps, quiet: newQuietLog(log), crossSite: http.NewCrossOriginProtection(), pages: newPages(),
		idPrefix: fmt.Sprintf("a%011x-", rand.Uint64()>>20), tokens: newTokens(cfg, deps.Store), large: make(chan struct{}, cfg.MaxLargeBodies),
	}
	var err error
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	s.mux = newMux(s, routes())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeader,
		ErrorLog:          slog.NewLogLogger(httpLog{s.quiet}, slog.LevelWarn),
	}
	return s, nil
}

// Handler returns what the server serves.
func (s *Server) Handler() http.Handler { return s }

// Serve answers on l until Shutdown, and then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	limited := &limitedListener{Listener: l, most: int64(s.cfg.MaxConnections), open: &s.connections, refused: &s.refused}
	if err := s.http.Serve(limited); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

// Shutdown stops accepting and waits for what is in flight; when ctx ends first, connections are closed as they are. Calling
// it again is fine.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	err := s.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("admin listener: %w", errors.Join(err, s.http.Close()))
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	c := &call{server: s, w: &answerWriter{ResponseWriter: w}, r: r}
	c.prepare()
	inFlight := s.inFlight.Add(1)
	defer func() {
		s.inFlight.Add(-1)
		s.metrics.count(c.routeName(), cmp.Or(c.w.status, http.StatusOK), time.Since(began))
	}()
	defer func() { s.recovered(c, recover()) }()
	switch {
	case inFlight > int64(s.cfg.MaxInFlight):
		c.problem(&problem.Problem{Code: problem.Overloaded, RetryAfter: time.Second})
	case path.Clean(r.URL.Path) != r.URL.Path && path.Clean(r.URL.Path)+"/" != r.URL.Path:
		c.problem(&problem.Problem{Code: problem.NotFound}) // the mux would redirect, in words of its own
	default:
		s.mux.ServeHTTP(c.w, r.WithContext(withCall(r.Context(), c)))
	}
}

// prepare sets the fields that every answer has.
func (c *call) prepare() {
	h := c.w.Header()
	id := c.r.Header.Get("X-Request-Id")
	if !isVisible(id, seckill.MaxKeyLength) || strings.ContainsAny(id, "\"'\\<>,;`") {
		id = c.server.idPrefix + strconv.FormatUint(c.server.ids.Add(1), 36)
	}
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

// recovered turns a panic into an answer, where there is none yet. A panic costs one request.
func (s *Server) recovered(c *call, v any) {
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.panics.Add(1)
	s.quiet.write(kindPanic, slog.LevelError, "panic", "route", c.routeName(), "request", c.id(), "panic", v, "stack", string(debug.Stack()))
	if c.w.status != 0 { // half an answer must not look like a whole one
		panic(http.ErrAbortHandler)
	}
	c.problem(&problem.Problem{Code: problem.Internal})
}

// serve takes a call on its route.
func (s *Server) serve(c *call, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
	defer cancel()
	c.r = r.WithContext(ctx)
	if err := s.admit(c); err != nil {
		c.fail(err)
		return
	}
	if err := c.route.handle(c); err != nil {
		c.fail(err)
	}
}

// admit checks where the request comes from, and whether who asks may.
func (s *Server) admit(c *call) error {
	if err := s.crossSite.Check(c.r); err != nil {
		return refuse(problem.CrossOrigin, "")
	}
	role := c.route.role
	if role == roleNone || c.route.pattern == metricsPath && s.cfg.OpenMetrics {
		return nil
	}
	who, err := s.tokens.identify(c.context(), c.r.Header.Get("Authorization"))
	if err != nil {
		if r, ok := errors.AsType[*refusal](err); ok && r.Code == problem.Unauthenticated {
			c.w.Header().Set("WWW-Authenticate", `Bearer realm="penstock admin"`)
		}
		return err
	}
	if who.role < role {
		detail := fmt.Sprintf("This needs the role %s; the token %s has %s.", roleName(role), who.name, roleName(who.role))
		return refuse(problem.Forbidden, detail)
	}
	c.token = who
	return nil
}

// refresh brings a written catalog into force here. When that fails, the background refresh does it within moments.
func (s *Server) refresh(ctx context.Context) {
	if err := s.deps.Refresh(ctx); err != nil {
		s.quiet.write(kindRefresh, slog.LevelWarn, "change is written, but not in force here yet", "err", err)
	}
}

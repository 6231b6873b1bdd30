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
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/gateway/admin/console"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// Server is the admin listener. It is safe for concurrent use.
type Server struct {
	// Fixed after New.
	cfg       Config
	deps      Deps
	quiet     quietLog
	mux       *http.ServeMux
	crossSite *http.CrossOriginProtection
	metrics   *metrics
	http      *http.Server
	pages     pages
	console   *console.Console
	idPrefix  string
	tokens    *tokens
	guesses   *guesses
	places    *limiter.Connections

	stopping chan struct{} // closed when Shutdown begins: streams end
	stop     sync.Once     // closes it
	large    chan struct{} // has a value for each large body in progress; its capacity bounds them
	ids      atomic.Uint64
	draining atomic.Bool

	// Counted for metrics.
	inFlight atomic.Int64
	refused  atomic.Int64 // connections above a limit
	panics   atomic.Int64
	inLobby  atomic.Int64 // connections without a place that are being answered

	lobby sync.WaitGroup
}

// New makes a server; Serve starts it.
func New(cfg Config, deps Deps, log *slog.Logger) (*Server, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	s := &Server{
		cfg: cfg, deps: deps, quiet: newQuietLog(log), crossSite: http.NewCrossOriginProtection(), pages: newPages(),
		console:  console.New(console.Config{OIDC: cfg.Login.Provider != nil}),
		idPrefix: fmt.Sprintf("a%011x-", rand.Uint64()>>20), large: make(chan struct{}, cfg.MaxLargeBodies),
		stopping: make(chan struct{}),
	}
	s.tokens = newTokens(cfg, deps.Store, func() time.Time { return deps.Catalog().Now() })
	s.guesses = newGuesses(cfg.Guesses)
	var err error
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	s.mux = newMux(s, routes())
	s.places = limiter.NewConnections(limiter.ConnectionsConfig{
		Most: cfg.MaxConnections, Reserved: cfg.MaxConnections / 16, PerAddress: cfg.MaxPerAddress,
	})
	s.http = &http.Server{
		Handler:           s,
		ConnContext:       withConn,
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
	defer s.lobby.Wait()
	if err := s.http.Serve(&placedListener{l, s}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

// Shutdown stops accepting and waits for what is in flight; when ctx ends first, connections are
// closed as they are. Calling it again is fine.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.stop.Do(func() { close(s.stopping) })
	err := s.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("admin listener: %w", errors.Join(err, s.http.Close()))
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	c := &call{server: s, w: &answerWriter{ResponseWriter: w}, r: r, sent: r}
	c.prepare()
	inFlight := s.inFlight.Add(1)
	defer func() {
		s.inFlight.Add(-1)
		s.metrics.count(c.routeName(), cmp.Or(c.w.status, http.StatusOK), time.Since(began))
	}()
	defer func() { s.recovered(c, recover()) }()
	health := r.URL.Path == "/livez" || r.URL.Path == "/readyz" // always answered, under any load
	switch {
	case isReserved(r.Context()) && !health:
		c.w.Header().Set("Connection", "close")
		c.problem(&problem.Problem{Code: problem.Overloaded, Detail: "Too many connections are open.", RetryAfter: time.Second})
	case inFlight > int64(s.cfg.MaxInFlight) && !health:
		c.problem(&problem.Problem{Code: problem.Overloaded, RetryAfter: time.Second})
	case !isClean(r.URL.EscapedPath()):
		c.problem(&problem.Problem{Code: problem.NotFound}) // the mux would redirect
	default:
		s.mux.ServeHTTP(c.w, r.WithContext(withCall(r.Context(), c)))
	}
}

// isClean reports whether a path has neither empty nor dotted segments. The path is taken as it was
// sent: a slash within a segment is escaped.
func isClean(p string) bool { return path.Clean(p) == p || path.Clean(p)+"/" == p }

// prepare sets the fields that every answer has.
func (c *call) prepare() {
	h := c.w.Header()
	id := c.r.Header.Get("X-Request-Id")
	if !isRequestID(id) {
		id = c.server.newID()
	}
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

// isRequestID reports whether a client's request id is valid: it is written into answers and logs.
func isRequestID(id string) bool {
	return isVisible(id, seckill.MaxKeyLength) && !strings.ContainsAny(id, "\"'\\<>,;`")
}

// newID makes a request id.
func (s *Server) newID() string { return s.idPrefix + strconv.FormatUint(s.ids.Add(1), 36) }

// recovered answers a request that panicked, unless an answer has begun. A panic costs one request.
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

// single are the fields that may be there only once. If there were two, a proxy and this listener
// might use different ones.
var single = [...]string{"Authorization", "Content-Type", "Content-Encoding", "Expect", "Idempotency-Key", "Last-Event-Id", "X-Reason"}

// strict refuses requests that net/http accepts but another HTTP server could read differently.
// net/http hides a Content-Length beside a Transfer-Encoding, so a connection with chunks ends with
// its answer.
func (s *Server) strict(c *call) error {
	for _, name := range single {
		if len(c.r.Header[name]) > 1 {
			return refuse(problem.InvalidRequest, "The header field "+name+" is given more than once.")
		}
	}
	if len(c.r.TransferEncoding) > 0 {
		c.w.Header().Set("Connection", "close")
	}
	if len(c.r.Trailer) > 0 {
		return refuse(problem.InvalidRequest, "The request has trailer fields: send all fields in the header.")
	}
	return nil
}

// admit checks the request's form and origin, and the rights of its sender.
func (s *Server) admit(c *call) error {
	if err := s.strict(c); err != nil {
		return err
	}
	if err := s.crossSite.Check(c.r); err != nil {
		return refuse(problem.CrossOrigin, "")
	}
	role := c.route.role
	if role == roleNone || c.route.pattern == metricsPath && s.cfg.OpenMetrics {
		return nil
	}
	field, cookie := c.r.Header.Get("Authorization"), c.sessionCookie()
	if field == "" && cookie != "" {
		if err := c.guardSession(); err != nil {
			return err
		}
	}
	who, err := c.identify(bearer(field, cookie))
	if err != nil {
		return c.unknown(err)
	}
	if !who.role.Includes(role) {
		s.quiet.write(kindRoles, slog.LevelWarn, "role refused", "client", c.address(), "token", who.name, "role", roleName(who.role),
			"route", c.routeName(), "request_id", c.id())
		detail := fmt.Sprintf("This needs the role %s; the token %s has %s.", roleName(role), who.name, roleName(who.role))
		return refuse(problem.Forbidden, detail)
	}
	c.token = who
	return c.bounds()
}

// unknown answers a request whose token is missing, unknown, or couldn't be looked up.
func (c *call) unknown(err error) error {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	message := "admin token refused"
	switch r.Code {
	case problem.Unauthenticated:
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="penstock admin"`)
	case problem.RateLimited:
		message = "too many wrong admin tokens from one address"
	}
	c.server.quiet.write(kindTokens, slog.LevelWarn, message, "client", c.address(), "route", c.routeName(), "request_id", c.id())
	return err
}

// refresh brings a written catalog into force on this node. If that fails, the background refresh
// does it soon after.
func (s *Server) refresh(ctx context.Context) {
	if err := s.deps.Refresh(ctx); err != nil {
		s.quiet.write(kindRefresh, slog.LevelWarn, "change is written, but not in force here yet", "err", err)
	}
}

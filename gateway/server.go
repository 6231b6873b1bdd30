package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/quietlog"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// Sales decides about purchases, orders and payments; *desk.Desk implements it. Errors are
// *seckill.Refusal, *seckill.Failure or *seckill.Unknown; any other is answered as internal.
type Sales interface {
	// Catalog returns the catalog in force. It doesn't block.
	Catalog() *seckill.Catalog
	// Fresh returns the catalog after a look for a newer one, for a caller that found nothing in
	// Catalog. It has entries that were just made on another node. If the look takes too long, it
	// returns the catalog in force. sure is false if the database can't be asked: then a missing
	// entry may exist after all.
	Fresh(ctx context.Context) (catalog *seckill.Catalog, sure bool)
	// Refuses reports whether Buy would certainly refuse p, as far as memory knows. It doesn't
	// block.
	Refuses(p *seckill.Purchase) bool
	// Repeats reports whether it is certain from memory that the key of p has an order. False means
	// only that memory doesn't know. It doesn't block.
	Repeats(p *seckill.Purchase) bool
	// Buy buys. It keeps no reference to p after it returns.
	Buy(ctx context.Context, p *seckill.Purchase) (seckill.Receipt, error)
	// Probe does what Buy does, up to the point where a unit would be taken. offer must be one of
	// Config.Probes.
	Probe(ctx context.Context, offer seckill.Offer, p *seckill.Purchase) error
	FindOrder(ctx context.Context, caller *seckill.Caller, id seckill.OrderID, wait time.Duration) (seckill.Order, error)
	CancelOrder(ctx context.Context, caller *seckill.Caller, id seckill.OrderID) (seckill.Order, error)
	Pay(ctx context.Context, n *seckill.Notice) (seckill.Order, error)
	// InStock reports, from memory, whether the offer was last seen with a unit available, and how
	// old that is.
	InStock(o seckill.Offer) (inStock bool, age time.Duration)
}

// Server is the public listener. Its methods are safe for concurrent use.
type Server struct {
	// Fixed after New.
	cfg      Config
	sales    Sales
	gate     Gate
	health   Health
	quiet    *quietlog.Log
	http     *fasthttp.Server
	lobby    *fasthttp.Server // answers connections that get no place
	places   *limiter.Connections
	counters *counters
	ids      *requestIDs
	random   func() uint64
	help     *helpPages
	pages    *activityPages

	exchanges sync.Pool

	inFlight     atomic.Int64
	waiting      atomic.Int64
	paused       atomic.Int64
	acceptPauses atomic.Uint64
	panics       atomic.Uint64
	rejected     atomic.Uint64 // connections that got no place
	inLobby      atomic.Int64
	lobbyWork    sync.WaitGroup
	draining     atomic.Bool

	mu       sync.Mutex
	listener *listener // guarded by mu; nil before Serve
}

// New makes a server that answers from sales.
func New(cfg Config, sales Sales, health Health, log *slog.Logger) (*Server, error) {
	cfg, err := cfg.derive(fileLimit())
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if n := len(problem.Entries()); n > maxCodes {
		return nil, fmt.Errorf("gateway: %d codes, counters for %d", n, maxCodes)
	}
	now := time.Now()
	s := &Server{
		cfg: cfg, sales: sales, gate: cfg.Gate, health: health, quiet: quietlog.New(log, kindCount, now),
		counters: newCounters(), ids: newRequestIDs(), random: rand.Uint64,
		help: newHelpPages(), pages: &activityPages{started: now, age: cfg.StockAge, inStock: sales.InStock},
	}
	if s.gate == nil {
		s.gate = openGate{}
	}
	s.exchanges.New = func() any { return &exchange{server: s, stripe: s.counters.stripe()} }
	s.http = &fasthttp.Server{
		Handler:                      s.handle,
		ErrorHandler:                 s.handleUnreadable,
		ExpectHandler:                s.expected,
		Logger:                       httpLog{s.quiet},
		Concurrency:                  cfg.MaxConnections + slack,
		ReadBufferSize:               cfg.ReadBuffer,
		WriteBufferSize:              cfg.WriteBuffer,
		ReduceMemoryUsage:            true, // see conn, which has the timeouts, too
		MaxRequestBodySize:           cfg.MaxBody,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
	}
	s.places = limiter.NewConnections(limiter.ConnectionsConfig{
		Most: cfg.MaxConnections, Reserved: cfg.reserved(), PerAddress: cfg.MaxPerAddress, Exempt: cfg.Proxies,
	})
	s.lobby = newLobby(s)
	return s, nil
}

// slack is how many closed connections fasthttp may still count as open: it notices a close with a
// short delay.
const slack = 256

// Serve answers the connections of l until Shutdown is called, and then returns nil, even if
// Shutdown was called before. It may be called once. l is closed when it returns.
func (s *Server) Serve(l net.Listener) error {
	own := newListener(l, s.quiet, &s.acceptPauses, s.places, s.turnAway)
	own.limits = timeouts{idle: s.cfg.IdleTimeout, read: s.cfg.ReadTimeout, write: s.cfg.WriteTimeout}
	s.mu.Lock()
	draining, serving := s.draining.Load(), s.listener != nil
	if !draining && !serving {
		s.listener = own
	}
	s.mu.Unlock()
	switch {
	case serving:
		return errors.Join(errors.New("gateway: serves already"), own.Close())
	case draining:
		return own.Close()
	}
	err := errors.Join(s.http.Serve(own), own.Close())
	s.lobbyWork.Wait()
	return err
}

// Shutdown ends the server in steps: /readyz changes to 503, DrainDelay passes, no more connections
// are accepted, idle ones are closed, and requests in flight are answered with Connection: close.
// If ctx ends first, the connections that are left are closed at once, and the error says how many.
// It may be called again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock() // a concurrent Serve either sees the drain, or Shutdown sees its listener
	first := s.draining.CompareAndSwap(false, true)
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	if first && s.cfg.DrainDelay > 0 {
		delay := time.NewTimer(s.cfg.DrainDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-ctx.Done():
		}
	}
	err := l.Close()
	// For five seconds fasthttp counts a new connection without a request as busy.
	l.closeConns(func(c *conn) bool { return !c.used.Load() })
	if late := s.http.ShutdownWithContext(ctx); late != nil {
		n := l.closeConns(func(*conn) bool { return true })
		err = errors.Join(err, fmt.Errorf("gateway: %d connections closed in the middle: %w", n, late))
	}
	return err
}

// handle answers one request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	x := s.exchanges.Get().(*exchange)
	x.begin(ctx, ctx.Time())
	if s.guarded(x, (*Server).dispatch) {
		x.finish()
		s.exchanges.Put(x)
	}
}

// handleUnreadable answers if fasthttp could not read a request.
func (s *Server) handleUnreadable(ctx *fasthttp.RequestCtx, err error) {
	if c, ok := ctx.Conn().(*conn); ok {
		if !c.used.Load() {
			_ = c.Close() // there was no request: the client would take this answer for the answer to its next request
			return
		}
		c.linger.Store(true)
	}
	x := s.exchanges.Get().(*exchange)
	x.begin(ctx, time.Now())
	if s.guarded(x, func(_ *Server, x *exchange) { x.problem(unreadable(err)) }) {
		x.finish()
		s.exchanges.Put(x)
	}
}

// unreadable is the answer to a request that could not be read.
func unreadable(err error) *problem.Problem {
	var header *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return &problem.Problem{Code: problem.TooLarge}
	case errors.As(err, &header):
		return &problem.Problem{Code: problem.HeaderTooLarge}
	case errors.As(err, &network) && network.Timeout():
		return &problem.Problem{Code: problem.RequestTimeout}
	}
	return &problem.Problem{Code: problem.InvalidRequest, Detail: "The request isn't well-formed HTTP/1.1."}
}

// guarded runs f and reports whether it returned. If it panicked, the request is answered as
// internal and its connection is closed. x may be in any state then and is not used again.
func (s *Server) guarded(x *exchange, f func(*Server, *exchange)) (returned bool) {
	defer func() {
		if returned {
			return
		}
		s.panicked(x, recover())
	}()
	f(s, x)
	return true
}

func (s *Server) panicked(x *exchange, cause any) {
	s.panics.Add(1)
	ctx := x.http
	if n, ok := s.quiet.May(kindPanic, time.Now()); ok {
		s.quiet.Log.Error("panic in a request", "cause", fmt.Sprint(cause), "route", routes[x.route].name,
			"request_id", string(x.id), "left_out", n, "stack", string(debug.Stack()))
	}
	if x.context != nil {
		x.context.end()
	}
	ctx.Response.Reset()
	broken := &exchange{server: s, stripe: x.stripe}
	broken.begin(ctx, x.arrived)
	broken.route = x.route
	broken.header(keyRequestID, x.id)
	broken.refuse(problem.Internal)
	ctx.SetConnectionClose()
	broken.finish()
}

// dispatch finds the route and answers.
func (s *Server) dispatch(x *exchange) {
	x.route, x.param = match(x.http.URI().PathOriginal())
	switch {
	case !x.strict():
	case x.isReserved() && x.route != routeLive && x.route != routeReady:
		x.crowded(manyOpen)
	case x.route == routeLive || x.route == routeReady: // health is answered under any load
		s.probed(x)
	default:
		s.limited(x)
	}
}

// probed answers health checks, which count against their address like all requests without a key.
func (s *Server) probed(x *exchange) {
	r := &routes[x.route]
	switch {
	case x.stranger(): // the address sends too many
	case !r.takes(x.http.Method()):
		x.header(keyAllow, r.allow())
		x.refuse(problem.MethodNotAllowed)
	case x.route == routeLive:
		x.live()
	default:
		x.readiness()
	}
}

// nothing answers a path without a route. If the path belongs to the admin API, the answer says
// that this is the wrong listener.
func (x *exchange) nothing() {
	p := problem.Problem{Code: problem.NotFound}
	if bytes.HasPrefix(x.http.URI().PathOriginal(), adminPath) {
		p.Detail = "This is the public listener: the admin API is on the other one (admin-listen)."
	}
	x.problem(&p)
}

// adminPath begins the paths of the admin API.
var adminPath = []byte("/admin/")

// limited answers if the in-flight limit allows it.
func (s *Server) limited(x *exchange) {
	defer s.inFlight.Add(-1)
	if s.inFlight.Add(1) > int64(s.cfg.MaxInFlight) {
		x.problem(&problem.Problem{Code: problem.Overloaded, RetryAfter: time.Second})
		return
	}
	if t := s.cfg.Trace; t != nil {
		x.beginTrace(t)
	}
	r := &routes[x.route]
	switch {
	case x.route == routeNone:
		if !x.stranger() {
			x.nothing()
		}
		return
	case !r.takes(x.http.Method()):
		if !x.stranger() {
			x.header(keyAllow, r.allow())
			x.refuse(problem.MethodNotAllowed)
		}
		return
	}
	switch x.route {
	case routeBuy:
		x.buy()
	case routeOrder:
		x.findOrder()
	case routeCancel:
		x.cancelOrder()
	case routePay:
		x.pay()
	case routeActivity:
		x.activity()
	case routeOpenAPI:
		if !x.stranger() {
			x.openAPI()
		}
	case routeProblems, routeProblem:
		if !x.stranger() {
			x.helpPage()
		}
	}
}

// What a 401 asks for (RFC 9110, section 15.5.2): a key, another key (RFC 6750), or a signature.
const (
	challengeKey       = `Bearer realm="penstock"`
	challengeBadKey    = `Bearer realm="penstock", error="invalid_token"`
	challengeOldKey    = `Bearer realm="penstock", error="invalid_token", error_description="the key has expired"`
	challengeSignature = headerSignature + ` realm="penstock", algorithm="hmac-sha256"`
)

// authenticate finds the caller by its key, or answers. A request names exactly one key. A key must
// be valid when the request arrives; it may expire while the request is worked on.
func (x *exchange) authenticate() *seckill.Caller {
	fields := x.http.Request.Header.PeekAll(headerAuthorization)
	var key []byte
	if len(fields) == 1 {
		key = bearer(fields[0])
	}
	if key == nil {
		if !x.stranger() {
			x.headerText(keyAuthenticate, challengeKey)
			x.refuse(problem.Unauthenticated)
		}
		return nil
	}
	hash := sha256.Sum256(key)
	known := x.server.sales.Catalog().Credential(hash)
	if known == nil {
		known = x.server.cfg.Probes.Credential(hash)
		x.probe = known != nil
	}
	sure := true
	if known == nil || !known.Valid(x.arrived) {
		var catalog *seckill.Catalog
		catalog, sure = x.server.sales.Fresh(x.deadline())
		known = catalog.Credential(hash)
	}
	if known != nil && known.Valid(x.arrived) {
		known.Use(x.arrived)
		return known.Caller
	}
	if known == nil && !sure {
		if !x.stranger() {
			x.notSeen()
		}
		return nil
	}
	x.refuseKey(known)
	return nil
}

// notSeen answers when something isn't in the catalog, and the catalog can't be refreshed. A "not
// found" would be final for the client.
func (x *exchange) notSeen() {
	x.problem(&problem.Problem{Code: problem.Unavailable, RetryAfter: time.Second})
}

// refuseKey answers to a key that is not valid. It may say why, because the client has the key.
func (x *exchange) refuseKey(known *seckill.Credential) {
	p := problem.Problem{Code: problem.Unauthenticated}
	challenge := challengeBadKey
	switch {
	case known == nil:
	case known.Revoked || known.Caller.Revoked:
		p.Detail = fmt.Sprintf("The caller key %s… was revoked.", known.Prefix)
	default:
		challenge = challengeOldKey
		p.Detail = fmt.Sprintf("The caller key %s… expired at %s. Use a newer key of this caller.", known.Prefix,
			known.Expires.Format(problem.TimeFormat))
	}
	if x.stranger() {
		return
	}
	x.headerText(keyAuthenticate, challenge)
	x.problem(&p)
}

// stranger counts a request without a valid key or signature against its client address, and makes
// it wait for its turn. If the address asks too often, stranger answers and reports true.
func (x *exchange) stranger() bool {
	denial := x.counted()
	if x.visit.Pause > 0 {
		x.pause()
	}
	if denial != nil {
		x.denied(denial)
	}
	return denial != nil
}

// counted counts a request without a valid key or signature against its client address. The answer
// must wait for the visit's pause. If counted returns a denial, that is the answer.
func (x *exchange) counted() *Denial {
	x.visit.Pause = 0
	x.address()
	return x.server.gate.Stranger(&x.visit)
}

// address sets the visit's request data and the client's address.
func (x *exchange) address() {
	x.visit.Route, x.visit.Arrived, x.visit.Peer = routes[x.route].name, x.arrived, x.http.RemoteAddr()
	x.visit.Request = view(x.id)
	x.visit.Forwarded = forwarded(x.http.Request.Header.PeekAll(headerForwardedFor))
}

// acceptsBody reports whether this listener reads bodies of this kind; if not, it answers.
func (x *exchange) acceptsBody() bool {
	h := &x.http.Request.Header
	if encoding := h.ContentEncoding(); !isJSON(h.ContentType()) || len(encoding) > 0 && string(encoding) != "identity" {
		x.refuse(problem.UnsupportedMediaType)
		return false
	}
	return true
}

// enter asks the gate, or answers. If it returns true, the caller must defer x.leave.
func (x *exchange) enter() bool {
	x.address()
	denial := x.server.gate.Enter(&x.visit)
	if denial != nil && x.route == routeBuy && x.server.sales.Repeats(&x.purchase) {
		x.visit.Repeat, x.visit.Pause = true, 0 // existing orders have room when new ones have none
		denial = x.server.gate.Enter(&x.visit)
	}
	if denial != nil && x.visit.Pause > 0 {
		x.pause()
		denial = x.server.gate.Enter(&x.visit)
	}
	if denial == nil {
		return true
	}
	x.denied(denial)
	return false
}

// denied answers with a gate's denial.
func (x *exchange) denied(denial *Denial) {
	if denial.RateLimit != "" {
		x.headerText(keyRateLimit, denial.RateLimit)
	}
	if denial.RateLimitPolicy != "" {
		x.headerText(keyRateLimitPolicy, denial.RateLimitPolicy)
	}
	x.problem(&denial.Problem)
}

// pause makes a visit wait before the gate. Afterwards its arrival time is set again, because no
// work was done for it before. The number of connections bounds how many visits wait.
func (x *exchange) pause() {
	x.server.inFlight.Add(-1)
	x.server.paused.Add(1)
	<-time.After(x.visit.Pause)
	x.server.paused.Add(-1)
	x.server.inFlight.Add(1)
	x.visit.Arrived = time.Now()
}

// leave tells the gate that the visit is over; a status of 0 means a panic.
func (x *exchange) leave() {
	status := x.status
	if status == 0 {
		status = fasthttp.StatusInternalServerError
	}
	x.visit.Code = x.code
	if limited := x.visit.Limited; limited != nil && x.code == limited.Problem.Code {
		x.visit.Limit = limited.Problem.Limit
	}
	if x.visit.Order == "" {
		x.visit.Order = x.purchase.Made()
	}
	x.server.gate.Leave(&x.visit, status, time.Since(x.arrived))
}

// wait takes one of the MaxWaiting places and returns how long this request may wait: as long as it
// prefers, or 0 if all places are taken. unwait gives the place back.
func (x *exchange) wait() time.Duration {
	fields := x.http.Request.Header.PeekAll(headerPrefer)
	if len(fields) == 0 || x.visit.NoWait {
		return 0
	}
	wait := preferredWait(fields, x.server.cfg.MaxWait)
	if wait <= 0 {
		return 0
	}
	if x.server.waiting.Add(1) > int64(x.server.cfg.MaxWaiting) {
		x.server.waiting.Add(-1)
		return 0
	}
	return wait
}

func (x *exchange) unwait(wait time.Duration) {
	if wait > 0 {
		x.server.waiting.Add(-1)
	}
}

// applied sets Preference-Applied.
func (x *exchange) applied(wait time.Duration) {
	if wait <= 0 {
		return
	}
	x.number = append(x.number[:0], "wait="...)
	x.number = appendInt(x.number, int64(wait/time.Second))
	x.header(keyPreference, x.number)
}

// logRefusal logs a refused credential, with its owner and the client's address, for the analysis
// of an incident.
func (s *Server) logRefusal(x *exchange, code problem.Code) {
	kind, message := kindUnauthenticated, "caller key refused"
	switch code {
	case problem.InvalidSignature:
		kind, message = kindSignature, "payment signature refused"
	case problem.Forbidden:
		kind, message = kindForbidden, "right refused"
	}
	n, ok := s.quiet.May(kind, x.arrived)
	if !ok {
		return
	}
	args := []any{"client", s.client(x), "route", routes[x.route].name, "request_id", string(x.id), "left_out", n}
	if c := x.visit.Caller; c != nil {
		args = append(args, "merchant", string(c.Merchant), "caller", string(c.Caller))
	}
	s.quiet.Log.Warn(message, args...)
}

// client returns the client's address, behind trusted proxies.
func (s *Server) client(x *exchange) string {
	remote, ok := x.http.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return x.http.RemoteAddr().String()
	}
	return limiter.ClientIP(remote.AddrPort().Addr(), forwarded(x.http.Request.Header.PeekAll(headerForwardedFor)), s.cfg.Proxies).String()
}

// logFailure logs an error whose text the public doesn't get.
func (s *Server) logFailure(x *exchange, p *problem.Problem, err error) {
	kind, write := kindUnavailable, s.quiet.Log.Warn
	switch {
	case p.Code == problem.Internal:
		kind, write = kindInternal, s.quiet.Log.Error
	case p.Code != problem.Unavailable:
		return // a decision or our own limit, which Stats counts
	}
	if n, ok := s.quiet.May(kind, x.arrived); ok {
		args := []any{"err", err, "route", routes[x.route].name, "request_id", string(x.id), "order", p.Order, "left_out", n}
		if x.trace.Traced() {
			args = append(args, "trace_id", x.trace.Context().Trace())
		}
		write("request failed", args...)
	}
}

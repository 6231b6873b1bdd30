package gateway

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/seckill"
)

// exchange is one request and its answer while the handler runs. It is pooled: begin resets
// everything that an earlier request may have left.
type exchange struct {
	// Fixed after the exchange was made.
	server *Server
	stripe *stripe

	// The current request's; nil or zero between two requests.
	http     *fasthttp.RequestCtx
	route    routeID
	param    []byte // the parameter in the path
	arrived  time.Time
	id       []byte // the request id: the client's, or in scratch
	visit    Visit
	purchase seckill.Purchase
	offer    seckill.Offer // the item that is asked for
	replayed bool          // the answer repeats that of an earlier request with the same key
	probe    bool          // this process probes itself
	trace    trace.Request
	context  *requestContext
	status   int
	code     problem.Code // "" after a success

	// Kept, so that their memory is used again.
	decoder  decoder
	body     []byte // the answer's body
	location []byte
	number   []byte // a header field's value
	scratch  []byte // memory for a request id that this process made
}

func (x *exchange) begin(ctx *fasthttp.RequestCtx, arrived time.Time) {
	x.http, x.arrived = ctx, arrived
	x.route, x.param, x.status, x.code = routeNone, nil, 0, ""
	x.decoder.reset()
	x.takeRequestID()
	x.header(keyNoSniff, valueNosniff)
}

// finish counts the answer and releases everything that belongs to the request.
func (x *exchange) finish() {
	now := time.Now()
	took := now.Sub(x.arrived)
	if !x.probe { // probes are counted by the prober
		x.server.counters.add(x.stripe, x.route, x.status, x.code, took, x.id, now)
		if x.route == routeBuy {
			x.countPurchase(took)
		}
	}
	if x.trace.Traced() {
		x.endTrace(now)
	}
	if c, ok := x.http.Conn().(*conn); ok {
		c.answered = now
	}
	x.release()
}

// beginTrace decides whether the request is traced, and says so in the answer.
func (x *exchange) beginTrace(t *trace.Tracer) {
	x.trace = t.Begin(x.http.Request.Header.Peek(headerTraceParent), x.arrived)
	if x.trace.Traced() {
		x.number = x.trace.Context().AppendHeader(x.number[:0])
		x.header(keyTraceResponse, x.number)
	}
}

// endTrace records the outcome of a traced request.
func (x *exchange) endTrace(now time.Time) {
	r := &routes[x.route]
	attrs := []trace.Attr{
		{Key: "http.request.method", Text: string(x.http.Method())}, {Key: "http.route", Text: r.pattern},
		{Key: "http.response.status_code", Number: int64(x.status)}, {Key: "penstock.request_id", Text: string(x.id)},
	}
	for _, a := range []trace.Attr{{Key: "penstock.code", Text: string(x.code)}, {Key: "penstock.order", Text: string(x.purchase.Made())}} {
		if a.Text != "" {
			attrs = append(attrs, a)
		}
	}
	x.server.cfg.Trace.End(&x.trace, string(x.http.Method())+" "+r.pattern, x.arrived, now, x.status >= 500, attrs...)
	x.trace = trace.Request{}
}

// countPurchase counts the answer to a purchase for the live view.
func (x *exchange) countPurchase(took time.Duration) {
	a := answered{offer: x.offer, caller: x.purchase.Caller, problem: -1, replayed: x.replayed, waited: x.purchase.Wait > 0, took: took}
	if x.code != "" {
		a.problem = x.server.counters.codes[x.code] - len(successes)
		a.soldOut = x.code == problem.SoldOut
	}
	x.stripe.traffic.add(&a)
}

// release drops all references to the request.
func (x *exchange) release() {
	if x.context != nil {
		x.context.end()
	}
	x.decoder.shrink(len(x.http.Request.Body()))
	x.decoder.reset()
	x.http, x.context, x.param, x.id = nil, nil, nil, nil
	x.visit, x.purchase, x.offer, x.replayed, x.probe = Visit{}, seckill.Purchase{}, seckill.Offer{}, false, false
	if cap(x.body) > maxKeptAnswer {
		x.body = nil
	}
}

// maxKeptAnswer is the largest answer whose buffer is kept: activities with many items are larger.
const maxKeptAnswer = 8 << 10

// takeRequestID uses the client's request id if it is valid, and makes one otherwise.
func (x *exchange) takeRequestID() {
	if id := x.http.Request.Header.Peek(headerRequestID); isRequestID(id) {
		x.id = id
	} else {
		x.scratch = x.server.ids.append(x.scratch[:0])
		x.id = x.scratch
	}
	x.http.Response.Header.SetCanonical(keyRequestID, x.id)
}

// requestIDs makes request ids: 12 random characters of this process, and a count. They need only
// be unique.
type requestIDs struct {
	prefix string
	count  atomic.Uint64
}

func newRequestIDs() *requestIDs {
	const letters = "0123456789abcdefghjkmnpqrstvwxyz"
	prefix := make([]byte, 13)
	for i := range prefix {
		prefix[i] = letters[rand.IntN(len(letters))]
	}
	prefix[12] = '-'
	return &requestIDs{prefix: string(prefix)}
}

func (r *requestIDs) append(dst []byte) []byte {
	return strconv.AppendUint(append(dst, r.prefix...), r.count.Add(1), 36)
}

// deadline returns the request's context; it ends with the request.
func (x *exchange) deadline() *requestContext {
	if x.context == nil {
		x.context = &requestContext{at: x.arrived.Add(x.server.cfg.RequestTimeout)}
	}
	return x.context
}

// header sets a field of the answer, and spells its name exactly as given. Each field may be set
// only once per request.
func (x *exchange) header(key, value []byte) { x.http.Response.Header.SetCanonical(key, value) }

// headerText sets a field of the answer to a string, without an allocation.
func (x *exchange) headerText(key []byte, value string) {
	x.number = append(x.number[:0], value...)
	x.header(key, x.number)
}

// headerNumber sets a field of the answer to a number.
func (x *exchange) headerNumber(key []byte, n int64) {
	x.number = strconv.AppendInt(x.number[:0], n, 10)
	x.header(key, x.number)
}

// locate sets the Location of an order.
func (x *exchange) locate(id string) {
	x.location = append(append(x.location[:0], prefixOrders...), id...)
	x.header(keyLocation, x.location)
}

const jsonType = "application/json"

// answer gives a success with x.body.
func (x *exchange) answer(status int, contentType string) {
	x.status, x.code = status, ""
	x.http.Response.SetStatusCode(status)
	x.http.Response.Header.SetContentType(contentType)
	x.http.Response.SetBody(x.body)
}

// refuse answers with a problem that has only a code.
func (x *exchange) refuse(code problem.Code) {
	x.problem(&problem.Problem{Code: code})
}

// refuseMistakes answers with all mistakes that the decoder found. It reports false if there are
// none.
func (x *exchange) refuseMistakes() bool {
	if len(x.decoder.errs) == 0 {
		return false
	}
	x.problem(&problem.Problem{Code: problem.InvalidRequest, Errors: x.decoder.errs})
	return true
}

// refuseError answers with the public part of err, and logs the rest.
func (x *exchange) refuseError(err error) {
	p := problem.FromError(err)
	x.server.logFailure(x, &p, err)
	x.problem(&p)
}

// problem answers with p. It is the only place that turns a problem into HTTP.
func (x *exchange) problem(p *problem.Problem) {
	retry := p.RetryAfter
	if retry <= 0 && !p.StartsAt.IsZero() {
		retry = max(p.StartsAt.Sub(x.arrived), time.Second)
	}
	told := *p
	told.RetryAfter = problem.Jitter(retry, x.server.random)
	if told.RetryAfter > 0 {
		x.headerNumber(keyRetryAfter, problem.Seconds(told.RetryAfter))
	}
	switch told.Code {
	case problem.InvalidSignature:
		x.headerText(keyAuthenticate, challengeSignature)
		x.server.logRefusal(x, told.Code)
	case problem.Unauthenticated, problem.Forbidden:
		x.server.logRefusal(x, told.Code)
	}
	if told.Order != "" {
		x.locate(told.Order)
	}
	if routes[x.route].read {
		x.header(keyCacheControl, valueNoStore)
	}
	x.status, x.code = told.Status(), told.Code
	x.body = problem.Append(x.body[:0], &told)
	x.http.Response.SetStatusCode(x.status)
	x.http.Response.Header.SetContentType(problem.ContentType)
	x.http.Response.SetBody(x.body)
}

package loadtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// stillClock is a clock that stands still until somebody waits for it, or moves it. Nothing in
// these tests takes real time.
type stillClock struct {
	mu sync.Mutex
	t  time.Time // guarded by mu
}

func newStillClock() *stillClock {
	return &stillClock{t: time.Date(2026, 6, 18, 20, 0, 0, 0, time.UTC)}
}

func (c *stillClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *stillClock) move(d time.Duration) { <-c.wait(c.now().Add(d)) }

func (c *stillClock) wait(t time.Time) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.t) {
		c.t = t
	}
	came := make(chan time.Time, 1)
	came <- c.t
	return came
}

func (c *stillClock) clock() clock {
	return clock{now: c.now, at: func(t time.Time) (<-chan time.Time, func()) { return c.wait(t), func() {} }}
}

// stub is a tiny shop with the public contract, and with one fault that a test chooses.
type stub struct {
	t       *testing.T
	clock   *stillClock
	stock   int
	perUser int
	fault   fault

	// A function that is set here has answered the request when it returns true.
	before     func(s *stub, ctx *fasthttp.RequestCtx, key string, sent int) bool // purchases, and how often the key came
	beforeRead func(ctx *fasthttp.RequestCtx, id string, sent int) bool           // reads, and how often the order was read
	page       string                                                             // of the activity; "" is none
	skus       []string                                                           // what is sold in each activity; nil is phone-x
	sees       func(caller, activity string) bool                                 // nil: only stubCaller, and everything

	mu     sync.Mutex
	orders map[string]*stubOrder // guarded by mu, by id
	keys   map[string]string     // guarded by mu, key to id
	bought map[string]int        // guarded by mu, open and sold units, by item and user
	taken  map[string]int        // guarded by mu, by item
	made   int                   // guarded by mu
	sent   map[string]int        // guarded by mu, requests by key, reads by order
	total  int                   // guarded by mu, purchases asked for
}

type stubOrder struct {
	ID       string `json:"order"`
	Activity string `json:"activity"`
	SKU      string `json:"sku"`
	User     string `json:"user"`
	Quantity int    `json:"quantity"`
	Status   string `json:"status"`
	Reason   string `json:"reason,omitempty"`
	caller   string
}

func (o *stubOrder) item() string  { return o.Activity + "/" + o.SKU }
func (o *stubOrder) taker() string { return o.item() + " " + o.User }

// fault is a way of being wrong.
type fault uint8

const (
	honest fault = iota
	oversells
	losesOrders
	answersKeyTwice
	breaksLimit
	sharesOrders
	saysSoldOutEarly
	forgetsKeys
	rejectsLater
	forgetsPayments
	forgetsCancels
	staysQueued
)

const (
	stubCaller = "caller-key"
	stubSecret = "payment-secret"
)

func newStub(t *testing.T, stock, perUser int, f fault) *stub {
	return &stub{
		t: t, clock: newStillClock(), stock: stock, perUser: perUser, fault: f,
		orders: make(map[string]*stubOrder), keys: make(map[string]string), bought: make(map[string]int), sent: make(map[string]int),
		taken: make(map[string]int), skus: []string{"phone-x"},
	}
}

// listen serves the stub on loopback until the test ends, and returns its URL.
func (s *stub) listen() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	// This stub breaks connections on purpose; the tests check the consequences.
	server := &fasthttp.Server{Handler: s.handle, NoDefaultServerHeader: true, Logger: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			s.t.Error(err)
		}
		serving.Wait()
	})
	return "http://" + listener.Addr().String()
}

func (s *stub) handle(ctx *fasthttp.RequestCtx) {
	path, method := string(ctx.Path()), string(ctx.Method())
	caller := strings.TrimPrefix(string(ctx.Request.Header.Peek("Authorization")), "Bearer ")
	if path != "/v1/payments" && caller != stubCaller && s.sees == nil {
		problem(ctx, 401, "unauthenticated", "")
		return
	}
	if activity, page := strings.CutPrefix(path, "/v1/activities/"); page && s.sees != nil && !s.sees(caller, activity) {
		problem(ctx, 404, "unknown-activity", "")
		return
	}
	id, isOrder := strings.CutPrefix(path, "/v1/orders/")
	switch {
	case method == "POST" && path == "/v1/orders":
		s.buy(ctx)
	case method == "POST" && path == "/v1/payments":
		s.pay(ctx)
	case method == "POST" && isOrder && strings.HasSuffix(id, "/cancel"):
		s.cancel(ctx, strings.TrimSuffix(id, "/cancel"))
	case method == "GET" && isOrder:
		s.read(ctx, id)
	case method == "GET" && s.page != "" && strings.HasPrefix(path, "/v1/activities/"):
		ctx.SetBodyString(s.page)
	default:
		problem(ctx, 404, "not-found", "")
	}
}

func (s *stub) buy(ctx *fasthttp.RequestCtx) {
	var p struct {
		Activity, SKU, User string
		Quantity            int
	}
	if err := json.Unmarshal(ctx.PostBody(), &p); err != nil || p.Activity == "" || p.User == "" || p.Quantity < 1 {
		problem(ctx, 400, "invalid-request", "")
		return
	}
	caller := strings.TrimPrefix(string(ctx.Request.Header.Peek("Authorization")), "Bearer ")
	if s.sees != nil && !s.sees(caller, p.Activity) {
		problem(ctx, 404, "unknown-activity", "")
		return
	}
	if !slices.Contains(s.skus, p.SKU) {
		problem(ctx, 404, "unknown-item", "")
		return
	}
	o := &stubOrder{"", p.Activity, p.SKU, p.User, p.Quantity, "pending_payment", "", caller}
	key := string(ctx.Request.Header.Peek("Idempotency-Key"))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[key]++
	s.total++
	if s.before != nil && s.before(s, ctx, key, s.sent[key]) {
		return
	}
	id, known := s.keys[key]
	switch {
	case known && s.fault == forgetsKeys:
		problem(ctx, 409, "sold-out", "")
	case known && s.fault != answersKeyTwice:
		s.accept(ctx, id, true)
	case s.taken[o.item()]+p.Quantity > s.limit():
		problem(ctx, 409, "sold-out", "")
	case s.fault != breaksLimit && s.bought[o.taker()]+p.Quantity > s.perUser && !known:
		problem(ctx, 409, "purchase-limit", "")
	default:
		s.made++
		id = fmt.Sprintf("order-%d", s.made)
		if s.fault == sharesOrders && s.made%5 == 0 {
			id = fmt.Sprintf("order-%d", s.made-1)
		}
		s.taken[o.item()] += p.Quantity
		s.bought[o.taker()] += p.Quantity
		s.keys[key] = id
		o.ID = id
		s.orders[id] = o
		s.accept(ctx, id, false)
		s.spoil(id)
	}
}

func (s *stub) limit() int {
	switch s.fault {
	case oversells:
		return s.stock + s.stock/10
	case saysSoldOutEarly:
		return s.stock - s.stock/10
	default:
		return s.stock
	}
}

// spoil breaks the promise just made, one in seven.
func (s *stub) spoil(id string) {
	if s.made%7 != 0 {
		return
	}
	switch s.fault {
	case losesOrders:
		delete(s.orders, id)
	case rejectsLater:
		s.orders[id].Status, s.orders[id].Reason = "rejected", "sold-out"
	case staysQueued:
		s.orders[id].Status = "queued"
	}
}

func (s *stub) accept(ctx *fasthttp.RequestCtx, id string, again bool) {
	if again {
		ctx.Response.Header.Set("Idempotent-Replayed", "true")
	}
	ctx.Response.Header.Set("Location", "/v1/orders/"+id)
	ctx.SetContentType("application/json")
	ctx.SetStatusCode(202)
	fmt.Fprintf(ctx, `{"order":%q,"status":"queued"}`, id)
}

func (s *stub) read(ctx *fasthttp.RequestCtx, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[id]++
	if s.beforeRead != nil && s.beforeRead(ctx, id, s.sent[id]) {
		return
	}
	o, ok := s.orders[id]
	if !ok || string(ctx.Request.Header.Peek("Authorization")) != "Bearer "+o.caller {
		problem(ctx, 404, "unknown-order", "")
		return
	}
	s.show(ctx, o)
}

func (s *stub) show(ctx *fasthttp.RequestCtx, o *stubOrder) {
	body, err := json.Marshal(o)
	if err != nil {
		s.t.Error(err)
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(body)
}

func (s *stub) cancel(ctx *fasthttp.RequestCtx, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.orders[id]
	switch {
	case !ok:
		problem(ctx, 404, "unknown-order", "")
	case o.Status == "paid":
		problem(ctx, 409, "not-cancellable", "")
	case s.fault == forgetsCancels:
		s.show(ctx, o)
	default:
		if o.Status == "pending_payment" {
			o.Status, o.Reason = "cancelled", "cancelled-by-buyer"
			s.taken[o.item()] -= o.Quantity
			s.bought[o.taker()] -= o.Quantity
		}
		s.show(ctx, o)
	}
}

func (s *stub) pay(ctx *fasthttp.RequestCtx) {
	var at int64
	signature := string(ctx.Request.Header.Peek("Penstock-Signature"))
	if n, err := fmt.Sscanf(strings.ReplaceAll(signature, ",", " "), "t=%d", &at); n != 1 || err != nil {
		problem(ctx, 401, "invalid-signature", "")
		return
	}
	want := hmac.New(sha256.New, []byte(stubSecret))
	fmt.Fprintf(want, "%d.%s", at, ctx.PostBody())
	if !strings.Contains(signature+",", ",v1="+hex.EncodeToString(want.Sum(nil))+",") {
		problem(ctx, 401, "invalid-signature", "")
		return
	}
	var p struct {
		Payment, Order, Currency string
		Amount                   int64
	}
	if err := json.Unmarshal(ctx.PostBody(), &p); err != nil {
		problem(ctx, 400, "invalid-request", "")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.orders[p.Order]
	switch {
	case !ok:
		problem(ctx, 404, "unknown-order", "")
	case p.Amount != 1999*int64(o.Quantity) || p.Currency != "CNY":
		problem(ctx, 409, "amount-mismatch", "")
	default:
		if o.Status == "pending_payment" && s.fault != forgetsPayments {
			o.Status = "paid"
		}
		s.show(ctx, o)
	}
}

// problem answers like the contract's problem+json; order is set where the outcome is unknown.
func problem(ctx *fasthttp.RequestCtx, status int, code, order string) {
	ctx.SetContentType("application/problem+json")
	ctx.SetStatusCode(status)
	if status == 429 || status == 503 {
		ctx.Response.Header.Set("Retry-After", "2")
	}
	fmt.Fprintf(ctx, `{"type":"/problems/%s","status":%d,"detail":"it says \"code\":\"other\"","code":%q`, code, status, code)
	if order != "" {
		fmt.Fprintf(ctx, `,"order":%q`, order)
	}
	fmt.Fprint(ctx, "}")
}

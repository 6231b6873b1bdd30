package loadtest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// userAgent is the product that the requests name.
	userAgent = "penstock-loadtest"
	// maxAnswer bounds the body of an answer. Answers of the contract have some hundred bytes.
	maxAnswer = 64 << 10
	// maxCode bounds the length of a kept code.
	maxCode = 64
	// maxSample bounds the part of a wrong answer that is kept for the report.
	maxSample = 300
	// longestRetryAfter bounds the seconds that a server can ask for, so that they fit a
	// time.Duration.
	longestRetryAfter = 1 << 20
)

// shop is the server as the crowd sees it. It is fixed after newShop and safe for concurrent use.
type shop struct {
	doors   []door
	bearers []string // of all callers
	secrets [][]byte // they sign payment notices; each notice is signed with all of them, because one belongs to its merchant
	timeout time.Duration
	clock   clock
}

// door is one of the addresses of a server.
type door struct {
	client fasthttp.HostClient
	base   string // scheme and host
}

// credentials are the keys and secrets of requests.
type credentials struct{ callerKeys, paymentSecrets []string }

// newShop makes the shop that listens at targets, with a bound on the connections to each.
func newShop(targets []string, who credentials, timeout time.Duration, connections int, clock clock) (*shop, error) {
	s := &shop{doors: make([]door, len(targets)), timeout: timeout, clock: clock}
	for _, key := range who.callerKeys {
		s.bearers = append(s.bearers, "Bearer "+key)
	}
	for _, secret := range who.paymentSecrets {
		s.secrets = append(s.secrets, []byte(secret))
	}
	for i, target := range targets {
		u, err := url.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("target: %w", err)
		}
		s.doors[i].base = u.Scheme + "://" + u.Host
		// The fields are set one by one, because a HostClient must not be copied.
		client := &s.doors[i].client
		client.Addr = u.Host
		if u.Port() == "" {
			client.Addr = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		}
		client.IsTLS = u.Scheme == "https"
		client.Name = userAgent
		client.DialDualStack = true
		client.MaxConns = connections
		client.MaxConnWaitTimeout = timeout
		client.MaxResponseBodySize = maxAnswer
		client.DisablePathNormalizing = true
		client.SecureErrorLogMessage = true
		// Repeats are decisions of a buyer and are counted, so the client must not repeat by
		// itself.
		client.MaxIdemponentCallAttempts = 1
		client.RetryIfErr = func(*fasthttp.Request, int, error) (resetTimeout, retry bool) { return false, false }
	}
	return s, nil
}

// reach returns an error if nothing listens at a target. That is more useful than a million failed
// requests.
func (s *shop) reach(ctx context.Context) error {
	dialer := net.Dialer{Timeout: s.timeout}
	for i := range s.doors {
		conn, err := dialer.DialContext(ctx, "tcp", s.doors[i].client.Addr)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if err := conn.Close(); err != nil {
			return fmt.Errorf("target: %w", err)
		}
	}
	return nil
}

func (s *shop) close() {
	for i := range s.doors {
		s.doors[i].client.CloseIdleConnections()
	}
}

// hand sends one request at a time, and always uses the same memory.
type hand struct {
	shop     *shop
	door     int // index of the door to which requests go
	request  fasthttp.Request
	response fasthttp.Response
	body     []byte
	ans      answer
}

// answer is the answer to a request. The hand's next request overwrites it, but its strings stay
// valid.
type answer struct {
	outcome    Outcome
	code       string
	order      string
	status     string // the order's status
	replayed   bool
	retryAfter time.Duration
	latency    time.Duration
	at         time.Time // when the answer came
	sample     string    // the received text of a wrong answer
}

func newHand(s *shop) *hand {
	h := &hand{shop: s}
	h.request.Header.SetUserAgent(userAgent)
	return h
}

// buy sends one purchase. Its latency counts from since.
func (h *hand) buy(p *purchase, quantity int, since time.Time) *answer {
	b := append(h.body[:0], p.goods.head...)
	b = append(b, p.user...)
	b = append(b, `","quantity":`...)
	b = strconv.AppendInt(b, int64(quantity), 10)
	h.body = append(b, '}')
	h.prepare(fasthttp.MethodPost, "/v1/orders")
	h.request.Header.Set(fasthttp.HeaderAuthorization, h.shop.bearers[p.caller])
	h.request.Header.Set("Idempotency-Key", p.key)
	h.request.Header.SetContentType("application/json")
	h.request.SetBodyRaw(h.body)
	return h.send(Buy, since)
}

// pay sends a provider's notice about an order, signed now.
func (h *hand) pay(o *order, quantity int, since time.Time) *answer {
	b := append(h.body[:0], `{"payment":"pay-`...)
	b = append(b, o.key...)
	b = append(b, `","order":"`...)
	b = append(b, o.id...)
	b = append(b, `","amount":`...)
	b = strconv.AppendInt(b, o.goods.Price*int64(quantity), 10)
	b = append(b, `,"currency":"`...)
	b = append(b, o.goods.Currency...)
	h.body = append(b, `"}`...)
	signedAt := strconv.FormatInt(time.Now().Unix(), 10) // the server compares it with its clock, so it must be the real time
	signature := "t=" + signedAt
	for _, secret := range h.shop.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signedAt))
		mac.Write([]byte("."))
		mac.Write(h.body)
		signature += ",v1=" + hex.EncodeToString(mac.Sum(nil))
	}
	h.prepare(fasthttp.MethodPost, "/v1/payments")
	h.request.Header.Set("Penstock-Signature", signature)
	h.request.Header.SetContentType("application/json")
	h.request.SetBodyRaw(h.body)
	return h.send(Pay, since)
}

// cancel cancels an order.
func (h *hand) cancel(o *order, since time.Time) *answer {
	h.prepare(fasthttp.MethodPost, "/v1/orders/"+url.PathEscape(o.id)+"/cancel")
	h.request.Header.Set(fasthttp.HeaderAuthorization, h.shop.bearers[o.caller])
	return h.send(Cancel, since)
}

// read asks for an order, and lets the server wait for a change from queued. The body stays in
// h.response.
func (h *hand) read(o *order, wait time.Duration, since time.Time) *answer {
	h.prepare(fasthttp.MethodGet, "/v1/orders/"+url.PathEscape(o.id))
	h.request.Header.Set(fasthttp.HeaderAuthorization, h.shop.bearers[o.caller])
	if seconds := int64(wait / time.Second); seconds > 0 {
		h.request.Header.Set("Prefer", "wait="+strconv.FormatInt(seconds, 10))
	}
	return h.send(Read, since)
}

// poll reads an order, like a buyer who waits for the order.
func (h *hand) poll(o *order, since time.Time) *answer {
	h.prepare(fasthttp.MethodGet, "/v1/orders/"+url.PathEscape(o.id))
	h.request.Header.Set(fasthttp.HeaderAuthorization, h.shop.bearers[o.caller])
	return h.send(Poll, since)
}

// browse reads the sale's page. The body stays in h.response.
func (h *hand) browse(caller int, activity string, since time.Time) *answer {
	h.prepare(fasthttp.MethodGet, "/v1/activities/"+url.PathEscape(activity))
	h.request.Header.Set(fasthttp.HeaderAuthorization, h.shop.bearers[caller])
	return h.send(Browse, since)
}

func (h *hand) prepare(method, path string) {
	h.request.Reset()
	h.request.Header.SetMethod(method)
	h.request.SetRequestURI(h.shop.doors[h.door].base + path)
}

// send sends the request and reads the answer into h.ans.
func (h *hand) send(action Action, since time.Time) *answer {
	err := h.shop.doors[h.door].client.DoTimeout(&h.request, &h.response, h.shop.timeout)
	a := &h.ans
	*a = answer{at: h.shop.clock.now()}
	a.latency = a.at.Sub(since)
	if err == nil {
		a.read(&h.response)
	}
	a.outcome, a.code = classify(action, h.response.StatusCode(), a, err)
	if a.outcome == Failed {
		a.sample = sample(&h.response, err)
	}
	return a
}

// read takes the important values out of a response. It copies strings, because the response's
// memory is used again.
func (a *answer) read(r *fasthttp.Response) {
	a.replayed = string(r.Header.Peek("Idempotent-Replayed")) == "true"
	if after := r.Header.Peek(fasthttp.HeaderRetryAfter); len(after) > 0 {
		// The header may also have a date. It is read as "soon".
		seconds, err := strconv.ParseUint(string(after), 10, 32)
		if err != nil {
			seconds = 1
		}
		a.retryAfter = time.Duration(min(seconds, longestRetryAfter)) * time.Second
	}
	ok := scanObject(r.Body(), func(name, value []byte, isString bool) {
		if !isString {
			return
		}
		switch string(name) {
		case "code":
			a.code = knownCode(value)
		case "order":
			a.order = string(value)
		case "status":
			a.status = knownStatus(value)
		}
	})
	if !ok || a.order != "" && !plain(a.order) {
		a.code, a.order, a.status = "", "", ""
	}
}

// knownCode returns a code as a string, without allocating for frequent codes.
func knownCode(b []byte) string {
	switch string(b) {
	case "sold-out":
		return "sold-out"
	case "purchase-limit":
		return "purchase-limit"
	case "rate-limited":
		return "rate-limited"
	case "overloaded":
		return "overloaded"
	case "degraded":
		return "degraded"
	case "unavailable":
		return "unavailable"
	case "not-started":
		return "not-started"
	case "ended":
		return "ended"
	}
	return string(b[:min(len(b), maxCode)])
}

// knownStatus does the same for the statuses of orders.
func knownStatus(b []byte) string {
	switch string(b) {
	case statusQueued:
		return statusQueued
	case statusPending:
		return statusPending
	case statusPaid:
		return statusPaid
	}
	return string(b)
}

// sample shows a wrong answer, on one line.
func sample(r *fasthttp.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	body := r.Body()
	more := ""
	if len(body) > maxSample {
		body, more = body[:maxSample], " …"
	}
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "\uFFFD")), " ")
	return strconv.Itoa(r.StatusCode()) + " " + text + more
}

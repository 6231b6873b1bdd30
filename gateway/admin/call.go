package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// call is one request and its answer.
type call struct {
	server *Server
	w      *answerWriter
	r      *http.Request
	sent   *http.Request // the request as net/http made it, which gets the trailers once the body is read
	route  *route
	token  identity // the holder of the token; zero on routes without one
	most   int64    // the largest body in bytes; 0 is Config.MaxBody
}

// identity is the holder of a token.
type identity struct {
	id       seckill.TokenID
	name     string
	role     seckill.Role
	merchant seckill.MerchantID // "" is all of them
	session  bool               // a person who has logged in
	expires  time.Time          // zero: never
}

// answerWriter records the status of an answer.
type answerWriter struct {
	http.ResponseWriter
	status int // 0 until the header is written
}

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// refusal is a decision of this package, as an error.
type refusal struct{ problem.Problem }

// Error implements error.
func (r *refusal) Error() string { return string(r.Code) }

// refuse makes a refusal; detail "" uses the catalogue's.
func refuse(code problem.Code, detail string) error {
	return &refusal{problem.Problem{Code: code, Detail: detail}}
}

// failed wraps an error of a store's call. The call may have had no effect, and every call here may
// be repeated.
func failed(what string, err error) error {
	return &seckill.Failure{Code: problem.Unavailable, RetryAfter: time.Second, Err: fmt.Errorf("%s: %w", what, err)}
}

// fail answers with the public part of err, and logs the rest.
func (c *call) fail(err error) {
	var p problem.Problem
	if r, ok := errors.AsType[*refusal](err); ok {
		p = r.Problem
	} else if fields, ok := errors.AsType[seckill.FieldErrors](err); ok {
		m := new(mistakes)
		m.addAll(fields)
		c.fail(m.err())
		return
	} else {
		p = problem.FromError(err)
	}
	switch p.Code {
	case problem.Internal:
		c.server.quiet.write(kindInternal, slog.LevelError, "admin request failed", "route", c.routeName(), "request", c.id(), "err", err)
	case problem.Unavailable, problem.Overloaded:
		c.server.quiet.write(kindUnavailable, slog.LevelWarn, "admin request not served", "route", c.routeName(), "request", c.id(), "err", err)
	}
	c.problem(&p)
}

// problem is the only place that turns a problem into HTTP.
func (c *call) problem(p *problem.Problem) {
	h := c.w.Header()
	if p.RetryAfter > 0 {
		p.RetryAfter = problem.Jitter(p.RetryAfter, rand.Uint64)
		h.Set("Retry-After", strconv.FormatInt(problem.Seconds(p.RetryAfter), 10))
	}
	c.write(p.Status(), problem.ContentType, problem.Append(nil, p))
}

// json answers with v.
func (c *call) json(status int, v any) error {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	c.write(status, "application/json", body.Bytes())
	return nil
}

// none answers 204.
func (c *call) none() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) write(status int, contentType string, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	if _, err := c.w.Write(body); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		c.server.quiet.write(kindHTTP, slog.LevelWarn, "http", "message", err.Error())
	}
}

func (c *call) routeName() string {
	if c.route == nil {
		return noRoute
	}
	return c.route.pattern
}

// id is the request id.
func (c *call) id() string { return c.w.Header().Get("X-Request-Id") }

// author returns the author of a change, with the reason.
func (c *call) author(reason string) seckill.Author {
	return seckill.Author{Actor: c.token.name, Token: string(c.token.id), Address: c.address(), Reason: reason}
}

// bodilessAuthor is the author of a change that has no body: the header has its reason.
func (c *call) bodilessAuthor() (seckill.Author, error) {
	m := new(mistakes)
	reason := c.reason(nil, m, false)
	return c.author(reason), m.err()
}

// address returns the client's address as text, "" if it has none.
func (c *call) address() string {
	if client := c.client(); client.IsValid() {
		return client.String()
	}
	return ""
}

// client returns the client's address, behind trusted proxies; the zero Addr if it has none.
func (c *call) client() netip.Addr {
	remote, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	forwarded := strings.Join(c.r.Header["X-Forwarded-For"], ",")
	return limiter.ClientIP(remote.Addr(), forwarded, c.server.cfg.Proxies)
}

// context is the context of a read: it ends when the client goes away.
func (c *call) context() context.Context { return c.r.Context() }

// lasting is the context of a change. It doesn't end when the client goes away, so that no change
// is left half done.
func (c *call) lasting() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.r.Context()), c.server.cfg.RequestTimeout)
}

// takeLargeBody allows a large body, unless too many are in progress. Call done at the end.
func (c *call) takeLargeBody() (done func(), err error) {
	select {
	case c.server.large <- struct{}{}:
	default:
		return nil, refuseOverloaded()
	}
	c.most = c.server.cfg.MaxLargeBody
	return func() { <-c.server.large }, nil
}

func (c *call) maxBody() int64 { return max(c.most, c.server.cfg.MaxBody) }

// body reads the request's JSON object. Without optional there must be one.
func (c *call) body(m *mistakes, optional bool) (*object, error) {
	contentType := c.r.Header.Get("Content-Type")
	if !isJSON(contentType) || c.r.Header.Get("Content-Encoding") != "" {
		return nil, refuse(problem.UnsupportedMediaType, "")
	}
	if c.r.ContentLength > c.maxBody() { // check it before a client that waits for 100 Continue sends its body
		return nil, refuse(problem.TooLarge, fmt.Sprintf("The body is larger than %d bytes.", c.maxBody()))
	}
	text, err := io.ReadAll(http.MaxBytesReader(c.w.ResponseWriter, c.r.Body, c.maxBody()))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(problem.TooLarge, fmt.Sprintf("The body is larger than %d bytes.", tooLarge.Limit))
	} else if err != nil {
		return nil, refuse(problem.RequestTimeout, "")
	}
	if len(c.sent.Trailer) > 0 {
		return nil, refuse(problem.InvalidRequest, "The request has trailer fields: send all fields in the header.")
	}
	if optional && len(text) == 0 {
		return &object{raw: map[string]json.RawMessage{}, mistakes: m}, nil
	}
	return parseObject(text, "", m), nil
}

// isJSON reports whether a body of that content type is read as JSON in UTF-8. A missing content
// type counts as JSON.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	charset, given := params["charset"]
	return err == nil && mediaType == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// maxReason is the longest reason of a change, in characters.
const maxReason = 500

// reason takes the member "reason" of a body, or the header field X-Reason if the body has none (o
// may be nil). If required, the body must have it.
func (c *call) reason(o *object, m *mistakes, required bool) string {
	reason := latin1(c.r.Header.Get("X-Reason"))
	m.add("header X-Reason", checkReason(reason))
	if o == nil {
		return reason
	}
	s, given := o.optionalText("reason")
	m.add("reason", checkReason(s))
	if required && s == "" {
		m.add("reason", "is required")
	}
	if given || required {
		return s
	}
	return reason
}

func checkReason(s string) string {
	switch {
	case s == "":
		return ""
	case utf8.RuneCountInString(s) > maxReason:
		return fmt.Sprintf("must be at most %d characters", maxReason)
	}
	return problem.IllegibleText(s)
}

// latin1 returns the value of a field of the header. A value that isn't UTF-8 is in ISO 8859-1, the
// encoding of fields before RFC 9110.
func latin1(value string) string {
	if utf8.ValidString(value) {
		return value
	}
	runes := make([]rune, len(value))
	for i := range len(value) {
		runes[i] = rune(value[i])
	}
	return string(runes)
}

// onlyReason reads a body that has nothing but a reason, or none at all.
func (c *call) onlyReason() (string, error) {
	m := new(mistakes)
	o, err := c.body(m, true)
	if err != nil {
		return "", err
	}
	reason := c.reason(o, m, false)
	o.end()
	return reason, m.err()
}

// number reads a whole number of the query; fallback if it is missing.
func (c *call) number(m *mistakes, name string, fallback, least, most int64) int64 {
	query := c.r.URL.Query()
	if !query.Has(name) {
		return fallback
	}
	text := query.Get(name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most || len(query[name]) > 1 || strconv.FormatInt(n, 10) != text {
		m.add("parameter "+name, fmt.Sprintf("must be a whole number from %d to %d", least, most))
		return fallback
	}
	return n
}

// pathNumber reads a whole number of the path, from least on. It has one form: 01 and +1 are other
// paths than 1, and name nothing.
func (c *call) pathNumber(name string, least int64) (n int64, ok bool) {
	text := c.r.PathValue(name)
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= least && strconv.FormatInt(n, 10) == text
}

// stamp is a time as both listeners write it.
type stamp time.Time

// MarshalJSON implements json.Marshaler.
func (s stamp) MarshalJSON() ([]byte, error) {
	return time.Time(s).UTC().AppendFormat([]byte{'"'}, problem.TimeFormat+`"`), nil
}

// refuseOverloaded is the refusal for a full queue.
func refuseOverloaded() error {
	return &refusal{problem.Problem{Code: problem.Overloaded, RetryAfter: time.Second}}
}

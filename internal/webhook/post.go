package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/penstock/penstock/internal/trace"
)

// Sign returns a Penstock-Signature of a body: the scheme of payment notices.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// refusedError is an answer after which the event is not repeated.
type refusedError struct{ status string }

// Error implements error.
func (e *refusedError) Error() string { return "answered " + e.status + ": the event is not repeated" }

// laterError is an answer that says when to come again.
type laterError struct {
	status string
	after  time.Duration // 0: it doesn't say
}

// Error implements error.
func (e *laterError) Error() string { return "answered " + e.status }

// poster sends posts. Each post has its own connection: events are rare, and a bad connection
// doesn't affect the next post.
type poster struct {
	client *http.Client
	agent  string
	trace  *trace.Tracer
	now    func() time.Time
}

// schemeKey is the context key of a request's scheme, for the dial.
type schemeKey struct{}

func newPoster(policy Policy, timeout time.Duration, agent string, tracer *trace.Tracer) *poster {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		scheme, _ := ctx.Value(schemeKey{}).(string)
		dialer := net.Dialer{Timeout: timeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("read the address %s: %w", address, err)
			}
			if wrong := policy.refuses(to.Addr(), scheme); wrong != "" {
				return errors.New("the receiver " + wrong)
			}
			return nil
		}}
		return dialer.DialContext(ctx, network, address)
	}
	return &poster{
		client: &http.Client{
			Timeout:       timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext: dial, DisableKeepAlives: true, DisableCompression: true, TLSHandshakeTimeout: timeout,
				MaxResponseHeaderBytes: 16 << 10,
			},
		},
		agent: agent, trace: tracer, now: time.Now,
	}
}

// post sends an event once. nil means that the receiver has it.
func (p *poster) post(ctx context.Context, h *Hook, secret string, e *Event) error {
	body, err := e.body()
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request = request.WithContext(context.WithValue(ctx, schemeKey{}, request.URL.Scheme))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", p.agent)
	request.Header.Set("Penstock-Event", e.Kind)
	request.Header.Set("Penstock-Delivery", e.ID)
	request.Header.Set("Penstock-Signature", Sign(secret, p.now(), body))
	began := time.Now()
	traced := p.trace.Begin(nil, began)
	if traced.Traced() {
		request.Header.Set("Traceparent", string(traced.Context().AppendHeader(nil)))
	}
	response, err := p.client.Do(request)
	p.trace.End(&traced, "webhook", began, time.Now(), err != nil || response.StatusCode/100 != 2,
		trace.Attr{Key: "penstock.webhook", Text: h.Name}, trace.Attr{Key: "penstock.event", Text: e.ID})
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	switch status := response.StatusCode; {
	case status/100 == 2:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status/100 == 5:
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil || seconds < 0 { // none, or a date: the ordinary pause does
			seconds = 0
		}
		return &laterError{response.Status, time.Duration(seconds) * time.Second}
	case status/100 == 3:
		return &laterError{response.Status + ": redirects are not followed", 0}
	}
	return &refusedError{response.Status}
}

package gateway

import (
	"bytes"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/penstock/penstock/gateway/problem"
)

// This file refuses requests that fasthttp accepts but another HTTP server could read differently.
// A proxy in front may check or remove fields, so it must read the same request as this server (RFC
// 9112, sections 2.2, 3, 5, 6 and 7.1).

// The texts of these refusals.
const (
	notStrictLine   = "The request line doesn't end with CR LF: end each line of the header with both."
	notStrictEnd    = "A header line doesn't end with CR LF: end each line of the header with both."
	hasFragment     = "The path has a fragment (#): send only the part before it."
	isFolded        = "A header line is folded: put each field on one line."
	isSpacedName    = "A header field's name has a space: a name is one token."
	isTwoFramings   = "The request has both Content-Length and Transfer-Encoding: send one of them."
	isNotChunked    = "The only Transfer-Encoding taken here is chunked: send that, or a Content-Length."
	hasTrailers     = "The request has trailer fields: send all fields in the header."
	isSameFieldMore = "Content-Type, Content-Encoding, Expect, Transfer-Encoding and Content-Length may occur only once."
	notHost         = "The Host field is not a host with an optional port."
)

// ambiguous returns the mistake in a request's head and framing, or "". It allocates nothing.
func (x *exchange) ambiguous() string {
	h := &x.http.Request.Header
	if c, ok := x.http.Conn().(*conn); ok && c.line.bare {
		return notStrictLine
	}
	seen, detail := scanHead(h.RawHeaders())
	switch {
	case detail != "":
		return detail
	case seen.transferEncoding && seen.contentLength:
		return isTwoFramings
	case seen.transferEncoding && h.ContentLength() != -1:
		return isNotChunked
	case seen.trailer || len(h.TrailerHeader()) > len("\r\n"):
		return hasTrailers
	case !isHost(h.Host()):
		return notHost
	case bytes.IndexByte(h.RequestURI(), '#') >= 0: // one server cuts the fragment off, another has it in the path
		return hasFragment
	}
	return ""
}

// headFields are the fields whose number or presence decides how a request is read.
type headFields struct {
	contentType, contentEncoding, contentLength, transferEncoding, expect, trailer bool
}

// scanHead looks at a header as it was sent. fasthttp has checked the bytes of names and values.
func scanHead(head []byte) (seen headFields, detail string) {
	for len(head) > 0 {
		end := bytes.IndexByte(head, '\n')
		if end < 0 {
			return seen, "" // fasthttp's parser ends a header with a whole line
		}
		if end == 0 || head[end-1] != '\r' {
			return seen, notStrictEnd
		}
		line := head[:end-1]
		head = head[end+1:]
		if len(line) == 0 {
			return seen, ""
		}
		if line[0] == ' ' || line[0] == '\t' {
			return seen, isFolded
		}
		name := line[:max(bytes.IndexByte(line, ':'), 0)]
		if bytes.IndexByte(name, ' ') >= 0 {
			return seen, isSpacedName
		}
		if field := seen.field(name); field != nil {
			if *field {
				return seen, isSameFieldMore
			}
			*field = true
		}
	}
	return seen, ""
}

// field returns the mark of a field, and nil for one that isn't counted.
func (f *headFields) field(name []byte) *bool {
	switch len(name) {
	case len("Expect"):
		if bytes.EqualFold(name, nameExpect) {
			return &f.expect
		}
	case len("Trailer"):
		if bytes.EqualFold(name, nameTrailer) {
			return &f.trailer
		}
	case len("Content-Type"):
		if bytes.EqualFold(name, nameContentType) {
			return &f.contentType
		}
	case len("Content-Length"):
		if bytes.EqualFold(name, nameContentLength) {
			return &f.contentLength
		}
	case len("Content-Encoding"):
		if bytes.EqualFold(name, nameContentEncoding) {
			return &f.contentEncoding
		}
	case len("Transfer-Encoding"):
		if bytes.EqualFold(name, nameTransferEncoding) {
			return &f.transferEncoding
		}
	}
	return nil
}

var (
	nameExpect           = []byte("Expect")
	nameTrailer          = []byte("Trailer")
	nameContentType      = []byte("Content-Type")
	nameContentLength    = []byte("Content-Length")
	nameContentEncoding  = []byte("Content-Encoding")
	nameTransferEncoding = []byte("Transfer-Encoding")
	valueContinue        = []byte("100-continue")
)

// isHost reports whether a Host field is uri-host [ ":" port ] (RFC 3986). An empty field is valid:
// HTTP/1.0 allows it.
func isHost(host []byte) bool {
	for i, c := range host {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case bytes.IndexByte(hostMarks, c) < 0:
			return false
		case c == ':' && bytes.IndexByte(host[i:], ']') < 0: // outside of an IPv6 address: the port follows
			return len(bytes.Trim(host[i+1:], "0123456789")) == 0
		}
	}
	return true
}

var hostMarks = []byte("-._~%!$&'()*+,;=[]:")

// speaks reports whether the request's HTTP version is supported. A higher minor version could be
// answered as 1.1, but fasthttp reads it as 1.0, so it is refused.
func (x *exchange) speaks() bool {
	switch string(x.http.Request.Header.Protocol()) {
	case "HTTP/1.1", "HTTP/1.0":
		return true
	}
	return false
}

// strict reports whether the request can be read in only one way. If not, it answers and ends the
// connection.
func (x *exchange) strict() bool {
	p := problem.Problem{Code: problem.InvalidRequest}
	switch expect := x.http.Request.Header.PeekBytes(nameExpect); {
	case !x.speaks():
		p.Code = problem.VersionNotSupported
	default:
		if p.Detail = x.ambiguous(); p.Detail != "" {
			break
		}
		// An expectation means nothing in HTTP/1.0 (RFC 9110, section 10.1.1).
		if len(expect) == 0 || bytes.EqualFold(expect, valueContinue) || !x.http.Request.Header.IsHTTP11() {
			return true
		}
		p.Code = problem.ExpectationFailed
	}
	x.closing()
	x.problem(&p)
	return false
}

// closing ends the connection after the answer. It goes on reading for a moment, so that the client
// gets the answer.
func (x *exchange) closing() {
	x.http.SetConnectionClose()
	if c, ok := x.http.Conn().(*conn); ok {
		c.linger.Store(true)
	}
}

// expected decides about a request whose client waits for 100 Continue. A request that can be
// refused by its header is refused before the client sends its body; a request without a body is
// answered. It returns 100, or the status of the answer.
func (s *Server) expected(ctx *fasthttp.RequestCtx) int {
	x := s.exchanges.Get().(*exchange)
	x.begin(ctx, time.Now())
	if s.guarded(x, (*Server).dispatchHead) {
		answered := x.status != 0
		if answered {
			x.finish()
		} else {
			x.release()
		}
		s.exchanges.Put(x)
		if !answered {
			return fasthttp.StatusContinue
		}
	}
	return ctx.Response.StatusCode()
}

// dispatchHead answers by the header alone, if that is possible.
func (s *Server) dispatchHead(x *exchange) {
	length := x.http.Request.Header.ContentLength()
	x.route, x.param = match(x.http.URI().PathOriginal())
	r := &routes[x.route]
	switch {
	case length == 0 || length == -2, x.route == routeNone, !r.takes(x.http.Method()):
		s.dispatch(x)
	case !x.strict():
	case length > s.cfg.MaxBody:
		x.closing()
		x.refuse(problem.TooLarge)
	case x.route == routeBuy:
		if caller := x.authenticate(); caller != nil && x.mayBuy(caller) {
			x.acceptsBody()
		}
	case x.route == routeCancel:
		if caller := x.authenticate(); caller != nil {
			x.mayBuy(caller)
		}
	case x.route == routePay:
		if _, ok := x.signature(); ok {
			x.acceptsBody()
		}
	}
	if x.status != 0 {
		x.closing()
	}
}

package gateway

import (
	"bytes"
	_ "embed"

	"github.com/penstock/penstock/gateway/problem"
)

// contract is the public contract. A test compares it with the routes, the codes and live answers.
//
//go:embed openapi.yaml
var contract []byte

var (
	valueStatic  = []byte("public, max-age=300")
	valueNosniff = []byte("nosniff")
	valueAccept  = []byte("Accept")
	valuePolicy  = []byte("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
)

// openAPI answers GET /openapi.yaml.
func (x *exchange) openAPI() {
	x.static("application/yaml", contract)
}

// helpPages are the pages that explain the problems, rendered once. The index is under "".
type helpPages struct {
	html map[string][]byte
	text map[string][]byte
}

func newHelpPages() *helpPages {
	h := &helpPages{
		html: map[string][]byte{"": problem.IndexHTML()},
		text: map[string][]byte{"": problem.IndexText()},
	}
	for _, e := range problem.Entries() {
		h.html[string(e.Code)] = e.PageHTML()
		h.text[string(e.Code)] = e.PageText()
	}
	return h
}

// helpPage answers GET /problems and GET /problems/{code}: as HTML to a client that accepts that by
// name, like browsers do, as text to the others.
func (x *exchange) helpPage() {
	pages, contentType := x.server.help.text, "text/plain; charset=utf-8"
	if bytes.Contains(x.http.Request.Header.Peek(headerAccept), []byte("text/html")) {
		pages, contentType = x.server.help.html, "text/html; charset=utf-8"
	}
	page, ok := pages[string(x.param)]
	if !ok {
		x.refuse(problem.NotFound)
		return
	}
	x.header(keyVary, valueAccept)
	x.header(keyPolicy, valuePolicy)
	x.static(contentType, page)
}

// static answers with bytes that never change; they are not copied.
func (x *exchange) static(contentType string, body []byte) {
	x.header(keyCacheControl, valueStatic)
	x.status, x.code = 200, ""
	x.http.Response.SetStatusCode(x.status)
	x.http.Response.Header.SetContentType(contentType)
	x.http.Response.SetBodyRaw(body)
}

package admin

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/penstock/penstock/gateway/admin/console"
	"github.com/penstock/penstock/gateway/problem"
)

// index answers GET /: the console's page. Without scripts it names the listener's other pages.
func (c *call) index() error {
	c.page(http.StatusOK)
	return nil
}

// page answers with the console's page.
func (c *call) page(status int) {
	h := c.w.Header()
	h.Set("Content-Security-Policy", console.Policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	c.file(status, c.server.console.Page(), "no-cache") // it names the version of the files, so it must not be cached
}

// asset answers GET /console/{version}/{file}.
func (c *call) asset() error {
	f, current := c.server.console.File(c.r.PathValue("version"), c.r.PathValue("file"))
	if f == nil {
		return refuse(problem.NotFound, "The console has no such file.")
	}
	keep := "public, max-age=31536000, immutable"
	if !current { // a browser may still show the page of another version of Penstock
		keep = "no-store"
	}
	c.w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	c.file(http.StatusOK, f, keep)
	return nil
}

// file answers with a file, compressed if the client accepts that, or with 304 if the client has
// it.
func (c *call) file(status int, f *console.File, keep string) {
	h, body, tag := c.w.Header(), f.Body, `"`+f.Tag+`"`
	h.Set("Cache-Control", keep)
	h.Add("Vary", "Accept-Encoding")
	if f.Gzip != nil && takesGzip(c.r.Header.Get("Accept-Encoding")) {
		body, tag = f.Gzip, `"`+f.Tag+`-gz"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	if status == http.StatusOK && strings.Contains(c.r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		c.w.WriteHeader(http.StatusNotModified)
		return
	}
	c.write(status, f.Type, body)
}

// takesGzip reports whether an Accept-Encoding field takes gzip (RFC 9110, section 12.5.3).
func takesGzip(field string) bool {
	for part := range strings.SplitSeq(field, ",") {
		coding, weight, weighted := strings.Cut(strings.ReplaceAll(part, " ", ""), ";q=")
		if !strings.EqualFold(coding, "gzip") {
			continue
		}
		q, err := strconv.ParseFloat(weight, 64)
		return !weighted || err == nil && q > 0
	}
	return false
}

// nothing answers an unknown path. A browser gets the console's page, which says that the path is
// unknown.
func (c *call) nothing() {
	reads := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	if reads && strings.Contains(c.r.Header.Get("Accept"), "text/html") {
		c.page(http.StatusNotFound)
		return
	}
	c.problem(&problem.Problem{Code: problem.NotFound})
}

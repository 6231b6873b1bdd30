package admin

import "net/http"

// cookieName is the name of a session's cookie. Behind TLS it has a prefix by which browsers take it from
// this host alone.
const (
	cookieName       = "penstock_session"
	secureCookieName = "__Host-" + cookieName
)

// sessionCookie returns the session that a browser shows, or "".
func sessionCookie(r *http.Request) string {
	for _, name := range []string{secureCookieName, cookieName} {
		if c, err := r.Cookie(name); err == nil {
			return c.Value
		}
	}
	return ""
}

package gateway

import "bytes"

// routeID numbers the routes.
type routeID uint8

// The routes. routeNone stands for paths that no route matches.
const (
	routeNone routeID = iota
	routeBuy
	routeOrder
	routeCancel
	routePay
	routeActivity
	routeLive
	routeReady
	routeOpenAPI
	routeProblems
	routeProblem
	routeCount
)

// route is one path pattern, with the methods it takes.
type route struct {
	name    string // in Stats and for the Gate
	pattern string // as in openapi.yaml
	read    bool   // GET and HEAD; POST otherwise
}

// routes is indexed by routeID and never changed.
var routes = [routeCount]route{
	routeNone:     {name: "none"},
	routeBuy:      {"buy", "/v1/orders", false},
	routeOrder:    {"order", "/v1/orders/{order}", true},
	routeCancel:   {"cancel", "/v1/orders/{order}/cancel", false},
	routePay:      {"pay", "/v1/payments", false},
	routeActivity: {"activity", "/v1/activities/{activity}", true},
	routeLive:     {"live", "/livez", true},
	routeReady:    {"ready", "/readyz", true},
	routeOpenAPI:  {"openapi", "/openapi.yaml", true},
	routeProblems: {"problems", "/problems", true},
	routeProblem:  {"problem", "/problems/{code}", true},
}

// allow is the value of the Allow header.
func (r *route) allow() []byte {
	if r.read {
		return allowRead
	}
	return allowPost
}

func (r *route) takes(method []byte) bool {
	if r.read {
		return string(method) == "GET" || string(method) == "HEAD"
	}
	return string(method) == "POST"
}

var (
	allowRead = []byte("GET, HEAD")
	allowPost = []byte("POST")

	prefixOrders     = []byte("/v1/orders/")
	prefixActivities = []byte("/v1/activities/")
	prefixProblems   = []byte("/problems/")
	suffixCancel     = []byte("/cancel")
)

// match finds the route of a path as it was sent (not decoded: an escaped slash doesn't end a
// name), and its parameter.
func match(path []byte) (routeID, []byte) {
	switch string(path) {
	case "/v1/orders":
		return routeBuy, nil
	case "/v1/payments":
		return routePay, nil
	case "/livez":
		return routeLive, nil
	case "/readyz":
		return routeReady, nil
	case "/openapi.yaml":
		return routeOpenAPI, nil
	case "/problems":
		return routeProblems, nil
	}
	if rest, ok := bytes.CutPrefix(path, prefixOrders); ok {
		if order, ok := bytes.CutSuffix(rest, suffixCancel); ok && isName(order) {
			return routeCancel, order
		}
		if isName(rest) {
			return routeOrder, rest
		}
	} else if rest, ok := bytes.CutPrefix(path, prefixActivities); ok && isName(rest) {
		return routeActivity, rest
	} else if rest, ok := bytes.CutPrefix(path, prefixProblems); ok && isName(rest) {
		return routeProblem, rest
	}
	return routeNone, nil
}

func isName(segment []byte) bool { return len(segment) > 0 && bytes.IndexByte(segment, '/') < 0 }

// unescape decodes a path segment's percent escapes. Without one it returns the segment itself.
func unescape(segment []byte) ([]byte, bool) {
	if bytes.IndexByte(segment, '%') < 0 {
		return segment, true
	}
	var dst []byte
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '%' {
			if i+2 >= len(segment) {
				return nil, false
			}
			high, ok1 := unhex(segment[i+1])
			low, ok2 := unhex(segment[i+2])
			if !ok1 || !ok2 {
				return nil, false
			}
			c, i = high<<4|low, i+2
		}
		dst = append(dst, c)
	}
	return dst, true
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

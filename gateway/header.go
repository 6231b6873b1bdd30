package gateway

import (
	"bytes"
	"encoding/hex"
	"time"
	"unsafe"
)

// The header fields of requests. Idempotency-Key follows
// draft-ietf-httpapi-idempotency-key-header-07, except that its value is used exactly as sent.
const (
	headerAuthorization  = "Authorization"
	headerIdempotencyKey = "Idempotency-Key"
	headerPrefer         = "Prefer"
	headerSignature      = "Penstock-Signature"
	headerRequestID      = "X-Request-Id"
	headerIfNoneMatch    = "If-None-Match"
	headerAccept         = "Accept"
	headerForwardedFor   = "X-Forwarded-For"
	headerTraceParent    = "Traceparent"
)

// The header fields of answers, spelled as in their RFCs: fasthttp writes them unchanged. RateLimit
// and RateLimit-Policy follow draft-ietf-httpapi-ratelimit-headers-11.
var (
	keyRequestID       = []byte("X-Request-Id")
	keyTraceResponse   = []byte("Traceresponse")
	keyRetryAfter      = []byte("Retry-After")
	keyLocation        = []byte("Location")
	keyReplayed        = []byte("Idempotent-Replayed")
	keyPreference      = []byte("Preference-Applied")
	keyRateLimit       = []byte("RateLimit")
	keyRateLimitPolicy = []byte("RateLimit-Policy")
	keyAuthenticate    = []byte("WWW-Authenticate")
	keyAllow           = []byte("Allow")
	keyCacheControl    = []byte("Cache-Control")
	keyETag            = []byte("ETag")
	keyVary            = []byte("Vary")
	keyNoSniff         = []byte("X-Content-Type-Options")
	keyPolicy          = []byte("Content-Security-Policy")

	valueTrue    = []byte("true")
	valueNoStore = []byte("no-store")
)

// view returns b as a string without a copy. The string changes when b changes, and lives as long
// as b.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// forwarded joins the fields by commas, as RFC 9110 allows.
func forwarded(fields [][]byte) string {
	switch len(fields) {
	case 0:
		return ""
	case 1:
		return view(fields[0])
	}
	return view(bytes.Join(fields, []byte(",")))
}

// isVisible reports whether b is 1 to most visible ASCII characters.
func isVisible(b []byte, most int) bool {
	if len(b) == 0 || len(b) > most {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// maxRequestID is the longest request id that is taken from a client.
const maxRequestID = 64

// isRequestID reports whether a client's request id is valid. It is written into answers and logs,
// so it must not have characters that end a quoted string or a field there.
func isRequestID(b []byte) bool {
	return isVisible(b, maxRequestID) && !bytes.ContainsAny(b, "\"'\\<>,;`")
}

// bearer returns the key of an Authorization field, or nil.
func bearer(field []byte) []byte {
	const scheme = "Bearer "
	if len(field) <= len(scheme) || !bytes.EqualFold(field[:len(scheme)], []byte(scheme)) {
		return nil
	}
	key := bytes.TrimLeft(field[len(scheme):], " ")
	if !isVisible(key, maxCallerKey) {
		return nil
	}
	return key
}

// maxCallerKey bounds what is hashed; caller keys have some 50 characters.
const maxCallerKey = 256

// isJSON reports whether a body of that content type is read as JSON in UTF-8. A missing content
// type counts as JSON.
func isJSON(contentType []byte) bool {
	if len(contentType) == 0 {
		return true
	}
	mediaType, params, _ := bytes.Cut(contentType, []byte(";"))
	if !bytes.EqualFold(bytes.TrimSpace(mediaType), []byte("application/json")) {
		return false
	}
	for len(params) > 0 {
		var param []byte
		param, params, _ = bytes.Cut(params, []byte(";"))
		name, value, _ := bytes.Cut(bytes.TrimSpace(param), []byte("="))
		if bytes.EqualFold(name, []byte("charset")) && !bytes.EqualFold(bytes.Trim(value, `"`), []byte("utf-8")) {
			return false
		}
	}
	return true
}

// preferredWait returns the wait of Prefer fields (RFC 7240), at most most and in whole seconds. As
// the RFC says, the first wait counts, and preferences that aren't understood are ignored. A field
// that can't be parsed is ignored from that place on.
func preferredWait(fields [][]byte, most time.Duration) time.Duration {
	for _, field := range fields {
		for len(field) > 0 {
			var preference []byte
			preference, field = cutOutsideQuotes(field, ',')
			preference, _ = cutOutsideQuotes(preference, ';') // parameters of wait have no meaning
			name, value, _ := bytes.Cut(preference, []byte("="))
			if !bytes.EqualFold(bytes.TrimSpace(name), []byte("wait")) {
				continue
			}
			value = bytes.TrimSpace(value)
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return seconds(value, most)
		}
	}
	return 0
}

// seconds reads a number of seconds. It returns 0 for any other text.
func seconds(digits []byte, most time.Duration) time.Duration {
	var n time.Duration
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0
		}
		n = min(n*10+time.Duration(c-'0'), 1_000_000) // far above any limit, far below an overflow
	}
	return min(n*time.Second, most.Truncate(time.Second))
}

// cutOutsideQuotes cuts field at the first sep outside of a quoted string.
func cutOutsideQuotes(field []byte, sep byte) (before, after []byte) {
	quoted := false
	for i := 0; i < len(field); i++ {
		switch c := field[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == sep && !quoted:
			return field[:i], field[i+1:]
		}
	}
	return field, nil
}

// maxMACs bounds how many v1 a signature may have: each is compared.
const maxMACs = 8

// parseSignature reads a Penstock-Signature: members name=value with commas between, and space
// around them. There is one t, with 1 to 12 digits, and a v1 for each secret that the provider
// signs with. A v1 that isn't 64 hex digits can't match, and members of other names belong to other
// schemes: both are skipped.
func parseSignature(field []byte) (signedAt int64, macs [][32]byte, ok bool) {
	signed := false
	for len(field) > 0 {
		var member []byte
		member, field, _ = bytes.Cut(field, []byte(","))
		name, value, found := bytes.Cut(bytes.Trim(member, " \t"), []byte("="))
		switch {
		case !found:
			return 0, nil, false
		case string(name) == "t":
			if signed {
				return 0, nil, false
			}
			if signedAt, signed = signatureTime(value); !signed {
				return 0, nil, false
			}
		case string(name) == "v1":
			var mac [32]byte
			if len(macs) == maxMACs {
				return 0, nil, false
			}
			if len(value) != hex.EncodedLen(len(mac)) {
				continue // this v1 can't match
			}
			if _, err := hex.Decode(mac[:], value); err == nil {
				macs = append(macs, mac)
			}
		}
	}
	if !signed || len(macs) == 0 {
		return 0, nil, false
	}
	return signedAt, macs, true
}

// signatureTime reads the t of a signature. The signature covers the number t, so only one spelling
// is allowed.
func signatureTime(digits []byte) (seconds int64, ok bool) {
	if len(digits) == 0 || len(digits) > 12 || digits[0] == '0' && len(digits) > 1 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		seconds = seconds*10 + int64(c-'0')
	}
	return seconds, true
}

// matchesTag reports whether If-None-Match fields name the entity tag whose opaque part, quotes
// included, is tag. Comparison is weak, as RFC 9110 requires here. A quote can't occur inside a
// tag, so looking for the quoted string is enough.
func matchesTag(fields [][]byte, tag []byte) bool {
	for _, field := range fields {
		if bytes.Contains(field, tag) || string(bytes.TrimSpace(field)) == "*" {
			return true
		}
	}
	return false
}

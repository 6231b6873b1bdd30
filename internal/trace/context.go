package trace

import "encoding/hex"

// Context names a span of a trace that is recorded: 16 bytes of the trace and 8 of the span, as raw
// bytes. "" means none. It may live longer than a process, because pages of the queue have it.
type Context string

// contextLength is the length of a Context that is one.
const contextLength = 24

// Valid reports whether c names a span.
func (c Context) Valid() bool { return len(c) == contextLength }

// Trace returns the id of the trace as people and collectors write it, or "" if there is none.
func (c Context) Trace() string {
	if !c.Valid() {
		return ""
	}
	return hex.EncodeToString([]byte(c[:16]))
}

// headerLength is the length of a traceparent of version 00.
const headerLength = 55

// AppendHeader appends the context as the value of traceparent and of traceresponse.
func (c Context) AppendHeader(dst []byte) []byte {
	if !c.Valid() {
		return dst
	}
	dst = append(dst, "00-"...)
	dst = hex.AppendEncode(dst, []byte(c[:16]))
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, []byte(c[16:]))
	return append(dst, "-01"...)
}

// parent is the content of a traceparent.
type parent struct {
	trace   [16]byte
	span    [8]byte
	sampled bool
}

// parseHeader reads a traceparent. From a later version it reads only the fields of this version.
func parseHeader(b []byte) (p parent, ok bool) {
	if len(b) < headerLength || b[2] != '-' || b[35] != '-' || b[52] != '-' {
		return p, false
	}
	if later := len(b) > headerLength; later && (b[headerLength] != '-' || string(b[:2]) == "00") {
		return p, false
	}
	var version, flags [1]byte
	hexed := unhex(version[:], b[:2]) && unhex(p.trace[:], b[3:35]) && unhex(p.span[:], b[36:52]) && unhex(flags[:], b[53:55])
	if !hexed || version[0] == 0xff {
		return p, false
	}
	p.sampled = flags[0]&1 != 0
	return p, p.trace != [16]byte{} && p.span != [8]byte{}
}

// unhex decodes lower-case hex, which is all that the header may have.
func unhex(dst, src []byte) bool {
	for _, c := range src {
		if c >= 'A' && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

package limiter

import (
	"math"
	"strconv"
	"time"
)

// AppendRateLimit appends the value of the RateLimit field
// (draft-ietf-httpapi-ratelimit-headers-10) to dst: how many requests the policy still allows, and
// after how many seconds it allows the next one. For an allowed request, it is the time until it
// allows all again. It appends nothing if there is no policy, or if it is the global one, whose
// state isn't public.
//
// The remaining number is this node's estimate of the cluster's bucket.
func AppendRateLimit(dst []byte, d *Decision) []byte {
	if !d.public() || d.Bound == ByCost {
		return dst
	}
	wait := d.Reset
	if !d.Allowed {
		wait = max(d.RetryAfter, 1)
	}
	dst = d.appendName(dst)
	dst = append(dst, ";r="...)
	dst = strconv.AppendInt(dst, d.Remaining, 10)
	dst = append(dst, ";t="...)
	return strconv.AppendInt(dst, ceilSeconds(wait), 10)
}

// AppendPolicy appends the value of the RateLimit-Policy field to dst: the policy's burst and the
// seconds in which it refills; or the quota of a day; or how many requests may be in flight at
// once. It appends nothing when AppendRateLimit wouldn't.
func AppendPolicy(dst []byte, d *Decision) []byte {
	if !d.public() || d.Bound == ByCost {
		return dst
	}
	dst = d.appendName(dst)
	if d.Bound != ByRate {
		dst = append(dst, ";q="...)
		dst = strconv.AppendInt(dst, d.Limit, 10)
		if d.Bound == ByQuota {
			return append(dst, ";w=86400"...)
		}
		return append(dst, `;qu="concurrent-requests"`...)
	}
	dst = append(dst, ";q="...)
	dst = strconv.AppendInt(dst, d.Policy.Burst, 10)
	dst = append(dst, ";w="...)
	return strconv.AppendInt(dst, int64(math.Ceil(float64(d.Policy.Burst)/d.Policy.Rate)), 10)
}

func (d *Decision) public() bool { return d.Policy != nil && d.Policy.Key != Global }

// appendName appends the policy's name as a string of a structured field. Names have no characters
// that would need a backslash.
func (d *Decision) appendName(dst []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, d.Policy.Name...)
	return append(dst, '"')
}

func ceilSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return s
}

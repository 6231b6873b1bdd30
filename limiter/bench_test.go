package limiter

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/time/rate"
)

const benchUsers = 1_000_000

// buyer makes the requests of a crowd: a million users, four per address, at thirty callers of
// three merchants. As in the gateway, the caller's names come from its record, and the user's name
// is in a buffer that was just written.
type buyer struct {
	Request
	merchants, callers []string
	name               []byte
}

func newBuyer() *buyer {
	b := &buyer{name: make([]byte, 0, 16)}
	for i := range 30 {
		b.merchants = append(b.merchants, fmt.Sprint("merchant-", i%3))
		b.callers = append(b.callers, fmt.Sprint("caller-", i))
	}
	return b
}

func (b *buyer) be(i int) *Request {
	b.name = strconv.AppendInt(append(b.name[:0], "user-"...), int64(i), 10)
	b.Merchant, b.Caller, b.User = b.merchants[i%30], b.callers[i%30], unsafe.String(unsafe.SliceData(b.name), len(b.name))
	b.IP = netip.AddrFrom4([4]byte{10, byte(i >> 18), byte(i >> 10), byte(i >> 2)})
	return &b.Request
}

// fiveKinds are limits far above, or far below, what everybody asks for.
func fiveKinds(callerRate float64, callerBurst int64) Document {
	return enforced(
		Policy{Key: Global, Rate: MaxRate, Burst: MaxBurst}, Policy{Key: Merchant, Rate: MaxRate, Burst: MaxBurst},
		Policy{Key: Caller, Rate: callerRate, Burst: callerBurst}, Policy{Key: User, Rate: 10, Burst: 1000}, Policy{Key: IP, Rate: 100, Burst: 10_000},
	)
}

// mapLimiter is the simple solution: a rate.Limiter per key in a map, under a lock. Nothing is ever
// removed.
type mapLimiter struct {
	mu       sync.Mutex
	limiters map[string]*rate.Limiter
	all      *rate.Limiter
}

func (m *mapLimiter) of(key string, r rate.Limit, burst int) *rate.Limiter {
	l := m.limiters[key]
	if l == nil {
		l = rate.NewLimiter(r, burst)
		m.limiters[key] = l
	}
	return l
}

func (m *mapLimiter) allow(req *Request, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of("caller/"+req.Merchant+"/"+req.Caller, MaxRate, MaxBurst).AllowN(now, 1) &&
		m.of("user/"+req.Merchant+"/"+req.User, 10, 1000).AllowN(now, 1) &&
		m.of("ip/"+req.IP.String(), 100, 10_000).AllowN(now, 1) &&
		m.of("merchant/"+req.Merchant, MaxRate, MaxBurst).AllowN(now, 1) &&
		m.all.AllowN(now, 1)
}

// runCrowd decides for one user after another, on all processors, after each has been seen once.
func runCrowd(b *testing.B, decide func(req *Request, now time.Time)) {
	all := newBuyer()
	for i := range benchUsers {
		decide(all.be(i), time.Now())
	}
	b.ReportAllocs()
	var next atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		i, one := int(next.Add(1))*123_457, newBuyer()
		for pb.Next() {
			i += 7919
			decide(one.be(i%benchUsers), time.Now())
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	limiter := func(doc Document) func(req *Request, now time.Time) {
		l, err := New(DefaultConfig(), nil, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Apply(doc, 1, time.Now()); err != nil {
			b.Fatal(err)
		}
		return func(req *Request, now time.Time) { l.Allow(req, now) }
	}
	b.Run("limits=5/way=map", func(b *testing.B) {
		m := &mapLimiter{limiters: map[string]*rate.Limiter{}, all: rate.NewLimiter(MaxRate, MaxBurst)}
		runCrowd(b, func(req *Request, now time.Time) { m.allow(req, now) })
	})
	b.Run("limits=5/way=limiter", func(b *testing.B) { runCrowd(b, limiter(fiveKinds(MaxRate, MaxBurst))) })
	b.Run("limits=5/way=refused", func(b *testing.B) { runCrowd(b, limiter(fiveKinds(1, 1))) })
	b.Run("limits=1/way=rate", func(b *testing.B) {
		l := rate.NewLimiter(MaxRate, MaxBurst)
		runCrowd(b, func(_ *Request, now time.Time) { l.AllowN(now, 1) })
	})
	b.Run("limits=1/way=caller", func(b *testing.B) {
		runCrowd(b, limiter(enforced(Policy{Key: Caller, Rate: MaxRate, Burst: MaxBurst})))
	})
	b.Run("limits=1/way=user", func(b *testing.B) {
		runCrowd(b, limiter(enforced(Policy{Key: User, Rate: 10, Burst: 1000})))
	})
	b.Run("limits=1/way=global", func(b *testing.B) {
		runCrowd(b, limiter(enforced(Policy{Key: Global, Rate: MaxRate, Burst: MaxBurst})))
	})
}

// It measures an edit of all policies while a million users have buckets.
func BenchmarkApply(b *testing.B) {
	l, err := New(DefaultConfig(), nil, at(0))
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		if err := l.Apply(fiveKinds(100+float64(i%2), 100), 1+i%2, at(0)); err != nil {
			b.Fatal(err)
		}
		if i == 0 {
			crowd := newBuyer()
			for j := range benchUsers {
				l.Allow(crowd.be(j), at(0))
			}
			b.ResetTimer()
		}
	}
}

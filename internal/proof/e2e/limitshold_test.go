package e2e

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	holdSpan  = flag.Duration("e2e.limits.span", 3*time.Second, "how long TestLimits_HoldOverGateways offers in each of its phases")
	holdRates = flag.String("e2e.limits.rates", "400", "the callers' limits, a second, of TestLimits_HoldOverGateways")
	holdUsers = flag.String("e2e.limits.users", "2", "the users' limits")
	holdLoad  = flag.Int("e2e.limits.load", 10, "how many times its limit is offered")
)

// stream is one key that asks gateways far more often than its limit lets it.
type stream struct {
	name    string
	rate    float64
	burst   int
	request func(i int) string // an HTTP request
	lanes   []chan int         // of each gateway

	mu      sync.Mutex
	let     []time.Duration // since the test began: when the answers came. guarded by mu
	longest time.Duration   // of an answer. guarded by mu
	refused int             // guarded by mu
	strange map[int]int     // other answers, by status. guarded by mu
	skipped atomic.Int64    // were not sent, because all connections waited
}

// lane sends the requests of a channel over one connection.
func (s *stream) lane(n *node, jobs chan int, began time.Time) {
	var conn net.Conn
	var in *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for i := range jobs {
		sent := time.Now()
		if conn == nil {
			fresh, err := net.Dial("tcp", strings.TrimPrefix(n.public, "http://"))
			if err != nil {
				s.note(-1, time.Since(began), 0)
				continue
			}
			conn, in = fresh, bufio.NewReader(fresh)
		}
		status := exchangeRaw(conn, in, s.request(i))
		if status < 0 { // the gateway has ended
			_ = conn.Close()
			conn = nil
		}
		s.note(status, time.Since(began), time.Since(sent))
	}
}

// exchangeRaw sends a request and returns the status of the answer, -1 without one.
func exchangeRaw(conn net.Conn, in *bufio.Reader, request string) int {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		return -1
	}
	status, length := -1, 0
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if err != nil {
			return -1
		}
		switch line = strings.TrimSpace(line); {
		case first && len(line) > 12:
			status, _ = strconv.Atoi(line[9:12])
		case line == "":
			_, err = in.Discard(length)
			if err != nil {
				return -1
			}
			return status
		case len(line) > 16 && strings.EqualFold(line[:16], "content-length: "):
			length, _ = strconv.Atoi(line[16:])
		}
	}
}

func (s *stream) note(status int, at, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch status {
	case 200, 201, 202, 409: // 409: a buyer has made as many orders as it may, and came as far as that
		s.let = append(s.let, at)
	case 429:
		s.refused++
	default:
		s.strange[status]++
	}
	s.longest = max(s.longest, took)
}

// offer sends requests for a while; to says which gateway gets the i-th.
func (s *stream) offer(load int, span time.Duration, to func(i int) int) {
	const every = 10 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	due, sent := 0.0, 0
	for began := time.Now(); time.Since(began) < span; <-tick.C {
		due = float64(load) * s.rate * time.Since(began).Seconds()
		for ; float64(sent) < due; sent++ {
			select {
			case s.lanes[to(sent)] <- sent:
			default:
				s.skipped.Add(1)
			}
		}
	}
}

// report says what was let in within any window of a phase.
func (s *stream) report(t *testing.T, what string, from, to time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	window := min((to-from)/2, 10*time.Second)
	low, high := math.MaxInt, 0
	for at := from; at+window <= to; at += window / 40 {
		n := 0
		for _, d := range s.let {
			if d >= at && d < at+window {
				n++
			}
		}
		low, high = min(low, n), max(high, n)
	}
	want := s.rate * window.Seconds()
	t.Logf("%-12s %-22s %d to %d of %.0f in any %v (%+.1f to %+.1f %%), %d refused, others %v, the longest took %v, %d not sent",
		s.name, what, low, high, want, window.Round(time.Millisecond), 100*(float64(low)/want-1), 100*(float64(high)/want-1), s.refused, s.strange,
		s.longest.Round(time.Millisecond), s.skipped.Swap(0))
	s.refused, s.longest = 0, 0
	clear(s.strange)
}

// bounds wants no stretch of time to have more than the bound of adr/0020, with what answers that
// took long may add to it.
func (s *stream) bounds(t *testing.T, nodes float64, longest time.Duration) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	most := max(float64(s.burst), s.rate*0.2) + s.rate*(0.1*nodes+longest.Seconds()) + nodes
	low, start := math.Inf(1), time.Duration(0)
	for i, at := range s.let {
		if above := float64(i) - s.rate*at.Seconds(); above < low {
			low, start = above, at
		}
		if above := float64(i+1) - s.rate*at.Seconds() - low; above > most {
			t.Errorf("%s: %.0f above the rate from %v to %v, at most %.0f", s.name, above, start, at, most)
			return
		}
	}
}

// TestLimits_HoldOverGateways: three gateways on real servers. Callers ask for pages and users buy,
// ten times as often as their limits let them, at one gateway, at all, and at one after another; a
// fourth gateway comes and goes; Redis is stopped for a while. Times are the machine's, so it says
// what was let in, and judges by the bound.
func TestLimits_HoldOverGateways(t *testing.T) {
	c := startCluster(t)
	nodes := []*node{c.gateway(0), c.gateway(1), c.start("gateway")}
	s := openShop(nodes[0], terms{quantity: 100_000, perUser: 0, window: "10m"})
	for i, n := range nodes {
		s.mustBuy(n, fmt.Sprint("first", i), "k")
	}
	began := time.Now()
	var streams []*stream
	var policies []string
	for _, text := range strings.Split(*holdRates, ",") {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		name := "caller" + text
		key := nodes[0].admin(201, "POST", "/admin/v1/merchants/acme/callers", fmt.Sprintf(`{"name":%q,"rights":["buy"]}`, name)).field("key")
		burst := max(int(rate/10), 1)
		policies = append(policies, fmt.Sprintf(`{"name":%q,"key":"caller","match":"acme/%s","rate":%v,"burst":%d,"cost":{"purchase":0,"page":1}}`, name, name, rate, burst))
		page := fmt.Sprintf("GET /v1/activities/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", s.activity, key)
		streams = append(streams, &stream{name: name, rate: rate, burst: burst, request: func(int) string { return page }})
	}
	for _, text := range strings.Split(*holdUsers, ",") {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		name := "user" + text
		policies = append(policies, fmt.Sprintf(`{"name":%q,"key":"user","match":"acme/%s","rate":%v,"burst":2}`, name, name, rate))
		streams = append(streams, &stream{name: name, rate: rate, burst: 2, request: func(i int) string {
			body := fmt.Sprintf(`{"activity":%q,"sku":%q,"user":%q,"quantity":1}`, s.activity, s.sku, name)
			return fmt.Sprintf("POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nIdempotency-Key: %d-%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
				s.key, time.Now().UnixNano(), i, len(body), body)
		}})
	}
	replaceLimits(nodes[0], strings.Join(policies, ","), 3)
	var lanes sync.WaitGroup
	var longest time.Duration
	attach := func(n *node) {
		for _, st := range streams {
			jobs := make(chan int)
			st.lanes = append(st.lanes, jobs)
			for range max(16, int(st.rate*float64(*holdLoad)/20)) {
				lanes.Go(func() { st.lane(n, jobs, began) })
			}
		}
	}
	for _, st := range streams {
		st.strange = make(map[int]int)
	}
	for _, n := range nodes {
		attach(n)
	}
	phase := func(what string, span time.Duration, to func(st *stream, i int) int) {
		from := time.Since(began)
		var all sync.WaitGroup
		for _, st := range streams {
			all.Go(func() { st.offer(*holdLoad, span, func(i int) int { return to(st, i) }) })
		}
		all.Wait()
		for _, st := range streams {
			st.mu.Lock()
			longest = max(longest, st.longest)
			st.mu.Unlock()
			st.report(t, what, from+span/6, time.Since(began))
		}
	}
	span := *holdSpan
	three := func(_ *stream, i int) int { return i % 3 }
	phase("one gateway", span, func(*stream, int) int { return 0 })
	phase("evenly", span, three)
	phase("moving", span, func(st *stream, i int) int { return i / max(int(st.rate)**holdLoad, 1) % 3 })
	fourth := c.start("gateway")
	attach(fourth)
	phase("a fourth gateway", span, func(_ *stream, i int) int { return i % 4 })
	if code := fourth.end(syscall.SIGTERM); code != 0 {
		t.Errorf("the fourth gateway ends with code %d", code)
	}
	phase("it has stopped", span, three)
	for _, st := range streams {
		st.bounds(t, 4, longest)
	}
	c.redis.Pause() // buyers are refused before their limits are asked
	phase("Redis is stopped", 2*span, three)
	c.redis.Resume()
	phase("Redis is back", span, three)
	for _, st := range streams {
		for _, jobs := range st.lanes {
			close(jobs)
		}
	}
	lanes.Wait()
}

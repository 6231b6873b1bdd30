package gateway

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// TestInFlight_GivesItsPlaceBackOnce: a request above the bound gets the bound's name and a time to
// retry. A request that ends makes room for exactly one other: after an answer, a panic, a passed
// deadline, or a lost client.
func TestInFlight_GivesItsPlaceBackOnce(t *testing.T) {
	const bound = 2
	g, room, limits := guardedAdmission(t)
	document := limiter.Document{Policies: []limiter.Policy{{Name: "flight", Key: limiter.Caller, Concurrency: bound, Mode: limiter.Enforce,
		Cost: &limiter.Cost{Purchase: 1, Page: 1, Status: 1}}}}
	if err := limits.Apply(document, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	g.SetLimits(&document)
	s := start(t, func(c *Config) { c.Gate, c.MaxWait, c.RequestTimeout = g, 100*time.Millisecond, 300*time.Millisecond })
	entered, release := make(chan string, 10), make(chan struct{}, 10)
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(ctx context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			if p.Closed != nil {
				return seckill.Receipt{}, p.Closed
			}
			entered <- p.Key
			switch how, _, _ := strings.Cut(p.Key, "-"); how {
			case "late":
				<-ctx.Done()
				return seckill.Receipt{}, ctx.Err()
			case "panics":
				<-release
				panic("a test")
			}
			<-release
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
	})
	in := func() int64 { return limits.Stats(time.Now()).Places.InFlight }
	for _, how := range []string{"answered", "panics", "late", "gone"} {
		var clients sync.WaitGroup
		var gone []net.Conn
		for i := range bound {
			key := how + "-" + strconv.Itoa(i) // a repeat would be free
			if how == "gone" {
				conn := s.dial(t)
				if _, err := conn.Write([]byte("POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + buyerKey +
					"\r\nIdempotency-Key: " + key + "\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(goodBody)) + "\r\n\r\n" + goodBody)); err != nil {
					t.Fatal(err)
				}
				gone = append(gone, conn)
			} else {
				clients.Go(func() {
					if resp, err := http.DefaultTransport.RoundTrip(s.request(t, "POST", "/v1/orders", goodBody, "Idempotency-Key", key)); err == nil {
						_ = resp.Body.Close()
					}
				})
			}
			<-entered
		}
		if how != "late" { // those may have ended
			for _, path := range []string{"POST /v1/orders", "GET /v1/activities/618-phones", "GET /v1/orders/" + string(testOrder(seckill.OrderQueued).ID)} {
				method, path, _ := strings.Cut(path, " ")
				body := ""
				if method == "POST" {
					body = goodBody
				}
				resp, text := do(t, s.request(t, method, path, body, "Idempotency-Key", "above"))
				if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || !strings.Contains(text, `"limit":"flight"`) ||
					!strings.Contains(text, "in flight") || resp.Header.Get("RateLimit-Policy") != `"flight";q=2;qu="concurrent-requests"` {
					t.Errorf("%s: %s above the bound: %d %v %s", how, path, resp.StatusCode, resp.Header, text)
				}
			}
			if n := in(); n != bound {
				t.Errorf("%s: %d are counted", how, n)
			}
		}
		for _, conn := range gone {
			_ = conn.Close()
		}
		for range bound {
			release <- struct{}{}
		}
		clients.Wait()
		for in() > 0 || room.Stats().InFlight > 0 {
			runtime.Gosched() // the last answers are still on their way
		}
		for len(release) > 0 {
			<-release
		}
	}
}

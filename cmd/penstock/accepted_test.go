package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"penstock/internal/proof/servers"
	"penstock/internal/proof/stocktest"
	"penstock/seckill"
)

// BenchmarkAccepted is the accepting path on real servers, beside a plain gateway with the same libraries on the same servers: a
// purchase over HTTP, held in Redis, acknowledged by Kafka with acks=all, answered 202. The load generator, the gateways, Redis and
// the broker share the machine's cores. No worker runs. redis-µs/op is the processor time of Redis.
func BenchmarkAccepted(b *testing.B) {
	redis, broker, database := servers.Redis(b), servers.NewKafka(b), servers.NewPostgres(b)
	const bearer = "Bearer plain-key"
	plain := startPlainGateway(b, redis.Addr, broker.Addr, bearer, seckill.MaxItemQuantity)
	ours := benchProcess(b, RoleGateway, redis.Addr, broker.Addr, database.URL("postgres"))
	sale := benchSale(b, ours)
	cpu := stocktest.RedisCPU(b, redis.Addr)
	var crowds int
	for _, way := range []struct{ name, url, bearer string }{
		{"plain", plain.url, bearer}, {"penstock", ours.PublicURL(), "Bearer " + sale.callerKey},
	} {
		newBuyersOf(way.url, way.bearer, "first-").buy(b, 64) // clients connect and look around
		b.Run("way="+way.name, func(b *testing.B) {
			crowds++
			c := newBuyersOf(way.url, way.bearer, fmt.Sprint("u", crowds, "-"))
			b.ReportAllocs()
			before := cpu()
			b.ResetTimer()
			c.buy(b, int64(b.N))
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepted/s")
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "redis-µs/op")
		})
	}
}

// BenchmarkSustained sells with gateway and worker in one process, until every order is in PostgreSQL: as fast as the gateway accepts,
// and at a rate. An operation is an order. With -benchtime 60s it tells whether the workers keep up: lag is how many accepted orders
// had no row yet, the median of looks in the first and in the second half of the time.
func BenchmarkSustained(b *testing.B) {
	redis, broker, database := servers.Redis(b), servers.NewKafka(b), servers.NewPostgres(b)
	p := benchProcess(b, RoleGateway|RoleWorker, redis.Addr, broker.Addr, database.URL("postgres"))
	sale := benchSale(b, p)
	newBuyersOf(p.PublicURL(), "Bearer "+sale.callerKey, "first-").buy(b, 64) // clients connect and look around
	var crowds int
	for _, rate := range []int{0, 5_000, 8_000} {
		name := "rate=max"
		if rate > 0 {
			name = fmt.Sprint("rate=", rate)
		}
		b.Run(name, func(b *testing.B) {
			crowds++
			c := newBuyersOf(p.PublicURL(), "Bearer "+sale.callerKey, fmt.Sprint("u", crowds, "-"))
			c.rate = rate
			c.sustain(b, p.worker.Counts())
		})
	}
}

// sustain makes b.N purchases, waits for their rows, and reports how far these were behind.
func (c *buyersOf) sustain(b *testing.B, made *seckill.WorkerCounts) {
	before := made.Opened.Load()
	rows := func() int64 { return made.Opened.Load() - before }
	b.ResetTimer()
	lags := c.watch(rows, func() { c.buy(b, int64(b.N)) })
	accepted := b.Elapsed()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for rows() < int64(b.N) && b.Context().Err() == nil {
		<-look.C
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/accepted.Seconds(), "accepted/s")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	b.ReportMetric((b.Elapsed() - accepted).Seconds(), "drain-s")
	if half := len(lags) / 2; half > 0 {
		slices.Sort(lags[:half])
		slices.Sort(lags[half:])
		b.ReportMetric(float64(lags[half/2]), "lag-1st-half")
		b.ReportMetric(float64(lags[half+(len(lags)-half)/2]), "lag-2nd-half")
	}
}

// benchProcess starts a process on real servers.
func benchProcess(b *testing.B, role Role, redis, broker, database string) *Process {
	b.Helper()
	config := defaultConfig()
	config.Listen, config.AdminListen, config.AdminToken = "127.0.0.1:0", "127.0.0.1:0", "benchmark-token"
	config.Redis, config.Kafka, config.Database = []string{redis}, []string{broker}, database
	config.KafkaTopic = fmt.Sprint("orders-", time.Now().UnixNano())
	return running(b, config, role)
}

// benchSale opens a sale that no benchmark sells out.
func benchSale(b *testing.B, p *Process) demoSale {
	b.Helper()
	sale, err := newDemoShop(p.AdminURL(), p.cfg.AdminToken).open(b.Context(), seckill.MaxItemQuantity, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	return sale
}

// benchConnections is how many buyers wait for an answer at once, each with a connection of its own: a crowd.
const benchConnections = 1024

// buyersOf is a closed crowd that does nothing but buy, each time as somebody else.
type buyersOf struct {
	client fasthttp.HostClient
	url    string
	bearer string
	prefix string // of names and keys
	rate   int    // departures a second; 0 is as fast as answers come

	accepted atomic.Int64
}

func newBuyersOf(url, bearer, prefix string) *buyersOf {
	c := &buyersOf{url: url + "/v1/orders", bearer: bearer, prefix: prefix}
	c.client.Addr = strings.TrimPrefix(url, "http://")
	c.client.MaxConns = benchConnections
	return c
}

// buy makes n purchases. All must be accepted.
func (c *buyersOf) buy(b *testing.B, n int64) {
	var next atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for range min(benchConnections, n) {
		wg.Go(func() {
			var request fasthttp.Request
			var response fasthttp.Response
			var body, key []byte
			departure := time.NewTimer(0)
			defer departure.Stop()
			request.Header.SetMethod(fasthttp.MethodPost)
			request.SetRequestURI(c.url)
			request.Header.SetContentType("application/json")
			request.Header.Set(fasthttp.HeaderAuthorization, c.bearer)
			for i := next.Add(1); i <= n; i = next.Add(1) {
				if c.rate > 0 {
					departure.Reset(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(c.rate))))
					<-departure.C
				}
				key = strconv.AppendInt(append(key[:0], c.prefix...), i, 10)
				body = append(body[:0], `{"activity":"`+demoActivity+`","sku":"`+demoSKU+`","user":"`...)
				body = append(append(body, key...), `","quantity":1}`...)
				request.Header.SetBytesV("Idempotency-Key", key)
				request.SetBodyRaw(body)
				if err := c.client.Do(&request, &response); err != nil || response.StatusCode() != fasthttp.StatusAccepted {
					b.Errorf("%v: %d %s", err, response.StatusCode(), response.Body())
					return
				}
				c.accepted.Add(1)
			}
		})
	}
	wg.Wait()
	c.client.CloseIdleConnections()
}

// watch returns how far rows was behind what was accepted, at each look while f ran.
func (c *buyersOf) watch(rows func() int64, f func()) []int64 {
	var lags []int64
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				lags = append(lags, max(c.accepted.Load()-rows(), 0)) // a row may be there before its answer
			}
		}
	})
	f()
	close(done)
	watching.Wait()
	return lags
}

package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/proof/raced"
	"github.com/penstock/penstock/seckill"
)

// cheapSales answers from memory and allocates nothing itself.
type cheapSales struct {
	catalog *seckill.Catalog
	err     error
	receipt seckill.Receipt
}

func (s *cheapSales) Fresh(context.Context) (*seckill.Catalog, bool) { return s.catalog, true }

func (s *cheapSales) Catalog() *seckill.Catalog      { return s.catalog }
func (s *cheapSales) Refuses(*seckill.Purchase) bool { return s.err != nil }
func (s *cheapSales) Repeats(*seckill.Purchase) bool { return false }
func (s *cheapSales) Buy(context.Context, *seckill.Purchase) (seckill.Receipt, error) {
	return s.receipt, s.err
}
func (s *cheapSales) Probe(context.Context, seckill.Offer, *seckill.Purchase) error { return nil }

func (s *cheapSales) FindOrder(context.Context, *seckill.Caller, seckill.OrderID, time.Duration) (seckill.Order, error) {
	return s.receipt.Order, s.err
}
func (s *cheapSales) CancelOrder(context.Context, *seckill.Caller, seckill.OrderID) (seckill.Order, error) {
	return s.receipt.Order, s.err
}
func (s *cheapSales) Pay(context.Context, *seckill.Notice) (seckill.Order, error) {
	return s.receipt.Order, s.err
}
func (s *cheapSales) InStock(seckill.Offer) (bool, time.Duration) { return true, 0 }
func (s *cheapSales) Missing() string                             { return "" }
func (s *cheapSales) AppendReport(dst []byte, _, _ bool) []byte   { return dst }

type cheapGate struct{ denial *Denial }

func (g cheapGate) Enter(*Visit) *Denial             { return g.denial }
func (g cheapGate) Leave(*Visit, int, time.Duration) {}
func (g cheapGate) Stranger(*Visit) *Denial          { return nil }

func cheapServer(t testing.TB, sales *cheapSales, denial *Denial) *Server {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Gate = cheapGate{denial}
	sales.catalog = testCatalog(1)
	s, err := New(cfg, sales, sales, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// requestContextOf is a request as fasthttp would have read it.
func requestContextOf(method, path, body, key string) *fasthttp.RequestCtx {
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	req.Header.SetHost("x")
	req.Header.SetContentType("application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Idempotency-Key", "key-1")
	req.SetBodyString(body)
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&req, nil, nil)
	return ctx
}

// TestRefusalsAllocateLittle counts what the handler allocates for an answer, decoding and encoding
// included.
func TestRefusalsAllocateLittle(t *testing.T) {
	if raced.Enabled {
		t.Skip("pools drop what they are given under the race detector")
	}
	f := func(name string, most float64, ctx *fasthttp.RequestCtx, err error, denial *Denial, status int) {
		t.Helper()
		s := cheapServer(t, &cheapSales{err: err, receipt: seckill.Receipt{Order: testOrder(seckill.OrderQueued)}}, denial)
		n := testing.AllocsPerRun(200, func() {
			ctx.Response.Reset()
			s.handle(ctx)
		})
		if got := ctx.Response.StatusCode(); got != status {
			t.Errorf("%s: status %d: %s", name, got, ctx.Response.Body())
		}
		if n > most {
			t.Errorf("%s: %v allocations, at most %v are allowed", name, n, most)
		}
		t.Logf("%s: %v allocations", name, n)
	}
	buy := func() *fasthttp.RequestCtx { return requestContextOf("POST", "/v1/orders", goodBody, buyerKey) }
	f("sold out", 1, buy(), no(seckill.CodeSoldOut), nil, 409)
	f("not started", 1, buy(), &seckill.Refusal{Code: seckill.CodeNotStarted, StartsAt: opening}, nil, 409)
	f("busy", 1, buy(), errBusy, nil, 503)
	f("rate limited", 0, buy(), nil, limited, 429)
	f("unauthenticated", 1, requestContextOf("POST", "/v1/orders", goodBody, "nobody"), nil, nil, 401)
	f("forbidden", 0, requestContextOf("POST", "/v1/orders", goodBody, ownerKey), nil, nil, 403)
	f("missing fields", 0, requestContextOf("POST", "/v1/orders", `{"price":1}`, buyerKey), nil, nil, 400)
	f("no such path", 0, requestContextOf("GET", "/", "", buyerKey), nil, nil, 404)
	f("accepted", 1, buy(), nil, nil, 202)
	f("order", 2, requestContextOf("GET", orderPath, "", buyerKey), nil, nil, 200)
	f("activity", 0, requestContextOf("GET", "/v1/activities/618-phones", "", buyerKey), nil, nil, 200)
}

// BenchmarkHandle measures the handler without a network.
func BenchmarkHandle(b *testing.B) {
	for name, err := range map[string]error{"refused": no(seckill.CodeSoldOut), "accepted": nil} {
		b.Run(name, func(b *testing.B) {
			s := cheapServer(b, &cheapSales{err: err, receipt: seckill.Receipt{Order: testOrder(seckill.OrderQueued)}}, nil)
			ctx := requestContextOf("POST", "/v1/orders", goodBody, buyerKey)
			b.ReportAllocs()
			for b.Loop() {
				ctx.Response.Reset()
				s.handle(ctx)
			}
		})
	}
}

// burst is how many requests a benchmark sends at once: enough for the server's work to outweigh
// the loopback's.
const burst = 64

// pipe is a connection that sends the same burst again and again.
type pipe struct {
	conn   net.Conn
	from   *bufio.Reader
	sent   []byte
	answer int // bytes of one answer; all must have the same size
}

func newPipe(b *testing.B, addr, request string) *pipe {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	p := &pipe{conn: c, from: bufio.NewReaderSize(c, 64<<10), sent: []byte(strings.Repeat(request, burst))}
	if _, err := io.WriteString(c, request); err != nil {
		b.Fatal(err)
	}
	if _, err := p.from.Peek(1); err != nil {
		b.Fatal(err)
	}
	p.answer = p.from.Buffered()
	if _, err := p.from.Discard(p.answer); err != nil {
		b.Fatal(err)
	}
	return p
}

// run sends one burst and returns how long all its answers took.
func (p *pipe) run(b *testing.B) time.Duration {
	began := time.Now()
	if _, err := p.conn.Write(p.sent); err != nil {
		b.Fatal(err)
	}
	if _, err := p.from.Discard(burst * p.answer); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// BenchmarkRefusedAgainstBare sends purchases of a sold-out item over loopback. In turns with them,
// it sends bursts to a fasthttp server that only writes an answer of the same size.
func BenchmarkRefusedAgainstBare(b *testing.B) {
	ours := cheapServer(b, &cheapSales{err: no(seckill.CodeSoldOut)}, nil)
	body := problem.Append(nil, &problem.Problem{Code: problem.SoldOut})
	bare := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Response.SetStatusCode(409)
		ctx.Response.Header.SetContentType(problem.ContentType)
		ctx.Response.Header.Set("X-Request-Id", "request-1")
		ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
		ctx.Response.SetBody(body)
	}}
	request := fmt.Sprintf("POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nIdempotency-Key: key-1\r\nX-Request-Id: request-1\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", buyerKey, len(goodBody), goodBody)
	serve := func(serve func(net.Listener) error, shutdown func(context.Context) error) *pipe {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- serve(l) }()
		b.Cleanup(func() {
			if err := shutdown(context.Background()); err != nil {
				b.Error(err)
			}
			<-done
		})
		return newPipe(b, l.Addr().String(), request)
	}
	pipes := [2]*pipe{serve(ours.Serve, ours.Shutdown), serve(bare.Serve, bare.ShutdownWithContext)}
	if pipes[0].answer != pipes[1].answer {
		b.Fatalf("answers of %d and %d bytes", pipes[0].answer, pipes[1].answer)
	}
	var took [2]time.Duration
	bursts := 0
	for b.Loop() {
		for i, p := range pipes {
			took[i] += p.run(b)
		}
		bursts++
	}
	requests := float64(bursts * burst)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[0])/requests, "refused-ns/req")
	b.ReportMetric(float64(took[1])/requests, "bare-ns/req")
}

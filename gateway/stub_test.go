package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The keys of the callers in every test's catalog.
const (
	buyerKey    = "k-buyer"    // shop, may buy
	otherKey    = "k-other"    // shop, may buy: another caller
	ownerKey    = "k-owner"    // shop, merchant right only
	strangerKey = "k-stranger" // another merchant
)

// opening is when the test activities start, and closing when they end.
var (
	opening = time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC)
	closing = opening.Add(2 * time.Hour)
)

func testCaller(merchant, name, key string, rights seckill.Rights) seckill.Caller {
	return seckill.Caller{
		CallerRef: seckill.CallerRef{Merchant: seckill.MerchantID(merchant), Caller: seckill.CallerID(name)},
		Rights:    rights,
		Keys:      []seckill.CallerKey{{ID: "k-1", Prefix: key[:4], Hash: sha256.Sum256([]byte(key))}},
	}
}

// testCatalog has a shop with a published activity (618-phones: phone-x, phone-y), a paused one and
// a draft.
func testCatalog(version int64) *seckill.Catalog {
	items := func(first uint32) []seckill.Item {
		price := seckill.Money{Minor: 1999, Currency: "CNY"}
		return []seckill.Item{
			{ID: inventory.ItemID(first), SKU: "phone-x", Price: price, Quantity: 1000, PerUser: 2, Spread: 1},
			{ID: inventory.ItemID(first + 1), SKU: "phone-\"y\"", Price: price, Quantity: 10, Spread: 1},
		}
	}
	activity := func(id, name string, state seckill.ActivityState, first uint32) seckill.Activity {
		return seckill.Activity{
			ID: seckill.ActivityID(id), Merchant: "shop", Name: name, State: state, StartsAt: opening, EndsAt: closing, Items: items(first),
		}
	}
	changes := []seckill.CatalogChange{
		{Merchant: &seckill.Merchant{ID: "shop"}}, {Merchant: &seckill.Merchant{ID: "else"}},
	}
	for _, caller := range []seckill.Caller{
		testCaller("shop", "web", buyerKey, seckill.RightBuy), testCaller("shop", "app", otherKey, seckill.RightBuy),
		testCaller("shop", "office", ownerKey, seckill.RightMerchant), testCaller("else", "web", strangerKey, seckill.RightBuy),
	} {
		changes = append(changes, seckill.CatalogChange{Caller: &caller})
	}
	odd := func(id, sku string, item uint32) seckill.Activity {
		a := activity(id, "Odd names", seckill.ActivityPublished, item)
		a.Items = a.Items[:1]
		a.Items[0].SKU = seckill.SKU(sku)
		return a
	}
	for _, a := range []seckill.Activity{
		odd("a b", "ü", 7), odd(strings.Repeat("a", 64), strings.Repeat("ü", 32), 9),
		activity("618-phones", "Phones for 6.18", seckill.ActivityPublished, 1),
		activity("a/b ü", "Odd name", seckill.ActivityPaused, 3),
		activity("soon", "Soon", seckill.ActivityDraft, 5),
	} {
		changes = append(changes, seckill.CatalogChange{Activity: &a})
	}
	return catalogOf(version, changes...)
}

// catalogOf makes a catalog of everything that it has.
func catalogOf(version int64, changes ...seckill.CatalogChange) *seckill.Catalog {
	edit := (*seckill.Catalog)(nil).Edit(true, time.Now())
	for _, change := range changes {
		if err := edit.Apply(change); err != nil {
			panic(err)
		}
	}
	return edit.Done(seckill.CatalogVersion{Incarnation: "test", Number: version})
}

// stubSales answers as the test sets.
type stubSales struct {
	mu      sync.Mutex // guards everything below
	catalog *seckill.Catalog
	soldOut map[seckill.SKU]bool

	repeats map[string]bool          // keys that have an order, as memory knows
	inStock func(seckill.Offer) bool // instead of soldOut
	missing string
	probe   error // of Probe
	probes  int   // calls of Probe
	stale   bool  // the catalog can't be refreshed

	buy    func(context.Context, *seckill.Purchase) (seckill.Receipt, error)
	find   func(context.Context, *seckill.Caller, seckill.OrderID, time.Duration) (seckill.Order, error)
	cancel func(context.Context, *seckill.Caller, seckill.OrderID) (seckill.Order, error)
	pay    func(context.Context, *seckill.Notice) (seckill.Order, error)
}

func newStubSales() *stubSales {
	return &stubSales{catalog: testCatalog(1), soldOut: make(map[seckill.SKU]bool)}
}

func (s *stubSales) Fresh(context.Context) (*seckill.Catalog, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.catalog, !s.stale
}

func (s *stubSales) Catalog() *seckill.Catalog {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.catalog
}

// become changes the answers from now on.
func (s *stubSales) become(change func(*stubSales)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *stubSales) setCatalog(c *seckill.Catalog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalog = c
}

func (s *stubSales) setSoldOut(sku seckill.SKU, soldOut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.soldOut[sku] = soldOut
}

func (s *stubSales) InStock(o seckill.Offer) (inStock bool, age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inStock != nil {
		return s.inStock(o), 0
	}
	return !s.soldOut[o.SKU], 0
}

func (s *stubSales) Missing() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missing
}

func (s *stubSales) AppendReport(dst []byte, ready, draining bool) []byte {
	return fmt.Appendf(dst, `{"ready":%v,"draining":%v,"servers":[{"server":"redis","instance":"r:1","state":"ok",`+
		`"since":"2026-06-18T00:00:00.000Z","detail":""}],"shards":{"open":16,"closed":0,"rebuilding":0}}`, ready, draining)
}

func (s *stubSales) Refuses(p *seckill.Purchase) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.soldOut[p.SKU]
}

func (s *stubSales) Repeats(p *seckill.Purchase) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repeats[p.Key]
}

func (s *stubSales) Buy(ctx context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
	s.mu.Lock()
	buy := s.buy
	s.mu.Unlock()
	return buy(ctx, p)
}

func (s *stubSales) Probe(context.Context, seckill.Offer, *seckill.Purchase) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes++
	return s.probe
}

func (s *stubSales) FindOrder(ctx context.Context, c *seckill.Caller, id seckill.OrderID, wait time.Duration) (seckill.Order, error) {
	s.mu.Lock()
	find := s.find
	s.mu.Unlock()
	return find(ctx, c, id, wait)
}

func (s *stubSales) CancelOrder(ctx context.Context, c *seckill.Caller, id seckill.OrderID) (seckill.Order, error) {
	s.mu.Lock()
	cancel := s.cancel
	s.mu.Unlock()
	return cancel(ctx, c, id)
}

func (s *stubSales) Pay(ctx context.Context, n *seckill.Notice) (seckill.Order, error) {
	s.mu.Lock()
	pay := s.pay
	s.mu.Unlock()
	return pay(ctx, n)
}

// testOrder is an order as a store would have it.
func testOrder(state seckill.OrderState) seckill.Order {
	o := seckill.Order{
		ID: testOrderID, Item: 1, Caller: seckill.CallerRef{Merchant: "shop", Caller: "web"}, Activity: "618-phones", SKU: "phone-x",
		User: "u-42", Quantity: 1, Amount: seckill.Money{Minor: 1999, Currency: "CNY"}, State: state,
	}
	if state != seckill.OrderQueued {
		o.CreatedAt, o.UpdatedAt, o.PayBy = opening, opening.Add(1500*time.Microsecond), opening.Add(15*time.Minute)
	}
	if state == seckill.OrderCancelled {
		o.Reason = seckill.ReasonBuyer
	}
	return o
}

var testOrderID = seckill.NewOrderID(1, seckill.CallerRef{Merchant: "shop", Caller: "web"}, "u-42", "key-1")

// running is a server that answers on loopback.
type running struct {
	*Server
	sales *stubSales
	addr  string
	log   *safeBuffer
	serve chan error
}

// start serves until the test ends. change may be nil.
func start(t testing.TB, change func(*Config)) *running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.MaxConnections, cfg.StockAge = 64, 0
	if change != nil {
		change(&cfg)
	}
	sales, log := newStubSales(), &safeBuffer{}
	server, err := New(cfg, sales, sales, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Server: server, sales: sales, addr: l.Addr().String(), log: log, serve: make(chan error, 1)}
	go func() { r.serve <- server.Serve(l) }()
	do(t, r.request(t, "GET", "/livez", "", "Connection", "close")) // it serves
	for server.Stats().Connections > 0 {
		runtime.Gosched() // its end of that connection is still being closed
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-r.serve; err != nil {
			t.Error(err)
		}
	})
	return r
}

// safeBuffer is a log that a test may read while the server writes.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const goodBody = `{"activity":"618-phones","sku":"phone-x","user":"u-42","quantity":1}`

// request makes a request; fields are name, value pairs and an empty value leaves a default out.
func (r *running) request(t testing.TB, method, path, body string, fields ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+buyerKey)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "key-1")
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] == "" {
			req.Header.Del(fields[i])
		} else {
			req.Header.Set(fields[i], fields[i+1])
		}
	}
	return req
}

// do sends a request and returns its answer with the body read.
func do(t testing.TB, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// raw sends bytes on a connection of its own and reads one answer.
func (r *running) raw(t testing.TB, request string) (*http.Response, string) {
	t.Helper()
	c := r.dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, bufio.NewReader(c))
}

func (r *running) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func readAnswer(t testing.TB, from *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func asBody(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

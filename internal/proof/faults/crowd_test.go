package faults

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/wait"
)

// crowd are the buyers of a trial. They come at a steady rate, each for one unit of an item by a
// power law. Some click twice at once, some repeat their key after the answer, some try to buy the
// item again, some cancel, some pay. A buyer without a final answer repeats the key through any
// gateway.
type crowd struct {
	t     testing.TB
	s     *site
	sale  *sale
	ends  context.CancelFunc // no more buyers come
	parts sync.WaitGroup
	room  chan struct{} // as many buyers are in progress at most

	mu       sync.Mutex
	bought   []*purchase // guarded by mu, like all below
	promises []promise
	reads    []time.Time // orders that were read
	unready  []string    // failed checks of /readyz
	broken   []string    // broken laws that answers showed
	came     int
	served   int // of them, by a final answer
	rejected int
	unread   int // promised orders that were read as unknown
}

// purchase is one key.
type purchase struct {
	item      int
	user, key string
	again     bool // a second one of the same buyer

	// Guarded by the crowd's mu.
	order    string // that was promised
	at       time.Time
	soldOut  bool
	asked    bool // to be cancelled
	paid     bool // a notice was sent
	rejected bool
}

// promise is a first promise of a key.
type promise struct {
	at      time.Time
	item    int
	gateway int
}

// buyersAtOnce bounds the number of waiting buyers: beyond it no more come.
const buyersAtOnce = 100

// newCrowd lets buyers come until stop.
func newCrowd(t testing.TB, s *site, sold *sale) *crowd {
	t.Helper()
	coming, ends := context.WithCancel(t.Context())
	c := &crowd{t: t, s: s, sale: sold, ends: ends, room: make(chan struct{}, buyersAtOnce)}
	c.parts.Go(func() { c.arrive(coming) })
	for i := range s.gateways {
		c.parts.Go(func() { c.look(coming, i) })
		c.parts.Go(func() { c.read(coming, i) })
	}
	return c
}

// stop returns when no buyer is in progress any more.
func (c *crowd) stop() {
	c.ends()
	c.parts.Wait()
}

func (c *crowd) arrive(ctx context.Context) {
	every := time.Second / time.Duration(*rateFlag)
	next := time.Now()
	taste := rand.NewZipf(rand.New(rand.NewPCG(618, 1)), 1.1, 2, items-1)
	for i := 0; wait.For(ctx, time.Until(next)); i++ {
		next = next.Add(every)
		if time.Since(next) > time.Second {
			next = time.Now() // the machine was away
		}
		select {
		case c.room <- struct{}{}:
			at := int(taste.Uint64())
			c.parts.Go(func() {
				c.buyer(i, at)
				<-c.room
			})
		default:
		}
	}
}

// buyer is one of the crowd.
func (c *crowd) buyer(i, item int) {
	rng := rand.New(rand.NewPCG(619, uint64(i)))
	p := c.purchase(item, fmt.Sprint("u", i), "k", false)
	c.mu.Lock()
	c.came++
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	gateway := rng.IntN(2)
	if rng.IntN(4) == 0 {
		c.parts.Go(func() { c.try(ctx, p, 1-gateway) })
	}
	if !c.until(ctx, rng, p, gateway) {
		return
	}
	c.mu.Lock()
	c.served++
	has := p.order != ""
	c.mu.Unlock()
	if !has {
		return
	}
	switch rng.IntN(24) {
	case 0, 1, 2, 3, 4:
		c.try(ctx, p, rng.IntN(2))
	case 5, 6:
		c.until(ctx, rng, c.purchase(item, p.user, "again", true), rng.IntN(2))
	case 7:
		c.cancel(ctx, p)
	case 8, 9:
		c.pay(ctx, p)
	}
}

func (c *crowd) purchase(item int, user, key string, again bool) *purchase {
	p := &purchase{item: item, user: user, key: key, again: again}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bought = append(c.bought, p)
	return p
}

// until repeats until there is a final answer, or the buyer gives up.
func (c *crowd) until(ctx context.Context, rng *rand.Rand, p *purchase, gateway int) bool {
	// They come again later and later, and not before they were asked to.
	for again := (wait.Backoff{First: 250 * time.Millisecond, Longest: 2 * time.Second}); ; gateway = rng.IntN(2) {
		done, after := c.try(ctx, p, gateway)
		if done {
			return true
		}
		if !wait.For(ctx, max(after, again.Next())) {
			return false
		}
	}
}

// try sends a purchase once. done means that the buyer need not ask again; after is the
// Retry-After.
func (c *crowd) try(ctx context.Context, p *purchase, gateway int) (done bool, after time.Duration) {
	it := &c.sale.items[p.item]
	body := fmt.Sprintf(`{"activity":%q,"sku":%q,"user":%q,"quantity":1}`, it.activity, it.sku, p.user)
	header := []string{"Authorization", c.s.bearer, "Idempotency-Key", p.user + "-" + p.key}
	if len(p.user)%2 == 0 && p.user[len(p.user)-1] == '7' {
		header = append(header, "Prefer", "wait=2")
	}
	a, err := call(ctx, "POST", c.s.gateways[gateway].Load().public+"/v1/orders", body, header...)
	if err != nil {
		return false, 0
	}
	return c.note(p, gateway, &a), time.Duration(a.member.RetryMS) * time.Millisecond
}

// note records an answer.
func (c *crowd) note(p *purchase, gateway int, a *answer) (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wrong := func(law string) {
		c.broken = append(c.broken, fmt.Sprintf("%s: key %s-%s of %s, promised %q, was answered %v",
			law, p.user, p.key, c.sale.items[p.item].name(), p.order, a))
	}
	m := &a.member
	switch {
	case a.status == http.StatusAccepted || a.status == http.StatusCreated:
		switch {
		case m.Order == "":
			wrong("contract")
		case p.order != "" && p.order != m.Order:
			wrong("L4")
		case m.Status == "rejected":
			p.rejected = true
			c.rejected++
		case m.Reason == "not-accepted":
			if p.order != "" {
				wrong("L2")
			}
			return true // it was never promised, and the repeat gets its end
		}
		if p.order == "" {
			p.order, p.at = m.Order, time.Now()
			c.promises = append(c.promises, promise{p.at, p.item, gateway})
		}
		return true
	case m.Code == "sold-out":
		if p.order != "" {
			wrong("L4")
		}
		p.soldOut = true
		return true
	case m.Code == "purchase-limit" && p.again:
		return true
	case a.status == http.StatusServiceUnavailable, m.Code == "not-started":
		return false
	}
	wrong("contract")
	return true
}

// cancel gives an order up.
func (c *crowd) cancel(ctx context.Context, p *purchase) {
	c.mu.Lock()
	p.asked = true
	c.mu.Unlock()
	for try := 0; try < 3; try++ {
		a, err := call(ctx, "POST", c.s.gateways[try%2].Load().public+"/v1/orders/"+p.order+"/cancel", "", "Authorization", c.s.bearer)
		if err == nil && a.status == http.StatusOK || !wait.For(ctx, time.Second) {
			return
		}
	}
}

// paymentSecret is the merchant's.
const paymentSecret = "faults-payment-secret-0123456789"

// pay sends a payment notice.
func (c *crowd) pay(ctx context.Context, p *purchase) {
	c.mu.Lock()
	p.paid = true
	c.mu.Unlock()
	body := fmt.Sprintf(`{"payment":"pay-%s","order":%q,"amount":%d,"currency":"CNY"}`, p.order, p.order, price)
	for try := 0; try < 3; try++ {
		mac := hmac.New(sha256.New, []byte(paymentSecret))
		at := time.Now().Unix()
		fmt.Fprintf(mac, "%d.%s", at, body)
		a, err := call(ctx, "POST", c.s.gateways[try%2].Load().public+"/v1/payments", body,
			"Penstock-Signature", fmt.Sprintf("t=%d,v1=%s", at, hex.EncodeToString(mac.Sum(nil))))
		if err == nil && a.status == http.StatusOK || !wait.For(ctx, time.Second) {
			return
		}
	}
}

// look asks a gateway again and again whether it is ready.
func (c *crowd) look(ctx context.Context, i int) {
	for wait.For(ctx, 300*time.Millisecond) {
		n := c.s.gateways[i].Load()
		if c.s.harmed[i].Load() {
			continue
		}
		a, err := call(ctx, "GET", n.public+"/readyz", "")
		if ctx.Err() != nil || err == nil && a.status == http.StatusOK || c.s.harmed[i].Load() || n != c.s.gateways[i].Load() {
			continue
		}
		c.mu.Lock()
		c.unready = append(c.unready, fmt.Sprintf("%v gateway %d: %v %v", time.Now().Format("15:04:05.000"), i, &a, err))
		c.mu.Unlock()
	}
}

// read reads promised orders through a gateway.
func (c *crowd) read(ctx context.Context, i int) {
	for k := 0; wait.For(ctx, 50*time.Millisecond); k++ {
		c.mu.Lock()
		order := ""
		if n := len(c.bought); n > 0 {
			order = c.bought[k*7919%n].order
		}
		c.mu.Unlock()
		if order == "" {
			continue
		}
		a, err := call(ctx, "GET", c.s.gateways[i].Load().public+"/v1/orders/"+order, "", "Authorization", c.s.bearer)
		c.mu.Lock()
		switch {
		case err != nil:
		case a.status == http.StatusOK:
			c.reads = append(c.reads, time.Now())
		case a.status == http.StatusNotFound:
			c.unread++
		case a.status != http.StatusServiceUnavailable:
			c.broken = append(c.broken, fmt.Sprintf("contract: order %s is read as %v", order, &a))
		}
		c.mu.Unlock()
	}
}

// promised counts the promises since then, of the items that which accepts; nil accepts all.
func (c *crowd) promised(since time.Time, which func(*item) bool) int {
	return len(c.promisesIn(since, time.Now(), which))
}

// promisesIn returns the promises between two times.
func (c *crowd) promisesIn(from, to time.Time, which func(*item) bool) []promise {
	c.mu.Lock()
	defer c.mu.Unlock()
	var in []promise
	for _, p := range c.promises {
		if !p.at.Before(from) && !p.at.After(to) && (which == nil || which(&c.sale.items[p.item])) {
			in = append(in, p)
		}
	}
	slices.SortFunc(in, func(a, b promise) int { return a.at.Compare(b.at) })
	return in
}

// readsIn counts the orders that were read between two times.
func (c *crowd) readsIn(from, to time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, at := range c.reads {
		if !at.Before(from) && !at.After(to) {
			n++
		}
	}
	return n
}

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serve starts everything in one process, with a sweep age that is short enough for a test.
func serve(t testing.TB, dir string, args ...string) *node {
	t.Helper()
	return start(t, append([]string{"serve", "--data-dir", dir, "--accept-deadline", "1s", "--sweep-age", "3s"}, args...)...)
}

// press sends one purchase for each i below n, from many goroutines, and returns the answers.
func press(t testing.TB, n int, buy func(i int) (answer, error)) []answer {
	t.Helper()
	answers := make([]answer, n)
	next := make(chan int)
	var crowd sync.WaitGroup
	for range 64 {
		crowd.Go(func() {
			for i := range next {
				a, err := buy(i)
				if err != nil {
					t.Errorf("buyer %d: %v", i, err)
				}
				answers[i] = a
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	crowd.Wait()
	return answers
}

// accepted returns the order ids of 201 and 202 answers. It fails on any other answer that isn't in
// refusals.
func accepted(t testing.TB, answers []answer, refusals ...string) map[string]int {
	t.Helper()
	orders := make(map[string]int)
	for i, a := range answers {
		switch code := a.field("code"); {
		case a.status == http.StatusAccepted || a.status == http.StatusCreated:
			orders[a.field("order")]++
		default:
			known := false
			for _, r := range refusals {
				known = known || r == code
			}
			if !known {
				t.Fatalf("answer %d: %v", i, a)
			}
		}
	}
	return orders
}

// TestL1_NoOversell: twice as many buyers as units, with quantities: never more than the total are
// sold and ordered.
func TestL1_NoOversell(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 100, perUser: 3, window: "10m"})
	answers := press(t, 200, func(i int) (answer, error) { return s.buy(n, fmt.Sprint("u", i), "k", 1+i%3) })
	units := 0
	for i, a := range answers {
		if a.status == http.StatusAccepted {
			units += 1 + i%3
		}
	}
	accepted(t, answers, "sold-out")
	got := s.settled(n)
	if units > 100 || got.Held != units || got.Available != 100-units {
		t.Fatalf("%d units accepted: %+v", units, got)
	}
}

// TestL2_AnAcceptedOrderExists: every 202 becomes an order, also when the process is killed
// directly after the answer.
func TestL2_AnAcceptedOrderExists(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	s := openShop(n, terms{quantity: 500, perUser: 1, window: "10m"})
	orders := accepted(t, press(t, 300, func(i int) (answer, error) { return s.buy(n, fmt.Sprint("u", i), "k", 1) }))
	n.kill()
	n = serve(t, dir)
	for id := range orders {
		if a := s.order(n, id); a.status != 200 || a.field("status") != "pending_payment" && a.field("status") != "queued" {
			t.Fatalf("order %s after the kill: %v", id, a)
		}
	}
	if got := s.settled(n); got.Held != 300 || got.Rejected != 0 {
		t.Fatalf("%+v", got)
	}
}

// TestL3_NoLeak: units of cancelled, timed-out and never-finished orders come back by themselves.
func TestL3_NoLeak(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 10, perUser: 1, window: "1s"})
	first := s.mustBuy(n, "u1", "k")
	second := s.mustBuy(n, "u2", "k")
	if a := s.cancel(n, first); a.status != 200 || a.field("status") != "cancelled" || a.field("reason") != "cancelled-by-buyer" {
		t.Fatalf("cancel: %v", a)
	}
	eventually(t, "the unpaid order times out", func() bool { return s.order(n, second).field("status") == "cancelled" })
	if a := s.order(n, second); a.field("reason") != "payment-timeout" {
		t.Fatalf("timed out: %v", a)
	}
	if got := s.settled(n); got.Available != 10 {
		t.Fatalf("%+v", got)
	}
	s.mustBuy(n, "u1", "another-key") // and the buyers' counts came back with them
}

// TestL4_Once: one key has one order, in any state. Payments, cancels and restocks happen once.
func TestL4_Once(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1, perUser: 1, window: "10m"})
	answers := press(t, 64, func(int) (answer, error) { return s.buy(n, "u1", "k", 1) })
	orders := accepted(t, answers)
	if len(orders) != 1 {
		t.Fatalf("one key became %d orders", len(orders))
	}
	fresh := 0
	for _, a := range answers {
		if a.header.Get("Idempotent-Replayed") == "" {
			fresh++
		}
	}
	if fresh != 1 {
		t.Fatalf("%d answers say that they took stock", fresh)
	}
	id := answers[0].field("order")
	s.mustBuy(n, "u1", "k") // sold out by now, but this key has its order
	if a, _ := s.buy(n, "u2", "k", 1); a.field("code") != "sold-out" {
		t.Fatalf("another buyer: %v", a)
	}
	if a, _ := s.buy(n, "u1", "k", 2); a.status != 422 || a.field("code") != "idempotency-key-reused" {
		t.Fatalf("another quantity: %v", a)
	}
	for range 3 {
		if a := s.pay(n, "pay-1", id, price); a.status != 200 || a.field("status") != "paid" {
			t.Fatalf("pay: %v", a)
		}
	}
	for i := range 3 {
		a := n.admin(200, "POST", "/admin/v1/activities/618/items/phone-x/restock", `{"delta":5,"reason":"found some"}`, "Idempotency-Key", "r1")
		if a.field("total") != "6" || (a.header.Get("Idempotent-Replayed") == "true") != (i > 0) {
			t.Fatalf("restock %d: %v", i, a)
		}
	}
	if got := s.settled(n); got.Sold != 1 || got.Available != 5 || got.Total != 6 {
		t.Fatalf("%+v", got)
	}
	if a, _ := s.buy(n, "u1", "k", 1); a.status != http.StatusCreated || a.field("status") != "paid" || a.field("order") != id {
		t.Fatalf("replay of a paid order: %v", a)
	}
}

// TestL5_TheLimitPerBuyer holds against one buyer with many keys at once.
func TestL5_TheLimitPerBuyer(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 100, perUser: 3, window: "10m"})
	orders := accepted(t, press(t, 50, func(i int) (answer, error) { return s.buy(n, "u1", fmt.Sprint("k", i), 1) }), "purchase-limit")
	if len(orders) != 3 {
		t.Fatalf("the buyer has %d orders", len(orders))
	}
	if got := s.settled(n); got.Held != 3 {
		t.Fatalf("%+v", got)
	}
}

// TestL6_NoFalseSoldOut: a unit that comes back is sold again; no buyer gets sold-out from an old
// memory.
func TestL6_NoFalseSoldOut(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1, perUser: 1, window: "10m"})
	id := s.mustBuy(n, "u0", "k")
	for i := 1; i <= 20; i++ {
		if a, _ := s.buy(n, fmt.Sprint("u", i), "k", 1); a.field("code") != "sold-out" {
			t.Fatalf("round %d, before the unit came back: %v", i, a)
		}
		s.cancel(n, id)
		eventually(t, "the unit is sold again", func() bool {
			a, err := s.buy(n, fmt.Sprint("u", i), "k", 1)
			if err == nil && a.field("order") != "" {
				id = a.field("order")
				return true
			}
			return false
		})
		if order := s.order(n, id); order.field("status") == "queued" {
			eventually(t, "the order exists", func() bool { return s.order(n, id).field("status") == "pending_payment" })
		}
	}
}

// TestL7_OverloadSheds: far more requests come than may be worked on at once. Each is answered,
// most with a proper 503, and the process goes on as before.
func TestL7_OverloadSheds(t *testing.T) {
	n := serve(t, t.TempDir(), "--max-in-flight", "8", "--max-connections", "512")
	s := openShop(n, terms{quantity: 10_000, perUser: 1, window: "10m"})
	answers := press(t, 3000, func(i int) (answer, error) { return s.buy(n, fmt.Sprint("u", i), "k", 1) })
	orders := accepted(t, answers, "overloaded")
	for _, a := range answers {
		if a.field("code") == "overloaded" && (a.status != 503 || a.header.Get("Retry-After") == "" || a.field("retryable") != "true") {
			t.Fatalf("shed without saying when to come back: %v", a)
		}
	}
	if len(orders) == 0 {
		t.Fatal("nobody was served")
	}
	if got := s.settled(n); got.Held != len(orders) {
		t.Fatalf("%d accepted: %+v", len(orders), got)
	}
}

// TestL8_NothingGrowsWithoutBound: requests that are too large or too slow are refused, and their
// connection is closed.
func TestL8_NothingGrowsWithoutBound(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 10, perUser: 1, window: "10m"})
	long := make([]byte, 17<<10)
	for i := range long {
		long[i] = 'x'
	}
	a, err := s.buy(n, string(long), "k", 1)
	if err != nil || a.status != http.StatusRequestEntityTooLarge || a.field("code") != "too-large" {
		t.Fatalf("17 KiB body: %v, %v", a, err)
	}
	a, err = call("GET", n.public+"/v1/activities/618", "", "Authorization", "Bearer "+s.key, "X-Long", string(long))
	if err != nil || a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("17 KiB header: %v, %v", a, err)
	}
	s.mustBuy(n, "u1", "k")
}

// TestKillAmidACrowd proves the promise of the embedded parts. The process is killed with -9 three
// times during a crowd. Every promise is one order, no unit leaks, and a key whose answer was lost
// gets its order or buys now.
func TestKillAmidACrowd(t *testing.T) {
	const units, buyers = 400, 900
	dir := t.TempDir()
	n := serve(t, dir)
	s := openShop(n, terms{quantity: units, perUser: 1, window: "10m"})
	promised := make([]string, buyers)
	for round := range 4 {
		if round > 0 {
			n = serve(t, dir)
		}
		last := round == 3
		var mu sync.Mutex
		done := 0
		killed := make(chan struct{})
		press(t, buyers, func(i int) (answer, error) {
			a, err := s.buy(n, fmt.Sprint("u", i), "k", 1)
			if order := a.field("order"); err == nil && a.status/100 == 2 {
				if promised[i] != "" && promised[i] != order {
					t.Errorf("buyer %d was promised %s and %s", i, promised[i], order)
				}
				promised[i] = order
			}
			mu.Lock()
			defer mu.Unlock()
			if done++; done == buyers/4 && !last {
				go func() { n.kill(); close(killed) }()
			}
			return a, nil // a lost answer is what this test is about
		})
		if !last {
			<-killed
		}
	}
	count := 0
	for i, id := range promised {
		if id == "" {
			continue
		}
		count++
		eventually(t, "order "+id+" exists", func() bool { return s.order(n, id).field("status") == "pending_payment" })
		if user := s.order(n, id).field("user"); user != fmt.Sprint("u", i) {
			t.Errorf("order %s of buyer %d is of %s", id, i, user)
		}
	}
	if got := s.settled(n); got.Held != count || got.Held != units || got.Rejected != 0 {
		t.Fatalf("%d promised: %+v", count, got)
	}
}

// TestStopDrains: after SIGTERM during a crowd, even twice, the process answers the requests in
// flight and exits with 0. Nothing is lost.
func TestStopDrains(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	s := openShop(n, terms{quantity: 1000, perUser: 1, window: "10m"})
	var mu sync.Mutex
	done := 0
	code := make(chan int, 1)
	answers := press(t, 600, func(i int) (answer, error) {
		a, err := s.buy(n, fmt.Sprint("u", i), "k", 1)
		if err != nil {
			a = answer{} // the listener is closed
		}
		mu.Lock()
		defer mu.Unlock()
		switch done++; done {
		case 200:
			if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		case 300: // supervisors send it twice, to the process and its group
			go func() { code <- n.end(syscall.SIGTERM) }()
		}
		return a, nil
	})
	if c := <-code; c != 0 {
		t.Fatalf("exit code %d", c)
	}
	n = serve(t, dir)
	promised := 0
	for _, a := range answers {
		if a.status != http.StatusAccepted {
			continue
		}
		promised++
		id := a.field("order")
		eventually(t, "order "+id+" exists", func() bool { return s.order(n, id).field("status") == "pending_payment" })
	}
	if got := s.settled(n); got.Held < promised || promised < 200 {
		t.Fatalf("%d promised: %+v", promised, got)
	}
}

// TestLatePaymentIsKept: a payment after the timeout makes the order refund_due, and the unit stays
// on sale.
func TestLatePaymentIsKept(t *testing.T) {
	n := serve(t, t.TempDir())
	s := openShop(n, terms{quantity: 1, perUser: 1, window: "1s"})
	id := s.mustBuy(n, "u1", "k")
	if a := s.pay(n, "wrong", id, price-1); a.status != 409 || a.field("code") != "amount-mismatch" {
		t.Fatalf("wrong amount: %v", a)
	}
	eventually(t, "the order times out", func() bool { return s.order(n, id).field("status") == "cancelled" })
	for range 2 {
		if a := s.pay(n, "late", id, price); a.status != 200 || a.field("status") != "refund_due" {
			t.Fatalf("late payment: %v", a)
		}
	}
	if got := s.settled(n); got.Available != 1 || got.Sold != 0 {
		t.Fatalf("%+v", got)
	}
	body := fmt.Sprintf(`{"payment":"old","order":%q,"amount":%d,"currency":"CNY"}`, id, price)
	for name, signature := range map[string]string{
		"forged": sign("another secret", time.Now().Unix(), body), "old": sign(s.secret, time.Now().Add(-301*time.Second).Unix(), body), "none": "",
	} {
		a, err := call("POST", n.public+"/v1/payments", body, "Penstock-Signature", signature)
		if err != nil || a.status != 401 {
			t.Fatalf("%s signature: %v, %v", name, a, err)
		}
	}
}

// TestRetention: within the retention, a repeat finds its order after the sale's end too.
// Afterwards the key is forgotten, and the order still exists.
func TestRetention(t *testing.T) {
	n := serve(t, t.TempDir(), "--retention", "2s")
	s := openShop(n, terms{quantity: 5, perUser: 1, window: "1s"})
	id := s.mustBuy(n, "u1", "k")
	s.pay(n, "p", id, price)
	s.settled(n)
	n.admin(200, "POST", "/admin/v1/activities/618/end", `{"confirm":true}`)
	if a, _ := s.buy(n, "u1", "k", 1); a.field("order") != id || a.header.Get("Idempotent-Replayed") != "true" {
		t.Fatalf("repeat after the end: %v", a)
	}
	if a, _ := s.buy(n, "u2", "k", 1); a.field("code") != "ended" {
		t.Fatalf("new purchase after the end: %v", a)
	}
	eventually(t, "the key is forgotten", func() bool {
		a, err := s.buy(n, "u1", "k", 1)
		return err == nil && a.field("code") == "ended"
	})
	if a := s.order(n, id); a.field("status") != "paid" {
		t.Fatalf("the order: %v", a)
	}
}

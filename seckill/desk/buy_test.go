package desk

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func TestBuy(t *testing.T) {
	t.Run("an accepted purchase is a promise in an acknowledged page", func(t *testing.T) {
		stock, queue := &stubStock{epoch: 7}, &stubQueue{}
		s := openShop(t, stock, queue, seckill.DefaultConfig(), testItems(1, 1)...)
		p := wish("u-1", "k-1")
		p.Quantity = 2
		r, err := s.Buy(t.Context(), p)
		if err != nil || r.Replayed || r.Order.State != seckill.OrderQueued || r.Order.ID != orderOf(1, p) {
			t.Fatalf("%+v, %v", r, err)
		}
		home := inventory.Home(1, s.cfg.Shards)
		page := queue.pages[0]
		if page.Ref != (inventory.Ref{Shard: home, Epoch: 7}) || page.Seq != 1 || page.Node != "gw" || len(page.Promises) != 1 {
			t.Fatalf("%+v", page)
		}
		got := page.Promises[0]
		got.Accepted = time.Time{}
		if want := (seckill.Promise{
			Order: orderOf(1, p), Caller: testCaller.CallerRef, Activity: "a", SKU: "x01", User: "u-1", Quantity: 2,
			Amount: seckill.Money{Minor: 200, Currency: "CNY"}, Request: "req-k-1",
		}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if n := queue.taken(); n != 0 {
			t.Errorf("%d slots are left", n)
		}
	})
	t.Run("what a purchase asks for is copied", func(t *testing.T) {
		stock, queue := &stubStock{}, &stubQueue{keep: true}
		synctest.Test(t, func(t *testing.T) {
			s := openShop(t, stock, queue, seckill.DefaultConfig(), testItems(1, 1)...)
			user := []byte("u-1")
			p := wish("", "k-1")
			p.User = seckill.UserID(unsafe.String(&user[0], len(user)))
			if _, err := s.Buy(t.Context(), p); codeOf(t, err) != "unknown" {
				t.Fatal(err)
			}
			synctest.Wait()
			copy(user, "zzz")
			if page, err := seckill.ParsePage(queue.values[0]); err != nil || page.Promises[0].User != "u-1" {
				t.Errorf("%+v, %v", page, err)
			}
		})
	})
}

// TestBuy_RepeatThatTheGateCloses: a key that has units, and no row yet, gets its promise, also
// where a switch or a limit closes purchases; a new key gets the refusal.
func TestBuy_RepeatThatTheGateCloses(t *testing.T) {
	stock, queue := &stubStock{holds: map[string]inventory.Entry{}}, &stubQueue{}
	s := openShop(t, stock, queue, seckill.DefaultConfig(), testItems(1, 1)...)
	buy := func(key string) (seckill.Receipt, error) {
		p := wish("u-1", key)
		p.Closed, p.ClosedSince = &seckill.Refusal{Code: seckill.CodeOverloaded}, p.Arrived.Add(-time.Hour)
		return s.Buy(t.Context(), p)
	}
	first, err := s.Buy(t.Context(), wish("u-1", "k-1"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := buy("k-1"); err != nil || !r.Replayed || r.Order.ID != first.Order.ID || r.Order.State != seckill.OrderQueued {
		t.Errorf("a repeat: %+v, %v", r, err)
	}
	if _, err := buy("k-2"); codeOf(t, err) != seckill.CodeOverloaded {
		t.Errorf("a new one: %v", err)
	}
	if len(queue.pages) != 2 || len(stock.holds) != 1 {
		t.Errorf("%d pages, %d holds", len(queue.pages), len(stock.holds))
	}
	queue.refuses = errors.New("no leader")
	if _, err := buy("k-1"); codeOf(t, err) != "unknown" {
		t.Errorf("a repeat while the queue is away: %v", err)
	}
	if n := queue.taken(); n != 0 {
		t.Errorf("%d slots are left", n)
	}
}

// TestBuy_TheGateIsRightWithoutTheStock: where the stock can't be asked whether a key has an order,
// the answer is that of the limit or switch, if that says to come again.
func TestBuy_TheGateIsRightWithoutTheStock(t *testing.T) {
	for _, c := range []struct {
		what  string
		stock *stubStock
		wait  time.Duration
		code  seckill.Code
	}{
		{"Redis is away", &stubStock{lost: errors.New("no connection")}, time.Second, seckill.CodeOverloaded},
		{"the shard isn't open here", &stubStock{epoch: -1}, time.Second, seckill.CodeOverloaded},
		{"a retry doesn't help, and a repeat must not hear that", &stubStock{lost: errors.New("no connection")}, 0, seckill.CodeUnavailable},
		{"the same on a shard that isn't open", &stubStock{epoch: -1}, 0, seckill.CodeUnavailable},
	} {
		s := openShop(t, c.stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
		p := wish("u-1", "k-1")
		p.Closed, p.ClosedSince = &seckill.Refusal{Code: seckill.CodeOverloaded, RetryAfter: c.wait}, p.Arrived.Add(-time.Hour)
		if _, err := s.Buy(t.Context(), p); codeOf(t, err) != c.code {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// Every verdict has its answer, and takes a slot only where it puts a promise.
func TestBuy_Verdicts(t *testing.T) {
	for _, c := range []struct {
		verdict  inventory.Verdict
		row      seckill.OrderState
		code     seckill.Code
		replayed bool
	}{
		{inventory.Held, "", "", false},
		{inventory.HeldAgain, "", "", true},
		{inventory.HeldOrdered, seckill.OrderPending, "", true},
		{inventory.HeldOrdered, seckill.OrderParked, "", true},
		{inventory.HeldOrdered, "", "unknown", false},
		{inventory.HeldEnded, seckill.OrderCancelled, "", true},
		{inventory.HeldDoomed, "", "unknown", false},
		{inventory.SoldOut, "", seckill.CodeSoldOut, false},
		{inventory.OverLimit, "", seckill.CodePurchaseLimit, false},
		{inventory.TooMany, "", seckill.CodePurchaseLimit, false},
		{inventory.Reused, "", seckill.CodeKeyReused, false},
		{inventory.Unopened, "", seckill.CodeUnavailable, false},
	} {
		stock := &stubStock{verdict: func(inventory.Ref, int) inventory.Verdict { return c.verdict }}
		s := openShop(t, stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
		p := wish("u-1", "k-1")
		if id := orderOf(1, p); c.row != "" {
			s.store.rows[id] = seckill.Order{ID: id, State: c.row}
		}
		r, err := s.Buy(t.Context(), p)
		if codeOf(t, err) != c.code || r.Replayed != c.replayed {
			t.Errorf("verdict %d, row %q: %+v, %v", c.verdict, c.row, r, err)
		}
		if want := map[seckill.OrderState]seckill.OrderState{"": seckill.OrderQueued, seckill.OrderParked: seckill.OrderQueued}[c.row]; err == nil &&
			want != "" && r.Order.State != want {
			t.Errorf("verdict %d, row %q: reads %s", c.verdict, c.row, r.Order.State)
		}
		if n := s.queue.taken(); n != 0 {
			t.Errorf("verdict %d: %d slots are left", c.verdict, n)
		}
	}
}

// A fault of a call affects only its own purchases: those of another shard in the same round are
// sold (L10).
func TestL10_AShardsFaultIsItsOwn(t *testing.T) {
	lost := errors.New("connection refused")
	for _, c := range []struct {
		err    error
		code   seckill.Code
		behind bool
	}{
		{inventory.ErrClosed, seckill.CodeUnavailable, false},
		{inventory.ErrEpoch, seckill.CodeUnavailable, true},
		{inventory.ErrLost, seckill.CodeUnavailable, false},
		{lost, seckill.CodeUnavailable, false},
		{&inventory.UnknownError{Err: lost}, "unknown", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			items := testItems(2, 1)
			cfg := seckill.DefaultConfig()
			sick := inventory.Home(1, cfg.Shards)
			if inventory.Home(2, cfg.Shards) == sick {
				t.Fatal("the items are on one shard")
			}
			stock := &stubStock{fails: func(shard inventory.ShardID) error {
				if shard == sick {
					return c.err
				}
				return nil
			}}
			stock.holding = func([]*inventory.HoldCall) { time.Sleep(time.Millisecond) }
			s := openShop(t, stock, &stubQueue{}, cfg, items...)
			codes := make(chan [2]seckill.Code)
			for i := range 8 {
				go func() {
					p := wish("u", string(rune('a'+i)))
					p.SKU = items[i%2].SKU
					_, err := s.Buy(t.Context(), p)
					codes <- [2]seckill.Code{health(i), codeOf(t, err)}
				}()
			}
			for range 8 {
				got := <-codes
				want := seckill.Code("")
				if got[0] == "sick" {
					want = c.code
				}
				if got[1] != want {
					t.Errorf("%v: an item of the %s shard: %q, want %q", c.err, got[0], got[1], want)
				}
			}
			select {
			case <-s.Behind():
				if !c.behind {
					t.Errorf("%v: behind", c.err)
				}
			default:
				if c.behind {
					t.Errorf("%v: not behind", c.err)
				}
			}
			if n := s.queue.taken(); n != 0 {
				t.Errorf("%v: %d slots are left", c.err, n)
			}
		})
	}
}

// health returns the shard of the i-th buyer.
func health(i int) seckill.Code {
	if i%2 == 0 {
		return "sick"
	}
	return "well"
}

// The queue owns the bytes of a page until it is done, even if the buyers were answered long ago. A
// late acknowledgement doesn't answer another purchase.
func TestBuy_LatePageIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &stubQueue{keep: true}
		s := openShop(t, &stubStock{}, queue, seckill.DefaultConfig(), testItems(1, 1)...)
		if _, err := s.Buy(t.Context(), wish("u-1", "k-1")); codeOf(t, err) != "unknown" {
			t.Fatalf("no acknowledgement within the accept deadline: %v", err)
		}
		synctest.Wait()
		first := string(queue.values[0])
		for _, key := range []string{"k-2", "k-3"} {
			bought := make(chan error)
			go func() {
				_, err := s.Buy(t.Context(), wish("u-1", key))
				bought <- err
			}()
			synctest.Wait()
			if key == "k-2" {
				queue.finish(0, errors.New("late")) // of k-1
			}
			synctest.Wait()
			select {
			case err := <-bought:
				t.Fatalf("%s was answered without an acknowledgement: %v", key, err)
			default:
			}
			queue.finish(-1, nil)
			if err := <-bought; err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		if string(queue.values[0]) != first {
			t.Error("the queue's page was written over")
		}
		if n := queue.taken(); n != 0 {
			t.Errorf("%d slots are left", n)
		}
	})
}

// The outcome of a purchase is unknown when its page is lost. The earlier of two deadlines counts.
func TestBuy_EndsInTime(t *testing.T) {
	t.Run("a page that failed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			queue := &stubQueue{keep: true}
			s := openShop(t, &stubStock{}, queue, seckill.DefaultConfig(), testItems(1, 1)...)
			time.AfterFunc(time.Millisecond, func() { queue.finish(0, errors.New("the broker is gone")) })
			var unknown *seckill.Unknown
			p := wish("u-1", "k-1")
			if _, err := s.Buy(t.Context(), p); !errors.As(err, &unknown) || unknown.Order != orderOf(1, p) {
				t.Error(err)
			}
		})
	})
	for _, ends := range []time.Duration{time.Second, time.Minute} {
		t.Run("a context of "+ends.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openShop(t, &stubStock{}, &stubQueue{keep: true}, seckill.DefaultConfig(), testItems(1, 1)...)
				ctx, cancel := withTimeout(t, ends)
				defer cancel()
				began := time.Now()
				if _, err := s.Buy(ctx, wish("u", "k")); codeOf(t, err) != "unknown" {
					t.Error(err)
				}
				if took, want := time.Since(began), min(ends, s.cfg.AcceptDeadline); took != want {
					t.Errorf("answered after %v, want %v", took, want)
				}
			})
		})
	}
}

// A machine that was suspended between the request and its answer promises nothing (L2): one of its
// clocks stood still.
func TestL2_SuspendedMachinePromisesNothing(t *testing.T) {
	for _, c := range []struct {
		name            string
		monotonic, wall time.Duration
		code            seckill.Code
	}{
		{"both in time", time.Second, time.Second, ""},
		{"the monotonic clock stood still", 0, 3 * time.Second, "unknown"},
		{"the wall clock was put back", 3 * time.Second, -time.Hour, "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openShop(t, &stubStock{}, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
			p := wish("u", "k")
			// The timers don't notice it, because they were set while the machine was awake.
			var r seckill.Receipt
			p.Arrived = skewed(p.Arrived, -c.monotonic, -c.wall)
			err := s.receipt(t.Context(), &seat{offer: mustOffer(t, s), verdict: inventory.Held}, p, &r)
			if codeOf(t, err) != c.code {
				t.Error(err)
			}
		})
	}
}

func mustOffer(t *testing.T, s *shop) seckill.Offer {
	t.Helper()
	offer, ok := s.Catalog().Offer(1)
	if !ok {
		t.Fatal("no item")
	}
	return offer
}

// skewed moves the two clocks of a time apart, which time.Time itself can't do. wall has a flag in
// its highest bit, seconds since 1885 in 33 bits and nanoseconds in 30. ext is the monotonic
// reading.
func skewed(t time.Time, monotonic, wall time.Duration) time.Time {
	inside := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	inside.ext += int64(monotonic)
	inside.wall += uint64(int64(wall/time.Second)) << 30
	return t
}

// TestRepeats: a key is a repeat if memory knows its order, and memory is in use for the item.
func TestRepeats(t *testing.T) {
	p := wish("u", "k")
	id := string(orderOf(1, p))
	for _, c := range []struct {
		name  string
		stock *stubStock
		want  bool
	}{
		{"known", &stubStock{absent: true, present: id}, true},
		{"another's", &stubStock{absent: true, present: string(orderOf(1, wish("u", "other")))}, false},
		{"memory can't say", &stubStock{present: id}, false},
		{"nobody follows the shard", &stubStock{absent: true, present: id, epoch: -1}, false},
	} {
		s := openShop(t, c.stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
		if got := s.Repeats(p); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	s := openShop(t, &stubStock{absent: true, present: id}, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
	p.Activity = "b"
	if s.Repeats(p) {
		t.Error("a purchase of an unknown activity is a repeat")
	}
}

// Refuses agrees with Buy: it refuses without I/O, and only if Buy refuses too.
func TestRefuses(t *testing.T) {
	gone := func(inventory.ShardID) bool { return true }
	for _, c := range []struct {
		name  string
		stock *stubStock
		wish  func(*seckill.Purchase)
		want  bool
		code  seckill.Code
	}{
		{"on sale", &stubStock{}, nil, false, ""},
		{"sold out", &stubStock{soldOut: gone}, nil, true, seckill.CodeSoldOut},
		{"sold out, on a shard that nobody follows", &stubStock{soldOut: gone, epoch: -1}, nil, false, seckill.CodeUnavailable},
		{"not started", &stubStock{absent: true}, arriving(-2 * time.Hour), true, seckill.CodeNotStarted},
		{"not started, on a shard that nobody follows", &stubStock{epoch: -1}, arriving(-2 * time.Hour), true, seckill.CodeNotStarted},
		{"ended", &stubStock{absent: true}, arriving(2 * time.Hour), true, seckill.CodeEnded},
		{"ended, with an order perhaps", &stubStock{soldOut: gone}, arriving(2 * time.Hour), false, seckill.CodeEnded},
		{"ended, on a shard that nobody follows", &stubStock{epoch: -1}, arriving(2 * time.Hour), false, seckill.CodeUnavailable},
		{
			"of another merchant", &stubStock{soldOut: gone},
			func(p *seckill.Purchase) { p.Caller = &seckill.Caller{CallerRef: seckill.CallerRef{Merchant: "m2"}} },
			false, seckill.CodeUnknownActivity,
		},
		{"unknown activity", &stubStock{soldOut: gone}, func(p *seckill.Purchase) { p.Activity = "b" }, false, seckill.CodeUnknownActivity},
		{"unknown SKU", &stubStock{soldOut: gone}, func(p *seckill.Purchase) { p.SKU = "y" }, false, seckill.CodeUnknownItem},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openShop(t, c.stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
			p := wish("u", "k")
			if c.wish != nil {
				c.wish(p)
			}
			if got := s.Refuses(p); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if _, err := s.Buy(t.Context(), p); codeOf(t, err) != c.code {
				t.Errorf("Buy says %v, want %q", err, c.code)
			}
		})
	}
}

func arriving(after time.Duration) func(*seckill.Purchase) {
	return func(p *seckill.Purchase) { p.Arrived = p.Arrived.Add(after) }
}

// Outside the sale's hours a key that has an order is answered with it.
func TestBuy_RepeatOutsideTheHours(t *testing.T) {
	for _, c := range []struct {
		name     string
		hold     inventory.State
		quantity int
		row      seckill.OrderState
		code     seckill.Code
	}{
		{"no hold", inventory.None, 0, "", seckill.CodeEnded},
		{"another quantity", inventory.Ordered, 2, "", seckill.CodeKeyReused},
		{"an order", inventory.Ordered, 1, seckill.OrderPending, ""},
		{"a paid one", inventory.Sold, 1, seckill.OrderPaid, ""},
		{"a cancelled one", inventory.Void, 1, seckill.OrderCancelled, ""},
		{"a row that isn't confirmed", inventory.Fresh, 1, seckill.OrderPending, ""},
		{"a hold without a row", inventory.Fresh, 1, "", "unknown"},
		{"a doomed one", inventory.Doomed, 1, "", "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := wish("u", "k")
			id := orderOf(1, p)
			stock := &stubStock{holds: map[string]inventory.Entry{
				string(id): {Hold: inventory.Hold{Quantity: c.quantity}, State: c.hold},
			}}
			s := openShop(t, stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
			if c.row != "" {
				s.store.rows[id] = seckill.Order{ID: id, State: c.row}
			}
			p.Arrived = p.Arrived.Add(2 * time.Hour)
			r, err := s.Buy(t.Context(), p)
			if codeOf(t, err) != c.code || err == nil && (!r.Replayed || r.Order.State != c.row) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// Sales open and close by the database's clock.
func TestBuy_OpensByTheDatabasesClock(t *testing.T) {
	for offset, code := range map[time.Duration]seckill.Code{
		0: "", -2 * time.Hour: seckill.CodeNotStarted, 2 * time.Hour: seckill.CodeEnded,
	} {
		s := openShop(t, &stubStock{absent: true}, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
		s.SetOffset(offset)
		if _, err := s.Buy(t.Context(), wish("u", "k")); codeOf(t, err) != code {
			t.Errorf("the database is ahead by %v: %v, want %q", offset, err, code)
		}
	}
}

// A buyer of a spread item has one shard. Where it is empty and another is not, units are moved:
// the item is not sold out.
func TestL6_SpreadItemIsBusyBeforeItIsSoldOut(t *testing.T) {
	cfg := seckill.DefaultConfig()
	p := wish("u", "k")
	mine := inventory.Place(1, 4, string(orderOf(1, p)), cfg.Shards)
	other := mine - 1
	if mine == inventory.Home(1, cfg.Shards) {
		other = mine + 1
	}
	for _, c := range []struct {
		name    string
		memory  bool // memory knows that the buyer's shard is empty
		inStock func(inventory.ShardID) bool
		code    seckill.Code
	}{
		{"units elsewhere", false, func(shard inventory.ShardID) bool { return shard == other }, seckill.CodeBusy},
		{"units elsewhere, known before", true, func(shard inventory.ShardID) bool { return shard == other }, seckill.CodeBusy},
		{"units nowhere", false, func(shard inventory.ShardID) bool { return shard == mine }, seckill.CodeSoldOut},
		{"units nowhere that is known, and a shard that nobody follows", false, nil, seckill.CodeBusy},
		{"units nowhere, known before", true, func(inventory.ShardID) bool { return false }, seckill.CodeSoldOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			stock := &stubStock{inStock: c.inStock, available: map[seckill.StockKey]int{}}
			if c.inStock == nil {
				stock.inStock, stock.unfollowed = func(inventory.ShardID) bool { return false }, &other
			}
			stock.soldOut = func(shard inventory.ShardID) bool { return c.memory && shard == mine }
			s := openShop(t, stock, &stubQueue{}, cfg, testItems(1, 4)...)
			if _, err := s.Buy(t.Context(), p); codeOf(t, err) != c.code {
				t.Errorf("%v, want %q", err, c.code)
			}
			if got, want := s.Refuses(p), c.memory && c.code == seckill.CodeSoldOut; got != want {
				t.Errorf("refuses: %v, want %v", got, want)
			}
		})
	}
}

// A server with little free memory accepts nothing new, and a repeat still gets its order.
func TestBuy_NothingNewOnAFullServer(t *testing.T) {
	stock := &stubStock{absent: true, holds: make(map[string]inventory.Entry)}
	var full atomic.Bool
	d := openDesk(t, seckill.DefaultConfig(), Parts{
		Stock: stock, Queue: &stubQueue{}, Store: &stubStore{}, Full: func(inventory.ShardID) bool { return full.Load() },
	}, testItems(1, 1))
	first := wish("ann", "k")
	if _, err := d.Buy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	stock.present = string(orderOf(1, first))
	full.Store(true)
	if receipt, err := d.Buy(t.Context(), wish("ann", "k")); err != nil || !receipt.Replayed {
		t.Errorf("a repeat: %+v, %v", receipt, err)
	}
	if _, err := d.Buy(t.Context(), wish("bob", "k")); codeOf(t, err) != seckill.CodeOverloaded || d.Counts().Full.Load() != 1 {
		t.Errorf("a new one: %v, %d refused", err, d.Counts().Full.Load())
	}
	full.Store(false)
	if _, err := d.Buy(t.Context(), wish("bob", "k")); err != nil {
		t.Error(err)
	}
}

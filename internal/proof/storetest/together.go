package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

func togetherCases() []testCase {
	return []testCase{
		{"TestL1_ManyWorkersNeverOversell", workersNeverOversell},
		{"TestL5_ManyWorkersKeepABuyersLimit", workersKeepLimits},
		{"TestL4_PaymentAndTimeOutNeverBothWin", paymentOrTimeOut},
		{"TestL1_EverythingAtOnce", everythingAtOnce},
	}
}

// inParallel runs f in n goroutines and waits for them. Errors go to t.
func inParallel(t testing.TB, n int, f func(worker int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range n {
		wg.Go(func() {
			if err := f(worker); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// workersNeverOversell: the same records come to all workers, as redeliveries do, three times what is there.
func workersNeverOversell(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0})
	var records []seckill.Record
	for i := range 300 {
		records = append(records, s.record(0, user(i), "k", 1))
	}
	var openedNow, rejectedNow atomic.Int64
	inParallel(t, 4, func(worker int) error {
		for i := range 30 {
			from := (i*10 + worker*70) % len(records)
			got, err := s.store.Accept(s.ctx, records[from:from+10])
			if err != nil {
				return err
			}
			for _, a := range got {
				switch a.Outcome {
				case opened:
					openedNow.Add(1)
				case rejected:
					rejectedNow.Add(1)
				}
			}
		}
		return nil
	})
	equal(s, "opened and rejected", []int64{openedNow.Load(), rejectedNow.Load()}, []int64{100, 200})
	s.counts(0, 100, 100, 0)
	equal(s, "settlements", len(s.drain()), 200)
	s.checkItem(0, 2)
}

func workersKeepLimits(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 1000, 2})
	inParallel(t, 4, func(worker int) error {
		for i := range 25 {
			var batch []seckill.Record
			for k := range 10 {
				batch = append(batch, s.record(0, user(k), fmt.Sprint(worker, "-", i), 1)) // ten buyers, a hundred tries each
			}
			if _, err := s.store.Accept(s.ctx, batch); err != nil {
				return err
			}
		}
		return nil
	})
	s.counts(0, 1000, 20, 0)
	bought := make(map[string]int)
	for _, e := range s.checkItem(0, 2).Entries {
		if e.State == inventory.Ordered {
			bought[e.Buyer] += e.Quantity
		}
	}
	for k := range 10 {
		equal(s, "units of "+string(user(k)), bought[string(user(k))], 2)
	}
}

func paymentOrTimeOut(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 1000, 0})
	var orders []seckill.Order
	for i := range 60 {
		orders = append(orders, s.order(0, user(i), "k", 1))
	}
	s.clock.advance(window + time.Second) // both are possible from here on
	var booked, late, timedOut atomic.Int64
	inParallel(t, 4, func(worker int) error {
		for i := range orders {
			if worker%2 == 0 {
				n, err := s.store.TimeOut(s.ctx, 1)
				if err != nil {
					return err
				}
				timedOut.Add(int64(n))
				continue
			}
			o := orders[len(orders)-1-i]
			got, err := s.store.Pay(s.ctx, []seckill.Payment{paymentOf(o, seckill.PaymentID(o.User))})
			if err != nil {
				return err
			}
			switch got[0].Verdict {
			case seckill.PaymentBooked:
				booked.Add(1)
			case seckill.PaymentLate:
				late.Add(1)
			}
		}
		return nil
	})
	equal(s, "each was paid once", booked.Load()+late.Load(), 60)
	equal(s, "each ended once", booked.Load()+timedOut.Load(), 60)
	s.counts(0, 1000, 0, booked.Load())
	equal(s, "settlements", len(s.drain()), 60)
	s.checkItem(0, 2)
}

// everythingAtOnce runs all of the processes' parts against one item and looks at it throughout.
func everythingAtOnce(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 40, 3})
	var epoch atomic.Int64
	epoch.Store(1)
	settled := make(map[string]int)
	var mu sync.Mutex // guards settled
	parts := []func(i int) error{
		func(i int) error { // two workers
			var batch []seckill.Record
			for k := range 5 {
				batch = append(batch, s.recordAt(0, inventory.Epoch(epoch.Load()), user(k), fmt.Sprint(i/2), 1))
			}
			_, err := s.store.Accept(s.ctx, batch)
			return err
		},
		func(i int) error {
			_, err := s.store.Cancel(s.ctx, []seckill.OrderID{s.record(0, user(i%5), fmt.Sprint(i/3), 1).Order})
			return err
		},
		func(i int) error {
			r := s.record(0, user((i+1)%5), fmt.Sprint(i/3), 1)
			p := seckill.Payment{Merchant: merchant, ID: seckill.PaymentID(r.Order), Order: r.Order, Amount: r.Amount}
			_, err := s.store.Pay(s.ctx, []seckill.Payment{p})
			return err
		},
		func(i int) error {
			s.clock.advance(window / 8)
			_, err := s.store.TimeOut(s.ctx, 2)
			return err
		},
		func(i int) error {
			_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: fmt.Sprint(i), Delta: 1}, author)
			return err
		},
		func(i int) error {
			if i%10 != 5 {
				return nil
			}
			next, err := s.store.NextEpoch(s.ctx, s.item(0))
			if err != nil {
				return err
			}
			snapshot, err := s.store.Fence(s.ctx, s.ref(0, next))
			if err != nil {
				return err
			}
			epoch.Store(int64(next))
			return checkSnapshot(snapshot)
		},
		func(i int) error {
			_, err := s.store.Relay(s.ctx, 0, 5, func(_ context.Context, rows []seckill.Outgoing) []int {
				mu.Lock()
				defer mu.Unlock()
				var all []int
				for k, row := range rows {
					if row.Restock == 0 {
						settled[row.Settlement.ID]++
					}
					all = append(all, k)
				}
				return all
			})
			return err
		},
		func(i int) error {
			books, err := s.store.Books(s.ctx, activity)
			if err != nil {
				return err
			}
			if b := books[0]; b.Open+b.Sold > b.Total || b.Open < 0 || b.Sold < 0 {
				return fmt.Errorf("L1 broken: %+v", b)
			}
			return nil
		},
	}
	parts = append(parts, parts[0])
	inParallel(t, len(parts), func(part int) error {
		for i := range 40 {
			if err := parts[part](i); err != nil {
				return fmt.Errorf("part %d, round %d: %w", part, i, err)
			}
		}
		return nil
	})
	for _, row := range s.drain() {
		if row.Restock == 0 {
			settled[row.Settlement.ID]++
		}
	}
	next, err := s.store.NextEpoch(s.ctx, s.item(0))
	s.must(err)
	for _, e := range s.checkItem(0, next).Entries {
		ended := 0
		if e.State != inventory.Ordered {
			ended = 1
		}
		equal(s, "settlements of "+e.ID, settled[e.ID], ended) // one relay alone deletes what it delivered
	}
}

// checkItem fences the item and checks that its counts are those of its orders, and its books'.
func (s *shop) checkItem(i int, epoch inventory.Epoch) seckill.StockSnapshot {
	s.t.Helper()
	snapshot := s.fence(s.ref(i, epoch))
	s.must(checkSnapshot(snapshot))
	s.counts(i, snapshot.Total, snapshot.Open, snapshot.Sold)
	return snapshot
}

// checkSnapshot says where a snapshot breaks L1, or its counts are not those of its orders.
func checkSnapshot(snapshot seckill.StockSnapshot) error {
	sums := make(map[inventory.State]int64)
	for _, e := range snapshot.Entries {
		if !seckill.IsWithdrawal(e.ID) {
			sums[e.State] += int64(e.Quantity)
		}
	}
	if sums[inventory.Ordered] != snapshot.Open || sums[inventory.Sold] != snapshot.Sold {
		return fmt.Errorf("counts open %d, sold %d are not the orders' %d, %d", snapshot.Open, snapshot.Sold,
			sums[inventory.Ordered], sums[inventory.Sold])
	}
	if snapshot.Open+snapshot.Sold > snapshot.Total {
		return fmt.Errorf("L1 broken: open %d and sold %d of %d", snapshot.Open, snapshot.Sold, snapshot.Total)
	}
	return nil
}

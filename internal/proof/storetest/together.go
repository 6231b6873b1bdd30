package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func togetherCases() []testCase {
	return []testCase{
		{"TestL1_ManyWorkersNeverOversell", workersNeverOversell},
		{"TestL5_ManyWorkersKeepABuyersLimit", workersKeepLimits},
		{"TestL4_PaymentAndTimeOutNeverBothWin", paymentOrTimeOut},
		{"Position_ManyWorkersMoveItOnceEach", workersMovePositions},
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

// workersNeverOversell: the same promises come to all workers, as redeliveries do, for three times
// the units.
func workersNeverOversell(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0, 1})
	var promises []seckill.Promise
	for i := range 300 {
		promises = append(promises, s.promise(0, user(i), "k", 1))
	}
	var openedNow, rejectedNow atomic.Int64
	inParallel(t, 4, func(worker int) error {
		for i := range 30 {
			from := (i*10 + worker*70) % len(promises)
			got, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(promises[from : from+10]...)})
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
	s.sums()
	equal(s, "settlements", len(s.drain()), 200)
	s.checkShards()
}

func workersKeepLimits(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 1000, 2, 1})
	inParallel(t, 4, func(worker int) error {
		for i := range 25 {
			var batch []seckill.Promise
			for k := range 10 {
				batch = append(batch, s.promise(0, user(k), fmt.Sprint(worker, "-", i), 1)) // ten buyers, a hundred tries each
			}
			if _, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(batch...)}); err != nil {
				return err
			}
		}
		return nil
	})
	s.counts(0, 1000, 20, 0)
	bought := make(map[string]int)
	for _, e := range s.checkShards()[s.shard(0)].Entries {
		if e.State == inventory.Ordered {
			bought[e.Buyer] += e.Quantity
		}
	}
	for k := range 10 {
		equal(s, "units of "+string(user(k)), bought[string(user(k))], 2)
	}
}

func paymentOrTimeOut(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 1000, 0, 2})
	var orders []seckill.Order
	for i := range 60 {
		orders = append(orders, s.order(0, user(i), "k", 1))
	}
	s.clock.advance(window + time.Second) // both are possible from here on
	var booked, late, timedOut atomic.Int64
	inParallel(t, 4, func(worker int) error {
		for i := range orders {
			if worker%2 == 0 {
				n, err := s.store.TimeOut(s.ctx, allShards, nil, 1)
				if err != nil {
					return err
				}
				timedOut.Add(int64(n))
				continue
			}
			o := orders[len(orders)-1-i]
			verdict := seckill.PaymentLocked
			for verdict == seckill.PaymentLocked {
				got, err := s.store.Pay(s.ctx, []seckill.Payment{paymentOf(o, seckill.PaymentID(o.User))})
				if err != nil {
					return err
				}
				verdict = got[0].Verdict
			}
			switch verdict {
			case seckill.PaymentBooked:
				booked.Add(1)
			case seckill.PaymentLate:
				late.Add(1)
			}
		}
		return nil
	})
	for n := 1; n > 0; { // rows that were locked are left for the next time
		n = s.timeOut(100)
		timedOut.Add(int64(n))
	}
	equal(s, "each was paid once", booked.Load()+late.Load(), 60)
	equal(s, "each ended once", booked.Load()+timedOut.Load(), 60)
	s.counts(0, 1000, 0, booked.Load())
	s.sums()
	equal(s, "settlements", len(s.drain()), 60)
	s.checkShards()
}

// workersMovePositions: several workers have read from a position, and exactly one moves it.
func workersMovePositions(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 1000, 0, 1})
	s.must(s.store.AddPartitions(s.ctx, topic, 1))
	var won atomic.Int64
	inParallel(t, 4, func(worker int) error {
		for i := range 20 {
			positions, err := s.store.Positions(s.ctx)
			if err != nil {
				return err
			}
			move := seckill.Move{From: positions[0], To: positions[0]}
			move.To.Next, move.To.LeaderEpoch = move.From.Next+1, int32(worker)
			r := s.promise(0, user(worker), fmt.Sprint(i), 1)
			_, err = s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(r), Moves: []seckill.Move{move}})
			switch {
			case err == nil:
				won.Add(1)
			default:
				s.wants(err, seckill.ErrMoved)
			}
		}
		return nil
	})
	equal(s, "moves", s.positions()[0].Next, won.Load())
	s.counts(0, 1000, won.Load(), 0)
}

// crowd is all of the processes' parts at work on one shop.
type crowd struct {
	*shop
	mu      sync.Mutex
	refs    map[inventory.ShardID]inventory.Ref // guarded by mu
	settled map[string]int                      // settlements by hold; guarded by mu
}

// ref returns a shard under the latest epoch that the crowd knows.
func (c *crowd) ref(shard inventory.ShardID) inventory.Ref {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refs[shard]
}

func (c *crowd) settle(_ context.Context, rows []seckill.Outgoing) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range rows {
		if row.Restock.Item == 0 {
			c.settled[row.Settlement.ID]++
		}
	}
	return everyRow(rows)
}

// work is a worker's round: five buyers, one of them with a promise that fits no item.
func (c *crowd) work(i int) error {
	byShard := make(map[inventory.ShardID][]seckill.Promise)
	for k := range 5 {
		r := c.promise(0, user(k), fmt.Sprint(i/2), 1)
		if k == i%5 && i%7 == 0 {
			r.Amount.Minor++
		}
		shard := inventory.Place(r.Item(), c.items[0].Spread, string(r.Order), Shards)
		byShard[shard] = append(byShard[shard], r)
	}
	b := seckill.Batch{Park: true}
	for shard, promises := range byShard {
		b.Pages = append(b.Pages, c.page(c.ref(shard), promises...))
	}
	_, err := c.store.Accept(c.ctx, b)
	return err
}

// rebuild takes an epoch, fences and takes the snapshot; a later rebuild may come between.
func (c *crowd) rebuild(i int) error {
	if i%10 != 5 {
		return nil
	}
	shard := inventory.ShardID(i / 10 % Shards)
	incarnation, err := c.store.Incarnation(c.ctx)
	if err != nil {
		return err
	}
	next, err := c.store.NextEpoch(c.ctx, shard)
	if err != nil {
		return err
	}
	ref := inventory.Ref{Shard: shard, Epoch: next}
	if err := c.store.Fence(c.ctx, ref, incarnation); err != nil {
		return err
	}
	c.mu.Lock()
	c.refs[shard] = ref
	c.mu.Unlock()
	got, err := c.tryTake(ref)
	if err != nil {
		return err
	}
	return checkSnapshot(got)
}

func (c *crowd) look(int) error {
	books, err := c.store.ActivityBooks(c.ctx, activity)
	if err != nil {
		return err
	}
	for _, b := range books {
		if b.Open+b.Sold > b.Total || b.Open < 0 || b.Sold < 0 {
			return fmt.Errorf("L1 broken: %+v", b)
		}
	}
	return nil
}

// parts returns the functions that run concurrently. Each gets the number of its round.
func (c *crowd) parts() []func(i int) error {
	return []func(i int) error{
		c.work, c.work, c.rebuild, c.look,
		func(i int) error {
			r := c.promise(0, user(i%5), fmt.Sprint(i/3), 1)
			_, err := c.store.Cancel(c.ctx, given(r.Order))
			return err
		},
		func(i int) error {
			r := c.promise(0, user((i+1)%5), fmt.Sprint(i/3), 1)
			p := seckill.Payment{Merchant: merchant, ID: seckill.PaymentID(r.Order), Order: r.Order, Amount: r.Amount}
			_, err := c.store.Pay(c.ctx, []seckill.Payment{p})
			return err
		},
		func(i int) error {
			c.clock.advance(window / 8)
			if _, err := c.store.Unpark(c.ctx, allShards, 3); err != nil {
				return err
			}
			_, err := c.store.TimeOut(c.ctx, allShards, nil, 2)
			return err
		},
		func(i int) error {
			_, _, err := c.store.Restock(c.ctx, seckill.StockChange{Item: c.item(0), Key: fmt.Sprint(i), Delta: 1}, author)
			return err
		},
		func(i int) error {
			_, err := c.store.Relay(c.ctx, allShards, 0, 5, c.settle)
			return err
		},
	}
}

// everythingAtOnce runs all of the processes' parts against one item, and checks it all the time.
func everythingAtOnce(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 40, 3, 2})
	c := &crowd{shop: s, refs: s.refs, settled: make(map[string]int)}
	parts := c.parts()
	inParallel(t, len(parts), func(part int) error {
		for i := range 40 {
			if err := parts[part](i); err != nil {
				return fmt.Errorf("part %d, round %d: %w", part, i, err)
			}
		}
		return nil
	})
	s.sums()
	c.settle(s.ctx, s.drain())
	for _, got := range s.checkShards() {
		for _, e := range got.Entries {
			ended := 0
			if e.State != inventory.Ordered {
				ended = 1
			}
			equal(s, "settlements of "+e.ID, c.settled[e.ID], ended) // one relay alone deletes what it delivered
		}
	}
}

// checkShards takes the snapshot of every shard, and checks that the books agree with it.
func (s *shop) checkShards() map[inventory.ShardID]snapshot {
	s.t.Helper()
	out := make(map[inventory.ShardID]snapshot)
	books, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	for _, shard := range allShards {
		got := s.fence(shard)
		s.must(checkSnapshot(got))
		out[shard] = got
		for _, i := range got.Items {
			for _, b := range books {
				if b.Item == i.Item && b.Shard == shard {
					want := inventory.Stocked{Item: b.Item, Total: b.Total, Available: b.Total - b.Open - b.Sold - b.Parked, Sold: b.Sold}
					equal(s, "item in the snapshot", i, want)
				}
			}
		}
	}
	return out
}

// checkSnapshot reports where a snapshot's counts don't match its holds.
func checkSnapshot(got snapshot) error {
	type sums struct{ ordered, sold int64 }
	held := make(map[inventory.ItemID]sums)
	for _, e := range got.Entries {
		h := held[e.Item]
		switch {
		case e.State == inventory.Ordered:
			h.ordered += int64(e.Quantity)
		case e.State == inventory.Sold && !seckill.IsWithdrawal(e.ID):
			h.sold += int64(e.Quantity)
		}
		held[e.Item] = h
	}
	for _, i := range got.Items {
		if h := held[i.Item]; h.sold != i.Sold || h.ordered != i.Total-i.Available-i.Sold {
			return fmt.Errorf("item %+v has holds of %+v units", i, h)
		}
	}
	return nil
}

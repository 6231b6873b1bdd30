package desk

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// outcome is the answer to a buyer, and its time.
type outcome struct {
	user string
	code seckill.Code
	took time.Duration
}

// buyers starts purchases, and collects their outcomes.
type buyers struct {
	shop    *shop
	running sync.WaitGroup
	mu      sync.Mutex
	told    []outcome
}

func (b *buyers) buy(t *testing.T, item int, user string) {
	p := wish(user, "k")
	p.SKU = sku(item)
	b.running.Go(func() {
		_, err := b.shop.Buy(t.Context(), p)
		code := codeOf(t, err)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, outcome{user, code, time.Since(p.Arrived)})
	})
}

// count returns how many got a code as the answer, and the time of the slowest.
func (b *buyers) count(code seckill.Code) (n int, last time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.told {
		if o.code == code {
			n++
			last = max(last, o.took)
		}
	}
	return n, last
}

// The next round's holds are asked for while pages of earlier rounds are on their way.
func TestLine_NextRoundDoesNotWaitForThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock, queue := &stubStock{}, &stubQueue{keep: true}
		b := &buyers{shop: openShop(t, stock, queue, seckill.DefaultConfig(), testItems(1, 1)...)}
		for i := range 3 {
			b.buy(t, 1, fmt.Sprint(i))
			synctest.Wait()
		}
		if len(queue.dones) != 3 {
			t.Fatalf("%d pages are on their way, want 3", len(queue.dones))
		}
		for i := range queue.dones {
			queue.finish(2-i, nil)
		}
		b.running.Wait()
		if n, _ := b.count(""); n != 3 {
			t.Errorf("%+v", b.told)
		}
	})
}

// A round for few purchases waits until earlier pages are acknowledged, and so becomes larger. A
// page that stalls delays it by gatherTime at most.
func TestLine_SmallRoundWaitsForThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		stock := &stubStock{holding: func([]*inventory.HoldCall) { <-hold }}
		queue := &stubQueue{keep: true}
		b := &buyers{shop: openShop(t, stock, queue, seckill.DefaultConfig(), testItems(1, 1)...)}
		line := func() LineStats { return b.shop.Lines()[0] }
		b.buy(t, 1, "first")
		synctest.Wait()
		for i := range 10 {
			b.buy(t, 1, fmt.Sprint("page", i))
		}
		synctest.Wait()
		hold <- struct{}{}
		synctest.Wait()
		queue.finish(0, nil)
		hold <- struct{}{} // ten are put
		for i := range 4 {
			b.buy(t, 1, fmt.Sprint("few", i))
		}
		synctest.Wait()
		if got := line(); got.Rounds != 2 || got.Waiting != 4 {
			t.Fatalf("few wait beside a page of ten: %+v", got)
		}
		close(hold)
		queue.finish(1, nil)
		synctest.Wait()
		if got := line(); got.Rounds != 3 || got.Waiting != 0 {
			t.Fatalf("the page has landed: %+v", got)
		}
		b.buy(t, 1, "alone")
		time.Sleep(gatherTime - 1)
		if got := line(); got.Rounds != 3 || got.Waiting != 1 {
			t.Fatalf("one waits beside a page of four: %+v", got)
		}
		time.Sleep(2 * time.Nanosecond)
		if got := line(); got.Rounds != 4 || got.Waiting != 0 {
			t.Fatalf("it has waited for %v: %+v", gatherTime, got)
		}
		queue.finish(2, nil)
		queue.finish(3, nil)
		b.running.Wait()
		if n, _ := b.count(""); n != 16 {
			t.Errorf("%d were accepted", n)
		}
	})
}

// All purchases that come during a round are in the next one: a write for all shards of the lane,
// and a page for each.
func TestLine_RoundIsOneWriteForAllShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := &stubStock{holding: func([]*inventory.HoldCall) { time.Sleep(time.Millisecond) }}
		queue := &stubQueue{}
		b := &buyers{shop: openShop(t, stock, queue, seckill.DefaultConfig(), testItems(8, 1)...)}
		b.buy(t, 1, "first")
		synctest.Wait()
		shards := make(map[inventory.ShardID]int)
		for i := range 40 {
			item := 1 + i%8
			shards[inventory.Home(inventory.ItemID(item), b.shop.cfg.Shards)]++
			b.buy(t, item, fmt.Sprint(i))
		}
		b.running.Wait()
		if n, _ := b.count(""); n != 41 || len(stock.rounds) != 2 || len(stock.rounds[1]) != len(shards) {
			t.Errorf("%d accepted in rounds %v", n, stock.rounds)
		}
		if len(queue.pages) != 1+len(shards) {
			t.Errorf("%d pages for %d shards", len(queue.pages), len(shards))
		}
		if got := b.shop.Lines()[0]; got.Rounds != 2 || got.Taken != 41 || got.Waiting != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// A hanging Redis node stops only its own lane. In that lane, a requested hold is unknown at the
// accept deadline, and waiting purchases fail after a quarter of it (L10).
func TestL10_LaneThatHangsStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := seckill.DefaultConfig()
		hung := make(chan struct{})
		sick := int(inventory.Home(1, cfg.Shards)) % 2
		well := slices.IndexFunc(testItems(20, 1), func(i seckill.Item) bool { return int(inventory.Home(i.ID, cfg.Shards))%2 != sick }) + 1
		stock := &stubStock{lanes: 2, holding: func(calls []*inventory.HoldCall) {
			if int(calls[0].Ref.Shard)%2 == sick {
				<-hung
			}
		}}
		b := &buyers{shop: openShop(t, stock, &stubQueue{}, cfg, testItems(20, 1)...)}
		b.buy(t, 1, "asked")
		synctest.Wait()
		for i := range 100 {
			b.buy(t, 1, fmt.Sprint("waits", i))
			b.buy(t, well, fmt.Sprint("well", i))
			time.Sleep(time.Millisecond)
		}
		if n, last := b.count(""); n != 100 || last != 0 {
			t.Errorf("the other lane accepted %d, the slowest after %v", n, last)
		}
		time.Sleep(3 * time.Second)
		if n, last := b.count(seckill.CodeOverloaded); n != 100 || last != cfg.StartBy() {
			t.Errorf("%d have left the line, the last after %v", n, last)
		}
		if n, last := b.count("unknown"); n != 1 || last != cfg.AcceptDeadline {
			t.Errorf("%d are unknown, the last after %v", n, last)
		}
		close(hung)
		synctest.Wait()
		if n := b.shop.queue.taken(); n != 0 || b.shop.Lines()[sick].Expired != 100 {
			t.Errorf("%d slots are left; %+v", n, b.shop.Lines())
		}
		if len(b.shop.queue.pages) != 100 {
			t.Errorf("%d pages: a purchase that was answered is put", len(b.shop.queue.pages))
		}
		b.buy(t, 1, "later")
		b.running.Wait()
		if n, _ := b.count(""); n != 101 {
			t.Error("the lane is not served again")
		}
	})
}

// A crowd that is larger than a round is served newest first, a smaller one as it came.
func TestLine_ServesTheNewestOfACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := seckill.DefaultConfig()
		cfg.BatchCap = 4
		turn := make(chan struct{})
		var rounds [][]string
		stock := &stubStock{}
		stock.holding = func(calls []*inventory.HoldCall) {
			var round []string
			for _, c := range calls[0].Claims {
				round = append(round, c.Buyer)
			}
			rounds = append(rounds, round)
			<-turn
		}
		b := &buyers{shop: openShop(t, stock, &stubQueue{}, cfg, testItems(1, 1)...)}
		for i := range 10 {
			b.buy(t, 1, fmt.Sprint(i))
			synctest.Wait()
		}
		for range 4 {
			turn <- struct{}{}
			synctest.Wait()
		}
		b.running.Wait()
		want := [][]string{{"0"}, {"6", "7", "8", "9"}, {"2", "3", "4", "5"}, {"1"}}
		if !slices.EqualFunc(rounds, want, slices.Equal[[]string]) {
			t.Errorf("rounds %v, want %v", rounds, want)
		}
	})
}

// A line is bounded, and fair among its shards: the crowd of one shard can't keep out a buyer of
// another (L8).
func TestL8_LineIsBoundedAndFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := seckill.DefaultConfig()
		cfg.Queue = 10
		turn := make(chan struct{})
		stock := &stubStock{holding: func([]*inventory.HoldCall) { <-turn }}
		b := &buyers{shop: openShop(t, stock, &stubQueue{}, cfg, testItems(2, 1)...)}
		join := func(item, n int, user string) {
			for i := range n {
				b.buy(t, item, fmt.Sprint(user, i))
				synctest.Wait()
			}
		}
		join(1, 1, "asked")
		join(1, 12, "crowd")
		if n, _ := b.count(seckill.CodeOverloaded); n != 2 || b.told[0].user != "crowd10" {
			t.Errorf("of 12 for 10 places, these were refused: %+v", b.told)
		}
		join(2, 6, "other")
		var refused []string
		for _, o := range b.told[2:] {
			refused = append(refused, o.user)
		}
		// The other shard gets its part. The purchases of the crowd that have waited longest make
		// room.
		if want := []string{"crowd0", "crowd1", "crowd2", "crowd3", "crowd4", "other5"}; !slices.Equal(refused, want) {
			t.Errorf("refused %v, want %v", refused, want)
		}
		if got := b.shop.Lines()[0]; got.Waiting != 10 || got.Refused != 8 {
			t.Errorf("%+v", got)
		}
		close(turn)
		b.running.Wait()
		if n, _ := b.count(""); n != 11 || b.shop.queue.taken() != 0 {
			t.Errorf("%d accepted, %d slots left", n, b.shop.queue.taken())
		}
	})
}

// A round is bounded over all shards. Purchases without a place come first in the next round.
func TestL8_RoundIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := seckill.DefaultConfig()
		cfg.BatchCap, cfg.Shards = 2, 64
		var served []inventory.ShardID
		turn := make(chan struct{})
		stock := &stubStock{holding: func(calls []*inventory.HoldCall) {
			for _, c := range calls {
				served = append(served, c.Ref.Shard)
			}
			<-turn
		}}
		items := testItems(99, 1)
		b := &buyers{shop: openShop(t, stock, &stubQueue{}, cfg, items...)}
		b.buy(t, 1, "first")
		synctest.Wait()
		served = nil
		var shards []inventory.ShardID
		for i := range items {
			b.buy(t, i+1, fmt.Sprint(i))
			synctest.Wait()
			if shard := inventory.Home(items[i].ID, cfg.Shards); !slices.Contains(shards, shard) {
				shards = append(shards, shard)
			}
		}
		close(turn)
		b.running.Wait()
		for i, sizes := range stock.rounds {
			sum := 0
			for _, n := range sizes {
				sum += n
			}
			if sum > roundPages*cfg.BatchCap {
				t.Errorf("round %d has %d purchases: %v", i, sum, sizes)
			}
		}
		if got := served[:len(shards)]; !slices.Equal(got, shards) {
			t.Errorf("served first %v, want %v", got, shards)
		}
	})
}

// Close answers the purchases in the line, and refuses later ones.
func TestDesk_CloseAnswersTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := &stubStock{holding: func([]*inventory.HoldCall) { time.Sleep(time.Second) }}
		b := &buyers{shop: openShop(t, stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)}
		b.buy(t, 1, "asked")
		synctest.Wait()
		b.buy(t, 1, "waits")
		synctest.Wait()
		b.shop.Close()
		b.buy(t, 1, "late")
		b.running.Wait()
		ok, _ := b.count("")
		if n, _ := b.count(seckill.CodeUnavailable); n != 2 || ok != 1 || b.shop.queue.taken() != 0 {
			t.Errorf("%+v, %d slots left", b.told, b.shop.queue.taken())
		}
	})
}

// Rounds become smaller while holds take so long that they would be too late, and grow again.
func TestLine_KeepsRoundsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pause atomic.Int64 // for each claim
		pause.Store(int64(100 * time.Millisecond))
		stock := &stubStock{}
		stock.holding = func(calls []*inventory.HoldCall) {
			time.Sleep(time.Duration(int64(len(calls[0].Claims)) * pause.Load()))
		}
		b := &buyers{shop: openShop(t, stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)}
		crowd := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				b.buy(t, 1, fmt.Sprint(time.Now().UnixNano()))
			}
		}
		crowd(20 * time.Second)
		stock.mu.Lock()
		if last := stock.rounds[len(stock.rounds)-1]; last[0] > 8 {
			t.Errorf("rounds %v", stock.rounds)
		}
		stock.mu.Unlock()
		pause.Store(int64(time.Millisecond / 10))
		crowd(10 * time.Second)
		b.running.Wait()
		synctest.Wait()
		if q := b.shop.lines[0].queues[inventory.Home(1, b.shop.cfg.Shards)]; q.limit != seckill.MaxPage {
			t.Errorf("a round takes %d of a fast shard", q.limit)
		}
	})
}

// Random crowds on random shards, with slow holds, lost pages and failing shards: everybody is
// answered, in time, and no slot is lost.
func TestLine_AnswersEverybodyOnce(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			draw := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return r.IntN(n)
			}
			cfg := seckill.DefaultConfig()
			cfg.BatchCap, cfg.Queue = 1+draw(20), 50
			stock := &stubStock{lanes: 3, holds: map[string]inventory.Entry{}, available: map[seckill.StockKey]int{}}
			items := testItems(20, 1)
			for _, item := range items {
				stock.available[seckill.StockKey{Item: item.ID, Shard: inventory.Home(item.ID, cfg.Shards)}] = 1 + draw(60)
			}
			stock.holding = func([]*inventory.HoldCall) { time.Sleep(time.Duration(draw(300)) * time.Millisecond) }
			stock.fails = func(inventory.ShardID) error {
				return map[int]error{0: inventory.ErrClosed, 1: &inventory.UnknownError{Err: inventory.ErrLost}}[draw(20)]
			}
			queue := &stubQueue{keep: true}
			b := &buyers{shop: openShop(t, stock, queue, cfg, items...)}
			const crowd = 2000
			for i := range crowd {
				b.buy(t, 1+draw(20), fmt.Sprint(i))
				time.Sleep(time.Duration(draw(4)) * time.Millisecond)
				queue.acknowledge(draw)
			}
			b.running.Wait()
			time.Sleep(time.Minute)
			synctest.Wait()
			for queue.acknowledge(func(int) int { return 1 }) {
			}
			synctest.Wait()
			if len(b.told) != crowd || queue.taken() != 0 {
				t.Errorf("seed %d: %d of %d answered, %d slots left", seed, len(b.told), crowd, queue.taken())
			}
			for _, o := range b.told {
				if o.took > cfg.AcceptDeadline+expireStep {
					t.Errorf("seed %d: answered %q after %v", seed, o.code, o.took)
				}
			}
		})
	}
}

// acknowledge ends one of the kept pages, or leaves them for a while. It reports whether there was
// one.
func (q *stubQueue) acknowledge(draw func(int) int) bool {
	q.mu.Lock()
	if len(q.dones) == 0 || draw(3) == 0 {
		q.mu.Unlock()
		return false
	}
	done := q.dones[0]
	q.dones = q.dones[1:]
	q.mu.Unlock()
	var err error
	if draw(10) == 0 {
		err = seckill.ErrNoSlot
	}
	done(err)
	return true
}

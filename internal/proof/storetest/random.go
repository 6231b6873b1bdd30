package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The random sequences use few names, so that their calls meet.
const (
	modelUsers = 3
	modelKeys  = 3
)

// modelRun is one random sequence: a store, its model, and the rows that the store's relay has
// delivered.
type modelRun struct {
	*shop
	model     *model
	delivered map[string]int // settlements by hold
	unlock    map[seckill.StockKey]func()
}

// exerciseModel compares the store with the model after every step of random sequences. A failure
// is shrunk, and printed with the flag that repeats it.
func exerciseModel(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newShop(t, open, goods{"phone-x", 6, 3, 1}, goods{"phone-y", 7, 0, 2})
		s.t = rt
		defer func() {
			if err := s.store.Close(); err != nil {
				rt.Error(err)
			}
		}()
		r := &modelRun{
			shop: s, model: newModel(s), delivered: make(map[string]int), unlock: make(map[seckill.StockKey]func())}
		steps := map[string]func(*rapid.T){
			"":           r.compare,
			"accept":     r.accept,
			"accept ":    r.accept, // twice as often
			"cancel":     r.cancel,
			"pay":        r.pay,
			"time out":   r.timeOut,
			"bury":       r.bury,
			"fence":      r.fence,
			"change":     r.change,
			"move units": r.moveUnits,
			"relay":      r.relay,
			"suspect":    r.suspect,
			"reprice":    r.reprice,
			"letters":    r.replayOrDiscard,
			"early":      r.applyEarly,
			"refund":     r.refund,
			"extend":     r.extend,
			"statement":  r.statement,
			"search":     r.search,
		}
		_, blocks := s.store.(Blocker)
		if locker, ok := s.store.(Locker); ok && !blocks {
			steps["lock"] = func(t *rapid.T) { r.lock(t, locker) }
			steps["unpark"] = r.unpark
		}
		rt.Repeat(steps)
	})
}

// compare compares everything that a store shows.
func (r *modelRun) compare(*rapid.T) {
	var ids []seckill.OrderID
	var want []seckill.Order
	for i := range r.items {
		for u := range modelUsers {
			for k := range modelKeys {
				id := r.promise(i, user(u), fmt.Sprint(k), 1).Order
				ids, want = append(ids, id), append(want, r.model.orders[id])
			}
		}
	}
	orders, err := r.store.FindOrders(r.ctx, ids)
	r.must(err)
	equal(r.shop, "orders", orders, want)
	books, err := r.store.ActivityBooks(r.ctx, activity)
	r.must(err)
	equal(r.shop, "books", books, r.model.books())
	rows := r.outbox()
	equal(r.shop, "outbox", sortedRows(slices.Clone(rows)), r.model.rows())
	for _, shard := range allShards {
		sums, err := r.store.ShardSums(r.ctx, shard)
		r.must(err)
		equal(r.shop, "sums", sums, r.model.sums(shard))
		r.recounted(shard)
	}
	equal(r.shop, "shards", r.rows(), r.model.shardRows())
	var items []seckill.Item
	for _, i := range r.model.items {
		items = append(items, i.Item)
	}
	equal(r.shop, "items", r.findActivity(activity).Items, items)
	letters := make(map[seckill.OrderID]bool)
	for _, l := range r.letters() {
		letters[l.Order] = true
	}
	equal(r.shop, "letters", letters, r.model.letters)
	r.compareMoney()
	r.laws(orders, books)
}

// laws checks the laws on what the store shows, without the model's decisions.
func (r *modelRun) laws(orders []seckill.Order, books []seckill.Book) {
	for _, b := range books {
		if b.Open < 0 || b.Sold < 0 || b.Open+b.Sold > b.Total {
			r.t.Fatalf("L1 broken: %+v", b)
		}
	}
	bought := make(map[seckill.BuyerKey]int)
	pending := make(map[string]int)
	for _, row := range r.model.outbox {
		pending[row.Settlement.ID]++
	}
	for _, o := range orders {
		if o.ID == "" {
			continue
		}
		ended := 0
		if o.Units == seckill.UnitsSold || o.Units == seckill.UnitsVoid {
			ended = 1
		}
		if n := pending[string(o.ID)] + r.delivered[string(o.ID)]; n != ended {
			r.t.Fatalf("L4 broken: order %s, units %s, has left %d settlements", o.ID, o.Units, n)
		}
		if o.Units != seckill.UnitsOpen && o.Units != seckill.UnitsSold {
			continue
		}
		key := seckill.BuyerKey{Item: o.Item, User: o.User}
		if bought[key] += o.Quantity; o.Item == r.item(0) && bought[key] > r.items[0].PerUser {
			r.t.Fatalf("L5 broken: buyer %s has %d units of %d", o.User, bought[key], r.items[0].PerUser)
		}
	}
}

// pick draws an item.
func (r *modelRun) pick(t *rapid.T) (int, *modelItem) {
	i := rapid.IntRange(0, len(r.items)-1).Draw(t, "item")
	return i, r.model.items[i]
}

// shardOf draws one of the item's shards.
func (r *modelRun) shardOf(t *rapid.T, i *modelItem) inventory.ShardID {
	return i.on(rapid.IntRange(0, i.Spread-1).Draw(t, "shard"))
}

// refNear draws the shard under its epoch, mostly, or under one beside it.
func (r *modelRun) refNear(t *rapid.T, shard inventory.ShardID) inventory.Ref {
	return beside(r.model.ref(shard), rapid.SampledFrom([]int64{0, 0, 0, 0, -1, 1}).Draw(t, "epoch"))
}

// drawPromise draws a promise, and where its hold was given.
func (r *modelRun) drawPromise(t *rapid.T) (seckill.Promise, inventory.Ref) {
	i, item := r.pick(t)
	u, k := rapid.IntRange(0, modelUsers-1).Draw(t, "user"), rapid.IntRange(0, modelKeys-1).Draw(t, "key")
	p := r.promise(i, user(u), fmt.Sprint(k), rapid.IntRange(1, 3).Draw(t, "quantity"))
	if rapid.IntRange(0, 7).Draw(t, "price") == 0 {
		p.Amount.Minor += int64(p.Quantity)
	}
	shard := inventory.Place(item.ID, item.Spread, string(p.Order), Shards)
	return p, r.refNear(t, shard)
}

func (r *modelRun) accept(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	b := seckill.Batch{Park: rapid.IntRange(0, 3).Draw(t, "park") > 0}
	refused := false
	for range rapid.IntRange(1, 6).Draw(t, "promises") {
		p, ref := r.drawPromise(t)
		b.Pages = append(b.Pages, r.page(ref, p))
		_, known := r.model.orders[p.Order]
		key := seckill.StockKey{Item: p.Item(), Shard: ref.Shard}
		refused = refused || !b.Park && !known && r.model.locked[key] && ref.Epoch >= r.model.ref(ref.Shard).Epoch
	}
	got, err := r.store.Accept(r.ctx, b)
	if refused {
		r.wants(err, seckill.ErrLocked)
		return
	}
	r.must(err)
	var want []seckill.Acceptance
	for _, page := range b.Pages {
		want = append(want, r.model.accept(page.Ref, page.Promises[0], r.clock.read()))
	}
	equal(r.shop, "acceptances", got, want)
}

func (r *modelRun) cancel(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	var cancels []seckill.Cancellation
	var want []seckill.Moved
	for range rapid.IntRange(1, 4).Draw(t, "orders") {
		p, ref := r.drawPromise(t)
		c := seckill.Cancellation{Order: p.Order}
		if rapid.IntRange(0, 3).Draw(t, "queued") == 0 {
			c = queued(p, ref)
		}
		cancels, want = append(cancels, c), append(want, r.model.cancel(c, r.clock.read()))
	}
	got, err := r.store.Cancel(r.ctx, cancels)
	r.must(err)
	equal(r.shop, "moved", got, want)
}

func (r *modelRun) pay(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	var payments []seckill.Payment
	var want []seckill.PaymentResult
	for range rapid.IntRange(1, 4).Draw(t, "payments") {
		r0, _ := r.drawPromise(t)
		p := seckill.Payment{Merchant: merchant, ID: seckill.PaymentID(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "payment"))), Order: r0.Order}
		p.Amount = r0.Amount // of a random quantity, so often a wrong one
		if rapid.IntRange(0, 9).Draw(t, "whose") == 0 {
			p.Merchant = "m2"
		}
		if o, ok := r.model.orders[p.Order]; ok && rapid.Bool().Draw(t, "right amount") {
			p.Amount = o.Amount
		}
		p.Activity, p.SKU = r0.Activity, r0.SKU
		p.Queued = rapid.Bool().Draw(t, "queued")
		payments, want = append(payments, p), append(want, r.model.pay(p, r.clock.read()))
	}
	got, err := r.store.Pay(r.ctx, payments)
	r.must(err)
	for i := range got {
		if got[i].Verdict == seckill.PaymentLocked { // the store may return any state of the order
			got[i].Order, want[i].Order = seckill.Order{}, seckill.Order{}
		}
	}
	equal(r.shop, "results", got, want)
}

// timeOut lets the store choose among orders of the same age, and checks that it took no order
// before an older one.
func (r *modelRun) timeOut(t *rapid.T) {
	r.clock.advance(time.Duration(rapid.IntRange(0, 12).Draw(t, "minutes")) * time.Minute)
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	shards := rapid.SampledFrom([][]inventory.ShardID{allShards, allShards, allShards[:2], {r.shard(0)}}).Draw(t, "shards")
	var due []seckill.Order
	for _, o := range r.model.orders {
		if o.State == seckill.OrderPending && o.PayBy.Before(r.clock.read()) && slices.Contains(shards, o.Grant.Shard) && !r.model.held(&o) {
			due = append(due, o)
		}
	}
	slices.SortFunc(due, func(a, b seckill.Order) int { return a.PayBy.Compare(b.PayBy) })
	n, err := r.store.TimeOut(r.ctx, shards, nil, limit)
	r.must(err)
	equal(r.shop, "timed out", n, min(limit, len(due)))
	moved := 0
	for _, o := range due {
		if r.find(o.ID).State != seckill.OrderCancelled {
			continue
		}
		if o.PayBy.After(due[n-1].PayBy) {
			r.t.Fatalf("%s was timed out before an older one", o.ID)
		}
		r.model.end(o.ID, seckill.OrderCancelled, seckill.ReasonPaymentTimeout, r.clock.read())
		moved++
	}
	equal(r.shop, "orders that moved", moved, n)
}

// unpark lets the store choose among orders of the same age, too.
func (r *modelRun) unpark(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	var parked []seckill.Order
	for _, o := range r.model.orders {
		if o.State == seckill.OrderParked && !r.model.letters[o.ID] {
			parked = append(parked, o)
		}
	}
	slices.SortFunc(parked, func(a, b seckill.Order) int { return a.UpdatedAt.Compare(b.UpdatedAt) })
	got, err := r.store.Unpark(r.ctx, allShards, limit)
	r.must(err)
	equal(r.shop, "orders tried", len(got), min(limit, len(parked)))
	for _, a := range got {
		at := slices.IndexFunc(parked, func(o seckill.Order) bool { return o.ID == a.Order.ID })
		if at < 0 || parked[at].UpdatedAt.After(parked[len(got)-1].UpdatedAt) {
			r.t.Fatalf("%s was tried before an older one", a.Order.ID)
		}
		equal(r.shop, "acceptance", a, r.model.unpark(a.Order.ID, r.clock.read()))
	}
}

// lock locks a stock row, or unlocks it.
func (r *modelRun) lock(t *rapid.T, locker Locker) {
	_, item := r.pick(t)
	key := item.key(r.shardOf(t, item))
	if unlock := r.unlock[key]; unlock != nil {
		unlock()
		delete(r.unlock, key)
		delete(r.model.locked, key)
		return
	}
	r.unlock[key], r.model.locked[key] = locker.LockStock(key.Item, key.Shard), true
}

// reprice changes the price of an item, so that promises that fitted don't, and the reverse.
func (r *modelRun) reprice(t *rapid.T) {
	i, item := r.pick(t)
	minor := price.Minor + int64(rapid.IntRange(0, 1).Draw(t, "price"))
	_, err := r.store.UpdateActivity(r.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.Items[i].Price.Minor = minor
		return a, nil
	})
	r.must(err)
	item.Price.Minor = minor
}

func (r *modelRun) replayOrDiscard(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	var ids []int64
	var orders []seckill.OrderID
	for _, l := range r.letters() {
		if rapid.Bool().Draw(t, "chosen") {
			ids, orders = append(ids, l.ID), append(orders, l.Order)
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "discard") == 0 {
		n, err := r.store.DiscardDeadLetters(r.ctx, ids, author)
		r.must(err)
		equal(r.shop, "discarded", n, len(ids))
		for _, id := range orders {
			r.model.discard(id, r.clock.read())
		}
		return
	}
	got, err := r.store.ReplayDeadLetters(r.ctx, ids, author)
	r.must(err)
	var want []seckill.Acceptance
	for _, id := range orders {
		want = append(want, r.model.replay(id, r.clock.read()))
	}
	equal(r.shop, "replayed", got, want)
}

func (r *modelRun) bury(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	i, item := r.pick(t)
	ref := r.refNear(t, r.shardOf(t, item))
	var holds []inventory.Hold
	for range rapid.IntRange(1, 4).Draw(t, "holds") {
		k := fmt.Sprint(rapid.IntRange(0, modelKeys-1).Draw(t, "key"))
		h := r.withdrawal(i, ref.Shard, k, 2)
		if rapid.Bool().Draw(t, "an order's") {
			h = r.hold(i, user(rapid.IntRange(0, modelUsers-1).Draw(t, "user")), k, 2)
			if inventory.Place(item.ID, item.Spread, h.ID, Shards) != ref.Shard {
				continue // it lies on the other shard
			}
		}
		holds = append(holds, h)
	}
	life := r.incarnation()
	if rapid.IntRange(0, 9).Draw(t, "life") == 0 {
		life = "another one"
	}
	got, err := r.store.Bury(r.ctx, ref, life, holds)
	if ref != r.model.ref(ref.Shard) || life == "another one" {
		r.wants(err, seckill.ErrFenced)
		return
	}
	r.must(err)
	want := []bool{}
	for _, h := range holds {
		want = append(want, r.model.bury(ref, h, r.clock.read()))
	}
	equal(r.shop, "orders exist", got, want)
}

// fence rebuilds a shard. Rebuilders die with their epoch, or before their snapshot, or come too
// late.
func (r *modelRun) fence(t *rapid.T) {
	_, item := r.pick(t)
	shard := r.shardOf(t, item)
	at := r.model.shards[shard]
	ref := r.model.ref(shard)
	if rapid.IntRange(0, 3).Draw(t, "new") > 0 {
		next, err := r.store.NextEpoch(r.ctx, shard)
		r.must(err)
		equal(r.shop, "next epoch", next, r.model.nextEpoch(shard, r.clock.read()))
		if rapid.IntRange(0, 3).Draw(t, "crash") == 0 {
			return
		}
		ref.Epoch = next
	}
	err := r.store.Fence(r.ctx, ref, r.incarnation())
	if ref.Epoch != at.next {
		r.wants(err, seckill.ErrFenced)
	} else {
		r.must(err)
		if ref.Epoch != at.epoch {
			at.epoch, at.suspect = ref.Epoch, false
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "no snapshot") == 0 {
		return
	}
	got, err := r.tryTake(ref)
	if ref.Epoch != at.epoch || at.taken == at.epoch {
		r.wants(err, seckill.ErrFenced)
		return
	}
	r.must(err)
	r.must(checkSnapshot(got))
	equal(r.shop, "snapshot", sorted(got), sorted(r.model.snapshot(shard)))
}

func (r *modelRun) change(t *rapid.T) {
	i, item := r.pick(t)
	c := seckill.StockChange{
		Item: item.ID, Key: fmt.Sprint(rapid.IntRange(0, modelKeys-1).Draw(t, "key")),
		Delta: rapid.SampledFrom([]int64{1, 2, 3, -1, -2, -5}).Draw(t, "delta"),
	}
	var replayed, again bool
	var refused, err error
	var total int64
	var holds []seckill.Taken
	if c.Delta > 0 {
		replayed, refused = r.model.restock(c)
		total, again, err = r.store.Restock(r.ctx, c, author)
	} else {
		for k := range item.Spread {
			if units := seckill.Share(-c.Delta, k, item.Spread); units > 0 {
				ref := r.refNear(t, item.on(k))
				holds = append(holds, seckill.Taken{Ref: ref, Hold: r.withdrawal(i, ref.Shard, c.Key, int(units))})
			}
		}
		replayed, refused = r.model.withdraw(c, holds)
		total, again, err = r.store.Withdraw(r.ctx, c, holds, author)
	}
	if refused != nil {
		for _, h := range holds { // a store may choose among several refusals
			if _, other := r.model.mayTake(h); other != nil && errors.Is(err, other) {
				refused = other
			}
		}
		r.wants(err, refused)
		return
	}
	r.must(err)
	equal(r.shop, "stock change", []any{total, again}, []any{item.Quantity, replayed})
}

func (r *modelRun) moveUnits(t *rapid.T) {
	from := rapid.IntRange(0, 1).Draw(t, "from")
	item := r.model.items[1]
	ref := r.refNear(t, item.on(from))
	key := fmt.Sprint("m", rapid.IntRange(0, modelKeys-1).Draw(t, "key"))
	hold := seckill.Taken{Ref: ref, Hold: r.withdrawal(1, ref.Shard, key, rapid.IntRange(1, 2).Draw(t, "units"))}
	refused := r.model.moveUnits(hold, item.on(1-from))
	err := r.store.MoveUnits(r.ctx, hold, item.on(1-from))
	if refused != nil {
		r.wants(err, refused)
		return
	}
	r.must(err)
}

func (r *modelRun) relay(t *rapid.T) {
	limit := rapid.IntRange(1, 5).Draw(t, "limit")
	visible := r.model.rows()
	_, err := r.store.Relay(r.ctx, allShards, 0, limit, func(_ context.Context, rows []seckill.Outgoing) []int {
		equal(r.shop, "rows handed out", len(rows), min(limit, len(visible)))
		var delivered []int
		for k, row := range rows {
			if rapid.Bool().Draw(t, "lost") {
				continue
			}
			delivered = append(delivered, k)
			if row.Restock.Item == 0 {
				r.delivered[row.Settlement.ID]++
			}
			row.Ref.Epoch = 0
			at := slices.Index(r.model.outbox, row)
			if at < 0 {
				r.t.Fatalf("row %+v is not in the model's outbox", row)
			}
			r.model.outbox = slices.Delete(r.model.outbox, at, at+1)
		}
		return delivered
	})
	r.must(err)
}

func (r *modelRun) suspect(t *rapid.T) {
	_, item := r.pick(t)
	ref := r.refNear(t, r.shardOf(t, item))
	at := r.model.shards[ref.Shard]
	at.suspect = at.suspect || at.epoch <= ref.Epoch
	r.must(r.store.MarkSuspect(r.ctx, ref))
}

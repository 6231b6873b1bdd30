package storetest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func callCases() []testCase {
	return []testCase{
		selling("AnEndedContextWritesNothing", endedContext),
		selling("AClosedStoreAnswersWithErrors", closedStore),
		selling("CloseWaitsForCalls", closeWaits),
	}
}

// everyCall makes each call of a store once, with arguments that would write if they could.
func (s *shop) everyCall(ctx context.Context, life string) map[string]error {
	errs := make(map[string]error)
	note := func(name string, err error) { errs[name] = err }
	r := s.promise(0, "late", "k", 1)
	_, err := s.store.LoadCatalog(ctx, seckill.CatalogVersion{}, func(bool) {}, func(seckill.CatalogChange) error { return nil })
	note("LoadCatalog", err)
	note("UpdateMerchant", seckill.PutMerchant(ctx, s.store, seckill.Merchant{ID: "late"}, author))
	late := seckill.Caller{CallerRef: seckill.CallerRef{Merchant: merchant, Caller: "late"}}
	note("UpdateCaller", seckill.AddCaller(ctx, s.store, late, appKey, author))
	note("NoteKeyUses", s.store.NoteKeyUses(ctx, []seckill.KeyUse{{CallerRef: caller, Key: appKey.ID, At: time.Unix(60, 0)}}))
	_, err = s.store.KeyUses(ctx, caller)
	note("KeyUses", err)
	_, err = s.store.UpdateActivity(ctx, "late", author, func(*seckill.Activity) (*seckill.Activity, error) {
		return s.draft("late"), nil
	})
	note("UpdateActivity", err)
	_, err = s.store.FindActivity(ctx, activity)
	note("FindActivity", err)
	_, err = s.store.DropEnded(ctx, s.clock.read().Add(24*time.Hour), time.Time{}, 10)
	note("DropEnded", err)
	_, err = s.store.Accept(ctx, seckill.Batch{Pages: s.pages(r)})
	note("Accept", err)
	_, err = s.store.FindOrders(ctx, []seckill.OrderID{r.Order})
	note("FindOrders", err)
	_, err = s.store.OrdersOf(ctx, s.item(0), "", 10)
	note("OrdersOf", err)
	_, err = s.store.Positions(ctx)
	note("Positions", err)
	note("AddPartitions", s.store.AddPartitions(ctx, topic, 3))
	_, err = s.store.Cancel(ctx, []seckill.Cancellation{queued(r, s.ref(0))})
	note("Cancel", err)
	_, err = s.store.Pay(ctx, []seckill.Payment{{Merchant: merchant, ID: "late", Order: r.Order, Amount: r.Amount}})
	note("Pay", err)
	_, err = s.store.TimeOut(ctx, allShards, nil, 10)
	note("TimeOut", err)
	_, err = s.store.Unpark(ctx, allShards, 10)
	note("Unpark", err)
	_, err = s.store.Bury(ctx, s.ref(0), life, []inventory.Hold{r.Hold()})
	note("Bury", err)
	_, err = s.store.Relay(ctx, allShards, 0, 10, func(context.Context, []seckill.Outgoing) []int { return nil })
	note("Relay", err)
	s.everyStockCall(ctx, life, note)
	s.everyBookCall(ctx, note)
	_, err = s.store.Changes(ctx, 0, 10)
	note("Changes", err)
	_, err = s.store.FindChange(ctx, 1)
	note("FindChange", err)
	_, err = s.store.DeadLetters(ctx, 0, 10)
	note("DeadLetters", err)
	_, err = s.store.ReplayDeadLetters(ctx, []int64{1}, author)
	note("ReplayDeadLetters", err)
	_, err = s.store.DiscardDeadLetters(ctx, []int64{1}, author)
	note("DiscardDeadLetters", err)
	_, err = s.store.AddToken(ctx, seckill.Token{ID: "late", Name: "late"}, 0, author)
	note("AddToken", err)
	note("NoteTokenUse", s.store.NoteTokenUse(ctx, seckill.TokenUse{Token: "late", At: time.Unix(60, 0)}))
	_, err = s.store.Tokens(ctx)
	note("Tokens", err)
	note("DropToken", s.store.DropToken(ctx, "late", author))
	return errs
}

// everyBookCall makes those of seckill.OrderBooks.
func (s *shop) everyBookCall(ctx context.Context, note func(name string, err error)) {
	_, err := s.store.SearchOrders(ctx, seckill.OrderQuery{User: "u-1", Limit: 10})
	note("SearchOrders", err)
	_, err = s.store.FindPayments(ctx, "", "late")
	note("FindPayments", err)
	_, err = s.store.OrderTrail(ctx, &seckill.Order{ID: s.promise(0, "late", "k", 1).Order})
	note("OrderTrail", err)
	_, err = s.store.ApplyEarly(ctx, 10)
	note("ApplyEarly", err)
	note("RefusePayment", s.store.RefusePayment(ctx, seckill.RefusedPayment{}))
	_, err = s.store.Refunds(ctx, seckill.RefundQuery{State: seckill.PaymentStateDue, Limit: 10})
	note("Refunds", err)
	_, err = s.store.RefundSums(ctx, seckill.PaymentStateDue, "")
	note("RefundSums", err)
	_, _, err = s.store.SettleRefund(ctx, seckill.Refund{Merchant: merchant, Payment: "late"}, author)
	note("SettleRefund", err)
	_, err = s.store.ExtendOrders(ctx, activity, time.Minute, author)
	note("ExtendOrders", err)
	_, err = s.store.Statement(ctx, merchant, s.clock.read(), s.clock.read())
	note("Statement", err)
}

// everyStockCall makes those of seckill.StockStore.
func (s *shop) everyStockCall(ctx context.Context, life string, note func(name string, err error)) {
	_, err := s.store.Shards(ctx)
	note("Shards", err)
	_, err = s.store.Incarnation(ctx)
	note("Incarnation", err)
	_, err = s.store.NextEpoch(ctx, s.shard(0))
	note("NextEpoch", err)
	note("Fence", s.store.Fence(ctx, s.ref(0), life))
	note("Snapshot", s.store.Snapshot(ctx, s.ref(0), nil, func([]inventory.Stocked, []inventory.Entry) error { return nil }))
	note("MarkSuspect", s.store.MarkSuspect(ctx, s.ref(0)))
	_, _, err = s.store.Restock(ctx, seckill.StockChange{Item: s.item(0), Key: "late", Delta: 1}, author)
	note("Restock", err)
	fewer := seckill.StockChange{Item: s.item(0), Key: "l", Delta: -1}
	_, _, err = s.store.Withdraw(ctx, fewer, []seckill.Taken{s.taken(0, s.shard(0), "l", 1)}, author)
	note("Withdraw", err)
	note("MoveUnits", s.store.MoveUnits(ctx, s.taken(0, s.shard(0), "l", 1), (s.shard(0)+1)%Shards))
	_, _, err = s.store.FindStockChange(ctx, s.item(0), "late")
	note("FindStockChange", err)
	_, err = s.store.ActivityBooks(ctx, activity)
	note("ActivityBooks", err)
	_, err = s.store.ShardBooks(ctx, s.shard(0), 0, 10)
	note("ShardBooks", err)
	_, err = s.store.ShardSums(ctx, s.shard(0))
	note("ShardSums", err)
	_, err = s.store.Recount(ctx, s.shard(0), false, author)
	note("Recount", err)
	_, err = s.store.Recount(ctx, s.shard(0), true, author)
	note("Recount to mend", err)
	_, err = s.store.Unpublished(ctx, activity)
	note("Unpublished", err)
}

func endedContext(s *shop) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	before, rows, life := s.catalog(), s.rows(), s.incarnation()
	s.unchanged(func() {
		for name, err := range s.everyCall(ctx, life) {
			if !errors.Is(err, context.Canceled) {
				s.t.Errorf("%s with an ended context: %v", name, err)
			}
		}
	})
	equal(s, "catalog", s.catalog(), before)
	equal(s, "shards", s.rows(), rows)
	equal(s, "order", s.find(s.promise(0, "late", "k", 1).Order), seckill.Order{})
	equal(s, "positions", s.positions(), nil)
	s.order(0, "u-1", "k", 1) // and the store goes on
}

func closedStore(s *shop) {
	life := s.incarnation()
	s.must(s.store.Close())
	for name, err := range s.everyCall(s.ctx, life) {
		if err == nil {
			s.t.Errorf("%s of a closed store", name)
		}
	}
	s.must(s.store.Close())
}

// closeWaits closes while a relay delivers: the delivered row is deleted before Close returns.
func closeWaits(s *shop) {
	s.cancelled(0, 1)
	var delivered atomic.Bool
	closed := make(chan error, 1)
	_, err := s.store.Relay(s.ctx, allShards, 0, 10, func(ctx context.Context, rows []seckill.Outgoing) []int {
		go func() {
			err := s.store.Close()
			if !delivered.Load() {
				err = errors.Join(err, errors.New("closed while a call was under way"))
			}
			closed <- err
		}()
		for { // until Close has begun
			if _, err := s.store.Tokens(s.ctx); err != nil {
				break
			}
		}
		delivered.Store(true)
		return []int{0}
	})
	s.must(err)
	s.must(<-closed)
}

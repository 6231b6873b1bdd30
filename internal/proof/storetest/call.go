package storetest

import (
	"context"
	"errors"
	"sync/atomic"

	"penstock/inventory"
	"penstock/seckill"
)

func callCases() []testCase {
	return []testCase{
		selling("AnEndedContextWritesNothing", endedContext),
		selling("AClosedStoreAnswersWithErrors", closedStore),
		selling("CloseWaitsForCalls", closeWaits),
	}
}

// everyCall makes each call of a store once, with arguments that would write if they could.
func (s *shop) everyCall(ctx context.Context) map[string]error {
	errs := make(map[string]error)
	note := func(name string, err error) { errs[name] = err }
	r := s.record(0, "late", "k", 1)
	_, err := s.store.LoadCatalog(ctx, 0)
	note("LoadCatalog", err)
	note("PutMerchant", s.store.PutMerchant(ctx, seckill.Merchant{ID: "late"}, author))
	note("AddCaller", s.store.AddCaller(ctx, seckill.Caller{CallerRef: seckill.CallerRef{Merchant: merchant, Caller: "late"}}, author))
	note("SetCallerRevoked", s.store.SetCallerRevoked(ctx, caller, true, author))
	_, err = s.store.UpdateActivity(ctx, "late", author, func(*seckill.Activity) (*seckill.Activity, error) {
		return s.draft("late"), nil
	})
	note("UpdateActivity", err)
	_, err = s.store.Accept(ctx, []seckill.Record{r})
	note("Accept", err)
	_, err = s.store.FindOrders(ctx, []seckill.OrderID{r.Order})
	note("FindOrders", err)
	_, err = s.store.Cancel(ctx, []seckill.OrderID{r.Order})
	note("Cancel", err)
	_, err = s.store.Pay(ctx, []seckill.Payment{{Merchant: merchant, ID: "late", Order: r.Order, Amount: r.Amount}})
	note("Pay", err)
	_, err = s.store.TimeOut(ctx, 10)
	note("TimeOut", err)
	_, err = s.store.Bury(ctx, s.ref(0, 1), []inventory.Hold{r.Hold()})
	note("Bury", err)
	_, err = s.store.Relay(ctx, 0, 10, func(context.Context, []seckill.Outgoing) []int { return nil })
	note("Relay", err)
	_, err = s.store.NextEpoch(ctx, s.item(0))
	note("NextEpoch", err)
	_, err = s.store.Fence(ctx, s.ref(0, 9))
	note("Fence", err)
	note("MarkSuspect", s.store.MarkSuspect(ctx, s.ref(0, 1)))
	_, _, err = s.store.Restock(ctx, seckill.StockChange{Item: s.item(0), Key: "late", Delta: 1}, author)
	note("Restock", err)
	fewer := seckill.StockChange{Item: s.item(0), Key: "l", Delta: -1}
	_, _, err = s.store.Withdraw(ctx, s.ref(0, 1), seckill.NewWithdrawalID(s.item(0), "l"), fewer, author)
	note("Withdraw", err)
	_, _, err = s.store.FindStockChange(ctx, s.item(0), "late")
	note("FindStockChange", err)
	_, err = s.store.Books(ctx, activity)
	note("Books", err)
	_, err = s.store.Changes(ctx, 0, 10)
	note("Changes", err)
	_, err = s.store.FindChange(ctx, 1)
	note("FindChange", err)
	note("AddDeadLetters", s.store.AddDeadLetters(ctx, []seckill.DeadLetter{{Value: []byte{1}}}))
	_, err = s.store.DeadLetters(ctx, 0, 10)
	note("DeadLetters", err)
	_, err = s.store.DropDeadLetters(ctx, []int64{1}, author)
	note("DropDeadLetters", err)
	note("PutToken", s.store.PutToken(ctx, seckill.Token{Name: "late"}, author))
	_, err = s.store.Tokens(ctx)
	note("Tokens", err)
	note("DropToken", s.store.DropToken(ctx, "late", author))
	return errs
}

func endedContext(s *shop) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	before := s.catalog()
	s.unchanged(func() {
		for name, err := range s.everyCall(ctx) {
			if !errors.Is(err, context.Canceled) {
				s.t.Errorf("%s with an ended context: %v", name, err)
			}
		}
	})
	equal(s, "catalog", s.catalog(), before)
	equal(s, "order", s.find(s.record(0, "late", "k", 1).Order), seckill.Order{})
	letters, err := s.store.DeadLetters(s.ctx, 0, 10)
	s.must(err)
	equal(s, "dead letters", len(letters), 0)
	s.order(0, "u-1", "k", 1) // and the store goes on
}

func closedStore(s *shop) {
	s.must(s.store.Close())
	for name, err := range s.everyCall(s.ctx) {
		if err == nil {
			s.t.Errorf("%s of a closed store", name)
		}
	}
	s.must(s.store.Close())
}

// closeWaits closes while a relay delivers: the row that it delivered is deleted before Close returns.
func closeWaits(s *shop) {
	s.cancelled(0, 1)
	var delivered atomic.Bool
	closed := make(chan error, 1)
	_, err := s.store.Relay(s.ctx, 0, 10, func(ctx context.Context, rows []seckill.Outgoing) []int {
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

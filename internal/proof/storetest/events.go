package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
)

// EventStore is backoffice.EventStore, which says what its methods promise.
type EventStore interface {
	RelayEvents(ctx context.Context, limit int, deliver func(ctx context.Context, steps []seckill.Step) error) (int, error)
	EventsWaiting(ctx context.Context) (time.Duration, error)
}

// ExerciseEvents runs the cases of EventStore against stores that open makes, which must implement
// it and keep events.
func ExerciseEvents(t *testing.T, open Open) {
	for _, c := range []testCase{
		{"KeepsEveryStepInItsOrder", eventsOfALife},
		selling("WhatChangesNothingIsNoStep", eventsOfNothing),
		selling("ATombstoneIsAStep", eventsOfTombstones),
		selling("AParkedOrderIsNoneUntilItIsAnOrder", eventsOfParked),
		{"HandsOutTheOldestInPages", eventPages},
		{"HandsOutALargeBatchOnce", eventsOfALargeBatch},
		selling("KeepsWhatWasNotDelivered", eventsFail),
		selling("OneAtATime", eventsOnce),
		selling("DeliverMayUseTheStore", eventsReenter),
		selling("TellsHowLongTheOldestWaits", eventsWaiting),
		selling("AnEndedContextDeliversNothing", eventsEnded),
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

// ExerciseNoEvents runs a sale on a store that open makes, which must implement EventStore and was
// told to keep none.
func ExerciseNoEvents(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 1, 0, 1})
	s.pay(seckill.PaymentLate, s.cancel(s.order(0, "u-1", "k", 1)), "p-1")
	s.order(0, "u-2", "k", 1)
	s.accept([]seckill.Outcome{seckill.OutcomeRejected}, s.promise(0, "u-3", "k", 1))
	equal(s, "steps", s.steps(100), nil)
}

// eventsOfALargeBatch: the events of a transaction with many orders come in pages, each order once
// and in order.
func eventsOfALargeBatch(t *testing.T, open Open) {
	const orders = 257
	s := newShop(t, open, goods{"phone-x", orders, 0, 1})
	promises := make([]seckill.Promise, orders)
	for i := range promises {
		promises[i] = s.promise(0, seckill.UserID(fmt.Sprint("u-", i)), "k", 1)
	}
	accepted := s.accept(slices.Repeat([]seckill.Outcome{seckill.OutcomeOpened}, orders), promises...)
	var want, got []seckill.OrderID
	for i := range accepted {
		want = append(want, accepted[i].Order.ID)
	}
	for page := s.steps(60); len(page) > 0; page = s.steps(60) {
		if len(page) >= 60+seckill.MaxSteps {
			t.Errorf("a page of about 60 steps has %d", len(page))
		}
		for i := range page {
			got = append(got, page[i].ID)
		}
	}
	equal(s, "orders", got, want)
}

// events returns the shop's store as an EventStore.
func (s *shop) events() EventStore {
	s.t.Helper()
	store, ok := s.store.(EventStore)
	if !ok {
		s.t.Fatalf("%T keeps no events", s.store)
	}
	return store
}

// steps relays up to limit steps, which are delivered, and returns them.
func (s *shop) steps(limit int) []seckill.Step {
	s.t.Helper()
	var got []seckill.Step
	n, err := s.events().RelayEvents(s.ctx, limit, func(_ context.Context, steps []seckill.Step) error {
		got = steps
		return nil
	})
	s.must(err)
	equal(s, "number of steps", n, len(got))
	return got
}

// asSteps returns orders as steps, with only the members that other systems get.
func asSteps(orders ...seckill.Order) []seckill.Step {
	steps := make([]seckill.Step, len(orders))
	for i, o := range orders {
		steps[i] = seckill.Step{Order: seckill.Order{
			ID: o.ID, Caller: seckill.CallerRef{Merchant: o.Caller.Merchant}, Activity: o.Activity, SKU: o.SKU, User: o.User,
			Quantity: o.Quantity, Amount: o.Amount, State: o.State, Reason: o.Reason,
			CreatedAt: o.CreatedAt, PayBy: o.PayBy, UpdatedAt: o.UpdatedAt,
		}}
	}
	return steps
}

// by returns the step of an order by a payment.
func by(o seckill.Order, k seckill.KeptPayment) seckill.Step {
	step := asSteps(o)[0]
	step.Payment, step.Paid, step.Cause = k.ID, k.Amount, k.Cause
	return step
}

// money returns the step of a payment that must be, or was, refunded. o is its order afterwards.
func money(o seckill.Order, k seckill.KeptPayment) seckill.Step {
	step := by(o, k)
	step.Money, step.UpdatedAt = k.State, k.KeptAt
	if k.State == seckill.PaymentStateDone {
		step.UpdatedAt = k.DoneAt
	}
	return step
}

func eventsOfALife(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 3, 2, 1}, goods{"case", 5, 0, 1})
	paid := s.order(0, "u-1", "k", 2)
	cancelled := s.order(1, "u-2", "k", 1)
	rejected := s.accept([]seckill.Outcome{seckill.OutcomeRejected}, s.promise(0, "u-3", "k", 2))[0].Order
	late := s.order(0, "u-4", "k", 1)
	s.clock.advance(time.Minute)
	nowPaid := s.pay(seckill.PaymentBooked, paid, "p-1")
	nowCancelled := s.cancel(cancelled)
	s.clock.advance(window)
	equal(s, "orders timed out", s.timeOut(10), 1)
	timedOut := s.find(late.ID)
	s.clock.advance(time.Minute)
	refunds := []seckill.Order{s.pay(seckill.PaymentLate, cancelled, "p-2"), s.pay(seckill.PaymentLate, rejected, "p-3")}
	want := asSteps(paid, cancelled, rejected, late)
	want = append(want, by(nowPaid, s.payment("p-1")))
	want = append(want, asSteps(nowCancelled, timedOut)...)
	want = append(want, by(refunds[0], s.payment("p-2")), money(refunds[0], s.payment("p-2")),
		by(refunds[1], s.payment("p-3")), money(refunds[1], s.payment("p-3")))
	equal(s, "steps", s.steps(100), want)
	k, refunded := s.refund("p-2")
	equal(s, "steps of a refund", s.steps(100), []seckill.Step{by(refunded, k), money(refunded, k)})
	equal(s, "steps afterwards", s.steps(100), nil)
}

func eventsOfNothing(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	s.accept([]seckill.Outcome{seckill.OutcomeExists}, s.promise(0, "u-1", "k", 2))
	before := s.ref(0)
	s.fence(s.shard(0))
	s.acceptAt(before, []seckill.Outcome{skipped}, s.promise(0, "u-2", "k", 1))
	paid := s.pay(seckill.PaymentBooked, o, "p-1")
	s.pay(seckill.PaymentAgain, o, "p-1")
	_, err := s.store.Cancel(s.ctx, given(o.ID))
	s.must(err)
	equal(s, "steps", s.steps(100), append(asSteps(o), by(paid, s.payment("p-1"))))

	// The order stays paid, and the second payment still must be refunded.
	s.pay(seckill.PaymentLate, o, "p-2")
	equal(s, "steps of a second payment", s.steps(100), []seckill.Step{money(paid, s.payment("p-2"))})
}

func eventsOfTombstones(s *shop) {
	r := s.promise(0, "u-1", "k", 1)
	s.bury(s.ref(0), []bool{false}, r.Hold())
	equal(s, "steps", s.steps(100), asSteps(s.find(r.Order)))
	// A payment for it is a step, because it must be refunded.
	due := s.notice(seckill.PaymentLate, seckill.Payment{Merchant: merchant, ID: "p-1", Order: r.Order, Amount: r.Amount})
	k := s.payment("p-1")
	equal(s, "steps", s.steps(100), []seckill.Step{by(due, k), money(due, k)})
}

func eventsOfParked(s *shop) {
	r := s.unfit(0, "u-1", "k", 1)
	s.accept([]seckill.Outcome{parked}, r)
	equal(s, "steps", s.steps(100), nil)
	s.reprice(price.Minor + 1)
	s.replay([]seckill.Outcome{opened}, s.letters()[0].ID)
	equal(s, "steps", s.steps(100), asSteps(s.find(r.Order)))
}

func eventPages(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	var want []seckill.Step
	for i := range 5 {
		want = append(want, asSteps(s.order(0, user(i), "k", 1))...)
	}
	equal(s, "first page", s.steps(2), want[:2])
	equal(s, "second page", s.steps(2), want[2:4])
	equal(s, "last page", s.steps(2), want[4:])
	if _, err := s.events().RelayEvents(s.ctx, 0, func(context.Context, []seckill.Step) error { return nil }); err == nil {
		t.Error("a page of no steps")
	}
}

func eventsFail(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	broken := errors.New("no broker")
	n, err := s.events().RelayEvents(s.ctx, 10, func(context.Context, []seckill.Step) error { return broken })
	s.wants(err, broken)
	equal(s, "delivered", n, 0)
	equal(s, "steps", s.steps(10), asSteps(o))
}

func eventsOnce(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	n, err := s.events().RelayEvents(s.ctx, 10, func(context.Context, []seckill.Step) error {
		equal(s, "steps of another relay meanwhile", s.steps(10), nil)
		return nil
	})
	s.must(err)
	equal(s, "delivered", n, 1)
	paid := s.pay(seckill.PaymentBooked, o, "p-1")
	equal(s, "steps", s.steps(10), []seckill.Step{by(paid, s.payment("p-1"))})
}

// eventsReenter: a relay doesn't delete steps that are written while it delivers.
func eventsReenter(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	var paid seckill.Order
	n, err := s.events().RelayEvents(s.ctx, 10, func(_ context.Context, steps []seckill.Step) error {
		equal(s, "steps", steps, asSteps(o))
		paid = s.pay(seckill.PaymentBooked, s.find(o.ID), "p-1")
		return nil
	})
	s.must(err)
	equal(s, "delivered", n, 1)
	equal(s, "steps", s.steps(10), []seckill.Step{by(paid, s.payment("p-1"))})
}

func eventsWaiting(s *shop) {
	waits := func(want time.Duration) {
		s.t.Helper()
		got, err := s.events().EventsWaiting(s.ctx)
		s.must(err)
		equal(s, "waiting", got, want)
	}
	waits(0)
	s.order(0, "u-1", "k", 1)
	s.clock.advance(90 * time.Second)
	s.order(0, "u-2", "k", 1)
	waits(90 * time.Second)
	s.steps(1)
	waits(0)
	s.clock.advance(time.Second)
	waits(time.Second)
}

func eventsEnded(s *shop) {
	s.order(0, "u-1", "k", 1)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.events().RelayEvents(ctx, 10, func(context.Context, []seckill.Step) error {
		s.t.Error("delivered with an ended context")
		return nil
	})
	s.wants(err, context.Canceled)
	s.must(s.store.Close())
	_, err = s.events().RelayEvents(s.ctx, 10, func(context.Context, []seckill.Step) error {
		s.t.Error("delivered by a closed store")
		return nil
	})
	if err == nil {
		s.t.Error("a closed store relays")
	}
	if _, err = s.events().EventsWaiting(s.ctx); err == nil {
		s.t.Error("a closed store says what waits")
	}
}

package desk

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// holding returns a stock that has a hold of two units under that id.
func holding(id seckill.OrderID, state inventory.State) *stubStock {
	entry := inventory.Entry{Hold: inventory.Hold{Buyer: "u-1", Quantity: 2}, State: state}
	if state == inventory.None {
		entry = inventory.Entry{}
	}
	return &stubStock{holds: map[string]inventory.Entry{string(id): entry}}
}

func TestFindOrder(t *testing.T) {
	p := wish("u-1", "k-1")
	id := orderOf(1, p)
	row := func(state seckill.OrderState, caller seckill.CallerRef) *seckill.Order {
		return &seckill.Order{ID: id, State: state, Caller: caller}
	}
	mine := testCaller.CallerRef
	for _, c := range []struct {
		name  string
		row   *seckill.Order
		hold  inventory.State
		epoch inventory.Epoch
		state seckill.OrderState
		code  seckill.Code
	}{
		{"a row", row(seckill.OrderPaid, mine), inventory.Sold, 1, seckill.OrderPaid, ""},
		{"a parked row reads as queued", row(seckill.OrderParked, mine), inventory.Fresh, 1, seckill.OrderQueued, ""},
		{"a hold", nil, inventory.Fresh, 1, seckill.OrderQueued, ""},
		{"nothing", nil, inventory.None, 1, "", seckill.CodeUnknownOrder},
		{"nothing on a shard that nobody follows", nil, inventory.None, -1, "", seckill.CodeUnavailable},
		{"a row of a caller with the same tag", row(seckill.OrderPaid, seckill.CallerRef{Merchant: "m", Caller: "b"}), inventory.Sold, 1, "", seckill.CodeUnknownOrder},
		{"a tombstone", row(seckill.OrderCancelled, seckill.CallerRef{Merchant: "m"}), inventory.Void, 1, seckill.OrderCancelled, ""},
		{"a tombstone of an item that is gone", row(seckill.OrderCancelled, seckill.CallerRef{}), inventory.Void, 1, seckill.OrderCancelled, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			stock := holding(id, c.hold)
			stock.epoch = c.epoch
			s := openShop(t, stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
			if c.row != nil {
				s.store.rows[id] = *c.row
			}
			o, err := s.FindOrder(t.Context(), testCaller, id, 0)
			if codeOf(t, err) != c.code || o.State != c.state {
				t.Errorf("%+v, %v", o, err)
			}
			other := &seckill.Caller{CallerRef: seckill.CallerRef{Merchant: "m", Caller: "other"}}
			if _, err := s.FindOrder(t.Context(), other, id, 0); codeOf(t, err) != seckill.CodeUnknownOrder {
				t.Errorf("another caller: %v", err)
			}
		})
	}
	t.Run("a wait ends with the row, once it is not parked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := openShop(t, holding(id, inventory.Fresh), &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
			s.store.become(id, seckill.OrderParked)
			time.AfterFunc(time.Second, func() { s.store.become(id, seckill.OrderPending) })
			began := time.Now()
			o, err := s.FindOrder(t.Context(), testCaller, id, 10*time.Second)
			if took := time.Since(began); err != nil || o.State != seckill.OrderPending || took > 1200*time.Millisecond {
				t.Errorf("%+v, %v after %v", o, err, took)
			}
		})
	})
}

func (s *stubStore) become(id seckill.OrderID, state seckill.OrderState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[id] = seckill.Order{ID: id, State: state, Caller: testCaller.CallerRef}
}

// A cancellation doesn't wait for the workers. If the desk finds the hold, the store writes a
// cancelled row under the hold's epoch.
func TestCancelOrder(t *testing.T) {
	p := wish("u-1", "k-1")
	id := orderOf(1, p)
	moved := func(state seckill.OrderState) seckill.Moved {
		return seckill.Moved{Order: seckill.Order{ID: id, State: state}}
	}
	for _, c := range []struct {
		name   string
		row    seckill.OrderState
		hold   inventory.State
		moved  []seckill.Moved // one for each time that the store is asked
		fails  error
		code   seckill.Code
		queued bool // the store was told of the hold
		behind bool
	}{
		{"a queued order", "", inventory.Fresh, []seckill.Moved{moved(seckill.OrderCancelled)}, nil, "", true, false},
		{"a doomed hold", "", inventory.Doomed, []seckill.Moved{moved(seckill.OrderCancelled)}, nil, "", true, false},
		{"a worker was first, and the buyer paid", "", inventory.Fresh, []seckill.Moved{moved(seckill.OrderPaid)}, nil, seckill.CodeNotCancellable, true, false},
		{"no hold", "", inventory.None, nil, nil, seckill.CodeUnknownOrder, false, false},
		{"rebuilt since the hold was seen", "", inventory.Fresh, []seckill.Moved{{}}, nil, seckill.CodeUnavailable, true, true},
		{"the store is away", "", inventory.Fresh, []seckill.Moved{{}}, errors.New("away"), seckill.CodeUnavailable, false, false},
		{"an order", seckill.OrderPending, inventory.Ordered, []seckill.Moved{moved(seckill.OrderCancelled)}, nil, "", false, false},
		{"a paid one", seckill.OrderPaid, inventory.Sold, []seckill.Moved{moved(seckill.OrderPaid)}, nil, seckill.CodeNotCancellable, false, false},
		{"a parked one", seckill.OrderParked, inventory.Fresh, []seckill.Moved{moved(seckill.OrderParked)}, nil, seckill.CodeUnavailable, false, false},
		{"its row is locked for a while", seckill.OrderPending, inventory.Ordered, []seckill.Moved{{Locked: true}, {Locked: true}, moved(seckill.OrderCancelled)}, nil, "", false, false},
		{"its row stays locked", seckill.OrderPending, inventory.Ordered, []seckill.Moved{{Locked: true}}, nil, seckill.CodeUnavailable, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openShop(t, holding(id, c.hold), &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
				if c.row != "" {
					s.store.become(id, c.row)
				}
				var asked []seckill.Cancellation
				s.store.cancel = func(wish seckill.Cancellation) seckill.Moved {
					s.store.fails = c.fails
					asked = append(asked, wish)
					return c.moved[min(len(asked), len(c.moved))-1]
				}
				began := time.Now()
				o, err := s.CancelOrder(t.Context(), testCaller, id)
				if codeOf(t, err) != c.code || err == nil && o.State != seckill.OrderCancelled {
					t.Errorf("%+v, %v", o, err)
				}
				if took := time.Since(began); took > s.cfg.AcceptDeadline {
					t.Errorf("answered after %v", took)
				}
				if (len(asked) > 0) != (len(c.moved) > 0) || (len(s.Behind()) > 0) != c.behind {
					t.Errorf("asked %+v, behind %d", asked, len(s.Behind()))
				}
				if c.queued {
					checkQueued(t, s, id, asked[0])
				}
			})
		})
	}
}

func checkQueued(t *testing.T, s *shop, id seckill.OrderID, got seckill.Cancellation) {
	t.Helper()
	if ref := (inventory.Ref{Shard: inventory.Home(1, s.cfg.Shards), Epoch: 1}); got.Order != id || got.Ref != ref || got.Queued == nil {
		t.Fatalf("%+v, want the hold under %+v", got, ref)
	}
	promise := *got.Queued
	promise.Accepted = time.Time{}
	if want := (seckill.Promise{
		Order: id, Caller: testCaller.CallerRef, Activity: "a", SKU: "x01", User: "u-1", Quantity: 2,
		Amount: seckill.Money{Minor: 200, Currency: "CNY"},
	}); promise != want {
		t.Errorf("%+v, want %+v", promise, want)
	}
}

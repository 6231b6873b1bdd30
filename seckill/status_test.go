package seckill

import (
	"context"
	"errors"
	"testing"

	"penstock/inventory"
)

// slowWorkers is a store in which no row is but the one that the desk makes.
type slowWorkers struct {
	Store
	accept  Outcome
	fails   error
	made    []Record
	rows    map[OrderID]Order
	suspect []inventory.Ref
}

func (s *slowWorkers) FindOrders(_ context.Context, ids []OrderID) ([]Order, error) {
	out := make([]Order, len(ids))
	for i, id := range ids {
		out[i] = s.rows[id]
	}
	return out, nil
}

func (s *slowWorkers) Accept(_ context.Context, records []Record) ([]Acceptance, error) {
	if s.fails != nil {
		return nil, s.fails
	}
	out := make([]Acceptance, len(records))
	for i, r := range records {
		s.made = append(s.made, r)
		out[i] = Acceptance{Outcome: s.accept, Epoch: 1}
		state := map[Outcome]OrderState{OutcomeOpened: OrderPending, OutcomeExists: OrderPending, OutcomeRejected: OrderRejected}[s.accept]
		if state != "" {
			out[i].Order = Order{ID: r.Order, Item: r.Item(), Caller: r.Caller, State: state}
			s.rows[r.Order] = out[i].Order
		}
	}
	return out, nil
}

func (s *slowWorkers) Cancel(_ context.Context, ids []OrderID) ([]Moved, error) {
	out := make([]Moved, len(ids))
	for i, id := range ids {
		order := s.rows[id]
		if order.State == OrderPending {
			order.State = OrderCancelled
		}
		out[i].Order = order
	}
	return out, nil
}

func (s *slowWorkers) MarkSuspect(_ context.Context, ref inventory.Ref) error {
	s.suspect = append(s.suspect, ref)
	return nil
}

// A buyer who cancels doesn't wait for the workers: the desk makes the row of the hold that it finds, and only then.
func TestCancelOrder_MakesTheRow(t *testing.T) {
	away := errors.New("the database is away")
	for _, c := range []struct {
		name    string
		hold    inventory.State
		accept  Outcome
		fails   error
		code    Code // "" is success
		made    bool
		suspect int
	}{
		{"made", inventory.Fresh, OutcomeOpened, nil, "", true, 0},
		{"a doomed hold", inventory.Doomed, OutcomeOpened, nil, "", true, 0},
		{"a worker was first", inventory.Fresh, OutcomeExists, nil, "", true, 0},
		{"no hold", inventory.None, OutcomeOpened, nil, CodeUnknownOrder, false, 0},
		{"rebuilt meanwhile", inventory.Fresh, OutcomeSkipped, nil, CodeUnavailable, true, 0},
		{"an epoch that the store doesn't know", inventory.Fresh, OutcomeUnfit, nil, CodeUnavailable, true, 0},
		{"sold twice", inventory.Fresh, OutcomeRejected, nil, CodeNotCancellable, true, 1},
		{"database away", inventory.Fresh, OutcomeOpened, away, CodeUnavailable, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &slowWorkers{accept: c.accept, fails: c.fails, rows: map[OrderID]Order{}}
			stock := &counter{found: inventory.Entry{Hold: inventory.Hold{Buyer: "u-1", Quantity: 2}, State: c.hold}}
			d, p := deskWith(t, stock, store)
			id := NewOrderID(1, p.Caller.CallerRef, p.Activity, p.SKU, p.User, p.Key)
			order, err := d.CancelOrder(t.Context(), p.Caller, id)
			var (
				refusal *Refusal
				failure *Failure
				code    Code
			)
			switch {
			case errors.As(err, &refusal):
				code = refusal.Code
			case errors.As(err, &failure):
				code = failure.Code
			case err != nil:
				t.Fatal(err)
			}
			if code != c.code || code == "" && (order.ID != id || order.State != OrderCancelled) {
				t.Errorf("%+v, %v, want code %q", order, err, c.code)
			}
			if (len(store.made) == 1) != c.made || len(store.suspect) != c.suspect {
				t.Errorf("rows %+v, suspects %v", store.made, store.suspect)
			}
			for _, r := range store.made {
				r.Accepted = p.Arrived
				if want := (Record{
					Order: id, Caller: p.Caller.CallerRef, Activity: "a", SKU: "x", User: "u-1", Quantity: 2,
					Amount: Money{200, "CNY"}, Grant: Provenance{Epoch: 1}, Accepted: p.Arrived,
				}); r != want {
					t.Errorf("row of %+v, want %+v", r, want)
				}
			}
		})
	}
}

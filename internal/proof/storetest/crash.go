package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

// What WriteUntilKilled says of an order.
const (
	saidOpened    = "opened"
	saidPaid      = "paid"
	saidCancelled = "cancelled"
)

// crashBatch is how many orders are written at once; a third of them is paid, a third cancelled, the rest stays open.
const crashBatch = 12

// WriteUntilKilled writes orders, payments and cancels to the store until ctx ends, the store fails, or the process is
// killed. Each line that it writes to said, by one Write, says what a call that has returned did. A store may be written to
// again and again: each time begins under a new epoch, as a restart does.
func WriteUntilKilled(ctx context.Context, store seckill.Store, said io.Writer) error {
	s := &shop{ctx: ctx, store: store, clock: &clock{now: time.Now()}}
	epoch, err := s.startAgain()
	if err != nil {
		return err
	}
	accepted := make(chan []seckill.Order, 4)
	ended := make(chan error, 1)
	go func() { ended <- s.endOrders(accepted, said) }()
	for batch := 0; ctx.Err() == nil; batch++ {
		var records []seckill.Record
		for k := range crashBatch {
			records = append(records, s.recordAt(0, epoch, user(k), fmt.Sprint(epoch, "-", batch), 1))
		}
		got, err := store.Accept(ctx, records)
		if err != nil {
			close(accepted)
			return errors.Join(err, <-ended)
		}
		orders := make([]seckill.Order, len(got))
		for k := range got {
			orders[k] = got[k].Order
		}
		if err := say(said, saidOpened, orders); err != nil {
			close(accepted)
			return errors.Join(err, <-ended)
		}
		select {
		case accepted <- orders:
		case err := <-ended: // the store has failed there first
			return err
		}
	}
	close(accepted)
	return errors.Join(ctx.Err(), <-ended)
}

func say(said io.Writer, what string, orders []seckill.Order) error {
	var line strings.Builder
	line.WriteString(what)
	for i := range orders {
		line.WriteByte(' ')
		line.WriteString(string(orders[i].ID))
	}
	line.WriteByte('\n')
	_, err := io.WriteString(said, line.String())
	return err
}

// startAgain makes the shop where there is none, and fences its item.
func (s *shop) startAgain() (inventory.Epoch, error) {
	data, err := s.store.LoadCatalog(s.ctx, 0)
	if err != nil {
		return 0, err
	}
	if len(data.Activities) == 0 {
		a := s.draft(activity, goods{"phone-x", seckill.MaxItemQuantity, 0})
		err := s.store.PutMerchant(s.ctx, seckill.Merchant{ID: merchant, Name: "Phones"}, author)
		if err != nil {
			return 0, err
		}
		made, err := s.store.UpdateActivity(s.ctx, activity, author, func(*seckill.Activity) (*seckill.Activity, error) { return a, nil })
		if err != nil {
			return 0, err
		}
		data.Activities = []seckill.Activity{*made}
	}
	s.items = data.Activities[0].Items
	epoch, err := s.store.NextEpoch(s.ctx, s.item(0))
	if err != nil {
		return 0, err
	}
	_, err = s.store.Fence(s.ctx, s.ref(0, epoch))
	return epoch, err
}

func (s *shop) endOrders(accepted <-chan []seckill.Order, said io.Writer) error {
	for orders := range accepted {
		paid, gone := orders[:crashBatch/3], orders[crashBatch/3:2*crashBatch/3]
		payments := make([]seckill.Payment, len(paid))
		for i := range paid {
			payments[i] = paymentOf(paid[i], seckill.PaymentID(paid[i].ID))
		}
		ids := make([]seckill.OrderID, len(gone))
		for i := range gone {
			ids[i] = gone[i].ID
		}
		if _, err := s.store.Pay(s.ctx, payments); err != nil {
			return err
		}
		if err := say(said, saidPaid, paid); err != nil {
			return err
		}
		if _, err := s.store.Cancel(s.ctx, ids); err != nil {
			return err
		}
		if err := say(said, saidCancelled, gone); err != nil {
			return err
		}
	}
	return nil
}

// CheckSurvivors checks that a store, opened again, has everything that WriteUntilKilled said before it was killed, and nothing
// half done: counts are those of the orders, and every ended order has its settlement. It returns how many orders there are.
func CheckSurvivors(t *testing.T, store seckill.Store, said io.Reader) int {
	t.Helper()
	s := &shop{t: t, ctx: t.Context(), store: store, clock: &clock{now: time.Now()}}
	s.reload()
	states := map[string]seckill.OrderState{saidPaid: seckill.OrderPaid, saidCancelled: seckill.OrderCancelled}
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		ids := make([]seckill.OrderID, len(words)-1)
		for i := range ids {
			ids[i] = seckill.OrderID(words[i+1])
		}
		orders, err := store.FindOrders(s.ctx, ids)
		s.must(err)
		for i, o := range orders {
			if want, ended := states[words[0]]; o.ID == "" || ended && o.State != want {
				t.Fatalf("order %s was %s before the crash; now it is %+v", ids[i], words[0], o)
			}
		}
	}
	s.must(lines.Err())
	epoch, err := store.NextEpoch(s.ctx, s.item(0))
	s.must(err)
	settlements := make(map[string]int)
	for _, row := range s.outbox() {
		settlements[row.Settlement.ID]++
	}
	snapshot := s.checkItem(0, epoch)
	for _, e := range snapshot.Entries {
		ended := 1
		if e.State == inventory.Ordered {
			ended = 0
		}
		equal(s, "settlements of "+e.ID, settlements[e.ID], ended)
	}
	return len(snapshot.Entries)
}

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

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The words of WriteUntilKilled about an order.
const (
	saidOpened    = "opened"
	saidPaid      = "paid"
	saidCancelled = "cancelled"
)

// crashBatch is how many orders are written at once. A third of them is paid, a third is cancelled,
// the rest stays open.
const crashBatch = 12

// WriteUntilKilled writes orders, payments and cancels to the store until ctx ends, the store
// fails, or the process is killed. After each call it writes one line to said, in one Write, with
// the result. It may be used on the same store again and again. Each time begins with a new epoch,
// like a restart. The position of a partition moves by one with each batch of orders.
func WriteUntilKilled(ctx context.Context, store seckill.Store, said io.Writer) error {
	s := &shop{t: panics{}, ctx: ctx, store: store, clock: &clock{now: time.Now()}}
	if err := s.startAgain(); err != nil {
		return err
	}
	positions, err := store.Positions(ctx)
	if err != nil {
		return err
	}
	position := positions[0]
	accepted := make(chan []seckill.Order, 4)
	ended := make(chan error, 1)
	go func() { ended <- s.endOrders(accepted, said) }()
	for batch := 0; ctx.Err() == nil; batch++ {
		var promises []seckill.Promise
		for k := range crashBatch {
			promises = append(promises, s.promise(0, user(k), fmt.Sprint(s.ref(0).Epoch, "-", batch), 1))
		}
		move := seckill.Move{From: position, To: position}
		move.To.Next++
		got, err := store.Accept(ctx, seckill.Batch{Pages: s.pages(promises...), Moves: []seckill.Move{move}})
		if err != nil {
			close(accepted)
			return errors.Join(err, <-ended)
		}
		position = move.To
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

// panics is the reporter of a process without a test: it panics with the error.
type panics struct{}

func (panics) Helper()                           {}
func (panics) Error(args ...any)                 { panic(fmt.Sprint(args...)) }
func (panics) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (panics) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (panics) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// startAgain makes the shop if it doesn't exist, and fences its shards.
func (s *shop) startAgain() error {
	a, err := s.store.FindActivity(s.ctx, activity)
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		s.sell(goods{"phone-x", seckill.MaxItemQuantity, 0, 2})
	case err != nil:
		return err
	default:
		s.items = a.Items
	}
	if err := s.store.AddPartitions(s.ctx, topic, 1); err != nil {
		return err
	}
	s.fenceAll()
	return nil
}

func (s *shop) endOrders(accepted <-chan []seckill.Order, said io.Writer) error {
	for orders := range accepted {
		paid, gone := orders[:crashBatch/3], orders[crashBatch/3:2*crashBatch/3]
		payments := make([]seckill.Payment, len(paid))
		for i := range paid {
			payments[i] = paymentOf(paid[i], seckill.PaymentID(paid[i].ID))
		}
		cancels := make([]seckill.Cancellation, len(gone))
		for i := range gone {
			cancels[i].Order = gone[i].ID
		}
		if _, err := s.store.Pay(s.ctx, payments); err != nil {
			return err
		}
		if err := say(said, saidPaid, paid); err != nil {
			return err
		}
		if _, err := s.store.Cancel(s.ctx, cancels); err != nil {
			return err
		}
		if err := say(said, saidCancelled, gone); err != nil {
			return err
		}
	}
	return nil
}

// CheckSurvivors checks a store that was opened again after a kill. It must have everything that
// WriteUntilKilled reported, and nothing half done. Counts and digests match the orders, every
// ended order has its settlement, and the position is after each batch of orders. It returns the
// number of orders.
func CheckSurvivors(t *testing.T, store seckill.Store, said io.Reader) int {
	t.Helper()
	s := &shop{t: t, ctx: t.Context(), store: store, clock: &clock{now: time.Now()}}
	s.items = s.findActivity(activity).Items
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
	s.refs = make(map[inventory.ShardID]inventory.Ref)
	for _, row := range s.rows() {
		s.refs[row.Ref.Shard] = row.Ref
	}
	s.sums()
	settlements := make(map[string]int)
	for _, row := range s.outbox() {
		settlements[row.Settlement.ID]++
	}
	count := 0
	for _, got := range s.checkShards() {
		count += len(got.Entries)
		for _, e := range got.Entries {
			ended := 1
			if e.State == inventory.Ordered {
				ended = 0
			}
			equal(s, "settlements of "+e.ID, settlements[e.ID], ended)
		}
	}
	equal(s, "batches of orders behind the position", int64(count), s.positions()[0].Next*crashBatch)
	return count
}

package node

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/desk"
)

// keptLog has one record.
type keptLog struct{ value []byte }

// Between implements desk.LogReader.
func (l keptLog) Between(context.Context, seckill.Stretch) ([]seckill.Message, *seckill.LogPlace, error) {
	return []seckill.Message{{Partition: 0, Offset: 1, Value: l.value}}, nil, nil
}

// pageOf returns a page of the log that has promises.
func pageOf(t *testing.T, log desk.LogReader, s seckill.Stretch) seckill.Page {
	t.Helper()
	for {
		messages, next, err := log.Between(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if page, err := seckill.ParsePage(m.Value); err == nil && len(page.Promises) > 0 {
				return page
			}
		}
		if next == nil {
			t.Fatal("no page has a promise")
		}
		s.After = *next
	}
}

// TestL4_AReplayedLogMakesNothingTwice: reading the log of a sale again and again changes no order,
// no position and no record of changes. A promise without an order's row becomes an order, once,
// and that is recorded.
func TestL4_AReplayedLogMakesNothingTwice(t *testing.T) {
	c := testConfig(t)
	c.AdminToken, c.ProbeEvery = liveToken, 0
	s := openLiveShopOn(t, c)
	began := time.Now().Add(-time.Minute)
	for i := range 6 {
		s.buy("many", fmt.Sprint("u", i))
	}
	ctx, office, store := t.Context(), s.sale.Office, s.servers.database
	orders := func() []seckill.Order {
		found, err := office.SearchOrders(ctx, seckill.OrderQuery{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for late := time.Now().Add(time.Minute); len(orders()) < 6; {
		if time.Now().After(late) {
			t.Fatalf("%d orders have rows", len(orders()))
		}
	}
	state := func() (any, any, any) {
		positions, err := store.Positions(ctx)
		changes, err2 := store.Changes(ctx, 0, 100)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		return orders(), positions, len(changes)
	}
	replay := func(log desk.LogReader, change func(*desk.LogReplay)) (sum desk.LogReplayed) {
		r := desk.LogReplay{Stretch: seckill.Stretch{From: began, To: time.Now().Add(time.Minute), Most: 2}}
		if change != nil {
			change(&r)
		}
		for {
			part, err := office.ReplayLog(ctx, log, r, seckill.Author{Actor: "ann", Reason: "test"})
			if err != nil {
				t.Fatal(err)
			}
			sum.Records += part.Records
			sum.Promises += part.Promises
			sum.Existed += part.Existed
			sum.Made += part.Made
			sum.Missing += part.Missing
			sum.Skipped += part.Skipped
			if part.Next == nil {
				return sum
			}
			r.After = *part.Next
		}
	}
	was, at, changes := state()
	for name, change := range map[string]func(*desk.LogReplay){
		"all": nil, "dry": func(r *desk.LogReplay) { r.DryRun = true }, "one activity": func(r *desk.LogReplay) { r.Activity = "618" },
	} {
		if got := replay(s.servers.queue, change); got.Promises != 6 || got.Existed != 6 || got.Records == 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := replay(s.servers.queue, func(r *desk.LogReplay) { r.Activity = "other" }); got.Promises != 0 {
		t.Errorf("of another activity: %+v", got)
	}
	if now, to, recorded := state(); !reflect.DeepEqual(now, was) || !reflect.DeepEqual(to, at) || recorded != changes {
		t.Errorf("a healthy installation was changed: %v %v, was %v %v", to, recorded, at, changes)
	}

	page := pageOf(t, s.servers.queue, seckill.Stretch{From: began, To: time.Now().Add(time.Minute), Most: 100})
	lost := page.Promises[0]
	lost.User = "lost"
	lost.Order = seckill.NewOrderID(lost.Item(), lost.Caller, lost.User, "k")
	page.Promises = []seckill.Promise{lost}
	log := keptLog{seckill.AppendPage(nil, &page)}
	if got := replay(log, func(r *desk.LogReplay) { r.DryRun = true }); got.Missing != 1 || len(orders()) != 6 {
		t.Errorf("dry: %+v, %d orders", got, len(orders()))
	}
	if got := replay(log, nil); got.Made != 1 || len(orders()) != 7 {
		t.Errorf("%+v, %d orders", got, len(orders()))
	}
	if got := replay(log, nil); got.Existed != 1 || got.Made != 0 || len(orders()) != 7 {
		t.Errorf("again: %+v, %d orders", got, len(orders()))
	}
	if _, to, recorded := state(); !reflect.DeepEqual(to, at) || recorded != changes.(int)+1 {
		t.Errorf("the positions are %v, were %v; %v changes, want one more than %v", to, at, recorded, changes)
	}
	page.Ref.Epoch--
	page.Promises[0].Order = seckill.NewOrderID(lost.Item(), lost.Caller, lost.User, "before the rebuild")
	if got := replay(keptLog{seckill.AppendPage(nil, &page)}, nil); got.Skipped != 1 || len(orders()) != 7 {
		t.Errorf("of an older epoch: %+v", got)
	}
}

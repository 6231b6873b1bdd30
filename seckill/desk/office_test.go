package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// officeStore is a stubStore with the methods that an office needs.
type officeStore struct {
	stubStore
	activity    *seckill.Activity
	unpublished []int // one for each time that it is asked
	books       []seckill.Book
	found       *seckill.StockChange
	late        *seckill.StockChange // found from the second look on
	changed     error                // the error of Restock and Withdraw
	taken       []seckill.Taken
	change      seckill.StockChange
	asked       int
}

func (s *officeStore) UpdateActivity(_ context.Context, _ seckill.ActivityID, _ seckill.Author,
	change func(*seckill.Activity) (*seckill.Activity, error)) (*seckill.Activity, error) {
	next, err := change(s.activity)
	if err == nil {
		s.activity = next
	}
	return next, err
}

func (s *officeStore) FindActivity(context.Context, seckill.ActivityID) (*seckill.Activity, error) {
	if s.activity == nil {
		return nil, seckill.ErrNotFound
	}
	return s.activity, nil
}

func (s *officeStore) Unpublished(context.Context, seckill.ActivityID) (int, error) {
	s.asked++
	return s.unpublished[min(s.asked, len(s.unpublished))-1], s.fails
}

func (s *officeStore) ActivityBooks(context.Context, seckill.ActivityID) ([]seckill.Book, error) {
	return s.books, nil
}

func (s *officeStore) FindStockChange(context.Context, inventory.ItemID, string) (seckill.StockChange, bool, error) {
	found := s.found
	s.found = cmp.Or(s.found, s.late)
	if found == nil {
		return seckill.StockChange{}, false, nil
	}
	return *found, true, nil
}

func (s *officeStore) Restock(_ context.Context, c seckill.StockChange, _ seckill.Author) (int64, bool, error) {
	s.change = c
	return 100 + c.Delta, false, s.changed
}

func (s *officeStore) Withdraw(_ context.Context, c seckill.StockChange, taken []seckill.Taken, _ seckill.Author) (int64, bool, error) {
	s.change, s.taken = c, taken
	return 100 + c.Delta, false, s.changed
}

// openOffice returns an office with an activity of these items.
func openOffice(t *testing.T, stock *stubStock, items []seckill.Item) (*Office, *officeStore) {
	t.Helper()
	store := &officeStore{stubStore: stubStore{rows: map[seckill.OrderID]seckill.Order{}}}
	d := openDesk(t, seckill.DefaultConfig(), Parts{Stock: stock, Queue: &stubQueue{}, Store: store}, items)
	store.activity = d.Catalog().Activity("a").Activity
	return NewOffice(d, stock), store
}

func TestOffice_PutActivity(t *testing.T) {
	now := time.Now()
	draft := seckill.Activity{
		ID: "n", Merchant: "m", Name: "New", State: seckill.ActivityDraft, StartsAt: now.Add(time.Hour),
		EndsAt: now.Add(2 * time.Hour), PaymentWindow: time.Minute, Items: testItems(3, 2),
	}
	published := draft
	published.State = seckill.ActivityPublished
	started := published
	started.StartsAt = now.Add(-time.Minute)
	ended := published
	ended.State = seckill.ActivityEnded
	for _, c := range []struct {
		name string
		old  *seckill.Activity
		edit func(*seckill.Activity)
		code seckill.Code // "fields" for FieldErrors
	}{
		{"a new one", nil, func(*seckill.Activity) {}, ""},
		{"of no merchant", nil, func(a *seckill.Activity) { a.Merchant = "nobody" }, seckill.CodeUnknownMerchant},
		{"spread over too many shards", nil, func(a *seckill.Activity) { a.Items[0].Spread = 17 }, "fields"},
		{"a draft's items", &draft, func(a *seckill.Activity) { a.Items = a.Items[:1] }, ""},
		{"a published one's merchant", &published, func(a *seckill.Activity) { a.Merchant = "nobody" }, seckill.CodeUnknownMerchant},
		{"a published one's name", &published, func(a *seckill.Activity) { a.Name = "Other" }, ""},
		{"a published one's order of items", &published, func(a *seckill.Activity) { slices.Reverse(a.Items) }, ""},
		{"a published one's start", &published, func(a *seckill.Activity) { a.StartsAt = now.Add(time.Minute) }, ""},
		{"the start of one that has started", &started, func(a *seckill.Activity) { a.StartsAt = now.Add(time.Minute) }, "fields"},
		{"a published one's price", &published, func(a *seckill.Activity) { a.Items[1].Price.Minor++ }, ""},
		{"a published one's limit", &published, func(a *seckill.Activity) { a.Items[1].MaxOrders = 7 }, ""},
		{"a published one's quantity", &published, func(a *seckill.Activity) { a.Items[1].Quantity++ }, seckill.CodeNotEditable},
		{"the price of one that has started", &started, func(a *seckill.Activity) { a.Items[1].Price.Minor++ }, seckill.CodeNotEditable},
		{"a published one's spread", &published, func(a *seckill.Activity) { a.Items[1].Spread = 1 }, seckill.CodeNotEditable},
		{"a published one's items", &published, func(a *seckill.Activity) { a.Items = a.Items[:2] }, seckill.CodeNotEditable},
		{"a published one's SKU", &published, func(a *seckill.Activity) { a.Items[1].SKU = "y" }, seckill.CodeNotEditable},
		{"an ended one", &ended, func(*seckill.Activity) {}, seckill.CodeActivityState},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, store := openOffice(t, &stubStock{}, testItems(1, 1))
			store.activity = c.old
			a := draft
			a.Items = slices.Clone(draft.Items)
			for i := range a.Items {
				a.Items[i].ID = 0 // the merchant doesn't see it
			}
			c.edit(&a)
			asked := o.CheckActivity(t.Context(), a)
			if store.activity != c.old {
				t.Error("CheckActivity has changed it")
			}
			got, err := o.PutActivity(t.Context(), a, seckill.Author{})
			if fmt.Sprint(asked) != fmt.Sprint(err) {
				t.Errorf("asked: %v, done: %v", asked, err)
			}
			var fields seckill.FieldErrors
			if errors.As(err, &fields) {
				err = &seckill.Refusal{Code: "fields"}
			}
			if codeOf(t, err) != c.code {
				t.Fatalf("%v, want %q", err, c.code)
			}
			if err != nil || c.old == nil {
				return
			}
			for _, item := range got.Items {
				if item.ID == 0 {
					t.Errorf("item %s has lost its id", item.SKU)
				}
			}
		})
	}
}

func TestOffice_Publish(t *testing.T) {
	isOpen := inventory.Numbers{Epoch: 1}
	for _, c := range []struct {
		name   string
		state  seckill.ActivityState
		ways   []int
		shards inventory.Numbers
		code   seckill.Code
		within time.Duration
	}{
		{"the units arrive", seckill.ActivityDraft, []int{3, 2, 0}, isOpen, "", time.Second},
		{"again", seckill.ActivityPublished, []int{0}, isOpen, "", 0},
		{"again, while units are on their way", seckill.ActivityPublished, []int{1, 0}, isOpen, "", time.Second},
		{"the units don't arrive", seckill.ActivityDraft, []int{3}, isOpen, seckill.CodeUnavailable, publishWait},
		{"the shards were never opened", seckill.ActivityDraft, []int{0}, inventory.Numbers{}, seckill.CodeUnavailable, publishWait},
		{"a shard is closed", seckill.ActivityDraft, []int{0}, inventory.Numbers{Epoch: 1, Closed: true}, seckill.CodeUnavailable, publishWait},
		{"another epoch than this process follows", seckill.ActivityDraft, []int{0}, inventory.Numbers{Epoch: 2}, seckill.CodeUnavailable, publishWait},
		{"an ended one", seckill.ActivityEnded, nil, isOpen, seckill.CodeActivityState, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stock := &stubStock{shards: make(map[inventory.ShardID]inventory.Numbers)}
				for shard := range inventory.ShardID(seckill.DefaultConfig().Shards) {
					stock.shards[shard] = c.shards
				}
				o, store := openOffice(t, stock, testItems(1, 1))
				a := *store.activity
				a.State = c.state
				store.activity, store.unpublished = &a, c.ways
				began := time.Now()
				_, err := o.Publish(t.Context(), "a", seckill.Author{})
				if codeOf(t, err) != c.code || time.Since(began) > c.within {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				if err == nil && store.activity.State != seckill.ActivityPublished {
					t.Error("it is not published")
				}
			})
		})
	}
}

func TestOffice_EndAsksWhereItMaySell(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name  string
		state seckill.ActivityState
		ends  time.Time
		asks  bool
	}{
		{"published", seckill.ActivityPublished, now.Add(time.Hour), true},
		{"paused", seckill.ActivityPaused, now.Add(time.Hour), true},
		{"a draft", seckill.ActivityDraft, now.Add(time.Hour), false},
		{"published, and over", seckill.ActivityPublished, now.Add(-time.Second), false},
		{"ended", seckill.ActivityEnded, now.Add(time.Hour), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, store := openOffice(t, &stubStock{}, testItems(1, 1))
			a := *store.activity
			a.State, a.EndsAt = c.state, c.ends
			store.activity = &a
			_, err := o.End(t.Context(), "a", false, seckill.Author{})
			if fields, ok := errors.AsType[seckill.FieldErrors](err); ok != c.asks || ok && fields[0].Field != "confirm" || !ok && err != nil {
				t.Fatalf("without confirm: %v", err)
			}
			if c.asks && store.activity.State != c.state {
				t.Errorf("unconfirmed, it is %s", store.activity.State)
			}
			if _, err := o.End(t.Context(), "a", true, seckill.Author{}); err != nil || store.activity.State != seckill.ActivityEnded {
				t.Errorf("confirmed: %v, %s", err, store.activity.State)
			}
		})
	}
}

func TestOffice_States(t *testing.T) {
	o, store := openOffice(t, &stubStock{}, testItems(1, 1))
	end := func(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error) {
		return o.End(ctx, id, true, by)
	}
	for _, step := range []struct {
		name string
		move func(context.Context, seckill.ActivityID, seckill.Author) (*seckill.Activity, error)
		want seckill.ActivityState
		code seckill.Code
	}{
		{"resume a published one", o.Resume, seckill.ActivityPublished, ""},
		{"pause", o.Pause, seckill.ActivityPaused, ""},
		{"pause again", o.Pause, seckill.ActivityPaused, ""},
		{"resume", o.Resume, seckill.ActivityPublished, ""},
		{"end", end, seckill.ActivityEnded, ""},
		{"end again", end, seckill.ActivityEnded, ""},
		{"resume an ended one", o.Resume, seckill.ActivityEnded, seckill.CodeActivityState},
	} {
		_, err := step.move(t.Context(), "a", seckill.Author{})
		if codeOf(t, err) != step.code || store.activity.State != step.want {
			t.Errorf("%s: %v, %s", step.name, err, store.activity.State)
		}
	}
	if store.activity.EndedAt.IsZero() {
		t.Error("when it ended is not written")
	}
}

// stalledStock never answers about a hold.
type stalledStock struct{ *stubStock }

func (s stalledStock) Find(ctx context.Context, _ inventory.Ref, _ inventory.ItemID, _ string) (inventory.Entry, error) {
	<-ctx.Done()
	return inventory.Entry{}, ctx.Err()
}

// TestOffice_OrderDetails_DontWaitForTheStock: a person asks about an order while its shard is
// rebuilt, and the row has all that matters.
func TestOffice_OrderDetails_DontWaitForTheStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := &stubStock{}
		o, _ := openOffice(t, stock, testItems(1, 1))
		o.stock = stalledStock{stock}
		order := seckill.Order{State: seckill.OrderPaid, EndedAt: time.Now()}
		known, seen := o.told(t.Context(), &order, &seckill.OrderTrail{})
		if len(known) != 1 || known[0].Name != StepSettle || len(seen) != 0 {
			t.Errorf("known %+v, seen %+v", known, seen)
		}
	})
}

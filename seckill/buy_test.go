package seckill

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"penstock/inventory"
)

// counter is a stock and a queue that answer at once, or, where keep is set, keep what they were given.
type counter struct {
	Stock
	Queue
	found   inventory.Entry // what Find answers
	soldOut bool
	absent  bool
	keep    bool
	seq     uint64
	values  [][]byte
	dones   []func(error)
}

func (c *counter) Hold(context.Context, inventory.Ref, inventory.Hold, int) (inventory.Grant, error) {
	c.seq++
	return inventory.Grant{Verdict: inventory.Held, Seq: c.seq}, nil
}
func (c *counter) Find(context.Context, inventory.Ref, string) (inventory.Entry, error) {
	return c.found, nil
}
func (c *counter) SoldOut(inventory.Ref, string) bool           { return c.soldOut }
func (c *counter) Absent(inventory.Ref, string, time.Time) bool { return c.absent }
func (c *counter) Reserve() error                               { return nil }
func (c *counter) Put(_ OrderID, value []byte, done func(error)) {
	if c.keep {
		c.values, c.dones = append(c.values, value), append(c.dones, done)
		return
	}
	done(nil)
}

// noStore is never asked.
type noStore struct{ Store }

// deskOn returns a desk with one activity on sale, and what a buyer of it wants.
func deskOn(t testing.TB, c *counter) (*Desk, *Purchase) {
	t.Helper()
	return deskWith(t, c, noStore{})
}

// deskWith is deskOn with a store of the test's own.
func deskWith(t testing.TB, c *counter, store Store) (*Desk, *Purchase) {
	t.Helper()
	d, err := NewDesk(DefaultConfig(), c, c, store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	now := time.Now()
	item := Item{ID: 1, SKU: "x", Price: Money{100, "CNY"}, Quantity: 1_000_000, PerUser: 2, Epoch: 1}
	d.catalog.Store(NewCatalog(&CatalogData{
		Version: 1, Merchants: []Merchant{{ID: "m"}}, Callers: []Caller{{CallerRef: CallerRef{"m", "app"}, Rights: RightBuy}},
		Activities: []Activity{{
			ID: "a", Merchant: "m", State: ActivityPublished, StartsAt: now.Add(-time.Hour), EndsAt: now.Add(time.Hour), Items: []Item{item},
		}},
	}, nil, now))
	caller := &Caller{CallerRef: CallerRef{"m", "app"}, Rights: RightBuy}
	return d, &Purchase{Caller: caller, Activity: "a", SKU: "x", User: "u-1", Key: "k-1", Quantity: 1, Arrived: now}
}

// The bytes of a record are the queue's until it is done with them, also when the buyer has long been answered; and what becomes of
// them then is nobody else's answer.
func TestBuy_LateRecordIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{keep: true}
		d, p := deskOn(t, c)
		var unknown *Unknown
		if _, err := d.Buy(t.Context(), p); !errors.As(err, &unknown) {
			t.Fatalf("no acknowledgement within the accept deadline: %v", err)
		}
		first := string(c.values[0])
		for _, key := range []string{"k-2", "k-3"} {
			p.Key, p.Arrived = key, time.Now()
			bought := make(chan error)
			go func() {
				_, err := d.Buy(t.Context(), p)
				bought <- err
			}()
			synctest.Wait()
			if key == "k-2" {
				c.dones[0](errors.New("late")) // of k-1
			}
			synctest.Wait()
			select {
			case err := <-bought:
				t.Fatalf("%s was answered without an acknowledgement: %v", key, err)
			default:
			}
			c.dones[len(c.dones)-1](nil)
			if err := <-bought; err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		if string(c.values[0]) != first {
			t.Error("the queue's record was written over")
		}
		for i, value := range c.values {
			if r, err := ParseRecord(value); i != 1 && (err != nil || r.Item() != 1) { // that of k-2 served k-3
				t.Errorf("record %d: %+v, %v", i, r, err)
			}
		}
	})
}

// A caller's end comes before the accept deadline, and the deadline before a later end.
func TestBuy_EndsWithItsContext(t *testing.T) {
	for _, ends := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d, p := deskOn(t, &counter{keep: true})
			ctx, cancel := context.WithTimeout(t.Context(), ends)
			defer cancel()
			began := time.Now()
			var unknown *Unknown
			if _, err := d.Buy(ctx, p); !errors.As(err, &unknown) {
				t.Error(err)
			}
			if took, want := time.Since(began), min(ends, d.cfg.AcceptDeadline); took != want {
				t.Errorf("answered after %v, want %v", took, want)
			}
		})
	}
}

// What Refuses says, Buy keeps: it does so without I/O, and only where Buy refuses.
func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		stock counter
		wish  func(*Purchase)
		want  bool
		code  Code // of Buy, where want
	}{
		{"on sale", counter{}, func(*Purchase) {}, false, ""},
		{"sold out", counter{soldOut: true}, func(*Purchase) {}, true, CodeSoldOut},
		{"not started", counter{absent: true}, func(p *Purchase) { p.Arrived = p.Arrived.Add(-2 * time.Hour) }, true, CodeNotStarted},
		{"ended", counter{absent: true}, func(p *Purchase) { p.Arrived = p.Arrived.Add(2 * time.Hour) }, true, CodeEnded},
		{"ended, with an order perhaps", counter{soldOut: true}, func(p *Purchase) { p.Arrived = p.Arrived.Add(2 * time.Hour) }, false, ""},
		{"of another merchant", counter{soldOut: true}, func(p *Purchase) { p.Caller = &Caller{CallerRef: CallerRef{"m2", "app"}} }, false, ""},
		{"unknown activity", counter{soldOut: true}, func(p *Purchase) { p.Activity = "b" }, false, ""},
		{"unknown SKU", counter{soldOut: true}, func(p *Purchase) { p.SKU = "y" }, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, p := deskOn(t, &c.stock)
			c.wish(p)
			if got := d.Refuses(p); got != c.want {
				t.Fatalf("%v, want %v", got, c.want)
			}
			if !c.want {
				return
			}
			var refusal *Refusal
			if _, err := d.Buy(t.Context(), p); !errors.As(err, &refusal) || refusal.Code != c.code {
				t.Errorf("Buy says %v, want %s", err, c.code)
			}
		})
	}
}

// BenchmarkBuy is what the desk itself costs, on a stock and a queue that answer at once.
func BenchmarkBuy(b *testing.B) {
	for _, soldOut := range []bool{true, false} {
		name := map[bool]string{true: "refused", false: "accepted"}[soldOut]
		b.Run(name, func(b *testing.B) {
			d, p := deskOn(b, &counter{soldOut: soldOut})
			b.ReportAllocs()
			for wish := *p; b.Loop(); {
				*p = wish
				p.Arrived = time.Now()
				if _, err := d.Buy(b.Context(), p); (err != nil) != soldOut {
					b.Fatal(err)
				}
			}
		})
	}
}

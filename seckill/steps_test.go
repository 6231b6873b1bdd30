package seckill

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func TestAppendSteps(t *testing.T) {
	t.Run("a step comes back with all that is announced of it", func(t *testing.T) {
		steps := testSteps(rand.New(rand.NewPCG(1, 2)), MaxSteps)
		got, err := ParseSteps(AppendSteps(nil, steps))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, steps) {
			t.Fatalf("got %+v\nwant %+v", got[:2], steps[:2])
		}
		events, err := AnnounceSteps(got)
		if err != nil {
			t.Fatal(err)
		}
		for i := range steps { // one by one, so that no step has a text of another
			want, err := AnnounceSteps(steps[i : i+1])
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(events[i], want[0]) {
				t.Fatalf("step %d is announced as %+v, want %+v", i, events[i], want[0])
			}
		}
	})
	t.Run("the steps of one batch take few bytes beyond their own names", func(t *testing.T) {
		steps := batchSteps(100)
		if size := len(AppendSteps(nil, steps)) / len(steps); size > 80 {
			t.Errorf("%d bytes a step", size)
		}
	})
	t.Run("what is damaged is an error", func(t *testing.T) {
		whole := AppendSteps(nil, testSteps(rand.New(rand.NewPCG(3, 4)), 5))
		for n := range whole {
			if _, err := ParseSteps(whole[:n]); err == nil {
				t.Fatalf("the first %d of %d bytes are taken", n, len(whole))
			}
		}
		if _, err := ParseSteps(append(whole, 0)); !errors.Is(err, ErrPage) {
			t.Errorf("a byte too many: %v", err)
		}
		if _, err := ParseSteps([]byte{stepsVersion + 1}); !errors.Is(err, ErrPageVersion) {
			t.Errorf("another version: %v", err)
		}
	})
}

// batchSteps returns steps of orders that one batch made.
func batchSteps(n int) []Step {
	steps := make([]Step, n)
	now := time.UnixMicro(1_700_000_000_000_000).UTC()
	for i := range steps {
		steps[i] = Step{Order: Order{
			ID: NewOrderID(7, CallerRef{"m", "c"}, "u", string(rune('a'+i))), User: "u-12345", Caller: CallerRef{Merchant: "m"}, Activity: "a", SKU: "s",
			Quantity: 1, Amount: Money{100, "CNY"}, State: OrderPending, CreatedAt: now, UpdatedAt: now, PayBy: now.Add(15 * time.Minute),
		}}
	}
	return steps
}

// What a worker does to announce an order, beside the servers: encode its step, decode it, and make
// its event.
func BenchmarkAnnounceSteps(b *testing.B) {
	steps := batchSteps(100)
	b.ReportAllocs()
	for b.Loop() {
		got, err := ParseSteps(AppendSteps(nil, steps))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := AnnounceSteps(got); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(steps)), "ns/order")
}

func FuzzParseSteps(f *testing.F) {
	f.Add(AppendSteps(nil, nil))
	f.Add(AppendSteps(nil, testSteps(rand.New(rand.NewPCG(5, 6)), 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		steps, err := ParseSteps(b)
		if err != nil {
			return
		}
		again, err := ParseSteps(AppendSteps(nil, steps))
		if err != nil || !reflect.DeepEqual(again, steps) {
			t.Fatalf("%+v comes back as %+v (%v)", steps, again, err)
		}
	})
}

// testSteps returns steps of all kinds.
func testSteps(random *rand.Rand, n int) []Step {
	steps := make([]Step, n)
	at := time.UnixMicro(1_800_000_000_123_456).UTC()
	for i := range steps {
		s := &steps[i]
		at = at.Add(time.Duration(random.IntN(2_000_000)-500_000) * time.Microsecond)
		s.ID = NewOrderID(1, CallerRef{"m1", "app"}, UserID(rune('a'+i%20)), "k")
		s.Caller.Merchant, s.Activity, s.SKU, s.User = MerchantID(rune('a'+i%3)), "a-1", SKU(rune('p'+i%5)), UserID("u-\u4e16"+string(rune('a'+i%20)))
		s.Quantity, s.Amount = 1+random.IntN(MaxQuantity), Money{random.Int64N(1 << 40), "CNY"}
		s.State = []OrderState{OrderPending, OrderPaid, OrderCancelled, OrderRejected}[random.IntN(4)]
		s.CreatedAt, s.UpdatedAt, s.PayBy = at.Add(-time.Hour), at, at.Add(time.Duration(random.IntN(7_200)-3_600)*time.Second)
		switch random.IntN(3) {
		case 0:
			s.Reason = ReasonBuyer
		case 1:
			s.Payment, s.Paid, s.Cause, s.Money = "pay-1", Money{random.Int64N(1 << 40), "CNY"}, CauseLate, PaymentStateDue
		}
	}
	return steps
}

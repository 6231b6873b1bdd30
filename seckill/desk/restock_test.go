package desk

import (
	"testing"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func TestOffice_Restock(t *testing.T) {
	const spread = 3
	shards := make([]inventory.ShardID, spread)
	for i := range shards {
		shards[i] = (inventory.Home(1, 16) + inventory.ShardID(i)) % 16
	}
	for _, c := range []struct {
		name      string
		state     seckill.ActivityState
		delta     int64
		available [spread]int
		earlier   map[int]inventory.Entry // holds of an earlier attempt, by shard
		found     *seckill.StockChange
		fails     error // of a hold call
		changed   error // of the store
		code      seckill.Code
		taken     map[int]int // from which shards
	}{
		{name: "more units", delta: 5},
		{name: "more units again", delta: 5, found: &seckill.StockChange{Item: 1, Key: "k", Delta: 5}},
		{name: "another number under the same key", delta: 6, found: &seckill.StockChange{Item: 1, Key: "k", Delta: 5}, code: seckill.CodeKeyReused},
		{name: "more units of an ended one", state: seckill.ActivityEnded, delta: 5, code: seckill.CodeActivityState},
		{name: "more units of a draft", state: seckill.ActivityDraft, delta: 5},
		{name: "fewer units of a draft", state: seckill.ActivityDraft, delta: -5, code: seckill.CodeActivityState},
		{name: "back from one shard", delta: -5, available: [3]int{5, 9, 2}, taken: map[int]int{1: 5}},
		{name: "back from as many as are needed", delta: -13, available: [3]int{5, 9, 2}, taken: map[int]int{1: 9, 0: 4}},
		{name: "all back", delta: -16, available: [3]int{5, 9, 2}, taken: map[int]int{0: 5, 1: 9, 2: 2}},
		{name: "more back than there are", delta: -17, available: [3]int{5, 9, 2}, code: seckill.CodeInsufficientStock},
		{name: "back from an ended one", state: seckill.ActivityEnded, delta: -5, available: [3]int{5, 9, 2}, taken: map[int]int{1: 5}},
		{name: "back from a draft", state: seckill.ActivityDraft, delta: -5, code: seckill.CodeActivityState},
		{name: "back again", delta: -5, found: &seckill.StockChange{Item: 1, Key: "k", Delta: -5}},
		{
			name: "an earlier attempt holds a part", delta: -7, available: [3]int{9, 9, 9},
			earlier: map[int]inventory.Entry{2: {Hold: inventory.Hold{Quantity: 4}, State: inventory.Fresh}}, taken: map[int]int{2: 4, 0: 3},
		},
		{
			name: "an earlier attempt holds it all", delta: -7,
			earlier: map[int]inventory.Entry{2: {Hold: inventory.Hold{Quantity: 7}, State: inventory.Ordered}}, taken: map[int]int{2: 7},
		},
		{
			name: "an earlier attempt for more", delta: -3,
			earlier: map[int]inventory.Entry{2: {Hold: inventory.Hold{Quantity: 4}, State: inventory.Fresh}}, code: seckill.CodeKeyReused,
		},
		{
			name: "an earlier attempt is being undone", delta: -3, available: [3]int{9, 9, 9},
			earlier: map[int]inventory.Entry{2: {Hold: inventory.Hold{Quantity: 4}, State: inventory.Doomed}}, code: seckill.CodeUnavailable,
		},
		{name: "the shard is closed", delta: -5, available: [3]int{5, 9, 2}, fails: inventory.ErrClosed, code: seckill.CodeUnavailable},
		{name: "the hold is gone with its epoch", delta: -5, available: [3]int{5, 9, 2}, changed: seckill.ErrFenced, code: seckill.CodeUnavailable, taken: map[int]int{1: 5}},
		{name: "the store knows the key", delta: 5, changed: seckill.ErrKeyReused, code: seckill.CodeKeyReused},
	} {
		t.Run(c.name, func(t *testing.T) {
			stock := &stubStock{available: map[seckill.StockKey]int{}, holds: map[string]inventory.Entry{}}
			for i, shard := range shards {
				stock.available[seckill.StockKey{Item: 1, Shard: shard}] = c.available[i]
				if e, ok := c.earlier[i]; ok {
					stock.holds[seckill.NewWithdrawalID(1, shard, "k")] = e
				}
			}
			if c.fails != nil {
				stock.fails = func(inventory.ShardID) error { return c.fails }
			}
			o, store := openOffice(t, stock, testItems(1, spread))
			if c.state != "" {
				o.desk.install(t, c.state, testItems(1, spread))
			}
			store.found, store.changed = c.found, c.changed
			got, err := o.Restock(t.Context(), "a", "x01", "k", c.delta, seckill.Author{})
			if codeOf(t, err) != c.code {
				t.Fatalf("%+v, %v, want %q", got, err, c.code)
			}
			if err == nil && got.Replayed != (c.found != nil) {
				t.Errorf("%+v", got)
			}
			checkTaken(t, store, shards, c.taken)
		})
	}
}

func checkTaken(t *testing.T, store *officeStore, shards []inventory.ShardID, want map[int]int) {
	t.Helper()
	sum := int64(0)
	for _, taken := range store.taken {
		for i, shard := range shards {
			if shard == taken.Ref.Shard && want[i] != taken.Hold.Quantity {
				t.Errorf("%d units of shard %d, want %d", taken.Hold.Quantity, i, want[i])
			}
		}
		if taken.Ref.Epoch != 1 || taken.Hold.ID != seckill.NewWithdrawalID(1, taken.Ref.Shard, "k") || taken.Hold.Buyer != "" {
			t.Errorf("%+v", taken)
		}
		sum += int64(taken.Hold.Quantity)
	}
	if len(store.taken) != len(want) || len(want) > 0 && sum != -store.change.Delta {
		t.Errorf("taken %+v for %+v, want %v", store.taken, store.change, want)
	}
}

// Buyers may come between the look and the hold. That is a refusal only where one shard was asked.
func TestOffice_WithdrawalMeetsBuyers(t *testing.T) {
	for available, code := range map[int]seckill.Code{9: seckill.CodeInsufficientStock, 4: seckill.CodeUnavailable} {
		stock := &stubStock{available: map[seckill.StockKey]int{}, holds: map[string]inventory.Entry{}}
		for i := range inventory.ShardID(2) {
			stock.available[seckill.StockKey{Item: 1, Shard: inventory.Home(1, 16) + i}] = available
		}
		stock.verdict = func(inventory.Ref, int) inventory.Verdict { return inventory.SoldOut }
		o, store := openOffice(t, stock, testItems(1, 2))
		if _, err := o.Restock(t.Context(), "a", "x01", "k", -7, seckill.Author{}); codeOf(t, err) != code || store.taken != nil {
			t.Errorf("%d available on each: %v, want %q", available, err, code)
		}
	}
}

// TestL4_AWithdrawalThatEndedMeanwhile: an attempt with the same key ended after it was looked up,
// and before its holds were read.
func TestL4_AWithdrawalThatEndedMeanwhile(t *testing.T) {
	for name, hold := range map[string]inventory.Entry{
		"its hold is sold":       {Hold: inventory.Hold{Quantity: 3}, State: inventory.Sold},
		"its marker is gone too": {},
	} {
		stock := &stubStock{available: map[seckill.StockKey]int{}, holds: map[string]inventory.Entry{}}
		if hold.State != inventory.None {
			stock.holds[seckill.NewWithdrawalID(1, inventory.Home(1, 16), "k")] = hold
		}
		o, store := openOffice(t, stock, testItems(1, 1))
		store.late = &seckill.StockChange{Item: 1, Key: "k", Delta: -3}
		got, err := o.Restock(t.Context(), "a", "x01", "k", -3, seckill.Author{})
		if err != nil || !got.Replayed || store.taken != nil {
			t.Errorf("%s: %+v, %v, taken %v", name, got, err, store.taken)
		}
	}
}

package kafkatest

import (
	"testing"
	"time"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/seckill"
)

// betweenMovesNothing reads a range of time again, in parts of any size. Each record in the range
// comes once. None comes from outside it, and none that no worker has read. The books don't change,
// and neither do the worker's records.
func betweenMovesNothing(t *testing.T, cfg kafka.Config) {
	books := new(Books)
	q := Open(t, cfg, books)
	ctx := Context(t)
	moment := func() time.Time { // a new millisecond, because brokers keep times in milliseconds
		before := time.Now().Add(2 * time.Millisecond)
		for time.Now().Before(before) {
			Mark(t, q)
		}
		at := time.Now().Truncate(time.Millisecond)
		for !time.Now().After(at.Add(2 * time.Millisecond)) {
			Mark(t, q)
		}
		return at.Add(time.Millisecond)
	}
	Produce(t, q, 0, 20)
	from := moment()
	Produce(t, q, 20, 70)
	to := moment()
	Produce(t, q, 70, 80)
	if seen := ConsumeUntil(t, q, books, Mark(t, q)); len(seen) != 80 {
		t.Fatalf("%d records came", len(seen))
	}
	Produce(t, q, 80, 90) // no worker has them
	before := books.Now()
	for name, c := range map[string]struct {
		from, to time.Time
		want     [2]int // numbers of records
	}{
		"a stretch": {from, to, [2]int{20, 70}}, "all that was read": {from.Add(-time.Hour), to.Add(time.Hour), [2]int{0, 80}},
		"nothing": {to.Add(time.Hour), to.Add(2 * time.Hour), [2]int{}}, "an empty one": {from, from, [2]int{}},
	} {
		seen := make(map[string]int)
		s := seckill.Stretch{From: c.from, To: c.to, Most: 7}
		for parts := 0; ; parts++ {
			messages, next, err := q.Between(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			if len(messages) > s.Most || parts > 500 {
				t.Fatalf("%s: %d records in part %d", name, len(messages), parts)
			}
			for _, m := range messages {
				seen[KeyOf(m)]++
			}
			if next == nil {
				break
			}
			s.After = *next
		}
		for n := range 90 {
			want := 0
			if n >= c.want[0] && n < c.want[1] {
				want = 1
			}
			if got := seen[Key(n)]; got != want {
				t.Errorf("%s: record %d was read %d times, want %d", name, n, got, want)
			}
		}
	}
	for i, at := range books.Now() {
		if at != before[i] {
			t.Errorf("the books have moved from %+v to %+v", before[i], at)
		}
	}
	if seen := ConsumeUntil(t, q, books, Mark(t, q)); len(seen) != 10 {
		t.Errorf("%d records come to the worker afterwards, want the 10 that it had not read", len(seen))
	}
}

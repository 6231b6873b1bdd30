package kafka

import (
	"log/slog"
	"testing"
	"time"
)

// TestQueue_SharesAgainWhenAllAreWell makes one partition of three sick, several times.
func TestQueue_SharesAgainWhenAllAreWell(t *testing.T) {
	q := &Queue{cfg: Config{Logger: slog.New(slog.DiscardHandler), StallAfter: time.Second}}
	q.shared.q = q
	lanes := []*lane{newLane(q, 0), newLane(q, 1), newLane(q, 2)}
	for _, l := range lanes {
		l.isDown.Store(false)
	}
	now := time.Hour
	apart := func(after time.Duration) bool {
		now += after
		q.share(now, lanes)
		return q.apart.Load()
	}
	q.split(new(sender))
	for step, want := range []struct {
		after time.Duration
		sick  bool
		apart bool
	}{
		{0, true, true},
		{time.Hour, true, true},
		{0, false, true},
		{firstCalm - 1, false, true},
		{0, true, true}, // sick again: the time before doesn't count
		{0, false, true},
		{firstCalm, false, false},
	} {
		lanes[1].isDown.Store(want.sick)
		if got := apart(want.after); got != want.apart {
			t.Fatalf("step %d: apart is %v", step, got)
		}
	}
	q.split(new(sender)) // soon after: it takes twice as long
	if !apart(time.Second) || !apart(firstCalm) || apart(firstCalm) {
		t.Error("the second time is as short as the first, or longer than twice")
	}
	if got := q.Stats().Splits; got != 2 {
		t.Errorf("%d splits", got)
	}
}

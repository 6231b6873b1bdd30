package node

import (
	"testing"

	"github.com/penstock/penstock/limiter"
)

// TestStage_FindsWhatIsBad: it counts for the given time, from the beginning of the trial, and
// doesn't judge by a few purchases.
func TestStage_FindsWhatIsBad(t *testing.T) {
	var s stage
	count := s.try(&limiter.Staged{ID: "s1", MaxRefused: 10, Seconds: 3})
	second := func(asked, refused int64) bool {
		count.Asked.Add(asked)
		count.Refused.Add(refused)
		return s.second()
	}
	for i, c := range []struct {
		asked, refused int64
		bad            bool
	}{
		{leastTried - 1, leastTried - 1, false}, // too few
		{1000, 0, false},
		{0, 0, false}, {0, 0, false}, {0, 0, false}, // nobody comes
		{100, 10, false}, // the bound itself
		{100, 10, false},
		{100, 11, true},
	} {
		if bad := second(c.asked, c.refused); bad != c.bad {
			t.Fatalf("second %d: %v", i, bad)
		}
	}
	if s.bad() != "s1" || s.toTakeBack() != "s1" {
		t.Errorf("bad is %q, to be taken back %q", s.bad(), s.toTakeBack())
	}
	if want := "taken back: 31 of 300 purchases were refused within 3 s, which is above 10 %"; s.reason() != want {
		t.Errorf("%s, want %s", s.reason(), want)
	}
	if other := s.try(&limiter.Staged{ID: "s1", MaxRefused: 10, Seconds: 3}); other != count {
		t.Error("the same change is counted anew where it is applied again")
	}
	s.try(&limiter.Staged{ID: "s2", MaxRefused: 0, Seconds: 600})
	for range 700 {
		if s.second() {
			t.Fatal("a change that nobody met is bad")
		}
	}
	if len(s.seen) > 601 {
		t.Errorf("%d seconds are kept", len(s.seen))
	}
	if s.try(nil); s.second() || s.counts != nil {
		t.Error("it goes on counting when nothing is tried")
	}
}

package limiter

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// repeat is n, count times.
func repeat(n uint32, count int) []uint32 {
	out := make([]uint32, count)
	for i := range out {
		out[i] = n
	}
	return out
}

// TestPreviewOf: it refuses the purchases for which the buckets would have had no tokens, by policy
// and by caller.
func TestPreviewOf(t *testing.T) {
	series := []Series{{"m1", "web", repeat(500, 100)}, {"m1", "app", repeat(10, 100)}, {"m2", "web", repeat(300, 100)}}
	doc := enforced(
		Policy{Key: Caller, Rate: 400, Burst: 400},
		Policy{Name: "m1", Key: Merchant, Match: "m1", Rate: 405, Burst: 405},
		Policy{Key: Global, Rate: 500, Burst: 500},
		Policy{Key: User, Rate: 1, Burst: 1},
	)
	p := PreviewOf(&doc, series)
	if p.Asked != 81_000 || fmt.Sprint(p.Unseen) != "[user]" {
		t.Errorf("asked %d, unseen %v", p.Asked, p.Unseen)
	}
	// 410 of m1, and a burst, come to its 405; 705 of both, and two bursts, come to 500.
	for i, want := range []uint64{100*100 - 400, 5*100 + 400 - 405, 205*100 + 405 - 500} {
		if got := p.Policies[i].Refused; float64(got) < 0.95*float64(want) || float64(got) > 1.05*float64(want)+50 {
			t.Errorf("%s would have refused %d, want about %d", p.Policies[i].Policy.Name, got, want)
		}
	}
	if c := p.Callers[0]; c.Merchant != "m1" || c.Caller != "web" || c.Policy != "global" && c.Policy != "caller" {
		t.Errorf("most refused: %+v", c)
	}
	sum := uint64(0)
	for _, c := range p.Callers {
		sum += c.Refused
		if c.Merchant == "m2" && c.Refused > 300*100-240*100 {
			t.Errorf("m2 would be refused %d, though its share is 250", c.Refused)
		}
	}
	if sum != p.Refused {
		t.Errorf("callers' refusals are %d together, %d in all", sum, p.Refused)
	}
	shadow := enforced(Policy{Key: Caller, Rate: 400, Burst: 400, Mode: Shadow})
	if p := PreviewOf(&shadow, series); p.Refused != 0 || p.Policies[0].Refused == 0 {
		t.Errorf("in shadow: %+v", p)
	}
	if p := PreviewOf(&Document{}, nil); p.Asked != 0 || p.Refused != 0 {
		t.Errorf("of nothing: %+v", p)
	}
}

// TestHistory: it returns counts by second. Counts older than its span are dropped, and the number
// of callers is bounded.
func TestHistory(t *testing.T) {
	h := NewHistory(at(0))
	for i := range 10 {
		h.Count("m", "web", at(time.Duration(i)*100*time.Millisecond))
	}
	h.Count("m", "web", at(2500*time.Millisecond))
	s := h.Series(at(3 * time.Second))
	if len(s) != 1 || len(s[0].Counts) != historySeconds {
		t.Fatalf("%d series", len(s))
	}
	if tail := s[0].Counts[historySeconds-4:]; fmt.Sprint(tail) != "[0 10 0 1]" {
		t.Errorf("the last four seconds: %v", tail)
	}
	if s := h.Series(at(3*time.Second + HistorySpan)); len(s) != 0 {
		t.Errorf("a quarter of an hour later: %d series", len(s))
	}
	for i := range 100_000 {
		h.Count("m", fmt.Sprint("invented", i), at(4*time.Second))
	}
	if n := len(*h.rows.Load()); n != maxHistories {
		t.Errorf("%d callers are kept", n)
	}
	if n := testing.AllocsPerRun(100, func() { h.Count("m", "web", at(5*time.Second)) }); n != 0 {
		t.Errorf("Count allocates %v times", n)
	}
}

// TestMergeSeries adds up the counts of two nodes. One of them reported three seconds ago.
func TestMergeSeries(t *testing.T) {
	got := MergeSeries([][]Series{
		{{"m", "web", repeat(1, historySeconds)}}, {{"m", "web", repeat(2, historySeconds)}, {"m", "app", repeat(5, historySeconds)}},
	}, []int{0, 3})
	if len(got) != 2 {
		t.Fatalf("%d series", len(got))
	}
	if c := got[0].Counts; c[0] != 3 || c[historySeconds-4] != 3 || c[historySeconds-3] != 1 || c[historySeconds-1] != 1 {
		t.Errorf("%v … %v", c[0], c[historySeconds-4:])
	}
}

// TestPreview_BeginsAndEndsWithinSeconds: what a bucket gains in a second counts only as far as
// purchases come in it. 100 a second come for 9.4 s, of which half a second is in the first one.
func TestPreview_BeginsAndEndsWithinSeconds(t *testing.T) {
	counts := append(append([]uint32{0, 0, 50}, repeat(100, 8)...), 90, 0, 0)
	doc := enforced(Policy{Key: Caller, Rate: 80, Burst: 80}, Policy{Key: Merchant, Rate: 70, Burst: 70}, Policy{Key: Global, Rate: 60, Burst: 60})
	p := PreviewOf(&doc, []Series{{"m", "c", counts}})
	for i, want := range []float64{100*9.4 - 80 - 80*9.4, 80*9.4 + 80 - 70 - 70*9.4, 70*9.4 + 70 - 60 - 60*9.4} {
		if got := float64(p.Policies[i].Refused); math.Abs(got-want) > 5 {
			t.Errorf("%s would have refused %.0f, want %.0f", p.Policies[i].Policy.Name, got, want)
		}
	}
}

// TestPreview_OfCosts: a purchase takes the policy's cost of one unit. A policy without a bucket,
// or with free purchases, is not previewed; one with units, a quota or a concurrency not in full.
func TestPreview_OfCosts(t *testing.T) {
	counts := make([]uint32, 100)
	for i := range counts {
		counts[i] = 10
	}
	doc := enforced(
		Policy{Key: Caller, Rate: 10, Burst: 10, Cost: &Cost{Purchase: 1, Unit: 3}}, Policy{Key: Merchant, Concurrency: 1},
		Policy{Key: Global, Rate: 1, Burst: 1, Cost: &Cost{Page: 1}},
	)
	p := PreviewOf(&doc, []Series{{"m", "c", counts}})
	if p.Asked != 1000 || p.Refused < 745 || p.Refused > 750 || len(p.Policies) != 1 || !slices.Equal(p.Unseen, []string{"caller", "merchant", "global"}) {
		t.Errorf("%+v", p)
	}
	more := enforced(
		Policy{Key: Caller, Rate: 10, Burst: 10, Quota: 100}, Policy{Key: Merchant, Rate: 10, Burst: 10, Concurrency: 1},
		Policy{Key: Global, Rate: 10, Burst: 10, Mode: Off, Concurrency: 1},
	)
	if p := PreviewOf(&more, nil); len(p.Policies) != 3 || !slices.Equal(p.Unseen, []string{"caller", "merchant"}) {
		t.Errorf("%+v", p)
	}
}

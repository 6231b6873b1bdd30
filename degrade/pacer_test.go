package degrade

import (
	"sync"
	"testing"
	"time"
)

// TestPacer: a burst is sent at once, then one refusal per interval. None waits longer than the
// longest wait.
func TestPacer(t *testing.T) {
	p := NewPacer(1000, time.Second)
	now := 5 * time.Hour
	for i := range 101 {
		if wait := p.Wait(now); wait != 0 {
			t.Fatalf("refusal %d of the burst waits %v", i, wait)
		}
	}
	for i := range 1000 {
		if wait, want := p.Wait(now), time.Duration(i+1)*time.Millisecond; wait != want {
			t.Fatalf("refusal %d behind the burst waits %v, want %v", i, wait, want)
		}
	}
	for range 10_000 {
		if wait := p.Wait(now); wait != time.Second {
			t.Fatalf("a refusal of a flood waits %v", wait)
		}
	}
	// The flood took no turns: half a second later, half of the turns are over.
	if wait, want := p.Wait(now+500*time.Millisecond), 500*time.Millisecond; wait != want {
		t.Errorf("half a second later: %v, want %v", wait, want)
	}
	if wait := p.Wait(now + time.Minute); wait != 0 {
		t.Errorf("a minute later: %v", wait)
	}
}

// TestPacer_Concurrently: each turn is taken once.
func TestPacer_Concurrently(t *testing.T) {
	p := NewPacer(1000, time.Hour)
	var mu sync.Mutex
	taken := make(map[time.Duration]int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				wait := p.Wait(0)
				mu.Lock()
				taken[wait]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for wait, n := range taken {
		if wait > 0 && n != 1 {
			t.Errorf("%d refusals wait %v", n, wait)
		}
	}
	if got, want := len(taken), 4000-100; got != want {
		t.Errorf("%d different waits, want %d", got, want)
	}
}

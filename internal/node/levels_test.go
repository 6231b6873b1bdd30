package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/seckill/desk"
)

func TestLineDelay(t *testing.T) {
	var l lineDelay
	now := time.Now()
	look := func(waiting int, taken uint64) time.Duration {
		now = now.Add(100 * time.Millisecond)
		return l.look(map[int]desk.LineStats{0: {Waiting: waiting, Taken: taken}}, now)
	}
	for i := range uint64(50) { // 10,000 per second, so that none waits
		if d := look(0, i*1000); d != 0 {
			t.Fatalf("nobody waits, for %v", d)
		}
	}
	taken := uint64(50_000)
	if d := look(2000, taken); d != 100*time.Millisecond {
		t.Errorf("just seen waiting, for %v", d)
	}
	for range 5 {
		taken += 1000
		look(2000, taken)
	}
	taken += 1000
	if d := look(2000, taken); d < 180*time.Millisecond || d > 260*time.Millisecond {
		t.Errorf("2,000 wait at 10,000 a second: %v", d)
	}
	for range 9 {
		look(2000, taken)
	}
	if d := look(2000, taken); d < time.Second {
		t.Errorf("the line stands for a second: %v", d)
	}
	if d := look(0, taken); d != 0 {
		t.Errorf("it is empty: %v", d)
	}
}

// A job of the lowest tier stops while a level holds it, goes on after that, and ends with its
// context.
func TestNode_HoldsJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{control: control{switches: degrade.NewController()}}
		ctx, cancel := context.WithCancel(t.Context())
		runs, running := 0, false
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			n.whileNotHeld(ctx, degrade.Other, func(ctx context.Context) {
				runs++
				running = true
				<-ctx.Done()
				running = false
			})
		}()
		at := func(l degrade.Level) {
			n.control.switches.Find(l, "a test")
			time.Sleep(time.Second) // synctest's clock
			synctest.Wait()
		}
		for _, step := range []struct {
			level degrade.Level
			runs  int
			on    bool
		}{{degrade.D0, 1, true}, {degrade.D1, 1, true}, {degrade.D2, 1, false}, {degrade.D3, 1, false}, {degrade.D0, 2, true}} {
			if at(step.level); runs != step.runs || running != step.on {
				t.Errorf("at %v: running %v, run %d times", step.level, running, runs)
			}
		}
		cancel()
		<-ended
		if running {
			t.Error("it outlives its context")
		}
	})
}

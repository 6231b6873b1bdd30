package wait

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !For(t.Context(), time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("waited %v, want a minute", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if For(ctx, time.Minute) {
			t.Error("a wait whose context ended says that it is over")
		}
	})
}

func TestBackoff_Next(t *testing.T) {
	b := Backoff{First: 20 * time.Millisecond, Longest: 100 * time.Millisecond}
	for i, longest := range []time.Duration{20, 40, 80, 100, 100} {
		longest *= time.Millisecond
		if d := b.Next(); d < longest/2 || d > longest {
			t.Errorf("pause %d is %v, want %v to %v", i, d, longest/2, longest)
		}
	}
	b.Reset()
	if d := b.Next(); d > 20*time.Millisecond {
		t.Errorf("the pause after Reset is %v", d)
	}
}

func TestForOrWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if ForOrWoken(t.Context(), time.Minute, nil) || time.Since(began) != time.Minute {
			t.Errorf("nothing wakes it, and it waited %v", time.Since(began))
		}
		c := make(chan struct{}, 1)
		c <- struct{}{}
		if !ForOrWoken(t.Context(), time.Minute, c) || time.Since(began) != time.Minute {
			t.Errorf("a value didn't wake it at once")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if ForOrWoken(ctx, time.Minute, c) || time.Since(began) != time.Minute+time.Second {
			t.Errorf("it outlived its context: %v", time.Since(began))
		}
	})
}

func TestWoken(t *testing.T) {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	if !Woken(t.Context(), c) {
		t.Error("not woken by a value")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Woken(ctx, c) {
		t.Error("woken by the end of its context")
	}
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Calls
		first, second := c.Enter(), c.Enter()
		if !first || !second {
			t.Fatal("an open one refuses calls")
		}
		closed := false
		go func() {
			if !c.Close() {
				t.Error("the first Close says that there was one before")
			}
			closed = true
		}()
		synctest.Wait()
		if c.Enter() {
			t.Error("a call was let in after Close")
		}
		c.Leave()
		synctest.Wait()
		if closed {
			t.Error("Close did not wait for the second call")
		}
		c.Leave()
		synctest.Wait()
		if !closed {
			t.Error("Close still waits")
		}
		if c.Close() {
			t.Error("the second Close says that it is the first")
		}
	})
}

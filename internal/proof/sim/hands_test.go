package sim

import (
	"testing"
	"testing/synctest"
)

// TestHands: a hand that rests is used again, one that is busy is not waited for, and all are gone
// at the end.
func TestHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hands
		first, second := make(chan bool), make(chan bool)
		h.do(func() { <-first })
		h.do(func() { <-second })
		close(second)
		synctest.Wait()
		done := 0
		for range 3 {
			h.do(func() { done++ })
			synctest.Wait()
		}
		if done != 3 || len(h.idle) != 1 {
			t.Errorf("%d of 3 were done, and %d hands rest, want 1", done, len(h.idle))
		}
		close(first)
		synctest.Wait()
		h.end() // or the bubble would not end
	})
}

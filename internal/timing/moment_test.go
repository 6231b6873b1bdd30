package timing

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Moment
		if age, is := m.Age(); is || age != 0 {
			t.Error(age, is)
		}
		m.Set(time.Now())
		time.Sleep(time.Minute) // of the bubble's clock
		if age, is := m.Age(); !is || age != time.Minute {
			t.Error(age, is)
		}
		m.Set(time.Now().Add(time.Second))
		if age, is := m.Age(); !is || age != 0 {
			t.Error(age, is)
		}
		m.Clear()
		if age, is := m.Age(); is || age != 0 {
			t.Error(age, is)
		}
	})
}

// TestMomentIsMonotonic: a moment keeps the reading of the monotonic clock. A time without one has
// an age by the wall clock, which can be set.
func TestMomentIsMonotonic(t *testing.T) {
	var m Moment
	now := time.Now()
	m.Set(now)
	if at := *m.at.Load(); at != now {
		t.Errorf("%v was kept as %v", now, at)
	}
}

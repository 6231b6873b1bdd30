package gateway

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &requestContext{at: time.Now().Add(time.Second)}
		if at, ok := c.Deadline(); !ok || !at.Equal(c.at) || c.Err() != nil || c.inner != nil {
			t.Errorf("a fresh context: %v, %v, started %v", at, c.Err(), c.inner != nil)
		}
		before := runtime.NumGoroutine()
		child, cancel := context.WithTimeout(c, time.Hour)
		defer cancel()
		if n := runtime.NumGoroutine(); n != before {
			t.Errorf("deriving started %d goroutines", n-before)
		}
		if at, _ := child.Deadline(); !at.Equal(c.at) {
			t.Errorf("the child's deadline is %v", at)
		}
		began := time.Now()
		<-child.Done()
		if time.Since(began) != time.Second || !errors.Is(child.Err(), context.DeadlineExceeded) ||
			!errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("after %v: %v, %v", time.Since(began), child.Err(), c.Err())
		}
	})
}

func TestRequestContextEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waitedOn := &requestContext{at: time.Now().Add(time.Hour)}
		done := waitedOn.Done()
		waitedOn.end()
		<-done
		if !errors.Is(waitedOn.Err(), context.Canceled) {
			t.Error(waitedOn.Err())
		}
		kept := &requestContext{at: time.Now().Add(time.Hour)} // for example, by a batch
		kept.end()
		if !errors.Is(kept.Err(), context.Canceled) {
			t.Error(kept.Err())
		}
		<-kept.Done()
		late := &requestContext{at: time.Now()}
		if !errors.Is(late.Err(), context.DeadlineExceeded) {
			t.Error(late.Err())
		}
	})
}

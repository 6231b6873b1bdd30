package batch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// double is the call of most tests.
func double(_ context.Context, in, out []int) error {
	for i, v := range in {
		out[i] = 2 * v
	}
	return nil
}

func TestDo_AnswersEachItemItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Config{Cap: 7, Queue: 1000, Timeout: time.Second}, double)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				if got, err := b.Do(t.Context(), i); err != nil || got != 2*i {
					t.Errorf("Do(%d) = %d, %v", i, got, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestDo_TakesBackWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var sent []int
		b, err := New(Config{Cap: 8, Queue: 8, Timeout: time.Hour}, func(ctx context.Context, in, out []int) error {
			sent = append(sent, in...)
			<-release
			return double(ctx, in, out)
		})
		if err != nil {
			t.Fatal(err)
		}
		go b.Do(t.Context(), 1)
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("gone")
		errc := make(chan error)
		go func() { _, err := b.Do(ctx, 2); errc <- err }()
		synctest.Wait()
		cancel(cause)
		got := <-errc
		if !errors.Is(got, cause) || !errors.Is(got, context.Canceled) || errors.Is(got, ErrAbandoned) {
			t.Fatalf("got %v", got)
		}
		close(release)
		b.Close()
		if len(sent) != 1 {
			t.Fatalf("sent %v", sent)
		}
	})
}

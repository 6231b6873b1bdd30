package batch

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// The benchmarks compare Do with a mutex around one call per item, for two kinds of calls. A call
// that costs nothing shows the cost of batching itself. A round trip over loopback TCP shows its
// gain.
//
//	go test -run='^$' -bench=. -count=10 ./internal/batch | benchstat -col /way -

var crowds = []int{1, 64, 1024}

func BenchmarkNoop(b *testing.B) {
	compare(b, func(context.Context, []int, []int) error { return nil })
}

func BenchmarkRoundTrip(b *testing.B) {
	compare(b, newEcho(b))
}

func compare(b *testing.B, call func(context.Context, []int, []int) error) {
	for _, crowd := range crowds {
		b.Run(fmt.Sprintf("way=mutex/callers=%d", crowd), func(b *testing.B) {
			var mu sync.Mutex
			in, out := make([]int, 1), make([]int, 1)
			crowded(b, crowd, func(ctx context.Context, v int) error {
				mu.Lock()
				defer mu.Unlock()
				in[0] = v
				return call(ctx, in, out)
			})
		})
		b.Run(fmt.Sprintf("way=batch/callers=%d", crowd), func(b *testing.B) {
			batcher, err := New(Config{Cap: 512, Queue: 2048, Timeout: time.Minute}, call)
			if err != nil {
				b.Fatal(err)
			}
			defer batcher.Close()
			crowded(b, crowd, func(ctx context.Context, v int) error {
				_, err := batcher.Do(ctx, v)
				return err
			})
			s := batcher.Stats()
			b.ReportMetric(float64(s.Items)/float64(s.Batches), "items/call")
		})
	}
}

// crowded runs do b.N times on crowd goroutines. Each has its own cancellable context, like a
// request.
func crowded(b *testing.B, crowd int, do func(ctx context.Context, v int) error) {
	b.ReportAllocs()
	var wg sync.WaitGroup
	for g := range crowd {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		wg.Go(func() {
			for i := g; i < b.N; i += crowd {
				if err := do(ctx, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// newEcho returns a call that sends its items to a server on loopback and reads them back.
func newEcho(b *testing.B) func(context.Context, []int, []int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(struct{ io.Writer }{c}, c) // until the client closes
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	var buf []byte
	return func(_ context.Context, in, out []int) error {
		buf = buf[:0]
		for _, v := range in {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
		}
		if _, err := c.Write(buf); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		for i := range out {
			out[i] = int(binary.LittleEndian.Uint64(buf[8*i:]))
		}
		return nil
	}
}

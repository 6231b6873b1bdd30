//go:build !linux

package loadtest

import "time"

// napFrom is from which pause on a napper isn't needed: where the runtime's timers are sharp, from
// none.
const napFrom = 0

// napper sleeps.
type napper struct{}

func newNapper() (*napper, error) { return new(napper), nil }

func (*napper) nap(d time.Duration) error {
	<-time.After(d)
	return nil
}

func (*napper) close() error { return nil }

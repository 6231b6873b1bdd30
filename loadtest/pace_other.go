//go:build !linux

package loadtest

import "time"

// napFrom is zero, because here the runtime's timers are exact enough for every pause.
const napFrom = 0

// napper sleeps.
type napper struct{}

func newNapper() (*napper, error) { return new(napper), nil }

func (*napper) nap(d time.Duration) error {
	<-time.After(d)
	return nil
}

func (*napper) close() error { return nil }

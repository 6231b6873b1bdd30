//go:build !unix

package node

import "time"

// processorTime can't be told here.
func processorTime() (used time.Duration, known bool) { return 0, false }

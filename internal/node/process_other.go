//go:build !unix

package node

import "time"

// processorTime is unknown on this system.
func processorTime() (used time.Duration, known bool) { return 0, false }

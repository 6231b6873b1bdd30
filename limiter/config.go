package limiter

import (
	"errors"
	"fmt"
)

// Config says for how many keys of each kind there is room at once. A key needs room only while its
// bucket isn't full. Further keys share one bucket per segment. That is too strict for them, never
// too loose, and it is counted. DefaultConfig gives the values for production.
type Config struct {
	// Users and IPs take 32 to 64 bytes each, in memory that isn't used before it is needed. A sale
	// may have a million users. They have fewer addresses, because many share one.
	Users int
	IPs   int
	// SKUs and Activities are how many may be on sale at once, 64 bytes each.
	SKUs       int
	Activities int
	// Merchants and Callers take 16 to 32 bytes each, and 250 bytes after their first request.
	// People register both, so the defaults are far above the real numbers.
	Merchants int
	Callers   int
	// QuotasOnly means that the node is alone, so the pool only counts its quotas.
	QuotasOnly bool
}

// maxKeys bounds each kind's room: 64 Mi keys take 2 to 4 GiB.
const maxKeys = 1 << 26

// DefaultConfig returns the values for production: at most 42 MiB, used as needed.
func DefaultConfig() Config {
	return Config{
		Users:      1_000_000,
		IPs:        250_000,
		SKUs:       32_768,
		Activities: 4_096,
		Merchants:  4_096,
		Callers:    16_384,
	}
}

// Validate checks the values.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name string
		n    int
	}{
		{"users", c.Users}, {"IPs", c.IPs}, {"SKUs", c.SKUs}, {"activities", c.Activities}, {"merchants", c.Merchants}, {"callers", c.Callers},
	} {
		if f.n < 1 || f.n > maxKeys {
			errs = append(errs, fmt.Errorf("limiter: room for %s must be from 1 to %d", f.name, maxKeys))
		}
	}
	return errors.Join(errs...)
}

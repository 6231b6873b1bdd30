package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Config configures the database's file and its durability. Open fills in the defaults.
type Config struct {
	// Path is the database file. Its directory must exist; beside it SQLite keeps Path-wal and
	// Path-shm.
	Path string

	// Existing makes Open refuse a file that has no database, with ErrMissing, instead of making
	// one, because other data that belongs to it exists.
	Existing bool

	// Shards is the installation's number of shards; 4 by default. It is fixed when the database is
	// made: Open refuses another number with seckill.ErrLayout.
	Shards int

	// Synchronous is "normal" (the default) or "full". With "normal" a commit is passed to the
	// operating system, and survives kill -9. With "full" it is on the disk, and survives power
	// loss, but each commit needs an fsync.
	Synchronous string

	// Readers is how many reads may run at once; 4 by default. Callers batch their reads, so more
	// readers would only use more memory for caches.
	Readers int

	// Events keeps every step of every order for RelayEvents; without it there are no order events.
	// Default false.
	Events bool

	// Now is the database's clock; time.Now by default. Times are kept in microseconds.
	Now func() time.Time

	// Connect, where it is not nil, replaces how the file's connections are opened: dsn says what
	// for, and own is the driver's way to open one. The simulator keeps connections for the next
	// store.
	Connect func(dsn string, own func(dsn string) (driver.Connector, error)) (driver.Connector, error)

	// Logger logs migrations. Default: none.
	Logger *slog.Logger
}

const (
	synchronousNormal = "normal"
	synchronousFull   = "full"

	defaultShards  = 4
	defaultReaders = 4
	maxReaders     = 64
)

// Validate returns all mistakes in the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Path == "" {
		errs = append(errs, errors.New("path: missing"))
	}
	switch c.Synchronous {
	case "", synchronousNormal, synchronousFull:
	default:
		errs = append(errs, fmt.Errorf("synchronous: %q is neither %q nor %q",
			c.Synchronous, synchronousNormal, synchronousFull))
	}
	if c.Shards < 0 || c.Shards > inventory.MaxShards {
		errs = append(errs, fmt.Errorf("shards: %d is not between 1 and %d", c.Shards, inventory.MaxShards))
	}
	if c.Readers < 0 || c.Readers > maxReaders {
		errs = append(errs, fmt.Errorf("readers: %d is not between 1 and %d", c.Readers, maxReaders))
	}
	return errors.Join(errs...)
}

// withDefaults returns the configuration with defaults for missing values.
func (c Config) withDefaults() Config {
	if c.Synchronous == "" {
		c.Synchronous = synchronousNormal
	}
	if c.Shards == 0 {
		c.Shards = defaultShards
	}
	if c.Readers == 0 {
		c.Readers = defaultReaders
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

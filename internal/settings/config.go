package settings

import (
	"errors"
	"fmt"
	"time"
)

// Config is the configuration of a watcher.
type Config struct {
	// Node names this process for people; a new process replaces a dead one of the same name.
	Node string
	// Enforces means that this process enforces the settings: it is a gateway.
	Enforces bool
	// Path is the file that keeps the documents that were last in force; "" keeps none.
	Path string
	// Poll is the longest time between two looks at the database. 200 ms by default: with the time
	// for the call and for applying it, a change is in force well within the promised second. Two
	// processes have different ticks, so nodes that started together don't ask at the same time.
	Poll time.Duration
	// Timeout bounds one look; 1 s by default.
	Timeout time.Duration
}

const (
	defaultPoll    = 200 * time.Millisecond
	maxPoll        = 250 * time.Millisecond
	defaultTimeout = time.Second
)

// Validate checks the values. Zero values stand for the defaults.
func (c Config) Validate() error {
	var errs []error
	if c.Node == "" {
		errs = append(errs, errors.New("settings: a node needs a name"))
	}
	if c.Poll < 0 || c.Poll > maxPoll {
		errs = append(errs, fmt.Errorf("settings: poll must be at most %v, so that a change is in force within a second", maxPoll))
	}
	if c.Timeout < 0 || c.Timeout > AliveFor {
		errs = append(errs, fmt.Errorf("settings: timeout must be at most %v, because a slow look must not make a node seem dead", AliveFor))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Poll == 0 {
		c.Poll = defaultPoll
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return c
}

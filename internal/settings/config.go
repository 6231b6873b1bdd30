package settings

import (
	"errors"
	"fmt"
	"time"
)

// Config is a watcher's.
type Config struct {
	// Node names this process for people; a new process of the same name takes the place of one
	// that died.
	Node string
	// Enforces means that this process enforces the settings: it is a gateway.
	Enforces bool
	// Path is the file that keeps the documents that were in force last; "" keeps none.
	Path string
	// Poll is the longest time between two looks at the database. 200 ms by default: with the call
	// itself and the application a change is in force well within the second that is promised. Each
	// look is spread by a fifth, so that nodes that started together don't ask together.
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
		errs = append(errs, fmt.Errorf("settings: poll must be at most %v, for a change to be in force within a second", maxPoll))
	}
	if c.Timeout < 0 || c.Timeout > AliveFor {
		errs = append(errs, fmt.Errorf("settings: timeout must be at most %v, or a slow look would pass for a dead node", AliveFor))
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

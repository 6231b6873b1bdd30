package degrade

import (
	"fmt"
	"strings"
	"time"
)

// Signals are a node's measurements of itself.
type Signals struct {
	QueueDelay time.Duration // how long a purchase waits in the line now
	Lag        int64         // records that no worker has committed yet; negative if unknown
	Open       []string      // breakers that are open or half-open
}

// AutomaticConfig says when a level is entered and left automatically. The zero value of a field
// means its default.
type AutomaticConfig struct {
	// QueueDelay has the delays at which D1, D2 and D3 are entered. Lag has thresholds for D1 and
	// D2 only: promises can wait in the queue, so slow workers or a missing database are no reason
	// to refuse buyers. An open breaker means D1: it already protects its dependency, and clients
	// should poll more slowly.
	QueueDelay [MaxAutomatic]time.Duration
	Lag        [D2]int64
	// Hold is how long a signal must last before a level is entered. Default 1 s: a crowd that can
	// be served within a second needs no level.
	Hold time.Duration
	// Dwell is the least time for which a level is kept, and for which the signals must stay below
	// the share Below of the level's threshold. Default 10 s. If a level is entered again within
	// the time Again, Dwell is doubled, up to MaxDwell. Defaults 1 min and 5 min.
	Dwell, Again, MaxDwell time.Duration
}

// leaveAt is the percentage of a level's threshold below which the level is left.
const leaveAt = 70

// DefaultAutomaticConfig returns the values for production.
func DefaultAutomaticConfig() AutomaticConfig {
	return AutomaticConfig{
		QueueDelay: [MaxAutomatic]time.Duration{100 * time.Millisecond, 250 * time.Millisecond, 450 * time.Millisecond},
		Lag:        [D2]int64{2_000, 10_000},
		Hold:       time.Second, Dwell: 10 * time.Second, Again: time.Minute, MaxDwell: 5 * time.Minute,
	}
}

// Automatic finds the level that a node's signals ask for, with hysteresis: it goes up at once, by
// as many levels as needed, and down one level at a time. It is used by one goroutine.
type Automatic struct {
	cfg AutomaticConfig

	level   Level
	since   time.Duration // when level was entered
	left    time.Duration // when a level was last left downwards; negative if that never happened
	dwell   time.Duration
	higher  Level         // the level that the signals have asked for since rising
	rising  time.Duration // negative if they don't ask for a higher level
	calm    time.Duration // since when the signals are low enough to leave the level; negative if they aren't
	reasons string
}

// NewAutomatic makes an Automatic at level D0.
func NewAutomatic(cfg AutomaticConfig) *Automatic {
	return &Automatic{cfg: cfg, left: -1, rising: -1, calm: -1, dwell: cfg.Dwell}
}

// Step takes the measurements at now, and returns the level with its reason. now is a time since a
// fixed moment.
func (a *Automatic) Step(s Signals, now time.Duration) (Level, string) {
	wants, why := a.cfg.level(s, 100)
	switch {
	case wants <= a.level:
		a.rising = -1
	case a.rising < 0:
		a.rising, a.higher = now, wants
	default:
		a.higher = min(a.higher, wants) // the level for which the signals have lasted the whole time
	}
	if a.rising >= 0 && now-a.rising >= a.cfg.Hold {
		a.enter(a.higher, why, now)
		return a.level, a.reasons
	}
	if low, _ := a.cfg.level(s, leaveAt); low >= a.level {
		a.calm = -1
	} else if a.calm < 0 {
		a.calm = now
	}
	if a.level > D0 && a.calm >= 0 && now-a.calm >= a.dwell && now-a.since >= a.dwell {
		a.level--
		a.since, a.left, a.calm = now, now, now
		if a.level == D0 {
			a.reasons = ""
		}
	}
	if a.level == D0 && a.left >= 0 && now-a.left > a.cfg.Again {
		a.dwell = a.cfg.Dwell
	}
	return a.level, a.reasons
}

func (a *Automatic) enter(l Level, why string, now time.Duration) {
	if a.left >= 0 && now-a.left <= a.cfg.Again {
		a.dwell = min(2*a.dwell, a.cfg.MaxDwell)
	}
	a.level, a.since, a.reasons, a.rising, a.calm = l, now, why, -1, -1
}

// level returns the level that the signals ask for, and which signals ask for it. Each threshold is
// taken at a share, in percent.
func (c *AutomaticConfig) level(s Signals, percent int64) (l Level, why string) {
	var reasons []string
	take := func(to Level, reason string) {
		if to == D0 {
			return
		}
		reasons = append(reasons, reason)
		l = max(l, to)
	}
	var byDelay, byLag Level
	for i := range MaxAutomatic {
		if int64(s.QueueDelay)*100 >= int64(c.QueueDelay[i])*percent {
			byDelay = i + 1
		}
	}
	for i := range D2 {
		if s.Lag*100 >= c.Lag[i]*percent {
			byLag = i + 1
		}
	}
	take(byDelay, "purchases wait for "+s.QueueDelay.Round(time.Millisecond).String())
	take(byLag, fmt.Sprintf("workers are %d records behind", s.Lag))
	if len(s.Open) > 0 {
		take(D1, "breakers are open: "+strings.Join(s.Open, ", "))
	}
	return l, strings.Join(reasons, "; ")
}

package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/seckill/desk"
)

// lookAtSignals is how often the level is computed.
const lookAtSignals = 100 * time.Millisecond

// findLevel sets the node's level by its own signals until ctx ends: a node with a problem degrades
// only its own traffic.
func (n *Node) findLevel(ctx context.Context) {
	automatic := degrade.NewAutomatic(degrade.DefaultAutomaticConfig())
	began := time.Now()
	var line lineDelay
	processor, selling := newShortage(), new(sellingSince)
	tick := wait.NewTicker(lookAtSignals)
	defer tick.Stop()
	var found degrade.Level
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			tick.Next()
			signals := degrade.Signals{
				QueueDelay: line.look(n.sale.Desk.Lines(), now), Lag: -1, Open: slices.Sorted(maps.Keys(n.breakers.disturbed())),
			}
			if lag := n.observed.knownLag(); lag != nil {
				signals.Lag = *lag
			}
			n.control.switches.Fit(signals.QueueDelay)
			if n.control.admission != nil {
				selling.look(n.sale.Desk.Lines(), now)
				n.control.admission.SetShort(processor.look() && selling.lately(now))
			}
			level, why := automatic.Step(signals, now.Sub(began))
			changed := n.control.switches.Find(level, why)
			if state := n.control.switches.Level(); level != found || changed {
				found = level
				n.log.Warn("degrade level", "level", state.Level.String(), "found", level.String(), "pinned", state.Pinned,
					"automatic", state.Mode.String(), "why", why)
			}
		}
	}
}

// sellingSince remembers when purchases were last taken from the lines. While nothing is sold,
// refusals don't take processor time from purchases.
type sellingSince struct {
	taken uint64
	at    time.Time
}

func (s *sellingSince) look(lines map[int]desk.LineStats, now time.Time) {
	taken := uint64(0)
	for _, line := range lines {
		taken += line.Taken
	}
	if taken != s.taken {
		s.taken, s.at = taken, now
	}
}

func (s *sellingSince) lately(now time.Time) bool { return now.Sub(s.at) < time.Second }

// lineDelay estimates how long purchases wait in the lines. It assumes that the waiting purchases
// will take as long as the same number took before (Little's law). The estimate is at least the
// time since the line last moved, and at most the longest measured wait.
type lineDelay struct {
	lanes map[int]laneDelay
}

type laneDelay struct {
	taken uint64
	moved time.Time // when it last served a purchase, or was empty
	busy  time.Time // since when a purchase has been waiting
	rate  float64   // purchases a second, smoothed
	at    time.Time
}

// look returns the longest delay of all lanes at now.
func (l *lineDelay) look(lines map[int]desk.LineStats, now time.Time) (longest time.Duration) {
	if l.lanes == nil {
		l.lanes = make(map[int]laneDelay)
	}
	for lane, s := range lines {
		longest = max(longest, l.lane(lane, &s, now))
	}
	return longest
}

func (l *lineDelay) lane(lane int, s *desk.LineStats, now time.Time) time.Duration {
	before, known := l.lanes[lane]
	next := laneDelay{taken: s.Taken, moved: before.moved, busy: before.busy, rate: before.rate, at: now}
	if !known || s.Waiting == 0 {
		next.busy = now
	}
	if !known || s.Waiting == 0 || s.Taken != before.taken {
		next.moved = now
	}
	if passed := now.Sub(before.at).Seconds(); known && passed > 0 {
		const weight = 0.3 // the weight of the newest look
		next.rate += weight * (float64(s.Taken-before.taken)/passed - next.rate)
	}
	l.lanes[lane] = next
	if s.Waiting == 0 {
		return 0
	}
	stalled := now.Sub(next.moved)
	if next.rate < 1 {
		return stalled
	}
	byRate := time.Duration(float64(s.Waiting) / next.rate * float64(time.Second))
	return max(stalled, min(byRate, now.Sub(next.busy)))
}

// whileNotHeld runs a job of a tier while the level allows it, until ctx ends.
func (n *Node) whileNotHeld(ctx context.Context, tier degrade.Tier, run func(context.Context)) {
	tick := wait.NewTicker(lookAtSignals)
	defer tick.Stop()
	var stop context.CancelFunc
	done := make(chan struct{})
	for {
		switch held := n.control.switches.Holds(tier); {
		case held && stop != nil:
			stop()
			<-done
			stop = nil
		case !held && stop == nil && ctx.Err() == nil:
			work, cancel := context.WithCancel(ctx)
			stop, done = cancel, make(chan struct{})
			go func(done chan struct{}) {
				defer close(done)
				run(work)
			}(done)
		}
		if !tick.Wait(ctx) {
			if stop != nil {
				stop()
				<-done
			}
			return
		}
	}
}

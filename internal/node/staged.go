package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/limiter"
)

// stage is the staged change of the limits that this gateway tries. The change and its bound are in
// the settings; only the counts of the last seconds are here.
type stage struct {
	mu      sync.Mutex
	tried   *limiter.Staged // nil if there is none; guarded by mu, like the fields below
	counts  *gateway.Trial
	seen    []trialCount // the counts at the end of each second, newest last
	refused string       // id of the change that was found bad here, and the reason
	why     string
	pending bool  // nobody has confirmed yet that it was taken back for all nodes
	takes   int64 // changes that this process has taken back
}

type trialCount struct{ asked, refused int64 }

// leastTried is how many purchases are needed before a change is judged: one refusal of two
// purchases means little.
const leastTried = 20

// try records which change is in force here from now on, and returns its counts.
func (s *stage) try(tried *limiter.Staged) *gateway.Trial {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case tried == nil:
		s.tried, s.counts, s.seen = nil, nil, nil
	case s.tried == nil || s.tried.ID != tried.ID:
		s.tried, s.counts, s.seen = tried, new(gateway.Trial), []trialCount{{}}
	}
	return s.counts
}

// bad is the id of the change that was found bad here; "" if there is none.
func (s *stage) bad() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// toTakeBack is the id of the change that must be taken back for all nodes; "" if there is none.
func (s *stage) toTakeBack() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pending {
		return ""
	}
	return s.refused
}

// refuse records that a change was found bad.
func (s *stage) refuse(id, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused, s.why, s.pending = id, why, true
}

// second checks the change's counts at the end of a second, and reports whether the change is bad.
func (s *stage) second() (bad bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried == nil {
		return false
	}
	now := trialCount{s.counts.Asked.Load(), s.counts.Refused.Load()}
	s.seen = append(s.seen, now)
	if over := len(s.seen) - 1 - s.tried.Seconds; over > 0 {
		s.seen = append(s.seen[:0], s.seen[over:]...)
	}
	asked, refused := now.asked-s.seen[0].asked, now.refused-s.seen[0].refused
	if asked < leastTried || 100*float64(refused) <= s.tried.MaxRefused*float64(asked) {
		return false
	}
	s.refused, s.pending = s.tried.ID, true
	s.why = fmt.Sprintf("taken back: %d of %d purchases were refused within %d s, which is above %g %%", refused, asked, len(s.seen)-1,
		s.tried.MaxRefused)
	return true
}

// watchStage checks the effect of a staged change on this node each second, until ctx ends. If the
// change is bad, this gateway returns to the former limits at once. Then it takes the change back
// for all nodes, as soon as the database answers.
func (n *Node) watchStage(ctx context.Context) {
	s := &n.control.stage
	for wait.ForTick(ctx, time.Second) {
		if s.second() {
			n.log.Error("staged limits refuse too much, the limits before are in force here again", "why", s.reason())
			n.control.watcher.Reapply(settings.Limits)
		}
		if id := s.toTakeBack(); id != "" {
			if err := n.takeBack(ctx, id); err != nil && ctx.Err() == nil {
				n.log.Warn("staged limits can't be taken back for all nodes yet", "err", err)
			}
		}
	}
}

func (s *stage) reason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// takeBack removes a staged change from the limits, if it is still there. If several nodes do that
// at the same time, one of them writes it.
func (n *Node) takeBack(ctx context.Context, id string) error {
	s := &n.control.stage
	for {
		stored, _, err := n.control.publisher.Store.FindSettings(ctx, settings.Limits)
		if err != nil {
			return err
		}
		var d limiter.Document
		if stored.Version > 0 {
			if err := json.Unmarshal(stored.Body, &d); err != nil {
				return fmt.Errorf("read version %d of the limits: %w", stored.Version, err)
			}
		}
		if d.Staged == nil || d.Staged.ID != id {
			s.mu.Lock()
			s.pending = false
			s.mu.Unlock()
			return nil
		}
		d.Staged = nil
		body, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("encode the limits: %w", err)
		}
		by := settings.Author{Actor: "penstock", Reason: n.control.reports.node + ": " + s.reason()}
		_, err = n.control.publisher.Publish(ctx, settings.Limits, stored.Version, body, by)
		if errors.Is(err, settings.ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.takes++
		s.mu.Unlock()
	}
}

// stats reports whether a change is tried here, and how many this process has taken back.
func (s *stage) stats() (tries, taken int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried != nil {
		tries = 1
	}
	return tries, s.takes
}

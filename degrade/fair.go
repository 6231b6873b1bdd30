package degrade

import (
	"maps"
	"strings"
	"sync/atomic"
	"time"
)

// When places are short, they are divided between merchants: a merchant that sends twenty times its
// share must not take places that others need.
//
// By its weight, a merchant may have up to spreadPlaces times as many places as are free (Choudhury
// and Hahne, Dynamic Queue Length Thresholds for Shared-Memory Packet Switches, 1998). So merchants
// that need few places get them, and all that want more get equal numbers, no matter how much they
// send. Some places stay free for a merchant that comes next. If fewer places were fitted than are
// taken now, a merchant may still have half of an even share. The method needs no list of
// merchants, only one count for each.

const (
	// spreadPlaces is the factor above. With it, a merchant that is alone gets 8/9 of the places
	// for new orders.
	spreadPlaces = 8
	// maxTenants bounds the merchants that are counted. Requests of other merchants are not counted
	// by merchant.
	maxTenants = 16_384
)

// tenant is a merchant that has places.
type tenant struct {
	weight int64 // fixed
	inside atomic.Int64
}

// places are the merchants' counts.
type places struct {
	tenants atomic.Pointer[map[string]*tenant]
	busy    atomic.Int64 // merchants that have places
	// fit is how many new orders the node can serve within fitDelay; 0 if that is no limit.
	fit  atomic.Int64
	slow int // how many looks in a row found a longer delay; used only by the goroutine that calls Fit
}

// Weigh sets the weights of merchants whose weight isn't 1. A merchant with requests in flight gets
// its new weight at its next request.
func (c *Controller) Weigh(weights map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if maps.Equal(c.weights, weights) {
		return
	}
	c.weights = maps.Clone(weights)
	c.places.tenants.Store(nil)
}

// tenant returns a merchant's count; nil if there is no room for one, or no merchant.
func (c *Controller) tenant(merchant string) *tenant {
	if known := c.places.tenants.Load(); known != nil {
		if t := (*known)[merchant]; t != nil {
			return t
		}
	}
	if merchant == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]*tenant)
	if known := c.places.tenants.Load(); known != nil {
		if t := (*known)[merchant]; t != nil {
			return t
		}
		if len(*known) >= maxTenants {
			return nil
		}
		maps.Copy(next, *known)
	}
	t := &tenant{weight: int64(max(c.weights[merchant], 1))}
	next[strings.Clone(merchant)] = t
	c.places.tenants.Store(&next)
	return t
}

// may takes one of the places for new orders for a merchant, if the merchant may have one more.
// taken is how many visits are inside, including this one.
func (p *places) may(t *tenant, taken, most int64) bool {
	if fit := p.fit.Load(); fit > 0 {
		most = min(most, fit)
	}
	mine := t.inside.Add(1)
	if mine == 1 {
		p.busy.Add(1)
	}
	own := t.weight * most / max(p.busy.Load(), 1)
	if mine <= max(1, spreadPlaces*t.weight*(most-taken), own/2) {
		return true
	}
	p.leave(t)
	return false
}

// leave gives a merchant's place back.
func (p *places) leave(t *tenant) {
	if t.inside.Add(-1) == 0 {
		p.busy.Add(-1)
	}
}

const (
	// fitDelay is how long purchases may wait in the line before new ones get fewer places. It is
	// below the delay that enters D3, because D3 refuses buyers of all merchants alike.
	fitDelay = 300 * time.Millisecond
	// fitLooks is how many times in a row the delay must exceed fitDelay.
	fitLooks = 3
	leastFit = 64
)

// Fit sets the number of places for new orders by how long purchases wait in the line now (Little's
// law). So merchants that send too much are refused before all have to wait. Call it from one
// goroutine, at regular intervals.
func (c *Controller) Fit(delay time.Duration) {
	p := &c.places
	most := c.capacity.Load() * newOrderShare / 100
	fit := p.fit.Load()
	if most <= 0 {
		return
	}
	if delay <= fitDelay {
		p.slow = 0
		if fit > 0 { // the nearer the delay is to fitDelay, the more slowly fit grows
			if fit += 1 + int64(float64(fit)*float64(fitDelay-delay)/float64(4*fitDelay)); fit >= most {
				fit = 0
			}
			p.fit.Store(fit)
		}
		return
	}
	if p.slow++; fit > 0 || p.slow >= fitLooks {
		p.fit.Store(min(most, max(leastFit, int64(float64(c.inFlight.Load())*float64(fitDelay)/float64(delay)))))
	}
}

package gateway

import (
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"penstock/degrade"
	"penstock/gateway/problem"
	"penstock/limiter"
	"penstock/seckill"
)

// Switches decide by what operators have set and by what is under way; *degrade.Controller
// implements them. Their methods must not block.
type Switches interface {
	Enter(v *degrade.Visit) degrade.Verdict
	Leave()
	TurnAway()
}

// Limits decide by how often somebody has come; *limiter.Limiter implements them.
type Limits interface {
	Allow(r *limiter.Request, now time.Time) limiter.Decision
}

// AdmissionConfig has what an Admission is told once.
type AdmissionConfig struct {
	// ShedRate is how many refusals for want of room go out at once, per second. Further ones wait for
	// their turn, for LongestPause at most. A refusal costs 15 to 25 µs, most of it in the kernel.
	ShedRate     int
	LongestPause time.Duration
	// Trusted are the proxies whose X-Forwarded-For is believed.
	Trusted []netip.Prefix
	// Known reports whether there are settings at all; nobody is let in before. It must not block. nil:
	// there are.
	Known func() bool
}

// Admission is the Gate of a gateway: it asks the switches, then for room, then the limits.
//
//   - Limits count purchases alone. Asking for an order is what a buyer is told to do, cancelling
//     and paying must always be possible, and pages come from memory.
//   - A purchase that memory refuses counts for nothing: a sale that is over eats nobody's quota.
//   - A purchase that a switch has closed takes room, since its order may have to be looked for.
//
// It is safe for concurrent use.
type Admission struct {
	// Fixed after NewAdmission.
	switches Switches
	limits   Limits
	trusted  []netip.Prefix
	known    func() bool
	visits   *visitLog
	pacer    *degrade.Pacer
	started  time.Time

	refusals atomic.Pointer[limitRefusals]

	// The answers, made once: a refusal allocates nothing.
	ordersOff   *seckill.Refusal
	notAdmitted *seckill.Refusal
	browseOff   *Denial
	full        *Denial
	unknown     *Denial
}

// NewAdmission makes an admission that knows no limits yet.
func NewAdmission(cfg AdmissionConfig, switches Switches, limits Limits, log *slog.Logger) *Admission {
	const soon = 2 * time.Second // a switch was set by a person, who takes more than a second to set it back
	g := &Admission{
		switches: switches, limits: limits, trusted: cfg.Trusted, visits: &visitLog{log: log},
		pacer: degrade.NewPacer(cfg.ShedRate, cfg.LongestPause), started: time.Now(),
		ordersOff:   &seckill.Refusal{Code: problem.Degraded, Detail: "No new orders are taken for the moment.", RetryAfter: soon},
		notAdmitted: &seckill.Refusal{Code: problem.Degraded, Detail: "Only a part of the buyers is let in for the moment.", RetryAfter: soon},
		browseOff: &Denial{Problem: problem.Problem{
			Code: problem.Degraded, Detail: "Activities can't be read for the moment.", RetryAfter: soon,
		}},
		full: &Denial{Problem: problem.Problem{Code: problem.Overloaded, RetryAfter: time.Second}},
		unknown: &Denial{Problem: problem.Problem{
			Code: problem.Unavailable, Detail: "This process has no settings yet, and serves nobody without.", RetryAfter: soon,
		}},
		known: cfg.Known,
	}
	if g.known == nil {
		g.known = func() bool { return true }
	}
	g.refusals.Store(new(limitRefusals))
	return g
}

// SetLimits tells which limits are in force, so that their refusals are made once. It comes after
// the limits were put in force.
func (g *Admission) SetLimits(d *limiter.Document) { g.refusals.Store(newLimitRefusals(d)) }

// What a ticket says of a visit.
const (
	ticketInside uint64 = 1 << iota // it has a place that it must give back
	ticketLogged                    // it is logged when it leaves
)

// Enter implements Gate.
func (g *Admission) Enter(v *Visit) *Denial {
	if !g.known() {
		return g.unknown
	}
	who := &v.asked
	*who = degrade.Visit{
		Class: classOf(v), Activity: string(v.Activity), SKU: string(v.SKU), User: string(v.User), Settled: v.Settled,
	}
	if v.Caller != nil {
		who.Merchant, who.Caller = string(v.Caller.Merchant), string(v.Caller.Caller)
	}
	verdict := g.switches.Enter(who)
	if verdict.Log {
		v.Ticket |= ticketLogged
	}
	if verdict.Inside {
		v.Ticket |= ticketInside
	}
	v.NoWait, v.Static, v.PollAfter = verdict.NoWait, verdict.Static, int(verdict.PollAfter)
	switch verdict.Cause {
	case degrade.None:
		if v.Settled || v.Route != "buy" || verdict.Limits == degrade.LimitsOff {
			return nil
		}
		if denial := g.limit(v, who, verdict.Limits); denial != nil {
			g.switches.Leave()
			v.Ticket &^= ticketInside
			return g.deny(v, denial)
		}
		return nil
	case degrade.OrdersOff:
		v.Closed, v.ClosedSince = g.ordersOff, verdict.Since
		return nil
	case degrade.NotAdmitted:
		v.Closed, v.ClosedSince = g.notAdmitted, verdict.Since
		return nil
	case degrade.BrowseOff:
		return g.deny(v, g.browseOff)
	default:
		if v.Pause == 0 {
			if v.Pause = g.pacer.Wait(v.Arrived.Sub(g.started)); v.Pause > 0 {
				return g.full
			}
		}
		g.switches.TurnAway()
		return g.deny(v, g.full)
	}
}

// limit asks the limits.
func (g *Admission) limit(v *Visit, who *degrade.Visit, mode degrade.LimitsMode) *Denial {
	request := &v.request
	*request = limiter.Request{
		Merchant: who.Merchant, Caller: who.Caller, User: who.User, Activity: who.Activity, SKU: who.SKU, Shadow: mode == degrade.LimitsShadow,
	}
	if peer, ok := v.Peer.(*net.TCPAddr); ok {
		request.IP = limiter.ClientIP(peer.AddrPort().Addr(), v.Forwarded, g.trusted)
	}
	decision := g.limits.Allow(request, v.Arrived)
	switch {
	case decision.Allowed:
		return nil
	case decision.Global: // it is our capacity, not the caller's share
		return g.full
	}
	return g.refusals.Load().of(&decision)
}

// limitRefusals are the answers of the policies of one document, kept so that a refusal allocates
// nothing.
type limitRefusals struct {
	policies []policyRefusals // by their place in the document
}

// policyRefusals are a policy's answers by the seconds to wait. They are made when they are first
// needed.
type policyRefusals struct {
	policy limiter.Policy
	kept   [keptWaits]atomic.Pointer[limitRefusal]
}

// limitRefusal is an answer, and the seconds to wait that it names.
type limitRefusal struct {
	wait int
	Denial
}

// keptWaits is how many answers a policy keeps. Most buckets have a token again within seconds;
// longer waits share the places.
const keptWaits = 8

func newLimitRefusals(d *limiter.Document) *limitRefusals {
	r := &limitRefusals{policies: make([]policyRefusals, len(d.Policies))}
	for i := range d.Policies {
		r.policies[i].policy = d.Policies[i]
	}
	return r
}

// of returns the answer to a decision. One by another document, which is just coming or going, is
// made for it alone.
func (r *limitRefusals) of(d *limiter.Decision) *Denial {
	wait := int(min((d.RetryAfter+time.Second-1)/time.Second, 1<<20))
	if d.Index < 0 || d.Index >= len(r.policies) || d.Remaining != 0 || r.policies[d.Index].policy != *d.Policy {
		return &newLimitRefusal(d, wait).Denial
	}
	place := &r.policies[d.Index].kept[wait%keptWaits]
	kept := place.Load()
	if kept == nil || kept.wait != wait {
		kept = newLimitRefusal(d, wait)
		place.Store(kept)
	}
	return &kept.Denial
}

func newLimitRefusal(d *limiter.Decision, wait int) *limitRefusal {
	return &limitRefusal{wait, Denial{
		Problem:   problem.Problem{Code: problem.RateLimited, RetryAfter: time.Duration(max(wait, 1)) * time.Second, Limit: d.Policy.Name},
		RateLimit: string(limiter.AppendRateLimit(nil, d)), RateLimitPolicy: string(limiter.AppendPolicy(nil, d)),
	}}
}

// deny sends a visit away. A visit that is denied does not leave, so it is logged here.
func (g *Admission) deny(v *Visit, denial *Denial) *Denial {
	if v.Ticket&ticketLogged != 0 {
		g.visits.add(v, denial.Problem.Status(), time.Since(v.Arrived))
	}
	return denial
}

// Leave implements Gate.
func (g *Admission) Leave(v *Visit, status int, took time.Duration) {
	if v.Ticket&ticketInside != 0 {
		g.switches.Leave()
	}
	if v.Ticket&ticketLogged != 0 {
		g.visits.add(v, status, took)
	}
}

// classOf says how much depends on a visit.
func classOf(v *Visit) degrade.Class {
	switch v.Route {
	case "buy":
		if v.Caller.Shadow {
			return degrade.LoadTest
		}
		return degrade.NewOrder
	case "activity":
		return degrade.Browsing
	}
	return degrade.Existing
}

// maxVisitsLogged is how many visits are logged in a second: a log that a crowd can fill is an
// outage of its own.
const maxVisitsLogged = 100

// visitLog logs visits one by one, up to maxVisitsLogged in a second; the rest are counted.
type visitLog struct {
	log     *slog.Logger
	second  atomic.Int64 // Unix time
	written atomic.Int64 // in that second
	leftOut atomic.Int64 // since a line was written
}

func (l *visitLog) add(v *Visit, status int, took time.Duration) {
	now := time.Now().Unix()
	if last := l.second.Load(); last != now && l.second.CompareAndSwap(last, now) {
		l.written.Store(0)
	}
	if l.written.Add(1) > maxVisitsLogged {
		l.leftOut.Add(1)
		return
	}
	var merchant, caller string
	if v.Caller != nil {
		merchant, caller = string(v.Caller.Merchant), string(v.Caller.Caller)
	}
	l.log.Info("visit", "route", v.Route, "status", status, "took", took, "merchant", merchant, "caller", caller,
		"activity", string(v.Activity), "sku", string(v.SKU), "order", string(v.Order), "left_out", l.leftOut.Swap(0))
}

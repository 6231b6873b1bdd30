package gateway

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// Switches decide whether a visit is admitted, by the switches that operators have set and the
// number of requests in flight. *degrade.Controller implements it. Their methods must not block.
type Switches interface {
	Enter(v *degrade.Visit) degrade.Verdict
	Leave(v *degrade.Visit)
	TurnAway(cause degrade.Cause)
}

// Limits decide whether a visit is admitted, by the rates of its merchant, caller and buyer.
// *limiter.Limiter implements it.
type Limits interface {
	Allow(r *limiter.Request, now time.Time) limiter.Decision
	GiveBack(r *limiter.Request, now time.Time)
	Leave(r *limiter.Request)
	Guaranteed(merchant string, now time.Time) bool
}

// AdmissionConfig is the fixed configuration of an Admission.
type AdmissionConfig struct {
	// ShedRate is how many refusals per second are answered without a pause. Refusals above this
	// rate wait for their turn, for at most LongestPause. A refusal costs 15 to 25 µs, most of it
	// in the kernel.
	ShedRate     int
	LongestPause time.Duration
	// Trusted are the proxies whose X-Forwarded-For is believed.
	Trusted []netip.Prefix
	// Addresses limits requests without a valid key or signature, by client address; above the
	// limit they are answered 429. Probes is a separate limit for health checks, so that neither
	// uses up the other.
	Addresses, Probes limiter.AddressConfig
	// History records each purchase that the limits are asked about; nil records none.
	History *limiter.History
	// Known reports whether this process has loaded any settings. Until then no visit is admitted.
	// It must not block. With nil, settings count as always known.
	Known func() bool
}

// Admission is the Gate of a gateway: it asks the switches first, then the room (requests in
// flight), then the limits.
//
//   - Limits count purchases. They also count pages and reads of orders, if a policy charges for
//     them. Cancelling and paying must always be possible.
//   - A purchase that is refused from memory uses no tokens: a sale that is over uses up nobody's
//     quota.
//   - A purchase that a switch refuses still takes room, because the stock may have to be asked for
//     its order.
//   - A repeat of a purchase that the limits admitted here a moment ago is free: the limits aren't
//     asked again.
//   - A purchase that a limit refuses may be a repeat. If its key has an order, the repeat gets
//     that order, because the contract asks clients to repeat. A repeat that the limits admit gets
//     its tokens back.
//   - A repeat that is known from memory counts as a request for an existing order. It gets room
//     when new orders get none, but it never gets a new order where limits are set.
//   - A purchase within its merchant's guaranteed rate is admitted even when a degrade level
//     refuses others.
//   - A request without a valid key counts against its address: see AddressConfig.
//   - Refusals above ShedRate are delayed. While the processor is short, refusals above a quarter
//     of it are delayed, and also refusals from memory.
//
// It is safe for concurrent use.
type Admission struct {
	// Fixed after NewAdmission.
	switches Switches
	limits   Limits
	trusted  []netip.Prefix
	lookBack time.Duration
	known    func() bool
	visits   *visitLog
	pacer    *degrade.Pacer
	scarce   *degrade.Pacer // used while the processor is overloaded
	started  time.Time
	history  *limiter.History
	doors    *limiter.Addresses
	probes   *limiter.Addresses
	short    atomic.Bool     // the processor is overloaded
	let      *limiter.Recent // keys that limits have admitted
	asking   *limiter.Recent // keys about which the limits are being asked
	askMu    [64]sync.Mutex  // one for a part of the keys: it orders the changes of asking
	seeds    [6]maphash.Seed // of let and asking
	again    *limiter.Keys   // counts the free repeats of a key
	lookups  *limiter.Keys   // counts the look-ups of all callers together
	repeats  atomic.Int64    // purchases that were admitted as free repeats

	refusals atomic.Pointer[limitRefusals]
	trial    atomic.Pointer[Trial] // nil if no limits are on trial

	// The answers are made once, so that a refusal allocates nothing.
	ordersOff   *seckill.Refusal
	notAdmitted *seckill.Refusal
	browseOff   *Denial
	full        *Denial
	fullLimit   *limitRefusal // no room, because of the global limit
	unknown     *Denial
	tooMany     *Denial
}

// NewAdmission makes an admission without limits: SetLimits sets them.
func NewAdmission(cfg AdmissionConfig, switches Switches, limits Limits, log *slog.Logger) *Admission {
	const soon = 2 * time.Second // a person may set a switch by mistake, and needs some seconds to set it back
	g := &Admission{
		switches: switches, limits: limits, trusted: cfg.Trusted, lookBack: cfg.LongestPause + freshKeys, visits: &visitLog{log: log},
		pacer: degrade.NewPacer(cfg.ShedRate, cfg.LongestPause), started: time.Now(),
		scarce:      degrade.NewPacer(max(cfg.ShedRate/scarceShare, 1), cfg.LongestPause),
		ordersOff:   &seckill.Refusal{Code: problem.Degraded, Detail: "No new orders are accepted at the moment.", RetryAfter: soon},
		notAdmitted: &seckill.Refusal{Code: problem.Degraded, Detail: "Only a part of the buyers is admitted at the moment.", RetryAfter: soon},
		browseOff: &Denial{Problem: problem.Problem{
			Code: problem.Degraded, Detail: "Activities can't be read at the moment.", RetryAfter: soon,
		}},
		full: &Denial{Problem: problem.Problem{Code: problem.Overloaded, RetryAfter: time.Second}},
		unknown: &Denial{Problem: problem.Problem{
			Code: problem.Unavailable, Detail: "This process hasn't loaded its settings yet.", RetryAfter: soon,
		}},
		tooMany: &Denial{Problem: problem.Problem{
			Code: problem.RateLimited, Detail: "This address sends too many requests without a valid key.", RetryAfter: soon, Limit: addressLimit,
		}},
		doors: limiter.NewAddresses(cfg.Addresses, time.Now()), probes: limiter.NewAddresses(cfg.Probes, time.Now()),
		known: cfg.Known, history: cfg.History,
		let: limiter.NewRecent(letKeys, int64(letSpan)), asking: limiter.NewRecent(askKeys, int64(askSpan)),
		again:   limiter.NewKeys(1, freeBurst, freeKeys, time.Now()),
		lookups: limiter.NewKeys(lookUps, lookUps, 1, time.Now()),
	}
	for i := range g.seeds {
		g.seeds[i] = maphash.MakeSeed()
	}
	if g.known == nil {
		g.known = func() bool { return true }
	}
	g.fullLimit = &limitRefusal{Denial: *g.full, refusal: seckill.Refusal{Code: problem.Overloaded, RetryAfter: time.Second}}
	g.refusals.Store(new(limitRefusals))
	return g
}

// SetLimits prepares the refusals of the limits document d. Call it after the limiter has put d in
// force.
func (g *Admission) SetLimits(d *limiter.Document) { g.refusals.Store(newLimitRefusals(d)) }

// Trial counts the purchases that came to the limits on trial, and the purchases that these
// refused.
type Trial struct{ Asked, Refused atomic.Int64 }

// SetTrial starts to count purchases in a Trial; nil ends the counting.
func (g *Admission) SetTrial(t *Trial) { g.trial.Store(t) }

// scarceShare divides ShedRate: the result is the rate of refusals while the processor is short.
const scarceShare = 4

// addressLimit is the public name of the limit for requests without a valid key, by address.
const addressLimit = "address"

// Short reports whether the processor is overloaded.
func (g *Admission) Short() bool { return g.short.Load() }

// SetShort sets whether the processor is overloaded.
func (g *Admission) SetShort(short bool) { g.short.Store(short) }

// The flags of a ticket.
const (
	ticketInside  uint64 = 1 << iota // it has a place that it must give back
	ticketLogged                     // it is logged when it leaves
	ticketCounted                    // it has taken tokens and places of limits
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
	if verdict.Spared {
		if v.assured = v.assured || !v.Settled && g.limits.Guaranteed(who.Merchant, v.Arrived); v.assured {
			verdict.Cause = degrade.None
		} else {
			g.switches.TurnAway(verdict.Cause)
		}
	}
	switch verdict.Cause {
	case degrade.None:
		return g.askLimits(v, verdict.Limits)
	case degrade.OrdersOff:
		v.Closed, v.ClosedSince = g.ordersOff, verdict.Since
		return g.settled(v)
	case degrade.NotAdmitted:
		v.Closed, v.ClosedSince = g.notAdmitted, verdict.Since
		return g.settled(v)
	case degrade.BrowseOff:
		return g.deny(v, g.browseOff)
	default:
		if g.paced(v) {
			return g.full
		}
		g.switches.TurnAway(degrade.Full)
		return g.deny(v, g.full)
	}
}

// askLimits asks the limits about a visit that has passed switches and room.
func (g *Admission) askLimits(v *Visit, mode degrade.LimitsMode) *Denial {
	class, counts := limitClass(v.Route)
	if v.Settled || !counts || mode == degrade.LimitsOff {
		return g.settled(v)
	}
	key, at := g.keyOf(v), int64(v.Arrived.Sub(g.started))
	if key != 0 && g.let.Has(key, at) && g.again.Allow(key, v.Arrived) { // the purchase has paid its tokens before
		g.repeats.Add(1)
		return nil
	}
	if v.Repeat {
		g.recall(v)
		return nil
	}
	if v.limited == nil {
		if key != 0 && v.Pause == 0 && !g.asks(key, at) { // its first request may be admitted at this moment, and Redis may have been asked
			g.outside(v)
			v.Pause = askSpan
			return g.full // not sent, because v.Pause is set: see Gate.Enter
		}
		v.limited = g.limit(v, class, mode)
	}
	if v.limited == nil {
		v.Ticket |= ticketCounted
		if key != 0 {
			g.let.Mark(key, at)
		}
		return nil
	}
	if g.paced(v) {
		g.outside(v)
		return &v.limited.Denial
	}
	if class != limiter.Purchase {
		g.outside(v)
		return g.deny(v, &v.limited.Denial)
	}
	v.Closed, v.ClosedSince, v.Limited = &v.limited.refusal, v.Arrived.Add(-g.lookBack), &v.limited.Denial
	if everybody := uint64(1); g.lookups.Allow(everybody, v.Arrived) {
		v.ClosedSince = v.ClosedSince.Add(freshKeys) // memory knows only younger orders, so the stock is asked for an older one
	}
	return nil
}

// asks records that the limits are being asked about a key. It returns false if they were being
// asked already.
func (g *Admission) asks(key uint64, at int64) bool {
	mu := &g.askMu[key%uint64(len(g.askMu))]
	mu.Lock()
	defer mu.Unlock()
	if g.asking.Has(key, at) {
		return false
	}
	g.asking.Mark(key, at)
	return true
}

// recall passes a purchase that memory takes for a repeat to the sale. Memory is wrong about one in
// a hundred, so the purchase gets its order or a refusal, but never a new order.
func (g *Admission) recall(v *Visit) {
	closed := v.limited
	switch {
	case closed != nil: // a limit has refused it
	case len(g.refusals.Load().policies) == 0:
		return
	default:
		closed = g.fullLimit
	}
	v.Closed, v.ClosedSince, v.Limited = &closed.refusal, v.Arrived.Add(-g.lookBack), &closed.Denial
}

// The memory of keys that were admitted here. A repeat within letSpan is free, whatever the answer
// to the first request was, and also before it has one. At 6,000 purchases a second, few keys are
// forgotten early.
const (
	letSpan = 5 * time.Second
	letKeys = 1 << 17
	// askSpan is how long limits may take to admit a visit, and askKeys how many visits wait for
	// them at once.
	askSpan = 150 * time.Millisecond
	askKeys = 1 << 12
	// freeBurst bounds the free repeats of one key: that many at once, and then one a second. The
	// contract asks for fewer. Further repeats go through the limits.
	freeBurst = 10
	freeKeys  = 1 << 13
)

// lookUps bounds a kind of look-up per second. When a limit refuses a purchase whose key had no
// order freshKeys ago, the stock is asked for its order, because it may be a repeat of a purchase
// that another gateway has just admitted.
const lookUps = 200

// Repeats returns how many purchases were admitted without tokens, because the limits had admitted
// the same purchase here before.
func (g *Admission) Repeats() int64 { return g.repeats.Load() }

// keyOf returns a number for a purchase that is the same for its repeats. It is 0 if the purchase
// has no name, or if nothing is limited.
func (g *Admission) keyOf(v *Visit) uint64 {
	if v.Key == "" || len(g.refusals.Load().policies) == 0 {
		return 0
	}
	sum := uint64(v.Quantity) * 0x9E3779B97F4A7C15
	for i, name := range [...]string{
		string(v.Caller.Merchant), string(v.Caller.Caller), string(v.Activity), string(v.SKU), string(v.User), v.Key,
	} {
		sum += maphash.String(g.seeds[i], name)
	}
	return max(sum, 1)
}

// limitClass returns the class of a route's visits for limits, and whether they count.
func limitClass(route string) (class limiter.Class, counts bool) {
	switch route {
	case "buy":
		return limiter.Purchase, true
	case "activity":
		return limiter.Page, true
	case "order":
		return limiter.Status, true
	}
	return 0, false
}

// outside gives back the room that a visit has taken.
func (g *Admission) outside(v *Visit) {
	if v.Ticket&ticketInside != 0 {
		g.switches.Leave(&v.asked)
		v.Ticket &^= ticketInside
	}
}

// settled delays a purchase that is refused from memory while the processor is overloaded: buyers
// who can still get a unit need the processor.
func (g *Admission) settled(v *Visit) *Denial {
	if v.Settled && g.short.Load() && g.paced(v) {
		return g.full // not sent, because v.Pause is set: see Gate.Enter
	}
	return nil
}

// paced reports whether the refusal of a visit has to be delayed, and sets the delay. A visit is
// delayed only once.
func (g *Admission) paced(v *Visit) bool {
	if v.Pause == 0 {
		v.Pause = g.turn(v.Arrived)
		return v.Pause > 0
	}
	return false
}

// turn returns how long a refusal has to be delayed.
func (g *Admission) turn(arrived time.Time) time.Duration {
	if g.short.Load() {
		return g.scarce.Wait(arrived.Sub(g.started))
	}
	return g.pacer.Wait(arrived.Sub(g.started))
}

// freshKeys is how old an order must be so that its key is known from memory on every gateway. When
// a limit refuses the repeat of an older key, its order is found without a call. For a younger key,
// Redis is called.
const freshKeys = 500 * time.Millisecond

// limit asks the limits. It returns nil if no limit refuses.
func (g *Admission) limit(v *Visit, class limiter.Class, mode degrade.LimitsMode) *limitRefusal {
	who, request := &v.asked, &v.request
	*request = limiter.Request{
		Merchant: who.Merchant, Caller: who.Caller, User: who.User, Activity: who.Activity, SKU: who.SKU, Shadow: mode == degrade.LimitsShadow,
		Assured: v.assured, IP: g.address(v), Class: class, Quantity: v.Quantity,
	}
	if v.Foreign { // a caller must not use up the limits of another merchant
		request.Activity = ""
	}
	if g.history != nil && class == limiter.Purchase && who.Merchant != string(seckill.ProbeMerchant) {
		g.history.Count(who.Merchant, who.Caller, v.Arrived)
	}
	decision := g.limits.Allow(request, v.Arrived)
	if t := g.trial.Load(); t != nil && class == limiter.Purchase {
		t.Asked.Add(1)
		if !decision.Allowed {
			t.Refused.Add(1)
		}
	}
	switch {
	case decision.Allowed:
		return nil
	case decision.Bound == limiter.ByCost:
		return tooDear(&decision)
	case decision.Global: // the whole installation is full; the caller's own share is not
		return g.fullLimit
	}
	return g.refusals.Load().of(&decision)
}

// tooDear is the answer to a request that costs more than its key can ever have. Waiting doesn't
// help, but a smaller request may be admitted.
func tooDear(d *limiter.Decision) *limitRefusal {
	detail := fmt.Sprintf("costs %d tokens of the limit %q, which has %d at most: ask for less", d.Cost, d.Policy.Name, d.Limit)
	return &limitRefusal{
		Denial: Denial{Problem: problem.Problem{
			Code: problem.InvalidRequest, Errors: []problem.FieldError{{Field: "quantity", Detail: detail}},
		}},
		refusal: seckill.Refusal{Code: problem.InvalidRequest},
	}
}

// address is the client's address, behind trusted proxies; the zero Addr for a visit without a
// network.
func (g *Admission) address(v *Visit) netip.Addr {
	peer, ok := v.Peer.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return limiter.ClientIP(peer.AddrPort().Addr(), v.Forwarded, g.trusted)
}

// limitRefusals are the answers of the policies of one document, kept so that a refusal allocates
// nothing.
type limitRefusals struct {
	policies []policyRefusals // by their place in the document
}

// policyRefusals has a policy's answers, by the seconds to wait. An answer is made when it is first
// needed.
type policyRefusals struct {
	policy limiter.Policy
	kept   [keptWaits]atomic.Pointer[limitRefusal]
}

// limitRefusal is an answer, and the seconds to wait that it names.
type limitRefusal struct {
	wait  int
	bound limiter.Bound
	limit int64 // the number that the answer names
	Denial
	refusal seckill.Refusal // the same answer, for seckill
}

// keptWaits is how many answers a policy keeps. Most buckets have a token again within seconds;
// longer waits share the places that are left.
const keptWaits = 8

func newLimitRefusals(d *limiter.Document) *limitRefusals {
	r := &limitRefusals{policies: make([]policyRefusals, len(d.Policies))}
	for i := range d.Policies {
		r.policies[i].policy = d.Policies[i]
	}
	return r
}

// of returns the answer to a decision. An answer for another document, at the moment of a change,
// is not kept.
func (r *limitRefusals) of(d *limiter.Decision) *limitRefusal {
	wait := int(min((d.RetryAfter+time.Second-1)/time.Second, 1<<20))
	if d.Index < 0 || d.Index >= len(r.policies) || d.Remaining != 0 || r.policies[d.Index].policy != *d.Policy {
		return newLimitRefusal(d, wait)
	}
	place := &r.policies[d.Index].kept[wait%keptWaits]
	kept := place.Load()
	if kept == nil || kept.wait != wait || kept.bound != d.Bound || kept.limit != d.Limit {
		kept = newLimitRefusal(d, wait)
		place.Store(kept)
	}
	return kept
}

func newLimitRefusal(d *limiter.Decision, wait int) *limitRefusal {
	after := time.Duration(max(wait, 1)) * time.Second
	detail := ""
	switch d.Bound {
	case limiter.ByConcurrency:
		detail = "Too many requests are in flight at once."
	case limiter.ByQuota:
		detail = "The quota of this day is used up."
	}
	return &limitRefusal{wait, d.Bound, d.Limit, Denial{
		Problem:   problem.Problem{Code: problem.RateLimited, RetryAfter: after, Limit: d.Policy.Name, Detail: detail},
		RateLimit: string(limiter.AppendRateLimit(nil, d)), RateLimitPolicy: string(limiter.AppendPolicy(nil, d)),
	}, seckill.Refusal{Code: problem.RateLimited, RetryAfter: after}}
}

// deny refuses a visit. Leave isn't called for a refused visit, so it is logged here.
func (g *Admission) deny(v *Visit, denial *Denial) *Denial {
	if v.Ticket&ticketLogged != 0 {
		v.Code, v.Limit = denial.Problem.Code, denial.Problem.Limit
		g.visits.add(v, denial.Problem.Status(), time.Since(v.Arrived))
	}
	return denial
}

// Leave implements Gate.
func (g *Admission) Leave(v *Visit, status int, took time.Duration) {
	g.outside(v)
	if v.Ticket&ticketCounted != 0 {
		g.limits.Leave(&v.request)
		if v.Replayed {
			g.limits.GiveBack(&v.request, v.Arrived)
		}
	}
	if v.Ticket&ticketLogged != 0 {
		g.visits.add(v, status, took)
	}
}

// Stranger implements Gate: these refusals wait for their turn like the others, except those of
// health checks.
func (g *Admission) Stranger(v *Visit) *Denial {
	doors := g.doors
	if v.Route == "live" || v.Route == "ready" {
		doors = g.probes
	} else {
		v.Pause = g.turn(v.Arrived)
	}
	if !doors.Allow(g.address(v), v.Arrived) {
		return g.tooMany
	}
	return nil
}

// classOf returns the importance of a visit.
func classOf(v *Visit) degrade.Class {
	switch v.Route {
	case "buy":
		if v.Repeat {
			return degrade.Existing
		}
		if v.Caller.Shadow {
			return degrade.LoadTest
		}
		return degrade.NewOrder
	case "activity":
		return degrade.Browsing
	}
	return degrade.Existing
}

// maxVisitsLogged is how many visits are logged in a second: a crowd must not be able to fill the
// log.
const maxVisitsLogged = 100

// visitLog logs visits one by one, up to maxVisitsLogged in a second; the rest are counted. A line
// has what a support case needs: the request's owner, the answer, and the limit that refused it.
type visitLog struct {
	log     *slog.Logger
	second  atomic.Int64 // Unix time
	written atomic.Int64 // in that second
	leftOut atomic.Int64 // lines that were left out since the last one was written
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
	l.log.Info("visit", "route", v.Route, "status", status, "code", string(v.Code), "limit", v.Limit, "took", took,
		"request_id", v.Request, "merchant", merchant, "caller", caller, "user", string(v.User), "activity", string(v.Activity),
		"sku", string(v.SKU), "order", string(v.Order), "left_out", l.leftOut.Swap(0))
}

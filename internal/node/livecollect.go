package node

import (
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// collector makes this node's frames. It remembers the counters of the frame before. It is used by
// one goroutine.
type collector struct {
	at       time.Time // when the frame before was made; zero before the first one
	used     time.Duration
	timedOut int64
	applied  int64
	latency  window
	hops     map[string]*window
	notices  notices
	line     lineDelay

	objectives objectives
}

// window has the counts of a histogram in the last ten seconds.
type window struct {
	total timing.Counts   // since the start
	past  []timing.Counts // the totals at the looks before, oldest first
}

const windowLooks = 10

// look reads the histogram, and returns the counts since the look ten looks ago.
func (w *window) look(total *timing.Counts) live.Distribution {
	w.total = *total
	w.past = append(w.past, w.total)
	if len(w.past) > windowLooks+1 {
		w.past = append(w.past[:0], w.past[1:]...)
	}
	since := w.total.Since(&w.past[0])
	return live.NewDistribution(&since)
}

// collectFrame makes the frame of the second that ends now.
func (n *Node) collectFrame(now time.Time) {
	c := &n.live.collector
	span := now.Sub(c.at)
	if c.at.IsZero() {
		span = time.Second // nothing was counted before this
	}
	f := &live.Frame{Node: n.liveNode(c, span), All: live.NewRates()}
	n.collectTraffic(f, span)
	n.collectMoves(f, span)
	f.KeepHottest()
	f.Node.Accepted = f.All.Accepted
	n.collectLimits(f, now)
	n.collectServers(f)
	f.Hops = n.collectHops(now)
	symptoms := n.collectSymptoms(now)
	n.live.symptoms.Store(&symptoms)
	f.Symptoms = symptoms
	n.collectProbes(f)
	n.collectObjectives(f, now)
	c.at = now
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	for _, unbalanced := range n.live.audited {
		f.Unbalanced = append(f.Unbalanced, unbalanced...)
	}
	n.live.own = f
}

// liveNode returns this process's report of itself.
func (n *Node) liveNode(c *collector, span time.Duration) live.Node {
	out := live.Node{
		Node: n.name(), Role: n.role.name(), Version: n.cfg.Version, Started: n.started, Memory: residentMemory(),
		Draining: n.health.draining.Load() || n.control.watcher.Drained(), Level: n.control.switches.Level().Level.String(),
		InFlight: n.control.switches.Stats().InFlight, Breakers: n.breakers.disturbed(), Lag: n.observed.knownLag(),
	}
	if used, known := processorTime(); known {
		if !c.at.IsZero() {
			out.CPU = float64((used-c.used)*100/max(span, 1)) / 100
		}
		c.used = used
	}
	return out
}

// collectTraffic takes the counts of answers to buyers.
func (n *Node) collectTraffic(f *live.Frame, span time.Duration) {
	edge := n.live.edge.Load()
	if edge == nil {
		return
	}
	t := edge.TakeTraffic()
	f.All = ratesOf(&t.All, span)
	c := &n.live.collector
	total := c.latency.total
	total.Add(&t.Latency)
	f.Latency = c.latency.look(&total)
	c.objectives.purchases(t, n.cfg.Objectives.Latency, time.Now())
	places := make(map[seckill.ActivityID]int, len(t.Activities))
	now := time.Now()
	for id, o := range t.Activities {
		n.totals.purchases(id, n.merchantOf(id), o, now)
		places[id] = len(f.Activities)
		f.Activities = append(f.Activities, live.FrameActivity{Activity: string(id), Rates: ratesOf(o, span)})
	}
	for name, o := range t.Items {
		if at, known := places[name.Activity]; known {
			f.Activities[at].Items = append(f.Activities[at].Items, live.FrameItem{
				SKU: string(name.SKU), Accepted: live.PerSecond(o.Accepted, span), SoldOut: live.PerSecond(o.SoldOut, span),
			})
		}
	}
	for ref, o := range t.Callers {
		f.Callers = append(f.Callers, live.Caller{Caller: callerName(ref), Rates: ratesOf(o, span)})
	}
}

func callerName(ref seckill.CallerRef) string { return string(ref.Merchant) + "/" + string(ref.Caller) }

// ratesOf returns counts per second.
func ratesOf(o *gateway.Outcomes, span time.Duration) live.Rates {
	r := live.NewRates()
	r.Accepted, r.Replayed = live.PerSecond(o.Accepted, span), live.PerSecond(o.Replayed, span)
	all := o.Accepted + o.Replayed
	for code, n := range o.Refused {
		r.Refused[string(code)] = live.PerSecond(n, span)
		all += n
	}
	r.Requests = live.PerSecond(all, span)
	return r
}

// collectMoves takes the paid and cancelled orders: the desk's one by one, and those of the
// workers' timeouts as sums.
func (n *Node) collectMoves(f *live.Frame, span time.Duration) {
	moved := n.live.moved.take()
	all := moved.all
	now := time.Now()
	for id, m := range moved.activities {
		n.totals.moves(id, n.merchantOf(id), m.paid, m.cancelled, now)
	}
	if n.sale.Timeouts != nil {
		c := &n.live.collector
		timedOut, applied := n.sale.Timeouts.Cancelled(), n.sale.Timeouts.Applied()
		if !c.at.IsZero() {
			all.cancelled += uint64(timedOut - c.timedOut)
			all.paid += uint64(applied - c.applied)
		}
		c.timedOut, c.applied = timedOut, applied
	}
	put := func(r *live.Rates, m movedCount) {
		r.Paid, r.Cancelled = live.PerSecond(m.paid, span), live.PerSecond(m.cancelled, span)
	}
	put(&f.All, all)
	for i := range f.Activities {
		id := seckill.ActivityID(f.Activities[i].Activity)
		put(&f.Activities[i].Rates, moved.activities[id])
		delete(moved.activities, id)
	}
	for id, m := range moved.activities {
		a := live.FrameActivity{Activity: string(id), Rates: live.NewRates()}
		put(&a.Rates, m)
		f.Activities = append(f.Activities, a)
	}
	callers := make(map[string]movedCount, len(moved.callers))
	for ref, m := range moved.callers {
		callers[callerName(ref)] = m
	}
	for i := range f.Callers {
		put(&f.Callers[i].Rates, callers[f.Callers[i].Caller])
		delete(callers, f.Callers[i].Caller)
	}
	for name, m := range callers {
		c := live.Caller{Caller: name, Rates: live.NewRates()}
		put(&c.Rates, m)
		f.Callers = append(f.Callers, c)
	}
}

// collectLimits takes the limits' counts of admitted and refused requests.
func (n *Node) collectLimits(f *live.Frame, now time.Time) {
	if n.control.reports.meter == nil {
		return
	}
	report := n.control.reports.meter.Report(now)
	for i := range report.Policies {
		p := &report.Policies[i]
		f.Limits = append(f.Limits, live.FrameLimit{
			Policy: p.Name, Allowed: p.Allowed, Refused: p.Refused, Shadowed: p.Shadowed, Share: p.Share,
		})
	}
	for _, hot := range report.Top {
		f.Refused = append(f.Refused, live.Refused{Policy: hot.Policy, Key: hot.Key, Refused: float64(hot.Refused)})
	}
}

// collectServers takes the states of servers, shards and the queue.
func (n *Node) collectServers(f *live.Frame) {
	r := n.health.report.Load()
	for i := range r.Servers {
		s := &r.Servers[i]
		f.Servers = append(f.Servers, live.FrameServer{Server: s.Server, Instance: s.Instance, State: s.State, Detail: s.Detail})
	}
	f.Shards = live.Shards(r.Shards)
	q := n.servers.queue.Stats()
	f.Broken = make(map[string]int64)
	for name, count := range map[string]int64{"penstock_queue_missing_total": q.Missing, "penstock_queue_data_loss_total": q.DataLoss} {
		if count > 0 {
			f.Broken[name] = count
		}
	}
	if n.role&RoleWorker != 0 {
		age := 0.0
		if !q.Oldest.IsZero() {
			age = max(0, time.Since(q.Oldest).Seconds())
		}
		f.Oldest = &age
	}
}

// collectHops collects the times of the hops on this node, and the age of the oldest entry on each.
func (n *Node) collectHops(now time.Time) (out []live.FrameHop) {
	c := &n.live.collector
	if c.hops == nil {
		c.hops = make(map[string]*window)
	}
	oldest := n.hopAges(now)
	for hop, took := range n.hopTimes() {
		w := c.hops[hop]
		if w == nil {
			w = new(window)
			c.hops[hop] = w
		}
		out = append(out, live.FrameHop{
			Hop: hop, Took: w.look(took.Counts()), Oldest: float64(oldest[hop]) / float64(time.Millisecond),
		})
	}
	return out
}

// hopTimes returns how long the hops that happen on this node took, since the start.
func (n *Node) hopTimes() map[string]*timing.Histogram {
	out := map[string]*timing.Histogram{live.HopSettings: &n.live.spread}
	if n.role&RoleGateway != 0 {
		desk := n.sale.Desk.Hops()
		out[live.HopHold], out[live.HopPage] = &desk.Hold, &desk.Page
	}
	if n.sale.Worker != nil {
		out[live.HopRow] = n.sale.Worker.Took()
		out[live.HopConfirm], _ = n.sale.Teller.Took()
		out[live.HopSettle], _ = n.sale.Relay.Took()
	}
	if n.sale.Events != nil {
		out[live.HopEvent] = &n.observed.announcing
	}
	return out
}

// hopAges returns the current age of the oldest entry on each hop, if known.
func (n *Node) hopAges(now time.Time) map[string]time.Duration {
	out := make(map[string]time.Duration)
	if n.role&RoleGateway != 0 {
		out[live.HopHold] = n.live.collector.line.look(n.sale.Desk.Lines(), now)
		for _, p := range n.servers.queue.Partitions() {
			out[live.HopPage] = max(out[live.HopPage], p.Waiting)
		}
	}
	if n.sale.Worker != nil {
		if oldest := n.servers.queue.Stats().Oldest; !oldest.IsZero() {
			out[live.HopRow] = time.Since(oldest)
		}
		_, out[live.HopConfirm] = n.sale.Teller.Took()
		_, out[live.HopSettle] = n.sale.Relay.Took()
	}
	if n.sale.Events != nil {
		n.observed.mu.Lock()
		out[live.HopEvent] = n.observed.waiting
		n.observed.mu.Unlock()
	}
	return out
}

// policiesOf returns the limits in the form of the live view.
func policiesOf(d *limiter.Document) map[string]live.Policy {
	out := make(map[string]live.Policy, len(d.Policies))
	for i := range d.Policies {
		p := &d.Policies[i]
		out[p.Name] = live.Policy{Key: string(p.Key), Mode: string(p.Mode), Rate: p.Rate}
	}
	return out
}

package loadtest

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// Generator has the load generator's measurements of itself.
type Generator struct {
	Elapsed     time.Duration // until the last answer
	CPU         time.Duration // processor time of the whole process
	CPUKnown    bool
	Cores       int
	Collections int // garbage collections
	Pauses      time.Duration
	Memory      int64 // bytes that the process has got from the system
}

// LoadResult is the result of a load. The caller owns it.
type LoadResult struct {
	Result // without Served; its Lag covers departures that left late although a place was free

	Browse, Poll Tally
	Planned      int64 // departures
	Left         int64 // departures that were sent
	Dropped      int64 // departures that could not leave within the request timeout, and were not sent
	Crowded      int64 // departures that left late because all places were waiting for answers
	Connections  int
	Length       time.Duration // length of the schedule
	Leaving      time.Duration // from the start until the last departure left
	Stopped      time.Duration // from the start until it was ended early; 0 if it wasn't
	Due          float64       // departures that were due by then
	Scheduled    *Latency      // latency of answers to departures, from the time when they were due; without broken connections
	Service      *Latency      // latency of the same answers, from the time when they were sent
	Confirmed    *Latency      // from the click until the buyer saw the order
	Created      int           // orders that were named and exist
	Unread       int           // orders that could not be read back
	ReadBack     bool          // all orders were read back
	Items        []Part        // in the order of the load's goods
	Callers      []Part        // in the order of the load's callers; a key is secret, so they have numbers
	Series       []Stretch
	SlotWidth    time.Duration
	Generator    Generator
}

// Total returns how many requests were sent, without those that read orders back afterwards.
func (r *LoadResult) Total() int64 { return r.Requests() + r.Browse.Sent + r.Poll.Sent }

// Answered returns how many requests were answered.
func (r *LoadResult) Answered() int64 {
	n := r.Total()
	for _, t := range r.tallies() {
		n -= t.Codes[codeTimeout] + t.Codes[codeConnection]
	}
	return n
}

// Errors returns how many requests ended without an answer, or with an answer that a healthy server
// never gives to a valid request.
func (r *LoadResult) Errors() int64 {
	n := int64(0)
	for _, t := range r.tallies() {
		n += t.Count(Failed)
	}
	return n
}

func (r *LoadResult) tallies() []*Tally {
	return []*Tally{&r.Buy, &r.Browse, &r.Poll, &r.Pay, &r.Cancel}
}

// Part has the purchases of one item, or of one caller.
type Part struct {
	Name   string
	Counts [outcomes]int64
}

// Sent returns the number of purchases.
func (p *Part) Sent() int64 {
	n := int64(0)
	for _, one := range p.Counts {
		n += one
	}
	return n
}

// lasted returns the length of the schedule, or the time until the load was ended early.
func (r *LoadResult) lasted() time.Duration {
	if r.Stopped > 0 {
		return max(r.Leaving, r.Stopped)
	}
	return max(r.Leaving, r.Length)
}

// AchievedRate returns the rate of departures that left, per second.
func (r *LoadResult) AchievedRate() float64 { return perSecond(float64(r.Left), r.lasted()) }

// OfferedRate returns the rate of departures that were due, per second.
func (r *LoadResult) OfferedRate() float64 {
	if r.Stopped > 0 {
		return perSecond(r.Due, r.Stopped)
	}
	return perSecond(float64(r.Planned), r.Length)
}

func perSecond(n float64, of time.Duration) float64 {
	if of <= 0 {
		return 0
	}
	return n / of.Seconds()
}

// The bounds within which a generator can be trusted.
const (
	// trustedLag is how late one departure in a hundred may leave because of the generator itself.
	trustedLag = 10 * time.Millisecond
	// trustedCrowded is the share of departures that may have waited for a place.
	trustedCrowded = 0.01
)

// Warnings names, for people, the numbers that may come from the generator and not from the server.
func (r *LoadResult) Warnings() []string {
	var out []string
	if lag := r.Lag.Quantile(0.99); lag > trustedLag {
		out = append(out, fmt.Sprintf("the generator was the bottleneck: one departure in a hundred left %v late or later though "+
			"a connection was free; latency includes that. Use a lower rate, or a machine that does nothing else", lag.Round(100*time.Microsecond)))
	}
	if r.Left > 0 && float64(r.Crowded) > trustedCrowded*float64(r.Left) {
		out = append(out, fmt.Sprintf("%d of %d departures left late because all %d connections were waiting for answers; "+
			"latency includes that. The server is slower than the schedule, or --connections is too low",
			r.Crowded, r.Left, r.Connections))
	}
	if r.Dropped > 0 {
		out = append(out, fmt.Sprintf("%d of %d departures were dropped: they could not leave within the request timeout. "+
			"They count as errors", r.Dropped, r.Planned))
	}
	return out
}

// summarize makes the result. No other goroutine may use the load any longer.
func (l *load) summarize(elapsed time.Duration, g Generator, interrupted, readBack bool) *LoadResult {
	out := &LoadResult{
		Result: *l.result(elapsed, !readBack),
		Browse: l.tallies.all[Browse], Poll: l.tallies.all[Poll],
		Planned: l.plan.count, Dropped: l.dropped, Crowded: l.crowded, Connections: l.load.Connections,
		Length: l.plan.length, Leaving: max(l.lastLeft.Sub(l.start), 0),
		Scheduled: l.scheduled, Service: l.service, Confirmed: l.confirmed, ReadBack: readBack,
		Generator: g,
	}
	until := l.plan.length
	if stopped := l.engine.stopped; !stopped.IsZero() {
		out.Stopped = max(stopped.Sub(l.start), 1) // zero would mean that it wasn't stopped
		until = min(until, max(out.Stopped, out.Leaving))
		out.Due = l.plan.sum(out.Stopped)
	}
	for _, g := range l.goods {
		out.Items = append(out.Items, part(g.String(), &g.counts))
	}
	for i := range l.callers {
		out.Callers = append(out.Callers, part(strconv.Itoa(i+1), &l.callers[i]))
	}
	out.Series, out.SlotWidth = l.series.finish(l.plan, until)
	out.Interrupted = interrupted
	out.Left = out.Buy.Sent + out.Browse.Sent
	if readBack {
		for _, o := range l.ledger.orders {
			if o.exists() {
				out.Created++
			}
			if o.end.away {
				out.Unread++
			}
		}
	}
	out.ReadBack = readBack && out.Unread == 0
	return out
}

func part(name string, counts *[outcomes]atomic.Int64) Part {
	p := Part{Name: name}
	for o := range counts {
		p.Counts[o] = counts[o].Load()
	}
	return p
}

// exists reports whether an order was read back as an existing order.
func (o *order) exists() bool {
	switch o.end.Status {
	case statusPending, statusPaid, statusRefundDue, statusRefunded:
		return o.end.found
	case statusCancelled:
		return o.end.found && o.end.Reason != reasonNotAccepted
	}
	return false
}

// ErrorRate returns the share of requests that ended in an error, or could not leave.
func (r *LoadResult) ErrorRate() float64 {
	all := r.Total() + r.Dropped
	if all == 0 {
		return 0
	}
	return float64(r.Errors()+r.Dropped) / float64(all)
}

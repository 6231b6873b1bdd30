package gateway

import (
	"sync"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/seckill"
)

// Bounds of the tables of one stripe between two calls of TakeTraffic. When a table is full,
// further names are counted in the sums only. A name with much traffic comes early and so has a
// place.
const (
	maxTrafficSales   = 128
	maxTrafficItems   = 512
	maxTrafficCallers = 128
)

// traffic counts the answers to purchases by activity, item and caller, for the live view. Only the
// exchanges of one stripe share its lock, and they hold it for a few additions.
type traffic struct {
	mu  sync.Mutex
	now *trafficSpan // guarded by mu; nil before the first purchase
}

// trafficSpan has the counts of a stripe between two calls of TakeTraffic.
type trafficSpan struct {
	all     trafficRow
	latency [timing.Size]uint32
	sold    [timing.Size]uint32 // accepted purchases that did not ask to wait

	sales   map[*seckill.Sale]int32 // from a sale to its place in bySale
	items   map[*seckill.Item]int32
	callers map[*seckill.Caller]int32

	bySale   []saleRow
	byItem   []itemRow
	byCaller []callerRow
}

// trafficRow counts answers: successes are divided by whether they are repeats, problems by their
// place in the catalogue.
type trafficRow struct {
	accepted, replayed uint32
	problems           [maxCodes]uint32
}

type saleRow struct {
	sale *seckill.Sale
	trafficRow
}

type itemRow struct {
	item              *seckill.Item
	sale              *seckill.Sale
	accepted, soldOut uint32
}

type callerRow struct {
	caller *seckill.Caller
	trafficRow
}

func newTrafficSpan() *trafficSpan {
	return &trafficSpan{
		sales: make(map[*seckill.Sale]int32, maxTrafficSales), items: make(map[*seckill.Item]int32, maxTrafficItems),
		callers: make(map[*seckill.Caller]int32, maxTrafficCallers),
	}
}

// reset empties the span and keeps its memory.
func (s *trafficSpan) reset() {
	clear(s.sales)
	clear(s.items)
	clear(s.callers)
	clear(s.bySale) // so that an old catalog is not kept
	clear(s.byItem)
	clear(s.byCaller)
	s.all, s.latency, s.sold = trafficRow{}, [timing.Size]uint32{}, [timing.Size]uint32{}
	s.bySale, s.byItem, s.byCaller = s.bySale[:0], s.byItem[:0], s.byCaller[:0]
}

// answered is the outcome of one purchase.
type answered struct {
	offer    seckill.Offer // zero if the request named no item of its caller's merchant
	caller   *seckill.Caller
	problem  int // its place in the catalogue; -1 for a success
	replayed bool
	soldOut  bool
	waited   bool // it asked to wait until the order exists
	took     time.Duration
}

func (r *trafficRow) add(a *answered) {
	switch {
	case a.problem >= 0:
		r.problems[a.problem]++
	case a.replayed:
		r.replayed++
	default:
		r.accepted++
	}
}

// add counts an answer. It allocates only until the tables have the size that the traffic needs.
func (t *traffic) add(a *answered) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil {
		t.now = newTrafficSpan()
	}
	s := t.now
	s.all.add(a)
	s.latency[timing.Bucket(a.took)]++
	if a.problem < 0 && !a.waited {
		s.sold[timing.Bucket(a.took)]++
	}
	if i, known := s.callers[a.caller]; known {
		s.byCaller[i].add(a)
	} else if a.caller != nil && len(s.byCaller) < maxTrafficCallers {
		s.callers[a.caller] = int32(len(s.byCaller))
		s.byCaller = append(s.byCaller, callerRow{caller: a.caller})
		s.byCaller[len(s.byCaller)-1].add(a)
	}
	if a.offer.Sale == nil {
		return
	}
	if i, known := s.sales[a.offer.Sale]; known {
		s.bySale[i].add(a)
	} else if len(s.bySale) < maxTrafficSales {
		s.sales[a.offer.Sale] = int32(len(s.bySale))
		s.bySale = append(s.bySale, saleRow{sale: a.offer.Sale})
		s.bySale[len(s.bySale)-1].add(a)
	}
	s.addItem(a)
}

func (s *trafficSpan) addItem(a *answered) {
	i, known := s.items[a.offer.Item]
	if !known {
		if len(s.byItem) >= maxTrafficItems {
			return
		}
		i = int32(len(s.byItem))
		s.items[a.offer.Item] = i
		s.byItem = append(s.byItem, itemRow{item: a.offer.Item, sale: a.offer.Sale})
	}
	switch {
	case a.problem < 0 && !a.replayed:
		s.byItem[i].accepted++
	case a.soldOut:
		s.byItem[i].soldOut++
	}
}

// Outcomes counts answers to purchases.
type Outcomes struct {
	Accepted uint64 // 201 or 202, for the first time
	Replayed uint64 // repeats that were answered with the order of their key
	Refused  map[problem.Code]uint64
}

// ItemOutcomes counts purchases of an item.
type ItemOutcomes struct {
	Accepted uint64
	SoldOut  uint64 // refused because nothing was left
}

// ItemName names an item for people.
type ItemName struct {
	Activity seckill.ActivityID
	SKU      seckill.SKU
}

// Traffic counts the answers to purchases in a span of time: in all, and for the busiest
// activities, items and callers. The caller owns it.
type Traffic struct {
	All        Outcomes
	Latency    timing.Counts // from the request's arrival until its answer was decided
	Sold       timing.Counts // of these, accepted purchases that did not ask to wait
	Activities map[seckill.ActivityID]*Outcomes
	Items      map[ItemName]*ItemOutcomes
	Callers    map[seckill.CallerRef]*Outcomes
}

// TakeTraffic returns the counts since the last call. Only the live view may call it, because each
// call starts new counts.
func (s *Server) TakeTraffic() *Traffic {
	out := &Traffic{
		All: newOutcomes(), Activities: make(map[seckill.ActivityID]*Outcomes), Items: make(map[ItemName]*ItemOutcomes),
		Callers: make(map[seckill.CallerRef]*Outcomes),
	}
	c := s.counters
	c.taking.Lock() // one call at a time: there is one spare span
	defer c.taking.Unlock()
	for i := range c.stripes {
		if c.spare == nil {
			c.spare = newTrafficSpan()
		}
		t := &c.stripes[i].traffic
		t.mu.Lock()
		span := t.now
		if span != nil {
			t.now = c.spare
		}
		t.mu.Unlock()
		if span == nil {
			continue
		}
		c.sum(out, span)
		span.reset()
		c.spare = span
	}
	return out
}

func newOutcomes() Outcomes { return Outcomes{Refused: make(map[problem.Code]uint64)} }

// sum returns the sum of a span.
func (c *counters) sum(out *Traffic, s *trafficSpan) {
	c.sumRow(&out.All, &s.all)
	for i, n := range s.latency {
		out.Latency[i] += uint64(n)
	}
	for i, n := range s.sold {
		out.Sold[i] += uint64(n)
	}
	for i := range s.bySale {
		c.sumRow(outcomesOf(out.Activities, s.bySale[i].sale.ID), &s.bySale[i].trafficRow)
	}
	for i := range s.byCaller {
		c.sumRow(outcomesOf(out.Callers, s.byCaller[i].caller.CallerRef), &s.byCaller[i].trafficRow)
	}
	for i := range s.byItem {
		row := &s.byItem[i]
		name := ItemName{row.sale.ID, row.item.SKU}
		if out.Items[name] == nil {
			out.Items[name] = new(ItemOutcomes)
		}
		out.Items[name].Accepted += uint64(row.accepted)
		out.Items[name].SoldOut += uint64(row.soldOut)
	}
}

func outcomesOf[K comparable](all map[K]*Outcomes, key K) *Outcomes {
	o := all[key]
	if o == nil {
		made := newOutcomes()
		o = &made
		all[key] = o
	}
	return o
}

func (c *counters) sumRow(out *Outcomes, row *trafficRow) {
	out.Accepted += uint64(row.accepted)
	out.Replayed += uint64(row.replayed)
	for i, e := range c.entries {
		if n := row.problems[i]; n > 0 {
			out.Refused[e.Code] += uint64(n)
		}
	}
}

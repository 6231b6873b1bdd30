package live

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/internal/timing"
)

// Heard is a node's frame, its age now, and its age when it was read.
type Heard struct {
	Frame     *Frame
	Age, Read time.Duration
}

// Known is a node in the database. A node is known until it stops cleanly, or until a person
// removes it.
type Known struct {
	Node     string
	Silent   time.Duration // since the database heard of it
	Draining bool          // a person has asked it to take no new buyers
	Behind   bool          // it doesn't have the newest settings in force
	Status   Node          // its last report to the database; zero if nothing is known
}

// Sale is an activity, from the catalog.
type Sale struct {
	Name, Merchant, State string
	StartsAt, EndsAt      time.Time
	Items                 int
	// Item returns an item, from the catalog and the stock's memory.
	Item func(sku string) (item Item, known bool)
}

// SaleLedger is an activity's stock at the last reading.
type SaleLedger struct {
	All   *Ledger // of the whole activity; nil if it wasn't read
	Items map[string]Ledger
}

// Policy is a limit as it is configured.
type Policy struct {
	Key, Mode string
	Rate      float64
}

// Input has the data for a snapshot.
type Input struct {
	At      time.Time
	Version string
	Frames  []Heard
	Known   []Known
	// BooksAway means that the list of nodes can't be read from the database, so a node that is
	// missing there may be alive.
	BooksAway bool
	// Partial tells why the frames of other nodes can't be read; "" if they can.
	Partial    string
	Sale       func(activity string) (Sale, bool)
	Shown      []string // activities that are shown without traffic too, the most interesting first; nil: not known yet
	Ledgers    map[string]SaleLedger
	Policies   map[string]Policy
	Targets    Targets
	Lag        *int64
	Letters    int64
	Money      []Money
	MoneyOf    map[string][]Money
	Switches   []Switch
	LastChange *Change
}

// Merger makes snapshots. It remembers earlier values, for trends. It is used by one goroutine.
type Merger struct {
	lags   []trend            // of the last ten seconds
	stocks map[string][]trend // available units of the shown activities, of the last minute
	heard  map[string]hearing // of the nodes
	heat   map[string]*heat   // of the activities that were asked for lately
	warmed time.Time          // when heat was brought up to date
}

// heat is how busy an activity and its items were lately. It sorts them: an order by a second's
// rates would be another one each second, under the hands of a person who reads it.
type heat struct {
	rate  float64
	items map[string]float64
}

// heatSpan is how long heat takes to follow the rates, about. Below leastHeat it is forgotten.
const (
	heatSpan  = 10 * time.Second
	leastHeat = 0.02
)

// hearing is what is remembered of a node without a frame.
type hearing struct {
	since  time.Time // when it was seen first
	framed bool      // it has left a frame once
}

// trend is a number at a moment.
type trend struct {
	at time.Time
	n  int64
}

// lostAfter is how long a node may be silent before it counts as lost. A node reports to the
// database five times a second, and stores a frame once a second. If only frames can be read,
// StaleAfter is used instead.
const lostAfter = 1500 * time.Millisecond

// unseenAfter is the age of a node's frame from which the node counts as unseen, if the database
// still hears it. firstFrame is how long a node may take to store its first frame.
const (
	unseenAfter = 2 * time.Second
	firstFrame  = 15 * time.Second
)

// Merge makes a snapshot, without findings yet.
func (m *Merger) Merge(in *Input) *Snapshot {
	s := &Snapshot{
		At: in.At, Version: in.Version, Totals: NewRates(), Others: NewRates(), Missing: []string{}, History: []Point{},
		Activities: []Activity{}, Callers: []Caller{}, Limits: []Limit{}, Refused: []Refused{}, Servers: []Server{},
		Money: append([]Money{}, in.Money...), MoneyOf: in.MoneyOf, Switches: append([]Switch{}, in.Switches...),
		Level: "D0", Hops: []Hop{}, Probes: []Probe{}, Abnormal: []Finding{}, LastChange: in.LastChange,
	}
	s.Unread = in.Shown == nil
	s.Nodes, s.Missing = m.mergeNodes(in)
	s.Complete = len(s.Missing) == 0 && in.Partial == ""
	fresh := freshFrames(in)
	var latency timing.Counts
	for _, f := range fresh {
		s.Totals.Add(&f.All)
		f.Latency.addTo(&latency)
		s.Level = max(s.Level, f.Node.Level)
		s.Probes = append(s.Probes, f.Probes...)
		if f.Shards.Closed+f.Shards.Rebuilding > s.Shards.Closed+s.Shards.Rebuilding || s.Shards == (Shards{}) {
			s.Shards = f.Shards
		}
	}
	s.Latency = Latency{millis(&latency, 0.5), millis(&latency, 0.99), millis(&latency, 0.999)}
	m.mergeActivities(s, in, fresh)
	s.Callers = mergeCallers(fresh)
	s.Limits, s.Refused = mergeLimits(in, fresh)
	s.Servers = mergeServers(fresh)
	s.Hops = mergeHops(fresh, s.Nodes)
	s.Objectives = mergeObjectives(fresh, in.Targets)
	m.mergeQueue(s, in, fresh)
	s.Totals.round()
	return s
}

func millis(c *timing.Counts, q float64) *float64 {
	d, known := timing.Quantile(c, q)
	if !known {
		return nil
	}
	ms := float64(d) / float64(time.Millisecond)
	return &ms
}

// freshFrames returns the frames that are new enough.
func freshFrames(in *Input) (fresh []*Frame) {
	for i := range in.Frames {
		if in.Frames[i].Age <= StaleAfter {
			fresh = append(fresh, in.Frames[i].Frame)
		}
	}
	return fresh
}

// mergedNode is a node, joined from two sources: its frame and the database.
type mergedNode struct {
	Node
	known  *Known         // nil if the database doesn't know the node
	framed *time.Duration // the age of its frame; nil if there is none
	read   time.Duration  // the age of its frame at the time of the reading
}

// age is the time since the node was last heard in any way.
func (n *mergedNode) age() time.Duration {
	switch {
	case n.known == nil:
		return *n.framed
	case n.framed == nil:
		return n.known.Silent
	}
	return min(n.known.Silent, *n.framed)
}

// lost reports whether the node counts as lost: some way to hear it works, but it is heard on none.
func (n *mergedNode) lost(in *Input) bool {
	switch {
	case n.known != nil && !in.BooksAway:
		return n.age() > lostAfter
	case n.framed != nil && in.Partial == "":
		return *n.framed > StaleAfter
	}
	return false
}

// unseen reports whether frames of a node that lives are missing. seen is how long it has been
// known, and framed whether it has stored a frame before.
func (n *mergedNode) unseen(seen time.Duration, framed bool) bool {
	if n.framed == nil {
		return framed || seen > firstFrame
	}
	return n.read > unseenAfter
}

// mergeNodes joins the frames with the nodes in the database. missing are known nodes without a
// recent frame.
func (m *Merger) mergeNodes(in *Input) (nodes []Node, missing []string) {
	byName := make(map[string]*mergedNode)
	for i := range in.Known {
		k := &in.Known[i]
		n := &mergedNode{Node: k.Status, known: k}
		n.Node.Node, n.Behind, n.Draining = k.Node, k.Behind, n.Draining || k.Draining
		byName[k.Node] = n
	}
	for i := range in.Frames {
		h := &in.Frames[i]
		n := &mergedNode{Node: h.Frame.Node, framed: &h.Age, read: h.Read}
		if other := byName[n.Node.Node]; other != nil && other.known != nil {
			if h.Age > unseenAfter && other.known.Silent < h.Age { // the database has newer data
				n.Level, n.InFlight, n.Breakers, n.Lag = other.Level, other.InFlight, other.Breakers, other.Lag
			}
			n.known, n.Behind, n.Draining = other.known, other.Behind, n.Draining || other.known.Draining
		} else if len(in.Known) > 0 && h.Age > StaleAfter {
			continue // it has stopped cleanly
		}
		byName[n.Node.Node] = n
	}
	nodes, missing = []Node{}, []string{}
	heard := make(map[string]hearing, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		n := byName[name]
		before, known := m.heard[name]
		if !known {
			before.since = in.At
		}
		heard[name] = hearing{before.since, before.framed || n.framed != nil}
		n.Age, n.Lost = rounded(n.age().Seconds()), n.lost(in)
		n.Unseen = !n.Lost && in.Partial == "" && n.unseen(in.At.Sub(before.since), before.framed)
		if n.Breakers == nil {
			n.Breakers = map[string]string{}
		}
		nodes = append(nodes, n.Node)
		if n.framed == nil || *n.framed > StaleAfter {
			missing = append(missing, name)
		}
	}
	m.heard = heard
	return nodes, missing
}

// activitySum is what the nodes tell of an activity.
type activitySum struct {
	rates Rates
	items map[string]*FrameItem
}

// sumActivities adds the nodes' activities up.
func sumActivities(fresh []*Frame) map[string]*activitySum {
	sums := make(map[string]*activitySum)
	for _, f := range fresh {
		for i := range f.Activities {
			a := &f.Activities[i]
			one := sums[a.Activity]
			if one == nil {
				one = &activitySum{NewRates(), make(map[string]*FrameItem)}
				sums[a.Activity] = one
			}
			one.rates.Add(&a.Rates)
			for _, item := range a.Items {
				if one.items[item.SKU] == nil {
					one.items[item.SKU] = &FrameItem{SKU: item.SKU}
				}
				one.items[item.SKU].Accepted += item.Accepted
				one.items[item.SKU].SoldOut += item.SoldOut
			}
		}
	}
	return sums
}

// mergeActivities adds up the activities, the hottest first, including those without traffic that
// are shown too.
func (m *Merger) mergeActivities(s *Snapshot, in *Input, fresh []*Frame) {
	sums := sumActivities(fresh)
	m.cool(in.At)
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		m.warm(in.At, name, &sums[name].rates, sums[name].items)
	}
	m.warmed = in.At
	names := slices.Clone(in.Shown)
	shown := make(map[string]bool, len(names))
	for _, name := range names {
		shown[name] = true
		if sums[name] == nil {
			sums[name] = &activitySum{NewRates(), nil}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if !shown[name] {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(m.heatOf(b).rate, m.heatOf(a).rate) })
	s.Others.Add(&s.Totals)
	for _, name := range names[:min(len(names), MaxActivities)] {
		one := sums[name]
		a := Activity{Activity: name, Rates: one.rates, Items: []Item{}, History: []Point{}}
		s.Others.less(&one.rates)
		a.Rates.round()
		m.describe(&a, in, one.items)
		s.Activities = append(s.Activities, a)
	}
	s.Others.round()
	for name := range m.stocks {
		if sums[name] == nil {
			delete(m.stocks, name)
		}
	}
}

// kept is the share of the heat that is left since it was brought up to date: all of it at the same
// moment, and nothing the first time.
func (m *Merger) kept(now time.Time) float64 {
	if m.warmed.IsZero() {
		return 0
	}
	return math.Exp(-max(0, now.Sub(m.warmed).Seconds()) / heatSpan.Seconds())
}

// cool lets the heat of everything fall.
func (m *Merger) cool(now time.Time) {
	kept := m.kept(now)
	for name, h := range m.heat {
		h.rate *= kept
		for sku := range h.items {
			if h.items[sku] *= kept; h.items[sku] < leastHeat {
				delete(h.items, sku)
			}
		}
		if h.rate < leastHeat && len(h.items) == 0 {
			delete(m.heat, name)
		}
	}
}

// warm adds what an activity is asked for now.
func (m *Merger) warm(now time.Time, name string, rates *Rates, items map[string]*FrameItem) {
	share := 1 - m.kept(now)
	if m.heat == nil {
		m.heat = make(map[string]*heat)
	}
	h := m.heat[name]
	if h == nil {
		h = &heat{items: make(map[string]float64)}
		m.heat[name] = h
	}
	h.rate += share * rates.heat()
	for sku, item := range items {
		if asked := item.Accepted + item.SoldOut; asked > 0 {
			h.items[sku] += share * asked
		}
	}
}

// heatOf returns an activity's heat, which must not be changed.
func (m *Merger) heatOf(name string) heat {
	if h := m.heat[name]; h != nil {
		return *h
	}
	return heat{}
}

// describe fills in an activity's data from the catalog and the stock. items are those that are
// asked for now.
func (m *Merger) describe(a *Activity, in *Input, items map[string]*FrameItem) {
	sale, known := in.Sale(a.Activity)
	if !known {
		return // this node doesn't have the activity
	}
	a.Name, a.Merchant, a.State, a.StartsAt, a.EndsAt = sale.Name, sale.Merchant, sale.State, sale.StartsAt, sale.EndsAt
	stock := in.Ledgers[a.Activity]
	for _, h := range m.hottest(a.Activity, sale.Item, items, stock.Items) {
		item := h.item
		if now := items[h.sku]; now != nil {
			item.Accepted = rounded(now.Accepted)
		}
		if ledger, read := stock.Items[h.sku]; read {
			item.Ledger = ledger
		}
		a.Items = append(a.Items, item)
	}
	a.MoreItems = max(0, sale.Items-len(a.Items))
	if stock.All == nil {
		return
	}
	a.Ledger = *stock.All
	a.SoldOutIn = m.soldOutIn(a)
}

// hot is an item with its heat.
type hot struct {
	sku  string
	heat float64
	item Item
}

// hottest returns the hottest known items of an activity, at most MaxItems, hottest first. There
// may be thousands of candidates, and each node looks twice a second, so they aren't sorted.
func (m *Merger) hottest(activity string, find func(sku string) (Item, bool), items map[string]*FrameItem,
	ledgers map[string]Ledger) []hot {
	found := make([]hot, 0, MaxItems+1)
	consider := func(sku string, heat float64) {
		if len(found) == MaxItems && heat < found[MaxItems-1].heat {
			return
		}
		at, _ := slices.BinarySearchFunc(found, sku, func(h hot, sku string) int { return hotter(h.heat, heat, h.sku, sku) })
		if at == MaxItems {
			return
		}
		item, known := find(sku)
		if !known {
			return
		}
		found = slices.Insert(found, at, hot{sku, heat, item})
		found = found[:min(len(found), MaxItems)]
	}
	heat := m.heatOf(activity).items
	for sku, h := range heat {
		consider(sku, h)
	}
	for sku := range items {
		if _, warm := heat[sku]; !warm {
			consider(sku, 0)
		}
	}
	for sku := range ledgers {
		if _, warm := heat[sku]; !warm && items[sku] == nil {
			consider(sku, 0)
		}
	}
	return found
}

// soldOutIn estimates, from the last minute, when no unit will be left.
func (m *Merger) soldOutIn(a *Activity) *float64 {
	if m.stocks == nil {
		m.stocks = make(map[string][]trend)
	}
	past := m.stocks[a.Activity]
	if n := len(past); a.Ledger.At != nil && (n == 0 || a.Ledger.At.After(past[n-1].at)) {
		past = append(past, trend{*a.Ledger.At, a.Ledger.Available})
	}
	past = since(past, time.Minute)
	m.stocks[a.Activity] = past
	rate := slope(past)
	if rate >= 0 || a.Ledger.Available <= 0 {
		return nil
	}
	left := rounded(float64(a.Ledger.Available) / -rate)
	return &left
}

// since drops the values that are older than span, compared with the newest.
func since(past []trend, span time.Duration) []trend {
	if len(past) == 0 {
		return past
	}
	newest := past[len(past)-1].at
	return slices.DeleteFunc(past, func(t trend) bool { return newest.Sub(t.at) > span })
}

// slope is how much a number changes per second; 0 if less than a second is known.
func slope(past []trend) float64 {
	if len(past) < 2 {
		return 0
	}
	first, last := past[0], past[len(past)-1]
	if passed := last.at.Sub(first.at); passed >= time.Second {
		return float64(last.n-first.n) / passed.Seconds()
	}
	return 0
}

func mergeCallers(fresh []*Frame) []Caller {
	sums := make(map[string]*Rates)
	for _, f := range fresh {
		for i := range f.Callers {
			c := &f.Callers[i]
			if sums[c.Caller] == nil {
				made := NewRates()
				sums[c.Caller] = &made
			}
			sums[c.Caller].Add(&c.Rates)
		}
	}
	out := []Caller{}
	for name, rates := range sums {
		rates.round()
		out = append(out, Caller{name, *rates})
	}
	slices.SortFunc(out, func(a, b Caller) int { return hotter(a.Rates.heat(), b.Rates.heat(), a.Caller, b.Caller) })
	return out[:min(len(out), MaxCallers)]
}

// mergeLimits adds the policies that are asked up, and the keys that they refuse.
func mergeLimits(in *Input, fresh []*Frame) ([]Limit, []Refused) {
	sums, keys := make(map[string]*Limit), make(map[[2]string]float64)
	for _, f := range fresh {
		for _, l := range f.Limits {
			policy, known := in.Policies[l.Policy]
			if !known {
				continue // it belongs to a version that is just coming or going
			}
			sum := sums[l.Policy]
			if sum == nil {
				sum = &Limit{Policy: l.Policy, Key: policy.Key, Mode: policy.Mode, Configured: policy.Rate, Nodes: []NodeShare{}}
				sums[l.Policy] = sum
			}
			sum.Allowed += l.Allowed
			sum.Refused += l.Refused
			sum.Shadowed += l.Shadowed
			sum.Nodes = append(sum.Nodes, NodeShare{f.Node.Node, rounded(l.Share * policy.Rate), rounded(l.Allowed), rounded(l.Refused)})
		}
		for _, r := range f.Refused {
			keys[[2]string{r.Policy, r.Key}] += r.Refused
		}
	}
	limits, refused := []Limit{}, []Refused{}
	for _, l := range sums {
		l.Allowed, l.Refused, l.Shadowed = rounded(l.Allowed), rounded(l.Refused), rounded(l.Shadowed)
		limits = append(limits, *l)
	}
	full := func(l *Limit) float64 {
		if l.Configured <= 0 {
			return 0 // it has no rate
		}
		return (l.Allowed + l.Refused + l.Shadowed) / l.Configured
	}
	slices.SortFunc(limits, func(a, b Limit) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(full(&b), full(&a)), strings.Compare(a.Policy, b.Policy))
	})
	for key, n := range keys {
		kind := in.Policies[key[0]].Key
		refused = append(refused, Refused{key[0], key[1], n, kind != "caller" && kind != "merchant" && kind != "activity" && kind != "sku"})
	}
	slices.SortFunc(refused, func(a, b Refused) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), strings.Compare(a.Policy, b.Policy), strings.Compare(a.Key, b.Key))
	})
	return limits[:min(len(limits), maxLimits)], refused[:min(len(refused), maxLimits)]
}

const maxLimits = 50

// The states of a server.
const (
	ServerOK       = "ok"
	ServerDegraded = "degraded"
	ServerAway     = "away"
)

// serverRank says which state is worse: the lower one.
func serverRank(state string) int {
	switch state {
	case ServerAway:
		return 0
	case ServerDegraded:
		return 1
	}
	return 2
}

// mergeServers returns, for each server, the worst state that was seen, and the nodes that saw it.
func mergeServers(fresh []*Frame) []Server {
	out := []Server{}
	places := make(map[[2]string]int)
	for _, f := range fresh {
		for _, seen := range f.Servers {
			name := [2]string{seen.Server, seen.Instance}
			at, known := places[name]
			if !known {
				at = len(out)
				places[name] = at
				out = append(out, Server{Server: seen.Server, Instance: seen.Instance, State: seen.State, Detail: seen.Detail, Nodes: []string{}})
			}
			s := &out[at]
			switch worse := serverRank(seen.State) - serverRank(s.State); {
			case worse < 0:
				s.State, s.Detail, s.Nodes = seen.State, seen.Detail, []string{f.Node.Node}
			case worse == 0:
				s.Nodes = append(s.Nodes, f.Node.Node)
			}
		}
	}
	slices.SortFunc(out, func(a, b Server) int {
		return cmp.Or(cmp.Compare(serverRank(a.State), serverRank(b.State)), strings.Compare(a.Server, b.Server),
			strings.Compare(a.Instance, b.Instance))
	})
	return out[:min(len(out), maxServers)]
}

const maxServers = 100

// mergeQueue returns the workers' progress.
func (m *Merger) mergeQueue(s *Snapshot, in *Input, fresh []*Frame) {
	s.Queue = Queue{Lag: in.Lag, Letters: in.Letters}
	for _, f := range fresh {
		if f.Oldest != nil && (s.Queue.Oldest == nil || *f.Oldest > *s.Queue.Oldest) {
			s.Queue.Oldest = f.Oldest
		}
	}
	if in.Lag == nil {
		m.lags = nil
		return
	}
	m.lags = since(append(m.lags, trend{in.At, *in.Lag}), 10*time.Second)
	rate := slope(m.lags)
	var left float64
	switch {
	case *in.Lag == 0:
	case rate < 0:
		left = rounded(float64(*in.Lag) / -rate)
	default:
		return
	}
	s.Queue.CatchUp = &left
}

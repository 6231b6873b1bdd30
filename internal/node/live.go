package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/seckill"
)

// liveView is this node's view of the whole installation, once a second. Each part of the work has
// a loop of its own, so that a stalled server delays only its own part. The view itself is made
// from memory.
//
//	collect   counts this node's second into a frame                       (runLive)
//	exchange  leaves the frame in Redis and reads those of the others      (runFrames)
//	books     asks the database what is known of nodes, changes and money  (runBooks)
//	stock     reads the stock of what is shown, while somebody watches     (runStock)
//	merge     makes the snapshot, the alarms and the events                (runLive)
type liveView struct {
	hub          *live.Hub
	moved        movedOrders
	edge         atomic.Pointer[gateway.Server] // nil before it serves, and without RoleGateway
	certificates atomic.Pointer[[]live.Symptom] // nil before the first look, and without any
	symptoms     atomic.Pointer[[]live.Symptom] // of the last second; nil before the first
	spread       timing.Histogram               // from a change of the settings until it was in force on every gateway

	// Used by runLive only.
	collector collector
	merger    live.Merger
	alarms    *live.Alarms
	before    *live.Snapshot // nil before the first one
	switches  parsedSwitches

	mu       sync.Mutex
	own      *live.Frame // the newest frame of this node; nil before the first one; guarded by mu
	heard    heardFrames // guarded by mu
	books    liveBooks   // guarded by mu
	shown    []string    // activities that are shown even without traffic; guarded by mu
	unready  []live.Unready
	stock    map[string]live.SaleLedger // replaced as a whole; guarded by mu
	audited  map[string][]live.Unbalanced
	severity map[string]int        // raised alarms by severity; guarded by mu
	tallies  map[string]live.Tally // the counts for objectives, since the start; guarded by mu
}

func newLiveView() *liveView {
	return &liveView{hub: live.NewHub(), alarms: live.NewAlarms(), audited: make(map[string][]live.Unbalanced)}
}

// liveTick is how often the view is checked for problems; every second time, a snapshot is sent.
const liveTick = 500 * time.Millisecond

// runLive sends a snapshot each second until ctx ends, and then ends all watchers.
func (n *Node) runLive(ctx context.Context) {
	defer n.live.hub.Close()
	tick := wait.NewTicker(liveTick)
	defer tick.Stop()
	for whole := true; ; whole = !whole {
		if whole {
			n.collectFrame(time.Now())
		}
		n.showLive(whole)
		if !tick.Wait(ctx) {
			return
		}
	}
}

// showLive merges the known data and sends changes; with whole, it also sends the snapshot.
func (n *Node) showLive(whole bool) {
	v := n.live
	input, facts := n.liveInput(time.Now())
	s := v.merger.Merge(input)
	raised, news := v.alarms.Step(live.Find(s, facts), s.At)
	s.Abnormal = raised
	if v.before != nil {
		for _, incident := range live.Incidents(v.before, s) {
			n.publishLive(incident.Type, "", s.At, incident.Incident)
		}
	}
	v.before = s
	for i := range news {
		n.publishLive(live.EventAlarm, news[i].Finding.Merchant, s.At, news[i])
	}
	severity := map[string]int{live.Critical: 0, live.Warning: 0, live.Info: 0}
	for i := range raised {
		severity[raised[i].Severity]++
	}
	v.mu.Lock()
	v.severity = severity
	v.mu.Unlock()
	if whole {
		v.hub.Show(s)
	}
}

func (n *Node) publishLive(kind, merchant string, at time.Time, data any) {
	if err := n.live.hub.Publish(kind, merchant, at, data); err != nil {
		n.log.Error("event not published", "type", kind, "err", err)
	}
}

// movedOrders counts the orders that this node has paid or cancelled, until the counts are taken.
// It is safe for concurrent use; the zero value is empty.
type movedOrders struct {
	mu  sync.Mutex
	now movedCounts // guarded by mu
}

// movedCounts has at most maxMoved names of each kind; further ones are only in all.
type movedCounts struct {
	all        movedCount
	activities map[seckill.ActivityID]movedCount
	callers    map[seckill.CallerRef]movedCount
}

type movedCount struct{ paid, cancelled uint64 }

func (c movedCount) with(state seckill.OrderState) movedCount {
	if state == seckill.OrderCancelled {
		c.cancelled++
	} else {
		c.paid++
	}
	return c
}

const maxMoved = 1_000

// count is the function for desk.Parts.Moved.
func (m *movedOrders) count(o *seckill.Order) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.activities == nil {
		m.now.activities, m.now.callers = make(map[seckill.ActivityID]movedCount), make(map[seckill.CallerRef]movedCount)
	}
	m.now.all = m.now.all.with(o.State)
	if c, known := m.now.activities[o.Activity]; known || len(m.now.activities) < maxMoved {
		m.now.activities[o.Activity] = c.with(o.State)
	}
	if c, known := m.now.callers[o.Caller]; known || len(m.now.callers) < maxMoved {
		m.now.callers[o.Caller] = c.with(o.State)
	}
}

// take returns the counts since the last call.
func (m *movedOrders) take() movedCounts {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.now
	m.now = movedCounts{}
	return out
}

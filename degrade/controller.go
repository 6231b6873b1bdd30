package degrade

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Class is the importance of a visit; the lowest is the most important.
type Class uint8

// The classes. Existing is the status, cancellation or payment of an order that exists; a repeat of
// a purchase is no part of it, because it can't be told from a new purchase before any work.
const (
	Existing Class = iota
	NewOrder
	Browsing
	LoadTest // visits of callers that send load tests
)

// Visit has the data for a decision. Its strings are not kept.
type Visit struct {
	Class    Class
	Merchant string
	Caller   string
	Activity string
	SKU      string
	User     string
	Settled  bool // its answer is in memory, so it needs no room and no Leave

	tenant *tenant // the merchant whose place it has, nil if not counted
}

// Cause is why a visit was refused.
type Cause uint8

// The causes; None means that it was not refused.
const (
	None        Cause = iota
	OrdersOff         // refused by the switch orders
	NotAdmitted       // refused by the switch admission
	BrowseOff         // refused by the switch browse
	Full              // too many visits of its class are in flight
	causes
)

// String is the cause's name in metrics.
func (c Cause) String() string {
	return [causes]string{"none", "orders-off", "not-admitted", "browse-off", "full"}[c]
}

// Verdict is the decision about a visit.
type Verdict struct {
	Cause     Cause // None: it is admitted
	Inside    bool  // it has taken a place, so it needs Leave
	NoWait    bool  // Prefer: wait is ignored
	Static    bool  // it gets activity pages as they were last rendered
	PollAfter int32 // seconds until a queued order may be asked for again
	Limits    LimitsMode
	Log       bool      // it is logged
	Since     time.Time // for a purchase that a switch refuses: since when that switch refuses new orders
	// Spared means that a degrade level refuses the purchase, not a person. A purchase within its
	// merchant's guaranteed rate is still admitted.
	Spared bool
}

// The shares of the capacity, in percent, up to which each class may fill it. Existing may use all
// of it.
const (
	newOrderShare = 80
	browsingShare = 65
	loadTestShare = 50
)

// stripes divides the counts, so that not all processors write to the same memory when they refuse.
const stripes = 16

type stripe struct {
	counts [causes]atomic.Int64
	_      [64]byte
}

// Controller decides. Its methods are safe for concurrent use. Before Apply all switches have their
// defaults, and before Resize there is no limit to visits in flight.
type Controller struct {
	mu        sync.Mutex     // held while something changes
	document  Document       // guarded by mu
	ahead     time.Duration  // how far the document's clock is ahead of this process's; guarded by mu
	automatic Level          // guarded by mu
	found     Found          // guarded by mu
	weights   map[string]int // the weights of merchants, by which places are divided; guarded by mu

	current  atomic.Pointer[snapshot]
	capacity atomic.Int64
	_        [64]byte
	inFlight atomic.Int64
	_        [64]byte
	stripes  [stripes]stripe
	places   places
}

// NewController makes a controller.
func NewController() *Controller {
	c := new(Controller)
	s, _ := build(&Document{}, time.Time{}, D0)
	c.current.Store(s)
	return c
}

// Apply puts a document in force with its values at now, and returns when it must be called again
// (zero: never). An invalid document changes nothing.
func (c *Controller) Apply(d Document, now time.Time) (next time.Time, err error) {
	if err := d.Validate(); err != nil {
		return time.Time{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.document, c.ahead = d, time.Until(now)
	return c.rebuild(now), nil
}

// rebuild puts the document and the level in force. The caller holds mu.
func (c *Controller) rebuild(now time.Time) (next time.Time) {
	s, next := build(&c.document, now, c.automatic)
	s.follows(c.current.Load())
	c.current.Store(s)
	return next
}

// AutomaticMode says whether nodes enter levels automatically.
type AutomaticMode int32

// The modes, as values of the switch automatic.
const (
	AutomaticOn AutomaticMode = iota
	AutomaticShadow
	AutomaticOff
)

// String is the mode as a value of the switch.
func (m AutomaticMode) String() string { return [...]string{"on", "shadow", "off"}[m] }

// Found is the level that a node's signals ask for.
type Found struct {
	Level Level
	Why   string // empty at D0
	Since time.Time
}

// Find takes the level that this node's signals ask for. That level is in force if the switch
// automatic is on and no person has pinned another one. Find reports whether the level in force has
// changed.
func (c *Controller) Find(l Level, why string) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l != c.found.Level || c.found.Since.IsZero() {
		c.found.Since = time.Now()
	}
	c.found.Level, c.found.Why = l, why
	automatic := D0
	if c.mode() == AutomaticOn {
		automatic = min(l, MaxAutomatic)
	}
	if automatic == c.automatic {
		return false
	}
	before := c.current.Load().now
	c.automatic = automatic
	c.rebuild(time.Now().Add(c.ahead))
	return c.current.Load().now != before
}

func (c *Controller) mode() AutomaticMode { return AutomaticMode(c.current.Load().automatic.everybody) }

// LevelState says at which level a node is, and why.
type LevelState struct {
	Level      Level
	Pinned     bool             // a person has set it
	Mode       AutomaticMode    // whether the node uses the level of its signals
	Found      Found            // the level that its signals ask for
	Activities map[string]Level // those with their own level
}

// Level returns at which level the node is, and why.
func (c *Controller) Level() LevelState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.current.Load()
	state := LevelState{Level: s.now, Pinned: s.pinned, Mode: c.mode(), Found: c.found, Activities: make(map[string]Level)}
	for activity, pin := range s.level.activities {
		if pin > 0 {
			state.Activities[activity] = Level(pin - 1)
		}
	}
	return state
}

// Holds reports whether the jobs of a tier must wait at the level in force. It doesn't block.
func (c *Controller) Holds(t Tier) bool {
	held := c.current.Load().now.holds()
	return held != 0 && t >= held
}

// BreakerMode returns the mode that a breaker's switch asks for.
func (c *Controller) BreakerMode(name Name) BreakerMode {
	return BreakerMode(c.current.Load().of(name).everybody)
}

// TimeoutsHeld reports whether unpaid orders of an activity are kept and not cancelled at the
// moment.
func (c *Controller) TimeoutsHeld(merchant, activity string) bool {
	return c.current.Load().timeouts.narrowest(&Visit{Merchant: merchant, Activity: activity}) == timeoutsHeld
}

// TimeoutsScoped reports whether the switch timeouts is set for some merchants or activities. If it
// isn't, all activities are treated alike.
func (c *Controller) TimeoutsScoped() bool { return c.current.Load().timeouts.scoped }

// Resize sets how many visits may be in flight.
func (c *Controller) Resize(capacity int) { c.capacity.Store(int64(capacity)) }

// Enter decides about a visit. A settled visit needs no place. A purchase that a switch refuses
// takes a place, because its order may have to be looked up. Call TurnAway to count a visit that
// got no room, or a spared visit that is refused.
func (c *Controller) Enter(v *Visit) Verdict {
	s := c.current.Load()
	verdict := Verdict{
		Cause: s.judge(v), PollAfter: s.poll.narrowest(v), Log: s.log.narrowest(v) == on, Since: s.since,
	}
	if verdict.Cause == OrdersOff || verdict.Cause == NotAdmitted {
		verdict.Since = s.closedSince(v)
		verdict.Spared = verdict.Cause == NotAdmitted && v.Class == NewOrder && s.levelAdmits &&
			s.admission.narrowest(v) == s.admission.everybody
	}
	if !v.Settled && verdict.Cause != BrowseOff {
		if verdict.Inside = c.room(v); !verdict.Inside {
			verdict.Cause = Full
		}
	}
	if verdict.Cause != None && verdict.Cause != Full && !verdict.Spared {
		c.count(verdict.Cause)
	}
	if verdict.Cause == None || verdict.Spared {
		verdict.NoWait, verdict.Static = s.wait.narrowest(v) == off, s.browse.narrowest(v) == browseStatic
		verdict.Limits = LimitsMode(s.limits.narrowest(v))
	}
	return verdict
}

// judge decides by switches alone.
func (s *snapshot) judge(v *Visit) Cause {
	switch v.Class {
	case NewOrder, LoadTest:
		if v.Class == LoadTest && s.now >= D3 {
			return NotAdmitted
		}
		return closedBy(&s.orders, &s.admission, v)
	case Browsing:
		if s.browse.narrowest(v) == browseOff {
			return BrowseOff
		}
	case Existing:
	}
	return None
}

// room takes a place if the class and the merchant may have one more.
func (c *Controller) room(v *Visit) bool {
	v.tenant = nil
	n, capacity := c.inFlight.Add(1), c.capacity.Load()
	if capacity <= 0 || v.Class == Existing {
		return true
	}
	most := max(capacity*v.Class.share()/100, 1)
	if n <= most {
		if v.Class != NewOrder {
			return true
		}
		if v.tenant = c.tenant(v.Merchant); v.tenant == nil || c.places.may(v.tenant, n, most) {
			return true
		}
	}
	v.tenant = nil
	c.inFlight.Add(-1)
	return false
}

// share is the share of the places that a class may fill up to, in percent.
func (c Class) share() int64 {
	switch c {
	case NewOrder:
		return newOrderShare
	case Browsing:
		return browsingShare
	case LoadTest:
		return loadTestShare
	}
	return 100
}

// TurnAway counts a visit that is refused for lack of room, or whose Spared was of no use.
func (c *Controller) TurnAway(cause Cause) { c.count(cause) }

func (c *Controller) count(cause Cause) { c.stripes[rand.Uint32()%stripes].counts[cause].Add(1) }

// Leave gives back the place of an admitted visit. It needs the same value that entered.
func (c *Controller) Leave(v *Visit) {
	c.inFlight.Add(-1)
	if v.tenant != nil {
		c.places.leave(v.tenant)
		v.tenant = nil
	}
}

// portion maps a buyer to 0 to 99: The number differs between activities, but is the same on every
// node. So a buyer who was admitted once is admitted always, on every node.
func portion(activity, user string) int32 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for i := range len(activity) {
		h = (h ^ uint64(activity[i])) * prime
	}
	h = (h ^ 0xff) * prime
	for i := range len(user) {
		h = (h ^ uint64(user[i])) * prime
	}
	// If names differ only in their last letter, FNV's high bits differ too little. This is the
	// finisher of MurmurHash3.
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return int32((h ^ h>>33) % 100)
}

// Stats are a controller's counters.
type Stats struct {
	InFlight int64
	Capacity int64 // 0 means no limit
	Fitted   int64 // places for new orders while the line is too long; 0 if it isn't
	Set      int   // switches that are in force
	Refused  map[Cause]int64
}

// Stats returns the counters.
func (c *Controller) Stats() Stats {
	s := Stats{
		InFlight: c.inFlight.Load(), Capacity: c.capacity.Load(), Fitted: c.places.fit.Load(), Set: c.current.Load().set,
		Refused: make(map[Cause]int64),
	}
	for cause := None + 1; cause < causes; cause++ {
		for i := range c.stripes {
			s.Refused[cause] += c.stripes[i].counts[cause].Load()
		}
	}
	return s
}

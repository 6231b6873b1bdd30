package degrade

import (
	"reflect"
	"strings"
	"time"
)

// pair is a name within another name: a caller of a merchant, or a SKU of an activity ("" means
// every activity).
type pair struct{ in, name string }

// values are the values of one switch.
type values struct {
	everybody  int32
	scoped     bool // there are values with scopes
	merchants  map[string]int32
	callers    map[pair]int32
	activities map[string]int32
	skus       map[pair]int32
}

// snapshot is all switches at one moment. It is never changed.
type snapshot struct {
	orders, admission, wait, browse, poll, limits, log, timeouts values
	level, automatic, redis, kafka, database                     values

	set    int // switches that are in force
	now    Level
	pinned bool
	// levelAdmits means that a level has set the switch admission for everybody.
	levelAdmits bool
	since       time.Time // since when orders and admission have their values, on this process's clock
	before      []closing // their earlier values, newest first
}

// closing has the switches that refused new orders at an earlier time.
type closing struct {
	orders, admission values
	since             time.Time
}

// maxBefore is how many earlier states are remembered, and forgetAfter is for how long. After that
// time, no purchase from before a change is still in progress.
const (
	maxBefore   = 8
	forgetAfter = time.Minute
)

// follows takes over the times of an earlier snapshot. Sales that were closed before keep the time
// since when they are closed.
func (s *snapshot) follows(last *snapshot) {
	if reflect.DeepEqual(last.orders, s.orders) && reflect.DeepEqual(last.admission, s.admission) {
		s.since, s.before = last.since, last.before
		return
	}
	s.before = append(s.before, closing{last.orders, last.admission, last.since})
	for _, c := range last.before {
		if begun := s.before[len(s.before)-1].since; len(s.before) < maxBefore && s.since.Sub(begun) < forgetAfter {
			s.before = append(s.before, c)
		}
	}
}

// closedSince returns the time since which new orders of a visit are refused. A change from one
// refusing value to another doesn't reset it, so orders from before needn't be looked up again.
func (s *snapshot) closedSince(v *Visit) time.Time {
	since := s.since
	for i := range s.before {
		c := &s.before[i]
		if closedBy(&c.orders, &c.admission, v) == None {
			break
		}
		since = c.since
	}
	return since
}

// closedBy says which switch refuses new orders of a visit.
func closedBy(orders, admission *values, v *Visit) Cause {
	if orders.lowest(v) == off {
		return OrdersOff
	}
	if share := admission.narrowest(v); share < 100 && portion(v.Activity, v.User) >= share {
		return NotAdmitted
	}
	return None
}

func (s *snapshot) of(name Name) *values {
	switch name {
	case Orders:
		return &s.orders
	case Admission:
		return &s.admission
	case Wait:
		return &s.wait
	case Browse:
		return &s.browse
	case PollInterval:
		return &s.poll
	case Limits:
		return &s.limits
	case LogDetail:
		return &s.log
	case Timeouts:
		return &s.timeouts
	case LevelSwitch:
		return &s.level
	case AutomaticSwitch:
		return &s.automatic
	case RedisBreaker:
		return &s.redis
	case KafkaBreaker:
		return &s.kafka
	default:
		return &s.database
	}
}

// build makes the snapshot of a valid document at now, for a node at a level. It also returns the
// time at which it must be built again, because a switch begins or ends.
func build(d *Document, now time.Time, automatic Level) (s *snapshot, next time.Time) {
	s = &snapshot{since: time.Now(), now: automatic}
	for _, k := range kinds() {
		s.of(k.name).everybody = k.normal
	}
	byHand := make(map[Name]bool) // switches that a person has set for everybody
	for i := range d.Switches {
		sw := &d.Switches[i]
		if sw.Over(now) {
			continue
		}
		for _, at := range []time.Time{sw.StartsAt, sw.ExpiresAt} {
			if at.After(now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
		if !sw.Active(now) {
			continue
		}
		_, k, _ := kindOf(sw.Name)
		v, _ := k.parse(sw.Value)
		s.of(sw.Name).set(sw.Scope, v)
		byHand[sw.Name] = byHand[sw.Name] || sw.Scope == (Scope{})
		s.set++
	}
	s.applyLevels(byHand)
	return s, next
}

// applyLevels applies the settings of the levels to switches that no person has set: for everybody,
// and for the activities with their own level.
func (s *snapshot) applyLevels(byHand map[Name]bool) {
	if pin := s.level.everybody; pin > 0 {
		s.now, s.pinned = Level(pin-1), true
	}
	for name, v := range s.now.settings() {
		if !byHand[name] {
			s.of(name).everybody = v
			s.levelAdmits = s.levelAdmits || name == Admission
		}
	}
	for activity, pin := range s.level.activities {
		if pin == 0 {
			continue
		}
		sets := Level(pin - 1).settings()
		for name := range D5.settings() {
			values := s.of(name)
			if _, set := values.activities[activity]; set || byHand[name] {
				continue
			}
			v, ok := sets[name]
			if !ok {
				_, k, _ := kindOf(name)
				v = k.normal
			}
			values.set(Scope{Activity: activity}, v)
		}
	}
}

func (v *values) set(scope Scope, value int32) {
	switch {
	case scope.Merchant != "":
		put(&v.merchants, scope.Merchant, value)
	case scope.Activity != "":
		put(&v.activities, scope.Activity, value)
	case scope.SKU != "":
		put(&v.skus, pair{"", scope.SKU}, value)
		if activity, sku, ok := strings.Cut(scope.SKU, "/"); ok {
			put(&v.skus, pair{activity, sku}, value)
		}
	case scope.Caller != "":
		merchant, caller, _ := strings.Cut(scope.Caller, "/")
		put(&v.callers, pair{merchant, caller}, value)
	default:
		v.everybody = value
		return
	}
	v.scoped = true
}

func put[K comparable](m *map[K]int32, key K, value int32) {
	if *m == nil {
		*m = make(map[K]int32)
	}
	(*m)[key] = value
}

// narrowest returns the value of the narrowest scope that applies to a visit.
func (v *values) narrowest(visit *Visit) int32 {
	if !v.scoped {
		return v.everybody
	}
	if value, ok := v.skus[pair{visit.Activity, visit.SKU}]; ok {
		return value
	}
	if value, ok := v.skus[pair{"", visit.SKU}]; ok {
		return value
	}
	if value, ok := v.activities[visit.Activity]; ok {
		return value
	}
	if value, ok := v.callers[pair{visit.Merchant, visit.Caller}]; ok {
		return value
	}
	if value, ok := v.merchants[visit.Merchant]; ok {
		return value
	}
	return v.everybody
}

// lowest returns the lowest of all values that apply to a visit.
func (v *values) lowest(visit *Visit) int32 {
	low := v.everybody
	if !v.scoped {
		return low
	}
	if value, ok := v.merchants[visit.Merchant]; ok {
		low = min(low, value)
	}
	if value, ok := v.callers[pair{visit.Merchant, visit.Caller}]; ok {
		low = min(low, value)
	}
	if value, ok := v.activities[visit.Activity]; ok {
		low = min(low, value)
	}
	if value, ok := v.skus[pair{"", visit.SKU}]; ok {
		low = min(low, value)
	}
	if value, ok := v.skus[pair{visit.Activity, visit.SKU}]; ok {
		low = min(low, value)
	}
	return low
}

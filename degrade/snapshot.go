package degrade

import (
	"strings"
	"time"
)

// pair is a name in another one: a caller of a merchant, a SKU of an activity ("" is of every activity).
type pair struct{ in, name string }

// values are the values of one switch.
type values struct {
	everybody  int32
	scoped     bool // there is more to look at
	merchants  map[string]int32
	callers    map[pair]int32
	activities map[string]int32
	skus       map[pair]int32
}

// snapshot is all switches at one moment. It is never changed.
type snapshot struct {
	orders, admission, wait, browse, poll, limits, log, timeouts values

	redis, kafka, database values

	set   int       // switches in force
	since time.Time // of this process's clock
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
	case RedisBreaker:
		return &s.redis
	case KafkaBreaker:
		return &s.kafka
	default:
		return &s.database
	}
}

// build makes the snapshot of a sound document at now, and says when the next switch ends.
func build(d *Document, now time.Time) (s *snapshot, next time.Time) {
	s = &snapshot{since: time.Now()}
	for _, k := range kinds() {
		s.of(k.name).everybody = k.normal
	}
	for i := range d.Switches {
		sw := &d.Switches[i]
		if sw.Over(now) {
			continue
		}
		if !sw.ExpiresAt.IsZero() && (next.IsZero() || sw.ExpiresAt.Before(next)) {
			next = sw.ExpiresAt
		}
		_, k, _ := kindOf(sw.Name)
		v, _ := k.parse(sw.Value)
		s.of(sw.Name).set(sw.Scope, v)
		s.set++
	}
	return s, next
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

// narrowest returns the value for a visit.
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

// lowest returns the lowest value of all that are for a visit.
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

package limiter

// rules are the limits of one kind, and the epoch from which they apply. They never change after
// they are published.
//
// Tables and directories keep, next to their buckets and under the same lock, the rules that the
// buckets are under. When a request comes with newer rules, they carry the buckets over. So a
// bucket's TAT is always read under the limit under which it was written, and a request with an
// older snapshot is decided by the newer rules.
type rules struct {
	epoch    uint64
	template *limit            // nil: keys that aren't in exact are not limited
	exact    map[uint64]*limit // by the key's hash
	// changed means that a bucket's TAT has another meaning than under the former rules, so that
	// buckets must be carried over.
	changed bool
	// orphans are the keys that lose their own policy and that need a bucket: without one they
	// would get other tokens than they have, namely those of the template's floor.
	orphans []orphan
}

// orphan is a key that needs a bucket because it has lost its own policy.
type orphan struct {
	key uint64
	old *limit
	tat int64 // the TAT under the template of a key without a bucket
}

// of returns the limit of a key, or nil.
func (r *rules) of(key uint64) *limit {
	if len(r.exact) > 0 {
		if l := r.exact[key]; l != nil {
			return l
		}
	}
	return r.template
}

// governs reports whether these rules limit anything.
func (r *rules) governs() bool {
	if r.template != nil && !r.template.off {
		return true
	}
	for _, l := range r.exact {
		if !l.off {
			return true
		}
	}
	return false
}

// follow makes these rules the successors of others at a moment; the others may be nil. It finds
// what has changed, and sets the floors.
func (r *rules) follow(old *rules, now int64) {
	if old == nil {
		return
	}
	succeed := func(l, before *limit) {
		if l == nil || before == nil {
			r.changed = r.changed || l != before
			return
		}
		r.changed = r.changed || !l.sameBuckets(before)
		if floor := l.carry(before, before.floor, now); floor > now {
			l.floor = floor
		}
	}
	succeed(r.template, old.template)
	for key, l := range r.exact {
		succeed(l, old.of(key))
	}
	for key, l := range old.exact {
		if r.exact[key] != nil || r.template == nil {
			continue
		}
		r.changed = true
		if tat := max(r.template.carry(l, l.floor, now), now); tat != max(r.template.floor, now) {
			r.orphans = append(r.orphans, orphan{key, l, tat})
		}
	}
}

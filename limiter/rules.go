package limiter

// rules are the limits of one kind: what governs its keys since an epoch. They are fixed once they
// are published.
//
// The tables and directories keep the rules that their buckets are under beside the buckets, under
// the same lock, and carry the buckets over when a request comes with newer ones. So a bucket's TAT
// is never read under another limit than it was written under, and a request that is still working
// with an older snapshot is decided by the newer rules.
type rules struct {
	epoch    uint64
	template *limit            // nil: keys that aren't in exact are not limited
	exact    map[uint64]*limit // by the key's hash
	// changed says that buckets mean something else than under the rules before, so that they have
	// to be carried over.
	changed bool
	// orphans are the keys that lose the policy of their own and, where they have no bucket, have
	// other tokens than the template's floor gives.
	orphans []orphan
}

// orphan is a key that needs a bucket because it had a policy of its own.
type orphan struct {
	key uint64
	old *limit
	tat int64 // under the template, of a bucket that isn't there
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

// governs reports whether there is anything to ask these rules.
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

// follow makes the rules the successors of others, which may be nil, at a moment: it finds out what
// has changed, and sets the floors.
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

package limiter

import "time"

// Keys limits the requests of each key, on this node only. A key is a number whose bits are spread
// evenly, like a hash; 0 and 1 are the same. It is safe for concurrent use. Its memory is fixed.
type Keys struct {
	clock *clock // fixed, like all fields
	table *table
	rules *rules

	anything Request // used for every key
}

// NewKeys makes a Keys with full buckets. It has room for some number of keys, which take 32 bytes
// each; further ones share buckets.
func NewKeys(perSecond float64, burst int64, room int, now time.Time) *Keys {
	p := &Policy{Name: "key", Key: IP, Rate: perSecond, Burst: max(burst, 1), Mode: Enforce}
	return &Keys{clock: newClock(now), table: newTable(max(room, 1)), rules: &rules{epoch: 1, template: newLimit(p, 0, 1)}}
}

// Allow takes a token of the key, if it has one.
func (k *Keys) Allow(key uint64, now time.Time) bool {
	var g grant
	k.table.take(k.rules, max(1, key), &k.anything, k.clock.at(now), nil, &g)
	return g.wait == 0
}

// GiveBack returns a token that Allow has taken from the key's bucket. The bucket never gets more
// than full.
func (k *Keys) GiveBack(key uint64) {
	k.table.giveBack(&grant{table: k.table, key: max(1, key), taken: 1})
}

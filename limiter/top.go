package limiter

import (
	"sync"
	"time"
)

// top counts which keys are refused most, in fixed memory: the space-saving sketch (Metwally,
// Agrawal and El Abbadi, 2005), twice, so that what is reported is of the last minute or two. A key
// that is refused more often than one in topKeys of all refusals is in it for sure; a count may be
// too high by what the place had before, which is told.
type top struct {
	mu    sync.Mutex
	began int64      // moment of now; guarded by mu, like what follows
	now   [2]topSide // the second is the span before
}

const (
	topKeys = 128
	topSpan = int64(time.Minute)
	// maxKeyName is a merchant, a slash and a user.
	maxKeyName = MaxNameLength + 1 + MaxUserLength
)

// topSide is one span's sketch. The hashes and counts stand apart from the names, so that a look at
// all of them is quick.
type topSide struct {
	hashes [topKeys]uint64
	counts [topKeys]uint64
	keys   [topKeys]topKey
}

type topKey struct {
	policy *Policy
	over   uint64 // how much of the count may be another key's
	length uint8
	name   [maxKeyName]byte
}

// refused counts a refusal. It keeps no string.
func (t *top) refused(p *Policy, hash uint64, owner, name string, moment int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(moment)
	s := &t.now[0]
	least := 0
	for i := range s.hashes {
		if s.hashes[i] == hash && s.keys[i].policy != nil && s.keys[i].policy.Name == p.Name {
			s.counts[i]++
			return
		}
		if s.counts[i] < s.counts[least] {
			least = i
		}
	}
	k := &s.keys[least]
	s.hashes[least] = hash
	k.policy, k.over = p, s.counts[least]
	s.counts[least]++
	n := copy(k.name[:], owner)
	if owner != "" && n < len(k.name) {
		k.name[n] = '/'
		n++
	}
	n += copy(k.name[n:], name)
	k.length = uint8(n)
}

// turn begins a new span where the last one is over.
func (t *top) turn(moment int64) {
	switch passed := moment - t.began; {
	case passed < topSpan && passed >= 0:
	case passed < 2*topSpan && passed >= 0:
		t.now[1], t.now[0] = t.now[0], topSide{}
		t.began += topSpan
	default:
		t.now = [2]topSide{}
		t.began = moment
	}
}

// Hot is a key that a policy refuses often.
type Hot struct {
	Policy string `json:"policy"`
	Key    string `json:"key"` // as in a match
	// Refused is how often, or would have been with an enforced policy; Over how much of that may
	// have been other keys.
	Refused uint64 `json:"refused"`
	Over    uint64 `json:"over,omitempty"`
}

// list returns the keys of both spans.
func (t *top) list(moment int64) (out []Hot, span time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(moment)
	type name struct{ policy, key string }
	places := make(map[name]int)
	for i := range t.now {
		s := &t.now[i]
		for j := range s.keys {
			k := &s.keys[j]
			if k.policy == nil {
				continue
			}
			n := name{k.policy.Name, string(k.name[:k.length])}
			at, known := places[n]
			if !known {
				at = len(out)
				places[n] = at
				out = append(out, Hot{Policy: n.policy, Key: n.key})
			}
			out[at].Refused += s.counts[j]
			out[at].Over += k.over
		}
	}
	return out, time.Duration(moment - t.began + topSpan)
}

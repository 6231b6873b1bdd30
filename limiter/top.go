package limiter

import (
	"sync"
	"time"
)

// top counts which keys are refused most, in fixed memory. It uses two space-saving sketches
// (Metwally, Agrawal and El Abbadi, 2005), so that a report covers the last minute or two. A key
// with more than one in topKeys of all refusals is certainly in it. A count may be too high by the
// count of the key that had the place before; that number is reported, too.
type top struct {
	mu    sync.Mutex
	began int64      // when the current span began; guarded by mu, like the fields below
	now   [2]topSide // the current span, and the one before it
}

const (
	topKeys = 128
	topSpan = int64(time.Minute)
	// maxKeyName is a merchant, a slash and a user.
	maxKeyName = MaxNameLength + 1 + MaxUserLength
)

// topSide is the sketch of one span. Hashes and counts are stored apart from the names, so that all
// of them can be searched quickly.
type topSide struct {
	hashes [topKeys]uint64
	counts [topKeys]uint64
	keys   [topKeys]topKey
}

type topKey struct {
	policy *Policy
	over   uint64 // how much of the count may belong to another key
	length uint8
	name   [maxKeyName]byte
}

// refused counts a refusal. It keeps no reference to its strings.
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

// turn begins a new span if the last one is over.
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
	Key    string `json:"key"` // in the form of a match
	// Refused is how often the key was refused, or, if the policy is in shadow, would have been.
	// Over is how much of that number may belong to other keys.
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

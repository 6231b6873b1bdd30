package limiter

import (
	"sync"
	"time"
)

// places counts requests in flight by key, for policies with a Concurrency. It counts only on this
// node, because it protects the places and connections of the node.
//
// A key is in it only while it has requests in flight. Its memory is bounded: keys for which there
// is no room share one count of their kind and stripe.
type places struct {
	stripes [placeStripes]placeStripe
}

const (
	placeStripes = 64
	// maxPlaces bounds the keys of a stripe. All stripes together have more than a node has
	// requests.
	maxPlaces = 1024
	// placeWait is the Retry-After of a request that found no place. It is a guess: the time of the
	// next free place is unknown.
	placeWait = time.Second
)

// placeStripe is the part of the counts that one lock guards.
type placeStripe struct {
	mu        sync.Mutex
	counts    map[placeKey]int64 // guarded by mu, like the fields below; no count is 0
	strangers uint64
	_         [40]byte
}

// placeKey is a key of a kind. The hash 0 is the shared key of all keys without room.
type placeKey struct {
	kind kind
	hash uint64
}

// holding has what a request has taken from one kind's limit: tokens, and a place.
type holding struct {
	taken    int64
	leased   bool // the tokens come from the pool
	alone    bool // the tokens were not granted by the pool
	over     float64
	unknown  bool // the tokens come from the strangers' bucket
	place    bool
	stranger bool // the place belongs to the shared count
	hash     uint64
}

func (p *places) stripe(hash uint64) *placeStripe { return &p.stripes[hash%placeStripes] }

// enter takes a place for a key that may have at most `most` places.
func (p *places) enter(k kind, hash uint64, most int64, h *holding) bool {
	s := p.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := placeKey{k, hash}
	n, known := s.counts[key]
	stranger := !known && len(s.counts) >= maxPlaces
	if stranger {
		key.hash = 0
		s.strangers++
		n = s.counts[key]
	}
	if n >= most {
		return false
	}
	if s.counts == nil {
		s.counts = make(map[placeKey]int64)
	}
	s.counts[key] = n + 1
	h.place, h.stranger, h.hash = true, stranger, hash
	return true
}

// leave gives back the place of a holding, if it has one.
func (p *places) leave(k kind, h *holding) {
	if !h.place {
		return
	}
	h.place = false
	key := placeKey{k, h.hash}
	if h.stranger {
		key.hash = 0
	}
	s := p.stripe(h.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[key]--; s.counts[key] == 0 {
		delete(s.counts, key)
	}
}

// PlaceStats has the numbers of requests in flight under policies with a Concurrency.
type PlaceStats struct {
	InFlight  int64
	Keys      int    // keys that have requests in flight
	Capacity  int    // keys for which there is room
	Strangers uint64 // decisions by a shared count, because there was no room
}

func (p *places) stats() PlaceStats {
	out := PlaceStats{Capacity: placeStripes * maxPlaces}
	for i := range p.stripes {
		s := &p.stripes[i]
		s.mu.Lock()
		out.Keys += len(s.counts)
		for _, n := range s.counts {
			out.InFlight += n
		}
		out.Strangers += s.strangers
		s.mu.Unlock()
	}
	return out
}

// Leave ends a request that was allowed: it gives its places back. A second call does nothing.
func (l *Limiter) Leave(req *Request) {
	for k := range req.held {
		l.places.leave(kind(k), &req.held[k])
	}
}

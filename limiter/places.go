package limiter

import (
	"sync"
	"time"
)

// places counts what is in flight, by key, for policies with a Concurrency. It counts on this node
// only, because it protects places and connections of the node.
//
// A key is in it only while it has requests in flight. Its memory is bounded: keys that find no
// room share one count of their kind and stripe.
type places struct {
	stripes [placeStripes]placeStripe
}

const (
	placeStripes = 64
	// maxPlaces bounds the keys of a stripe: all together are more than a node has requests.
	maxPlaces = 1024
	// placeWait is the Retry-After of a request that found no place. It is a guess: the time of the
	// next free place is unknown.
	placeWait = time.Second
)

// placeStripe is the part of the counts under one lock.
type placeStripe struct {
	mu        sync.Mutex
	counts    map[placeKey]int64 // guarded by mu, like what follows; none is 0
	strangers uint64
	_         [40]byte
}

// placeKey is a key of a kind; a hash of 0 is the common one of keys without room.
type placeKey struct {
	kind kind
	hash uint64
}

// holding has what a request has taken from one kind's limit: tokens, and a place.
type holding struct {
	taken    int64
	leased   bool // they are of the pool's
	alone    bool // nobody granted them
	over     float64
	unknown  bool // the tokens are of the strangers' bucket
	place    bool
	stranger bool // the place is one of the shared count
	hash     uint64
}

func (p *places) stripe(hash uint64) *placeStripe { return &p.stripes[hash%placeStripes] }

// enter takes a place of a key that may have at most so many.
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

// leave gives the place of a holding back, if there is one.
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

// PlaceStats has the numbers in flight under policies with a Concurrency.
type PlaceStats struct {
	InFlight  int64
	Keys      int    // that have something in flight
	Capacity  int    // keys there is room for
	Strangers uint64 // decisions by a shared count, for want of room
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

// Leave ends a request that was allowed: it gives its places back. Called again it does nothing.
func (l *Limiter) Leave(req *Request) {
	for k := range req.held {
		l.places.leave(kind(k), &req.held[k])
	}
}

package protocol

import (
	"fmt"
	"hash/maphash"
	"slices"
)

// Result is what a walk found.
type Result struct {
	States    int      // how many states were looked at
	Complete  bool     // every reachable state was
	Violation string   // the law that broke; "" when none did
	Path      []string // the steps to the violation
	Final     string   // the state it ended in
}

// Walk looks at every state that o can reach, and stops at the first that breaks a law. It returns an error only for bad
// options. It takes 8 to 16 bytes of memory a state, and about a second for a million.
func Walk(o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	w := walk{Options: o, seed: maphash.MakeSeed(), seen: newSet(1 << 16)}
	if o.Shortest {
		w.from = -1
	}
	w.start()
	if o.Shortest {
		return w.breadthFirst(), nil
	}
	return w.depthFirst(), nil
}

// walk is a search under way. States are kept as 64-bit hashes under a random seed: that two of 10^8 collide, and one stays
// unseen, has a chance of about 1 in 4,000, and another one with each run.
type walk struct {
	Options
	seed maphash.Seed
	seen *set
	todo []node
	from int32 // what the nodes that are being pushed come from: see node
}

// node is a state to look at, and how it was reached.
type node struct {
	state state
	step  step
	from  int32 // depth first: how many steps led to it; breadth first: the trail's index of the step before
}

// step names a transition; -1 means that the number doesn't apply. It is formatted only for the path to a violation.
type step struct {
	what                  string
	attempt, order, epoch int8
}

// String returns the step in words.
func (t step) String() string {
	s := t.what
	if t.attempt >= 0 {
		s += fmt.Sprintf(" a%d", t.attempt)
	}
	if t.order >= 0 {
		s += fmt.Sprintf(" o%d", t.order)
	}
	if t.epoch >= 0 {
		s += fmt.Sprintf(" e%d", t.epoch)
	}
	return s
}

// start pushes the first state: a sale that is open, and nobody there yet.
func (w *walk) start() {
	first := state{
		redis: shard{epoch: 1, available: int8(w.Units)},
		total: int8(w.Units), itemEpoch: 1, nextEpoch: 1,
	}
	if w.Rollback {
		first.replica = first.redis
	}
	w.push(step{"init", -1, -1, -1}, &first)
}

// depthFirst keeps the path it is on, and the siblings still to look at.
func (w *walk) depthFirst() Result {
	var path []step
	for len(w.todo) > 0 {
		n := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		path = append(path[:n.from], n.step)
		if broken := w.brokenLaw(&n.state); broken != "" {
			return w.violation(broken, path, &n.state)
		}
		if w.full() {
			return Result{States: w.seen.len}
		}
		w.from = n.from + 1
		w.steps(&n.state)
	}
	return Result{States: w.seen.len, Complete: true}
}

// breadthFirst keeps every step it has taken, with the one before it.
func (w *walk) breadthFirst() Result {
	type crumb struct {
		step step
		from int32
	}
	var trail []crumb
	for len(w.todo) > 0 {
		n := w.todo[0]
		w.todo = w.todo[1:]
		trail = append(trail, crumb{n.step, n.from})
		if broken := w.brokenLaw(&n.state); broken != "" {
			path := []step{n.step}
			for i := n.from; i >= 0; i = trail[i].from {
				path = append(path, trail[i].step)
			}
			slices.Reverse(path)
			return w.violation(broken, path, &n.state)
		}
		if w.full() {
			return Result{States: w.seen.len}
		}
		w.from = int32(len(trail) - 1)
		w.steps(&n.state)
	}
	return Result{States: w.seen.len, Complete: true}
}

func (w *walk) full() bool { return w.MaxStates > 0 && w.seen.len > w.MaxStates }

func (w *walk) violation(broken string, path []step, s *state) Result {
	words := make([]string, len(path))
	for i, t := range path {
		words[i] = t.String()
	}
	return Result{States: w.seen.len, Violation: broken, Path: words, Final: fmt.Sprintf("%+v", *s)}
}

// steps pushes every state that can follow s.
func (w *walk) steps(s *state) {
	for a := range w.Attempts {
		w.attemptSteps(s, a)
	}
	w.workerSteps(s)
	for o := range w.Orders {
		w.orderSteps(s, o)
		w.sweepSteps(s, o)
		w.cancelSteps(s, o)
	}
	w.rebuildSteps(s)
	if w.Merchant {
		w.merchantSteps(s)
	}
	w.faultSteps(s)
}

// push remembers a state to look at, unless it was seen before.
func (w *walk) push(by step, s *state) {
	if w.seen.add(maphash.Comparable(w.seed, *s)) {
		w.todo = append(w.todo, node{*s, by, w.from})
	}
}

// next pushes a state that a step of nobody in particular leads to.
func (w *walk) next(what string, s *state) { w.push(step{what, -1, -1, -1}, s) }

// nextOf pushes a state that a step about an order leads to.
func (w *walk) nextOf(what string, order int, s *state) { w.push(step{what, -1, int8(order), -1}, s) }

// orderOf returns the order that an attempt is of.
func (w *walk) orderOf(attempt int) int { return attempt % w.Orders }

// usable reports whether the shard takes a call of this epoch.
func (w *walk) usable(s *state, epoch int8) bool {
	return (s.redis.epoch == epoch || w.Without == NoEpoch && s.redis.epoch > 0) && !s.redis.closed
}

// set is a set of hashes, open addressing with linear probing. It takes a third of the memory of a map.
type set struct {
	slots []uint64 // a power of two; 0 is an empty slot
	len   int
}

func newSet(slots int) *set { return &set{slots: make([]uint64, slots)} }

// add adds a hash and reports whether it was new.
func (t *set) add(hash uint64) bool {
	hash = max(hash, 1)
	if !t.insert(hash) {
		return false
	}
	t.len++
	if t.len*4 > len(t.slots)*3 {
		old := t.slots
		t.slots = make([]uint64, 2*len(old))
		for _, h := range old {
			if h != 0 {
				t.insert(h)
			}
		}
	}
	return true
}

func (t *set) insert(hash uint64) bool {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch t.slots[i] {
		case hash:
			return false
		case 0:
			t.slots[i] = hash
			return true
		}
	}
}

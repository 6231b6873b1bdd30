package protocol

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// Result is what a walk found.
type Result struct {
	States    int
	Depth     int
	Complete  bool     // every reachable state was looked at
	Violation string   // the law that broke; "" when none did
	Path      []string // a shortest path to the violation
	Final     string   // the state it ended in
}

// Walk looks at every state that o can reach, and stops at the first that breaks a law. It returns
// an error only for bad options.
func Walk(o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	w := walk{
		Options: o, seed: maphash.MakeSeed(), seen: newTable(1 << 12), name: map[string]uint32{}, from: nobody,
		on: nobodys,
	}
	w.Rebuilders = max(w.Rebuilders, w.Shards)
	w.emit("start", -1, -1, w.start())
	return w.run(), nil
}

// start is an open sale before the first purchase.
func (w *walk) start() *state {
	var first state
	first.db.total = w.Units
	for i := range w.Shards {
		first.db.epoch[i], first.db.next[i], first.ever[i] = 1, 1, 1
		first.redis[i] = shard{epoch: 1}
	}
	for item, units := range w.Units {
		first.redis[w.shardOf(item)].units[item] = units
	}
	first.other = first.redis
	return &first
}

// walk is a search in progress, breadth first. States are kept as 64-bit hashes under a random
// seed: that two of 10^8 collide, and one stays unseen, has a chance of about 1 in 4,000, and
// another one with each run.
type walk struct {
	Options
	seed   maphash.Seed
	seen   *table
	next   []node
	parent []uint32 // of each state, by number
	step   []uint32 // the step that led to it: its name, and two small numbers
	names  []string
	name   map[string]uint32
	edges  [][2]uint32 // with Fair: the steps that are no faults
	goods  []uint32    // with Fair: the balanced states
	from   uint32      // the state whose steps are being taken
	moved  bool        // it has a step that is no fault
	fault  bool        // the step that is being taken is a fault
	on     int         // the shard of the step, for the path, or nobodys
}

// node is a state that was found, and is still to be looked at.
type node struct {
	s  state
	id uint32
}

const nobody = ^uint32(0)

// nobodys is no shard.
const nobodys = -1

func (w *walk) without(rule string) bool {
	return len(w.Without) > 0 && slices.Contains(w.Without, rule)
}

// left reports whether there may be one more fault of the kind.
func (w *walk) left(s *state, fault int) bool { return s.used[fault] < w.Faults[fault] }

// try adds the state that a change of s leads to.
func (w *walk) try(s *state, name string, a, b int, change func(t *state)) {
	t := *s
	change(&t)
	w.emit(name, a, b, &t)
}

// emit adds a state that can follow. In the name, %a and %b stand for the two numbers, %A for the
// first as a set, %k for the first as a kind of message.
func (w *walk) emit(name string, a, b int, t *state) {
	id, known := w.seen.number(maphash.Comparable(w.seed, *t))
	if id != w.from && w.from != nobody && !w.fault {
		w.moved = true
		if w.Fair {
			w.edges = append(w.edges, [2]uint32{w.from, id})
		}
	}
	if known {
		return
	}
	n, ok := w.name[name]
	if !ok {
		n = uint32(len(w.names))
		w.name[name] = n
		w.names = append(w.names, name)
	}
	w.parent = append(w.parent, w.from)
	w.step = append(w.step, n<<18|uint32(w.on+1)<<16|uint32(uint8(a))<<8|uint32(uint8(b)))
	w.next = append(w.next, node{*t, id})
}

// steps adds every state that can follow s.
func (w *walk) steps(s *state) {
	w.attemptSteps(s)
	w.workerSteps(s)
	for o := range w.Orders {
		w.orderSteps(s, o)
		for k := range w.Sweepers {
			w.sweepSteps(s, k, o)
		}
	}
	for k := range w.Rebuilders {
		w.on = w.rebuilt(k)
		w.rebuildSteps(s, k)
	}
	w.on = nobodys
	if w.Shards > 1 {
		w.sharedBarrier(s)
	}
	w.stockSteps(s)
	w.lateSteps(s)
	w.auditStep(s)
	w.faultSteps(s)
}

func (w *walk) run() Result {
	for depth, now := 0, []node(nil); len(w.next) > 0; depth++ {
		now, w.next = w.next, now[:0]
		for i := range now {
			n := &now[i]
			law, good := w.broken(&n.s), w.good(&n.s)
			w.from, w.moved = n.id, false
			w.steps(&n.s)
			if law == "" && !w.moved && !good {
				law = "L3: a dead end that is not balanced"
			}
			if law != "" {
				return Result{w.seen.len, depth, false, law, w.path(n.id), fmt.Sprintf("%+v", n.s)}
			}
			if good && w.Fair {
				w.goods = append(w.goods, n.id)
			}
		}
		if w.MaxStates > 0 && w.seen.len > w.MaxStates {
			return Result{States: w.seen.len, Depth: depth}
		}
		if len(w.next) == 0 {
			return w.end(depth)
		}
	}
	panic("a walk looks at one state at least")
}

// end is the result of a walk that has seen everything.
func (w *walk) end(depth int) Result {
	r := Result{States: w.seen.len, Depth: depth, Complete: true}
	if id, ok := w.stuck(); ok {
		r.Violation, r.Path = "L3: no balanced state can be reached from here", w.path(id)
	}
	return r
}

// stuck returns, with Fair, a state from which no good one is reached by steps that are no faults.
func (w *walk) stuck() (uint32, bool) {
	if !w.Fair {
		return 0, false
	}
	ok := make([]bool, w.seen.len)
	for _, id := range w.goods {
		ok[id] = true
	}
	for changed := true; changed; { // most edges lead forward, so few passes are enough
		changed = false
		for _, e := range slices.Backward(w.edges) {
			if ok[e[1]] && !ok[e[0]] {
				ok[e[0]], changed = true, true
			}
		}
	}
	id := slices.Index(ok, false)
	return uint32(id), id >= 0
}

// path returns the steps to a state, in words.
func (w *walk) path(id uint32) []string {
	var lines []string
	for ; id != 0; id = w.parent[id] {
		lines = append(lines, w.words(w.step[id]))
	}
	slices.Reverse(lines)
	return lines
}

func (w *walk) words(step uint32) string {
	a, b := int8(step>>8), int8(step)
	where := ""
	if on := int(step>>16&3) - 1; on != nobodys && w.Shards > 1 {
		where = fmt.Sprintf("shard %d: ", on)
	}
	return where + strings.NewReplacer(
		"%a", fmt.Sprint(a), "%b", fmt.Sprint(b), "%A", set(uint8(a)), "%k", kindName(uint8(a)),
	).Replace(w.names[step>>18])
}

// set returns the members of a small set, as "0 and 2".
func set(bits uint8) string {
	var members []string
	for i := range 8 {
		if bits&(1<<i) != 0 {
			members = append(members, fmt.Sprint(i))
		}
	}
	return strings.Join(members, " and ")
}

package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// chaos is a driver that a seed decides everything of: first what may go wrong at all in this run and how often, then each
// step. A run with few kinds of faults goes deeper into those than one with all of them.
type chaos struct {
	*rig
	random  *rand.Rand
	odds    odds
	left    budget
	crashed []string       // the names of processes that are dead
	refused map[string]int // how often in a row a worker's transaction failed, by process
}

// budget is how much is still to come.
type budget struct {
	purchases int
	dealings  int // of merchants, payers and those who cancel
	disasters int // of Redis, and of who distrusts it
	crashes   int
}

// odds are weights: of everything that may be next, each has its weight's chance.
type odds struct {
	// What becomes of a call.
	let, refuse, reset, late, delay, twice int
	// What becomes of one whose caller has gone.
	lateRuns, lateVanishes int

	part                      map[string]int
	buy, deal, time, longTime int

	crash, start, rebalance, lease, suspect, lag, failover, lose int

	// slow are calls that mostly wait while everything else goes on.
	slow [2]method

	// How many there are to choose from: few, so that they meet.
	buyers, keys int
}

// slowable are the calls whose slowness matters: something else may decide meanwhile.
var slowable = []method{
	callHold, callPut, callAccept, callCommit, callConfirm, callSettle, callBury, callDoom, callClose, callLoad, callOpen, callFence,
	callForget, callWithdraw, callRestock,
}

// chaosSteps is the length of a run, before its quiet end.
const chaosSteps = 400

// newTerms chooses the sale.
func newTerms(random *rand.Rand) terms {
	t := terms{Units: 1 + random.Int64N(4), PerUser: random.IntN(3), Window: 4 * time.Second, Slots: 1 + random.IntN(4)}
	if random.IntN(3) == 0 {
		t.Window = time.Hour
	}
	return t
}

// newOdds chooses what may go wrong.
func newOdds(random *rand.Rand) odds {
	maybe := func(weight int) int {
		if random.IntN(2) == 0 {
			return 0
		}
		return 1 + random.IntN(weight)
	}
	return odds{
		let: 20, refuse: maybe(4), reset: maybe(4), late: maybe(4), delay: maybe(6), twice: maybe(3),
		lateRuns: random.IntN(3), lateVanishes: random.IntN(2),
		part: map[string]int{
			partCatalog: random.IntN(3), partWatch: random.IntN(3), partWorker: 1 + random.IntN(6), partRelay: random.IntN(5),
			partTimeouts: random.IntN(3), partSweeper: random.IntN(6), partRebuilder: random.IntN(6),
		},
		buy: 3 + random.IntN(12), deal: random.IntN(6), time: random.IntN(8), longTime: random.IntN(6),
		crash: maybe(3), start: 6, rebalance: maybe(2), lease: maybe(2),
		suspect: maybe(6), lag: maybe(6), failover: maybe(4), lose: maybe(1),
		buyers: 1 + random.IntN(3), keys: 1 + random.IntN(2),
		slow: [2]method{slowable[random.IntN(len(slowable))], slowable[random.IntN(len(slowable))]},
	}
}

// newChaos prepares a run on a rig that is open.
func newChaos(r *rig, random *rand.Rand) *chaos {
	c := &chaos{rig: r, random: random, odds: newOdds(random), refused: make(map[string]int)}
	c.left = budget{purchases: 4 + random.IntN(12), dealings: random.IntN(8), disasters: random.IntN(4), crashes: random.IntN(4)}
	r.path.note("terms %+v", r.terms)
	r.path.note("odds %+v", c.odds)
	return c
}

// choice is something that may be next.
type choice struct {
	weight int
	do     func() error
}

// run takes the steps, then the quiet end.
func (c *chaos) run() error {
	for range chaosSteps {
		c.pass(time.Microsecond) // so that no two timers are due at the same moment
		if err := c.check(); err != nil || c.broken != "" {
			return err
		}
		if err := c.step(); err != nil {
			return err
		}
	}
	return c.settle()
}

// step does one of the things that may be next.
func (c *chaos) step() error {
	var choices []choice
	add := func(weight int, do func() error) {
		if weight > 0 {
			choices = append(choices, choice{weight, do})
		}
	}
	c.addCalls(add)
	c.addPeople(add)
	c.addFaults(add)
	add(c.odds.time, func() error { return c.passSome(shortTimes) })
	add(c.odds.longTime, func() error { return c.passSome(longTimes) })
	sum := 0
	for _, choice := range choices {
		sum += choice.weight
	}
	n := c.random.IntN(sum)
	for _, choice := range choices {
		if n -= choice.weight; n < 0 {
			return choice.do()
		}
	}
	return nil
}

// How long time passes: less than anything waits for, and about as long as the ages of the protocol.
var (
	shortTimes = []time.Duration{10 * time.Millisecond, 60 * time.Millisecond, 300 * time.Millisecond}
	longTimes  = []time.Duration{900 * time.Millisecond, 1900 * time.Millisecond, 3100 * time.Millisecond, 6100 * time.Millisecond}
)

func (c *chaos) passSome(times []time.Duration) error {
	d := times[c.random.IntN(len(times))]
	c.path.note("%v pass", d)
	c.pass(d)
	return nil
}

// addCalls adds what may become of the calls on the wire.
func (c *chaos) addCalls(add func(int, func() error)) {
	for _, call := range c.wire.waiting() {
		weight := 12
		if slices.Contains(c.odds.slow[:], call.method) {
			weight = 1
		}
		add(weight, func() error { c.fate(call); return nil })
	}
	for _, call := range c.wire.still() {
		add(c.odds.lateRuns, func() error {
			c.wire.takeLate(call)
			c.rig.run(call)
			c.path.note("%s, late → %s", call, call.said())
			return nil
		})
		add(c.odds.lateVanishes, func() error {
			c.wire.takeLate(call)
			c.path.note("%s, lost for good", call)
			return nil
		})
	}
}

// fate decides what becomes of a call.
func (c *chaos) fate(call *call) {
	if call.executed {
		c.path.note("%s → %s, answered now", call, call.said())
		c.answer(call)
		return
	}
	t, o := methods[call.method], c.odds
	weights := []int{o.let, o.refuse, o.reset, o.late, o.delay, o.twice}
	if t.reads {
		weights[2], weights[4] = 0, 0
	}
	if !t.late {
		weights[3] = 0
	}
	if !t.twice {
		weights[5] = 0
	}
	n := c.pick(weights)
	if call.method == callAccept {
		n = c.sparing(call.process, n)
	}
	switch n {
	case 0:
		c.rig.run(call)
		c.path.note("%s → %s", call, call.said())
		c.answer(call)
	case 1:
		c.path.note("%s is refused", call)
		c.wire.answer(call, errRefused)
	case 2:
		c.rig.run(call)
		c.path.note("%s → %s, and the answer is lost", call, call.said())
		c.wire.answer(call, call.method.unknown(errReset))
	case 3:
		c.path.note("%s is given up", call)
		c.wire.again(call)
		c.wire.answer(call, call.method.unknown(errReset))
	case 4:
		c.rig.run(call)
		c.path.note("%s → %s, the answer is on its way", call, call.said())
	case 5:
		c.rig.run(call)
		c.path.note("%s → %s, to be repeated", call, call.said())
		c.wire.again(call)
		c.answer(call)
	}
}

// sparing lets no transaction of a worker fail three times in a row: then the worker looks for a record that the store will
// never take, and the scenarios have that.
func (c *chaos) sparing(process string, fate int) int {
	if c.refused[process] >= 2 {
		fate = 0
	}
	if c.refused[process]++; fate == 0 || fate == 4 {
		c.refused[process] = 0
	}
	return fate
}

func (c *chaos) pick(weights []int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := c.random.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return 0
}

// addPeople adds what parts and people may do.
func (c *chaos) addPeople(add func(int, func() error)) {
	for _, p := range c.processes {
		for _, part := range p.parts {
			if !part.busy.Load() {
				add(c.odds.part[part.name], func() error { p.begin(part); return nil })
			}
		}
		if c.left.purchases > 0 {
			add(c.odds.buy, func() error {
				c.left.purchases--
				k := c.someKey()
				c.buy(p, k, c.someQuantity(k), c.someWait())
				return nil
			})
		}
		if c.left.dealings > 0 && len(c.keys) > 0 {
			add(c.odds.deal, func() error {
				c.left.dealings--
				c.deal(p)
				return nil
			})
		}
	}
}

func (c *chaos) someKey() key {
	buyer := []string{"ann", "bob", "cleo"}[c.random.IntN(c.odds.buyers)]
	return c.keyOf(buyer, fmt.Sprintf("k%d", 1+c.random.IntN(c.odds.keys)))
}

// someQuantity is mostly that of the key. Who uses a key for two quantities is told so, but by a shard that has forgotten the
// first; so nobody does where there are failovers.
func (c *chaos) someQuantity(k key) int {
	quantity := 1
	if k.key == "k2" && k.buyer == "bob" {
		quantity = 2
	}
	if c.odds.failover == 0 && c.random.IntN(8) == 0 {
		return 3 - quantity
	}
	return quantity
}

func (c *chaos) someWait() time.Duration {
	if c.random.IntN(8) == 0 {
		return 3 * time.Second
	}
	return 0
}

// deal is what somebody else does: pay, cancel, restock, take stock back, pause and resume.
func (c *chaos) deal(p *process) {
	k := c.keys[c.random.IntN(len(c.keys))]
	switch c.random.IntN(6) {
	case 0, 1:
		c.pay(p, k, fmt.Sprintf("pay-%d", c.random.IntN(4)), 1)
	case 2:
		c.cancel(p, k)
	case 3:
		n := c.random.IntN(2)
		c.restock(p, fmt.Sprintf("more-%d", n), int64(1+n))
	case 4, 5:
		c.restock(p, fmt.Sprintf("less-%d", c.random.IntN(2)), -1)
	}
}

// addFaults adds what may happen to processes and servers.
func (c *chaos) addFaults(add func(int, func() error)) {
	if len(c.processes) > 1 && c.left.crashes > 0 {
		for _, p := range c.processes {
			add(c.odds.crash, func() error {
				c.left.crashes--
				c.path.note("%s crashes", p.name)
				c.crash(p)
				c.crashed = append(c.crashed, p.name)
				return nil
			})
		}
	}
	for i, name := range c.crashed {
		add(c.odds.start, func() error {
			c.path.note("%s starts", name)
			c.crashed = append(c.crashed[:i:i], c.crashed[i+1:]...)
			_, err := c.start(name)
			return err
		})
	}
	add(c.odds.rebalance, func() error {
		c.path.note("the group rebalances")
		c.shuffleGroup()
		return nil
	})
	add(c.odds.lease, func() error {
		if n := c.breakLeases(); n > 0 {
			c.path.note("%d rebuild locks are lost", n)
		}
		return nil
	})
	c.addDisasters(add)
}

// addDisasters adds what makes a shard forget, and be rebuilt.
func (c *chaos) addDisasters(add func(int, func() error)) {
	if c.left.disasters == 0 {
		return
	}
	disaster := func(weight int, what string, do func()) {
		add(weight, func() error {
			c.left.disasters--
			c.path.note("%s", what)
			do()
			return nil
		})
	}
	add(c.odds.suspect, func() error {
		c.left.disasters--
		return c.suspect()
	})
	disaster(c.odds.lose, "Redis is empty", c.lose)
	if c.replica == nil {
		add(c.odds.lag, func() error { c.path.note("the replica lags"); c.lagging(); return nil })
	} else {
		disaster(c.odds.failover, "failover", c.failover)
	}
}

// shuffleGroup gives each partition to somebody.
func (c *chaos) shuffleGroup() {
	var owners [partitions]*member
	for i := range owners {
		owners[i] = c.processes[c.random.IntN(len(c.processes))].member
	}
	c.log.assign(owners)
}

// settle ends the run: late calls come now or never, and then all is quiet.
func (c *chaos) settle() error {
	c.look()
	for _, call := range c.wire.still() {
		c.wire.takeLate(call)
		if c.random.IntN(2) == 0 {
			c.rig.run(call)
			c.path.note("%s, late → %s", call, call.said())
		}
		if err := c.check(); err != nil || c.broken != "" {
			return err
		}
	}
	return c.quiet()
}

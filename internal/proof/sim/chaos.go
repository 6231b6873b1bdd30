package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// chaos is a driver in which a seed decides everything: first which faults may happen in this run
// and how often, then each step. A run with few kinds of faults tries those more thoroughly than a
// run with all of them.
//
// Each step has random numbers of its own. So a run with some steps left out is much like the whole
// one, and a failing seed can be made shorter.
type chaos struct {
	*rig
	seed     uint64
	random   *rand.Rand
	odds     odds
	left     budget
	alone    bool     // there is only ever one process
	crashed  []string // the names of processes that are dead
	taken    int      // steps
	ambushes []ambush // that wait for their calls
	choices  []choice // of the step in progress
}

// budget is how much is still to come.
type budget struct {
	purchases int
	dealings  int // of merchants, payments and cancellations
	disasters int // of servers, and requests for rebuilds
	troubles  int // of processes: crashes, pauses, partitions
}

// odds are weights: each possible next step has a chance in proportion to its weight.
type odds struct {
	// The outcomes of a call.
	let, refuse, reset, late, delay, twice int
	// The outcomes of a call whose caller has gone.
	lateRuns, lateVanishes int

	part                      map[string]int
	buy, deal, time, longTime int
	smooth                    int

	crash, start, pause, resume, cut, mend, rebalance               int
	suspect, lag, failover, lose, backup, restore, tail, anew, jump int
	down, lock, unlock                                              int

	// slow are calls that mostly wait while everything else goes on.
	slow [2]method

	// How many of each there are: few, so that the same ones come again.
	buyers, keys int
}

// slowable are the calls whose delay matters, because something else may decide meanwhile.
var slowable = []method{
	callHold, callPut, callAccept, callConfirm, callSettle, callBury, callDoom, callClose, callLoad, callOpen, callFence,
	callSnapshot, callForget, callWithdraw, callMove, callRestock, callMark, callPositions, callCancel, callOrders,
	callOutbox, callOld, callNextEpoch, callIncarnation,
}

// rare are calls that a run makes seldom or never. Faults are aimed at them.
var rare = map[method]bool{
	callAccept: true, callActivity: true, callBooks: true, callBury: true, callCancel: true, callChange: true, callFence: true,
	callForget: true, callMove: true, callNextEpoch: true, callOrders: true, callPay: true, callPositions: true,
	callRaise: true, callSnapshot: true, callSums: true, callSuspect: true, callTopic: true, callWithdraw: true,
	callMark: true, callPut: true, callClose: true, callConfirm: true, callDoom: true, callItems: true, callLoad: true, callOld: true,
	callOpen: true, callRestock: true, callSettle: true, callUnpark: true,
}

// aimed multiplies the weight of a fault that would strike a rare call now.
func (c *chaos) aimed(weight int, strikes func(*call) bool) int {
	if weight > 0 && c.wire.has(func(call *call) bool { return call.rare && strikes(call) }) {
		return 12 * weight
	}
	return weight
}

// chaosSteps is the length of a run, before its quiet end.
const chaosSteps = 400

// newTerms chooses the sale.
func newTerms(random *rand.Rand) terms {
	t := terms{
		Items: 1 + random.IntN(len(skus)), Units: 1 + random.Int64N(4), PerUser: random.IntN(3),
		Spread: 1 + random.IntN(shards), Window: 4 * time.Second, Slots: 1 + random.IntN(4),
	}
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
	seldom := func(weight int) int { return maybe(weight) * random.IntN(2) }
	return odds{
		let: 20, refuse: maybe(4), reset: maybe(4), late: maybe(4), delay: maybe(6), twice: maybe(3),
		lateRuns: random.IntN(3), lateVanishes: random.IntN(2),
		part: map[string]int{
			partCatalog: random.IntN(3), partWatch: random.IntN(3), partWorker: 1 + random.IntN(6), partRelay: random.IntN(5),
			partTimeouts: random.IntN(3), partSweeper: random.IntN(6), partRebuilder: random.IntN(6),
			partTeller: random.IntN(4), partUnparker: random.IntN(2), partBury: random.IntN(6), partBarrier: 1 + random.IntN(6),
			partAuditor: random.IntN(3), partMover: random.IntN(4),
		},
		buy: 3 + random.IntN(12), deal: random.IntN(6), time: random.IntN(8), longTime: random.IntN(6), smooth: random.IntN(6),
		crash: maybe(3), start: 6, pause: maybe(4), resume: 1 + random.IntN(3), cut: maybe(4), mend: 1 + random.IntN(3),
		rebalance: maybe(2), suspect: maybe(6), lag: maybe(6), failover: maybe(4), lose: maybe(1),
		backup: maybe(4), restore: maybe(3), tail: maybe(2), anew: seldom(1), jump: seldom(2),
		down: maybe(2), lock: maybe(4), unlock: 1 + random.IntN(2),
		buyers: 1 + random.IntN(3), keys: 1 + random.IntN(2),
		slow: [2]method{slowable[random.IntN(len(slowable))], slowable[random.IntN(len(slowable))]},
	}
}

// newChaos prepares a run on a rig that is open.
func newChaos(r *rig, seed uint64, random *rand.Rand) *chaos {
	c := &chaos{rig: r, seed: seed, random: random, odds: newOdds(random), alone: len(r.processes) == 1}
	c.left = budget{
		purchases: 4 + random.IntN(12), dealings: random.IntN(8), disasters: random.IntN(6), troubles: random.IntN(6),
	}
	r.path.note("terms %+v", r.terms)
	r.path.note("odds %+v", c.odds)
	c.layAmbushes()
	r.amid = c.writeAmid
	return c
}

// writeAmid may execute a call that writes, while a snapshot is read that does not see it.
func (c *chaos) writeAmid() {
	for _, call := range c.wire.waiting() {
		t := call.traits
		if t.to == database && !t.reads && t.late && !call.executed && c.random.IntN(2) == 0 {
			c.rig.run(call)
			c.path.note("%s → %s, in the middle of a snapshot", call, call.said())
			return
		}
	}
}

// choice is something that may be next.
type choice struct {
	weight int
	do     func() error
}

// run makes the steps that takes allows, then the quiet end.
func (c *chaos) run(takes func(step int) bool) error {
	for step := range chaosSteps {
		if !takes(step) {
			continue
		}
		c.random = rand.New(rand.NewPCG(c.seed, uint64(step)+1))
		c.taken = step + 1
		c.pass(time.Microsecond) // so that no two timers are due at the same moment
		if err := c.check(); err != nil || c.broken != "" {
			return err
		}
		sprung, err := c.spring()
		if err == nil && !sprung {
			err = c.step()
		}
		if err != nil {
			return err
		}
	}
	c.random = rand.New(rand.NewPCG(c.seed, chaosSteps+1))
	c.taken = chaosSteps
	return c.settle()
}

// step does one of the things that may be next.
func (c *chaos) step() error {
	c.choices = c.choices[:0]
	add := func(weight int, do func() error) {
		if weight > 0 {
			c.choices = append(c.choices, choice{weight, do})
		}
	}
	c.addCalls(add)
	c.addLateCalls(add)
	c.addPeople(add)
	c.addTroubles(add)
	c.addRepairs(add)
	c.addDisasters(add)
	add(c.odds.time, func() error { return c.passSome(shortTimes) })
	add(c.odds.longTime, func() error { return c.passSome(longTimes) })
	add(c.odds.smooth, c.goSmoothly)
	sum := 0
	for _, choice := range c.choices {
		sum += choice.weight
	}
	if sum == 0 { // everything sleeps
		return c.passSome(longTimes)
	}
	n := c.random.IntN(sum)
	for _, choice := range c.choices {
		if n -= choice.weight; n < 0 {
			return choice.do()
		}
	}
	return nil
}

// How much time passes: less than any wait, or about as long as the ages of the protocol.
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

// smoothCalls is how many calls may go through in a time without faults.
const smoothCalls = 60

// goSmoothly lets parts work and calls go through for a while, except slow ones. So runs get far,
// and late steps get faults, too.
func (c *chaos) goSmoothly() error {
	c.path.note("for a while all goes smoothly")
	for _, p := range c.processes {
		for _, part := range p.parts {
			if !part.busy.Load() && !c.wire.isPaused(p.name) && c.random.IntN(4) > 0 {
				p.begin(part)
			}
		}
	}
	kept := make(map[method]bool)
	for _, m := range driven() {
		kept[m] = rare[m] && c.random.IntN(3) == 0 || c.waitsFor(m)
	}
	calls := 0
	err := c.flow(func(call *call) bool {
		p := c.process(call.process)
		isCut := p != nil && p.cut[call.traits.to]
		return calls >= smoothCalls || isCut || kept[call.method] || slices.Contains(c.odds.slow[:], call.method)
	}, func(call *call) { calls++; c.met.add(call.method, fateDone) })
	if err != nil || c.broken != "" {
		return err
	}
	return c.passSome(longTimes)
}

// addCalls adds the possible outcomes of the calls on the wire.
func (c *chaos) addCalls(add func(int, func() error)) {
	for _, call := range c.wire.waiting() {
		weight := 12
		switch {
		case slices.Contains(c.odds.slow[:], call.method):
			weight = 1
		case call.rare:
			weight = 4
		}
		if p := c.process(call.process); p != nil && p.cut[call.traits.to] {
			add(2, func() error { c.cutOff(call); return nil })
			continue
		}
		add(weight, func() error { c.fate(call); return nil })
	}
	for _, call := range c.wire.asleep() { // a stopped process has sent it
		add(6, func() error {
			c.rig.run(call)
			c.met.add(call.method, fatePaused)
			c.path.note("%s → %s, and its process sleeps", call, call.said())
			return nil
		})
	}
}

// addLateCalls adds the possible outcomes of calls whose callers have gone.
func (c *chaos) addLateCalls(add func(int, func() error)) {
	for _, call := range c.wire.still() {
		add(c.odds.lateRuns, func() error { c.lateRuns(call); return nil })
		add(c.odds.lateVanishes, func() error {
			c.wire.takeLate(call)
			c.path.note("%s, lost for good", call)
			return nil
		})
	}
}

// lateRuns executes a call whose caller has gone, or one that was executed before.
func (c *chaos) lateRuns(call *call) {
	c.wire.takeLate(call)
	again := fateLate
	if call.executed {
		again = fateTwice
	}
	c.rig.run(call)
	c.met.add(call.method, again)
	c.path.note("%s, late → %s", call, call.said())
}

// cutOff decides a call to a server that its process can't reach: it is refused, or its answer
// lost.
func (c *chaos) cutOff(call *call) {
	c.met.add(call.method, fateCut)
	if !call.executed {
		c.path.note("%s is cut off", call)
		c.wire.answer(call, errRefused)
		return
	}
	c.path.note("%s → %s, and the answer is cut off", call, call.said())
	c.wire.answer(call, call.method.unknown(errReset))
}

// fate decides the outcome of a call.
func (c *chaos) fate(call *call) {
	if call.executed {
		c.path.note("%s → %s, answered now", call, call.said())
		c.answer(call)
		return
	}
	o := c.odds
	order := []fate{fateDone, fateRefused, fateLost, fateLate, fateSlow, fateTwice}
	weights := []int{o.let, o.refuse, o.reset, o.late, o.delay, o.twice}
	for i, f := range order {
		if !f.possible(call.method) {
			weights[i] = 0
		}
	}
	if call.rare {
		weights[0] /= 2
	}
	c.meet(call, order[c.pick(weights)])
}

// meet applies one of these fates to a call.
func (c *chaos) meet(call *call, is fate) {
	if is != fateRefused && is != fateLate {
		c.rig.run(call)
	}
	if is != fateLate && is != fateTwice { // which count when they are executed
		c.met.add(call.method, is)
	}
	switch is {
	case fateDone:
		c.path.note("%s → %s", call, call.said())
		c.answer(call)
	case fateRefused:
		c.path.note("%s is refused", call)
		c.wire.answer(call, errRefused)
	case fateLost:
		c.path.note("%s → %s, and the answer is lost", call, call.said())
		c.wire.answer(call, call.method.unknown(errReset))
	case fateLate:
		c.path.note("%s is given up", call)
		c.wire.again(call)
		c.wire.answer(call, call.method.unknown(errReset))
	case fateSlow:
		c.path.note("%s → %s, the answer is on its way", call, call.said())
	case fateTwice:
		c.path.note("%s → %s, to be repeated", call, call.said())
		c.wire.again(call)
		c.answer(call)
	}
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

// addPeople adds the actions of parts and people.
func (c *chaos) addPeople(add func(int, func() error)) {
	for _, p := range c.processes {
		if c.wire.isPaused(p.name) {
			continue
		}
		for _, part := range p.parts {
			if !part.busy.Load() {
				add(c.odds.part[part.name], part.next)
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
	return c.keyOf(buyer, fmt.Sprintf("k%d", 1+c.random.IntN(c.odds.keys)), c.random.IntN(len(c.items)))
}

// someQuantity is mostly the key's quantity. A buyer who uses a key for two quantities is refused,
// except by a shard that has forgotten the first one. So it is always the key's quantity when
// servers may forget.
func (c *chaos) someQuantity(k key) int {
	quantity := 1
	if k.key == "k2" && k.buyer == "bob" {
		quantity = 2
	}
	if c.odds.failover == 0 && c.odds.restore == 0 && c.random.IntN(8) == 0 {
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

// deal is an action of other people: pay, cancel, ask, restock, take stock back.
func (c *chaos) deal(p *process) {
	k := c.keys[c.random.IntN(len(c.keys))]
	switch c.random.IntN(8) {
	case 7:
		c.find(p, k)
	case 0, 1:
		c.pay(p, k, fmt.Sprintf("pay-%d", c.random.IntN(4)), 1)
	case 2, 3:
		c.cancel(p, k)
	case 4:
		n := c.random.IntN(2)
		c.restock(p, c.random.IntN(len(c.items)), fmt.Sprintf("more-%d", n), int64(1+n))
	case 5, 6:
		c.restock(p, c.random.IntN(len(c.items)), fmt.Sprintf("less-%d", c.random.IntN(2)), -1)
	}
}

// addTroubles adds the faults of processes, and of their connections to the servers.
func (c *chaos) addTroubles(add func(int, func() error)) {
	if c.left.troubles == 0 {
		return
	}
	trouble := func(weight int, what string, do func()) {
		add(weight, func() error {
			c.left.troubles--
			c.path.note("%s", what)
			do()
			return nil
		})
	}
	for _, p := range c.processes {
		its := func(call *call) bool { return call.process == p.name }
		if len(c.processes) > 1 {
			trouble(c.aimed(c.odds.crash, its), p.name+" crashes", func() {
				c.crash(p)
				c.crashed = append(c.crashed, p.name)
			})
		}
		if c.alone {
			add(c.aimed(c.odds.crash, its), func() error {
				c.left.troubles--
				c.path.note("%s dies with all that it has, and starts again", p.name)
				return c.restart(p)
			})
		}
		if !c.wire.isPaused(p.name) {
			trouble(c.aimed(c.odds.pause, its), p.name+" is stopped", func() { c.pause(p) })
		}
		to := servers[c.random.IntN(len(servers))]
		if !p.cut[to] {
			goes := func(call *call) bool { return its(call) && call.traits.to == to }
			trouble(c.aimed(c.odds.cut, goes), p.name+" can't reach the "+string(to), func() { p.cut[to] = true })
		}
	}
}

// pause stops a process. Half of the time its group of workers drops it.
func (c *chaos) pause(p *process) {
	c.met.strike(c.wire, p.name, fatePaused)
	c.wire.pause(p.name)
	if c.random.IntN(2) == 0 {
		c.path.note("and its group goes on without it")
		c.shuffleGroup()
	}
}

// addRepairs adds the steps that end faults, and those that move work from one process to another.
func (c *chaos) addRepairs(add func(int, func() error)) {
	for i, name := range c.crashed {
		add(c.odds.start, func() error {
			c.path.note("%s starts", name)
			c.crashed = append(c.crashed[:i:i], c.crashed[i+1:]...)
			_, err := c.start(name, false)
			return err
		})
	}
	for _, p := range c.processes {
		if c.wire.isPaused(p.name) {
			add(c.odds.resume, func() error { c.path.note("%s goes on", p.name); c.wire.resume(p.name); return nil })
		}
		if len(p.cut) > 0 {
			add(c.odds.mend, func() error { c.path.note("%s reaches all servers", p.name); clear(p.cut); return nil })
		}
	}
	add(c.odds.rebalance, func() error {
		c.path.note("the group rebalances")
		c.shuffleGroup()
		return nil
	})
	add(c.odds.down, func() error {
		p := c.random.IntN(2 * partitions)
		c.path.note("partition %d has no leader, or one again", p%partitions)
		c.log.setDown(p, p < partitions)
		return nil
	})
	at := seckill.StockKey{
		Item: c.items[c.random.IntN(len(c.items))], Shard: inventory.ShardID(c.random.IntN(shards)),
	}
	if c.locks[at] == nil {
		add(c.odds.lock, func() error { c.path.note("somebody has the row %v", at); c.lock(at); return nil })
	} else {
		add(c.odds.unlock*4, func() error { c.path.note("nobody has the row %v", at); c.unlock(at); return nil })
	}
}

// addDisasters adds the faults that make a server forget, so that a shard has to be rebuilt.
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
		return c.suspect(inventory.ShardID(c.random.IntN(shards)))
	})
	of := func(to server) func(*call) bool {
		return func(call *call) bool { return call.traits.to == to }
	}
	disaster(c.aimed(c.odds.tail, of(queue)), "the log loses a tail", func() { c.loseTail(c.random.IntN(partitions), 1+c.random.IntN(2)) })
	disaster(c.odds.anew, "the topic is made anew", c.makeAnew)
	disaster(c.odds.jump, "the database's clock jumps ahead", func() { c.jump(longTimes[c.random.IntN(len(longTimes))]) })
	if c.backup == nil {
		add(c.odds.backup, func() error { c.path.note("the database is copied"); return c.takeBackup() })
	} else {
		add(c.aimed(c.odds.restore, of(database)), func() error {
			c.left.disasters--
			c.path.note("the database is restored")
			return c.restore()
		})
	}
	disaster(c.odds.lose, "Redis is empty", c.lose)
	if c.replica == nil {
		add(c.odds.lag, func() error {
			shard := c.random.IntN(shards+1) - 1 // everyShard, or one
			c.path.note("the replica lags, of shard %d (-1 is all)", shard)
			c.lagging(shard)
			return nil
		})
	} else {
		disaster(c.aimed(c.odds.failover, of(redis)), "failover", c.failover)
	}
}

// shuffleGroup gives each partition to a process, and to a stopped one only if there is no other.
func (c *chaos) shuffleGroup() {
	awake := slices.DeleteFunc(slices.Clone(c.processes), func(p *process) bool { return c.wire.isPaused(p.name) })
	if len(awake) == 0 {
		awake = c.processes
	}
	var owners [partitions]*member
	for i := range owners {
		owners[i] = awake[c.random.IntN(len(awake))].member
	}
	c.log.assign(owners)
}

// settle ends the run: late calls are executed now or never, and then the quiet end begins.
func (c *chaos) settle() error {
	c.heal()
	c.look()
	for _, call := range c.wire.still() {
		if c.random.IntN(2) == 0 {
			c.lateRuns(call)
		} else {
			c.wire.takeLate(call)
		}
		if err := c.check(); err != nil || c.broken != "" {
			return err
		}
	}
	return c.quiet()
}

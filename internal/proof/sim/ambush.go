package sim

import "slices"

// ambush is a fault that waits for a call of its method. The late steps of the protocol are seldom
// on the wire. Without ambushes they would seldom get a fault.
type ambush struct {
	method method
	fate   fate
}

// ambushes is how many a run has.
const ambushes = 6

// rarest are calls that most runs never make.
var rarest = []method{callActivity, callBury, callCancel, callLoad, callMove, callOpen, callSnapshot}

// layAmbushes chooses the run's ambushes: most of them for calls that are rare.
func (c *chaos) layAmbushes() {
	all := driven()
	seldom := slices.DeleteFunc(slices.Clone(all), func(m method) bool { return !rare[m] })
	for len(c.ambushes) < ambushes {
		m := seldom[c.random.IntN(len(seldom))]
		switch c.random.IntN(4) {
		case 0:
			m = all[c.random.IntN(len(all))]
		case 1:
			m = rarest[c.random.IntN(len(rarest))]
		}
		f := fates[c.random.IntN(len(fates))]
		if f == fateCrashed && len(c.processes) == 1 { // the only one never crashes
			continue
		}
		if f != fateDone && f.possible(m) {
			c.ambushes = append(c.ambushes, ambush{m, f})
		}
	}
	c.path.note("ambushes %v", c.ambushes)
}

// waitsFor reports whether an ambush waits for calls of a method.
func (c *chaos) waitsFor(m method) bool {
	return slices.ContainsFunc(c.ambushes, func(a ambush) bool { return a.method == m })
}

// spring springs an ambush whose call is on the wire, and reports whether there was one.
func (c *chaos) spring() (bool, error) {
	waited := func(call *call) bool {
		return !call.executed && c.waitsFor(call.method) && c.wire.canAnswerLocked(call)
	}
	calls := c.wire.those(waited)
	if len(calls) == 0 {
		return false, nil
	}
	call := calls[0]
	at := slices.IndexFunc(c.ambushes, func(a ambush) bool { return a.method == call.method })
	a := c.ambushes[at]
	c.ambushes = slices.Delete(c.ambushes, at, at+1)
	c.path.note("an ambush: %s, %s", call, a.fate)
	return true, c.strike(call, a.fate)
}

// strike applies a fate to a call.
func (c *chaos) strike(call *call, f fate) error {
	p := c.process(call.process)
	switch f {
	case fateCrashed:
		if len(c.processes) == 1 {
			return nil
		}
		c.perhapsRun(call)
		c.crash(p)
		c.crashed = append(c.crashed, p.name)
	case fatePaused:
		c.perhapsRun(call)
		c.pause(p)
	case fateCut:
		c.perhapsRun(call)
		p.cut[call.traits.to] = true
		c.cutOff(call)
	case fateBack:
		return c.goBack(call)
	default:
		c.meet(call, f)
	}
	return nil
}

// perhapsRun executes a call, or does not.
func (c *chaos) perhapsRun(call *call) {
	if c.random.IntN(2) == 0 {
		c.rig.run(call)
		c.path.note("%s → %s, the answer is on its way", call, call.said())
	}
}

// goBack takes the call's server back to a moment before the call.
func (c *chaos) goBack(call *call) error {
	switch call.traits.to {
	case redis:
		if c.replica == nil {
			c.lagging(everyShard)
		}
		c.perhapsRun(call)
		c.failover()
	case queue:
		c.perhapsRun(call)
		c.loseTail(c.random.IntN(partitions), 1)
	case database:
		if c.backup == nil {
			if err := c.takeBackup(); err != nil {
				return err
			}
		}
		c.perhapsRun(call)
		return c.restore()
	}
	return nil
}

package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

// scenario is a driver that a text file decides everything of. After each line, every call goes through until nothing moves, but
// those that the file has stopped. A line is a comment (#), or one of these; what is in brackets may be left out:
//
//	sale units=1 [limit=0] [window=1h] [slots=4] [processes=A,B]    the first line: opens the shop
//
//	A: buy ann/k1 [x2] [wait=3s] -> accepted queued                 somebody asks A, and is answered so (or waits)
//	A: cancel ann/k1 -> cancelled cancelled-by-buyer
//	A: pay ann/k1 p1 -> paid
//	A: restock more +2 -> total 3                                   with a minus, stock is taken back
//	A: worker                                                       a part of A takes a step: catalog, watch, worker, relay,
//	                                                                timeouts, sweeper, rebuilder
//	A crashes | A starts | A starts alone                           alone: as an embedded process does
//
//	stop A put          from here on, A's puts stay on the wire (hold, put, accept, bury, … as wire.go calls them)
//	run A put           the stopped call is executed; its answer is still on its way
//	go A put            it is executed, if it wasn't yet, and answered
//	lose A put          it is executed, if it wasn't yet, and the answer is lost
//	refuse A put        it is not executed, and answered with an error
//	abandon A put       its caller is told that nobody knows; it stays on the wire, to be executed late
//	late A put          an abandoned call is executed
//	free A put          A's puts flow again
//	cut A accept        from here on, all of A's are refused, until they are freed
//
//	pass 3s             time passes
//	empty               Redis forgets everything
//	lag | failover      a replica falls behind; it takes over
//	suspect             somebody asks for a rebuild
//	break locks         the connections behind all rebuild locks break
//	rebalance B         B gets all of the queue's partitions; at first, and after a crash, they are the first process's
//
//	expect order ann/k1 cancelled not-accepted                      or none
//	expect hold ann/k1 fresh                                        or none
//	expect answer ann/k1 unknown                                    of the last purchase under the key
//	expect stock available=1 held=0 fresh=0 sold=0 epoch=1 closed=false
//	expect books total=1 open=0 sold=0 skipped=0 rejected=0 epoch=1
//	expect queue records=1 committed=0
//
// At the end all is freed, what was abandoned is gone for good, and the run has to come to its quiet end.
type scenario struct {
	*rig
	open     func(terms, []string) (*rig, error)
	lawsOnly bool // what the text expects is not looked at, and lines that make no sense any more are passed over
	stopped  []stop
	last     map[string]*attempt
}

// stop keeps a process's calls of a method.
type stop struct {
	process string
	method  method
	cut     bool // refuses them
}

// errScenario means that a line makes no sense.
var errScenario = errors.New("no such line")

// runScenario runs a text. open opens the shop. With lawsOnly the text is only a history, and what has to hold are the laws.
func runScenario(text string, lawsOnly bool, open func(terms, []string) (*rig, error)) (*rig, error) {
	s := &scenario{open: open, lawsOnly: lawsOnly, last: make(map[string]*attempt)}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if s.rig != nil {
			s.path.note("> %s", line)
		}
		err := s.line(line)
		if s.lawsOnly && s.rig != nil && err != nil {
			s.path.note("  but %v", err)
			err = nil
		}
		if err == nil && s.broken == "" {
			err = s.flow()
		}
		if err != nil {
			return s.rig, fmt.Errorf("line %d: %s: %w", n+1, line, err)
		}
		if s.broken != "" {
			return s.rig, nil
		}
	}
	s.stopped = nil
	s.wire.dropLate(func(*call) bool { return true })
	return s.rig, s.quiet()
}

// flow lets calls through, but those that are stopped. Those that are cut are refused.
func (s *scenario) flow() error {
	for {
		err := s.rig.flow(func(c *call) bool { return slices.ContainsFunc(s.stopped, c.heldBy) })
		if err != nil || s.broken != "" {
			return err
		}
		refused := false
		for _, c := range s.wire.waiting() {
			if i := slices.IndexFunc(s.stopped, c.heldBy); i >= 0 && s.stopped[i].cut {
				s.path.note("%s is refused", c)
				s.wire.answer(c, errRefused)
				refused = true
			}
		}
		if !refused {
			return nil
		}
	}
}

func (c *call) heldBy(s stop) bool { return c.process == s.process && c.method == s.method }

// line does what a line says.
func (s *scenario) line(line string) error {
	words := strings.Fields(line)
	if words[0] == "sale" {
		return s.sale(words[1:])
	}
	if s.rig == nil {
		return errors.New("the first line opens a sale")
	}
	name, asks := strings.CutSuffix(words[0], ":")
	switch {
	case asks:
		command, want, _ := strings.Cut(strings.TrimPrefix(line, words[0]), "->")
		return s.asks(name, strings.Fields(command), strings.TrimSpace(want))
	case len(words) == 2 && words[1] == "crashes":
		return s.withProcess(words[0], func(p *process) {
			s.crash(p)
			s.giveAll(s.processes)
		})
	case len(words) > 1 && words[1] == "starts":
		return s.starts(words[0], words[2:])
	case len(words) == 2 && words[0] == "rebalance":
		return s.withProcess(words[1], func(p *process) { s.giveAll([]*process{p}) })
	case words[0] == "expect" && len(words) > 1:
		return s.expect(words[1], words[2:])
	case words[0] == "pass" && len(words) == 2:
		return s.passes(words[1])
	case len(words) == 3 && words[0] != "break":
		return s.intervene(words[0], words[1], method(words[2]))
	}
	return s.disaster(line)
}

// passes lets time pass, a bit at a time, and whatever wakes go on.
func (s *scenario) passes(word string) error {
	d, err := time.ParseDuration(word)
	if err != nil {
		return err
	}
	for bit := 50 * time.Millisecond; d > 0 && s.broken == ""; d -= bit {
		s.pass(min(d, bit))
		if err := s.flow(); err != nil {
			return err
		}
	}
	return nil
}

// starts starts a process. alone means that all others are dead, as an embedded one is when it starts.
func (s *scenario) starts(name string, words []string) error {
	p, err := s.start(name)
	if err != nil {
		return err
	}
	switch {
	case len(words) == 1 && words[0] == "alone" && len(s.processes) == 1:
		p.rebuilder.Alone()
	case len(words) > 0:
		return errScenario
	}
	s.giveAll(s.processes)
	return nil
}

func (s *scenario) disaster(line string) error {
	switch line {
	case "empty":
		s.lose()
	case "lag":
		s.lagging()
	case "failover":
		if s.replica == nil {
			return errors.New("no replica lags: everything has been replicated since")
		}
		s.failover()
	case "suspect":
		return s.suspect()
	case "break locks":
		if s.breakLeases() == 0 {
			return errors.New("nobody has a rebuild lock")
		}
	default:
		return errScenario
	}
	return nil
}

func (s *scenario) withProcess(name string, do func(*process)) error {
	p := s.process(name)
	if p == nil {
		return fmt.Errorf("no process %s is alive", name)
	}
	do(p)
	return nil
}

// settings parses name=value words.
func settings(words []string) (map[string]string, error) {
	set := make(map[string]string, len(words))
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=value", w)
		}
		set[name] = value
	}
	return set, nil
}

// sale opens the shop.
func (s *scenario) sale(words []string) error {
	set, err := settings(words)
	if err != nil {
		return err
	}
	t := terms{Units: 1, Window: time.Hour, Slots: 4}
	names := []string{"A"}
	for name, value := range set {
		switch name {
		case "units":
			t.Units, err = strconv.ParseInt(value, 10, 64)
		case "limit":
			t.PerUser, err = strconv.Atoi(value)
		case "slots":
			t.Slots, err = strconv.Atoi(value)
		case "window":
			t.Window, err = time.ParseDuration(value)
		case "processes":
			names = strings.Split(value, ",")
		default:
			err = fmt.Errorf("a sale has no %s", name)
		}
		if err != nil {
			return err
		}
	}
	if s.rig, err = s.open(t, names); err == nil {
		s.giveAll(s.processes)
	}
	return err
}

// giveAll gives all partitions to the first of these processes.
func (s *scenario) giveAll(processes []*process) {
	if len(processes) == 0 {
		return
	}
	var owners [partitions]*member
	for i := range owners {
		owners[i] = processes[0].member
	}
	s.log.assign(owners)
}

// asks lets somebody ask a process for something, or a part of it take a step.
func (s *scenario) asks(name string, words []string, want string) error {
	p := s.process(name)
	if p == nil || len(words) == 0 {
		return fmt.Errorf("no process %s is alive", name)
	}
	if part := p.part(words[0]); part != nil && len(words) == 1 {
		switch {
		case !part.busy.Load():
			p.begin(part)
		case part.name != partWorker: // which waits for records and goes on by itself
			return fmt.Errorf("the %s is at it", part.name)
		}
		return nil
	}
	answer, err := s.request(p, words)
	if err != nil {
		return err
	}
	if err := s.flow(); err != nil || s.broken != "" {
		return err
	}
	if got := answer(); got != want {
		return fmt.Errorf("answered %q", got)
	}
	return nil
}

// request sends what somebody asks for and returns what will have been answered.
func (s *scenario) request(p *process, words []string) (func() string, error) {
	if len(words) < 2 {
		return nil, errScenario
	}
	if words[0] == "restock" && len(words) == 3 {
		delta, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return nil, err
		}
		return s.restock(p, words[1], delta).answer, nil
	}
	k, err := s.key(words[1])
	if err != nil {
		return nil, err
	}
	switch {
	case words[0] == "buy":
		return s.purchase(p, k, words[2:])
	case words[0] == "cancel" && len(words) == 2:
		return s.cancel(p, k).answer, nil
	case words[0] == "pay" && len(words) == 3:
		return s.pay(p, k, words[2], 1).answer, nil
	}
	return nil, errScenario
}

func (s *scenario) purchase(p *process, k key, words []string) (func() string, error) {
	quantity, wait := 1, time.Duration(0)
	for _, w := range words {
		var err error
		if units, ok := strings.CutPrefix(w, "x"); ok {
			quantity, err = strconv.Atoi(units)
		} else if d, ok := strings.CutPrefix(w, "wait="); ok {
			wait, err = time.ParseDuration(d)
		} else {
			err = errScenario
		}
		if err != nil {
			return nil, err
		}
	}
	a := s.buy(p, k, quantity, wait)
	s.last[k.String()] = a
	return a.answer, nil
}

func (s *scenario) key(word string) (key, error) {
	buyer, name, ok := strings.Cut(word, "/")
	if !ok {
		return key{}, fmt.Errorf("%q is not buyer/key", word)
	}
	return s.keyOf(buyer, name), nil
}

// intervene decides about calls on the wire.
func (s *scenario) intervene(verb, process string, m method) error {
	if _, ok := methods[m]; !ok {
		return fmt.Errorf("there is no call %q", m)
	}
	at := stop{process: process, method: m}
	free := func(c stop) bool { return c.process == at.process && c.method == at.method }
	switch verb {
	case "stop", "cut":
		at.cut = verb == "cut"
		s.stopped = append(s.stopped, at)
		return nil
	case "free":
		s.stopped = slices.DeleteFunc(s.stopped, free)
		return nil
	case "late":
		return s.lateCall(at)
	}
	waiting := slices.DeleteFunc(s.wire.waiting(), func(c *call) bool { return !c.heldBy(at) })
	if len(waiting) == 0 {
		return fmt.Errorf("%s has no %s on the wire", process, m)
	}
	c := waiting[0]
	if !c.executed && (verb == "run" || verb == "go" || verb == "lose") {
		s.rig.run(c)
	}
	s.path.note("%s → %s", c, c.said())
	switch verb {
	case "run":
	case "go":
		s.answer(c)
	case "lose":
		s.wire.answer(c, m.unknown(errReset))
	case "refuse":
		s.wire.answer(c, errRefused)
	case "abandon":
		s.wire.again(c)
		s.wire.answer(c, m.unknown(errReset))
	default:
		return errScenario
	}
	return nil
}

func (s *scenario) lateCall(at stop) error {
	for _, c := range s.wire.still() {
		if c.heldBy(at) {
			s.wire.takeLate(c)
			s.rig.run(c)
			s.path.note("%s, late → %s", c, c.said())
			return nil
		}
	}
	return fmt.Errorf("no %s of %s is late", at.method, at.process)
}

// expect compares what a line says with what there is.
func (s *scenario) expect(what string, words []string) error {
	switch what {
	case "order", "hold", "answer":
		if len(words) < 2 {
			return errScenario
		}
		return s.expectOf(what, words[0], strings.Join(words[1:], " "))
	case "stock":
		levels, err := s.redis.Levels(s.ctx, s.item)
		if err != nil {
			return err
		}
		return expectSettings(words, map[string]string{
			"available": fmt.Sprint(levels.Available), "held": fmt.Sprint(levels.Held), "sold": fmt.Sprint(levels.Sold),
			"fresh": fmt.Sprint(levels.Fresh), "epoch": fmt.Sprint(levels.Epoch), "closed": fmt.Sprint(levels.Closed),
		})
	case "books":
		books, err := s.store.Books(s.ctx, activity)
		if err != nil {
			return err
		}
		b := books[0]
		return expectSettings(words, map[string]string{
			"total": fmt.Sprint(b.Total), "open": fmt.Sprint(b.Open), "sold": fmt.Sprint(b.Sold), "epoch": fmt.Sprint(b.Epoch),
			"skipped": fmt.Sprint(b.Skipped), "rejected": fmt.Sprint(b.Rejected),
		})
	case "queue":
		var records, committed int64
		for i, end := range s.log.end() {
			records += end
			committed += s.log.committedOffsets()[i]
		}
		return expectSettings(words, map[string]string{"records": fmt.Sprint(records), "committed": fmt.Sprint(committed)})
	}
	return errScenario
}

// expectOf compares what there is of a key.
func (s *scenario) expectOf(what, word, want string) error {
	k, err := s.key(word)
	if err != nil {
		return err
	}
	got := "none"
	switch what {
	case "order":
		orders, err := s.store.FindOrders(s.ctx, []seckill.OrderID{k.id})
		if err != nil {
			return err
		}
		got = orderState(orders[0])
	case "hold":
		levels, err := s.redis.Levels(s.ctx, s.item)
		if err != nil {
			return err
		}
		entry, err := s.redis.Peer().Find(s.ctx, inventory.Ref{Item: s.item, Epoch: levels.Epoch}, string(k.id))
		if err != nil {
			return err
		}
		got = entry.State.String()
	case "answer":
		if a := s.last[word]; a != nil {
			got = a.answer()
		}
	}
	if got != want {
		return fmt.Errorf("it is %q", got)
	}
	return nil
}

func expectSettings(words []string, have map[string]string) error {
	want, err := settings(words)
	if err != nil {
		return err
	}
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		if have[name] != want[name] {
			return fmt.Errorf("%s is %q", name, have[name])
		}
	}
	return nil
}

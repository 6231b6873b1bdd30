package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// scenario is a driver whose every decision is in a text file. After each line, all calls go
// through until nothing moves, except the calls that the file has stopped. A line is a comment (#),
// or one of these; words in brackets may be left out:
//
//	sale units=1 [items=1] [limit=0] [spread=1] [window=1h] [slots=4] [processes=A,B]    the first line: opens the shop
//
//	A: buy ann/k1 [x2] [wait=3s] -> accepted queued                 somebody asks A, and is answered so (or waits);
//	                                                                ann/k1@2 is of the second item
//	A: cancel ann/k1 -> cancelled cancelled-by-buyer
//	A: pay ann/k1 p1 -> paid
//	A: restock more +2 -> total 3                                   with a minus, stock is taken back
//	A: worker                                                       a part of A takes a step: catalog, watch, worker, teller,
//	                                                                relay, timeouts, unparker, sweeper, bury, barrier,
//	                                                                rebuilder, auditor, mover
//	A works 5s [without worker,teller]                              all of its parts work for so long, but these
//	A crashes | A starts | A starts alone                           alone: as an embedded process does
//	A stops | A goes on                                             as by SIGSTOP and SIGCONT
//
//	stop A put          from here on, A's puts stay on the wire (hold, put, accept, bury, … as wire.go calls them)
//	run A put           the stopped call is executed; its answer is still on its way
//	go A put            it is executed, if it wasn't yet, and answered
//	lose A put          it is executed, if it wasn't yet, and the answer is lost
//	refuse A put        it is not executed, and answered with an error
//	abandon A put       its caller is told that nobody knows; it stays on the wire, to be executed late
//	late A put          an abandoned call is executed
//	free A put          A's puts flow again
//	amid A raise        while the next snapshots are read, the stopped call is executed
//	cut A accept        from here on, all of A's are refused, until they are freed; or cut A redis, queue, database
//
//	pass 3s             time passes
//	empty               Redis forgets everything
//	lag | failover      a replica falls behind; it takes over
//	suspect [1]         somebody asks for a rebuild of the item's first shard, or of the one behind it
//	lock | unlock       somebody has the first item's stock row on its first shard
//	jump 5s             the database's clock jumps ahead
//	backup | restore    the database is copied; the copy takes its place
//	lose tail 0 1       the log loses the last record of partition 0
//	anew                the topic is made anew: all records are gone
//	down 0 | up 0       partition 0 has no leader; it has one again
//	rebalance B         B gets all of the queue's partitions; at first, and after a crash, they are the first process's
//
//	expect order ann/k1 cancelled not-accepted                      or none
//	expect hold ann/k1 fresh                                        or none
//	expect answer ann/k1 unknown                                    of the last purchase under the key
//	expect stock available=1 held=0 fresh=0 sold=0 epoch=1 closed=false
//	expect books total=1 open=0 sold=0 skipped=0 rejected=0 epoch=1
//	expect queue records=1 read=0
//
// At the end all is freed, what was abandoned is gone for good, and the run has to come to its
// quiet end.
type scenario struct {
	*rig
	lawsOnly bool // expectations in the text are ignored, and lines that make no sense any more are skipped
	stopped  []stop
	last     map[string]*attempt
	polling  map[string]bool // processes whose worker may read on: a worker reads when the text says so
}

// stop holds back a process's calls of a method.
type stop struct {
	process string
	method  method
	cut     bool // refuses them
}

// errScenario means that a line makes no sense.
var errScenario = errors.New("no such line")

// runScenario runs a text in the shop that its first line opens. With lawsOnly only the laws are
// checked, not the text's expectations.
func runScenario(r *rig, text string, lawsOnly bool) error {
	s := &scenario{rig: r, lawsOnly: lawsOnly, last: make(map[string]*attempt), polling: make(map[string]bool)}
	s.giveAll(s.processes)
	opened := false
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !opened { // the sale, see openingOf
			opened = true
			continue
		}
		s.path.note("> %s", line)
		err := s.line(line)
		if s.lawsOnly && err != nil {
			s.path.note("  but %v", err)
			err = nil
		}
		if err == nil && s.broken == "" {
			err = s.flow()
		}
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", n+1, line, err)
		}
		if s.broken != "" {
			return nil
		}
	}
	s.stopped = nil
	s.wire.dropLate(func(*call) bool { return true })
	return s.quiet()
}

// flow lets calls go through, except stopped ones. Calls over a cut connection are refused.
func (s *scenario) flow() error {
	for {
		err := s.rig.flow(func(c *call) bool {
			return slices.ContainsFunc(s.stopped, c.heldBy) || c.method == callPoll && !s.polling[c.process]
		}, s.hasPolled)
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

// hasPolled lets a worker read no further than what it has now.
func (s *scenario) hasPolled(c *call) {
	if haul, ok := c.value.(seckill.Haul); ok && len(haul.Moves) > 0 {
		s.polling[c.process] = false
	}
}

func (c *call) heldBy(s stop) bool {
	return c.process == s.process && (c.method == s.method || s.method == method(methods[c.method].to))
}

// line executes a line.
func (s *scenario) line(line string) error {
	words := strings.Fields(line)
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
	case len(words) > 2 && words[1] == "works":
		return s.works(words[0], words[2:])
	case len(words) > 1 && (words[1] == "stops" || words[1] == "goes"):
		return s.withProcess(words[0], func(p *process) {
			if words[1] == "stops" {
				s.wire.pause(p.name)
			} else {
				s.wire.resume(p.name)
			}
		})
	case len(words) > 1 && words[1] == "starts":
		return s.starts(words[0], words[2:])
	case len(words) == 2 && words[0] == "rebalance":
		return s.withProcess(words[1], func(p *process) { s.giveAll([]*process{p}) })
	case words[0] == "expect" && len(words) > 1:
		return s.expect(words[1], words[2:])
	case words[0] == "pass" && len(words) == 2:
		return s.passes(words[1])
	case len(words) == 4 && words[0] == "lose" && words[1] == "tail":
		return s.losesTail(words[2], words[3])
	case words[0] == "suspect" || words[0] == "jump":
		return s.trouble(words)
	case len(words) == 2 && (words[0] == "down" || words[0] == "up"):
		p, err := strconv.Atoi(words[1])
		if err == nil {
			s.log.setDown(p, words[0] == "down")
		}
		return err
	case len(words) == 3:
		return s.intervene(words[0], words[1], method(words[2]))
	}
	return s.disaster(line)
}

// trouble asks for a rebuild, or sets the database's clock ahead.
func (s *scenario) trouble(words []string) error {
	if words[0] == "jump" && len(words) == 2 {
		d, err := time.ParseDuration(words[1])
		s.jump(d)
		return err
	}
	shard := inventory.Home(s.items[0], shards)
	if len(words) == 2 {
		i, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		shard += inventory.ShardID(i)
	}
	return s.suspect(shard % shards)
}

// works lets the parts of a process work for a while.
func (s *scenario) works(name string, words []string) error {
	p := s.process(name)
	d, err := time.ParseDuration(words[0])
	if err != nil || p == nil {
		return errors.Join(err, errScenario)
	}
	var rest []string
	if len(words) == 3 && words[1] == "without" {
		rest = strings.Split(words[2], ",")
	}
	for bit := 50 * time.Millisecond; d > 0 && s.broken == "" && p.alive(); d -= bit {
		s.polling[name] = !slices.Contains(rest, partWorker)
		for _, part := range p.parts {
			if !part.busy.Load() && !slices.Contains(rest, part.name) {
				p.begin(part)
			}
		}
		if err := s.flow(); err != nil {
			return err
		}
		s.pass(min(d, bit))
	}
	err = s.flow()
	s.polling[name] = false
	return err
}

// passes lets time pass in small steps, and lets everything that wakes go on.
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

// starts starts a process. alone means that all others are dead, as an embedded one is when it
// starts.
func (s *scenario) starts(name string, words []string) error {
	alone := len(words) == 1 && words[0] == "alone"
	if len(words) > 0 && (!alone || len(s.processes) > 0) {
		return errScenario
	}
	if _, err := s.start(name, alone); err != nil {
		return err
	}
	s.giveAll(s.processes)
	return nil
}

func (s *scenario) disaster(line string) error {
	switch line {
	case "empty":
		s.lose()
	case "lag":
		s.lagging(everyShard)
	case "failover":
		if s.replica == nil {
			return errors.New("no replica lags: everything has been replicated since")
		}
		s.failover()
	case "lock":
		s.lock(seckill.StockKey{Item: s.items[0], Shard: inventory.Home(s.items[0], shards)})
	case "unlock":
		s.unlock(seckill.StockKey{Item: s.items[0], Shard: inventory.Home(s.items[0], shards)})
	case "backup":
		return s.takeBackup()
	case "restore":
		if s.backup == nil {
			return errors.New("there is no backup")
		}
		return s.restore()
	case "anew":
		s.makeAnew()
	default:
		return errScenario
	}
	return nil
}

func (s *scenario) losesTail(partition, count string) error {
	p, err := strconv.Atoi(partition)
	n, err2 := strconv.Atoi(count)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	s.loseTail(p, n)
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

// openingOf reads the first line of a text: the terms of its sale, and the names of its processes.
func openingOf(text string) (t terms, names []string, err error) {
	for line := range strings.SplitSeq(text, "\n") {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "sale" {
			return parseSale(words[1:])
		}
	}
	return t, nil, errors.New("no line opens a sale")
}

func parseSale(words []string) (t terms, names []string, err error) {
	set, err := settings(words)
	if err != nil {
		return t, nil, err
	}
	t = terms{Items: 1, Units: 1, Spread: 1, Window: time.Hour, Slots: 4}
	names = []string{"A"}
	for name, value := range set {
		switch name {
		case "items":
			t.Items, err = strconv.Atoi(value)
			if t.Items < 1 || t.Items > len(skus) {
				err = errScenario
			}
		case "units":
			t.Units, err = strconv.ParseInt(value, 10, 64)
		case "limit":
			t.PerUser, err = strconv.Atoi(value)
		case "spread":
			t.Spread, err = strconv.Atoi(value)
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
			return t, nil, err
		}
	}
	return t, names, nil
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

// asks sends a request to a process, or lets a part of it take a step.
func (s *scenario) asks(name string, words []string, want string) error {
	p := s.process(name)
	if p == nil || len(words) == 0 {
		return fmt.Errorf("no process %s is alive", name)
	}
	if part := p.part(words[0]); part != nil && len(words) == 1 {
		if part.name == partWorker {
			s.polling[p.name] = true
		}
		switch {
		case !part.busy.Load():
			p.begin(part)
		case part.name != partWorker: // a worker waits for records and goes on by itself
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

// request sends a request and returns its coming answer.
func (s *scenario) request(p *process, words []string) (func() string, error) {
	if len(words) < 2 {
		return nil, errScenario
	}
	if words[0] == "restock" && len(words) == 3 {
		delta, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			return nil, err
		}
		name, item, err := s.itemOf(words[1])
		if err != nil {
			return nil, err
		}
		return s.restock(p, item, name, delta).answer, nil
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
	name, item, err := s.itemOf(name)
	if !ok || err != nil {
		return key{}, fmt.Errorf("%q is not buyer/key, or buyer/key@item", word)
	}
	return s.keyOf(buyer, name, item), nil
}

// itemOf cuts @2 from the end of a word: the place of the item, 0 is the first one.
func (s *scenario) itemOf(word string) (rest string, item int, err error) {
	rest, place, ok := strings.Cut(word, "@")
	if !ok {
		return word, 0, nil
	}
	item, err = strconv.Atoi(place)
	if item--; err == nil && (item < 0 || item >= len(s.items)) {
		err = errScenario
	}
	return rest, item, err
}

// intervene decides about calls on the wire.
func (s *scenario) intervene(verb, process string, m method) error {
	if _, ok := methods[m]; !ok && !slices.Contains(servers, server(m)) {
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
	case "amid":
		s.amid = func() {
			for _, c := range s.wire.waiting() {
				if !c.executed && c.heldBy(at) {
					s.rig.run(c)
					s.path.note("%s → %s, in the middle of a snapshot", c, c.said())
				}
			}
		}
		return nil
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

// expect compares a line's expectation with the state.
func (s *scenario) expect(what string, words []string) error {
	switch what {
	case "order", "hold", "answer":
		if len(words) < 2 {
			return errScenario
		}
		return s.expectOf(what, words[0], strings.Join(words[1:], " "))
	case "stock":
		return s.expectStock(words)
	case "books":
		return s.expectBooks(words)
	case "queue":
		return s.expectQueue(words)
	}
	return errScenario
}

// expectQueue compares the pages in the log with those that were read. Markers don't count.
func (s *scenario) expectQueue(words []string) error {
	at, err := s.store.Positions(s.ctx)
	if err != nil {
		return err
	}
	pages, read := s.log.pages(at)
	return expectSettings(words, map[string]string{"records": fmt.Sprint(pages), "read": fmt.Sprint(read)})
}

// expectStock compares the item's units on all of its shards, and the state of its first one.
func (s *scenario) expectStock(words []string) error {
	home := inventory.Home(s.items[0], shards)
	var sum inventory.ItemNumbers
	var first inventory.Numbers
	fresh := int64(0)
	for i := range s.terms.Spread {
		levels, items, err := s.redis.ItemNumbers(s.ctx, (home+inventory.ShardID(i))%shards, s.items[:1])
		if err != nil {
			return err
		}
		sum.Available, sum.Held, sum.Sold = sum.Available+items[0].Available, sum.Held+items[0].Held, sum.Sold+items[0].Sold
		fresh += levels.Fresh
		if i == 0 {
			first = levels
		}
	}
	return expectSettings(words, map[string]string{
		"available": fmt.Sprint(sum.Available), "held": fmt.Sprint(sum.Held), "sold": fmt.Sprint(sum.Sold),
		"fresh": fmt.Sprint(fresh), "closed": fmt.Sprint(first.Closed),
		"epoch": fmt.Sprint(s.epochNumber(inventory.Ref{Shard: home, Epoch: first.Epoch})),
	})
}

// expectBooks compares the item's books, summed over its shards.
func (s *scenario) expectBooks(words []string) error {
	books, err := s.store.ActivityBooks(s.ctx, activity)
	if err != nil {
		return err
	}
	var b seckill.Book
	for i := range books {
		if books[i].Item != s.items[0] {
			continue
		}
		b.Total, b.Open, b.Sold, b.Parked = b.Total+books[i].Total, b.Open+books[i].Open, b.Sold+books[i].Sold, b.Parked+books[i].Parked
		b.Skipped, b.Rejected = b.Skipped+books[i].Skipped, b.Rejected+books[i].Rejected
	}
	return expectSettings(words, map[string]string{
		"total": fmt.Sprint(b.Total), "open": fmt.Sprint(b.Open), "sold": fmt.Sprint(b.Sold), "parked": fmt.Sprint(b.Parked),
		"skipped": fmt.Sprint(b.Skipped), "rejected": fmt.Sprint(b.Rejected),
		"epoch": fmt.Sprint(s.epochNumber(inventory.Ref{Shard: books[0].Shard, Epoch: books[0].Epoch})),
	})
}

// expectOf compares the state of a key.
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
		item := s.items[k.item]
		shard := inventory.Place(item, s.terms.Spread, string(k.id), shards)
		levels, err := s.redis.Numbers(s.ctx, shard)
		if err != nil {
			return err
		}
		ref := inventory.Ref{Shard: shard, Epoch: levels.Epoch}
		entry, err := s.redis.Peer().Find(s.ctx, ref, item, string(k.id))
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

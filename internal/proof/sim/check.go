package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// check checks the laws that hold at every moment. It reads the servers directly.
func (r *rig) check() error {
	if r.wroteStock && r.broken == "" {
		r.wroteStock = false
		if err := r.checkStock(); err != nil {
			return err
		}
	}
	if err := r.judgeAnswers(); err != nil {
		return err
	}
	if r.unbalanced.Swap(false) && !r.lossy() {
		if err := r.checkSuspicion(); err != nil {
			return err
		}
	}
	if now := r.disk.answers.version(r.rows); now != r.version {
		r.version, r.wroteOrders = now, true
	}
	if !r.wroteOrders || r.broken != "" {
		return nil
	}
	r.wroteOrders = false
	orders, err := r.orders()
	if err != nil {
		return err
	}
	r.checkPromises(orders)
	r.checkLimits(orders)
	return r.checkBooks(orders)
}

// checkStock checks the available units: never below zero. It also keeps since when there are some
// (L6).
func (r *rig) checkStock() error {
	for shard := range inventory.ShardID(shards) {
		levels, items, err := r.redis.ItemNumbers(r.ctx, shard, r.items)
		if err != nil {
			return err
		}
		for i := range items {
			// A failover may bring back units that were sold. The database refuses to sell them
			// again.
			if items[i].Available < 0 && !r.lossy() {
				r.fails("L3 available is %d on shard %d", items[i].Available, shard)
			}
			r.supply[i][shard].see(!levels.Closed && items[i].Available > 0)
		}
	}
	return nil
}

// supply is the time since when an item has units on a shard.
type supply struct {
	has   bool
	since time.Time
}

func (s *supply) see(has bool) {
	if has && !s.has {
		s.since = time.Now()
	}
	s.has = has
}

// lossy reports whether a server has lost a part of what it had acknowledged.
func (r *rig) lossy() bool { return r.failovers+r.restores+r.tails > 0 }

// checkSuspicion: an auditor has found that the books don't balance, though no server forgot
// anything. It may be wrong when stock changes that add up to zero are on their way for longer than
// it looks. A rebuild does no harm then.
func (r *rig) checkSuspicion() error {
	onTheirWay := false
	_, err := r.store.Relay(r.ctx, allShards(), 0, 1000, func(_ context.Context, rows []seckill.Outgoing) []int {
		for _, row := range rows {
			onTheirWay = onTheirWay || row.Restock.Item != 0 || seckill.IsWithdrawal(row.Settlement.ID)
		}
		return nil
	})
	if !onTheirWay {
		r.fails("L3 the books don't balance, though no server forgot anything")
	}
	return err
}

func allShards() (all []inventory.ShardID) {
	for shard := range inventory.ShardID(shards) {
		all = append(all, shard)
	}
	return all
}

// orders reads the rows of all keys.
func (r *rig) orders() ([]seckill.Order, error) {
	ids := make([]seckill.OrderID, len(r.keys))
	for i := range r.keys {
		ids[i] = r.keys[i].id
	}
	return r.store.FindOrders(r.ctx, ids)
}

// judgeAnswers checks new answers to buyers. L2 requires that no 202 is given after the accept
// deadline.
func (r *rig) judgeAnswers() error {
	for _, a := range r.attempts {
		if a.judged || !a.done.Load() {
			continue
		}
		a.judged = true
		r.wroteOrders = true
		late := a.took > r.cfg.AcceptDeadline && a.wait == 0
		if late && a.promises() && a.receipt.Order.State == seckill.OrderQueued {
			// A parked order reads as queued, and has its row, so any answer may name it.
			rows, err := r.store.FindOrders(r.ctx, []seckill.OrderID{a.key.id})
			if err != nil {
				return err
			}
			if rows[0].ID == "" {
				r.fails("L2 %s was accepted after %v", a.key, a.took)
			}
		}
		if a.err == nil && a.receipt.Order.ID != a.key.id {
			r.fails("L4 %s was answered with the order %q", a.key, a.receipt.Order.ID)
		}
		if a.promises() && a.receipt.Order.Quantity != a.quantity {
			r.fails("L4 %s asked for %d and was promised %d", a.key, a.quantity, a.receipt.Order.Quantity)
		}
		r.judgeRefusal(a)
	}
	r.judgeAsks()
	return nil
}

// judgeAsks checks answers about orders: a promised order is known for ever, unless a server has
// forgotten something (L2).
func (r *rig) judgeAsks() {
	for _, a := range r.asks {
		if a.judged || !a.done.Load() {
			continue
		}
		a.judged = true
		if a.ok && a.words == orderState(seckill.Order{}) {
			r.fails("L4 %sof %s is answered with no order", a.what, a.key)
		}
		if a.promised && a.words == string(seckill.CodeUnknownOrder) && !r.lossy() && r.losses == 0 {
			r.fails("L2 %s was promised, and %sis answered %s", a.key, a.what, a.words)
		}
	}
}

// judgeRefusal checks an answer that no unit is left. For a purchase of one unit it is wrong if a
// shard had one all the time (L6). An answer busy wakes the movers.
func (r *rig) judgeRefusal(a *attempt) {
	switch a.answer() {
	case string(seckill.CodeSoldOut):
		for shard, s := range r.supply[a.key.item] {
			if a.quantity == 1 && s.has && s.since.Before(a.arrived) {
				r.fails("L6 %s was told sold-out, and shard %d had a unit all the time", a.key, shard)
			}
		}
	case string(seckill.CodePurchaseLimit):
		if units, made := r.asked(a.key); made < fewOrders && (r.terms.PerUser == 0 || units <= r.terms.PerUser) {
			r.fails("L5 %s was told %s, and never asked for more than %d units", a.key, a.answer(), units)
		}
	case string(seckill.CodeBusy):
		shard := inventory.Place(r.items[a.key.item], r.terms.Spread, string(a.key.id), shards)
		for _, p := range r.processes {
			p.sale.Mover.Wanted(shard, r.items[a.key.item])
		}
	}
}

// fewOrders is below the largest number of orders that a buyer may make of an item.
const fewOrders = 10

// asked returns the most units of the key's item that its buyer can have asked for, and with how
// many keys.
func (r *rig) asked(k key) (units, keys int) {
	most := make(map[string]int)
	for _, a := range r.attempts {
		if a.key.buyer == k.buyer && a.key.item == k.item {
			most[a.key.key] = max(most[a.key.key], a.quantity)
		}
	}
	for _, n := range most {
		units += n
	}
	return units, len(most)
}

// promised reports whether the key's order was promised.
func (r *rig) promised(k key) bool {
	for _, a := range r.attempts {
		if a.key == k && a.promises() {
			return true
		}
	}
	return false
}

// checkPromises: a promised order is never buried. It is rejected only after a server has lost
// acknowledged data. A promise whose row and record are both lost is excused.
func (r *rig) checkPromises(orders []seckill.Order) {
	for i, o := range orders {
		switch {
		case o.ID == "" || !r.promised(r.keys[i]) || r.gone[o.ID]:
		case o.Reason == seckill.ReasonNotAccepted:
			r.fails("L2 %s was promised, and is buried", r.keys[i])
		case rejected(o) && !r.lossy():
			r.fails("L2 %s was promised, and is rejected, though no server lost anything", r.keys[i])
		}
	}
}

// rejected reports whether the order was rejected, even if it was paid since.
func rejected(o seckill.Order) bool {
	return o.Reason == seckill.ReasonSoldOut || o.Reason == seckill.ReasonPurchaseLimit
}

// checkLimits: no buyer has more of an item than allowed (L5). A parked order is decided when its
// row is free. If it was promised only because a server forgot another promise, it is rejected
// then.
func (r *rig) checkLimits(orders []seckill.Order) {
	if r.terms.PerUser == 0 {
		return
	}
	type buyer struct {
		user seckill.UserID
		item int
	}
	bought := make(map[buyer]int)
	for i, o := range orders {
		undecided := o.Units == seckill.UnitsParked && r.lossy()
		if o.ID != "" && o.Units != seckill.UnitsVoid && !undecided {
			bought[buyer{o.User, r.keys[i].item}] += o.Quantity
		}
	}
	for _, k := range r.keys {
		if n := bought[buyer{k.buyer, k.item}]; n > r.terms.PerUser {
			r.fails("L5 %s has %d units, %d are allowed", k.buyer, n, r.terms.PerUser)
			return
		}
	}
}

// checkBooks: open and sold units are at most the total (L1), and the counts match the rows.
func (r *rig) checkBooks(orders []seckill.Order) error {
	books, err := r.store.ActivityBooks(r.ctx, activity)
	if err != nil {
		return err
	}
	for i := range books {
		b := &books[i]
		var open, sold, parked int64
		for k, o := range orders {
			if o.Grant.Shard != b.Shard || r.items[r.keys[k].item] != b.Item {
				continue
			}
			switch o.Units {
			case seckill.UnitsOpen:
				open += int64(o.Quantity)
			case seckill.UnitsSold:
				sold += int64(o.Quantity)
			case seckill.UnitsParked:
				parked += int64(o.Quantity)
			}
		}
		if open+sold > b.Total || open+sold+parked > b.Total && !r.lossy() {
			r.fails("L1 %d open, %d sold and %d parked of %d", open, sold, parked, b.Total)
		}
		if open != b.Open || sold != b.Sold || parked != b.Parked {
			r.fails("L1 the books say %d open, %d sold and %d parked, the rows %d, %d and %d", b.Open, b.Sold, b.Parked, open, sold, parked)
		}
	}
	return nil
}

// The quiet end: how long it may take (L3), and how much of that passes at a time.
const (
	quietLimit = time.Minute
	quietStep  = time.Second
)

// quiet lets everything go through and time pass until the books balance and nothing is in
// progress. Then it checks the rules for the end. Dead processes stay dead, as long as one lives.
func (r *rig) quiet() error {
	r.path.note("quiet")
	r.heal()
	probed := false
	for began := time.Now(); r.broken == ""; {
		r.look()
		r.rebalance()
		r.beginAll()
		if err := r.flow(nothing, ignore); err != nil {
			return err
		}
		still, err := r.isQuiet()
		if err != nil {
			return err
		}
		if still == "" {
			return r.checkEnd()
		}
		if !probed && time.Since(began) > quietLimit/4 {
			// With the next record a worker finds that its position differs from the books. This
			// happens when a deleted topic was registered late.
			probed = true
			r.log.mark(seckill.AppendPage(nil, &seckill.Page{PageHeader: seckill.PageHeader{Put: time.Now()}}))
		}
		if time.Since(began) > quietLimit {
			r.fails("L3 after %v: %s", quietLimit, still)
			return nil
		}
		r.pass(quietStep)
	}
	return nil
}

// beginAll starts the next step of every resting part.
func (r *rig) beginAll() {
	for _, p := range r.processes {
		for _, part := range p.parts {
			if !part.busy.Load() {
				p.begin(part)
			}
		}
	}
}

// heal ends every fault that lasts.
func (r *rig) heal() {
	for _, p := range r.processes {
		r.wire.resume(p.name)
		clear(p.cut)
	}
	for key := range r.locks {
		r.unlock(key)
	}
	for p := range partitions {
		r.log.setDown(p, false)
	}
}

// flow lets every call go through in the order of arrival until none waits, except those that held
// keeps. let is called for each.
func (r *rig) flow(held func(*call) bool, let func(*call)) error {
	const patience = 5_000 // calls; more of them without time passing is a loop
	for range patience {
		r.look()
		if err := r.check(); err != nil || r.broken != "" {
			return err
		}
		waiting := slices.DeleteFunc(r.wire.waiting(), held)
		if len(waiting) == 0 {
			return nil
		}
		c := waiting[0]
		if !c.executed {
			r.run(c)
		}
		if !idle[c.method] || c.err != nil {
			r.path.note("%s → %s", c, c.said())
		}
		r.answer(c)
		let(c)
	}
	r.fails("L8 calls go on without end, though no time passes, at last %s", r.wire.waiting())
	return nil
}

// nothing is a held that keeps no call, and ignore is a let that does nothing.
func nothing(*call) bool { return false }
func ignore(*call)       {}

// idle are the calls that parts make over and over when there is nothing to do.
var idle = map[method]bool{
	callFind: true, callLevels: true, callItems: true, callOld: true, callPoll: true, callPositions: true, callCatalog: true,
	callOutbox: true, callTimeOut: true, callEarly: true, callBooks: true, callSums: true, callShards: true, callUnpark: true,
	callIncarnation: true, callNote: true,
}

// isQuiet returns what is still in flight, or "".
func (r *rig) isQuiet() (string, error) {
	for _, a := range r.attempts {
		if !a.done.Load() {
			return fmt.Sprintf("%s waits for an answer", a.key), nil
		}
	}
	at, err := r.store.Positions(r.ctx)
	if err != nil {
		return "", err
	}
	if ends := r.log.ends(); !seckill.Passed(at, ends) {
		return fmt.Sprintf("the workers are at %v of %v", at, ends), nil
	}
	books, err := r.store.ActivityBooks(r.ctx, activity)
	if err != nil {
		return "", err
	}
	for i := range books {
		if still, err := r.isBalanced(&books[i]); still != "" || err != nil {
			return still, err
		}
	}
	return r.isApplied()
}

// isApplied returns which payment waits for its order though that is there, or "". The order may
// have come with the calls before: a payment is applied by the step after that.
func (r *rig) isApplied() (string, error) {
	for _, a := range r.asks {
		if a.payment == "" {
			continue
		}
		found, err := r.store.FindPayments(r.ctx, merchant, seckill.PaymentID(a.payment))
		if err != nil {
			return "", err
		}
		for i := range found {
			if found[i].State != seckill.PaymentStateEarly {
				continue
			}
			orders, err := r.store.FindOrders(r.ctx, []seckill.OrderID{found[i].Order})
			if err != nil {
				return "", err
			}
			if orders[0].ID != "" {
				return fmt.Sprintf("%s waits for its order, which is %s", a.payment, orderState(orders[0])), nil
			}
		}
	}
	return "", nil
}

// isBalanced returns which part of a stock row is still in flight, or differs, or "".
func (r *rig) isBalanced(b *seckill.Book) (string, error) {
	levels, items, err := r.redis.ItemNumbers(r.ctx, b.Shard, []inventory.ItemID{b.Item})
	if err != nil {
		return "", err
	}
	sums, err := r.store.ShardSums(r.ctx, b.Shard)
	if err != nil {
		return "", err
	}
	for _, p := range r.processes {
		ref := inventory.Ref{Shard: b.Shard, Epoch: b.Epoch}
		if _, err := p.stock.far.Find(r.ctx, ref, b.Item, pollName); err != nil {
			return fmt.Sprintf("%s sees that the %v", p.name, err), nil
		}
	}
	l := &items[0]
	is := fmt.Sprintf("%+v, %+v, %+v", *b, levels, *l)
	switch {
	case levels.Closed || levels.Epoch != b.Epoch:
		return "the shard is not open: " + is, nil
	case sums.Pending != 0 || b.PendingUnits != 0 || b.PendingStock != 0:
		return "the outbox is not empty: " + is, nil
	case levels.Fresh != 0:
		return "holds are undecided: " + is, nil
	case b.Parked != 0:
		return "orders are parked: " + is, nil
	case l.Available != b.Total-b.Open-b.Sold || l.Held != b.Open || l.Sold != b.Sold:
		return "the books don't balance: " + is, nil
	case levels.Ordered != sums.Open || levels.Sold != sums.Sold:
		return "the digests differ: " + is, nil
	}
	return "", nil
}

// checkEnd checks what has to hold when all is quiet.
func (r *rig) checkEnd() error {
	r.wire.setDirect(true)
	defer r.wire.setDirect(false)
	p := r.processes[0]
	if err := p.sale.Desk.Refresh(r.ctx); err != nil {
		return err
	}
	audits, err := p.sale.Office.Audit(r.ctx, activity)
	if err != nil {
		return err
	}
	for _, a := range audits {
		if !a.Balanced || a.InFlight != 0 || a.Closed {
			r.fails("L3 quiet, but the audit says %+v", a)
		}
	}
	orders, err := r.orders()
	if err != nil {
		return err
	}
	r.checkOrdersAtTheEnd(orders)
	forgotten, err := r.checkHoldsAtTheEnd(orders)
	if err != nil {
		return err
	}
	for i, a := range audits {
		if err := r.checkTotal(i, a.Total); err != nil {
			return err
		}
	}
	if err := r.checkMoney(orders); err != nil {
		return err
	}
	again := r.checkRepeats(p, orders, forgotten)
	r.wire.setDirect(false)
	if again {
		if err := r.checkAgain(orders); err != nil || r.broken != "" {
			return err
		}
	}
	for i := range audits {
		// The last buyer of the item before may have waited, and orders were timed out meanwhile.
		if err := r.untilQuiet("before the last buyer"); err != nil || r.broken != "" {
			return err
		}
		if err := r.checkLastBuyer(p, r.lastKey(i, orders), i); err != nil || r.broken != "" {
			return err
		}
	}
	r.checkSlots()
	letters, err := r.store.DeadLetters(r.ctx, 0, 1000)
	for _, letter := range letters {
		r.fails("L2 a record became a dead letter: %s", letter.Problem)
	}
	return err
}

// checkOrdersAtTheEnd: every promise has a row, and an attempt that was answered "nothing happened"
// has none.
func (r *rig) checkOrdersAtTheEnd(orders []seckill.Order) {
	for i, o := range orders {
		k := r.keys[i]
		switch {
		case o.ID == "" && r.promised(k) && !r.gone[k.id]:
			r.fails("L2 %s was promised, and forgotten", k)
		case o.ID != "" && r.nothingHappened(k):
			r.fails("L4 %s was told that nothing happened, and has an order: %s", k, orderState(o))
		}
	}
}

// nothingHappened reports whether every attempt of the key was refused or certainly failed.
func (r *rig) nothingHappened(k key) bool {
	for _, a := range r.attempts {
		if a.key == k && (a.promises() || a.err == nil || a.mayHaveHappened) {
			return false
		}
	}
	return true
}

// checkMoney: a payment pays one order and is its price, and an accepted payment is kept (L4). A
// cancelled order stays cancelled, and none times out early.
func (r *rig) checkMoney(orders []seckill.Order) error {
	of := make(map[seckill.OrderID]seckill.Order)
	for _, o := range orders {
		of[o.ID] = o
	}
	booked, kept := make(map[seckill.OrderID]int), make(map[string]seckill.OrderID)
	for _, a := range r.asks {
		if _, seen := kept[a.payment]; seen || a.payment == "" {
			continue
		}
		name := a.payment
		kept[name] = ""
		found, err := r.store.FindPayments(r.ctx, merchant, seckill.PaymentID(name))
		if err != nil {
			return err
		}
		for i := range found {
			p := &found[i]
			o := of[p.Order]
			kept[name] = p.Order
			switch {
			case p.State == seckill.PaymentStateBooked:
				booked[p.Order]++
				if o.State != seckill.OrderPaid || o.Amount != p.Amount {
					r.fails("L4 %s of %v is booked, and its order of %v is %s", name, p.Amount, o.Amount, orderState(o))
				}
			case p.State == seckill.PaymentStateEarly && o.ID != "" && o.State != seckill.OrderParked:
				r.fails("L4 %s came early, and was never applied", name)
			case p.State == seckill.PaymentStateEarly && o.ID == "" && !r.lossy() && !r.rebuilt():
				r.fails("L4 %s was taken for an order that never was", name)
			case p.State == seckill.PaymentStateDue && p.Cause != seckill.CauseWrongAmount && o.State == seckill.OrderPending:
				r.fails("L4 %s must be refunded, and its order is %s", name, orderState(o))
			}
		}
	}
	for _, o := range orders {
		if o.State == seckill.OrderPaid && booked[o.ID] != 1 {
			r.fails("L4 %s is paid by %d payments", r.alias(string(o.ID)), booked[o.ID])
		}
		if o.Reason == seckill.ReasonPaymentTimeout && o.EndedAt.Before(o.PayBy) {
			r.fails("L2 %s was timed out %v before its time", r.alias(string(o.ID)), o.PayBy.Sub(o.EndedAt))
		}
	}
	for _, a := range r.asks {
		switch {
		case !a.done.Load() || !a.ok || r.restores > 0: // no log has payments and cancellations
		case a.payment != "" && kept[a.payment] != a.key.id:
			r.fails("L4 %s of %s was taken, and is not kept", a.payment, a.key)
		case a.what == cancelling && of[a.key.id].Units != seckill.UnitsVoid:
			r.fails("L4 %s was given up, and is %s", a.key, orderState(of[a.key.id]))
		}
	}
	return nil
}

// rebuilt reports whether Redis has forgotten holds without a promise.
func (r *rig) rebuilt() bool {
	return slices.ContainsFunc(allShards(), func(shard inventory.ShardID) bool { return len(r.epochs[shard]) > 1 })
}

// checkSlots: every place in a queue's buffer comes back (L8).
func (r *rig) checkSlots() {
	for _, p := range r.processes {
		p.queue.mu.Lock()
		free := p.queue.slots
		p.queue.mu.Unlock()
		if free != r.terms.Slots {
			r.fails("L8 %s has %d free places for promises of %d, and nobody buys", p.name, free, r.terms.Slots)
		}
	}
}

// checkHoldsAtTheEnd: the shard has every order's hold, in the state that the row is in. It returns
// the ended orders whose holds a server has forgotten, which nothing shows.
func (r *rig) checkHoldsAtTheEnd(orders []seckill.Order) (forgotten map[seckill.OrderID]bool, err error) {
	forgotten = make(map[seckill.OrderID]bool)
	want := map[seckill.UnitState]inventory.State{
		"": inventory.None, seckill.UnitsOpen: inventory.Ordered, seckill.UnitsSold: inventory.Sold, seckill.UnitsVoid: inventory.Void,
	}
	fresh := r.redis.Peer()
	for i, o := range orders {
		item := r.items[r.keys[i].item]
		shard := inventory.Place(item, r.terms.Spread, string(r.keys[i].id), shards)
		levels, err := fresh.Numbers(r.ctx, shard)
		if err != nil {
			return nil, err
		}
		hold, err := fresh.Find(r.ctx, inventory.Ref{Shard: shard, Epoch: levels.Epoch}, item, string(r.keys[i].id))
		if err != nil {
			return nil, err
		}
		if o.Units == seckill.UnitsVoid && hold.State == inventory.None && r.lossy() {
			forgotten[o.ID] = true
			continue
		}
		neverWas := o.ID == "" && hold.State == inventory.Void && r.restores > 0 // no log has cancellations
		if hold.State != want[o.Units] && !neverWas {
			r.fails("L4 %s: the hold is %s, the order %s", r.keys[i], hold.State, orderState(o))
		}
	}
	return forgotten, nil
}

// checkTotal: the total is the first one plus each acknowledged change, once.
func (r *rig) checkTotal(item int, total int64) error {
	want := r.terms.Units
	for _, c := range r.changes {
		if c.Item != r.items[item] {
			continue
		}
		made, found, err := r.store.FindStockChange(r.ctx, c.Item, c.Key)
		if err != nil {
			return err
		}
		if found {
			want += made.Delta
		} else if c.done.Load() && r.restores == 0 { // no log has stock changes
			r.fails("L4 the stock change %s was confirmed, and forgotten", c.Key)
		}
	}
	if total != want {
		r.fails("L4 the total is %d, want %d", total, want)
	}
	return nil
}

// checkRepeats: a process answers a repeat of a key that has an order with that order. Where its
// hold is forgotten, the repeat is a purchase to Redis: it is refused, or promised once more. again
// says that one was.
func (r *rig) checkRepeats(p *process, orders []seckill.Order, forgotten map[seckill.OrderID]bool) (again bool) {
	for i, o := range orders {
		if o.ID == "" {
			continue
		}
		k := r.keys[i]
		receipt, err := p.sale.Desk.Buy(r.ctx, &seckill.Purchase{
			Caller: &seckill.Caller{CallerRef: caller}, Activity: activity, SKU: skus[k.item], User: k.buyer, Key: k.key,
			Quantity: o.Quantity, Arrived: time.Now(),
		})
		told := receipt.Order
		switch {
		case err == nil && told.ID == o.ID && told.State == o.State && receipt.Replayed:
		case forgotten[o.ID] && err == nil && told.ID == o.ID && told.State == seckill.OrderQueued:
			again = true
		case forgotten[o.ID] && err != nil:
		default:
			r.fails("L4 a repeat of %s is answered %s, %v; want %s", k, orderState(told), err, orderState(o))
		}
	}
	return again
}

// untilQuiet lets everything go on until the books balance and nothing is left to do.
func (r *rig) untilQuiet(when string) error {
	for began := time.Now(); ; {
		r.beginAll()
		if err := r.flow(nothing, ignore); err != nil || r.broken != "" {
			return err
		}
		still, err := r.isQuiet()
		if err != nil || still == "" {
			return err
		}
		if time.Since(began) > quietLimit {
			r.fails("L3 %v %s: %s", quietLimit, when, still)
			return nil
		}
		r.pass(quietStep)
	}
}

// checkAgain: an order that was promised once more is what it was, its hold is settled, and the
// books balance.
func (r *rig) checkAgain(orders []seckill.Order) error {
	if err := r.untilQuiet("after a repeat"); err != nil || r.broken != "" {
		return err
	}
	now, err := r.orders()
	if err != nil {
		return err
	}
	for i, o := range now {
		if was := orders[i]; o.State != was.State || o.Units != was.Units {
			r.fails("L4 %s was %s, and is %s after a repeat", r.keys[i], orderState(was), orderState(o))
		}
	}
	_, err = r.checkHoldsAtTheEnd(now)
	return err
}

// lastKey is the key of an item's last buyer: one who has cancelled an order, if there is one,
// because a cancelled order no longer counts against the limit.
func (r *rig) lastKey(item int, orders []seckill.Order) key {
	units, gave := make(map[seckill.UserID]int), make(map[seckill.UserID]bool)
	var buyers []seckill.UserID
	for i, o := range orders {
		if k := r.keys[i]; k.item == item && o.ID != "" {
			buyers = append(buyers, k.buyer)
			if o.Units == seckill.UnitsVoid {
				gave[k.buyer] = true
			} else {
				units[k.buyer] += o.Quantity
			}
		}
	}
	for _, buyer := range buyers {
		if gave[buyer] && (r.terms.PerUser == 0 || units[buyer] < r.terms.PerUser) {
			return r.keyOf(string(buyer), "once more", item)
		}
	}
	return r.keyOf("the last", "k", item)
}

// available returns how many units of an item can be sold, by the database.
func (r *rig) available(p *process, item int) (int64, error) {
	r.wire.setDirect(true)
	defer r.wire.setDirect(false)
	audits, err := p.sale.Office.Audit(r.ctx, activity)
	if err != nil {
		return 0, err
	}
	return audits[item].Available, nil
}

// checkLastBuyer: a buyer who comes last gets a unit if there is one (L6), and only then. If it is
// on another shard than the buyer's, the answer is busy until it moves, and sold-out while it is on
// its way, because then nobody can buy it. While the buyer waits, an order may be timed out.
func (r *rig) checkLastBuyer(p *process, k key, item int) error {
	available, err := r.available(p, item)
	if err != nil {
		return err
	}
	for began := time.Now(); ; {
		a := r.buy(p, k, 1, 0)
		if err := r.flow(nothing, ignore); err != nil || r.broken != "" {
			return err
		}
		told := a.answer()
		moving := told == string(seckill.CodeBusy) || told == string(seckill.CodeSoldOut) && r.terms.Spread > 1 && available > 0
		moving = moving || told == "failed" // the shard is rebuilt, because lost writes were detected
		if moving && time.Since(began) < lastBuyerLimit {
			r.beginAll()
			r.pass(quietStep / 5)
			if available == 0 {
				if available, err = r.available(p, item); err != nil {
					return err
				}
			}
			continue
		}
		if got := told == "accepted queued"; got != (available > 0) {
			r.fails("L6 %d available, and the last buyer is answered %s", available, told)
		}
		return nil
	}
}

// lastBuyerLimit is how long a buyer may be told to come again while nothing goes wrong: a rebuild
// fits into it.
const lastBuyerLimit = 10 * time.Second

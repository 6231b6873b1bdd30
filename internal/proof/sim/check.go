package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

// check looks at the laws that hold at every moment. It reads the far sides directly.
func (r *rig) check() error {
	r.judgeAnswers()
	if r.unbalanced.Swap(false) && r.failovers == 0 {
		if err := r.checkSuspicion(); err != nil {
			return err
		}
	}
	if !r.wrote || r.broken != "" {
		return nil
	}
	r.wrote = false
	orders, err := r.orders()
	if err != nil {
		return err
	}
	r.checkPromises(orders)
	r.checkLimits(orders)
	if err := r.checkBooks(orders); err != nil {
		return err
	}
	levels, err := r.redis.Levels(r.ctx, r.item)
	if err != nil {
		return err
	}
	// A failover may bring back units that were sold; what it forgot is the database's to refuse.
	if levels.Available < 0 && r.failovers == 0 {
		r.fails("L3 available is %d", levels.Available)
	}
	return nil
}

// checkSuspicion: a rebuilder has seen that the books don't balance, though no failover forgot anything. It may be wrong where
// stock changes that add up to nothing are on their way for longer than it looks; then a rebuild does no harm.
func (r *rig) checkSuspicion() error {
	onTheirWay := false
	_, err := r.store.Relay(r.ctx, 0, 1000, func(_ context.Context, rows []seckill.Outgoing) []int {
		for _, row := range rows {
			onTheirWay = onTheirWay || row.Restock != 0 || seckill.IsWithdrawal(row.Settlement.ID)
		}
		return nil
	})
	if !onTheirWay {
		r.fails("L3 the books don't balance, though no failover forgot anything")
	}
	return err
}

// orders reads the rows of all keys.
func (r *rig) orders() ([]seckill.Order, error) {
	ids := make([]seckill.OrderID, len(r.keys))
	for i := range r.keys {
		ids[i] = r.keys[i].id
	}
	return r.store.FindOrders(r.ctx, ids)
}

// judgeAnswers looks at new answers to buyers: L2 leans on no 202 being given after the accept deadline.
func (r *rig) judgeAnswers() {
	for _, a := range r.attempts {
		if a.judged || !a.done.Load() {
			continue
		}
		a.judged = true
		r.wrote = true
		late := a.took > r.cfg.AcceptDeadline && a.wait == 0
		if a.promises() && a.receipt.Order.State == seckill.OrderQueued && late {
			r.fails("L2 %s was accepted after %v", a.key, a.took)
		}
		if a.promises() && a.receipt.Order.Quantity != a.quantity {
			r.fails("L4 %s asked for %d and was promised %d", a.key, a.quantity, a.receipt.Order.Quantity)
		}
	}
}

// promised reports whether somebody was promised the key's order.
func (r *rig) promised(k key) bool {
	for _, a := range r.attempts {
		if a.key == k && a.promises() {
			return true
		}
	}
	return false
}

// checkPromises: whatever was promised is never buried, and rejected only after a failover has forgotten.
func (r *rig) checkPromises(orders []seckill.Order) {
	for i, o := range orders {
		switch {
		case o.ID == "" || !r.promised(r.keys[i]):
		case o.Reason == seckill.ReasonNotAccepted:
			r.fails("L2 %s was promised, and is buried", r.keys[i])
		case rejected(o) && r.failovers == 0:
			r.fails("L2 %s was promised, and is rejected, though no failover forgot anything", r.keys[i])
		}
	}
}

// rejected reports whether the order was rejected, whatever was paid for it since.
func rejected(o seckill.Order) bool {
	return o.Reason == seckill.ReasonSoldOut || o.Reason == seckill.ReasonPurchaseLimit
}

// checkLimits: no buyer has more than allowed (L5).
func (r *rig) checkLimits(orders []seckill.Order) {
	if r.terms.PerUser == 0 {
		return
	}
	bought := make(map[seckill.UserID]int)
	for _, o := range orders {
		if o.ID != "" && o.Units != seckill.UnitsVoid {
			bought[o.User] += o.Quantity
		}
	}
	for _, k := range r.keys {
		if n := bought[k.buyer]; n > r.terms.PerUser {
			r.fails("L5 %s has %d units, %d are allowed", k.buyer, n, r.terms.PerUser)
			return
		}
	}
}

// checkBooks: no more is open and sold than there is (L1), and the counts are those of the rows.
func (r *rig) checkBooks(orders []seckill.Order) error {
	books, err := r.store.Books(r.ctx, activity)
	if err != nil {
		return err
	}
	b := &books[0]
	var open, sold int64
	for _, o := range orders {
		switch o.Units {
		case seckill.UnitsOpen:
			open += int64(o.Quantity)
		case seckill.UnitsSold:
			sold += int64(o.Quantity)
		}
	}
	if open+sold > b.Total {
		r.fails("L1 %d open and %d sold of %d", open, sold, b.Total)
	}
	if open != b.Open || sold != b.Sold {
		r.fails("L1 the books say %d open and %d sold, the rows %d and %d", b.Open, b.Sold, open, sold)
	}
	return nil
}

// The quiet end: how long it may take (L3), and how much of that passes at a time.
const (
	quietLimit = time.Minute
	quietStep  = time.Second
)

// quiet lets everything go through and time pass until the books balance and nothing is under way; then it checks what has to
// hold at the end. Processes that are dead stay dead, as long as one lives.
func (r *rig) quiet() error {
	r.path.note("quiet")
	for began := time.Now(); r.broken == ""; {
		r.look()
		r.rebalance()
		for _, p := range r.processes {
			for _, part := range p.parts {
				if !part.busy.Load() {
					p.begin(part)
				}
			}
		}
		if err := r.flow(func(*call) bool { return false }); err != nil {
			return err
		}
		still, err := r.isQuiet()
		if err != nil {
			return err
		}
		if still == "" {
			return r.checkEnd()
		}
		if time.Since(began) > quietLimit {
			r.fails("L3 after %v: %s", quietLimit, still)
			return nil
		}
		r.pass(quietStep)
	}
	return nil
}

// flow lets every call go through in the order of arrival until none waits, but those that held keeps.
func (r *rig) flow(held func(*call) bool) error {
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
	}
	r.fails("L8 calls go on without end, though no time passes, at last %s", r.wire.waiting())
	return nil
}

// idle are the calls that parts make over and over when there is nothing to do.
var idle = map[method]bool{
	callFind: true, callLevels: true, callOld: true, callPoll: true, callEnd: true, callCommitted: true, callCatalog: true,
	callOutbox: true, callTimeOut: true, callBooks: true,
}

// isQuiet says what is still under way, or "".
func (r *rig) isQuiet() (string, error) {
	for _, a := range r.attempts {
		if !a.done.Load() {
			return fmt.Sprintf("%s waits for an answer", a.key), nil
		}
	}
	if end, committed := r.log.end(), r.log.committedOffsets(); !committed.Passed(end) {
		return fmt.Sprintf("the workers are at %v of %v", committed, end), nil
	}
	books, err := r.store.Books(r.ctx, activity)
	if err != nil {
		return "", err
	}
	levels, err := r.redis.Levels(r.ctx, r.item)
	if err != nil {
		return "", err
	}
	b := &books[0]
	for _, p := range r.processes {
		if _, err := p.stock.far.Find(r.ctx, inventory.Ref{Item: r.item, Epoch: b.Epoch}, "anything"); err != nil {
			return fmt.Sprintf("%s sees that the %v", p.name, err), nil
		}
	}
	orders := fmt.Sprintf("%+v, %+v", *b, levels)
	switch {
	case levels.Closed || levels.Epoch != b.Epoch:
		return "the shard is not open: " + orders, nil
	case b.PendingUnits != 0 || b.PendingStock != 0:
		return "the outbox is not empty: " + orders, nil
	case levels.Fresh != 0:
		return "holds are undecided: " + orders, nil
	case levels.Available != b.Total-b.Open-b.Sold || levels.Held != b.Open || levels.Sold != b.Sold:
		return "the books don't balance: " + orders, nil
	}
	return "", nil
}

// checkEnd checks what has to hold when all is quiet.
func (r *rig) checkEnd() error {
	r.wire.setDirect(true)
	defer r.wire.setDirect(false)
	p := r.processes[0]
	if err := p.desk.Refresh(r.ctx); err != nil {
		return err
	}
	audits, err := p.office.Audit(r.ctx, activity)
	if err != nil {
		return err
	}
	if a := audits[0]; !a.Balanced || a.InFlight != 0 || a.Closed {
		r.fails("L3 quiet, but the audit says %+v", a)
	}
	orders, err := r.orders()
	if err != nil {
		return err
	}
	r.checkOrdersAtTheEnd(orders)
	if err := r.checkHoldsAtTheEnd(orders); err != nil {
		return err
	}
	if err := r.checkTotal(audits[0].Total); err != nil {
		return err
	}
	r.checkRepeats(p, orders)
	r.checkLastBuyer(p, audits[0].Available)
	return r.checkDeadLetters(orders)
}

// checkDeadLetters: no promise was given up as a record that nobody can use.
func (r *rig) checkDeadLetters(orders []seckill.Order) error {
	letters, err := r.store.DeadLetters(r.ctx, 0, 1000)
	for _, letter := range letters {
		record, err := seckill.ParseRecord(letter.Value)
		if err != nil {
			return err
		}
		for i, k := range r.keys {
			if k.id == record.Order && orders[i].ID == "" && r.promised(k) {
				r.fails("L2 %s was promised, and is a dead letter: %s", k, letter.Problem)
			}
		}
	}
	return err
}

// checkOrdersAtTheEnd: every promise has a row, and an attempt that was told that nothing happened has none.
func (r *rig) checkOrdersAtTheEnd(orders []seckill.Order) {
	for i, o := range orders {
		k := r.keys[i]
		switch {
		case o.ID == "" && r.promised(k):
			r.fails("L2 %s was promised, and forgotten", k)
		case o.ID != "" && r.nothingHappened(k):
			r.fails("L4 %s was told that nothing happened, and has an order: %s", k, orderState(o))
		}
	}
}

// nothingHappened reports whether every attempt of the key was refused or failed for sure.
func (r *rig) nothingHappened(k key) bool {
	for _, a := range r.attempts {
		if a.key == k && (a.promises() || a.err == nil || a.mayHaveHappened) {
			return false
		}
	}
	return true
}

// checkHoldsAtTheEnd: the shard has every order's hold, in the state that the row is in.
func (r *rig) checkHoldsAtTheEnd(orders []seckill.Order) error {
	books, err := r.store.Books(r.ctx, activity)
	if err != nil {
		return err
	}
	ref := inventory.Ref{Item: r.item, Epoch: books[0].Epoch}
	want := map[seckill.UnitState]inventory.State{
		"": inventory.None, seckill.UnitsOpen: inventory.Ordered, seckill.UnitsSold: inventory.Sold, seckill.UnitsVoid: inventory.Void,
	}
	fresh := r.redis.Peer()
	for i, o := range orders {
		hold, err := fresh.Find(r.ctx, ref, string(r.keys[i].id))
		if err != nil {
			return err
		}
		if hold.State != want[o.Units] {
			r.fails("L4 %s: the hold is %s, the order %s", r.keys[i], hold.State, orderState(o))
		}
	}
	return nil
}

// checkTotal: the total is what it was, and each change that somebody was told of, once.
func (r *rig) checkTotal(total int64) error {
	want := r.terms.Units
	for _, c := range r.changes {
		made, found, err := r.store.FindStockChange(r.ctx, r.item, c.Key)
		if err != nil {
			return err
		}
		if found {
			want += made.Delta
		} else if c.done.Load() {
			r.fails("L4 the stock change %s was confirmed, and forgotten", c.Key)
		}
	}
	if total != want {
		r.fails("L4 the total is %d, want %d", total, want)
	}
	return nil
}

// checkRepeats: a repeat of a key that has an order is answered with that order, by whichever process.
func (r *rig) checkRepeats(p *process, orders []seckill.Order) {
	for i, o := range orders {
		if o.ID == "" {
			continue
		}
		k := r.keys[i]
		receipt, err := p.desk.Buy(r.ctx, &seckill.Purchase{
			Caller: &seckill.Caller{CallerRef: caller}, Activity: activity, SKU: sku, User: k.buyer, Key: k.key,
			Quantity: o.Quantity, Arrived: time.Now(),
		})
		if err != nil || receipt.Order != o || !receipt.Replayed {
			r.fails("L4 a repeat of %s is answered %s, %v; want %s", k, orderState(receipt.Order), err, orderState(o))
		}
	}
}

// checkLastBuyer: who comes last gets a unit if there is one (L6), and only then.
func (r *rig) checkLastBuyer(p *process, available int64) {
	receipt, err := p.desk.Buy(r.ctx, &seckill.Purchase{
		Caller: &seckill.Caller{CallerRef: caller}, Activity: activity, SKU: sku, User: "the last", Key: "k",
		Quantity: 1, Arrived: time.Now(),
	})
	if got := err == nil && receipt.Order.State == seckill.OrderQueued; got != (available > 0) {
		r.fails("L6 %d available, and the last buyer is answered %v, %v", available, orderState(receipt.Order), err)
	}
}

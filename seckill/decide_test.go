package seckill

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock/inventory"
)

const testShard = inventory.ShardID(3)

// testPromise returns a promise that fits testLedger.
func testPromise(item inventory.ItemID, user, key string, quantity int) Promise {
	caller := CallerRef{"m", "c"}
	return Promise{
		Order: NewOrderID(item, caller, UserID(user), key), Caller: caller, Activity: "a", SKU: "s", User: UserID(user),
		Quantity: quantity, Amount: Money{int64(100 * quantity), "CNY"}, Request: "r-" + key, Accepted: time.UnixMilli(5),
	}
}

func testPage(epoch inventory.Epoch, promises ...Promise) *Page {
	return &Page{
		PageHeader: PageHeader{Ref: inventory.Ref{Shard: testShard, Epoch: epoch}, Seq: 7, Node: "gw", Put: time.UnixMilli(9)},
		Promises:   promises,
	}
}

func testLedger(total, open, sold int64, perUser int) *Ledger {
	return &Ledger{
		Activity: "a", Merchant: "m", SKU: "s", Price: Money{100, "CNY"}, PerUser: perUser, PaymentWindow: time.Minute,
		Total: total, Open: open, Sold: sold,
	}
}

// testInput returns the rows of item 1 on testShard as a transaction has read them. The shard has
// epoch 2.
func testInput(ledger *Ledger) *AcceptInput {
	return &AcceptInput{
		Epochs: map[inventory.ShardID]inventory.Epoch{testShard: 2}, Stock: map[StockKey]*Ledger{{1, testShard}: ledger},
		Locked: map[StockKey]bool{}, Existing: map[OrderID]Order{}, Bought: map[BuyerKey]int64{}, Now: time.Unix(1000, 0),
	}
}

// outcomes decides about a page.
func outcomes(p *Page, in *AcceptInput) []Outcome {
	var out []Outcome
	for _, a := range DecideAccept(p, in, NewChanges()) {
		out = append(out, a.Outcome)
	}
	return out
}

func expect(t *testing.T, got []Outcome, want ...Outcome) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// Redis may promise too much: the worker's transaction opens no order beyond the total.
func TestL1_WorkerRejectsWhatIsNotThere(t *testing.T) {
	ledger := testLedger(10, 3, 4, 0)
	ledger.Parked = 1
	expect(t, outcomes(testPage(2, testPromise(1, "u1", "k", 1), testPromise(1, "u2", "k", 2), testPromise(1, "u3", "k", 1),
		testPromise(1, "u4", "k", 1)), testInput(ledger)),
		OutcomeOpened, OutcomeRejected, OutcomeOpened, OutcomeRejected)
	if ledger.Open+ledger.Sold+ledger.Parked != ledger.Total {
		t.Fatalf("%+v", ledger)
	}
}

// The worker counts the buyer's units both in the store and in the batch.
func TestL5_WorkerChecksTheBuyersLimit(t *testing.T) {
	in := testInput(testLedger(100, 0, 0, 2))
	in.Bought[BuyerKey{1, "u1"}] = 1
	expect(t, outcomes(testPage(2, testPromise(1, "u1", "k1", 1), testPromise(1, "u1", "k2", 1), testPromise(1, "u2", "k1", 3),
		testPromise(1, "u2", "k2", 2)), in),
		OutcomeOpened, OutcomeRejected, OutcomeRejected, OutcomeOpened)
}

// A promise that comes again, in another page or in the same one, makes no second order.
func TestL4_WorkerMeetsItsOwnRow(t *testing.T) {
	p := testPromise(1, "u1", "k", 1)
	ledger := testLedger(10, 0, 0, 0)
	in := testInput(ledger)
	expect(t, outcomes(testPage(2, p, p), in), OutcomeOpened, OutcomeExists)
	expect(t, outcomes(testPage(1, p), in), OutcomeExists)
	if ledger.Open != 1 {
		t.Fatalf("open %d", ledger.Open)
	}
}

func TestDecideAccept(t *testing.T) {
	p := testPromise(1, "u1", "k", 2)
	key := StockKey{1, testShard}
	now := time.Unix(1000, 0)
	row := func(state OrderState, units UnitState, reason Reason, payBy time.Time) Order {
		return Order{
			ID: p.Order, Item: 1, Caller: p.Caller, Activity: "a", SKU: "s", User: "u1", Quantity: 2, Amount: p.Amount,
			State: state, Units: units, Reason: reason, CreatedAt: now, UpdatedAt: now, PayBy: payBy,
			Grant: Provenance{Shard: testShard, Epoch: 2, Seq: 7}, Request: "r-k", Node: "gw", Accepted: time.UnixMilli(5),
		}
	}
	void := Outgoing{
		Ref:        inventory.Ref{Shard: testShard},
		Settlement: inventory.Settlement{Hold: p.Hold(), Kind: inventory.SettleVoid},
	}
	name := inventory.NameDigest(string(p.Order))
	opened, parkedLocked := row(OrderPending, UnitsOpen, "", now.Add(time.Minute)), row(OrderParked, UnitsParked, ReasonLocked, now)
	parkedUnfit, rejected := row(OrderParked, UnitsParked, ReasonUnfit, now), row(OrderRejected, UnitsVoid, ReasonSoldOut, now)
	rejected.EndedAt = now
	for _, c := range []struct {
		name  string
		edit  func(*AcceptInput)
		want  Acceptance
		stock *StockDelta
		shard *ShardDelta
		steps int
		void  bool
	}{
		{"opened", func(*AcceptInput) {}, Acceptance{Outcome: OutcomeOpened, Order: opened}, &StockDelta{Open: 2}, &ShardDelta{Open: name}, 1, false},
		{
			"its row is locked", func(in *AcceptInput) { in.Locked[key], in.Stock = true, nil },
			Acceptance{Outcome: OutcomeParked, Order: parkedLocked}, &StockDelta{Parked: 2}, &ShardDelta{Open: name}, 0, false,
		},
		{
			"no such item on the shard", func(in *AcceptInput) { in.Stock = nil },
			Acceptance{Outcome: OutcomeParked, Order: parkedUnfit}, &StockDelta{Parked: 2}, &ShardDelta{Open: name}, 0, false,
		},
		{
			"another price", func(in *AcceptInput) { in.Stock[key].Price.Minor++ },
			Acceptance{Outcome: OutcomeParked, Order: parkedUnfit}, &StockDelta{Parked: 2}, &ShardDelta{Open: name}, 0, false,
		},
		{
			"another currency", func(in *AcceptInput) { in.Stock[key].Price.Currency = "EUR" },
			Acceptance{Outcome: OutcomeParked, Order: parkedUnfit}, &StockDelta{Parked: 2}, &ShardDelta{Open: name}, 0, false,
		},
		{
			"another merchant", func(in *AcceptInput) { in.Stock[key].Merchant = "n" },
			Acceptance{Outcome: OutcomeParked, Order: parkedUnfit}, &StockDelta{Parked: 2}, &ShardDelta{Open: name}, 0, false,
		},
		{
			"sold out", func(in *AcceptInput) { in.Stock[key].Total = 1 },
			Acceptance{Outcome: OutcomeRejected, Order: rejected}, &StockDelta{Rejected: 1}, nil, 1, true,
		},
		{
			"an older epoch than the shard's", func(in *AcceptInput) { in.Epochs[testShard] = 3 },
			Acceptance{Outcome: OutcomeSkipped}, &StockDelta{Skipped: 1}, nil, 0, false,
		},
		{
			"a later epoch than the shard's", func(in *AcceptInput) { in.Epochs[testShard] = 1 },
			Acceptance{Outcome: OutcomeOpened, Order: opened, Ahead: true}, &StockDelta{Open: 2}, &ShardDelta{Open: name}, 1, false,
		},
		{
			"a row, under an older epoch", func(in *AcceptInput) {
				in.Epochs[testShard], in.Existing[p.Order] = 3, row(OrderCancelled, UnitsVoid, ReasonBuyer, now)
			},
			Acceptance{Outcome: OutcomeExists, Order: row(OrderCancelled, UnitsVoid, ReasonBuyer, now)}, nil, nil, 0, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, out := testInput(testLedger(10, 0, 0, 0)), NewChanges()
			c.edit(in)
			c.want.Ref = inventory.Ref{Shard: testShard, Epoch: in.Epochs[testShard]}
			got := DecideAccept(testPage(2, p), in, out)
			if len(got) != 1 || got[0] != c.want {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			if !reflect.DeepEqual(out.Stock[key], c.stock) || !reflect.DeepEqual(out.Shards[testShard], c.shard) || len(out.Steps) != c.steps {
				t.Errorf("stock %+v, shard %+v, steps %+v", out.Stock[key], out.Shards[testShard], out.Steps)
			}
			if c.void != (len(out.Outbox) == 1 && out.Outbox[0] == void) || !c.void && len(out.Outbox) > 0 {
				t.Errorf("outbox %+v", out.Outbox)
			}
			if unfit := c.want.Order.Reason == ReasonUnfit; unfit != (len(out.Letters) == 1) {
				t.Errorf("letters %+v", out.Letters)
			}
		})
	}
}

// A dead letter is a page that the promise can be read from again.
func TestDecideAccept_LetterCanBeRead(t *testing.T) {
	p := testPromise(1, "u1", "k", 2)
	in, out := testInput(nil), NewChanges()
	in.Stock = nil
	page := testPage(2, testPromise(2, "u0", "k", 1), p)
	DecideAccept(page, in, out)
	letter := out.Letters[1]
	got, err := ParsePage(letter.Value)
	if err != nil || letter.Order != p.Order || len(got.Promises) != 1 || got.Promises[0] != p || got.Ref != page.Ref {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDecideUnpark(t *testing.T) {
	for _, c := range []struct {
		name    string
		ledger  func(*Ledger)
		locked  bool
		outcome Outcome
		state   OrderState
		want    StockDelta
		settled bool
	}{
		{"it fits", func(*Ledger) {}, false, OutcomeOpened, OrderPending, StockDelta{Parked: -2, Open: 2}, false},
		{"its own units are not counted twice", func(l *Ledger) { l.Open = 8 }, false, OutcomeOpened, OrderPending, StockDelta{Parked: -2, Open: 2}, false},
		{"nothing is left", func(l *Ledger) { l.Open = 9 }, false, OutcomeRejected, OrderRejected, StockDelta{Parked: -2, Rejected: 1}, true},
		{"beyond the buyer's limit", func(l *Ledger) { l.PerUser = 1 }, false, OutcomeRejected, OrderRejected, StockDelta{Parked: -2, Rejected: 1}, true},
		{"still locked", func(*Ledger) {}, true, OutcomeParked, OrderParked, StockDelta{}, false},
		{"it fits no more", func(l *Ledger) { l.SKU = "t" }, false, OutcomeParked, OrderParked, StockDelta{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testPromise(1, "u1", "k", 2)
			ledger := testLedger(10, 0, 0, 0)
			ledger.Parked = 2
			c.ledger(ledger)
			in, out := testInput(ledger), NewChanges()
			key := StockKey{1, testShard}
			in.Locked[key] = c.locked
			before := p.order(testPage(2), p.Item(), time.Unix(500, 0))
			before.State, before.Units, before.Reason = OrderParked, UnitsParked, ReasonLocked
			a := DecideUnpark(&before, in, out)
			if a.Outcome != c.outcome || a.Order.State != c.state || len(out.Updated) != 1 || out.Updated[0] != a.Order {
				t.Errorf("%+v, updated %+v", a, out.Updated)
			}
			if got := out.Stock[key]; got == nil && c.want != (StockDelta{}) || got != nil && *got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if ledger.Open+ledger.Sold > ledger.Total || (len(out.Outbox) == 1) != c.settled {
				t.Errorf("%+v, outbox %+v", ledger, out.Outbox)
			}
			if stepped := c.state != OrderParked; stepped != (len(out.Steps) == 1) {
				t.Errorf("steps %+v", out.Steps)
			}
			if unfit := a.Order.Reason == ReasonUnfit; unfit != (len(out.Letters) == 1) || unfit && out.Letters[0].Partition != before.Grant.Partition {
				t.Errorf("letters %+v", out.Letters)
			}
		})
	}
}

func TestDecideCancelQueued(t *testing.T) {
	p := testPromise(1, "u1", "k", 2)
	wish := &Cancellation{Order: p.Order, Queued: &p, Ref: inventory.Ref{Shard: testShard, Epoch: 2}}
	for _, epoch := range []inventory.Epoch{1, 3} {
		out := NewChanges()
		if o, ok := DecideCancelQueued(wish, epoch, time.Unix(1000, 0), out); ok || o != (Order{}) || len(out.Inserted) > 0 {
			t.Errorf("the shard is of epoch %d: %+v, %+v", epoch, o, out)
		}
	}
	out := NewChanges()
	o, ok := DecideCancelQueued(wish, 2, time.Unix(1000, 0), out)
	if !ok || o.State != OrderCancelled || o.Units != UnitsVoid || o.Reason != ReasonBuyer || o.Grant.Shard != testShard || o.Grant.Epoch != 2 {
		t.Errorf("%+v", o)
	}
	if len(out.Inserted) != 1 || len(out.Outbox) != 1 || out.Outbox[0].Settlement != (inventory.Settlement{Hold: p.Hold(), Kind: inventory.SettleVoid}) {
		t.Errorf("%+v", out)
	}
	for _, d := range out.Stock {
		if *d != (StockDelta{}) {
			t.Errorf("a row that was never open is counted: %+v", *d)
		}
	}
}

func TestDecideBury(t *testing.T) {
	hold := inventory.Hold{Item: 1, ID: string(testPromise(1, "u1", "k", 2).Order), Buyer: "u1", Quantity: 2}
	ref := inventory.Ref{Shard: testShard, Epoch: 2}
	for _, row := range []*Ledger{testLedger(10, 0, 0, 0), nil} {
		out := NewChanges()
		o := DecideBury(hold, ref, row, time.Unix(1000, 0), out)
		if o.State != OrderCancelled || o.Reason != ReasonNotAccepted || o.Units != UnitsVoid || o.Caller.Caller != "" || o.Grant.Epoch != 2 {
			t.Errorf("%+v", o)
		}
		if row != nil && o.Caller.Merchant != "m" || len(out.Inserted) != 1 || len(out.Outbox) != 1 ||
			out.Outbox[0].Settlement != (inventory.Settlement{Hold: hold, Kind: inventory.SettleVoid}) {
			t.Errorf("%+v, %+v", o, out)
		}
	}
}

func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		units, k := rapid.Int64Range(0, MaxItemQuantity).Draw(t, "units"), rapid.IntRange(1, 64).Draw(t, "shards")
		sum, least, most := int64(0), units, int64(0)
		for i := range k {
			share := Share(units, i, k)
			sum, least, most = sum+share, min(least, share), max(most, share)
		}
		if sum != units || most-least > 1 {
			t.Fatalf("%d units over %d shards: sum %d, from %d to %d", units, k, sum, least, most)
		}
	})
}

func TestPublishRestocks(t *testing.T) {
	rows := PublishRestocks(map[StockKey]int64{{1, 3}: 10, {2, 4}: 0})
	got := make(map[StockKey]int64)
	for _, r := range rows {
		if !r.Stock || !r.Restock.Publish || r.Restock.Validate() != nil {
			t.Errorf("%+v", r)
		}
		got[StockKey{r.Restock.Item, r.Ref.Shard}] = r.Restock.Units
	}
	if want := (map[StockKey]int64{{1, 3}: 10, {2, 4}: 0}); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestDecidePayment(t *testing.T) {
	now := time.Unix(1000, 0)
	order := func(state OrderState, units UnitState, reason Reason) *Order {
		return &Order{
			ID: "o", Item: 1, Caller: CallerRef{"m", "c"}, State: state, Units: units, Reason: reason, Quantity: 2,
			Amount: Money{100, "CNY"}, Grant: Provenance{Shard: testShard},
		}
	}
	pay := Payment{Merchant: "m", ID: "p", Order: "o", Amount: Money{100, "CNY"}}
	wrong, currency := pay, pay
	wrong.Amount.Minor, currency.Amount.Currency = 99, "EUR"
	stranger := order(OrderPending, UnitsOpen, "")
	stranger.Caller.Merchant = "n"
	tombstone := order(OrderCancelled, UnitsVoid, ReasonNotAccepted)
	tombstone.Amount = Money{}
	for _, c := range []struct {
		name    string
		pay     Payment
		order   *Order
		earlier *KeptPayment
		want    PaymentVerdict
		state   OrderState
		delta   StockDelta
	}{
		{"in time", pay, order(OrderPending, UnitsOpen, ""), nil, PaymentBooked, OrderPaid, StockDelta{Open: -2, Sold: 2}},
		{"no order", pay, nil, nil, PaymentNoOrder, "", StockDelta{}},
		{"a parked order", pay, order(OrderParked, UnitsParked, ReasonLocked), nil, PaymentNoOrder, "", StockDelta{}},
		{"another merchant's order", pay, stranger, nil, PaymentNoOrder, "", StockDelta{}},
		{"wrong amount", wrong, order(OrderPending, UnitsOpen, ""), nil, PaymentMismatch, OrderPending, StockDelta{}},
		{"wrong currency", currency, order(OrderPending, UnitsOpen, ""), nil, PaymentMismatch, OrderPending, StockDelta{}},
		{"repeat", pay, order(OrderPaid, UnitsSold, ""), &KeptPayment{Payment: pay, State: PaymentStateBooked}, PaymentAgain, OrderPaid, StockDelta{}},
		{
			"repeat of a late one", pay, order(OrderRefundDue, UnitsVoid, ReasonPaymentTimeout),
			&KeptPayment{Payment: pay, State: PaymentStateDue, Cause: CauseLate}, PaymentAgain, OrderRefundDue, StockDelta{},
		},
		{"id reused", wrong, order(OrderPaid, UnitsSold, ""), &KeptPayment{Payment: pay, State: PaymentStateBooked}, PaymentOtherContent, OrderPaid, StockDelta{}},
		{
			"a wrong amount again", wrong, order(OrderPending, UnitsOpen, ""),
			&KeptPayment{Payment: wrong, State: PaymentStateDue, Cause: CauseWrongAmount}, PaymentMismatch, OrderPending, StockDelta{},
		},
		{
			"another wrong amount", currency, order(OrderPending, UnitsOpen, ""),
			&KeptPayment{Payment: wrong, State: PaymentStateDue, Cause: CauseWrongAmount}, PaymentMismatch, OrderPending, StockDelta{},
		},
		{
			"a wrong amount, corrected", pay, order(OrderPending, UnitsOpen, ""),
			&KeptPayment{Payment: wrong, State: PaymentStateDue, Cause: CauseWrongAmount}, PaymentBooked, OrderPaid, StockDelta{Open: -2, Sold: 2},
		},
		{
			"a wrong amount that went back, corrected", pay, order(OrderPending, UnitsOpen, ""),
			&KeptPayment{Payment: wrong, State: PaymentStateDone, Cause: CauseWrongAmount}, PaymentOtherContent, OrderPending, StockDelta{},
		},
		{"late", pay, order(OrderCancelled, UnitsVoid, ReasonPaymentTimeout), nil, PaymentLate, OrderRefundDue, StockDelta{}},
		{"for a rejected order", pay, order(OrderRejected, UnitsVoid, ReasonSoldOut), nil, PaymentLate, OrderRefundDue, StockDelta{}},
		{"for a tombstone", pay, tombstone, nil, PaymentLate, OrderRefundDue, StockDelta{}},
		{"a second payment of a paid order", pay, order(OrderPaid, UnitsSold, ""), nil, PaymentLate, OrderPaid, StockDelta{}},
		{"a second payment of a refund", pay, order(OrderRefundDue, UnitsVoid, ReasonBuyer), nil, PaymentLate, OrderRefundDue, StockDelta{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := NewChanges()
			kept := make(map[PaymentKey]*KeptPayment)
			if c.earlier != nil {
				kept[c.earlier.Key()] = c.earlier
			}
			got := DecidePayment(c.pay, c.order, kept, now, out)
			if got.Verdict != c.want || got.Order.State != c.state {
				t.Fatalf("got %v, %q; want %v, %q", got.Verdict, got.Order.State, c.want, c.state)
			}
			var delta StockDelta
			if d := out.Stock[StockKey{1, testShard}]; d != nil {
				delta = *d
			}
			if delta != c.delta || (len(out.Outbox) == 1) != (c.want == PaymentBooked) {
				t.Errorf("%+v, outbox %+v", delta, out.Outbox)
			}
		})
	}
}

// books is a database in memory: it writes the changes of each decision, and counts its rows again.
type books struct {
	rows    map[OrderID]Order
	ledgers map[StockKey]*Ledger
	counts  map[StockKey]StockDelta
	digests map[inventory.ShardID]ShardDelta
	settled map[OrderID]inventory.Kind
	epoch   inventory.Epoch
}

// write applies the changes of a transaction.
func (b *books) write(t *rapid.T, out *Changes) {
	for _, o := range out.Inserted {
		if _, ok := b.rows[o.ID]; ok {
			t.Fatalf("order %s is inserted twice", o.ID)
		}
		b.rows[o.ID] = o
	}
	for _, o := range out.Updated {
		if _, ok := b.rows[o.ID]; !ok {
			t.Fatalf("order %s is updated, and has no row", o.ID)
		}
		b.rows[o.ID] = o
	}
	for key, d := range out.Stock {
		c := b.counts[key]
		b.counts[key] = StockDelta{c.Open + d.Open, c.Sold + d.Sold, c.Parked + d.Parked, c.Skipped + d.Skipped, c.Rejected + d.Rejected}
	}
	for shard, d := range out.Shards {
		c := b.digests[shard]
		b.digests[shard] = ShardDelta{c.Open.Add(d.Open), c.Sold.Add(d.Sold)}
	}
	for _, row := range out.Outbox {
		id := OrderID(row.Settlement.ID)
		if earlier, ok := b.settled[id]; ok {
			t.Fatalf("the hold of %s is settled twice: %v, %v", id, earlier, row.Settlement.Kind)
		}
		b.settled[id] = row.Settlement.Kind
		if o := b.rows[id]; row.Ref.Shard != o.Grant.Shard || row.Settlement.Hold != o.Hold() {
			t.Fatalf("settlement %+v of order %+v", row, o)
		}
	}
}

// check counts the rows again and compares.
func (b *books) check(t *rapid.T) {
	counts := make(map[StockKey]StockDelta)
	digests := make(map[inventory.ShardID]ShardDelta)
	bought := make(map[BuyerKey]int64)
	for id, o := range b.rows {
		key, name := o.Stock(), inventory.NameDigest(string(id))
		c, d, units := counts[key], digests[key.Shard], int64(o.Quantity)
		switch o.Units {
		case UnitsOpen:
			c.Open, d.Open = c.Open+units, d.Open.Add(name)
		case UnitsParked:
			c.Parked, d.Open = c.Parked+units, d.Open.Add(name)
		case UnitsSold:
			c.Sold, d.Sold = c.Sold+units, d.Sold.Add(name)
		}
		counts[key], digests[key.Shard] = c, d
		if o.Units == UnitsOpen || o.Units == UnitsSold {
			bought[BuyerKey{o.Item, o.User}] += units
		}
		kind, settled := b.settled[id]
		want := map[UnitState]inventory.Kind{UnitsSold: inventory.SettleSold, UnitsVoid: inventory.SettleVoid}[o.Units]
		if settled != (want != 0) || kind != want {
			t.Fatalf("units of %s are %s, the hold is settled as %d", id, o.Units, kind)
		}
	}
	for key, l := range b.ledgers {
		got, want := b.counts[key], counts[key]
		if got.Open != want.Open || got.Sold != want.Sold || got.Parked != want.Parked {
			t.Fatalf("%v: counted %+v, the rows say %+v", key, got, want)
		}
		if want.Open+want.Sold > l.Total {
			t.Fatalf("%v: L1: %+v of %d", key, want, l.Total)
		}
		if b.digests[key.Shard] != digests[key.Shard] {
			t.Fatalf("shard %d: digests %+v, the rows say %+v", key.Shard, b.digests[key.Shard], digests[key.Shard])
		}
		for buyer, units := range bought {
			if buyer.Item == key.Item && units > int64(l.PerUser) {
				t.Fatalf("L5: %v has %d of %d", buyer, units, l.PerUser)
			}
		}
	}
}

// input reads the rows of a transaction. Some rows may be locked.
func (b *books) input(locked map[StockKey]bool) *AcceptInput {
	in := &AcceptInput{
		Epochs: map[inventory.ShardID]inventory.Epoch{testShard: b.epoch}, Stock: map[StockKey]*Ledger{}, Locked: locked,
		Existing: maps.Clone(b.rows), Bought: map[BuyerKey]int64{}, Now: time.Unix(1000, 0),
	}
	for key, l := range b.ledgers {
		if locked[key] {
			continue
		}
		row := *l
		row.Open, row.Sold, row.Parked = b.counts[key].Open, b.counts[key].Sold, b.counts[key].Parked
		in.Stock[key] = &row
	}
	for _, o := range b.rows {
		if o.Units == UnitsOpen || o.Units == UnitsSold {
			in.Bought[BuyerKey{o.Item, o.User}] += int64(o.Quantity)
		}
	}
	return in
}

// same checks that the input agrees with the counts after the batch.
func (b *books) same(t *rapid.T, in *AcceptInput) {
	for item := range inventory.ItemID(2) {
		key := StockKey{item + 1, testShard}
		row, c := in.Stock[key], b.counts[key]
		if row == nil {
			continue
		}
		if row.Open != c.Open || row.Sold != c.Sold || row.Parked != c.Parked {
			t.Fatalf("%v: the input says %+v after the batch, the counts %+v", key, *row, c)
		}
	}
}

// Pages, payments, cancels, time-outs, burials and unparkings come in any order. Still the changes'
// counts and digests are those of the rows, each hold is settled once as its row says, and L1 and
// L5 hold.
func TestChanges_AgreeWithARecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &books{
			rows: map[OrderID]Order{}, ledgers: map[StockKey]*Ledger{}, counts: map[StockKey]StockDelta{},
			digests: map[inventory.ShardID]ShardDelta{}, settled: map[OrderID]inventory.Kind{}, epoch: 2,
		}
		for item := range inventory.ItemID(2) {
			b.ledgers[StockKey{item + 1, testShard}] = testLedger(rapid.Int64Range(0, 8).Draw(t, "total"), 0, 0, 3)
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			b.step(t)
			b.check(t)
		}
	})
}

// step does one random transaction.
func (b *books) step(t *rapid.T) {
	out := NewChanges()
	locked := map[StockKey]bool{}
	for item := range inventory.ItemID(2) {
		if rapid.IntRange(0, 5).Draw(t, "lock") == 0 {
			locked[StockKey{item + 1, testShard}] = true
		}
	}
	switch kind := rapid.SampledFrom([]string{"page", "page", "event", "pay", "unpark", "bury", "cancel", "fence"}).Draw(t, "kind"); kind {
	case "page":
		in := b.input(locked)
		epoch := b.epoch + inventory.Epoch(rapid.IntRange(-1, 1).Draw(t, "epoch"))
		page := testPage(epoch)
		for range rapid.IntRange(1, 6).Draw(t, "promises") {
			page.Promises = append(page.Promises, b.promise(t))
		}
		DecideAccept(page, in, out)
		b.write(t, out)
		b.same(t, in)
		return
	case "fence":
		b.epoch++
	case "bury", "cancel":
		p := b.promise(t)
		ref := inventory.Ref{Shard: testShard, Epoch: b.epoch}
		if _, exists := b.rows[p.Order]; exists {
			return
		}
		if kind == "bury" {
			DecideBury(p.Hold(), ref, b.ledgers[StockKey{p.Item(), testShard}], time.Unix(1000, 0), out)
		} else {
			DecideCancelQueued(&Cancellation{Order: p.Order, Queued: &p, Ref: ref}, b.epoch, time.Unix(1000, 0), out)
		}
	default:
		b.move(t, kind, locked, out)
	}
	b.write(t, out)
}

// move makes a random transition of an existing row.
func (b *books) move(t *rapid.T, kind string, locked map[StockKey]bool, out *Changes) {
	ids := slices.Sorted(maps.Keys(b.rows))
	if len(ids) == 0 {
		return
	}
	o := b.rows[rapid.SampledFrom(ids).Draw(t, "order")]
	switch kind {
	case "event":
		event := Event(rapid.IntRange(int(EventPaid), int(EventDiscarded)).Draw(t, "event"))
		if moved := DecideEvent(o, event, time.Unix(1000, 0), out); moved.Now != (len(out.Updated) == 1) {
			t.Fatalf("%+v, updated %+v", moved, out.Updated)
		}
	case "pay":
		pay := Payment{Merchant: "m", ID: "p", Order: o.ID, Amount: o.Amount}
		if rapid.IntRange(0, 3).Draw(t, "wrong") == 0 {
			pay.Amount.Minor++
		}
		DecidePayment(pay, &o, make(map[PaymentKey]*KeptPayment), time.Unix(1000, 0), out)
	case "unpark":
		if o.State == OrderParked {
			DecideUnpark(&o, b.input(locked), out)
		}
	}
}

// promise draws one of a few promises, so that some come again. Some fit no item.
func (b *books) promise(t *rapid.T) Promise {
	item := inventory.ItemID(rapid.IntRange(1, 3).Draw(t, "item"))
	p := testPromise(item, rapid.SampledFrom([]string{"u1", "u2", "u3"}).Draw(t, "user"),
		rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(t, "key"), rapid.IntRange(1, 2).Draw(t, "quantity"))
	if rapid.IntRange(0, 9).Draw(t, "stranger") == 0 {
		p.SKU = "t"
	}
	return p
}

package seckill

import (
	"testing"
	"time"

	"penstock/inventory"
)

func testRecord(item inventory.ItemID, user, key string, quantity int, epoch inventory.Epoch) Record {
	caller := CallerRef{"m", "c"}
	return Record{
		Order: NewOrderID(item, caller, "a", "s", UserID(user), key), Caller: caller, Activity: "a", SKU: "s", User: UserID(user),
		Quantity: quantity, Amount: Money{int64(100 * quantity), "CNY"}, Grant: Provenance{0, epoch, 1}, Accepted: time.UnixMilli(5),
	}
}

func testLedger(epoch inventory.Epoch, total, open, sold int64, perUser int) *Ledger {
	return &Ledger{Activity: "a", Merchant: "m", SKU: "s", Epoch: epoch, Total: total, Open: open, Sold: sold, PerUser: perUser, PaymentWindow: time.Minute}
}

// decideOne runs DecideAccept over records of item 1.
func decideAll(ledger *Ledger, bought map[BuyerKey]int64, existing map[OrderID]Order, records ...Record) []Outcome {
	if existing == nil {
		existing = make(map[OrderID]Order)
	}
	if bought == nil {
		bought = make(map[BuyerKey]int64)
	}
	out := DecideAccept(records, map[inventory.ItemID]*Ledger{1: ledger}, existing, bought, time.Unix(1000, 0))
	outcomes := make([]Outcome, len(out))
	for i := range out {
		outcomes[i] = out[i].Outcome
	}
	return outcomes
}

func expect(t *testing.T, got []Outcome, want ...Outcome) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// TestL1_WorkerRejectsWhatIsNotThere: whatever Redis promised, the worker's transaction opens no order beyond the total.
func TestL1_WorkerRejectsWhatIsNotThere(t *testing.T) {
	ledger := testLedger(1, 10, 4, 4, 0)
	expect(t, decideAll(ledger, nil, nil, testRecord(1, "u1", "k", 1, 1), testRecord(1, "u2", "k", 2, 1), testRecord(1, "u3", "k", 1, 1), testRecord(1, "u4", "k", 1, 1)),
		OutcomeOpened, OutcomeRejected, OutcomeOpened, OutcomeRejected)
	if ledger.Open+ledger.Sold != ledger.Total {
		t.Fatalf("open %d + sold %d of %d", ledger.Open, ledger.Sold, ledger.Total)
	}
}

// TestL5_WorkerChecksTheBuyersLimit: it counts what the buyer has in the store and in the batch.
func TestL5_WorkerChecksTheBuyersLimit(t *testing.T) {
	bought := map[BuyerKey]int64{{1, "u1"}: 1}
	expect(t, decideAll(testLedger(1, 100, 0, 0, 2), bought, nil,
		testRecord(1, "u1", "k1", 1, 1), testRecord(1, "u1", "k2", 1, 1), testRecord(1, "u2", "k1", 3, 1), testRecord(1, "u2", "k2", 2, 1)),
		OutcomeOpened, OutcomeRejected, OutcomeRejected, OutcomeOpened)
}

// TestL4_WorkerMeetsItsOwnRow: a record that comes again, in another batch or in the same one, makes no second order.
func TestL4_WorkerMeetsItsOwnRow(t *testing.T) {
	r := testRecord(1, "u1", "k", 1, 1)
	ledger := testLedger(1, 10, 0, 0, 0)
	expect(t, decideAll(ledger, nil, nil, r, r), OutcomeOpened, OutcomeExists)
	if ledger.Open != 1 {
		t.Fatalf("open %d", ledger.Open)
	}
	expect(t, decideAll(ledger, nil, map[OrderID]Order{r.Order: {ID: r.Order, State: OrderCancelled}}, r), OutcomeExists)
}

// TestWorkerFencesEpochs: records of an older epoch without a row are skipped, with a row they exist, of a later one unfit.
func TestWorkerFencesEpochs(t *testing.T) {
	old := testRecord(1, "u1", "k", 1, 1)
	expect(t, decideAll(testLedger(2, 10, 0, 0, 0), nil, nil, old, testRecord(1, "u2", "k", 1, 2), testRecord(1, "u3", "k", 1, 3)),
		OutcomeSkipped, OutcomeOpened, OutcomeUnfit)
	expect(t, decideAll(testLedger(2, 10, 0, 0, 0), nil, map[OrderID]Order{old.Order: {ID: old.Order}}, old), OutcomeExists)
}

// TestWorkerRefusesStrangers: a record that doesn't fit its item never becomes an order.
func TestWorkerRefusesStrangers(t *testing.T) {
	elsewhere, otherSKU, otherMerchant := testRecord(2, "u", "k", 1, 1), testRecord(1, "u", "k", 1, 1), testRecord(1, "u", "k", 1, 1)
	otherSKU.SKU, otherMerchant.Caller.Merchant = "t", "n"
	expect(t, decideAll(testLedger(1, 10, 0, 0, 0), nil, nil, elsewhere, otherSKU, otherMerchant), OutcomeUnfit, OutcomeUnfit, OutcomeUnfit)
}

func TestDecidePayment(t *testing.T) {
	now := time.Unix(1000, 0)
	caller := CallerRef{"m", "c"}
	order := func(state OrderState, reason Reason) *Order {
		return &Order{ID: "o", Caller: caller, State: state, Reason: reason, Amount: Money{100, "CNY"}}
	}
	pay := Payment{Merchant: "m", ID: "p", Order: "o", Amount: Money{100, "CNY"}}
	wrong := pay
	wrong.Amount.Minor = 99
	currency := pay
	currency.Amount.Currency = "EUR"
	tests := []struct {
		name    string
		pay     Payment
		order   *Order
		earlier *KeptPayment
		want    PaymentVerdict
		state   OrderState
	}{
		{"in time", pay, order(OrderPending, ""), nil, PaymentBooked, OrderPaid},
		{"no order", pay, nil, nil, PaymentNoOrder, ""},
		{"another merchant's order", pay, &Order{ID: "o", Caller: CallerRef{"n", "c"}, State: OrderPending, Amount: pay.Amount}, nil, PaymentNoOrder, ""},
		{"wrong amount", wrong, order(OrderPending, ""), nil, PaymentMismatch, OrderPending},
		{"wrong currency", currency, order(OrderPending, ""), nil, PaymentMismatch, OrderPending},
		{"repeat", pay, order(OrderPaid, ""), &KeptPayment{Payment: pay}, PaymentAgain, OrderPaid},
		{"repeat of a late one", pay, order(OrderRefundDue, ReasonPaymentTimeout), &KeptPayment{pay, true}, PaymentAgain, OrderRefundDue},
		{"id reused", wrong, order(OrderPaid, ""), &KeptPayment{Payment: pay}, PaymentOtherContent, OrderPaid},
		{"late", pay, order(OrderCancelled, ReasonPaymentTimeout), nil, PaymentLate, OrderRefundDue},
		{"for a rejected order", pay, order(OrderRejected, ReasonSoldOut), nil, PaymentLate, OrderRefundDue},
		{"for a tombstone", pay, &Order{ID: "o", Caller: CallerRef{Merchant: "m"}, State: OrderCancelled, Reason: ReasonNotAccepted}, nil, PaymentLate, OrderRefundDue},
		{"a second payment of a paid order", pay, order(OrderPaid, ""), nil, PaymentLate, OrderPaid},
		{"a second payment of a refund", pay, order(OrderRefundDue, ReasonBuyer), nil, PaymentLate, OrderRefundDue},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := DecidePayment(test.pay, test.order, test.earlier, now)
			if got.Verdict != test.want || got.Order.State != test.state {
				t.Fatalf("got %v, %q; want %v, %q", got.Verdict, got.Order.State, test.want, test.state)
			}
		})
	}
}

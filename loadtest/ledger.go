package loadtest

import (
	"fmt"
	"sync"
	"time"
)

// The statuses of an order, as the contract names them.
const (
	statusQueued    = "queued"
	statusPending   = "pending_payment"
	statusPaid      = "paid"
	statusCancelled = "cancelled"
	statusRejected  = "rejected"
	statusRefundDue = "refund_due"
	statusRefunded  = "refunded"
)

// reasonNotAccepted is the reason of an order that was cancelled and never accepted. After an
// unknown outcome it is right; after a 202 it is a broken promise.
const reasonNotAccepted = "not-accepted"

// order is an order that the server named, and what the server said about it. While the crowd runs,
// only its buyer's goroutine uses it; then the goroutine that reads it back; then the judge.
type order struct {
	purchase
	id         string
	promised   bool      // accepted, and not only named in an unknown outcome
	promisedAt time.Time // when the answer came
	givenUp    time.Time // when the first cancellation was sent
	paid       bool      // a payment notice was answered 200
	cancelled  bool      // a cancellation was answered 200
	end        ending
}

// ending is the last known state of an order.
type ending struct {
	Activity string `json:"activity"`
	SKU      string `json:"sku"`
	User     string `json:"user"`
	Quantity int    `json:"quantity"`
	Status   string `json:"status"`
	Reason   string `json:"reason"`

	found   bool
	missing bool   // answered 404, several times
	trouble string // why it could not be read
	away    bool   // there was no answer, so nothing is known and nothing is proven
}

// ledger has every order that was named, and all contradictions between answers.
type ledger struct {
	mu       sync.Mutex
	byID     map[string]*order // guarded by mu
	orders   []*order          // in the order in which they were named; guarded by mu
	promises int               // guarded by mu
	keys     proofs            // one key with several orders, or with an order and then a refusal; guarded by mu
	shared   proofs            // one order with several keys; guarded by mu
}

func newLedger() *ledger { return &ledger{byID: make(map[string]*order)} }

// place returns the order of that id, and keeps it when it is new. If another key has that id
// already, it records the contradiction, and returns an order that only the caller uses.
func (l *ledger) place(p *purchase, id string) *order {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.byID[id]; ok {
		if known.key == p.key {
			return known
		}
		l.shared.add("order %s answers both key %s and key %s", id, known.key, p.key)
		return &order{purchase: *p, id: id}
	}
	o := &order{purchase: *p, id: id}
	l.byID[id] = o
	l.orders = append(l.orders, o)
	return o
}

func (l *ledger) promise() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promises++
}

// size returns how many orders were named, and how many of them promised.
func (l *ledger) size() (orders, promised int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.orders), l.promises
}

// differs records that a key was answered with two orders.
func (l *ledger) differs(key, first, second string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys.add("key %s was answered with order %s and with order %s", key, first, second)
}

// forgot records that a key was refused after it had been accepted.
func (l *ledger) forgot(key, id, code string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys.add("key %s has order %s, and its repeat was refused: %s", key, id, code)
}

// maxProofs is how many proofs of one broken invariant are listed; further ones are counted.
const maxProofs = 3

// proofs are the proofs that an invariant is broken.
type proofs struct {
	count int
	first []string
}

func (p *proofs) add(format string, args ...any) {
	p.count++
	if len(p.first) < maxProofs {
		p.first = append(p.first, fmt.Sprintf(format, args...))
	}
}

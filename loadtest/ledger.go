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

// reasonNotAccepted is why an order is cancelled that never was one: right after an unknown
// outcome, a broken promise after a 202.
const reasonNotAccepted = "not-accepted"

// order is an order that the server named, and what it said about it. While the crowd runs it is
// touched by its buyer's goroutine only, afterwards by the one that reads it back, then by the
// judge.
type order struct {
	purchase
	id         string
	promised   bool      // accepted, not only named by an unknown outcome
	promisedAt time.Time // the answer came
	givenUp    time.Time // the first cancellation left
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
	missing bool   // 404, and again
	trouble string // why it could not be read
	away    bool   // there was no answer: nothing is known, and nothing proven
}

// ledger has every order that was named, and the contradictions seen on the way.
type ledger struct {
	mu       sync.Mutex
	byID     map[string]*order // guarded by mu
	orders   []*order          // guarded by mu; in the order in which they were named
	promises int               // guarded by mu
	keys     proofs            // guarded by mu; one key, several orders, or an order and then a refusal
	shared   proofs            // guarded by mu; one order, several keys
}

func newLedger() *ledger { return &ledger{byID: make(map[string]*order)} }

// place returns the order of that id, and keeps it when it is new. If another key has that id
// already, it keeps the contradiction, and returns an order that only the caller uses.
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

// differs notes that a key was answered with two orders.
func (l *ledger) differs(key, first, second string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys.add("key %s was answered with order %s and with order %s", key, first, second)
}

// forgot notes that a key was refused after it had been accepted.
func (l *ledger) forgot(key, id, code string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys.add("key %s has order %s, and its repeat was refused: %s", key, id, code)
}

// maxProofs is how many proofs of one broken invariant are listed; the others are counted.
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

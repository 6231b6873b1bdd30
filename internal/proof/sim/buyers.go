package sim

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// key is an idempotency key and its buyer.
type key struct {
	buyer seckill.UserID
	key   string
	item  int // its place among the items
	id    seckill.OrderID
}

// String is ann/k1, and of the second item ann/k1@2.
func (k key) String() string {
	name := string(k.buyer) + "/" + k.key
	if k.item > 0 {
		name += fmt.Sprintf("@%d", k.item+1)
	}
	return name
}

// attempt is a request to buy, and its answer.
type attempt struct {
	key      key
	process  *process
	quantity int
	wait     time.Duration
	arrived  time.Time

	// Valid once done.
	receipt seckill.Receipt
	err     error
	took    time.Duration
	done    atomic.Bool

	crashed         bool // the process died before it could answer
	mayHaveHappened bool // it was told that the outcome is unknown, or its process crashed
	judged          bool // the checker has seen the answer
}

// keyOf makes a key, and its name in the path.
func (r *rig) keyOf(buyer, name string, item int) key {
	for _, k := range r.keys {
		if string(k.buyer) == buyer && k.key == name && k.item == item {
			return k
		}
	}
	k := key{seckill.UserID(buyer), name, item, ""}
	k.id = seckill.NewOrderID(r.items[item], caller, k.buyer, k.key)
	r.keys = append(r.keys, k)
	r.setAlias(string(k.id), k.String())
	return k
}

// buy sends a request to a process.
func (r *rig) buy(p *process, k key, quantity int, wait time.Duration) *attempt {
	a := &attempt{key: k, process: p, quantity: quantity, wait: wait, arrived: time.Now()}
	r.attempts = append(r.attempts, a)
	name := fmt.Sprintf("#%d", len(r.attempts))
	r.path.note("%s %s: buy %s ×%d", p.name, name, k, quantity)
	p.goes(func() {
		a.receipt, a.err = p.sale.Desk.Buy(as(p.ctx, name), &seckill.Purchase{
			Caller: &seckill.Caller{CallerRef: caller}, Activity: activity, SKU: skus[k.item], User: k.buyer, Key: k.key,
			Quantity: quantity, Arrived: a.arrived, Wait: wait,
		})
		a.took = time.Since(a.arrived)
		var unknown *seckill.Unknown
		a.crashed = a.err != nil && !p.alive()
		a.mayHaveHappened = a.crashed || errors.As(a.err, &unknown)
		a.done.Store(true)
		r.path.hear("%s %s: buy %s answered %s", p.name, name, k, a.answer())
	})
	return a
}

// answer returns the buyer's answer in a word or two.
func (a *attempt) answer() string {
	switch {
	case !a.done.Load():
		return "waits"
	case a.crashed:
		return "no answer"
	case a.err != nil:
		return inShort(a.err)
	case a.receipt.Replayed:
		return "again " + orderState(a.receipt.Order)
	default:
		return "accepted " + orderState(a.receipt.Order)
	}
}

// promises reports whether the answer was a 201 or 202.
func (a *attempt) promises() bool {
	if !a.done.Load() || a.err != nil {
		return false
	}
	switch a.receipt.Order.State {
	case seckill.OrderQueued, seckill.OrderPending, seckill.OrderPaid:
		return true
	default:
		return false
	}
}

// orderState is an order's state and reason.
func orderState(o seckill.Order) string {
	switch {
	case o.ID == "":
		return "none"
	case o.Reason == "":
		return string(o.State)
	default:
		return string(o.State) + " " + string(o.Reason)
	}
}

// ask is a request that is no purchase, and its answer.
type ask struct {
	what     string
	key      key    // the key of its order; zero for none
	promised bool   // that order had been promised before
	payment  string // the payment that was sent; "" is none
	judged   bool   // the checker has seen the answer

	words string // valid once done, like the next
	ok    bool
	done  atomic.Bool
}

func (a *ask) answer() string {
	if !a.done.Load() {
		return "waits"
	}
	return a.words
}

// pay sends a payment notice for so many units under the key's order.
func (r *rig) pay(p *process, k key, payment string, quantity int) *ask {
	r.path.note("%s: pay %s with %s", p.name, k, payment)
	body := []byte("{}")
	amount := seckill.Money{Minor: price.Minor * int64(quantity), Currency: price.Currency}
	n := &seckill.Notice{
		Payment:  seckill.Payment{ID: seckill.PaymentID(payment), Order: k.id, Amount: amount},
		SignedAt: time.Now().Unix(), Body: body,
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(strconv.FormatInt(n.SignedAt, 10) + "."))
	mac.Write(body)
	n.MACs = [][32]byte{[32]byte(mac.Sum(nil))}
	a := r.askOf(p, "pay ", k, func(ctx context.Context) (seckill.Order, error) { return p.sale.Desk.Pay(ctx, n) })
	a.payment = payment
	return a
}

// cancel gives the key's order up.
func (r *rig) cancel(p *process, k key) *ask {
	r.path.note("%s: cancel %s", p.name, k)
	return r.askOf(p, cancelling, k, func(ctx context.Context) (seckill.Order, error) {
		return p.sale.Desk.CancelOrder(ctx, &seckill.Caller{CallerRef: caller}, k.id)
	})
}

// cancelling is the request to cancel an order.
const cancelling = "cancel "

// find asks what became of the key's order.
func (r *rig) find(p *process, k key) *ask {
	r.path.note("%s: find %s", p.name, k)
	return r.askOf(p, "find ", k, func(ctx context.Context) (seckill.Order, error) {
		return p.sale.Desk.FindOrder(ctx, &seckill.Caller{CallerRef: caller}, k.id, 0)
	})
}

// askOf sends a request about the key's order.
func (r *rig) askOf(p *process, what string, k key, send func(context.Context) (seckill.Order, error)) *ask {
	promised := r.promised(k)
	a := r.background(p, what+k.String(), func(ctx context.Context) (string, error) {
		order, err := send(ctx)
		return orderState(order), err
	})
	a.what, a.key, a.promised = what, k, promised
	r.asks = append(r.asks, a)
	return a
}

// background sends a request and records the answer.
func (r *rig) background(p *process, what string, send func(context.Context) (string, error)) *ask {
	a := new(ask)
	p.goes(func() {
		words, err := send(as(p.ctx, what))
		switch {
		case err != nil && !p.alive():
			words = "no answer"
		case err != nil:
			words = inShort(err)
		}
		a.words, a.ok = words, err == nil
		a.done.Store(true)
		r.path.hear("%s: %s answered %s", p.name, what, words)
	})
	return a
}

// inShort names an error in a word, as the caller sees it.
func inShort(err error) string {
	var (
		refusal *seckill.Refusal
		failure *seckill.Failure
		unknown *seckill.Unknown
	)
	switch {
	case errors.As(err, &refusal):
		return string(refusal.Code)
	case errors.As(err, &failure) && failure.Code == seckill.CodeBusy:
		return "busy"
	case errors.As(err, &failure):
		return "failed"
	case errors.As(err, &unknown):
		return "unknown"
	default:
		return "error " + err.Error()
	}
}

// stockChange is a requested restock or withdrawal.
type stockChange struct {
	seckill.StockChange
	done atomic.Bool // it was acknowledged
}

// restock asks for a change of an item's total.
func (r *rig) restock(p *process, item int, name string, delta int64) *ask {
	change := r.changeOf(item, name, delta)
	what := fmt.Sprintf("restock %s %+d", name, delta)
	if item > 0 {
		what += fmt.Sprintf(" of item %d", item+1)
	}
	r.path.note("%s: %s", p.name, what)
	return r.background(p, what, func(ctx context.Context) (string, error) {
		made, err := p.sale.Office.Restock(ctx, activity, skus[item], name, delta, author)
		if err != nil {
			return "", err
		}
		change.done.Store(true)
		if made.Replayed {
			return fmt.Sprintf("again total %d", made.Total), nil
		}
		return fmt.Sprintf("total %d", made.Total), nil
	})
}

// changeOf returns the change under a key of an item.
func (r *rig) changeOf(item int, name string, delta int64) *stockChange {
	id := r.items[item]
	for _, c := range r.changes {
		if c.Item == id && c.Key == name {
			return c
		}
	}
	c := &stockChange{StockChange: seckill.StockChange{Item: id, Key: name, Delta: delta}}
	r.changes = append(r.changes, c)
	for _, shard := range allShards() {
		r.setAlias(seckill.NewWithdrawalID(id, shard, name), "withdrawal "+name)
	}
	return c
}

// suspect asks for a rebuild, as a person would.
func (r *rig) suspect(shard inventory.ShardID) error {
	rows, err := r.store.Shards(r.ctx)
	if err != nil {
		return err
	}
	r.path.note("suspect s%d", shard)
	return r.store.MarkSuspect(r.ctx, rows[shard].Ref)
}

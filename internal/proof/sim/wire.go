package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"penstock/inventory"
	"penstock/seckill"
)

// method names a call over a seam, in the words of the scenarios.
type method string

// The calls to Redis, to the queue, and to the database.
const (
	callHold    method = "hold"
	callFind    method = "find"
	callConfirm method = "confirm"
	callSettle  method = "settle"
	callRestock method = "restock"
	callLevels  method = "levels"
	callNote    method = "note"
	callOld     method = "old"
	callDoom    method = "doom"
	callClose   method = "close"
	callLoad    method = "load"
	callOpen    method = "open"

	callPut       method = "put"
	callPoll      method = "poll"
	callCommit    method = "commit"
	callEnd       method = "end"
	callCommitted method = "committed"

	callCatalog   method = "catalog"
	callAccept    method = "accept"
	callOrders    method = "orders"
	callCancel    method = "cancel"
	callPay       method = "pay"
	callTimeOut   method = "time-out"
	callBury      method = "bury"
	callOutbox    method = "outbox" // a relay reads the outbox
	callForget    method = "forget" // and deletes what it has delivered
	callLock      method = "lock"
	callNextEpoch method = "next-epoch"
	callFence     method = "fence"
	callSuspect   method = "suspect"
	callRaise     method = "raise" // a restock, in the database
	callWithdraw  method = "withdraw"
	callChange    method = "change" // look a stock change up
	callBooks     method = "books"
	callLetters   method = "letters" // keep dead letters
	callActivity  method = "activity"
)

// traits say what may happen to a call.
type traits struct {
	redis bool // a call to Redis: where its answer is lost, the error is an *inventory.UnknownError
	reads bool // it changes nothing: executed late it is as good as not executed
	late  bool // it may be executed after its caller gave up
	twice bool // it may be executed once more, later
}

// methods has the traits of each. Commits are executed in the order in which they are sent: a member has one connection to its
// coordinator. A hold is sent once, by the attempt that waits for it. Locks die with their connection, and the halves of a
// relay run in its caller.
var methods = map[method]traits{
	callHold:    {redis: true, late: true},
	callFind:    {redis: true, reads: true},
	callConfirm: {redis: true, late: true, twice: true},
	callSettle:  {redis: true, late: true, twice: true},
	callRestock: {redis: true, late: true, twice: true},
	callLevels:  {redis: true, reads: true},
	callNote:    {redis: true, late: true, twice: true},
	callOld:     {redis: true, reads: true},
	callDoom:    {redis: true, late: true, twice: true},
	callClose:   {redis: true, late: true, twice: true},
	callLoad:    {redis: true, late: true, twice: true},
	callOpen:    {redis: true, late: true, twice: true},

	callPut:       {late: true, twice: true},
	callPoll:      {reads: true},
	callCommit:    {},
	callEnd:       {reads: true},
	callCommitted: {reads: true},

	callCatalog:   {reads: true},
	callAccept:    {late: true},
	callOrders:    {reads: true},
	callCancel:    {late: true},
	callPay:       {late: true},
	callTimeOut:   {late: true},
	callBury:      {late: true},
	callOutbox:    {reads: true},
	callForget:    {reads: true},
	callLock:      {reads: true},
	callNextEpoch: {late: true},
	callFence:     {late: true},
	callSuspect:   {late: true},
	callRaise:     {late: true},
	callWithdraw:  {late: true},
	callChange:    {reads: true},
	callBooks:     {reads: true},
	callLetters:   {late: true},
	callActivity:  {},
}

// What goes wrong on a wire. errRefused is a failure: nothing happened. errReset is one where the caller can't know.
var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset")
	errCrashed = errors.New("the process has crashed")
)

// unknown is the error of a call whose answer was lost.
func (m method) unknown(cause error) error {
	if t := methods[m]; t.redis && !t.reads {
		return &inventory.UnknownError{Err: cause}
	}
	return cause
}

// call is a call over a seam, from when it is made until nothing of it is left.
type call struct {
	process string // whose call it is
	actor   string // who in the process makes it
	method  method
	about   string
	number  int // in the order of arrival

	execute func() (any, error) // what the far side does; it may be called more than once
	deliver func(any, error)    // hands the caller its answer, once, and does not block
	ready   func() bool         // whether the far side can answer yet; nil is always

	// Guarded by the wire's mu.
	executed bool
	value    any // the far side's answer, once executed
	err      error
	over     bool // answered, or given up
}

func (c *call) String() string { return c.process + " " + c.actor + ": " + string(c.method) + c.about }

// wire has all calls that are under way. Callers add to it and leave it; everything else is the driver's, who looks at it when
// all callers wait.
type wire struct {
	mu      sync.Mutex
	direct  bool    // guarded by mu: calls are executed at once, by their callers
	arrived []*call // guarded by mu: since the last look
	open    []*call // guarded by mu: not executed, or executed and not answered
	late    []*call // guarded by mu: given up by their callers, or copies; they may still be executed
	numbers int
}

// setDirect makes calls go through at once, without the driver.
func (w *wire) setDirect(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.direct = on
}

func (w *wire) isDirect() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.direct
}

func (w *wire) arrive(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived = append(w.arrived, c)
}

// look numbers what has arrived. Who arrived in the same step is put into an order that doesn't depend on the Go scheduler.
func (w *wire) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.arrived, byName)
	for _, c := range w.arrived {
		w.numbers++
		c.number = w.numbers
	}
	w.open = append(w.open, w.arrived...)
	w.arrived = nil
	w.open = slices.DeleteFunc(w.open, func(c *call) bool { return c.over })
	slices.SortStableFunc(w.late, func(a, b *call) int { return cmp.Or(cmp.Compare(a.number, b.number), byName(a, b)) })
}

func byName(a, b *call) int {
	return cmp.Or(cmp.Compare(a.process, b.process), cmp.Compare(a.actor, b.actor),
		cmp.Compare(a.method, b.method), cmp.Compare(a.about, b.about))
}

// run executes a call on the far side; the caller hears nothing yet.
func (w *wire) run(c *call) {
	value, err := c.execute()
	w.mu.Lock()
	defer w.mu.Unlock()
	c.executed, c.value, c.err = true, value, err
}

// answer gives a call's caller the far side's answer, or err where that isn't nil.
func (w *wire) answer(c *call, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.over {
		return
	}
	c.over = true
	if err != nil {
		c.deliver(nil, err)
		return
	}
	c.deliver(c.value, c.err)
}

// leave ends a call whose caller doesn't wait any more, and reports whether it had been answered just now. What was not
// executed yet may be, later.
func (w *wire) leave(c *call) (answered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.over {
		return true
	}
	c.over = true
	if !c.executed && methods[c.method].late {
		w.late = append(w.late, c)
	}
	return false
}

// again keeps a copy of a call that may be executed once more.
func (w *wire) again(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = append(w.late, c)
}

// takeLate removes a late call from the wire.
func (w *wire) takeLate(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.late, c); i >= 0 {
		w.late = slices.Delete(w.late, i, i+1)
	}
}

// dropLate forgets late calls.
func (w *wire) dropLate(which func(*call) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = slices.DeleteFunc(w.late, which)
}

// waiting returns the calls that the far side could answer now, in the order of their arrival.
func (w *wire) waiting() []*call {
	w.mu.Lock()
	open := slices.Clone(w.open)
	w.mu.Unlock()
	return slices.DeleteFunc(open, func(c *call) bool { return c.over || !c.executed && c.ready != nil && !c.ready() })
}

// still returns the late calls.
func (w *wire) still() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.late)
}

// orphan ends the puts of a process that has crashed: nobody waits for them who could leave.
func (w *wire) orphan(process string) {
	w.look()
	w.mu.Lock()
	open := slices.Clone(w.open)
	w.mu.Unlock()
	for _, c := range open {
		if c.process == process && c.method == callPut {
			w.leave(c)
		}
	}
}

// actorKey is the key of a context's actor.
type actorKey struct{}

// as returns a context whose calls carry an actor's name.
func as(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actorOf(ctx context.Context) string {
	if actor, ok := ctx.Value(actorKey{}).(string); ok {
		return actor
	}
	return "desk" // a batch belongs to all of its callers
}

// through makes a call over a seam. run is what the far side does; it gets a context that does not end with the caller's.
func through[T any](ctx context.Context, p *process, m method, about string, run func(context.Context) (T, error)) (T, error) {
	var zero T
	far := context.WithoutCancel(ctx)
	if p.rig.wire.isDirect() {
		return run(far)
	}
	if err := p.gone(ctx); err != nil {
		return zero, err
	}
	type reply struct {
		value any
		err   error
	}
	answer := make(chan reply, 1)
	c := &call{
		process: p.name, actor: actorOf(ctx), method: m, about: about,
		execute: func() (any, error) { return run(far) },
		deliver: func(value any, err error) { answer <- reply{value, err} },
	}
	if m == callPoll {
		c.ready = func() bool { return p.rig.log.ready(p.member) }
	}
	p.rig.wire.arrive(c)
	var cause error
	select {
	case r := <-answer:
		value, _ := r.value.(T)
		return value, r.err
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-p.dead:
		cause = errCrashed
	}
	if p.rig.wire.leave(c) {
		r := <-answer
		value, _ := r.value.(T)
		return value, r.err
	}
	return zero, m.unknown(cause)
}

// said is what the far side answered, in a few words.
func (c *call) said() string {
	if !c.executed {
		return "nothing yet"
	}
	if c.err != nil {
		return c.err.Error()
	}
	switch v := c.value.(type) {
	case none:
		return "done"
	case inventory.Grant:
		return verdicts[v.Verdict]
	case []seckill.Acceptance:
		words := make([]string, len(v))
		for i := range v {
			words[i] = outcomes[v[i].Outcome]
		}
		return strings.Join(words, " ")
	case []seckill.Message:
		return fmt.Sprintf("%d records", len(v))
	case seckill.StockSnapshot:
		return fmt.Sprintf("total %d, open %d, sold %d, %d entries", v.Total, v.Open, v.Sold, len(v.Entries))
	case []inventory.Entry:
		return fmt.Sprintf("%d holds", len(v))
	case []seckill.Order:
		words := make([]string, len(v))
		for i := range v {
			words[i] = orderState(v[i])
		}
		return strings.Join(words, ", ")
	case inventory.Levels:
		return fmt.Sprintf("e%d closed=%v available=%d held=%d sold=%d fresh=%d",
			v.Epoch, v.Closed, v.Available, v.Held, v.Sold, v.Fresh)
	case *seckill.CatalogData:
		if v == nil {
			return "as it was"
		}
		item := v.Activities[0].Items[0]
		return fmt.Sprintf("%s, e%d, suspect=%v", v.Activities[0].State, item.Epoch, item.Suspect)
	case []seckill.Moved:
		words := make([]string, len(v))
		for i := range v {
			words[i] = orderState(v[i].Order)
		}
		return strings.Join(words, ", ")
	case []seckill.PaymentResult:
		words := make([]string, len(v))
		for i := range v {
			words[i] = orderState(v[i].Order)
		}
		return strings.Join(words, ", ")
	case inventory.Entry:
		return v.State.String()
	default:
		return fmt.Sprint(v)
	}
}

// verdicts and outcomes are the words for them.
var (
	verdicts = [...]string{"", "held", "held again", "ordered", "ended", "doomed", "sold out", "over the limit", "key reused"}
	outcomes = [...]string{"", "opened", "exists", "rejected", "skipped", "unfit"}
)

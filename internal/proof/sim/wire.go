package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
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
	callItems   method = "items"
	callDrop    method = "drop" // forget items that are over
	callNote    method = "note"
	callOld     method = "old"
	callDoom    method = "doom"
	callClose   method = "close"
	callLoad    method = "load"
	callOpen    method = "open"

	callPut  method = "put"
	callPoll method = "poll"
	callMark method = "mark"

	callCatalog     method = "catalog"
	callAccept      method = "accept"
	callOrders      method = "orders"
	callCancel      method = "cancel"
	callPay         method = "pay"
	callTimeOut     method = "time-out"
	callEarly       method = "early payments"
	callBury        method = "bury"
	callOutbox      method = "outbox" // a relay reads the outbox
	callForget      method = "forget" // and deletes what it has delivered
	callUnpark      method = "unpark"
	callPositions   method = "positions"
	callShards      method = "shards"
	callIncarnation method = "incarnation"
	callNextEpoch   method = "next-epoch"
	callFence       method = "fence"
	callSnapshot    method = "snapshot"
	callSuspect     method = "suspect"
	callRaise       method = "raise" // a restock, in the database
	callWithdraw    method = "withdraw"
	callMove        method = "move"   // of units between shards
	callChange      method = "change" // look a stock change up
	callBooks       method = "books"
	callSums        method = "sums"
	callUnpublished method = "unpublished"
	callTopic       method = "topic" // a worker registers a topic that was made again
	callActivity    method = "activity"
)

// server is the target of a call.
type server string

// The servers.
const (
	redis    server = "redis"
	queue    server = "queue"
	database server = "database"
)

var servers = []server{redis, queue, database}

// traits are the possible fates of a call.
type traits struct {
	to    server
	reads bool // it changes nothing, so executing it late is like not executing it
	late  bool // it may be executed after its caller gave up
	twice bool // it may be executed once more, later
}

// methods has the traits of each method. A hold is sent once, by the round that waits for it. Both
// halves of a relay run in its caller, and so does the loading of a snapshot.
var methods = map[method]traits{
	callHold:    {to: redis, late: true},
	callFind:    {to: redis, reads: true},
	callConfirm: {to: redis, late: true, twice: true},
	callSettle:  {to: redis, late: true, twice: true},
	callRestock: {to: redis, late: true, twice: true},
	callLevels:  {to: redis, reads: true},
	callItems:   {to: redis, reads: true},
	callDrop:    {to: redis, late: true, twice: true},
	callNote:    {to: redis, late: true, twice: true},
	callOld:     {to: redis, reads: true},
	callDoom:    {to: redis, late: true, twice: true},
	callClose:   {to: redis, late: true, twice: true},
	callLoad:    {to: redis, late: true, twice: true},
	callOpen:    {to: redis, late: true, twice: true},

	callPut:  {to: queue, late: true, twice: true},
	callPoll: {to: queue, reads: true},
	callMark: {to: queue, late: true, twice: true},

	callCatalog:     {to: database, reads: true},
	callAccept:      {to: database, late: true},
	callOrders:      {to: database, reads: true},
	callCancel:      {to: database, late: true},
	callPay:         {to: database, late: true},
	callTimeOut:     {to: database, late: true},
	callEarly:       {to: database, late: true},
	callBury:        {to: database, late: true},
	callOutbox:      {to: database, reads: true},
	callForget:      {to: database, reads: true},
	callUnpark:      {to: database, late: true},
	callPositions:   {to: database, reads: true},
	callShards:      {to: database, reads: true},
	callIncarnation: {to: database, reads: true},
	callNextEpoch:   {to: database, late: true},
	callFence:       {to: database, late: true},
	callSnapshot:    {to: database},
	callSuspect:     {to: database, late: true},
	callRaise:       {to: database, late: true},
	callWithdraw:    {to: database, late: true},
	callMove:        {to: database, late: true},
	callChange:      {to: database, reads: true},
	callBooks:       {to: database, reads: true},
	callSums:        {to: database, reads: true},
	callUnpublished: {to: database, reads: true},
	callTopic:       {to: database, late: true},
	callActivity:    {to: database},
}

// The errors of a wire. errRefused is a failure: nothing happened. After errReset the caller can't
// know whether it happened.
var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset")
	errCrashed = errors.New("the process has crashed")
)

// unknown is the error of a call whose answer was lost.
func (m method) unknown(cause error) error {
	if t := methods[m]; t.to == redis && !t.reads {
		return &inventory.UnknownError{Err: cause}
	}
	return cause
}

// call is a call over a seam, from its beginning until it can have no more effects.
type call struct {
	process string // the calling process
	actor   string // the part of the process that makes it
	method  method
	about   string
	number  int // in the order of arrival
	traits  traits
	rare    bool

	shard   inventory.ShardID   // of a call that waits for replicas
	execute func() (any, error) // what the far side does; it may be called more than once
	deliver func(any, error)    // hands the caller its answer, once, and does not block
	ready   func() bool         // whether the far side can answer yet; nil is always

	// Guarded by the wire's mu.
	frozen   bool // it was made by a paused process, and is not sent yet
	executed bool
	value    any // the far side's answer, once executed
	err      error
	over     bool // answered, or given up
}

func (c *call) String() string { return c.process + " " + c.actor + ": " + string(c.method) + c.about }

// wire has all calls that are in progress. Callers add to it and leave it. The driver does
// everything else, while all callers wait.
type wire struct {
	mu      sync.Mutex
	direct  bool            // guarded by mu: calls are executed at once, by their callers
	arrived []*call         // guarded by mu: since the last look
	open    []*call         // guarded by mu: not executed, or executed and not answered
	late    []*call         // guarded by mu: given up by their callers, or copies; they may still be executed
	paused  map[string]bool // guarded by mu: processes that are stopped, as by SIGSTOP
	numbers int
}

// pause stops a process. Its calls may be executed, but are not answered, and new calls are not
// sent. Its timers go on in the simulator, unlike those of a really stopped process.
func (w *wire) pause(process string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused == nil {
		w.paused = make(map[string]bool)
	}
	w.paused[process] = true
}

// resume lets a process go on.
func (w *wire) resume(process string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.paused, process)
	for _, c := range w.open {
		c.frozen = c.frozen && w.paused[c.process]
	}
}

// died forgets that a process was paused. Its unsent calls are never sent.
func (w *wire) died(process string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.paused, process)
}

func (w *wire) isPaused(process string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paused[process]
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
	c.traits, c.rare = methods[c.method], rare[c.method]
	w.arrived = append(w.arrived, c)
}

// look numbers the calls that have arrived. Calls of the same step are sorted, so that their order
// doesn't depend on the Go scheduler.
func (w *wire) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.arrived, byName)
	for _, c := range w.arrived {
		w.numbers++
		c.number, c.frozen = w.numbers, w.paused[c.process]
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

// run executes a call on the server. The caller gets no answer yet.
func (w *wire) run(c *call) {
	value, err := c.execute()
	w.mu.Lock()
	defer w.mu.Unlock()
	c.executed, c.value, c.err = true, value, err
}

// answer gives the server's answer to the caller, or err if that isn't nil.
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

// leave ends a call whose caller doesn't wait any more, and reports whether it had just been
// answered. A call that was not executed yet may still be executed later.
func (w *wire) leave(c *call) (answered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.over {
		return true
	}
	c.over = true
	if !c.executed && !c.frozen && c.traits.late {
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
func (w *wire) waiting() []*call { return w.those(w.canAnswerLocked) }

// canAnswerLocked reports whether the far side could answer a call now.
func (w *wire) canAnswerLocked(c *call) bool {
	return !w.paused[c.process] && (c.executed || c.ready == nil || c.ready())
}

// asleep returns the calls of paused processes that may be executed.
func (w *wire) asleep() []*call {
	return w.those(func(c *call) bool {
		return w.paused[c.process] && !c.executed && !c.frozen && (c.ready == nil || c.ready())
	})
}

// under returns all calls that are in progress.
func (w *wire) under() []*call {
	return w.those(func(*call) bool { return true })
}

// those returns the calls in progress that are wanted. The wire is locked meanwhile.
func (w *wire) those(wanted func(*call) bool) (those []*call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		if c.over || !wanted(c) {
			continue
		}
		if those == nil {
			those = make([]*call, 0, len(w.open))
		}
		those = append(those, c)
	}
	return those
}

// has reports whether a call in progress is wanted. The wire is locked meanwhile.
func (w *wire) has(wanted func(*call) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.open, func(c *call) bool { return !c.over && wanted(c) })
}

// still returns the late calls.
func (w *wire) still() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.late)
}

// orphan ends the puts of a process that has crashed: no caller waits for them any more.
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

// through makes a call over a seam. run is executed on the server's side. Its context does not end
// with the caller's.
func through[T any](ctx context.Context, p *process, m method, about string, run func(context.Context) (T, error)) (T, error) {
	return throughAt(ctx, p, m, 0, about, run)
}

// throughAt is through for a call that is answered only when a shard's replicas have it, too.
func throughAt[T any](ctx context.Context, p *process, m method, shard inventory.ShardID, about string,
	run func(context.Context) (T, error)) (T, error) {
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
		process: p.name, actor: actorOf(ctx), method: m, about: about, shard: shard,
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

// said returns the server's answer in a few words.
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
	case *inventory.HoldCall:
		words := make([]string, len(v.Verdicts))
		for i := range v.Verdicts {
			words[i] = verdicts[v.Verdicts[i]]
		}
		return strings.Join(words, ", ")
	case []seckill.Acceptance:
		words := make([]string, len(v))
		for i := range v {
			words[i] = outcomes[v[i].Outcome]
		}
		return strings.Join(words, " ")
	case seckill.Haul:
		return fmt.Sprintf("%d records", len(v.Messages))
	case []inventory.Entry:
		return fmt.Sprintf("%d holds", len(v))
	case []seckill.Order:
		words := make([]string, len(v))
		for i := range v {
			words[i] = orderState(v[i])
		}
		return strings.Join(words, ", ")
	case inventory.Numbers:
		return fmt.Sprintf("e%d closed=%v fresh=%d", v.Epoch, v.Closed, v.Fresh)
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
	verdicts = [...]string{
		"", "held", "held again", "ordered", "ended", "doomed", "sold out", "over the limit", "too many", "key reused", "unopened",
	}
	outcomes = [...]string{"", "opened", "exists", "rejected", "skipped", "parked"}
)

package settings

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Moment has the data that a part may need in addition to the document.
type Moment struct {
	Now   time.Time // the database's clock
	Nodes int       // that are alive, this one included; at least 1
}

// Part applies a document. Apply validates it, builds everything, and puts it in force at one
// stroke; an error means that nothing has changed. It is called from one goroutine at a time: with
// every other version, with the one in force when the number of nodes has changed, and at the time
// that it returned as next (on the database's clock; zero: there is none).
type Part struct {
	Name  string
	Apply func(d Document, m Moment) (next time.Time, err error)
	// Amend returns the body of a document with an amendment; ErrRecorded if it has it already. nil
	// means that the document can't be amended.
	Amend func(body []byte, a Amendment) ([]byte, error)
}

// Watcher keeps a node's documents in force. Its methods are safe for concurrent use.
type Watcher struct {
	// fixed after NewWatcher
	cfg      Config
	store    Store
	board    Board
	parts    []Part
	log      *slog.Logger
	instance string
	nudge    chan struct{}
	orders   chan order
	again    chan string
	status   func() json.RawMessage

	known   atomic.Bool // there are settings: from the database, now or in an earlier life
	drained atomic.Bool // a person has asked this node to take no new buyers

	mu         sync.Mutex
	base       map[string]Document  // the newest that was put in force, without amendments; guarded by mu
	inForce    map[string]Document  // the same with amendments; guarded by mu
	amendments []Amendment          // that wait to be recorded, oldest first; guarded by mu
	amendedBy  map[string][]string  // ids of those in force, by document; guarded by mu
	over       []string             // ids of the last that were recorded; guarded by mu
	next       map[string]time.Time // when to apply again, on the database's clock; guarded by mu
	rejected   Versions             // guarded by mu
	seen       Versions             // guarded by mu
	nodes      int                  // guarded by mu
	offset     time.Duration        // of the database's clock from this process's; guarded by mu
	heard      time.Time            // when the database answered last; guarded by mu
	away       error                // why the last look failed; guarded by mu
	boardAway  bool                 // guarded by mu
	roll       map[string]string    // nodes that the board knew last, by instance; guarded by mu
}

// order is an amendment that was made on this node.
type order struct {
	amendment Amendment
	done      chan struct{}
}

// NewWatcher makes a watcher of parts. Nothing is in force before Start. status returns the node's
// status report; it may be nil.
func NewWatcher(cfg Config, store Store, board Board, parts []Part, status func() json.RawMessage, log *slog.Logger) (*Watcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if status == nil {
		status = func() json.RawMessage { return nil }
	}
	return &Watcher{
		cfg: cfg.withDefaults(), store: store, board: board, parts: parts, log: log, instance: newID(), status: status,
		nudge: make(chan struct{}, 1), orders: make(chan order), again: make(chan string, 1),
		base: make(map[string]Document), inForce: make(map[string]Document), amendedBy: make(map[string][]string),
		next: make(map[string]time.Time), rejected: make(Versions), seen: make(Versions), nodes: 1,
	}, nil
}

// newID returns the id of a version, an amendment or a process.
func newID() string { return rand.Text() }

// Start puts documents in force: the newest versions; if the database is away, those that were in
// force last; otherwise empty ones. Known reports whether there were any. It fails only if a part
// refuses even empty ones.
func (w *Watcher) Start(ctx context.Context) error {
	kept, ok := w.restore()
	w.known.Store(ok)
	for _, part := range w.parts {
		d, there := kept[part.Name]
		if there && w.put(part, d) == nil {
			w.mu.Lock()
			w.seen[part.Name] = d.Identity()
			w.mu.Unlock()
			continue
		}
		if err := w.put(part, Document{Name: part.Name}); err != nil {
			return fmt.Errorf("settings: %s: the defaults are refused: %w", part.Name, err)
		}
	}
	if w.look(ctx); w.State().Away == nil {
		return nil
	}
	if ok {
		w.log.Warn("settings can't be read at the start: those that this node had in force last are in force again", "err", w.State().Away)
	} else {
		w.log.Error("settings can't be read at the start, and this node never had any: nobody is served until they can be read",
			"err", w.State().Away)
	}
	return nil
}

// Run looks for newer versions until ctx ends, then tells the others that this node has left. The
// database and the board are asked outside the loop, so that expiries take effect in time, however
// long an answer takes.
func (w *Watcher) Run(ctx context.Context) {
	answers, notes := newAsking(w.ask), newAsking(w.askBoard)
	poll, due, look := time.NewTimer(w.pause()), time.NewTimer(w.untilDue()), time.NewTimer(0)
	defer poll.Stop()
	defer due.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			answers.wait()
			notes.wait()
			w.leave(context.WithoutCancel(ctx))
			return
		case <-w.nudge:
			answers.ask(ctx)
			notes.ask(ctx)
		case o := <-w.orders:
			w.amend([]Amendment{o.amendment})
			close(o.done)
			notes.ask(ctx)
		case <-poll.C:
			answers.ask(ctx)
		case <-look.C:
			notes.ask(ctx)
		case a := <-answers.out:
			more := w.take(ctx, a)
			answers.taken(ctx, more)
			if more {
				notes.ask(ctx)
			}
			poll.Reset(w.pause())
		case a := <-notes.out:
			notes.taken(ctx, w.takeBoard(a))
			look.Reset(w.boardPause())
		case <-due.C:
		case name := <-w.again:
			w.reapply(func(other string) bool { return other == name })
		}
		w.reapplyDue()
		due.Reset(w.untilDue())
	}
}

// asking makes requests in the background of a loop, one at a time. It belongs to one goroutine.
type asking[T any] struct {
	question func(context.Context) T
	out      chan T
	busy     bool
	again    bool
}

func newAsking[T any](question func(context.Context) T) *asking[T] {
	return &asking[T]{question: question, out: make(chan T, 1)}
}

// ask asks, or asks again when the answer to the question that is under way was taken.
func (a *asking[T]) ask(ctx context.Context) {
	if a.busy {
		a.again = true
		return
	}
	a.busy = true
	go func() { a.out <- a.question(ctx) }()
}

// taken is called when an answer was taken from out; more asks once more.
func (a *asking[T]) taken(ctx context.Context, more bool) {
	more = more || a.again
	a.busy, a.again = false, false
	if more {
		a.ask(ctx)
	}
}

// wait waits for the answer that is under way.
func (a *asking[T]) wait() {
	if a.busy {
		<-a.out
	}
}

// boardPause is until the next look at the board: as often as at the database while that is away,
// or while something waits to be recorded.
func (w *Watcher) boardPause() time.Duration {
	w.mu.Lock()
	calm := w.away == nil && len(w.amendments) == 0
	w.mu.Unlock()
	if calm {
		return time.Second
	}
	return w.pause()
}

// order puts an amendment that was made here in force.
func (w *Watcher) order(ctx context.Context, a Amendment) error {
	o := order{a, make(chan struct{})}
	select {
	case w.orders <- o:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-o.done
	return nil
}

// Nudge makes Run look now.
func (w *Watcher) Nudge() {
	select {
	case w.nudge <- struct{}{}:
	default: // it will look
	}
}

// leave removes this node from the list, because a stopped node doesn't lag.
func (w *Watcher) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	if err := w.store.LeaveSettings(ctx, w.instance); err != nil {
		w.log.Warn("this node stops, and can't say so: the others take it for one that is silent, until it is removed", "err", err)
	}
	if err := w.board.Unpin(ctx, boardNodes, w.instance); err != nil {
		w.log.Debug("note of this node stays on the board", "err", err)
	}
}

// pause is until the next look.
func (w *Watcher) pause() time.Duration { return w.cfg.Poll - mathrand.N(w.cfg.Poll/5+1) }

// untilDue returns the time until a document must be applied again; an hour if none must.
func (w *Watcher) untilDue() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, wait := time.Now().Add(w.offset), time.Hour
	for _, at := range w.next {
		if !at.IsZero() {
			wait = min(wait, at.Sub(now))
		}
	}
	return max(wait, 0)
}

// look asks the database, applies new versions, and reports that at once.
func (w *Watcher) look(ctx context.Context) {
	for range 2 {
		if !w.take(ctx, w.ask(ctx)) {
			return
		}
	}
}

// answer is the database's answer, and the time of the request.
type answer struct {
	update       Update
	began, ended time.Time
	err          error
}

// ask reports this node's versions to the database. Amendments are recorded first.
func (w *Watcher) ask(ctx context.Context) answer {
	a := w.exchange(ctx)
	w.mu.Lock()
	waiting := len(w.amendments) > 0
	w.mu.Unlock()
	if a.err != nil || !waiting {
		return a
	}
	short, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	if err := w.record(short); err != nil {
		w.log.Warn("changes made without the database can't be recorded yet", "err", err)
		return a
	}
	return w.exchange(ctx)
}

func (w *Watcher) exchange(ctx context.Context) answer {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	w.mu.Lock()
	beat := Beat{
		Instance: w.instance, Node: w.cfg.Node, Enforces: w.cfg.Enforces, Applied: w.note().Applied,
		Rejected: maps.Clone(w.rejected), Seen: maps.Clone(w.seen),
	}
	w.mu.Unlock()
	beat.Status = w.status()
	a := answer{began: time.Now()}
	a.update, a.err = w.store.ExchangeSettings(ctx, beat)
	a.ended = time.Now()
	return a
}

// take applies the database's answer, and reports whether there is something to write to it. If the
// database is away, nothing changes. Its clock counts as read in the middle of the call.
func (w *Watcher) take(ctx context.Context, a answer) bool {
	if a.err != nil {
		if ctx.Err() == nil {
			w.lookFailed(a.err)
		}
		return false
	}
	w.lookDone()
	nodes := max(a.update.Nodes, 1)
	w.mu.Lock()
	w.offset = a.update.Now.Sub(a.began.Add(a.ended.Sub(a.began) / 2))
	w.heard = a.ended
	moved := nodes != w.nodes
	w.nodes = nodes
	w.mu.Unlock()
	w.drained.Store(a.update.Drain)
	if moved {
		w.reapply(func(string) bool { return true })
	}
	applied := w.apply(a.update.Documents)
	if first := !w.known.Swap(true); applied || first {
		w.keep()
	}
	return applied
}

// apply puts other versions in force, and reports whether there was one. The database is right,
// also where its number is lower: then it was restored.
func (w *Watcher) apply(documents []Document) bool {
	any := false
	for _, d := range documents {
		for _, part := range w.parts {
			if part.Name != d.Name {
				continue
			}
			any = true
			w.mu.Lock()
			before := w.seen[d.Name]
			w.seen[d.Name] = d.Identity()
			w.mu.Unlock()
			if d.Version <= before.Number && before != (Version{}) {
				w.log.Warn("the database has an earlier version of the settings than this node: it was restored, and its version counts",
					"document", d.Name, "document_version", d.Version, "before", before.Number)
			}
			if err := w.put(part, d); err != nil {
				w.mu.Lock()
				w.rejected[d.Name] = d.Identity()
				w.mu.Unlock()
				w.log.Error("settings refused, the version before stays in force", "document", d.Name, "document_version", d.Version, "err", err)
				continue
			}
			w.mu.Lock()
			delete(w.rejected, d.Name)
			w.mu.Unlock()
			w.log.Info("settings in force", "document", d.Name, "document_version", d.Version)
		}
	}
	return any
}

// put puts one document in force, with its amendments. A panic of the part is a refusal.
func (w *Watcher) put(part Part, base Document) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	w.mu.Lock()
	waiting := slices.Clone(w.amendments)
	w.mu.Unlock()
	d, applied, recorded := w.amended(part, base, waiting)
	next, err := part.Apply(d, w.moment())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.base[d.Name], w.inForce[d.Name], w.amendedBy[d.Name], w.next[d.Name] = base, d, applied, next
	w.amendments = slices.DeleteFunc(w.amendments, func(a Amendment) bool { return slices.Contains(recorded, a.ID) })
	w.over = append(w.over, recorded...)
	w.over = w.over[max(len(w.over)-2*MaxAmendments, 0):]
	return nil
}

func (w *Watcher) moment() Moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Moment{time.Now().Add(w.offset), w.nodes}
}

// reapplyDue applies the documents again in which something ends now.
func (w *Watcher) reapplyDue() {
	now := w.moment().Now
	w.reapply(func(name string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		at := w.next[name]
		return !at.IsZero() && !at.After(now)
	})
}

// Reapply has a document applied once more: its part has found out something about it.
func (w *Watcher) Reapply(name string) {
	select {
	case w.again <- name:
	default: // there is one that was not taken yet, or Run has ended
	}
}

func (w *Watcher) reapply(due func(name string) bool) {
	for _, part := range w.parts {
		if !due(part.Name) {
			continue
		}
		w.mu.Lock()
		d, ok := w.base[part.Name]
		w.mu.Unlock()
		if !ok {
			continue
		}
		if err := w.put(part, d); err != nil {
			w.mu.Lock()
			w.next[part.Name] = time.Time{} // it would fail again, at once
			w.mu.Unlock()
			w.log.Error("settings in force can't be applied again", "document", d.Name, "document_version", d.Version, "err", err)
		}
	}
}

// lookFailed and lookDone log when the database goes away and comes back, once.
func (w *Watcher) lookFailed(err error) {
	w.mu.Lock()
	first := w.away == nil
	w.away = err
	w.mu.Unlock()
	if first {
		w.log.Warn("settings can't be looked at, what is in force stays", "err", err)
	}
}

func (w *Watcher) lookDone() {
	w.mu.Lock()
	back := w.away != nil
	w.away = nil
	w.mu.Unlock()
	if back {
		w.log.Info("settings can be looked at again")
	}
}

// State has the state and the counters of a watcher.
type State struct {
	Known    bool          // there are settings: read from the database, now or in an earlier life
	Applied  Versions      // in force
	Rejected Versions      // newest that was refused, of documents that had one
	Waiting  int           // amendments that wait to be recorded
	Nodes    int           // that enforce and were alive at the last look
	Age      time.Duration // since the last look
	Away     error         // why the last look failed; nil where it did not
}

// State returns the watcher's state.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := State{
		Known: w.known.Load(), Applied: w.note().Applied, Rejected: maps.Clone(w.rejected), Waiting: len(w.amendments), Nodes: w.nodes,
		Away: w.away,
	}
	if !w.heard.IsZero() {
		s.Age = time.Since(w.heard)
	}
	return s
}

// Known reports whether there are any settings: read from the database by this process, or kept by
// an earlier one.
func (w *Watcher) Known() bool { return w.known.Load() }

// Drained reports whether a person has asked this node to take no new buyers.
func (w *Watcher) Drained() bool { return w.drained.Load() }

// InForce returns a document as it is in force here, including amendments that wait to be recorded,
// and these amendments, oldest first. now is the database's clock.
func (w *Watcher) InForce(name string) (d Document, waiting []Amendment, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.amendments {
		if slices.Contains(w.amendedBy[name], w.amendments[i].ID) {
			waiting = append(waiting, w.amendments[i])
		}
	}
	return w.inForce[name], waiting, time.Now().Add(w.offset)
}

package settings

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/wait"
)

// Moment has the data that a part may need in addition to the document.
type Moment struct {
	Now   time.Time // the database's clock
	Nodes int       // live nodes, including this one; at least 1
}

// Part applies a document. Apply validates it, builds everything, and puts it in force at once; an
// error means that nothing has changed. Only one goroutine at a time calls it: with every new
// version, with the same version when the number of nodes has changed, and at the time that it
// returned as next (on the database's clock; zero means never).
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

	known   atomic.Bool // there are settings, from the database or kept by an earlier process
	drained atomic.Bool // a person has asked this node to take no new buyers

	mu         sync.Mutex
	base       map[string]Document  // the newest documents in force, without amendments; guarded by mu
	inForce    map[string]Document  // the same documents with amendments; guarded by mu
	amendments []Amendment          // those that wait to be recorded, oldest first; guarded by mu
	amendedBy  map[string][]string  // ids of the amendments in force, by document; guarded by mu
	over       []string             // ids of the amendments that were recorded last; guarded by mu
	next       map[string]time.Time // when to apply again, on the database's clock; guarded by mu
	rejected   Versions             // guarded by mu
	seen       Versions             // guarded by mu
	nodes      int                  // guarded by mu
	offset     time.Duration        // how far the database's clock is ahead of this process's; guarded by mu
	heard      time.Time            // when the database answered last; guarded by mu
	away       error                // why the last look failed; guarded by mu
	boardAway  bool                 // guarded by mu
	roll       map[string]string    // the nodes that were last on the board, by instance; guarded by mu
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

// Start puts documents in force: the newest versions; if the database can't be reached, those that
// were last in force; without these, empty ones. Known reports whether there were any. It fails
// only if a part refuses even empty ones.
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
		w.log.Warn("settings can't be read at the start: the last ones of this node are in force again", "err", w.State().Away)
	} else {
		w.log.Error("settings can't be read at the start, and this node has none yet: it serves nobody until they can be read",
			"err", w.State().Away)
	}
	return nil
}

// Run looks for newer versions until ctx ends, and then reports that this node has left. The
// database and the board are asked outside of the loop, so that expiries take effect in time even
// if an answer takes long.
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

// ask makes a request, or makes another one after the answer to the current one was taken.
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

// wait waits for the answer to the current request.
func (a *asking[T]) wait() {
	if a.busy {
		<-a.out
	}
}

// boardPause is the time until the next look at the board. It is as short as for the database while
// the database can't be reached, or while something waits to be recorded.
func (w *Watcher) boardPause() time.Duration {
	w.mu.Lock()
	calm := w.away == nil && len(w.amendments) == 0
	w.mu.Unlock()
	if calm {
		return time.Second
	}
	return w.pause()
}

// order puts an amendment in force that was made on this node.
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
		w.log.Warn("this node stops, but can't report it: to the others it seems silent, until it is removed", "err", err)
	}
	if err := w.board.Unpin(ctx, boardNodes, w.instance); err != nil {
		w.log.Debug("note of this node stays on the board", "err", err)
	}
}

// pause is the time until the next look: until the next tick, but no longer than it may be.
func (w *Watcher) pause() time.Duration { return min(wait.UntilTick(w.cfg.Poll), w.cfg.Poll) }

// untilDue returns the time until a document must be applied again; an hour if none must.
func (w *Watcher) untilDue() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, left := time.Now().Add(w.offset), time.Hour
	for _, at := range w.next {
		if !at.IsZero() {
			left = min(left, at.Sub(now))
		}
	}
	return max(left, 0)
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
// database can't be reached, nothing changes. Its clock counts as read in the middle of the call.
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

// apply puts new versions in force, and reports whether there were any. The database is right even
// if its number is lower, because then it was restored.
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

// reapplyDue applies the documents again in which something ends at this time.
func (w *Watcher) reapplyDue() {
	now := w.moment().Now
	w.reapply(func(name string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		at := w.next[name]
		return !at.IsZero() && !at.After(now)
	})
}

// Reapply makes the watcher apply a document once more, because its part has new data about it.
func (w *Watcher) Reapply(name string) {
	select {
	case w.again <- name:
	default: // a value is there already, or Run has ended
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
			w.next[part.Name] = time.Time{} // otherwise it would fail again at once
			w.mu.Unlock()
			w.log.Error("settings in force can't be applied again", "document", d.Name, "document_version", d.Version, "err", err)
		}
	}
}

// lookFailed and lookDone log once when the database becomes unreachable, and once when it is back.
func (w *Watcher) lookFailed(err error) {
	w.mu.Lock()
	first := w.away == nil
	w.away = err
	w.mu.Unlock()
	if first {
		w.log.Warn("settings can't be read from the database, the present ones stay in force", "err", err)
	}
}

func (w *Watcher) lookDone() {
	w.mu.Lock()
	back := w.away != nil
	w.away = nil
	w.mu.Unlock()
	if back {
		w.log.Info("settings can be read from the database again")
	}
}

// State has the state and the counters of a watcher.
type State struct {
	Known    bool          // there are settings, from the database or kept by an earlier process
	Applied  Versions      // in force
	Rejected Versions      // the newest refused version of each document that had one
	Waiting  int           // amendments that wait to be recorded
	Nodes    int           // gateways that were alive at the last look
	Age      time.Duration // since the last look
	Away     error         // why the last look failed; nil if it succeeded
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

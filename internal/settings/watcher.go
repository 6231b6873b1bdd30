package settings

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// Moment is what a part may need to know beside the document.
type Moment struct {
	Now   time.Time // the database's clock
	Nodes int       // that are alive, this one included; at least 1
}

// Part applies a document. Apply validates it, builds everything, and puts it in force at one stroke; an error means that nothing
// has changed. It is called from one goroutine at a time: with every newer version, with the one in force when the number of nodes
// has changed, and at the time that it returned as next (on the database's clock; zero: there is none).
type Part struct {
	Name  string
	Apply func(d Document, m Moment) (next time.Time, err error)
}

// Watcher keeps a node's documents in force. Its methods are safe for concurrent use.
type Watcher struct {
	// fixed after NewWatcher
	cfg      Config
	store    Store
	parts    []Part
	log      *slog.Logger
	instance string
	nudge    chan struct{}

	mu       sync.Mutex
	inForce  map[string]Document  // guarded by mu
	next     map[string]time.Time // when to apply again, on the database's clock; guarded by mu
	rejected Versions             // guarded by mu
	seen     Versions             // guarded by mu
	nodes    int                  // guarded by mu
	offset   time.Duration        // of the database's clock from this process's; guarded by mu
	heard    time.Time            // when the database answered last; guarded by mu
	away     bool                 // the last look failed; guarded by mu
}

// NewWatcher makes a watcher of parts. Nothing is in force before Start.
func NewWatcher(cfg Config, store Store, parts []Part, log *slog.Logger) (*Watcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Watcher{
		cfg: cfg.withDefaults(), store: store, parts: parts, log: log, instance: rand.Text(), nudge: make(chan struct{}, 1),
		inForce: make(map[string]Document), next: make(map[string]time.Time), rejected: make(Versions), seen: make(Versions), nodes: 1,
	}, nil
}

// Start puts in force what is there: the newest versions, or where the database is away what was in force last, or else documents
// that nobody wrote. It fails only when a part refuses even those.
func (w *Watcher) Start(ctx context.Context) error {
	kept := w.restore()
	for _, part := range w.parts {
		d, ok := kept[part.Name]
		if ok && w.put(part, d) == nil {
			continue
		}
		if err := w.put(part, Document{Name: part.Name}); err != nil {
			return fmt.Errorf("settings: %s: the defaults are refused: %w", part.Name, err)
		}
	}
	w.look(ctx)
	return nil
}

// Run looks for newer versions until ctx ends, then tells the others that this node has left. The database is asked beside the loop, so
// that what ends meanwhile ends in time, however long the answer takes.
func (w *Watcher) Run(ctx context.Context) {
	answers := make(chan answer, 1)
	asking, again := false, false
	ask := func() {
		if asking {
			again = true
			return
		}
		asking = true
		go func() { answers <- w.ask(ctx) }()
	}
	poll, due := time.NewTimer(w.pause()), time.NewTimer(w.untilDue())
	defer poll.Stop()
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			if asking {
				<-answers
			}
			w.leave(context.WithoutCancel(ctx))
			return
		case <-w.nudge:
			ask()
		case <-poll.C:
			ask()
		case a := <-answers:
			asking = false
			if more := w.take(ctx, a); more || again {
				again = false
				ask()
			}
			poll.Reset(w.pause())
		case <-due.C:
		}
		w.reapplyDue()
		due.Reset(w.untilDue())
	}
}

// Nudge makes Run look now.
func (w *Watcher) Nudge() {
	select {
	case w.nudge <- struct{}{}:
	default: // it will look
	}
}

// leave forgets this node: one that stopped in order lags behind nothing.
func (w *Watcher) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	if err := w.store.LeaveSettings(ctx, w.instance); err != nil {
		w.log.Debug("other nodes will take this one for silent", "err", err)
	}
}

// pause is until the next look.
func (w *Watcher) pause() time.Duration { return w.cfg.Poll - mathrand.N(w.cfg.Poll/5+1) }

// untilDue is until something has to be applied again; where nothing has, an hour as good as any.
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

// look asks the database, applies what is new, and at once says so.
func (w *Watcher) look(ctx context.Context) {
	for range 2 {
		if !w.take(ctx, w.ask(ctx)) {
			return
		}
	}
}

// answer is what the database said, and when it was asked.
type answer struct {
	update       Update
	began, ended time.Time
	err          error
}

// ask says what this node runs, and what it knows.
func (w *Watcher) ask(ctx context.Context) answer {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	w.mu.Lock()
	beat := Beat{
		Instance: w.instance, Node: w.cfg.Node, Applied: make(Versions), Rejected: maps.Clone(w.rejected), Seen: maps.Clone(w.seen),
	}
	for _, part := range w.parts {
		beat.Applied[part.Name] = w.inForce[part.Name].Version
	}
	w.mu.Unlock()
	a := answer{began: time.Now()}
	a.update, a.err = w.store.ExchangeSettings(ctx, beat)
	a.ended = time.Now()
	return a
}

// take applies what the database said, and reports whether there is something to tell it. A database that is away leaves everything as
// it is. Its clock is taken to have been read in the middle of the call.
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
	if moved {
		w.reapply(func(string) bool { return true })
	}
	applied := w.apply(a.update.Documents)
	forgot := w.forget()
	if applied || forgot {
		w.keep()
	}
	return applied || forgot
}

// apply puts newer versions in force, and reports whether there was one.
func (w *Watcher) apply(documents []Document) bool {
	any := false
	for _, d := range documents {
		for _, part := range w.parts {
			if part.Name != d.Name {
				continue
			}
			any = true
			w.mu.Lock()
			w.seen[d.Name] = d.Version
			w.mu.Unlock()
			if err := w.put(part, d); err != nil {
				w.mu.Lock()
				w.rejected[d.Name] = d.Version
				w.mu.Unlock()
				w.log.Error("settings refused, the version before stays in force", "document", d.Name, "version", d.Version, "err", err)
				continue
			}
			w.log.Info("settings in force", "document", d.Name, "version", d.Version)
		}
	}
	return any
}

// forget takes out of force what was kept on disk of a document that the database doesn't have, and reports whether there was one: the
// file is of another installation. Its first answer names every document that there is.
func (w *Watcher) forget() bool {
	any := false
	for _, part := range w.parts {
		w.mu.Lock()
		foreign := w.seen[part.Name] == 0 && w.inForce[part.Name].Version > 0
		w.mu.Unlock()
		if !foreign {
			continue
		}
		w.log.Warn("settings kept on disk are of another installation", "path", w.cfg.Path, "document", part.Name)
		if err := w.put(part, Document{Name: part.Name}); err != nil {
			w.log.Error("the defaults are refused", "document", part.Name, "err", err)
			continue
		}
		any = true
	}
	return any
}

// put puts one document in force. A panic of the part is a refusal.
func (w *Watcher) put(part Part, d Document) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	next, err := part.Apply(d, w.moment())
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.inForce[d.Name], w.next[d.Name] = d, next
	w.mu.Unlock()
	return nil
}

func (w *Watcher) moment() Moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Moment{time.Now().Add(w.offset), w.nodes}
}

// reapplyDue applies again what has something that ends now.
func (w *Watcher) reapplyDue() {
	now := w.moment().Now
	w.reapply(func(name string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		at := w.next[name]
		return !at.IsZero() && !at.After(now)
	})
}

func (w *Watcher) reapply(due func(name string) bool) {
	for _, part := range w.parts {
		if !due(part.Name) {
			continue
		}
		w.mu.Lock()
		d, ok := w.inForce[part.Name]
		w.mu.Unlock()
		if !ok {
			continue
		}
		if err := w.put(part, d); err != nil {
			w.mu.Lock()
			w.next[part.Name] = time.Time{} // it would fail again, at once
			w.mu.Unlock()
			w.log.Error("settings in force can't be applied again", "document", d.Name, "version", d.Version, "err", err)
		}
	}
}

// lookFailed and lookDone log when the database goes away and comes back, once.
func (w *Watcher) lookFailed(err error) {
	w.mu.Lock()
	first := !w.away
	w.away = true
	w.mu.Unlock()
	if first {
		w.log.Warn("settings can't be looked at, what is in force stays", "err", err)
	}
}

func (w *Watcher) lookDone() {
	w.mu.Lock()
	back := w.away
	w.away = false
	w.mu.Unlock()
	if back {
		w.log.Info("settings can be looked at again")
	}
}

// State is what a watcher has done.
type State struct {
	Applied  Versions      // in force
	Rejected Versions      // newest that was refused, of documents that had one
	Nodes    int           // that were alive at the last look
	Age      time.Duration // since the last look
}

// State returns what the watcher has done.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := State{Applied: make(Versions), Rejected: maps.Clone(w.rejected), Nodes: w.nodes}
	for name, d := range w.inForce {
		s.Applied[name] = d.Version
	}
	if !w.heard.IsZero() {
		s.Age = time.Since(w.heard)
	}
	return s
}

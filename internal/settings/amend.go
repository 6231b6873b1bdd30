package settings

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Amendment is a change of a document that was made while the database couldn't be reached. It is
// in force on top of the newest version that a node has, and is recorded, as a version of its own,
// when the database is back.
type Amendment struct {
	ID       string          `json:"id"` // random
	Document string          `json:"document"`
	At       time.Time       `json:"at"`   // the database's clock, as the node of its author knew it
	Node     string          `json:"node"` // where it was made
	Author   Author          `json:"author"`
	Body     json.RawMessage `json:"body"` // the change, in the form of the document's part
}

// ErrRecorded is the answer of Part.Amend if a document has the amendment already.
var ErrRecorded = errors.New("the amendment is recorded already")

// MaxAmendments is how many amendments of all documents may wait to be recorded.
const MaxAmendments = 64

// ErrTooManyAmendments means that no further amendment is accepted until some are recorded.
var ErrTooManyAmendments = errors.New("too many changes wait to be recorded")

// Board has records that nodes leave for one another while the database can't be reached;
// *inventory.Stock implements it in Redis. Notes are lost with the Redis, so a node pins the
// records that it needs again. Methods are safe for concurrent use.
type Board interface {
	// Pin stores a note under a name, and replaces an earlier one.
	Pin(ctx context.Context, board, name, text string) error
	// Unpin removes notes.
	Unpin(ctx context.Context, board string, names ...string) error
	// Notes returns all notes by their names.
	Notes(ctx context.Context, board string) (map[string]string, error)
}

// The boards: one has the amendments by their ids, the other has the versions of each enforcing
// node by its instance.
const (
	boardAmendments = "amendments"
	boardNodes      = "nodes"
)

// nodeNote is a node's report on the board.
type nodeNote struct {
	Node    string   `json:"node"`
	Applied Versions `json:"applied"`
	Amended []string `json:"amended,omitempty"` // ids of the amendments in force
}

// sortAmendments sorts by time, so that every node applies them in one order.
func sortAmendments(all []Amendment) {
	slices.SortFunc(all, func(a, b Amendment) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
	})
}

// amended returns the document with the amendments of it that aren't in it yet, their ids, and the
// ids of those that are done: they are in it, or the part refuses them.
func (w *Watcher) amended(part Part, base Document, all []Amendment) (d Document, applied, recorded []string) {
	d = base
	for i := range all {
		a := &all[i]
		if a.Document != base.Name || part.Amend == nil {
			continue
		}
		body, err := part.Amend(d.Body, *a)
		switch {
		case errors.Is(err, ErrRecorded):
			recorded = append(recorded, a.ID)
		case err != nil:
			w.log.Error("change that waits to be recorded is refused, and given up", "document", a.Document, "change", a.ID, "err", err)
			recorded = append(recorded, a.ID)
		default:
			d.Body = body
			applied = append(applied, a.ID)
		}
	}
	return d, applied, recorded
}

// record writes the amendments into the database, oldest first, each as a version of its own. If
// another node does the same, one of the two writes it and the other one notices.
func (w *Watcher) record(ctx context.Context) error {
	w.mu.Lock()
	waiting := slices.Clone(w.amendments)
	w.mu.Unlock()
	for i := range waiting {
		for _, part := range w.parts {
			if part.Name != waiting[i].Document || part.Amend == nil {
				continue
			}
			if err := w.recordOne(ctx, part, &waiting[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Watcher) recordOne(ctx context.Context, part Part, a *Amendment) error {
	for {
		d, _, err := w.store.FindSettings(ctx, a.Document)
		if err != nil {
			return err
		}
		body, err := part.Amend(d.Body, *a)
		if err != nil { // it is recorded, or wrong and not in force
			return nil
		}
		err = w.store.PutSettings(ctx, Document{d.Name, d.Version + 1, newID(), body}, a.Author)
		if err == nil {
			w.log.Info("change that was made without the database is recorded", "document", a.Document, "change", a.ID,
				"document_version", d.Version+1)
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// boardAnswer is the board's answer.
type boardAnswer struct {
	notes map[string]string // the amendments; nil if the board couldn't be asked
	roll  map[string]string // the nodes, by instance
	err   error
}

// askBoard reads the amendments, pins those that only this node knows, removes recorded ones, and
// reports this node's versions.
func (w *Watcher) askBoard(ctx context.Context) (a boardAnswer) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	w.mu.Lock()
	own, over := slices.Clone(w.amendments), slices.Clone(w.over)
	note := w.note()
	w.mu.Unlock()
	text, err := json.Marshal(note)
	if err != nil {
		return boardAnswer{err: err}
	}
	if w.cfg.Enforces {
		if a.err = w.board.Pin(ctx, boardNodes, w.instance, string(text)); a.err != nil {
			return a
		}
	}
	if a.notes, a.err = w.board.Notes(ctx, boardAmendments); a.err != nil {
		return a
	}
	var old []string
	for _, id := range over {
		if _, there := a.notes[id]; there {
			old = append(old, id)
			delete(a.notes, id)
		}
	}
	if len(old) > 0 {
		if a.err = w.board.Unpin(ctx, boardAmendments, old...); a.err != nil {
			return a
		}
	}
	for i := range own {
		if _, there := a.notes[own[i].ID]; there || slices.Contains(over, own[i].ID) {
			continue
		}
		if a.err = pinAmendment(ctx, w.board, &own[i]); a.err != nil {
			return a
		}
	}
	if a.roll, a.err = w.board.Notes(ctx, boardNodes); a.err != nil {
		return a
	}
	a.err = w.succeed(ctx, a.roll)
	return a
}

// succeed removes what earlier processes with this one's name have left on the board.
func (w *Watcher) succeed(ctx context.Context, roll map[string]string) error {
	var old []string
	for instance, node := range rollOf(roll) {
		if node == w.cfg.Node && instance != w.instance {
			old = append(old, instance)
			delete(roll, instance)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return w.board.Unpin(ctx, boardNodes, old...)
}

func pinAmendment(ctx context.Context, board Board, a *Amendment) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return board.Pin(ctx, boardAmendments, a.ID, string(text))
}

// note returns this node's report. The caller holds mu.
func (w *Watcher) note() nodeNote {
	n := nodeNote{Node: w.cfg.Node, Applied: make(Versions)}
	for _, part := range w.parts {
		d := w.base[part.Name]
		n.Applied[part.Name] = d.Identity()
		n.Amended = append(n.Amended, w.amendedBy[part.Name]...)
	}
	return n
}

// takeBoard puts the board's content in force, and reports whether there is something to write to
// it.
func (w *Watcher) takeBoard(a boardAnswer) bool {
	w.mu.Lock()
	w.boardAway = a.err != nil
	if a.roll != nil {
		w.roll = rollOf(a.roll)
	}
	w.mu.Unlock()
	var fresh []Amendment
	for id, text := range a.notes {
		var one Amendment
		if err := json.Unmarshal([]byte(text), &one); err != nil || one.ID != id {
			w.log.Warn("note on the board can't be read", "note", id, "err", err)
			continue
		}
		fresh = append(fresh, one)
	}
	return w.amend(fresh)
}

// rollOf returns the names of the nodes that have notes on the board, by instance.
func rollOf(notes map[string]string) map[string]string {
	roll := make(map[string]string, len(notes))
	for instance, text := range notes {
		var n nodeNote
		if json.Unmarshal([]byte(text), &n) == nil {
			roll[instance] = n.Node
		}
	}
	return roll
}

// amend puts further amendments in force, and reports whether any was new.
func (w *Watcher) amend(more []Amendment) bool {
	w.mu.Lock()
	before := len(w.amendments)
	touched := make(map[string]bool)
	for i := range more {
		a := &more[i]
		known := slices.ContainsFunc(w.amendments, func(b Amendment) bool { return b.ID == a.ID })
		if known || slices.Contains(w.over, a.ID) || len(w.amendments) >= MaxAmendments {
			continue
		}
		w.amendments = append(w.amendments, *a)
		touched[a.Document] = true
	}
	sortAmendments(w.amendments)
	changed := len(w.amendments) != before
	w.mu.Unlock()
	if !changed {
		return false
	}
	w.reapply(func(name string) bool { return touched[name] })
	w.keep()
	return true
}

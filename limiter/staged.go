package limiter

import (
	"slices"
	"time"
)

// Staged is a change of the policies that only some nodes have in force yet. The document alone
// tells each node what it must enforce, so no process has to live until the end of the change.
type Staged struct {
	ID       string   `json:"id"` // random
	Policies []Policy `json:"policies"`
	// Nodes are the names of the nodes that enforce it. The others keep the document's own
	// policies.
	Nodes []string `json:"nodes"`
	// MaxRefused is the percentage of purchases that the limits of one of these nodes may refuse
	// within Seconds. Above it, the node returns to the document's own policies, and takes the
	// change back for all nodes.
	MaxRefused float64 `json:"max_refused_percent"`
	Seconds    int     `json:"within_seconds"`
	Since      End     `json:"since"`
	// CompletesAt puts the change in force on all nodes. The zero time means never: then a person
	// completes it.
	CompletesAt End `json:"completes_at,omitzero"`
}

// MaxStagedNodes bounds Staged.Nodes.
const MaxStagedNodes = MaxNodes

// complete makes a staged change a part of the document if its time has come.
func (d *Document) complete(now time.Time) {
	if s := d.Staged; s != nil && !s.CompletesAt.IsZero() && !s.CompletesAt.After(now) {
		d.Policies, d.Staged = s.Policies, nil
	}
}

// On returns the document that a node has in force at a time, as At does, and also the change that
// the node tries, if it does. It never tries the change that refused names.
func (d *Document) On(node, refused string, now time.Time) (out Document, tried *Staged, next time.Time) {
	mine := *d
	mine.complete(now)
	staged := mine.Staged
	mine.Staged = nil
	if staged != nil && staged.ID != refused && slices.Contains(staged.Nodes, node) {
		mine.Policies, tried = staged.Policies, staged
	}
	out, next = mine.At(now)
	if staged != nil && !staged.CompletesAt.IsZero() && (next.IsZero() || staged.CompletesAt.Before(next)) {
		next = staged.CompletesAt.Time
	}
	return out, tried, next
}

package settings

import (
	"context"
	"errors"
	"time"
)

// The documents.
const (
	Limits   = "limits"
	Switches = "switches"
)

// ErrConflict is the answer to a change of a version that isn't the newest one any more.
var ErrConflict = errors.New("changed by somebody else in the meantime")

// Document is one version of a document. The zero version, of a document that nobody ever wrote, has no body.
type Document struct {
	Name    string
	Version int64
	Body    []byte // JSON; not to be changed
}

// Author says who changes something and why.
type Author struct {
	Actor   string
	Token   string // the id of the admin token
	Address string // from where
	Reason  string
}

// Versions is a version for each document, by name.
type Versions map[string]int64

// Beat is what a node says of itself. Instance is different in every process; Node names it for people.
type Beat struct {
	Instance string
	Node     string
	Applied  Versions // in force
	Rejected Versions // newest that was refused
	Seen     Versions // newest that is known here, refused ones included
}

// Update is what a node is told.
type Update struct {
	Now       time.Time  // the database's clock
	Nodes     int        // that are alive, this one included
	Documents []Document // those with a newer version than Seen
}

// Member is a node as the others see it.
type Member struct {
	Node     string
	Applied  Versions
	Rejected Versions
	Silent   time.Duration // since it was heard of last, on the database's clock
}

// How long a node that says nothing is taken for alive, and how long it is still counted as one that may serve: a node that
// stops in order says so. One of the same name forgets it at once.
const (
	AliveFor   = 1500 * time.Millisecond
	CountedFor = 30 * time.Second
)

// Store keeps the documents and who is there; internal/sqlite and internal/postgres implement it. Methods are safe for
// concurrent use by many processes.
type Store interface {
	// ExchangeSettings tells of a node, and returns what it doesn't know yet.
	ExchangeSettings(ctx context.Context, b Beat) (Update, error)
	// LeaveSettings forgets a node.
	LeaveSettings(ctx context.Context, instance string) error
	// SettingsMembers returns the nodes that were heard of within CountedFor, by their names.
	SettingsMembers(ctx context.Context) ([]Member, error)
	// FindSettings returns the newest version of a document, and the database's time.
	FindSettings(ctx context.Context, name string) (Document, time.Time, error)
	// PutSettings makes body the version after the given one, with a change record of kind name and that version's number as
	// its key; ErrConflict where version isn't the newest. A nil error means that it is written.
	PutSettings(ctx context.Context, name string, version int64, body []byte, by Author) (int64, error)
}

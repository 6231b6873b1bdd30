package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The documents.
const (
	Limits   = "limits"
	Switches = "switches"
	Webhooks = "webhooks"
)

// ErrConflict means that the changed version is no longer the newest one.
var ErrConflict = errors.New("changed by somebody else in the meantime")

// Names returns the names of all documents.
func Names() []string { return []string{Limits, Switches, Webhooks} }

// Document is one version of a document. The zero version, before the first write, has no ID and no
// body.
type Document struct {
	Name    string
	Version int64
	ID      string // random, of the version: see Version
	Body    []byte // JSON; not to be changed
}

// Identity returns the document's version.
func (d *Document) Identity() Version { return Version{d.Version, d.ID} }

// Version names one version of a document. A restored database uses numbers again, so versions are
// equal only if both number and ID are. The zero value is the version before the first write.
type Version struct {
	Number int64  `json:"version"`
	ID     string `json:"id,omitempty"`
}

// ErrNoMember means that no node with that name is known.
var ErrNoMember = errors.New("no such node is known")

// Author is the author of a change, with the reason.
type Author struct {
	Actor   string
	Token   string // the id of the admin token
	Address string // the client's address
	Reason  string
}

// Versions is a version for each document, by name. A missing document is at the zero version.
type Versions map[string]Version

// Beat is a node's report about itself. Instance is different in every process; Node names it for
// people.
type Beat struct {
	Instance string
	Node     string
	Enforces bool            // it is a gateway: a change isn't in force everywhere before it is there
	Applied  Versions        // in force
	Rejected Versions        // newest that was refused
	Seen     Versions        // newest that is known here, refused ones included
	Status   json.RawMessage // its state, for people; nil says nothing
}

// Update is the answer to a Beat.
type Update struct {
	Now       time.Time  // the database's clock
	Nodes     int        // that enforce and are alive, this one included if it does
	Drain     bool       // a person has asked this node to take no new buyers
	Documents []Document // documents whose newest version differs from the one in Seen; the zero version for one that no longer exists
}

// News returns the newest documents that a node with the versions seen doesn't have yet. The stores
// use it for their answers.
func News(seen Versions, newest []Document) (news []Document) {
	exists := make(map[string]bool)
	for _, d := range newest {
		exists[d.Name] = true
		if d.Identity() != seen[d.Name] {
			news = append(news, d)
		}
	}
	for _, name := range Names() {
		if !exists[name] && seen[name] != (Version{}) {
			news = append(news, Document{Name: name})
		}
	}
	return news
}

// Member is a known node. A node is known until it leaves, or until a person removes it.
type Member struct {
	Instance string
	Node     string
	Enforces bool
	Applied  Versions
	Rejected Versions
	Drain    bool            // a person has asked it to take no new buyers
	Silent   time.Duration   // since its last report, on the database's clock
	Status   json.RawMessage // its last report; nil if there is none
}

// KindNode is the kind of the change records of RemoveMember and DrainMember; their key is the
// node's name.
const KindNode = "node"

// MemberRecord is a node in a change record, as JSON.
func MemberRecord(drain bool) string { return fmt.Sprintf(`{"drain":%v}`, drain) }

// AliveFor is how long a silent node counts as alive. After that it is still known, because it may
// be cut off and still serve. A node that stops cleanly leaves the list. A new node of the same
// name replaces a silent one.
const AliveFor = 1500 * time.Millisecond

// Store keeps the documents and the list of nodes; internal/sqlite and internal/postgres implement
// it. Methods are safe for concurrent use by many processes.
type Store interface {
	// ExchangeSettings records a node's report, and returns the news for it.
	ExchangeSettings(ctx context.Context, b Beat) (Update, error)
	// LeaveSettings forgets a node.
	LeaveSettings(ctx context.Context, instance string) error
	// SettingsMembers returns the known nodes, sorted by name.
	SettingsMembers(ctx context.Context) ([]Member, error)
	// RemoveMember forgets the nodes of that name, and DrainMember asks them to take no new buyers,
	// or to take some again. Both make a change record of kind node. ErrNoMember if there is no
	// such node. If a removed node is alive, it is known again at its next beat.
	RemoveMember(ctx context.Context, node string, by Author) error
	DrainMember(ctx context.Context, node string, drain bool, by Author) error
	// FindSettings returns the newest version of a document, and the database's time.
	FindSettings(ctx context.Context, name string) (Document, time.Time, error)
	// PutSettings writes a version, with a change record of kind d.Name and the version's number as
	// its key; ErrConflict if the newest version isn't the one before it.
	PutSettings(ctx context.Context, d Document, by Author) error
}

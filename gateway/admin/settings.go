package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
)

// settingsDoc has the newest version of each document, and the versions in force on the nodes.
type settingsDoc struct {
	Documents []documentDoc `json:"documents"`
	Nodes     []memberDoc   `json:"nodes"`
}

type documentDoc struct {
	Name string `json:"name"`
	settings.Version
}

// memberDoc has the versions that a gateway has in force.
type memberDoc struct {
	Node     string            `json:"node"`
	State    string            `json:"state"`
	SilentMS int64             `json:"silent_ms"`
	Applied  settings.Versions `json:"applied"`
	Refused  settings.Versions `json:"refused"` // the newest version that it refused as invalid
	NotYet   []string          `json:"not_yet"` // the documents whose newest version it doesn't have in force
}

// The states of a node, from normal to bad.
const (
	nodeCurrent  = "current"
	nodeBehind   = "behind"   // it doesn't have the newest version yet
	nodeRefusing = "refusing" // the newest version is invalid for it, so it keeps the one before
	nodeSilent   = "silent"   // it has not reported for longer than a live node does
)

// documentPatience bounds how long a document of the settings is waited for. People ask for them in
// an emergency, when the database may be silent.
const documentPatience = 3 * time.Second

// document reads the newest version of a document of the settings, and the database's time.
func (c *call) document(ctx context.Context, name string) (settings.Document, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, documentPatience)
	defer cancel()
	stored, now, err := c.server.deps.Settings.Store.FindSettings(ctx, name)
	if err != nil {
		return stored, now, failed("read the "+name, err)
	}
	return stored, now, nil
}

// newestSettings reads which version there is of each document.
func (c *call) newestSettings(ctx context.Context) ([]documentDoc, error) {
	var out []documentDoc
	for _, name := range settings.Names() {
		stored, _, err := c.document(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, documentDoc{name, stored.Identity()})
	}
	return out, nil
}

// members reads the nodes, and which version there is of each document.
func (c *call) members() ([]settings.Member, []documentDoc, error) {
	documents, err := c.newestSettings(c.context())
	if err != nil {
		return nil, nil, err
	}
	members, err := c.server.deps.Settings.Store.SettingsMembers(c.context())
	if err != nil {
		return nil, nil, failed("read which nodes there are", err)
	}
	return members, documents, nil
}

// getSettings answers GET /admin/v1/settings.
func (c *call) getSettings() error {
	members, documents, err := c.members()
	if err != nil {
		return err
	}
	doc := settingsDoc{Documents: documents, Nodes: []memberDoc{}}
	for i := range members {
		if members[i].Enforces {
			doc.Nodes = append(doc.Nodes, newMemberDoc(&members[i], documents))
		}
	}
	return c.json(http.StatusOK, doc)
}

func newMemberDoc(m *settings.Member, newest []documentDoc) memberDoc {
	doc := memberDoc{
		Node: m.Node, State: nodeCurrent, SilentMS: m.Silent.Milliseconds(), Applied: settings.Versions{}, Refused: settings.Versions{},
		NotYet: []string{},
	}
	for _, d := range newest {
		applied, isApplied := m.Applied[d.Name]
		refused, isRefused := m.Rejected[d.Name]
		if !m.Enforces && !isApplied {
			continue // a worker has no limits
		}
		doc.Applied[d.Name] = applied
		if isRefused {
			doc.Refused[d.Name] = refused
		}
		switch {
		case applied == d.Version:
			continue
		case isRefused && refused == d.Version:
			doc.State = nodeRefusing
		case doc.State == nodeCurrent:
			doc.State = nodeBehind
		}
		doc.NotYet = append(doc.NotYet, d.Name)
	}
	if m.Silent > settings.AliveFor {
		doc.State = nodeSilent
	}
	return doc
}

// nodeDoc is a node: its versions in force, and its last status report.
type nodeDoc struct {
	memberDoc
	Drained bool            `json:"drained"` // a person has asked it to take no new buyers
	Status  json.RawMessage `json:"status"`  // null if nothing is known
}

type nodesDoc struct {
	Nodes []nodeDoc `json:"nodes"`
}

// listNodes answers GET /admin/v1/nodes.
func (c *call) listNodes() error {
	members, documents, err := c.members()
	if err != nil {
		return err
	}
	doc := nodesDoc{Nodes: []nodeDoc{}}
	for i := range members {
		m := &members[i]
		doc.Nodes = append(doc.Nodes, nodeDoc{newMemberDoc(m, documents), m.Drain, m.Status})
	}
	return c.json(http.StatusOK, doc)
}

// drainNode answers POST /admin/v1/nodes/{node}/drain.
func (c *call) drainNode() error { return c.setDrain(true) }

// undrainNode answers POST /admin/v1/nodes/{node}/undrain.
func (c *call) undrainNode() error { return c.setDrain(false) }

func (c *call) setDrain(drain bool) error {
	reason, err := c.onlyReason()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	node := c.r.PathValue("node")
	if err := c.server.deps.Settings.Store.DrainMember(ctx, node, drain, settings.Author(c.author(reason))); err != nil {
		return c.nodeError("ask the node", err)
	}
	return c.json(http.StatusOK, struct {
		Node    string `json:"node"`
		Drained bool   `json:"drained"`
	}{node, drain})
}

// removeNode answers DELETE /admin/v1/nodes/{node}.
func (c *call) removeNode() error {
	by, err := c.bodilessAuthor()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if err := c.server.deps.Settings.Remove(ctx, c.r.PathValue("node"), settings.Author(by)); err != nil {
		return c.nodeError("remove the node", err)
	}
	return c.none()
}

func (c *call) nodeError(what string, err error) error {
	if errors.Is(err, settings.ErrNoMember) {
		return refuse(problem.UnknownNode, "")
	}
	return failed(what, err)
}

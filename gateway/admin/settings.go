package admin

import (
	"net/http"

	"penstock/internal/settings"
)

// settingsDoc is which version there is of each document, and what the nodes have in force.
type settingsDoc struct {
	Documents []documentDoc `json:"documents"`
	Nodes     []nodeDoc     `json:"nodes"`
}

type documentDoc struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
}

// nodeDoc is a node that was heard of lately.
type nodeDoc struct {
	Node     string            `json:"node"`
	State    string            `json:"state"`
	SilentMS int64             `json:"silent_ms"`
	Applied  settings.Versions `json:"applied"`
	Refused  settings.Versions `json:"refused"` // the newest that it wouldn't take
}

// The states of a node; the later, the more there is to do.
const (
	nodeCurrent  = "current"
	nodeBehind   = "behind"   // on its way, or cut off from the database
	nodeRefusing = "refusing" // it found the newest version wrong, and goes on with the one before
	nodeSilent   = "silent"   // not heard of for longer than a node that lives takes
)

// getSettings answers GET /admin/v1/settings.
func (c *call) getSettings() error {
	ctx := c.context()
	store := c.server.deps.Settings.Store
	doc := settingsDoc{Nodes: []nodeDoc{}}
	for _, name := range []string{settings.Limits, settings.Switches} {
		stored, _, err := store.FindSettings(ctx, name)
		if err != nil {
			return failed("read the settings", err)
		}
		doc.Documents = append(doc.Documents, documentDoc{name, stored.Version})
	}
	members, err := store.SettingsMembers(ctx)
	if err != nil {
		return failed("read which nodes there are", err)
	}
	for i := range members {
		doc.Nodes = append(doc.Nodes, newNodeDoc(&members[i], doc.Documents))
	}
	return c.json(http.StatusOK, doc)
}

func newNodeDoc(m *settings.Member, newest []documentDoc) nodeDoc {
	doc := nodeDoc{
		Node: m.Node, State: nodeCurrent, SilentMS: m.Silent.Milliseconds(), Applied: settings.Versions{}, Refused: settings.Versions{},
	}
	for _, d := range newest {
		applied, refused := m.Applied[d.Name], m.Rejected[d.Name]
		doc.Applied[d.Name] = applied
		if refused > applied {
			doc.Refused[d.Name] = refused
		}
		switch {
		case applied >= d.Version:
		case refused >= d.Version:
			doc.State = nodeRefusing
		case doc.State == nodeCurrent:
			doc.State = nodeBehind
		}
	}
	if m.Silent > settings.AliveFor {
		doc.State = nodeSilent
	}
	return doc
}

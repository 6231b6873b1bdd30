package admin

import (
	"net/http"

	"github.com/penstock/penstock/degrade"
)

// levelDoc is a row of the table of the levels.
type levelDoc struct {
	Level    string                 `json:"level"`
	Name     string                 `json:"name"`
	Sets     []degrade.LevelSetting `json:"sets"`
	TurnsOff string                 `json:"turns_off"`
	Buyers   string                 `json:"buyers"`
}

// levelsDoc is the table of the levels, and this node's level.
type levelsDoc struct {
	Level      string            `json:"level"`
	Pinned     bool              `json:"pinned"`
	Automatic  string            `json:"automatic"`
	Found      string            `json:"found"`
	Why        string            `json:"why"`
	Activities map[string]string `json:"activities"`
	Levels     []levelDoc        `json:"levels"`
}

// getLevels answers GET /admin/v1/levels.
func (c *call) getLevels() error {
	var state degrade.LevelState
	if c.server.deps.Level != nil {
		state = c.server.deps.Level()
	}
	doc := levelsDoc{
		Level: state.Level.String(), Pinned: state.Pinned, Automatic: state.Mode.String(), Found: state.Found.Level.String(),
		Why: state.Found.Why, Activities: make(map[string]string),
	}
	for activity, level := range state.Activities {
		doc.Activities[activity] = level.String()
	}
	for _, d := range degrade.Levels() {
		doc.Levels = append(doc.Levels, levelDoc{d.Level.String(), d.Name, append([]degrade.LevelSetting{}, d.Sets...), d.TurnsOff, d.Buyers})
	}
	return c.json(http.StatusOK, doc)
}

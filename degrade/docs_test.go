package degrade

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The tables in the docs match the answers of the code.
func TestDocs_HaveTheTables(t *testing.T) {
	text, err := os.ReadFile("../docs/degradation.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, d := range Levels() {
		var sets []string
		for _, s := range d.Sets {
			sets = append(sets, fmt.Sprintf("`%s` %s", s.Switch, s.Value))
		}
		rows = append(rows, fmt.Sprintf("| %v | %s | %s | %s | %s |", d.Level, d.Name, strings.Join(sets, ", "), d.TurnsOff, d.Buyers))
	}
	for _, row := range rows {
		if !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/degradation.md lacks\n%s", row)
		}
	}
}

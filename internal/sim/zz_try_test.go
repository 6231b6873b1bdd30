package sim

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestZZTry(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	root, _ := filepath.Abs(filepath.Join("..", ".."))
	for _, m := range mutants {
		if m.caught.law == "" {
			continue
		}
		overlay := m.overlay(t, root)
		p := proof{"", "./internal/sim", "TestSim", nil}
		out, ok := p.run(t, root, "-overlay", overlay)
		t.Logf("%-22s %v %s %s", m.name, ok, brokenLaw.FindString(out), regexp.MustCompile(`sim.seed=\d+|build failed`).FindString(out))
	}
}

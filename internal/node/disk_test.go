package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNode_ADataDirectoryThatCantBeWrittenIsMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := &Node{cfg: Config{DataDir: dir}, health: newHealth(), log: slog.New(slog.DiscardHandler)}
	n.health.hasCatalog, n.health.settings = func() bool { return true }, sound{}
	n.probeDisk()
	if missing := n.health.Missing(); !strings.HasPrefix(missing, "data-dir: ") {
		t.Errorf("without the directory: %q", missing)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n.probeDisk()
	if missing := n.health.Missing(); missing != "" {
		t.Errorf("with it: %q", missing)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// sound returns a process whose settings are known.
type sound struct{}

func (sound) Known() bool   { return true }
func (sound) Drained() bool { return false }

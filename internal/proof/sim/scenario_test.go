package sim

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

var lawsFlag = flag.Bool("sim.laws", false, "look at the laws only, not at what the scenarios expect on the way")

// TestScenarios runs the files of testdata: the crash table of the design, row by row, and the
// races that its rules are about.
func TestScenarios(t *testing.T) {
	shops := newShops(t)
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no scenarios")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play(t, shops, string(text))
		})
	}
}

// play runs a scenario in a bubble of its own.
func play(t *testing.T, shops *shops, text string) {
	t.Helper()
	terms, names, err := openingOf(text)
	if err != nil {
		t.Fatal(err)
	}
	shop := shops.of(t, terms)
	var broken, path string
	var failed error
	synctest.Test(t, func(t *testing.T) {
		r, err := newRig(t.Context(), shop, terms, names...)
		if err != nil {
			t.Fatal(err)
		}
		failed = runScenario(r, text, *lawsFlag)
		broken, path = r.broken, r.path.String()
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	if failed != nil || broken != "" {
		t.Fatalf("%s\n%s %v", path, broken, failed)
	}
	t.Log("\n" + path)
}

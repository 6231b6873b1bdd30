package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"penstock/internal/proof/servers"
	"penstock/internal/wait"
)

var (
	whichFlag = flag.String("faults", "short", "which faults: short, all, or some by name, with commas")
	rateFlag  = flag.Int("faults.rate", 60, "buyers that come in a second")
)

const adminToken = "faults-admin-token-0123456789"

// patience bounds every wait for something that has to happen. It is far above what a loaded machine
// needs, so that only a hang reaches it.
const patience = 3 * time.Minute

// clockAhead is how far ahead the wall clock of one kind's gateway is.
const clockAhead = 5 * time.Second

// binaries are the programs under test, built once: the one that ships, and the same with a wall clock
// that is ahead.
type binaries struct {
	dir  string
	once [2]sync.Once
	errs [2]error
}

var built binaries

// path returns the binary; ahead is the one with the other clock.
func (b *binaries) path(t testing.TB, ahead bool) string {
	t.Helper()
	name, i := filepath.Join(b.dir, "penstock"), 0
	if ahead {
		name, i = name+"-ahead", 1
	}
	b.once[i].Do(func() {
		args := []string{"build", "-o", name}
		if ahead {
			overlay, err := aheadOverlay(b.dir)
			if err != nil {
				b.errs[i] = err
				return
			}
			args = append(args, "-overlay", overlay)
		}
		if out, err := exec.Command("go", append(args, "penstock/cmd/penstock")...).CombinedOutput(); err != nil {
			b.errs[i] = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if b.errs[i] != nil {
		t.Fatal(b.errs[i])
	}
	return name
}

// aheadOverlay writes the overlay (go help build) of a standard library whose wall clock is ahead. A
// Go program asks the kernel for the time, so nothing around it can say another one.
func aheadOverlay(dir string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	const now = "	sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), now) != 1 {
		return "", fmt.Errorf("%s doesn't read the clock as it did: %q", source, now)
	}
	changed := filepath.Join(dir, "time.go")
	body := strings.Replace(string(text), now, now+fmt.Sprintf("	sec += %d\n", int(clockAhead.Seconds())), 1)
	if err := os.WriteFile(changed, []byte(body), 0o600); err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, []byte(fmt.Sprintf(`{"Replace":{%q:%q}}`, source, changed)), 0o600)
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "penstock-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built.dir = dir
	code := servers.Main{M: m}.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// pause waits, and fails the test where that has ended.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	if !wait.For(t.Context(), d) {
		t.Fatal(t.Context().Err())
	}
}

// eventually asks until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); pause(t, 50*time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

// no fails where there is an error.
func no(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

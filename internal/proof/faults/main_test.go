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

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/internal/wait"
)

var (
	whichFlag = flag.String("faults", "short", "which faults: short, all, or some by name, with commas")
	rateFlag  = flag.Int("faults.rate", 60, "buyers that come in a second")
)

const adminToken = "faults-admin-token-0123456789"

// patience bounds every wait for an expected event. It is far longer than a loaded machine needs,
// so only a hang reaches it.
const patience = 3 * time.Minute

// clockAhead is how far ahead the wall clock of one kind's gateway is.
const clockAhead = 5 * time.Second

// The programs under test, built once into a directory that TestMain removes: the one that ships,
// and the same with a wall clock that is ahead.
var (
	builds = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "penstock-faults-") })
	binary = sync.OnceValues(func() (string, error) { return build("penstock") })
	ahead  = sync.OnceValues(func() (string, error) {
		dir, err := builds()
		if err != nil {
			return "", err
		}
		overlay, err := aheadOverlay(dir)
		if err != nil {
			return "", err
		}
		return build("penstock-ahead", "-overlay", overlay)
	})
)

func build(name string, flags ...string) (string, error) {
	dir, err := builds()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := append(append([]string{"build", "-o", path}, flags...), "github.com/penstock/penstock/cmd/penstock")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
}

// aheadOverlay writes the overlay (go help build) of a standard library whose wall clock is ahead.
// A Go program reads the time from the kernel, so it can't be changed from outside.
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
	code := servers.Main{M: m}.Run()
	if dir, err := builds(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// pause waits, and fails the test if its context has ended.
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

// no fails if there is an error.
func no(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

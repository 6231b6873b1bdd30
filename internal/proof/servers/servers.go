package servers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The kinds of servers, as deploy/local-stack calls them.
const (
	kindRedis    = "redis"
	kindPostgres = "postgres"
	kindKafka    = "kafka"
	kindSentinel = "sentinel"
	kindBrowser  = "browser"
)

// shared are the servers that all tests of a binary use together. They are started by the first
// test that wants one, and ended by Main.
type shared struct {
	mu      sync.Mutex
	started map[string]*Server // guarded by mu
	failed  map[string]error   // guarded by mu: it is not tried again
	used    bool               // guarded by mu: Main runs the tests
}

var all = shared{started: make(map[string]*Server), failed: make(map[string]error)}

// Main runs the tests of a package that uses shared servers, and ends those afterwards.
// goleak.VerifyTestMain accepts it too.
type Main struct{ M *testing.M }

// Run runs the tests and returns their exit code.
func (m Main) Run() int {
	all.mu.Lock()
	all.used = true
	all.mu.Unlock()
	code := m.M.Run()
	all.mu.Lock()
	defer all.mu.Unlock()
	for kind, s := range all.started {
		if code != 0 {
			fmt.Fprintf(os.Stderr, "what %s wrote at last:\n%s\n", kind, s.lastLines())
		}
		if err := s.end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

// get returns the shared server of that kind.
func (a *shared) get(t testing.TB, kind string, args ...string) *Server {
	t.Helper()
	need(t, kind)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.used {
		t.Fatal("a shared server needs a TestMain that calls servers.Main")
	}
	if err := a.failed[kind]; err != nil {
		t.Fatal(err)
	}
	if a.started[kind] == nil {
		s, err := start(kind, args)
		if err != nil {
			a.failed[kind] = err
			t.Fatal(err)
		}
		a.started[kind] = s
	}
	return a.started[kind]
}

// own starts a server for one test, which ends it.
func own(t testing.TB, kind string, args []string) *Server {
	t.Helper()
	need(t, kind)
	s, err := start(kind, args)
	if err != nil {
		t.Fatal(err)
	}
	s.endWith(t)
	return s
}

// endWith gives the server to a test.
func (s *Server) endWith(t testing.TB) {
	s.t = t
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what %s wrote at last:\n%s", s.kind, s.lastLines())
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
}

// need skips or fails the test where the server isn't installed.
func need(t testing.TB, kind string) {
	t.Helper()
	if testing.Short() {
		t.Skip("with -short no server is started")
	}
	script, err := stack()
	if err != nil {
		t.Fatal(err)
	}
	missing, err := exec.Command(script, "missing", kind).Output()
	switch {
	case err != nil:
		t.Fatalf("%s missing %s: %v", script, kind, err)
	case len(missing) == 0:
	case os.Getenv("CI") == "true" || os.Getenv("PENSTOCK_TEST_SERVERS") == "1":
		t.Fatalf("%s is not installed: run make install", strings.TrimSpace(string(missing)))
	default:
		t.Skipf("%s is not installed: make install gets it", strings.TrimSpace(string(missing)))
	}
}

// stack finds deploy/local-stack, in the tested package's directory and those above.
func stack() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "deploy", "local-stack")
		switch _, err := os.Stat(script); {
		case err == nil:
			return script, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		case dir == filepath.Dir(dir):
			return "", errors.New("there is no deploy/local-stack above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// Schemathesis runs Schemathesis with such arguments, in a directory that has its configuration,
// and returns what it printed. failed says that it found something.
func Schemathesis(t testing.TB, dir string, env []string, args ...string) (output string, failed bool) {
	t.Helper()
	work := t.TempDir() // it leaves files behind
	if err := os.CopyFS(work, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return runTool(t, work, env, "schemathesis", args)
}

// KubernetesValidate checks files of manifests against the strict schemas of a version of
// Kubernetes, and returns the output. failed says that it found a mistake.
func KubernetesValidate(t testing.TB, version string, files ...string) (output string, failed bool) {
	t.Helper()
	return runTool(t, ".", nil, "kubernetes-validate", append([]string{"--strict", "-k", version}, files...))
}

// Promtool runs Prometheus' own tool, and returns its output. failed says that it found a mistake.
func Promtool(t testing.TB, args ...string) (output string, failed bool) {
	t.Helper()
	return runTool(t, ".", nil, "promtool", args)
}

// runTool runs a program that deploy/local-stack installs.
func runTool(t testing.TB, dir string, env []string, tool string, args []string) (output string, failed bool) {
	t.Helper()
	need(t, tool)
	script, err := stack()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), script, append([]string{tool}, args...)...)
	run.Dir, run.Env = dir, append(os.Environ(), env...)
	text, err := run.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return string(text), err != nil
}

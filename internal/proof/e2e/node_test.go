package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/raced"
	"github.com/penstock/penstock/internal/proof/servers"
)

const adminToken = "e2e-admin-token-of-the-tests"

// patience bounds every wait. It is far longer than a loaded machine needs, so only a hang reaches
// it.
const patience = 60 * time.Second

// binary is the program under test, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "penstock-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "penstock")
	args := []string{"build", "-o", path}
	if raced.Enabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/penstock/penstock/cmd/penstock")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := servers.Main{M: m}.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// node is a running penstock process.
type node struct {
	t       testing.TB
	cmd     *exec.Cmd
	public  string
	private string
	exited  chan error
	mu      sync.Mutex
	stderr  bytes.Buffer // guarded by mu
}

// start runs penstock with args on free ports and waits until it prints its addresses.
func start(t testing.TB, args ...string) *node {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, exited: make(chan error, 1)}
	n.cmd = exec.Command(path, append([]string{args[0], "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args[1:]...)...)
	n.cmd.Env = append(os.Environ(), "PENSTOCK_ADMIN_TOKEN="+adminToken)
	n.cmd.Stderr = n
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("%v:\n%s", args, n.log())
		}
	})
	ready := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if url, ok := strings.CutPrefix(lines.Text(), "public "); ok {
				n.public = url
			}
			if url, ok := strings.CutPrefix(lines.Text(), "admin "); ok {
				n.private = url
				close(ready)
			}
		}
		n.exited <- n.cmd.Wait()
		close(n.exited)
	}()
	select {
	case <-ready:
	case err := <-n.exited:
		t.Fatalf("penstock %v ended at start: %v\n%s", args, err, n.log())
	case <-time.After(patience):
		t.Fatalf("penstock %v is not ready after %v\n%s", args, patience, n.log())
	}
	return n
}

// Write collects the process's stderr.
func (n *node) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stderr.Write(p)
}

func (n *node) log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stderr.String()
}

// kill ends the process with SIGKILL and waits for its end.
func (n *node) kill() { n.end(syscall.SIGKILL) }

// end sends a signal, waits for the process's end and returns its exit code.
func (n *node) end(signal syscall.Signal) int {
	n.t.Helper()
	if err := n.cmd.Process.Signal(signal); err != nil && err != os.ErrProcessDone {
		n.t.Errorf("signal %v: %v", signal, err)
	}
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Fatalf("the process goes on %v after signal %v", patience, signal)
	}
	return n.cmd.ProcessState.ExitCode()
}

// answer is an HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// field returns a member of a JSON answer as text.
func (a answer) field(path ...string) string {
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return ""
	}
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[key]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func (a answer) String() string { return fmt.Sprintf("%d %v %s", a.status, a.header, a.body) }

// client has no limit of its own on connections; every request is bounded.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512}, Timeout: patience}

// call makes a request; header is name, value, name, value.
func call(method, url, body string, header ...string) (answer, error) {
	response, text, err := servers.Ask(context.Background(), client, method, url, body, header...)
	if err != nil {
		return answer{}, err
	}
	return answer{response.StatusCode, response.Header, text}, nil
}

// admin makes a request to the admin listener that must be answered with want.
func (n *node) admin(want int, method, path, body string, header ...string) answer {
	n.t.Helper()
	a, err := call(method, n.private+path, body, append(header, "Authorization", "Bearer "+adminToken)...)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != want {
		n.t.Fatalf("%s %s: want %d, got %v", method, path, want, a)
	}
	return a
}

// eventually asks until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

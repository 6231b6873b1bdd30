package faults

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
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
)

// node is a running penstock process.
type node struct {
	t       testing.TB
	role    string
	cmd     *exec.Cmd
	public  string
	private string
	log     string // a file with its stderr
	exited  chan struct{}
}

// startNode starts penstock on free ports and returns when it has printed its addresses.
func startNode(t testing.TB, program func() (string, error), role string, args ...string) *node {
	t.Helper()
	path, err := program()
	no(t, "build penstock", err)
	n := &node{t: t, role: role, exited: make(chan struct{}), log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(n.log)
	no(t, "make a log", err)
	defer log.Close()
	n.cmd = exec.Command(path, append([]string{role, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)...)
	n.cmd.Env = append(os.Environ(), "PENSTOCK_ADMIN_TOKEN="+adminToken)
	n.cmd.Stderr = log
	stdout, err := n.cmd.StdoutPipe()
	no(t, "make a pipe", err)
	no(t, "start "+role, n.cmd.Start())
	t.Cleanup(func() {
		n.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("what a %s wrote at last:\n%s", role, n.lastLines())
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
		_ = n.cmd.Wait() // how it ended is in its log
		close(n.exited)
	}()
	select {
	case <-ready:
	case <-n.exited:
		t.Fatalf("%s ended at its start:\n%s", role, n.lastLines())
	case <-time.After(patience):
		t.Fatalf("%s is not ready after %v:\n%s", role, patience, n.lastLines())
	}
	return n
}

// lastLines returns the end of the node's log.
func (n *node) lastLines() string {
	const most = 12_000
	text, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// signal sends a signal.
func (n *node) signal(signal syscall.Signal) {
	n.t.Helper()
	no(n.t, fmt.Sprintf("signal %v to a %s", signal, n.role), n.cmd.Process.Signal(signal))
}

// end sends a signal and waits for the process's end.
func (n *node) end(signal syscall.Signal) {
	_ = n.cmd.Process.Signal(signal) // it may have ended
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Errorf("a %s goes on %v after signal %v", n.role, patience, signal)
	}
}

// answer is an HTTP answer, read whole.
type answer struct {
	status int
	body   []byte
	member struct {
		Order   string `json:"order"`
		Status  string `json:"status"`
		Reason  string `json:"reason"`
		Code    string `json:"code"`
		RetryMS int    `json:"retry_after_ms"`
	}
}

func (a *answer) String() string { return fmt.Sprintf("%d %.300s", a.status, a.body) }

// clientTimeout is how long a buyer waits for an answer.
const clientTimeout = 4 * time.Second

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512}, Timeout: clientTimeout}

// call makes a request; header is name, value, name, value.
func call(ctx context.Context, method, url, body string, header ...string) (answer, error) {
	response, text, err := servers.Ask(ctx, client, method, url, body, header...)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, body: text}
	_ = json.Unmarshal(a.body, &a.member) // pages are no JSON
	return a, nil
}

// admin makes a request to the admin listener that must succeed. A server that has just come back
// may refuse it for a while.
func (n *node) admin(method, path, body string) answer {
	n.t.Helper()
	var last answer
	var err error
	eventually(n.t, method+" "+path+" succeeds", func() bool {
		last, err = call(n.t.Context(), method, n.private+path, body, "Authorization", "Bearer "+adminToken)
		if err == nil && last.status/100 == 4 {
			n.t.Fatalf("%s %s: %v", method, path, &last)
		}
		return err == nil && last.status/100 == 2
	})
	return last
}

// command runs a command of penstock that talks to the node, and returns what it printed and its
// exit code.
func (n *node) command(args ...string) (out, messages string, code int) {
	n.t.Helper()
	path, err := binary()
	no(n.t, "build penstock", err)
	cmd := exec.CommandContext(n.t.Context(), path, append(args, "--admin", n.private, "--timeout", "30s")...)
	cmd.Env = append(os.Environ(), "PENSTOCK_ADMIN_TOKEN="+adminToken)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		n.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

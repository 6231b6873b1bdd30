package shop

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a process. It is far longer than a loaded machine needs.
const patience = 2 * time.Minute

// process is a measured process.
type process struct {
	name string
	pid  int
	cmd  *exec.Cmd // nil for a server that this package did not start
	log  *bytes.Buffer
}

// build builds penstock once a run.
func build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "penstock")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/penstock/penstock/cmd/penstock").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// launch starts a command that ends with the test. It calls line with each line of the output until
// line returns true.
func launch(t testing.TB, name string, cmd *exec.Cmd, line func(string) bool) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, log: new(bytes.Buffer)}
	cmd.Stderr = p.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	t.Cleanup(func() { p.stop(t) })
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		waits := true
		for lines.Scan() {
			if waits && line(lines.Text()) {
				waits = false
				ready <- true
			}
		}
		if waits {
			ready <- false
		}
	}()
	select {
	case ok := <-ready:
		if !ok {
			t.Fatalf("%s ended before it was ready:\n%s", name, p.log)
		}
	case <-time.After(patience):
		t.Fatalf("%s is not ready:\n%s", name, p.log)
	}
	return p
}

// stop ends the process, by SIGTERM first.
func (p *process) stop(t testing.TB) {
	if p.cmd == nil || p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Log(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill() // it has had its time
		<-ended
	}
}

// startPeer starts a peer and returns it with its address.
func startPeer(t testing.TB, name, redis, kafka string) (p *process, url string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), peerVariable+"="+name, "PENSTOCK_SHOP_REDIS="+redis, "PENSTOCK_SHOP_KAFKA="+kafka)
	p = launch(t, name, cmd, func(line string) bool {
		url = line
		return strings.HasPrefix(line, "http://")
	})
	return p, url
}

// listener returns the process that listens on a port of 127.0.0.1, with its name.
func listener(t testing.TB, name, addr string) *process {
	t.Helper()
	port := addr[strings.LastIndex(addr, ":")+1:]
	out, err := exec.Command("ss", "-Hltnp", "sport", "=", ":"+port).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(out), "pid=")
	if !ok {
		t.Fatalf("nobody listens on %s: %s", addr, out)
	}
	number, _, _ := strings.Cut(rest, ",")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return &process{name: name, pid: pid}
}

// ticks a second that the operating system counts processor time in (USER_HZ, proc(5)).
const userHZ = 100

// cpu returns the processor time of the process and of its living children.
func (p *process) cpu() time.Duration {
	sum := ticks(p.pid)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.pid))
	for _, file := range tasks {
		children, _ := os.ReadFile(file) // a child that has ended has none
		for _, child := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				sum += (&process{pid: pid}).ticksOfAll()
			}
		}
	}
	return time.Duration(sum) * time.Second / userHZ
}

func (p *process) ticksOfAll() int64 { return int64(p.cpu() * userHZ / time.Second) }

// ticks returns the processor time of a process and of its children that have ended, 0 where it is
// gone.
func ticks(pid int) (sum int64) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	for _, at := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, _ := strconv.ParseInt(fields[at], 10, 64)
		sum += n
	}
	return sum
}

// memory returns the resident memory of the process in bytes.
func (p *process) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kb << 10
}

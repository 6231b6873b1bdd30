package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a running server. Its methods are for the test that has started it, one at a time; a
// shared one is only asked for its address.
type Server struct {
	Addr string // host:port

	kind string
	args []string
	dir  string // with its data and its log; not shared
	port string
	t    testing.TB // nil for a shared one

	process *exec.Cmd     // nil while it is stopped
	exited  chan struct{} // closed when process has ended
	guard   *guard
	paused  bool // by Pause
}

// Data is the directory of the server's data. It may be read, and it may be changed while the
// server is stopped.
func (s *Server) Data() string { return filepath.Join(s.dir, "data") }

// Patience bounds each wait for a server. It is far longer than any server takes, so only a hang
// reaches it.
const Patience = 10 * time.Minute

// start starts a server on a free port. A port may be taken between the look at it and the start,
// so another one is tried.
func start(kind string, args []string) (*Server, error) {
	dir, err := os.MkdirTemp("", "penstock-"+kind+"-")
	if err != nil {
		return nil, err
	}
	// Where the tests run as root, PostgreSQL runs as another user, which needs access to its data.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	s := &Server{kind: kind, args: args, dir: dir}
	for try := 1; ; try++ {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		s.Addr = net.JoinHostPort("127.0.0.1", s.port)
		err = s.run()
		if err == nil {
			return s, nil
		}
		log := s.lastLines()
		if try == 3 || !strings.Contains(strings.ToLower(log), "address already in use") {
			return nil, errors.Join(fmt.Errorf("start %s: %w; what it wrote at last:\n%s", kind, err, log), s.end())
		}
	}
}

// FreePort returns a port on which no process listens now.
func FreePort(t testing.TB) string {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// run starts the process on the server's port and data, and returns when it answers.
func (s *Server) run() error {
	script, err := stack()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(script, append([]string{s.kind, s.Data(), s.port}, s.args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	// The server has its own session: a terminal's Ctrl-C is for the tests, which then end their
	// servers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	s.process, s.exited = cmd, exited
	if s.guard, err = newGuard(cmd.Process.Pid, s.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		err := s.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-exited:
			return errors.New("it has ended")
		case <-ctx.Done():
			return fmt.Errorf("it doesn't answer after %v: %w", Patience, err)
		}
	}
}

// ask asks the server for something that only one that is ready answers.
func (s *Server) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	switch s.kind {
	case kindRedis, kindSentinel:
		return askRedis(ctx, s.Addr)
	case kindPostgres:
		return askPostgres(ctx, s.URL("postgres"))
	default:
		return askKafka(ctx, s.Addr)
	}
}

// signals sends a signal to the process, and to those that it has started: a PostgreSQL is many
// processes.
func (s *Server) signals(signal syscall.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatalf("%s is not running", s.kind)
	}
	if err := signalAll(s.process.Process.Pid, signal); err != nil {
		s.t.Fatal(err)
	}
	s.paused = signal == syscall.SIGSTOP
}

func signalAll(pid int, signal syscall.Signal) error {
	if err := syscall.Kill(pid, signal); err != nil { // first, so that it starts no more of them
		return err
	}
	children, err := childrenOf(pid)
	for _, child := range children {
		if killed := syscall.Kill(child, signal); killed != nil && !errors.Is(killed, syscall.ESRCH) {
			err = errors.Join(err, killed)
		}
	}
	return err
}

// childrenOf lists the processes that pid has started.
func childrenOf(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …; a name may have anything in it.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		children = append(children, child)
	}
	return children, nil
}

// Pause stops the server like a machine that hangs: connections stay, and nothing is answered.
// Resume lets it go on.
func (s *Server) Pause() { s.signals(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signals(syscall.SIGCONT) }

// Kill ends the server as a power cut does, and returns when it is gone. Its data stays.
func (s *Server) Kill() {
	s.t.Helper()
	s.signals(syscall.SIGKILL)
	if err := s.stop(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// Stop ends the server in order, and returns when it is gone. Its data stays.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.stop(s.goodbye()); err != nil {
		s.t.Fatal(err)
	}
}

// Start starts the server again, at its address and on its data, and returns when it is ready.
func (s *Server) Start() {
	s.t.Helper()
	if s.process != nil {
		s.t.Fatalf("%s is running", s.kind)
	}
	if err := s.run(); err != nil {
		s.t.Fatalf("start %s again: %v", s.kind, err)
	}
}

// Restart kills the server and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.Start()
}

// goodbye is the signal for an orderly end that doesn't wait for clients.
func (s *Server) goodbye() syscall.Signal {
	if s.kind == kindPostgres {
		return syscall.SIGINT
	}
	return syscall.SIGTERM
}

// endPatience is how long a server may take for an orderly end.
const endPatience = 20 * time.Second

// stop ends the process, if it runs, and waits for it: first in order, then by SIGKILL.
func (s *Server) stop(signal syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	// The guard ends first: when the process is waited for, its id may become another's.
	err := s.guard.end()
	if s.paused && !s.over(0) { // a test failed meanwhile: a paused process gets SIGKILL only, and its children no signal
		err = errors.Join(err, signalAll(s.process.Process.Pid, syscall.SIGCONT))
		s.paused = false
	}
	for _, signal := range []syscall.Signal{signal, syscall.SIGKILL} {
		if s.over(0) {
			break // its id may be another's
		}
		if killed := syscall.Kill(s.process.Process.Pid, signal); killed != nil && !errors.Is(killed, syscall.ESRCH) {
			err = errors.Join(err, killed)
		}
		if s.over(endPatience) {
			break
		}
	}
	<-s.exited
	s.process = nil
	return err
}

// over waits for the process to end.
func (s *Server) over(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.exited:
		return true
	case <-timer.C:
		return false
	}
}

// end ends the server for good.
func (s *Server) end() error {
	return errors.Join(s.stop(s.goodbye()), os.RemoveAll(s.dir))
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

// lastLines returns the end of the server's log.
func (s *Server) lastLines() string {
	const most = 4_000
	file, err := os.Open(s.log())
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > most {
		if _, err := file.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(bufio.NewReader(file))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// guard is a process that ends a server when the tests can't: they panicked, timed out, or were
// killed.
type guard struct {
	cmd  *exec.Cmd
	hold io.Closer // closed by the kernel when this process is gone
}

// guardScript waits for the end of its input. Then it ends the server as Stop would, and removes
// its data.
const guardScript = `cat >/dev/null; kill -INT "$1"; sleep 3; kill -CONT "$1"; kill -KILL "$1"
sleep 1; rm -rf "$2" || { sleep 5; rm -rf "$2"; }` // its children may write for a moment

func newGuard(pid int, dir string) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "guard", strconv.Itoa(pid), dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &guard{cmd, hold}, cmd.Start()
}

func (g *guard) end() error {
	if g == nil {
		return nil
	}
	err := g.cmd.Process.Kill()
	_ = g.cmd.Wait() // it was killed
	_ = g.hold.Close()
	return err
}

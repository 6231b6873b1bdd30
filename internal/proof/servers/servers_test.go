package servers_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/penstock/penstock/internal/proof/servers"
)

// orphanVariable is the variable that makes this test binary start a server and die without ending
// it.
const orphanVariable = "PENSTOCK_TEST_ORPHAN"

func TestMain(m *testing.M) { goleak.VerifyTestMain(servers.Main{M: m}) }

// command sends one to a Redis and returns the first line of its answer.
func command(t *testing.T, addr, text string, wait time.Duration) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(text + "\r\n")); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(answer), err
}

func TestRedis_IsPausedKilledAndStartedAgain(t *testing.T) {
	s := servers.Redis(t, "--appendfsync", "always")
	do := func(text, want string) {
		t.Helper()
		if got, err := command(t, s.Addr, text, servers.Patience); err != nil || got != want {
			t.Fatalf("%s: %q, %v", text, got, err)
		}
	}
	do("SET key 7", "+OK")
	s.Pause()
	if answer, err := command(t, s.Addr, "GET key", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a paused server answered %q, %v", answer, err)
	}
	s.Resume()
	do("INCR key", ":8")
	s.Restart()
	do("INCR key", ":9")
	s.Pause()
	s.Kill() // a paused one, too
	if _, err := command(t, s.Addr, "PING", servers.Patience); err == nil {
		t.Fatal("a killed server answered")
	}
	s.Start()
	do("INCR key", ":10")
}

func TestPostgres_EachTestHasADatabase(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), servers.Postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if _, err := conn.Exec(t.Context(), "CREATE TABLE one (x int)"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestPostgres_IsPausedWithAllItsProcesses(t *testing.T) {
	s := servers.NewPostgres(t)
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	s.Pause()
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "SELECT 1")
		answered <- err
	}()
	late := time.NewTimer(50 * time.Millisecond)
	defer late.Stop()
	select {
	case err := <-answered:
		t.Fatalf("a paused server answered: %v", err)
	case <-late.C:
	}
	s.Resume()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Fatal("the connection survived the server")
	}
	again, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(context.Background())
	s.Pause()
	s.Stop() // as after a test that failed before it could resume
	if _, err := again.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Fatal("the connection survived the server, that was paused")
	}
}

// A test binary that is killed must not leave its servers behind.
func TestServers_EndWithTheirTests(t *testing.T) {
	if os.Getenv(orphanVariable) != "" {
		s := servers.Redis(t)
		if _, err := os.Stdout.WriteString("started " + s.Addr + "\n"); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	servers.Redis(t) // skips if there is none
	child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	child.Env = append(os.Environ(), orphanVariable+"="+strconv.Itoa(os.Getpid()))
	out, err := child.Output()
	if err == nil {
		t.Fatalf("the child was not killed: %s", out)
	}
	_, line, ok := strings.Cut(string(out), "started ")
	if !ok {
		t.Fatalf("the child said %q: %v", out, err)
	}
	addr, _, _ := strings.Cut(line, "\n")
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	patience := time.NewTimer(servers.Patience)
	defer patience.Stop()
	for {
		if _, err := command(t, addr, "PING", servers.Patience); err != nil {
			return
		}
		select {
		case <-look.C:
		case <-patience.C:
			t.Fatalf("%s still answers", addr)
		}
	}
}

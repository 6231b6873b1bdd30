package embedded_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/penstock/penstock/internal/embedded"
	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
)

// TestMain is also the main of the child processes that some tests start, see child_test.go.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

func open(t testing.TB, cfg embedded.Config) *embedded.Parts {
	t.Helper()
	parts, err := embedded.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeParts(t, parts) })
	return parts
}

func closeParts(t testing.TB, parts *embedded.Parts) {
	t.Helper()
	if err := parts.Close(); err != nil {
		t.Error(err)
	}
}

// queueConfig returns the parts' configuration without background trimming. Tests trim by hand.
func queueConfig(parts *embedded.Parts) kafka.Config {
	cfg := parts.QueueConfig(0)
	cfg.TrimEvery = 0
	return cfg
}

func TestConformance(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("durable=%t", durable), func(t *testing.T) {
			parts := open(t, embedded.Config{DataDir: t.TempDir(), Durable: durable, Partitions: 3})
			kafkatest.Exercise(t, queueConfig(parts))
		})
	}
}

func TestRestartKeepsRecords(t *testing.T) {
	cfg := embedded.Config{DataDir: filepath.Join(t.TempDir(), "data"), Partitions: 3}
	parts, books := open(t, cfg), new(kafkatest.Books)
	queue := kafkatest.Open(t, queueConfig(parts), books)
	kafkatest.Produce(t, queue, 0, 500)
	kafkatest.Consume(t, queue, books, 500)
	kafkatest.Produce(t, queue, 500, 600)
	before := books.Now()
	kafkatest.Close(t, queue)
	closeParts(t, parts)

	queue = kafkatest.Open(t, queueConfig(open(t, cfg)), books)
	if now := books.Now(); !slices.Equal(now, before) {
		t.Errorf("the books were at %v, and are at %v: the topic is another one", before, now)
	}
	if seen := kafkatest.Consume(t, queue, books, 100); len(seen) != 100 {
		t.Errorf("%d records were left, want 100", len(seen))
	}
	kafkatest.Produce(t, queue, 600, 700)
	if stats := queue.Stats(); stats.Missing != 0 || stats.DataLoss != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	open(t, embedded.Config{DataDir: dir})
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if perm := info.Mode().Perm(); perm != 0o700 {
		t.Errorf("the data directory has mode %o", perm)
	}
}

// contents lists everything below dir with its bytes.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %q\n", path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDirectoriesThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  error
		says  string
	}{
		{"newer", map[string]string{"format": "penstock 2\n", "penstock.db": "x"}, embedded.ErrNewer, "format 2"},
		{"foreign", map[string]string{"thesis.txt": "x"}, embedded.ErrForeign, "thesis.txt"},
		{"other format file", map[string]string{"format": "A4\n"}, embedded.ErrForeign, "A4"},
		{"empty format file", map[string]string{"format": ""}, embedded.ErrForeign, "format"},
		{"format zero", map[string]string{"format": "penstock 0\n"}, embedded.ErrForeign, "penstock 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := contents(t, dir)
			_, err := embedded.Open(t.Context(), embedded.Config{DataDir: dir})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error: %v", err)
			}
			if after := contents(t, dir); after != before {
				t.Errorf("the directory was changed, from\n%sto\n%s", before, after)
			}
		})
	}
}

// TestAFreshVolumeIsTaken: the root of a new volume is never empty.
func TestAFreshVolumeIsTaken(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lost+found", ".snapshot", "System Volume Information"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	open(t, embedded.Config{DataDir: dir})
}

func TestFirstStartThatDiedIsTakenUp(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"lock": "1\n", "format.tmp": "pen", "format.0123456789abcdef.new": "pen"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, embedded.Config{DataDir: dir})
}

// TestFirstStartThatWasStoppedHasNoRecords: the queue is made before the database. A first start
// that ends in between must not leave a directory that wants a database back.
func TestFirstStartThatWasStoppedHasNoRecords(t *testing.T) {
	cfg := embedded.Config{DataDir: t.TempDir()}
	for range 2 {
		parts := open(t, cfg)
		if parts.HasRecords() {
			t.Fatal("records, and nobody has put one")
		}
		closeParts(t, parts)
	}
	parts := open(t, cfg)
	queue := kafkatest.Open(t, queueConfig(parts), new(kafkatest.Books))
	kafkatest.Produce(t, queue, 0, 1)
	kafkatest.Close(t, queue)
	closeParts(t, parts)
	if parts = open(t, cfg); !parts.HasRecords() {
		t.Error("no records, and there is one")
	}
}

func TestOpenGivesBackWhatItTook(t *testing.T) {
	cfg := embedded.Config{DataDir: t.TempDir()}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := embedded.Open(ended, cfg); !errors.Is(err, context.Canceled) {
		t.Fatalf("error: %v", err)
	}
	open(t, cfg)
}

func TestRedisWantsItsPassword(t *testing.T) {
	parts := open(t, embedded.Config{DataDir: t.TempDir()})
	option := rueidis.ClientOption{
		InitAddress: []string{"redis"},
		DialCtxFn: func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return parts.DialRedis(ctx)
		},
	}
	option.DisableCache, option.ForceSingleClient = true, true
	ping := func(password string) error {
		option.Password = password
		client, err := rueidis.NewClient(option)
		if err != nil {
			return err
		}
		defer client.Close()
		return client.Do(t.Context(), client.B().Ping().Build()).Error()
	}
	if err := ping(parts.RedisPassword()); err != nil {
		t.Error(err)
	}
	for _, password := range []string{"", "guess"} {
		if err := ping(password); err == nil {
			t.Errorf("password %q was let in", password)
		}
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	parts, err := embedded.Open(t.Context(), embedded.Config{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	books := new(kafkatest.Books)
	queue, err := kafka.Open(t.Context(), parts.QueueConfig(100), books) // with its background work
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, queue, 0, 50)
	kafkatest.Consume(t, queue, books, 50)
	kafkatest.Close(t, queue)
	closeParts(t, parts)
	closeParts(t, parts)
}

func TestOpenDirectoryOfEverybodyIsNoticed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	logged, logger := newLog()
	open(t, embedded.Config{DataDir: dir, Logger: logger})
	if !strings.Contains(logged.String(), "level=WARN") || !strings.Contains(logged.String(), dir) {
		t.Errorf("logged: %s", logged)
	}
}

func TestConfigIsValidated(t *testing.T) {
	for _, cfg := range []embedded.Config{{}, {DataDir: "x", Partitions: -1}, {DataDir: "x", Partitions: 65}} {
		if err := cfg.Validate(); err == nil {
			t.Errorf("%+v is valid", cfg)
		}
		if _, err := embedded.Open(t.Context(), cfg); err == nil {
			t.Errorf("%+v was opened", cfg)
		}
	}
}

// log collects what parts say.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newLog() (*log, *slog.Logger) {
	l := new(log)
	return l, slog.New(slog.NewTextHandler(l, nil))
}

package embedded_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/penstock/penstock/internal/embedded"
	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
	"github.com/penstock/penstock/seckill"
)

// childVariable is the environment variable that makes the test binary a child process. Its value
// is the data directory; the child produces and consumes until it is killed. firstVariable has the
// number of its first record. booksVariable has the path of the file that stands for the database.
const (
	childVariable = "PENSTOCK_TEST_CHILD"
	firstVariable = "PENSTOCK_TEST_FIRST"
	booksVariable = "PENSTOCK_TEST_BOOKS"
)

// child is the child's main. It says on stdout "acked n" for every record that was acknowledged,
// "polled n" for every record that it has worked on and is about to commit, and "books" and a JSON
// of the positions after a commit.
func child(dir string) int {
	err := runChild(dir)
	fmt.Fprintln(os.Stderr, "child:", err)
	return 1
}

func runChild(dir string) error {
	var first int
	if _, err := fmt.Sscan(os.Getenv(firstVariable), &first); err != nil {
		return err
	}
	ctx := context.Background()
	parts, err := embedded.Open(ctx, embedded.WithSegmentBytes(embedded.Config{DataDir: dir, Partitions: 2}, 64<<10))
	if err != nil {
		return err
	}
	var positions []seckill.Position
	if err := json.Unmarshal([]byte(os.Getenv(booksVariable)), &positions); err != nil {
		return err
	}
	books := booksAt(positions)
	queue, err := kafka.Open(ctx, queueConfig(parts), books)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	failed := make(chan error, 1)
	go func() { failed <- consumeForEver(ctx, queue, books, say) }()
	tokens := make(chan struct{}, 100)
	for n := first; ; n++ {
		select {
		case err := <-failed:
			return err
		case tokens <- struct{}{}:
		}
		kafkatest.Put(queue, n, func(err error) {
			if err == nil {
				say("acked %d", n)
			}
			<-tokens
		})
	}
}

// booksAt returns books that know positions.
func booksAt(positions []seckill.Position) *kafkatest.Books {
	books := new(kafkatest.Books)
	if len(positions) > 0 {
		_ = books.AddPartitions(context.Background(), positions[0].Topic, int32(len(positions))) // never fails here
	}
	for _, p := range positions {
		books.Set(p)
	}
	return books
}

func consumeForEver(ctx context.Context, queue *kafka.Queue, books *kafkatest.Books, say func(string, ...any)) error {
	for {
		haul, err := queue.Poll(ctx)
		if err != nil {
			return err
		}
		for _, m := range haul.Messages {
			say("polled %s", kafkatest.KeyOf(m))
		}
		if err := books.Commit(haul.Moves); err != nil {
			return err
		}
		text, err := json.Marshal(books.Now())
		if err != nil {
			return err
		}
		say("books %s", text)
		if err := queue.Trim(ctx); err != nil {
			return err
		}
	}
}

// process is a child and its output so far.
type process struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	acked  map[int]bool
	polled map[int]bool
	books  []seckill.Position
}

// startChild starts a child. The end of the test kills it at the latest.
func startChild(t *testing.T, dir string, first int, books []seckill.Position) *process {
	t.Helper()
	text, err := json.Marshal(books)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+dir, fmt.Sprintf("%s=%d", firstVariable, first),
		booksVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{
		cmd: cmd, lines: bufio.NewScanner(out), acked: make(map[int]bool), polled: make(map[int]bool), books: books,
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			p.kill(t)
		}
	})
	return p
}

// hear reads a line, and reports whether there was one.
func (p *process) hear(t *testing.T) bool {
	t.Helper()
	if !p.lines.Scan() {
		return false
	}
	line := p.lines.Text()
	var n int
	if _, err := fmt.Sscanf(line, "acked %d", &n); err == nil {
		p.acked[n] = true
	} else if _, err := fmt.Sscanf(line, "polled %d", &n); err == nil {
		p.polled[n] = true
	} else if text, ok := strings.CutPrefix(line, "books "); !ok || json.Unmarshal([]byte(text), &p.books) != nil {
		t.Errorf("the child said %q", line)
	}
	return true
}

// kill kills the child like kill -9, reads the rest of its output and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	for p.hear(t) {
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the child ended with %v", err)
	}
}

// TestL2_KillKeepsPromises kills processes that produce, consume and trim, again and again on one
// directory. It checks that every acknowledged record is still there.
func TestL2_KillKeepsPromises(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	seed := rand.Uint64()
	if text, ok := os.LookupEnv("PENSTOCK_SEED"); ok {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with PENSTOCK_SEED=%d go test ./internal/embedded -run %s", seed, t.Name())
	random := rand.New(rand.NewPCG(seed, 0))
	first := 0
	var books []seckill.Position
	for round := range 4 {
		child := startChild(t, dir, first, books)
		for until := 200 + random.IntN(4_000); len(child.acked) < until; {
			if !child.hear(t) {
				t.Fatalf("the child ended after %d records", len(child.acked))
			}
		}
		child.kill(t)
		t.Logf("round %d: %d acknowledged, %d polled, books %v", round, len(child.acked), len(child.polled), child.books)
		books = checkAfterKill(t, dir, child)
		first += 1_000_000
	}
}

// checkAfterKill opens the directory of a killed process. Each record that was acknowledged and not
// processed must come. It returns the positions of the books.
func checkAfterKill(t *testing.T, dir string, child *process) []seckill.Position {
	t.Helper()
	parts := open(t, embedded.WithSegmentBytes(embedded.Config{DataDir: dir, Partitions: 2}, 64<<10))
	defer closeParts(t, parts)
	books := booksAt(child.books)
	queue := kafkatest.Open(t, queueConfig(parts), books)
	defer kafkatest.Close(t, queue)
	kafkatest.Produce(t, queue, 1<<40, 1<<40+100) // a new producer is accepted
	for key := range kafkatest.ConsumeUntil(t, queue, books, kafkatest.Mark(t, queue)) {
		n, err := strconv.Atoi(key)
		if err != nil {
			t.Fatal(err)
		}
		child.polled[n] = true
	}
	if stats := queue.Stats(); stats.Missing != 0 || stats.DataLoss != 0 {
		t.Errorf("stats: %+v", stats)
	}
	gone := 0
	for n := range child.acked {
		if !child.polled[n] {
			gone++
		}
	}
	if gone != 0 {
		t.Errorf("%d of %d acknowledged records are gone", gone, len(child.acked))
	}
	return books.Now()
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	child := startChild(t, dir, 0, nil)
	if !child.hear(t) {
		t.Fatal("the child has nothing to say")
	}
	_, err := embedded.Open(t.Context(), embedded.Config{DataDir: dir})
	holder := fmt.Sprintf("%s is in use by process %d", dir, child.cmd.Process.Pid)
	if !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), holder) {
		t.Errorf("error: %v", err)
	}
	child.kill(t)
	open(t, embedded.Config{DataDir: dir})
}

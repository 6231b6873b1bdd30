package postgres_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// seeded returns a generator, and says how to repeat the test.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PENSTOCK_TEST_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	t.Logf("repeat with PENSTOCK_TEST_SEED=%d go test -run %s ./internal/postgres", seed, t.Name())
	return rand.New(rand.NewPCG(seed, 0))
}

// TestL2_NothingCommittedIsLostByKill9 kills a writing process at a random moment, checks the
// database, and lets the next process go on from there.
func TestL2_NothingCommittedIsLostByKill9(t *testing.T) {
	url, random := database(t), seeded(t)
	store := open(t, postgres.Config{URL: url})
	for round := range 3 {
		said := killAfter(t, url, 1+random.IntN(60))
		checkSurvivors(t, round, store, said)
	}
}

func checkSurvivors(t *testing.T, round int, store *postgres.Store, said []byte) {
	t.Helper()
	orders := storetest.CheckSurvivors(t, store, bytes.NewReader(said))
	t.Logf("round %d: %d lines said, %d orders survived", round, bytes.Count(said, []byte("\n")), orders)
}

// killAfter starts a victim, kills it after so many lines of output, and returns its whole output.
func killAfter(t *testing.T, url string, lines int) []byte {
	t.Helper()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimURL+"="+url)
	var complaint bytes.Buffer
	victim.Stderr = &complaint
	out, err := victim.StdoutPipe()
	must(t, err, victim.Start())
	var said []byte
	in := bufio.NewReader(out)
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		if err != nil {
			break // it is dead; a line that it did not finish counts for nothing
		}
		said = append(said, text...)
		if line == lines {
			must(t, victim.Process.Kill())
		}
	}
	if err := victim.Wait(); err == nil || complaint.Len() > 0 {
		t.Fatalf("the victim was not killed: %v: %s", err, complaint.String())
	}
	return said
}

// notes keeps a writer's output, and signals when it has so many lines.
type notes struct {
	mu     sync.Mutex
	text   bytes.Buffer
	wanted int
	enough chan struct{}
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wanted--; n.wanted == 0 {
		close(n.enough)
	}
	return n.text.Write(p)
}

// TestL2_NothingCommittedIsLostByTheServersKill9 kills the server at a random moment while a writer
// works. The same store of the writer connects again.
func TestL2_NothingCommittedIsLostByTheServersKill9(t *testing.T) {
	server, random := servers.NewPostgres(t), seeded(t)
	store := open(t, postgres.Config{URL: copyTemplate(t, server)})
	for round := range 3 {
		said := &notes{wanted: 1 + random.IntN(60), enough: make(chan struct{})}
		written := make(chan error, 1)
		go func() { written <- storetest.WriteUntilKilled(t.Context(), patient{store}, said) }()
		select {
		case <-said.enough:
		case err := <-written:
			t.Fatal(err)
		}
		server.Kill()
		if err := <-written; err == nil || errors.Is(err, context.Canceled) {
			t.Fatalf("the writer ended with %v", err)
		}
		// A backend that was forked during the kill outlives its postmaster for a moment.
		for ctx, cancel := context.WithTimeout(t.Context(), time.Minute); ; {
			if _, err := store.Shards(ctx); err != nil {
				if ctx.Err() != nil {
					t.Error("a dead server answered for a minute")
				}
				cancel()
				break
			}
		}
		server.Start()
		checkSurvivors(t, round, store, said.text.Bytes())
	}
}

// A server that hangs is an error when the caller's time is over, and nothing once it goes on.
func TestStore_AServerThatHangs(t *testing.T) {
	server := servers.NewPostgres(t)
	store := open(t, postgres.Config{URL: copyTemplate(t, server)})
	s := newSale(t, store, 10, 0)
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, accepted := store.Accept(ctx, s.batch(s.promise("u-1", "k", 1)))
	_, found := store.FindOrders(ctx, []seckill.OrderID{s.promise("u-1", "k", 1).Order})
	for _, err := range []error{accepted, found} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a server that hangs: %v", err)
		}
	}
	server.Resume()
	if got := outcomes(t, store, s.batch(s.promise("u-1", "k", 1))); got[0] != opened && got[0] != exists {
		t.Errorf("outcome %v", got)
	}
}

// A restart is a new life of the database: nothing that was read before it decides any more.
func TestL2_ARestartIsANewIncarnation(t *testing.T) {
	server := servers.NewPostgres(t)
	store := open(t, postgres.Config{URL: copyTemplate(t, server)})
	s := newSale(t, store, 10, 0)
	life := incarnation(t, store)
	next := nextRef(t, store, s.ref.Shard)
	server.Kill()
	server.Start()
	promise := s.promise("u-1", "k", 1)
	hold := promise.Hold()
	_, err := store.Bury(t.Context(), s.ref, life, []inventory.Hold{hold})
	for t.Context().Err() == nil && err != nil && !errors.Is(err, seckill.ErrFenced) { // over an earlier connection
		_, err = store.Bury(t.Context(), s.ref, life, []inventory.Hold{hold})
	}
	if !errors.Is(err, seckill.ErrFenced) {
		t.Errorf("bury: %v", err)
	}
	if err := store.Fence(t.Context(), next, life); !errors.Is(err, seckill.ErrFenced) {
		t.Errorf("fence: %v", err)
	}
	must(t, store.Fence(t.Context(), next, incarnation(t, store)))
}

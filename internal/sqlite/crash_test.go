package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/internal/sqlite"
)

// victimPath is the variable that makes this test binary the process to be killed. Its value is the
// database's path.
const victimPath = "PENSTOCK_TEST_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(victimPath); path != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(path)) // reached only when something went wrong
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func writeUntilKilled(path string) error {
	store, err := sqlite.Open(context.Background(), sqlite.Config{Path: path, Shards: storetest.Shards})
	if err != nil {
		return err
	}
	return storetest.WriteUntilKilled(context.Background(), store, os.Stdout)
}

// TestL2_NothingCommittedIsLostByKill9 kills a writing process at a random moment, opens its
// database, and lets the next process go on from there.
func TestL2_NothingCommittedIsLostByKill9(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PENSTOCK_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with PENSTOCK_TEST_SEED=%d go test -run %s ./internal/sqlite", seed, t.Name())
	random := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "penstock.db")
	for round := range 4 {
		said := killAfter(t, path, 1+random.IntN(60))
		store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Shards: storetest.Shards})
		if err != nil {
			t.Fatal(err)
		}
		orders := storetest.CheckSurvivors(t, store, bytes.NewReader(said))
		t.Logf("round %d: %d lines said, %d orders survived", round, bytes.Count(said, []byte("\n")), orders)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter starts a victim, kills it after so many lines of output, and returns its whole output.
func killAfter(t *testing.T, path string, lines int) []byte {
	t.Helper()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimPath+"="+path)
	var complaint bytes.Buffer
	victim.Stderr = &complaint
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var said []byte
	in := bufio.NewReader(out)
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		if err != nil {
			break // it is dead; a line that it did not finish counts for nothing
		}
		said = append(said, text...)
		if line == lines {
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := victim.Wait(); err == nil || complaint.Len() > 0 {
		t.Fatalf("the victim was not killed: %v: %s", err, complaint.String())
	}
	return said
}

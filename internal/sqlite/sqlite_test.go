package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"penstock/internal/sqlite"
	"penstock/internal/storetest"
	"penstock/seckill"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a store that the test's cleanup closes.
func open(t testing.TB, config sqlite.Config) *sqlite.Store {
	t.Helper()
	if config.Path == "" {
		config.Path = filepath.Join(t.TempDir(), "penstock.db")
	}
	store, err := sqlite.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func TestStore(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T, now func() time.Time) seckill.Store {
		return open(t, sqlite.Config{Now: now})
	})
}

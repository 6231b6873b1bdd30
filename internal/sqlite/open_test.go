package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

var author = seckill.Author{Actor: "ann", Reason: "a test"}

// makeDatabase makes a database with something in it and returns its path.
func makeDatabase(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "penstock.db")
	store := open(t, sqlite.Config{Path: path})
	if err := seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m1", Name: "Phones"}, author); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// merchants returns the names of the catalog's merchants.
func merchants(t *testing.T, store *sqlite.Store) (names []string, err error) {
	t.Helper()
	_, err = store.LoadCatalog(t.Context(), seckill.CatalogVersion{}, func(bool) {}, func(c seckill.CatalogChange) error {
		if c.Merchant != nil {
			names = append(names, c.Merchant.Name)
		}
		return nil
	})
	return names, err
}

// edit runs SQL on a file without the store.
func edit(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_KeepsWhatWasWritten(t *testing.T) {
	path := makeDatabase(t)
	for range 2 {
		var log bytes.Buffer
		store := open(t, sqlite.Config{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if names, err := merchants(t, store); err != nil || len(names) != 1 || names[0] != "Phones" {
			t.Fatalf("merchants %v, %v", names, err)
		}
		if strings.Contains(log.String(), "migrated") {
			t.Errorf("a schema that was up to date was migrated: %s", &log)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A database that is missing, or whose log is missing, is not silently made again when its owner
// knows that it existed.
func TestOpen_MakesNoneWhereThereWasOne(t *testing.T) {
	path := makeDatabase(t)
	for range 2 {
		if err := open(t, sqlite.Config{Path: path, Existing: true}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(){
		"empty": func() { write(t, path, nil) }, "gone": func() { remove(t, path) },
	} {
		damage()
		if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Existing: true}); !errors.Is(err, sqlite.ErrMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpen_RefusesANewerSchema(t *testing.T) {
	path := makeDatabase(t)
	edit(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, 1)")
	_, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if !errors.Is(err, sqlite.ErrNewerSchema) || !strings.Contains(err.Error(), "version 4711") || !strings.Contains(err.Error(), "up to 1") {
		t.Fatal(err)
	}
}

func TestOpen_RefusesWhatIsNoneOfItsFiles(t *testing.T) {
	for name, damage := range map[string]func(path string){
		"text":            func(path string) { write(t, path, []byte(strings.Repeat("not a database\n", 1000))) },
		"a torn header":   func(path string) { overwrite(t, path, 0, 100) },
		"a torn schema":   func(path string) { overwrite(t, path, 100, 3000) },
		"another program": func(path string) { remove(t, path); edit(t, path, "CREATE TABLE theirs (x)") },
		"another program's mark": func(path string) {
			remove(t, path)
			edit(t, path, "PRAGMA application_id = 77; CREATE TABLE theirs (x)")
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := makeDatabase(t)
			damage(path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = sqlite.Open(t.Context(), sqlite.Config{Path: path})
			if !errors.Is(err, sqlite.ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Fatal(err)
			}
			t.Log(err)
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// overwrite damages n bytes of a file.
func overwrite(t *testing.T, path string, from, n int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range min(n, len(content)-from) {
		content[from+i] ^= 0xa5
	}
	write(t, path, content)
}

func TestOpen_DamageFoundLaterIsCalledDamage(t *testing.T) {
	path := makeDatabase(t)
	overwrite(t, path, 4096, 1<<20) // everything but the schema's page
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err == nil {
		defer func() {
			if err := store.Close(); err != nil {
				t.Log(err) // it may or may not be able to fold its log in
			}
		}()
		_, err = merchants(t, store)
	}
	if !errors.Is(err, sqlite.ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestOpen_SaysWhereItCannotWrite(t *testing.T) {
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // root may write everywhere, but not here
		closed = "/proc"
	}
	for name, path := range map[string]string{
		"closed directory":  filepath.Join(closed, "penstock.db"),
		"missing directory": filepath.Join(t.TempDir(), "missing", "penstock.db"),
		"a directory":       t.TempDir(),
	} {
		store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		if err == nil || store != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The number of shards decides on which shard an item lies. With another number, all items would be
// lost.
func TestOpen_RefusesAnotherNumberOfShards(t *testing.T) {
	path := makeDatabase(t)
	_, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Shards: 16})
	if !errors.Is(err, seckill.ErrLayout) {
		t.Fatal(err)
	}
	for _, want := range []string{path, "shards", "with 4", "is 16"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q says nothing of %s", err, want)
		}
	}
	rows, err := open(t, sqlite.Config{Path: path, Shards: 4}).Shards(t.Context())
	if err != nil || len(rows) != 4 {
		t.Errorf("shards %+v, %v", rows, err)
	}
}

// Each life of the database has its own id: work from before a restart must not be taken for work
// of the new life.
func TestOpen_BeginsANewIncarnation(t *testing.T) {
	path := makeDatabase(t)
	lives := make(map[string]bool)
	for range 3 {
		store := open(t, sqlite.Config{Path: path})
		life, err := store.Incarnation(t.Context())
		if err != nil || life == "" || lives[life] {
			t.Fatalf("incarnation %q after %v, %v", life, lives, err)
		}
		for before := range lives {
			epoch, err := store.NextEpoch(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Fence(t.Context(), inventory.Ref{Epoch: epoch}, before); !errors.Is(err, seckill.ErrFenced) {
				t.Errorf("fenced in an earlier life: %v", err)
			}
		}
		lives[life] = true
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen_IsTheOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "penstock.db")
	store := open(t, sqlite.Config{Path: path})
	if err := seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m1", PaymentSecret: "hush"}, author); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != fs.FileMode(0o600) {
			t.Errorf("%s: %v, %v", filepath.Base(name), info.Mode(), err)
		}
	}
}

func TestOpen_TakesAnyPath(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b", "a?mode=memory", "a#b", "a%20b", "é", "a&_pragma=x"} {
		open(t, sqlite.Config{Path: filepath.Join(dir, name)})
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%q: %v", name, err)
		}
	}
	t.Chdir(dir)
	open(t, sqlite.Config{Path: "relative.db"})
	if _, err := os.Stat(filepath.Join(dir, "relative.db")); err != nil {
		t.Error(err)
	}
}

func TestOpen_GivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(t.TempDir(), "penstock.db")}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestConfig_NamesAllThatIsWrong(t *testing.T) {
	config := sqlite.Config{Synchronous: "off", Readers: -1, Shards: 1025}
	err := config.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, want := range []string{"path", `synchronous: "off"`, "readers", "shards: 1025"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q says nothing of %s", err, want)
		}
	}
	if _, opened := sqlite.Open(t.Context(), config); opened == nil {
		t.Error("opened")
	}
	for _, synchronous := range []string{"", "normal", "full"} {
		config := sqlite.Config{Path: "x", Synchronous: synchronous}
		if err := config.Validate(); err != nil {
			t.Errorf("synchronous %q: %v", synchronous, err)
		}
	}
}

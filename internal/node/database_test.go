package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/seckill"
)

// away is the error of an open when the server doesn't answer.
func away(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := postgres.Open(ctx, postgres.Config{URL: "postgres://u@127.0.0.1:1/x?sslmode=disable"})
	return err
}

func TestDatabase_ComesLater(t *testing.T) {
	missing := away(t.Context())
	if !postgres.Unreachable(missing) {
		t.Fatal(missing)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	there := false
	d := newDatabase("database x", func(ctx context.Context) (fullStore, error) {
		if !there {
			return nil, missing
		}
		return sqlite.Open(ctx, sqlite.Config{Path: path})
	}, slog.New(slog.DiscardHandler))
	if err := d.try(t.Context()); err != nil {
		t.Fatalf("a server that is away is no fault: %v", err)
	}
	if _, err := d.Shards(t.Context()); !errors.Is(err, missing) {
		t.Errorf("without it: %v", err)
	}
	there = true
	if err := d.try(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows, err := d.Shards(t.Context()); err != nil || len(rows) != 4 {
		t.Errorf("with it: %v, %v", rows, err)
	}
	if now, err := d.now(t.Context()); err != nil || time.Since(now).Abs() > time.Minute {
		t.Errorf("its time: %v, %v", now, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestDatabase_GoesOnWithoutIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		layout := fmt.Errorf("%w: 4 shards, and not 16", seckill.ErrLayout)
		tries := 0
		d := newDatabase("database x", func(ctx context.Context) (fullStore, error) {
			if tries++; tries < 5 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, layout
		}, slog.New(slog.DiscardHandler))
		began := time.Now()
		if err := d.start(t.Context(), func(err error) { failed <- err }); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != startPatience {
			t.Errorf("went on after %v", waited)
		}
		var fault *FaultError
		if err := <-failed; !errors.As(err, &fault) || !fault.Settings || !errors.Is(err, seckill.ErrLayout) {
			t.Errorf("another layout: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// closable is a store that nobody asks.
type closable struct{ fullStore }

func (closable) Close() error { return nil }

// TestDatabase_MigrationTakesItsTime: a migration isn't cut off by the limit of a try, and a start
// goes on without it after a while.
func TestDatabase_MigrationTakesItsTime(t *testing.T) {
	for _, took := range []time.Duration{15 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			var d *database
			d = newDatabase("database x", func(ctx context.Context) (fullStore, error) {
				tries++
				d.migrates()
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(took):
				}
				return closable{}, nil
			}, slog.New(slog.DiscardHandler))
			began := time.Now()
			if err := d.start(t.Context(), func(err error) { t.Error(err) }); err != nil {
				t.Fatal(err)
			}
			if waited, want := time.Since(began), min(took, migrationPatience); waited != want {
				t.Errorf("a migration of %v: went on after %v, want %v", took, waited, want)
			}
			if _, err := d.store(); took > migrationPatience && !errors.Is(err, errMigrates) {
				t.Errorf("meanwhile: %v", err)
			}
			time.Sleep(took)
			synctest.Wait()
			if _, err := d.store(); err != nil || tries != 1 {
				t.Errorf("after %d tries: %v", tries, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDatabase_Faults(t *testing.T) {
	for _, c := range []struct {
		err      error
		settings bool
	}{
		{fmt.Errorf("%w: 4 shards", seckill.ErrLayout), true}, {postgres.ErrNewerSchema, false}, {postgres.ErrServer, false},
	} {
		d := newDatabase("x", func(context.Context) (fullStore, error) { return nil, c.err }, slog.New(slog.DiscardHandler))
		var fault *FaultError
		if err := d.start(t.Context(), nil); !errors.As(err, &fault) || fault.Settings != c.settings || !errors.Is(err, c.err) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

// TestNode_DatabaseThatWasNotAskedYet: a node that has just started says nothing of a database that
// it hasn't read from. The database is away once it has been silent for a while.
func TestNode_DatabaseThatWasNotAskedYet(t *testing.T) {
	n := start(t, testConfig(t), RoleGateway|RoleWorker)
	s := &n.servers
	sale, err := NewSale(n.cfg.Sale, Seams{Stock: s.stock, Queue: s.queue, Store: s.database, Name: "new", Open: n.vault.Open},
		RoleGateway, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sale.Close)
	started := &Node{cfg: n.cfg, health: &health{hasCatalog: func() bool { return true }}, sale: sale}
	started.servers.database = s.database
	if got := started.databaseStates()[0]; got.State != serverOK {
		t.Errorf("before the first reading: %+v", got)
	}
	sale.noteFollow(errors.New("connection refused"))
	if got := started.databaseStates()[0]; got.State != serverOK {
		t.Errorf("after a call that failed: %+v", got)
	}
	sale.followed.Set(time.Now().Add(-databaseFails - time.Second/2))
	if got := started.databaseStates()[0]; got.State != serverAway || !strings.HasSuffix(got.Detail, "connection refused") {
		t.Errorf("after a second in which each call failed: %+v", got)
	}
	started.cfg.Sale.Tick = 2 * time.Second
	if got := started.databaseStates()[0]; got.State != serverOK {
		t.Errorf("after a call that failed, of one each two seconds: %+v", got)
	}
	started.cfg.Sale.Tick = n.cfg.Sale.Tick
	sale.noteFollow(nil)
	if got := started.databaseStates()[0]; got.State != serverOK {
		t.Errorf("silent for a moment: %+v", got)
	}
	sale.followed.Set(time.Now().Add(-time.Minute))
	if got := started.databaseStates()[0]; got.State != serverAway {
		t.Errorf("after a silent minute: %+v", got)
	}
}

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/backoffice"
)

// fullStore is a store with all its parts: the truth of the sale, the settings, and the steps of
// orders.
type fullStore interface {
	seckill.Store
	settings.Store
	backoffice.EventStore
}

// database is a store that may become available later. Until then each call fails at once, and
// nothing happened.
type database struct {
	// Fixed after newDatabase.
	name string
	open func(context.Context) (fullStore, error)
	log  *slog.Logger

	opened atomic.Pointer[fullStore]
	why    atomic.Pointer[error]      // why it is not there
	limit  atomic.Pointer[time.Timer] // of the try under way; nil before

	migrating chan struct{}      // a migration has begun; of capacity 1
	stop      context.CancelFunc // ends wait; nil before
	work      sync.WaitGroup
}

// Why a store is not there, besides what opening it says.
var (
	errMigrates = errors.New("its schema is being migrated")
	errSilent   = errors.New("it has not answered yet")
)

var _ fullStore = (*database)(nil)

func newDatabase(name string, open func(context.Context) (fullStore, error), log *slog.Logger) *database {
	return &database{name: name, open: open, log: log, migrating: make(chan struct{}, 1)}
}

// store returns the store, or why it isn't available.
func (d *database) store() (fullStore, error) {
	if s := d.opened.Load(); s != nil {
		return *s, nil
	}
	if why := d.why.Load(); why != nil && errors.Is(*why, errMigrates) {
		return nil, fmt.Errorf("%s isn't ready: %w", d.name, *why)
	} else if why != nil {
		return nil, fmt.Errorf("%s was not reached yet: %w", d.name, *why)
	}
	return nil, fmt.Errorf("%s was not reached yet", d.name)
}

// try opens the store. If waiting may help, the error is kept and not returned.
func (d *database) try(ctx context.Context) error {
	s, err := d.open(ctx)
	if err == nil {
		d.opened.Store(&s)
		return nil
	}
	d.why.Store(&err)
	switch {
	case postgres.Unreachable(err), ctx.Err() != nil:
		return nil
	case errors.Is(err, seckill.ErrLayout):
		return badSetting(fmt.Errorf("shards: %w", err))
	}
	return unfit(fmt.Errorf("%s: %w", d.name, err))
}

// migrates notes that the schema is being migrated, which may take longer than any try.
func (d *database) migrates() {
	why := errMigrates
	d.why.Store(&why)
	if limit := d.limit.Load(); limit != nil {
		limit.Stop()
	}
	d.log.Info("the schema is being migrated", "server", d.name)
	select {
	case d.migrating <- struct{}{}:
	default: // it is told already
	}
}

// attempt is try with a limit, which a migration lifts.
func (d *database) attempt(ctx context.Context) error {
	try, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := time.AfterFunc(tryTimeout, cancel)
	defer limit.Stop()
	d.limit.Store(limit)
	err := d.try(try)
	if why := d.why.Load(); err == nil && try.Err() != nil && why != nil {
		silent := fmt.Errorf("no answer within %v: %w", tryTimeout, *why)
		d.why.Store(&silent)
	}
	return err
}

// start opens the store. If the database can't be reached, start returns and tries again in the
// background. So it does where a migration takes long. It fails if the database answers but can't
// be used; if that happens later, it calls failed.
func (d *database) start(ctx context.Context, failed func(error)) error {
	wait, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	first, late := make(chan error), make(chan struct{})
	d.work.Go(func() { d.wait(wait, first, late, failed) })
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	for waits := true; waits; {
		select {
		case err := <-first:
			if err != nil || d.opened.Load() != nil {
				return err
			}
			waits = false
		case <-d.migrating:
			patience.Reset(migrationPatience)
		case <-patience.C:
			waits = false
		case <-ctx.Done():
			waits = false
		}
	}
	close(late)
	why := errSilent
	if known := d.why.Load(); known != nil {
		why = *known
	}
	d.log.Warn("the database isn't there yet; going on without it until it is there", "server", d.name, "err", why)
	return nil
}

// wait tries until the store is there, or can't be used. It tells the end of its first try on
// first, until late is closed.
func (d *database) wait(ctx context.Context, first chan<- error, late <-chan struct{}, failed func(error)) {
	pause := newBackoff()
	for {
		err := d.attempt(ctx)
		ended := err != nil || d.opened.Load() != nil
		select {
		case first <- err:
			if ended {
				return
			}
		case <-late:
		}
		switch {
		case d.opened.Load() != nil:
			d.log.Info("the database is available", "server", d.name)
			return
		case err != nil:
			failed(err)
			return
		case !pause.Wait(ctx):
			return
		}
	}
}

// Close implements seckill.Store.
func (d *database) Close() error {
	if d.stop != nil {
		d.stop()
		d.work.Wait()
	}
	if s := d.opened.Load(); s != nil {
		return (*s).Close()
	}
	return nil
}

// stats returns the state of the connections to PostgreSQL. The embedded database has none.
func (d *database) stats() postgres.Stats {
	if s := d.opened.Load(); s != nil {
		if store, ok := (*s).(*postgres.Store); ok {
			return store.Stats()
		}
	}
	return postgres.Stats{}
}

// refused returns why PostgreSQL has refused a call within the last span, nil if it has not.
func (d *database) refused(span, least time.Duration) error {
	if store, err := d.postgres(); err == nil && store != nil {
		return store.Refused(span, least)
	}
	return nil
}

// postgres returns the store where it is PostgreSQL, and nil where it is embedded.
func (d *database) postgres() (*postgres.Store, error) {
	s, err := d.store()
	if err != nil {
		return nil, err
	}
	store, _ := s.(*postgres.Store)
	return store, nil
}

// lineage returns a name that identifies this installation. It is "" for an embedded database,
// which shares no server.
func (d *database) lineage(ctx context.Context) (string, error) {
	store, err := d.postgres()
	if err != nil || store == nil {
		return "", err
	}
	return store.Lineage(ctx)
}

// claimKafka returns seckill.ErrForeign if the database belongs to another Kafka cluster.
func (d *database) claimKafka(ctx context.Context, cluster string, worker bool) (adopt bool, err error) {
	store, err := d.postgres()
	if err != nil || store == nil {
		return err == nil, err
	}
	return store.ClaimKafka(ctx, cluster, worker)
}

// now returns the database's time.
func (d *database) now(ctx context.Context) (time.Time, error) {
	_, now, err := d.FindSettings(ctx, settings.Switches)
	return now, err
}

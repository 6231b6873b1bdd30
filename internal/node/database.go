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
	why    atomic.Pointer[error] // why it isn't available

	stop context.CancelFunc // ends wait; nil before that
	work sync.WaitGroup
}

var _ fullStore = (*database)(nil)

func newDatabase(name string, open func(context.Context) (fullStore, error), log *slog.Logger) *database {
	return &database{name: name, open: open, log: log}
}

// store returns the store, or why it isn't available.
func (d *database) store() (fullStore, error) {
	if s := d.opened.Load(); s != nil {
		return *s, nil
	}
	if why := d.why.Load(); why != nil {
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

// start opens the store. If the database can't be reached, start returns and tries again in the
// background. It fails if the database answers but can't be used; if that happens later, it calls
// failed.
func (d *database) start(ctx context.Context, failed func(error)) error {
	first, cancel := context.WithTimeout(ctx, startPatience)
	err := d.try(first)
	cancel()
	if err != nil || d.opened.Load() != nil {
		return err
	}
	d.log.Warn("the database can't be reached; the start continues without it", "server", d.name, "err", *d.why.Load())
	wait, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.work.Go(func() { d.wait(wait, failed) })
	return nil
}

// wait tries to open the store until that succeeds.
func (d *database) wait(ctx context.Context, failed func(error)) {
	pause := newBackoff()
	for pause.Wait(ctx) {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := d.try(try)
		cancel()
		switch {
		case d.opened.Load() != nil:
			d.log.Info("the database is available", "server", d.name)
			return
		case ctx.Err() != nil:
			return
		case err != nil:
			failed(err)
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

// postgres returns the store if it is PostgreSQL, and nil if it is embedded.
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

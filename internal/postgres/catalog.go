package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// lookTime bounds the check whether there are changes. catalogTime bounds the reading of a million
// items, which takes some seconds.
const (
	lookTime    = 2 * time.Second
	catalogTime = time.Minute
)

// LoadCatalog implements seckill.CatalogStore. All changes are in memory before the first one is
// passed to apply, so no transaction waits for apply.
func (s *Store) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(whole bool),
	apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	const what = "load the catalog"
	var now seckill.CatalogVersion
	look, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	err := s.read(look, what, func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, "SELECT penstock_incarnation(), version FROM catalog", nil, &now.Incarnation, &now.Number)
		return err
	})
	if err != nil {
		return seckill.CatalogVersion{}, err
	}
	if now == since { // mostly
		begin(false)
		return now, nil
	}
	c := &catalogReading{since: since}
	if err := s.readSnapshot(ctx, what, func(p *pipe) {
		p.takesLong(catalogTime)
		if since.Number > 0 && since.Incarnation == now.Incarnation {
			p.exec(byIndex) // mostly little has changed
		}
		c.queue(p)
	}); err != nil {
		return seckill.CatalogVersion{}, err
	}
	begin(c.whole)
	for i := range c.changes {
		if err := apply(c.changes[i]); err != nil {
			return seckill.CatalogVersion{}, describe(what, err)
		}
	}
	return c.now, nil
}

// catalogReading has the changes since a version.
type catalogReading struct {
	since   seckill.CatalogVersion
	now     seckill.CatalogVersion
	horizon int64
	whole   bool
	changes []seckill.CatalogChange
}

// queue queues the reading of the changes. The first statement finds the version from which to
// read. Everything is read if the caller's version is of another incarnation of the database, or so
// old that drops since then are forgotten.
func (c *catalogReading) queue(p *pipe) {
	c.changes, c.whole = nil, false
	since, horizon := c.since.Number, "(SELECT CASE WHEN $2 = penstock_incarnation() AND $1 >= horizon THEN $1 ELSE 0 END FROM catalog)"
	args := []any{since, c.since.Incarnation}
	p.each(func(rows pgx.Rows) error {
		err := rows.Scan(&c.now.Incarnation, &c.now.Number, &c.horizon)
		c.whole = since <= 0 || c.since.Incarnation != c.now.Incarnation || since < c.horizon
		return err
	}, "SELECT penstock_incarnation(), version, horizon FROM catalog")
	p.each(func(rows pgx.Rows) error {
		m, err := scanMerchant(rows)
		c.changes = append(c.changes, seckill.CatalogChange{Merchant: &m})
		return err
	}, "SELECT "+merchantColumns+" FROM merchants WHERE changed > "+horizon+" ORDER BY changed", args...)
	queueCallers(p, func(caller *seckill.Caller) {
		c.changes = append(c.changes, seckill.CatalogChange{Caller: caller})
	}, "WHERE c.changed > "+horizon+" ORDER BY c.changed", args...)
	p.each(func(rows pgx.Rows) error {
		var id seckill.ActivityID
		err := rows.Scan((*string)(&id))
		if !c.whole {
			c.changes = append(c.changes, seckill.CatalogChange{Dropped: id})
		}
		return err
	}, "SELECT id FROM dropped_activities WHERE changed > "+horizon+" ORDER BY changed", args...)
	c.queueActivities(p, horizon, args)
}

func (c *catalogReading) queueActivities(p *pipe, horizon string, args []any) {
	activities := make(map[int32]*seckill.Activity)
	p.each(func(rows pgx.Rows) error {
		a, err := scanActivity(rows)
		activities[a.sale] = &a.Activity
		kept := !c.whole && a.itemsChanged <= c.since.Number
		c.changes = append(c.changes, seckill.CatalogChange{Activity: &a.Activity, ItemsKept: kept})
		return err
	}, "SELECT "+activityColumns+" FROM activities AS a WHERE a.changed > "+horizon+" ORDER BY a.changed", args...)
	p.each(func(rows pgx.Rows) error {
		sale, item, err := scanItem(rows)
		a := activities[sale]
		if err == nil && a == nil {
			return fmt.Errorf("item %d has no activity", item.ID)
		}
		if err == nil {
			a.Items = append(a.Items, item)
		}
		return err
	}, "SELECT "+itemColumns+" FROM activities AS a JOIN items AS i USING (sale) WHERE a.changed > "+horizon+
		" AND a.items_changed > "+horizon+" ORDER BY i.sale, i.position", args...)
}

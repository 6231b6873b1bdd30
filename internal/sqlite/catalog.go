package sqlite

import (
	"context"
	"database/sql"

	"github.com/penstock/penstock/seckill"
)

// catalogPage is how many activities are read at once, with their items.
const catalogPage = 64

// LoadCatalog implements seckill.CatalogStore. It holds one state of the file while apply runs.
func (s *Store) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(whole bool),
	apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	const what = "load the catalog"
	now := seckill.CatalogVersion{Incarnation: s.incarnation}
	whole := since.Number <= 0 || since.Incarnation != now.Incarnation
	if whole {
		since.Number = 0
	}
	err := s.read(ctx, what, func(q *statements) error {
		_, err := one(ctx, q, "SELECT version FROM catalog", nil, &now.Number)
		return err
	})
	if err != nil {
		return seckill.CatalogVersion{}, err
	}
	if now == since { // mostly
		begin(false)
		return now, nil
	}
	err = s.readSnapshot(ctx, what, func(sn snapshot) error {
		if _, err := one(ctx, sn, "SELECT version FROM catalog", nil, &now.Number); err != nil {
			return err
		}
		begin(whole)
		return readCatalog(ctx, sn, since.Number, apply)
	})
	if err != nil {
		return seckill.CatalogVersion{}, err
	}
	return now, nil
}

// readCatalog passes everything that changed since a version to apply.
func readCatalog(ctx context.Context, sn snapshot, since int64, apply func(seckill.CatalogChange) error) error {
	rows, err := sn.query(ctx, "SELECT "+merchantColumns+" FROM merchants WHERE changed > ? ORDER BY changed", since)
	err = each(rows, err, func(rows *sql.Rows) error {
		m, err := scanMerchant(rows)
		if err != nil {
			return err
		}
		return apply(seckill.CatalogChange{Merchant: &m})
	})
	if err != nil {
		return err
	}
	callers, err := readCallers(ctx, sn, "WHERE c.changed > ? ORDER BY c.changed", since)
	if err != nil {
		return err
	}
	for _, c := range callers {
		if err := apply(seckill.CatalogChange{Caller: c}); err != nil {
			return err
		}
	}
	if since > 0 {
		rows, err := sn.query(ctx, "SELECT id FROM dropped_activities WHERE changed > ? ORDER BY changed", since)
		err = each(rows, err, func(rows *sql.Rows) error {
			var c seckill.CatalogChange
			if err := rows.Scan(&c.Dropped); err != nil {
				return err
			}
			return apply(c)
		})
		if err != nil {
			return err
		}
	}
	for from := since; ; {
		last, err := readActivities(ctx, sn, from, since, apply)
		if err != nil || last == 0 {
			return err
		}
		from = last
	}
}

// readActivities passes on a page of activities that changed after from, in the order of their
// changes, and returns the version of the last one, or 0 if there was none. Each change has a
// version of its own.
func readActivities(ctx context.Context, sn snapshot, from, since int64, apply func(seckill.CatalogChange) error) (last int64, err error) {
	var page []seckill.CatalogChange
	var ids []seckill.ActivityID // the activities that come with their items
	place := make(map[seckill.ActivityID]*seckill.Activity)
	rows, err := sn.query(ctx, "SELECT "+activityColumns+" FROM activities WHERE changed > ? ORDER BY changed LIMIT ?", from, catalogPage)
	err = each(rows, err, func(rows *sql.Rows) error {
		a, err := scanActivity(rows)
		last = a.changed
		change := seckill.CatalogChange{Activity: &a.Activity, ItemsKept: since > 0 && a.itemsChanged <= since}
		page = append(page, change)
		if !change.ItemsKept {
			ids = append(ids, a.ID)
			place[a.ID] = change.Activity
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	err = readItems(ctx, sn, ids, func(of seckill.ActivityID, i seckill.Item) {
		place[of].Items = append(place[of].Items, i)
	})
	if err != nil {
		return 0, err
	}
	for i := range page {
		if err := apply(page[i]); err != nil {
			return 0, err
		}
	}
	return last, nil
}

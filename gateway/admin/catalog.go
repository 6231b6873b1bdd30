package admin

import (
	"context"
	"slices"
	"sort"

	"penstock/seckill"
)

// view is the catalog at one version, indexed for reading. It is never changed.
type view struct {
	*seckill.CatalogData
	merchants  map[seckill.MerchantID]*seckill.Merchant
	callers    map[seckill.MerchantID][]*seckill.Caller // in the order of their ids
	activities map[seckill.ActivityID]*seckill.Activity
}

// unknownVersion is a version that no catalog has.
const unknownVersion = -1

// catalog returns the catalog as the store has it now. Usually that is a look at its version.
func (s *Server) catalog(ctx context.Context) (*view, error) {
	known := s.view.Load()
	version := int64(unknownVersion)
	if known != nil {
		version = known.Version
	}
	data, err := s.deps.Store.LoadCatalog(ctx, version)
	if err != nil {
		return nil, failed("read the catalog", err)
	}
	if data == nil && known != nil {
		return known, nil
	}
	if data == nil {
		data = new(seckill.CatalogData)
	}
	next := newView(data)
	if known == nil || known.Version < data.Version {
		s.view.CompareAndSwap(known, next) // another reader's may stay: each asks for its version again
	}
	return next, nil
}

func newView(data *seckill.CatalogData) *view {
	v := &view{
		CatalogData: data,
		merchants:   make(map[seckill.MerchantID]*seckill.Merchant, len(data.Merchants)),
		callers:     make(map[seckill.MerchantID][]*seckill.Caller),
		activities:  make(map[seckill.ActivityID]*seckill.Activity, len(data.Activities)),
	}
	sort.Slice(data.Merchants, func(i, j int) bool { return data.Merchants[i].ID < data.Merchants[j].ID })
	sort.Slice(data.Callers, func(i, j int) bool { return data.Callers[i].Caller < data.Callers[j].Caller })
	sort.Slice(data.Activities, func(i, j int) bool { return data.Activities[i].ID < data.Activities[j].ID })
	for i := range data.Merchants {
		v.merchants[data.Merchants[i].ID] = &data.Merchants[i]
	}
	for i := range data.Callers {
		of := data.Callers[i].Merchant
		v.callers[of] = append(v.callers[of], &data.Callers[i])
	}
	for i := range data.Activities {
		v.activities[data.Activities[i].ID] = &data.Activities[i]
	}
	return v
}

// caller returns a caller, or nil.
func (v *view) caller(ref seckill.CallerRef) *seckill.Caller {
	all := v.callers[ref.Merchant]
	i, ok := slices.BinarySearchFunc(all, ref.Caller, func(c *seckill.Caller, id seckill.CallerID) int {
		switch {
		case c.Caller < id:
			return -1
		case c.Caller > id:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return all[i]
}

// page is a part of a list. Next is what to ask for as after (of changes: before) to go on; it is missing on the last page.
type page[T any] struct {
	Items []T `json:"items"`
	Next  any `json:"next,omitempty"`
}

// The sizes of pages.
const (
	defaultPage = 100
	maxPage     = 1_000
)

// cut returns the part of a sorted list that the parameters after and limit ask for, and where the next begins.
func cut[T any](c *call, all []T, key func(T) string) ([]T, any, error) {
	m := new(mistakes)
	limit := int(c.number(m, "limit", defaultPage, 1, maxPage))
	if err := m.err(); err != nil {
		return nil, nil, err
	}
	if after := c.r.URL.Query().Get("after"); after != "" {
		all = all[sort.Search(len(all), func(i int) bool { return key(all[i]) > after }):]
	}
	if len(all) <= limit {
		return all, nil, nil
	}
	return all[:limit], key(all[limit-1]), nil
}

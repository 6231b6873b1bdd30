package admin

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sort"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// catalog returns a catalog that includes all writes from before the call.
func (s *Server) catalog(ctx context.Context) (*seckill.Catalog, error) {
	if err := s.deps.Refresh(ctx); err != nil {
		return nil, failed("read the catalog", err)
	}
	return s.deps.Catalog(), nil
}

// findActivity reads an activity with its present quantities.
func (s *Server) findActivity(ctx context.Context, id seckill.ActivityID) (*seckill.Activity, error) {
	a, err := s.deps.Store.FindActivity(ctx, id)
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		return nil, refuse(problem.UnknownActivity, "There is no activity with this name.")
	case err != nil:
		return nil, failed("read the activity", err)
	}
	return a, nil
}

// sorted returns all values of a sequence, sorted by key.
func sorted[T any, K cmp.Ordered](all iter.Seq[T], key func(T) K) []T {
	return slices.SortedFunc(all, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

// own returns the part of a list that a holder may see.
func own[T any](all iter.Seq[T], may func(T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		for one := range all {
			if may(one) && !yield(one) {
				return
			}
		}
	}
}

// page is a part of a list. Next is the value of the parameter after for the next page (for
// changes: before); it is missing on the last page.
type page[T any] struct {
	Items []T `json:"items"`
	Next  any `json:"next,omitempty"`
}

// The sizes of pages.
const (
	defaultPage = 100
	maxPage     = 1_000
)

// cut returns the part of a sorted list that the parameters after and limit ask for, and where the
// next part begins.
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

package admin

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// The kinds of names that a scope of a switch, or a match of a limit, may have.
const (
	kindOfMerchant = "merchant"
	kindOfCaller   = "caller"   // merchant/caller
	kindOfActivity = "activity" // for a SKU, /sku follows it
	kindOfSKU      = "sku"      // a SKU in any activity, or activity/sku
)

// unknownName returns an error text with similar names if a name is unknown, and "" if it is known.
// It looks for a newer catalog first; if the database can't be reached, the catalog in force
// decides.
func (c *call) unknownName(ctx context.Context, kind, name string) string {
	if hasName(c.server.deps.Catalog(), kind, name) {
		return ""
	}
	c.lookAgain(ctx)
	return wrongName(c.server.deps.Catalog(), kind, name)
}

// lookAgain looks for a newer catalog if a name isn't in the one in force.
func (c *call) lookAgain(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, emergencyPatience)
	defer cancel()
	c.server.refresh(short)
}

// wrongName returns an error text with similar names if a catalog doesn't have the name, "" if it
// has.
func wrongName(catalog *seckill.Catalog, kind, name string) string {
	if hasName(catalog, kind, name) {
		return ""
	}
	wrong := fmt.Sprintf("there is no %s %s", kind, name)
	if near := nearest(name, namesOf(catalog, kind, strings.Contains(name, "/"))); len(near) > 0 {
		wrong += "; did you mean " + strings.Join(near, ", ") + "?"
	} else {
		wrong += "."
	}
	return wrong + " With allow_unknown it is set anyway"
}

// maxUnknown is how many unknown names of one request are reported. Each costs a search of all
// names.
const maxUnknown = 20

// unknownMatches records the policies whose key doesn't exist. A policy that had this key before,
// in was, is accepted: its activity may be archived, or its caller revoked.
func (c *call) unknownMatches(ctx context.Context, d, was *limiter.Document, m *mistakes) {
	type subject struct {
		key   limiter.Kind
		match string
	}
	known := make(map[subject]bool, len(was.Policies))
	for i := range was.Policies {
		known[subject{was.Policies[i].Key, was.Policies[i].Match}] = true
	}
	looked, found := false, 0
	for i := range d.Policies {
		p := &d.Policies[i]
		kind, name := matchedName(p)
		if kind == "" || known[subject{p.Key, p.Match}] || hasName(c.server.deps.Catalog(), kind, name) {
			continue
		}
		if !looked { // look once for all of them
			c.lookAgain(ctx)
			looked = true
		}
		if wrong := wrongName(c.server.deps.Catalog(), kind, name); wrong != "" {
			m.add(fmt.Sprintf("policies[%d].match", i), wrong)
			if found++; found == maxUnknown {
				m.add("policies", "may match further names that don't exist: not all were looked at")
				return
			}
		}
	}
}

// matchedName is the name that has to exist for a policy to match anything, or "" if there is none:
// users and addresses have no names in the catalog.
func matchedName(p *limiter.Policy) (kind, name string) {
	if p.Match == "" {
		return "", ""
	}
	switch p.Key {
	case limiter.Merchant:
		return kindOfMerchant, p.Match
	case limiter.User:
		merchant, _, _ := strings.Cut(p.Match, "/")
		return kindOfMerchant, merchant
	case limiter.Caller:
		return kindOfCaller, p.Match
	case limiter.Activity:
		return kindOfActivity, p.Match
	case limiter.SKU:
		return kindOfSKU, p.Match
	}
	return "", ""
}

// hasName reports whether the catalog has that name.
func hasName(c *seckill.Catalog, kind, name string) bool {
	first, second, both := strings.Cut(name, "/")
	switch kind {
	case kindOfMerchant:
		return c.Merchant(seckill.MerchantID(name)) != nil
	case kindOfCaller:
		return c.NamedCaller(seckill.CallerRef{Merchant: seckill.MerchantID(first), Caller: seckill.CallerID(second)}) != nil
	case kindOfActivity:
		return c.Activity(seckill.ActivityID(name)) != nil
	}
	if both {
		sale := c.Activity(seckill.ActivityID(first))
		if sale == nil {
			return false
		}
		_, ok := sale.Offer(seckill.SKU(second))
		return ok
	}
	for sale := range c.Sales() {
		if _, ok := sale.Offer(seckill.SKU(name)); ok {
			return true
		}
	}
	return false
}

// namesOf returns all names of a kind. With both, each SKU is listed alone and also with its
// activity.
func namesOf(c *seckill.Catalog, kind string, both bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		switch kind {
		case kindOfMerchant:
			for m := range c.Merchants() {
				if !yield(string(m.ID)) {
					return
				}
			}
		case kindOfCaller:
			for caller := range c.Callers() {
				if !yield(caller.String()) {
					return
				}
			}
		default:
			for sale := range c.Sales() {
				if kind == kindOfActivity && !yield(string(sale.ID)) {
					return
				}
				for i := 0; kind == kindOfSKU && i < len(sale.Items); i++ {
					name := string(sale.Items[i].SKU)
					if both {
						name = string(sale.ID) + "/" + name
					}
					if !yield(name) {
						return
					}
				}
			}
		}
	}
}

// The bounds of suggestions for an unknown name: their number, and how many letters may differ.
const (
	maxNear     = 3
	maxDistance = 3
)

// nearest returns the names that are similar to a name, the most similar first: they differ in a
// few letters, or contain it.
func nearest(name string, all iter.Seq[string]) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for other := range all {
		d := distance(strings.ToLower(name), strings.ToLower(other))
		if d > maxDistance || d >= max(len(name), len(other)) {
			if len(name) < 3 || !strings.Contains(strings.ToLower(other), strings.ToLower(name)) {
				continue
			}
			d = maxDistance + 1
		}
		next := candidate{other, d}
		i, same := slices.BinarySearchFunc(found, next, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
		})
		if !same && i < maxNear {
			found = slices.Insert(found, i, next)
			found = found[:min(len(found), maxNear)]
		}
	}
	out := make([]string, len(found))
	for i := range found {
		out[i] = found[i].name
	}
	return out
}

// distance returns how many letters must be inserted, deleted or replaced to make b from a
// (Levenshtein). It stops counting above maxDistance.
func distance(a, b string) int {
	if d := len(a) - len(b); d > maxDistance || -d > maxDistance {
		return maxDistance + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal, least := row[0], i+1
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
			least = min(least, row[j+1])
		}
		if least > maxDistance {
			return maxDistance + 1
		}
	}
	return row[len(b)]
}

package loadtest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync/atomic"
	"time"
)

// Item is a SKU of a sale that a load buys.
type Item struct {
	Activity string
	// SKU names the item. In a LoadConfig "" is every item of the sale's page, in its order.
	SKU string
	// Known says that Stock and Available are known. Without them overselling, or a "sold out" that
	// comes too early, is not judged.
	Known bool
	// Stock is how many units this load can get at most, Available how many are there for it from
	// the start.
	Stock, Available int
	// PerUser is how many units one user may have. 0 means what the sale's page says; if the page
	// has no limit, the limit is not judged.
	PerUser int
	// Price (per unit, in minor units) and Currency are needed to pay. Where Price is 0 they are
	// the page's.
	Price    int64
	Currency string
}

// String returns the item as people write it.
func (i *Item) String() string { return i.Activity + "/" + i.SKU }

// goods is an item while it is bought.
type goods struct {
	Item
	callers []int  // that may buy it, as indexes of the shop's
	head    []byte // of the body of a purchase, up to the user

	// Atomic.
	units        atomic.Int64           // that may be taken by now: of keys that were sent and not finally refused
	soldOut      atomic.Int64           // final answers "sold out" that came later than soldOutGrace after the start
	soldOutFalse atomic.Int64           // of those: while the stock can't have been taken
	counts       [outcomes]atomic.Int64 // answers to purchases
}

// newGoods returns an item that is to be bought by callers.
func newGoods(item *Item, callers ...int) *goods {
	sku, err := json.Marshal(item.SKU)
	if err != nil {
		panic(err) // a string is always JSON
	}
	head := fmt.Appendf(nil, `{"activity":"%s","sku":%s,"user":"`, item.Activity, sku)
	return &goods{Item: *item, callers: callers, head: head}
}

// purchase has the goods and the owner of a key. It never changes.
type purchase struct {
	goods     *goods
	caller    int // index of the shop's callers
	user, key string
}

// took notes that the purchase may take units, before it is sent.
func (g *goods) took(quantity int) { g.units.Add(int64(quantity)) }

// refused notes that a purchase took nothing, ever. When the "no" says sold out, the units that can
// have been taken up to then are known; if a unit was left, it had been available from the start.
func (g *goods) refused(quantity int, ans *answer, start time.Time) {
	left := int64(g.Available) - g.units.Add(-int64(quantity))
	if ans.outcome != SoldOut || ans.at.Sub(start) <= soldOutGrace {
		return
	}
	g.soldOut.Add(1)
	if left > 0 {
		g.soldOutFalse.Add(1)
	}
}

// taste chooses the item of a purchase. It is fixed after newTaste.
type taste struct {
	goods []*goods
	upTo  []float64 // the sum of the shares up to each of goods; the last is 1
}

// newTaste gives each activity the same share. Within one, the k-th item is asked for in proportion
// to k^-zipf.
func newTaste(all []*goods, zipf float64) taste {
	t := taste{goods: all, upTo: make([]float64, len(all))}
	sums, rank := make(map[string]float64), make(map[string]int)
	weights := make([]float64, len(all))
	for i, g := range all {
		rank[g.Activity]++
		weights[i] = math.Pow(float64(rank[g.Activity]), -zipf)
		sums[g.Activity] += weights[i]
	}
	sum := 0.0
	for i, g := range all {
		sum += weights[i] / sums[g.Activity] / float64(len(sums))
		t.upTo[i] = sum
	}
	return t
}

// of returns the entry for a share from 0 to below 1.
func (t *taste) of(share float64) *goods {
	n := sort.Search(len(t.upTo), func(i int) bool { return t.upTo[i] > share })
	return t.goods[min(n, len(t.goods)-1)] // the last sum may be a hair below 1
}

// activityPage has the content of a sale's page.
type activityPage struct {
	Items []struct {
		SKU      string `json:"sku"`
		Price    int64  `json:"price"`
		Currency string `json:"currency"`
		PerUser  int    `json:"per_user"`
	} `json:"items"`
}

// look reads the pages of the sales with each caller, and returns the goods that are bought: the
// page may know items, prices and limits. A server without such pages is no mistake. One that
// doesn't know a caller, or has no such sale for any caller, would say so to every request. A
// caller of another merchant doesn't see a sale, and doesn't buy there.
func look(cfg *LoadConfig, h *hand) ([]*goods, error) {
	var all []*goods
	seen := make(map[int]bool) // callers that see a sale
	for _, activity := range cfg.activities() {
		var page activityPage
		var callers []int
		var refusal string
		for caller := range cfg.CallerKeys {
			ans := h.browse(caller, activity, h.shop.clock.now())
			switch ans.code {
			case "unauthenticated":
				return nil, fmt.Errorf("%w: caller key %d of %d: %s", ErrSale, caller+1, len(cfg.CallerKeys), sample(&h.response, nil))
			case "forbidden", "unknown-activity":
				refusal = sample(&h.response, nil)
				continue
			}
			callers, seen[caller] = append(callers, caller), true
			if ans.outcome == Done && len(page.Items) == 0 {
				if err := json.Unmarshal(h.response.Body(), &page); err != nil {
					page = activityPage{}
				}
			}
		}
		if len(callers) == 0 {
			return nil, fmt.Errorf("%w: %s: %s", ErrSale, activity, refusal)
		}
		items, err := cfg.itemsOf(activity, &page)
		if err != nil {
			return nil, err
		}
		for i := range items {
			all = append(all, newGoods(&items[i], callers...))
		}
	}
	for caller := range cfg.CallerKeys {
		if !seen[caller] {
			return nil, fmt.Errorf("%w: caller key %d of %d sees none of the sales", ErrSale, caller+1, len(cfg.CallerKeys))
		}
	}
	if len(all) > maxItems {
		return nil, fmt.Errorf("%w: the pages have %d items, more than %d: name those to buy", ErrSale, len(all), maxItems)
	}
	return all, nil
}

// activities returns the activities of the items, each once.
func (c *LoadConfig) activities() []string {
	var out []string
	for i := range c.Items {
		if !slices.Contains(out, c.Items[i].Activity) {
			out = append(out, c.Items[i].Activity)
		}
	}
	return out
}

// itemsOf returns the items that are bought of an activity, with the data of its page.
func (c *LoadConfig) itemsOf(activity string, page *activityPage) ([]Item, error) {
	var out []Item
	there := make(map[string]bool) // one that was named need not come again with the page
	for i := range c.Items {
		item := c.Items[i]
		switch {
		case item.Activity != activity:
			continue
		case item.SKU == "" && len(page.Items) == 0:
			return nil, fmt.Errorf("%w: %s: its page names no items: say which", ErrSale, activity)
		}
		skus := []string{item.SKU}
		if item.SKU == "" {
			skus = skus[:0]
			for _, on := range page.Items {
				skus = append(skus, on.SKU)
			}
		}
		for _, item.SKU = range skus {
			if !there[item.SKU] {
				out = append(out, item)
			}
			there[item.SKU] = true
		}
	}
	for i := range out {
		item := &out[i]
		for _, on := range page.Items {
			if on.SKU != item.SKU {
				continue
			}
			if item.PerUser == 0 && on.PerUser > 0 {
				item.PerUser = on.PerUser
			}
			if item.Price == 0 && on.Price > 0 && on.Currency != "" {
				item.Price, item.Currency = on.Price, on.Currency
			}
		}
		if item.Price == 0 && c.pays() {
			return nil, fmt.Errorf("%w: %s: to pay, the price is needed, and the sale's page doesn't say it", ErrSale, item)
		}
	}
	return out, nil
}

// pays reports whether a phase pays orders.
func (c *LoadConfig) pays() bool {
	return slices.ContainsFunc(c.Phases, func(p Phase) bool { return p.Mix.Pay > 0 })
}

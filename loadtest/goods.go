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
	// SKU names the item. In a LoadConfig, "" means every item of the sale's page, in its order.
	SKU string
	// Known means that Stock and Available are known. Without them, overselling and a "sold out"
	// that comes too early are not judged.
	Known bool
	// Stock is how many units this load can get at most. Available is how many of them are
	// available from the start.
	Stock, Available int
	// PerUser is how many units one user may have. 0 means what the sale's page says; if the page
	// has no limit, the limit is not judged.
	PerUser int
	// Price (per unit, in minor units) and Currency are needed to pay. If Price is 0, both come
	// from the page.
	Price    int64
	Currency string
}

// String returns the item as people write it.
func (i *Item) String() string { return i.Activity + "/" + i.SKU }

// goods is an item that is being bought.
type goods struct {
	Item
	callers []int  // the callers that may buy it, by their index in the shop
	head    []byte // the body of a purchase, up to the user

	// Atomic.
	units        atomic.Int64           // units that may be taken by now: units of all keys that were sent and not finally refused
	soldOut      atomic.Int64           // final answers "sold out" that came later than soldOutGrace after the start
	soldOutFalse atomic.Int64           // those of soldOut that came while the stock can't have been used up
	counts       [outcomes]atomic.Int64 // answers to purchases
}

// newGoods returns an item that the given callers will buy.
func newGoods(item *Item, callers ...int) *goods {
	sku, err := json.Marshal(item.SKU)
	if err != nil {
		panic(err) // a string can always be encoded as JSON
	}
	head := fmt.Appendf(nil, `{"activity":"%s","sku":%s,"user":"`, item.Activity, sku)
	return &goods{Item: *item, callers: callers, head: head}
}

// purchase has the goods and the owner of a key. It never changes.
type purchase struct {
	goods     *goods
	caller    int // index of the caller in the shop
	user, key string
}

// took records, before the purchase is sent, that it may take units.
func (g *goods) took(quantity int) { g.units.Add(int64(quantity)) }

// refused records that a purchase has finally taken nothing. If the reason is sold out, the units
// that can have been taken until then are known. If one unit was left, it had been available from
// the start, so the answer was wrong.
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
	upTo  []float64 // for each of goods, the sum of the shares up to it; the last one is 1
}

// newTaste gives each activity the same share. Within an activity, the k-th item is bought in
// proportion to k^-zipf.
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

// of returns the entry for a share that is at least 0 and below 1.
func (t *taste) of(share float64) *goods {
	n := sort.Search(len(t.upTo), func(i int) bool { return t.upTo[i] > share })
	return t.goods[min(n, len(t.goods)-1)] // the last sum may be slightly below 1
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

// look reads the pages of the sales with each caller, and returns the goods to buy: the page may
// know items, prices and limits. A server without such pages is not an error. If the server doesn't
// know a caller, or has no such sale for any caller, every request would fail, so that is an error.
// A caller of another merchant doesn't see a sale, and doesn't buy there.
func look(cfg *LoadConfig, h *hand) ([]*goods, error) {
	var all []*goods
	seen := make(map[int]bool) // callers that see at least one of the sales
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

// activities returns the activities of the items, without repetition.
func (c *LoadConfig) activities() []string {
	var out []string
	for i := range c.Items {
		if !slices.Contains(out, c.Items[i].Activity) {
			out = append(out, c.Items[i].Activity)
		}
	}
	return out
}

// itemsOf returns the items to buy of an activity, with the data of its page.
func (c *LoadConfig) itemsOf(activity string, page *activityPage) ([]Item, error) {
	var out []Item
	there := make(map[string]bool) // an item that was named is not added again from the page
	for i := range c.Items {
		item := c.Items[i]
		switch {
		case item.Activity != activity:
			continue
		case item.SKU == "" && len(page.Items) == 0:
			return nil, fmt.Errorf("%w: %s: its page names no items: name those to buy", ErrSale, activity)
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
			return nil, fmt.Errorf("%w: %s: to pay, the price is needed, but the sale's page doesn't have it", ErrSale, item)
		}
	}
	return out, nil
}

// pays reports whether a phase pays orders.
func (c *LoadConfig) pays() bool {
	return slices.ContainsFunc(c.Phases, func(p Phase) bool { return p.Mix.Pay > 0 })
}

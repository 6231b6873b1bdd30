package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// activity answers GET /v1/activities/{activity}.
//
// The entity tag is weak: it covers everything except server_time, which changes with every answer.
// A client that gets a 304 keeps the page it has. The Date of the 304 tells it the server's time.
func (x *exchange) activity() {
	caller := x.authenticate()
	if caller == nil {
		return
	}
	name, ok := unescape(x.param)
	if !ok {
		x.refuse(problem.UnknownActivity)
		return
	}
	x.visit.Caller, x.visit.Activity = caller, seckill.ActivityID(view(name))
	catalog := x.server.sales.Catalog()
	sale := x.catalog().Activity(x.visit.Activity)
	x.visit.Foreign = sale == nil || sale.Merchant != caller.Merchant
	if !x.enter() {
		return
	}
	defer x.leave()
	if sale == nil {
		var sure bool
		catalog, sure = x.server.sales.Fresh(x.deadline())
		if sale = catalog.Activity(x.visit.Activity); sale == nil && !sure {
			x.notSeen()
			return
		}
	}
	if sale == nil || !mayRead(caller, sale) {
		x.refuse(problem.UnknownActivity)
		return
	}
	p := x.server.pages.current(catalog, sale, x.arrived, x.visit.Static)
	x.header(keyETag, p.etag)
	x.header(keyCacheControl, p.cacheControl)
	if matchesTag(x.http.Request.Header.PeekAll(headerIfNoneMatch), p.etag[len("W/"):]) {
		x.status = fasthttp.StatusNotModified
		x.http.Response.SetStatusCode(x.status)
		return
	}
	x.body = append(x.body[:0], p.head...)
	x.body = appendTime(x.body, x.arrived)
	x.body = append(x.body, '}')
	x.answer(200, jsonType)
}

// mayRead reports whether the caller may see the activity. A caller sees activities of its own
// merchant only, and drafts only with the merchant right.
func mayRead(caller *seckill.Caller, sale *seckill.Sale) bool {
	return sale.Merchant == caller.Merchant && (sale.State != seckill.ActivityDraft || caller.Rights&seckill.RightMerchant != 0)
}

// activityPages keeps the rendered pages of the activities of the catalog in force. A page is
// rendered again when its activity has changed, or an item was seen to have sold out or come back.
type activityPages struct {
	// Fixed.
	started time.Time
	age     time.Duration
	inStock func(seckill.Offer) (inStock bool, age time.Duration)

	catalog atomic.Pointer[seckill.Catalog] // the catalog of the pages' activities
	pages   sync.Map                        // *seckill.Sale → *page
}

// page is the rendered page of an activity. Only looked ever changes.
type page struct {
	stock        []bool // by the item's place in the sale
	etag         []byte // the entity tag, with W/
	cacheControl []byte
	head         []byte       // the body up to the value of server_time
	looked       atomic.Int64 // when the stock was last compared, in nanoseconds after started
}

// current returns the page of sale at now. With static it returns any page that was rendered
// before, no matter how old; nil if there is none.
func (a *activityPages) current(catalog *seckill.Catalog, sale *seckill.Sale, now time.Time, static bool) *page {
	if known := a.catalog.Load(); known != catalog && a.catalog.CompareAndSwap(known, catalog) {
		a.forget(catalog)
	}
	at := int64(now.Sub(a.started))
	kept, ok := a.pages.Load(sale)
	if ok {
		p := kept.(*page)
		if static {
			return p
		}
		looked := p.looked.Load()
		if at-looked < int64(a.age) || !p.looked.CompareAndSwap(looked, at) {
			return p // new enough, or another request is comparing the stock right now
		}
		if a.same(sale, p) {
			return p
		}
	}
	p := a.render(sale)
	p.looked.Store(at)
	a.pages.Store(sale, p)
	return p
}

// forget drops the pages of activities that are no longer in the catalog. A request that still uses
// an older catalog may bring a page back until the next change.
func (a *activityPages) forget(catalog *seckill.Catalog) {
	a.pages.Range(func(key, _ any) bool {
		if sale, ok := key.(*seckill.Sale); ok && catalog.Activity(sale.ID) != sale {
			a.pages.Delete(key)
		}
		return true
	})
}

// same reports whether p shows this stock.
func (a *activityPages) same(sale *seckill.Sale, p *page) bool {
	for i := range sale.Items {
		if a.has(sale, i) != p.stock[i] {
			return false
		}
	}
	return true
}

// has reports whether the sale's i-th item was last seen in stock.
func (a *activityPages) has(sale *seckill.Sale, i int) bool {
	inStock, _ := a.inStock(seckill.Offer{Item: &sale.Items[i], Sale: sale})
	return inStock
}

func (a *activityPages) render(sale *seckill.Sale) *page {
	p := &page{stock: make([]bool, len(sale.Items)), cacheControl: []byte("private, max-age=1")}
	if sale.State == seckill.ActivityDraft {
		p.cacheControl = valueNoStore
	}
	b := append([]byte(nil), `{"activity":`...)
	b = problem.AppendString(b, string(sale.ID))
	b = append(b, `,"name":`...)
	b = problem.AppendString(b, sale.Name)
	b = append(b, `,"state":`...)
	b = problem.AppendString(b, string(sale.State))
	b = append(b, `,"starts_at":`...)
	b = appendTime(b, sale.StartsAt)
	b = append(b, `,"ends_at":`...)
	b = appendTime(b, sale.Closes())
	b = append(b, `,"items":[`...)
	for i := range sale.Items {
		if i > 0 {
			b = append(b, ',')
		}
		item := &sale.Items[i]
		p.stock[i] = a.has(sale, i)
		b = appendItem(b, item, p.stock[i])
	}
	b = append(b, `],"server_time":`...)
	digest := sha256.Sum256(b) // of the content only, so that every gateway gives the same tag
	p.head = b
	p.etag = append(p.etag, `W/"`...)
	p.etag = hex.AppendEncode(p.etag, digest[:8])
	p.etag = append(p.etag, '"')
	return p
}

func appendItem(dst []byte, item *seckill.Item, inStock bool) []byte {
	dst = append(dst, `{"sku":`...)
	dst = problem.AppendString(dst, string(item.SKU))
	dst = append(dst, `,"price":`...)
	dst = appendInt(dst, item.Price.Minor)
	dst = append(dst, `,"currency":`...)
	dst = problem.AppendString(dst, item.Price.Currency)
	dst = append(dst, `,"per_user":`...)
	dst = appendInt(dst, int64(item.PerUser))
	if inStock {
		return append(dst, `,"stock":"in_stock"}`...)
	}
	return append(dst, `,"stock":"sold_out"}`...)
}

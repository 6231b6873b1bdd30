package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

type activityDoc struct {
	Activity      seckill.ActivityID    `json:"activity"`
	Merchant      seckill.MerchantID    `json:"merchant"`
	Name          string                `json:"name"`
	State         seckill.ActivityState `json:"state"`
	StartsAt      stamp                 `json:"starts_at"`
	EndsAt        stamp                 `json:"ends_at"`
	EndedAt       *stamp                `json:"ended_at,omitempty"`
	PaymentWindow string                `json:"payment_window"`
	Archive       *archiveDoc           `json:"archive,omitempty"`
	Items         []itemDoc             `json:"items"`
}

type archiveDoc struct {
	At  stamp  `json:"at"`
	Sum string `json:"sha256"`
}

type itemDoc struct {
	SKU       seckill.SKU `json:"sku"`
	Price     int64       `json:"price"`
	Currency  string      `json:"currency"`
	Quantity  int64       `json:"quantity"`
	PerUser   int         `json:"per_user"`
	MaxOrders int         `json:"max_orders"` // 0 is the default
	Spread    int         `json:"spread"`
}

func newActivityDoc(a *seckill.Activity) activityDoc {
	doc := activityDoc{
		Activity: a.ID, Merchant: a.Merchant, Name: a.Name, State: a.State, StartsAt: stamp(a.StartsAt), EndsAt: stamp(a.EndsAt),
		PaymentWindow: shortDuration(a.PaymentWindow), Items: make([]itemDoc, len(a.Items)),
	}
	if !a.EndedAt.IsZero() {
		ended := stamp(a.EndedAt)
		doc.EndedAt = &ended
	}
	if a.Archive.Sum != "" {
		doc.Archive = &archiveDoc{stamp(a.Archive.At), a.Archive.Sum}
	}
	for i := range a.Items {
		item := &a.Items[i]
		doc.Items[i] = itemDoc{item.SKU, item.Price.Minor, item.Price.Currency, item.Quantity, item.PerUser, item.MaxOrders, item.Spread}
	}
	return doc
}

// shortDuration writes a duration without the zeros that time.Duration adds: 15m, not 15m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// maxListedItems bounds a page of activities by their items: a page is shorter if its activities
// have many items.
const maxListedItems = seckill.MaxItems

// listActivities answers GET /admin/v1/activities.
func (c *call) listActivities() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	name := func(s *seckill.Sale) string { return string(s.ID) }
	part, next, err := cut(c, sorted(own(v.Sales(), func(s *seckill.Sale) bool { return c.token.mayMerchant(s.Merchant) }), name), name)
	if err != nil {
		return err
	}
	docs, items := make([]activityDoc, 0, len(part)), 0
	for i, sale := range part {
		if items += len(sale.Items); items > maxListedItems && i > 0 {
			next = name(part[i-1])
			break
		}
		a, err := c.server.deps.Store.FindActivity(c.context(), sale.ID)
		if errors.Is(err, seckill.ErrNotFound) {
			continue // dropped a moment ago
		}
		if err != nil {
			return failed("read the activity", err)
		}
		docs = append(docs, newActivityDoc(a))
	}
	return c.json(http.StatusOK, page[activityDoc]{docs, next})
}

// pathActivity is the activity that the path names.
func (c *call) pathActivity() seckill.ActivityID {
	return seckill.ActivityID(c.r.PathValue("activity"))
}

// getActivity answers GET /admin/v1/activities/{activity}.
func (c *call) getActivity() error {
	a, err := c.server.findActivity(c.context(), c.pathActivity())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newActivityDoc(a))
}

// putActivity answers PUT /admin/v1/activities/{activity}. The answer of a GET may be put back:
// members that can't be changed this way are accepted if they are unchanged. With dry_run it only
// checks.
func (c *call) putActivity() error {
	m := new(mistakes)
	done, err := c.takeLargeBody()
	if err != nil {
		return err
	}
	defer done()
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	named, isNamed := o.optionalText("activity")
	a := takeActivity(o, c.pathActivity())
	state, stateGiven := o.optionalText("state")
	reason := c.reason(o, m, false)
	dryRun := o.boolean("dry_run")
	o.end()
	if isNamed && len(m.errs) == 0 {
		m.add("activity", seckill.CheckName(named))
	}
	if stateGiven && len(m.errs) == 0 {
		m.add("state", checkState(seckill.ActivityState(state)))
	}
	if err := m.err(); err != nil {
		return err
	}
	if !c.token.mayMerchant(a.Merchant) {
		return c.notOurs()
	}
	if isNamed && named != string(a.ID) {
		return refuse(problem.NotEditable, "The activity in the body is not the one in the path.")
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if stateGiven {
		v, err := c.server.catalog(ctx)
		if err != nil {
			return err
		}
		is := seckill.ActivityDraft
		if old := v.Activity(a.ID); old != nil {
			is = old.State
		}
		if seckill.ActivityState(state) != is {
			return refuse(problem.ActivityState,
				fmt.Sprintf("The activity is %s: its state changes by publish, pause, resume and end only.", is))
		}
	}
	if dryRun {
		if err := c.server.deps.Office.CheckActivity(ctx, a); err != nil {
			return err
		}
		return c.none()
	}
	stored, err := c.server.deps.Office.PutActivity(ctx, a, c.author(reason))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newActivityDoc(stored))
}

// illegibleSKU returns what makes an SKU unreadable, or "".
func illegibleSKU(s string) string {
	if wrong := problem.IllegibleText(s); wrong != "" {
		return wrong
	}
	if _, size := utf8.DecodeRuneInString(s); problem.IllegibleText(s[:size]) != "" {
		return "must begin with a visible character"
	}
	return ""
}

func checkState(s seckill.ActivityState) string {
	switch s {
	case seckill.ActivityDraft, seckill.ActivityPublished, seckill.ActivityPaused, seckill.ActivityEnded:
		return ""
	}
	return "must be draft, published, paused or ended"
}

// takeActivity takes an activity's members. The office checks the values.
func takeActivity(o *object, id seckill.ActivityID) seckill.Activity {
	a := seckill.Activity{
		ID:            id,
		Merchant:      seckill.MerchantID(o.text("merchant")),
		Name:          o.text("name"),
		StartsAt:      o.time("starts_at"),
		EndsAt:        o.time("ends_at"),
		PaymentWindow: o.duration("payment_window"),
	}
	if seckill.CheckTitle(a.Name) == "" { // the office finds other mistakes
		o.add("name", problem.IllegibleText(a.Name))
	}
	raw := o.list("items")
	if len(raw) > seckill.MaxItems {
		o.add("items", fmt.Sprintf("must be 1 to %d items", seckill.MaxItems))
		return a
	}
	a.Items = make([]seckill.Item, 0, len(raw))
	item := &object{raw: make(map[string]json.RawMessage), mistakes: o.mistakes}
	for i, text := range raw {
		item.parse(text, "items["+strconv.Itoa(i)+"].")
		a.Items = append(a.Items, seckill.Item{
			SKU:       seckill.SKU(item.text("sku")),
			Price:     seckill.Money{Minor: item.integer("price"), Currency: item.text("currency")},
			Quantity:  item.integer("quantity"),
			PerUser:   item.count("per_user", true, 0),
			MaxOrders: item.count("max_orders", false, 0),
			Spread:    item.count("spread", false, 1),
		})
		if sku := string(a.Items[i].SKU); seckill.CheckSKU(sku) == "" { // the office finds other mistakes
			item.add(item.at+"sku", illegibleSKU(sku))
		}
		item.end()
	}
	return a
}

// move answers a POST that takes an activity to another state.
func (c *call) move(to func(context.Context, seckill.ActivityID, seckill.Author) (*seckill.Activity, error)) error {
	reason, err := c.onlyReason()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	a, err := to(ctx, c.pathActivity(), c.author(reason))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newActivityDoc(a))
}

func (c *call) publish() error { return c.move(c.server.deps.Office.Publish) }
func (c *call) pause() error   { return c.move(c.server.deps.Office.Pause) }
func (c *call) resume() error  { return c.move(c.server.deps.Office.Resume) }

// end answers POST /admin/v1/activities/{activity}/end.
func (c *call) end() error {
	m := new(mistakes)
	o, err := c.body(m, true)
	if err != nil {
		return err
	}
	confirmed := o.boolean("confirm")
	reason := c.reason(o, m, false)
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	a, err := c.server.deps.Office.End(ctx, c.pathActivity(), confirmed, c.author(reason))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newActivityDoc(a))
}

type restockDoc struct {
	Activity seckill.ActivityID `json:"activity"`
	SKU      seckill.SKU        `json:"sku"`
	Delta    int64              `json:"delta"`
	Total    int64              `json:"total"` // the present total; later changes are included when a request is repeated
}

// restock answers POST /admin/v1/activities/{activity}/items/{sku}/restock.
func (c *call) restock() error {
	m := new(mistakes)
	key := c.r.Header.Get("Idempotency-Key")
	if !isVisible(key, seckill.MaxKeyLength) {
		m.add("header Idempotency-Key", fmt.Sprintf("is required: 1 to %d visible ASCII characters", seckill.MaxKeyLength))
	}
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	before := len(m.errs)
	delta, reason := o.integer("delta"), c.reason(o, m, true)
	o.end()
	if len(m.errs) == before && (delta == 0 || delta < -seckill.MaxItemQuantity || delta > seckill.MaxItemQuantity) {
		m.add("delta", fmt.Sprintf("must be from 1 to %d, or below zero, down to the same number, to take units back", seckill.MaxItemQuantity))
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	sku := seckill.SKU(c.r.PathValue("sku"))
	done, err := c.server.deps.Office.Restock(ctx, c.pathActivity(), sku, key, delta, c.author(reason))
	if err != nil {
		return err
	}
	if done.Replayed {
		c.w.Header().Set("Idempotent-Replayed", "true")
	}
	return c.json(http.StatusOK, restockDoc{c.pathActivity(), sku, delta, done.Total})
}

type auditDoc struct {
	Activity seckill.ActivityID `json:"activity"`
	Balanced bool               `json:"balanced"` // of all items
	Items    []auditItemDoc     `json:"items"`
}

type auditItemDoc struct {
	SKU       seckill.SKU `json:"sku"`
	Total     int64       `json:"total"`
	Available int64       `json:"available"`
	Held      int64       `json:"held"`
	Sold      int64       `json:"sold"`
	Balanced  bool        `json:"balanced"`
	InFlight  int64       `json:"in_flight"`
	// Rebuilding means that the item's stock is being rebuilt: its numbers are unknown for the
	// moment.
	Rebuilding bool `json:"rebuilding"`
	// Orders is the database's side, in units.
	Orders struct {
		Open   int64 `json:"open"`
		Parked int64 `json:"parked"`
		Sold   int64 `json:"sold"`
	} `json:"orders"`
	Rejected int64 `json:"rejected"` // accepted orders that became impossible later
	Skipped  int64 `json:"skipped"`  // promises that were never acknowledged
}

// audit answers GET /admin/v1/activities/{activity}/audit.
func (c *call) audit() error {
	audits, err := c.server.deps.Office.Audit(c.context(), c.pathActivity())
	if err != nil {
		return err
	}
	doc := auditDoc{Activity: c.pathActivity(), Balanced: true, Items: make([]auditItemDoc, len(audits))}
	for i := range audits {
		a := &audits[i]
		item := auditItemDoc{
			SKU: a.SKU, Total: a.Total, Available: a.Available, Held: a.Held, Sold: a.Sold, Balanced: a.Balanced, InFlight: a.InFlight,
			Rebuilding: a.Closed, Rejected: a.Rejected, Skipped: a.Skipped,
		}
		item.Orders.Open, item.Orders.Parked, item.Orders.Sold = a.Open, a.Parked, a.Ordered
		doc.Items[i] = item
		doc.Balanced = doc.Balanced && a.Balanced
	}
	return c.json(http.StatusOK, doc)
}

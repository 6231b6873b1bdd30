package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"penstock/gateway/problem"
	"penstock/seckill"
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
	Items         []itemDoc             `json:"items"`
}

type itemDoc struct {
	SKU      seckill.SKU `json:"sku"`
	Price    int64       `json:"price"`
	Currency string      `json:"currency"`
	Quantity int64       `json:"quantity"`
	PerUser  int         `json:"per_user"`
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
	for i := range a.Items {
		item := &a.Items[i]
		doc.Items[i] = itemDoc{item.SKU, item.Price.Minor, item.Price.Currency, item.Quantity, item.PerUser}
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

// listActivities answers GET /admin/v1/activities.
func (c *call) listActivities() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	part, next, err := cut(c, v.Activities, func(a seckill.Activity) string { return string(a.ID) })
	if err != nil {
		return err
	}
	docs := make([]activityDoc, len(part))
	for i := range part {
		docs[i] = newActivityDoc(&part[i])
	}
	return c.json(http.StatusOK, page[activityDoc]{docs, next})
}

// pathActivity is the activity that the path names.
func (c *call) pathActivity() seckill.ActivityID {
	return seckill.ActivityID(c.r.PathValue("activity"))
}

// getActivity answers GET /admin/v1/activities/{activity}.
func (c *call) getActivity() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	a := v.activities[c.pathActivity()]
	if a == nil {
		return refuse(problem.UnknownActivity, "There is no activity with this name.")
	}
	return c.json(http.StatusOK, newActivityDoc(a))
}

// putActivity answers PUT /admin/v1/activities/{activity}. What a GET answers may be put back: the members that can't be
// changed so are taken when they say what is.
func (c *call) putActivity() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	a := takeActivity(o, c.pathActivity())
	state, stateGiven := o.optionalText("state")
	reason := c.reason(o, m, false)
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if stateGiven {
		v, err := c.server.catalog(ctx)
		if err != nil {
			return err
		}
		is := seckill.ActivityDraft
		if old := v.activities[a.ID]; old != nil {
			is = old.State
		}
		if seckill.ActivityState(state) != is {
			m.add("state", fmt.Sprintf("is %s, and changes by publish, pause, resume and end only", is))
			return m.err()
		}
	}
	stored, err := c.server.deps.Office.PutActivity(ctx, a, c.author(reason))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newActivityDoc(stored))
}

// takeActivity takes an activity's members. What the values must be is the office's to say.
func takeActivity(o *object, id seckill.ActivityID) seckill.Activity {
	if named, given := o.optionalText("activity"); given && named != string(id) {
		o.add("activity", "must be the one in the path")
	}
	a := seckill.Activity{
		ID:            id,
		Merchant:      seckill.MerchantID(o.text("merchant")),
		Name:          o.text("name"),
		StartsAt:      o.time("starts_at"),
		EndsAt:        o.time("ends_at"),
		PaymentWindow: o.duration("payment_window"),
	}
	if seckill.CheckTitle(a.Name) == "" { // what else is wrong with it the office says
		o.add("name", problem.IllegibleText(a.Name))
	}
	raw := o.list("items")
	if len(raw) > seckill.MaxItems {
		o.add("items", fmt.Sprintf("must be 1 to %d items", seckill.MaxItems))
		return a
	}
	for i, text := range raw {
		item := parseObject(text, fmt.Sprintf("items[%d].", i), o.mistakes)
		a.Items = append(a.Items, seckill.Item{
			SKU:      seckill.SKU(item.text("sku")),
			Price:    seckill.Money{Minor: item.integer("price"), Currency: item.text("currency")},
			Quantity: item.integer("quantity"),
			PerUser:  int(item.integer("per_user")),
		})
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
func (c *call) end() error     { return c.move(c.server.deps.Office.End) }

type restockDoc struct {
	Activity seckill.ActivityID `json:"activity"`
	SKU      seckill.SKU        `json:"sku"`
	Delta    int64              `json:"delta"`
	Total    int64              `json:"total"` // now, which a repeat may find changed since
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
		m.add("delta", fmt.Sprintf("must be from 1 to %d, or the same below zero to take units back", seckill.MaxItemQuantity))
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
	// Rebuilding says that the item's stock is being written anew: nothing can be said of it for the moment.
	Rebuilding bool `json:"rebuilding"`
	// Orders is the database's side, in units.
	Orders struct {
		Open int64 `json:"open"`
		Sold int64 `json:"sold"`
	} `json:"orders"`
	Epoch    int64 `json:"epoch"`    // how often the stock was written anew
	Rejected int64 `json:"rejected"` // accepted orders that became impossible
	Skipped  int64 `json:"skipped"`  // records that nobody was promised
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
			Rebuilding: a.Closed, Epoch: int64(a.Epoch), Rejected: a.Rejected, Skipped: a.Skipped,
		}
		item.Orders.Open, item.Orders.Sold = a.Open, a.Ordered
		doc.Items[i] = item
		doc.Balanced = doc.Balanced && a.Balanced
	}
	return c.json(http.StatusOK, doc)
}

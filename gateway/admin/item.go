package admin

import (
	"net/http"

	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/desk"
)

// editItem answers POST /admin/v1/activities/{activity}/items/{sku}. The body has the members to
// change; the others stay.
func (c *call) editItem() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	edit := desk.ItemEdit{Price: o.maybeInteger("price"), PerUser: o.maybeCount("per_user"), Spread: o.maybeCount("spread")}
	reason := c.reason(o, m, false)
	o.end()
	if len(m.errs) == 0 && edit == (desk.ItemEdit{}) {
		m.add("body", "must have price, per_user or spread")
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	a, err := c.server.deps.Office.EditItem(ctx, c.pathActivity(), seckill.SKU(c.r.PathValue("sku")), edit, c.author(reason))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newActivityDoc(a))
}

// maybeInteger takes a whole number; nil if it is missing or null.
func (o *object) maybeInteger(name string) *int64 {
	if raw := o.raw[name]; raw == nil || string(raw) == "null" {
		o.take(name)
		return nil
	}
	n := o.integer(name)
	return &n
}

// maybeCount is maybeInteger for a number that fits an int.
func (o *object) maybeCount(name string) *int {
	if raw := o.raw[name]; raw == nil || string(raw) == "null" {
		o.take(name)
		return nil
	}
	n := o.count(name, true, 0)
	return &n
}

// deleteActivity answers DELETE /admin/v1/activities/{activity}.
func (c *call) deleteActivity() error {
	by, err := c.bodilessAuthor()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if err := c.server.deps.Office.Delete(ctx, c.pathActivity(), by); err != nil {
		return err
	}
	return c.none()
}

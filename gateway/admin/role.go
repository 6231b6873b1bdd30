package admin

import (
	"fmt"
	"strings"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// roles is every role by its name.
var roles = [...]struct {
	role seckill.Role
	name string
}{
	{seckill.RoleViewer, "viewer"}, {seckill.RoleSupport, "support"}, {seckill.RoleOperator, "operator"},
	{seckill.RoleFinance, "finance"}, {seckill.RoleAdmin, "admin"},
}

func roleName(role seckill.Role) string {
	for _, r := range roles {
		if r.role == role {
			return r.name
		}
	}
	return "none"
}

// roleNamed returns the role of that name, or roleNone.
func roleNamed(name string) seckill.Role {
	for _, r := range roles {
		if r.name == name {
			return r.role
		}
	}
	return roleNone
}

func checkRole(name string) string {
	if roleNamed(name) == roleNone {
		return "must be viewer, support, operator, finance or admin"
	}
	return ""
}

// forBound reports whether a token that is bound to a merchant may use a path that names no
// merchant. The handlers of these paths leave out the data of other merchants. All other such paths
// are about the whole installation.
func forBound(pattern string) bool {
	switch pattern {
	case "/logout", "/admin/v1/me", "/admin/v1/live", "/admin/v1/events", "/admin/v1/merchants", "/admin/v1/activities", "/admin/v1/keys",
		"/admin/v1/switches", "/admin/v1/switches/{name}",
		"/admin/v1/changes", "/admin/v1/changes/{n}", "/admin/v1/changes/{n}/revert",
		"/admin/v1/orders", "/admin/v1/orders/export", "/admin/v1/orders/{order}", "/admin/v1/orders/{order}/cancel",
		"/admin/v1/refunds", "/admin/v1/refunds/{payment}/done":
		return true
	}
	return false
}

// bounds restricts a token that is bound to a merchant to that merchant's data. The rule: a request
// that names another merchant, or is about all merchants, is forbidden. For such a token, data of
// another merchant doesn't exist.
func (c *call) bounds() error {
	own := c.token.merchant
	if own == "" {
		return nil
	}
	if merchant := c.r.PathValue("merchant"); merchant != "" {
		if !c.token.mayMerchant(seckill.MerchantID(merchant)) {
			return c.notOurs()
		}
		return nil
	}
	if id := c.pathActivity(); id != "" {
		v, err := c.server.catalog(c.context())
		if err != nil {
			return err
		}
		sale := v.Activity(id)
		if sale == nil && c.r.Method == "PUT" { // a new activity: the handler checks its merchant
			return nil
		}
		if sale == nil || !c.token.mayMerchant(sale.Merchant) {
			return refuse(problem.UnknownActivity, fmt.Sprintf("The merchant %s has no activity with this name.", own))
		}
		return nil
	}
	if forBound(c.route.pattern) {
		return nil
	}
	return refuse(problem.Forbidden, fmt.Sprintf("This is about all merchants, and the token %s is bound to the merchant %s.",
		c.token.name, own))
}

// notOurs is the answer if a bound token is used for another merchant.
func (c *call) notOurs() error {
	return refuse(problem.Forbidden, fmt.Sprintf("The token %s is bound to the merchant %s.", c.token.name, c.token.merchant))
}

// boundMerchant is the merchant that a request is about. For a bound token it is always the token's
// own.
func (c *call) boundMerchant(asked seckill.MerchantID) (seckill.MerchantID, error) {
	own := c.token.merchant
	switch {
	case own == "":
		return asked, nil
	case asked != "" && asked != own:
		return own, c.notOurs()
	}
	return own, nil
}

// mayMerchant reports whether the holder may see and change the data of a merchant.
func (who *identity) mayMerchant(id seckill.MerchantID) bool {
	return who.merchant == "" || who.merchant == id
}

// seesBuyers reports whether the holder may see the names of buyers.
func (who *identity) seesBuyers() bool { return who.role.Includes(seckill.RoleSupport) }

// mayActivity reports whether the holder may see and change an activity. A deleted activity belongs
// to no merchant.
func (who *identity) mayActivity(v *seckill.Catalog, id seckill.ActivityID) bool {
	if who.merchant == "" {
		return true
	}
	sale := v.Activity(id)
	return sale != nil && sale.Merchant == who.merchant
}

// mayScope reports whether the holder may set a switch for a scope. A bound token needs a scope of
// its merchant.
func (who *identity) mayScope(v *seckill.Catalog, s *degrade.Scope) bool {
	if who.merchant == "" {
		return true
	}
	merchant, _, _ := strings.Cut(s.Caller, "/")
	activity, _, both := strings.Cut(s.SKU, "/")
	switch {
	case s.Merchant != "":
		return who.merchant == seckill.MerchantID(s.Merchant)
	case s.Caller != "":
		return who.merchant == seckill.MerchantID(merchant)
	case s.Activity != "":
		return who.mayActivity(v, seckill.ActivityID(s.Activity))
	case both:
		return who.mayActivity(v, seckill.ActivityID(activity))
	}
	return false // a SKU of every activity, or everybody
}

// boundScope tells why a holder may not set a switch for a scope.
func boundScope(who *identity) string {
	return fmt.Sprintf("The token %s is bound to the merchant %s: give a scope that is of this merchant.", who.name, who.merchant)
}

// mayChange reports whether the holder may see a change. A bound token sees those of its merchant.
func (who *identity) mayChange(v *seckill.Catalog, ch *seckill.Change) bool {
	if who.merchant == "" {
		return true
	}
	front, _, _ := strings.Cut(ch.Key, "/")
	switch ch.Kind {
	case seckill.ChangeMerchant, seckill.ChangeCaller, seckill.ChangeRefund:
		return who.merchant == seckill.MerchantID(front)
	case seckill.ChangeActivity, seckill.ChangeStock, seckill.ChangeExtension:
		return who.mayActivity(v, seckill.ActivityID(front))
	}
	return false
}

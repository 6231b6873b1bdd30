package admin

import (
	"errors"
	"fmt"
	"net/http"

	"penstock/gateway/problem"
	"penstock/seckill"
)

type merchantDoc struct {
	Merchant      seckill.MerchantID `json:"merchant"`
	Name          string             `json:"name"`
	PaymentSecret string             `json:"payment_secret,omitempty"` // once
}

// The bounds of a secret that somebody brings along, in bytes: a shorter one can be guessed, from
// one signed notice and without asking us.
const (
	minPaymentSecret = 16
	maxPaymentSecret = 256
)

// listMerchants answers GET /admin/v1/merchants.
func (c *call) listMerchants() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	name := func(m *seckill.Merchant) string { return string(m.ID) }
	part, next, err := cut(c, sorted(v.Merchants(), name), name)
	if err != nil {
		return err
	}
	docs := make([]merchantDoc, len(part))
	for i := range part {
		docs[i] = merchantDoc{Merchant: part[i].ID, Name: part[i].Name}
	}
	return c.json(http.StatusOK, page[merchantDoc]{docs, next})
}

// getMerchant answers GET /admin/v1/merchants/{merchant}.
func (c *call) getMerchant() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	m := v.Merchant(seckill.MerchantID(c.r.PathValue("merchant")))
	if m == nil {
		return refuse(problem.UnknownMerchant, "")
	}
	return c.json(http.StatusOK, merchantDoc{Merchant: m.ID, Name: m.Name})
}

// putMerchant answers PUT /admin/v1/merchants/{merchant}. A merchant without a payment secret gets one.
func (c *call) putMerchant() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	merchant := seckill.Merchant{ID: seckill.MerchantID(c.r.PathValue("merchant")), Name: o.checked("name", checkTitle)}
	secret, given := o.optionalText("payment_secret")
	reason := c.reason(o, m, false)
	o.end()
	m.add("merchant", seckill.CheckName(string(merchant.ID)))
	if given {
		m.add("payment_secret", checkPaymentSecret(secret))
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	v, err := c.server.catalog(ctx)
	if err != nil {
		return err
	}
	doc := merchantDoc{Merchant: merchant.ID, Name: merchant.Name}
	merchant.PaymentSecret = secret
	if old := v.Merchant(merchant.ID); !given && (old == nil || old.PaymentSecret == "") {
		merchant.PaymentSecret = newPaymentSecret()
		doc.PaymentSecret = merchant.PaymentSecret
	}
	if err := c.server.deps.Store.PutMerchant(ctx, merchant, c.author(reason)); err != nil {
		return failed("write the merchant", err)
	}
	c.server.refresh(ctx)
	return c.json(http.StatusOK, doc)
}

func checkPaymentSecret(s string) string {
	if len(s) < minPaymentSecret || !isVisible(s, maxPaymentSecret) {
		return fmt.Sprintf("must be %d to %d visible ASCII characters, of chance: without one, a merchant gets one",
			minPaymentSecret, maxPaymentSecret)
	}
	return ""
}

type callerDoc struct {
	Merchant  seckill.MerchantID `json:"merchant"`
	Caller    seckill.CallerID   `json:"caller"`
	Key       string             `json:"key,omitempty"` // once
	Name      string             `json:"name"`
	Rights    []string           `json:"rights"`
	Shadow    bool               `json:"shadow"`
	Revoked   bool               `json:"revoked"`
	CreatedAt *stamp             `json:"created_at,omitempty"`
}

func newCallerDoc(c *seckill.Caller) callerDoc {
	doc := callerDoc{
		Merchant: c.Merchant, Caller: c.Caller, Name: c.Name, Rights: rightNames(c.Rights), Shadow: c.Shadow, Revoked: c.Revoked,
	}
	if !c.Created.IsZero() {
		created := stamp(c.Created)
		doc.CreatedAt = &created
	}
	return doc
}

// rights is every right by its name.
var rights = [...]struct {
	right seckill.Rights
	name  string
}{{seckill.RightBuy, "buy"}, {seckill.RightMerchant, "merchant"}}

func rightNames(set seckill.Rights) []string {
	names := []string{}
	for _, r := range rights {
		if set&r.right != 0 {
			names = append(names, r.name)
		}
	}
	return names
}

// takeRights takes the member "rights".
func (o *object) takeRights() seckill.Rights {
	raw := o.raw["rights"]
	var set seckill.Rights
	for i, name := range o.texts("rights") {
		known := false
		for _, r := range rights {
			if r.name == name {
				known, set = true, set|r.right
			}
		}
		if !known {
			o.add(fmt.Sprintf("%srights[%d]", o.at, i), "must be buy or merchant")
		}
	}
	if set == 0 && string(raw) == "[]" {
		o.add(o.at+"rights", "must have at least one right")
	}
	return set
}

// listCallers answers GET /admin/v1/merchants/{merchant}/callers, the revoked ones included.
func (c *call) listCallers() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	merchant := seckill.MerchantID(c.r.PathValue("merchant"))
	if v.Merchant(merchant) == nil {
		return refuse(problem.UnknownMerchant, "")
	}
	own := func(yield func(*seckill.Caller) bool) {
		for caller := range v.Callers() {
			if caller.Merchant == merchant && !yield(caller) {
				return
			}
		}
	}
	name := func(c *seckill.Caller) string { return string(c.Caller) }
	part, next, err := cut(c, sorted(own, name), name)
	if err != nil {
		return err
	}
	docs := make([]callerDoc, len(part))
	for i := range part {
		docs[i] = newCallerDoc(part[i])
	}
	return c.json(http.StatusOK, page[callerDoc]{docs, next})
}

// pathCaller is the caller that the path names.
func (c *call) pathCaller() seckill.CallerRef {
	return seckill.CallerRef{
		Merchant: seckill.MerchantID(c.r.PathValue("merchant")), Caller: seckill.CallerID(c.r.PathValue("caller")),
	}
}

// getCaller answers GET /admin/v1/merchants/{merchant}/callers/{caller}.
func (c *call) getCaller() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	ref := c.pathCaller()
	if v.Merchant(ref.Merchant) == nil {
		return refuse(problem.UnknownMerchant, "")
	}
	caller := v.NamedCaller(ref)
	if caller == nil {
		return refuse(problem.UnknownCaller, "")
	}
	return c.json(http.StatusOK, newCallerDoc(caller))
}

// revokeCaller answers DELETE /admin/v1/merchants/{merchant}/callers/{caller}. Revoking again changes nothing.
func (c *call) revokeCaller() error {
	m := new(mistakes)
	reason := c.reason(nil, m, false)
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	ref := c.pathCaller()
	err := c.server.deps.Store.SetCallerRevoked(ctx, ref, true, c.author(reason))
	if errors.Is(err, seckill.ErrNotFound) {
		v, err := c.server.catalog(ctx)
		if err != nil {
			return err
		}
		if v.Merchant(ref.Merchant) == nil {
			return refuse(problem.UnknownMerchant, "")
		}
		return refuse(problem.UnknownCaller, "")
	}
	if err != nil {
		return failed("revoke the caller", err)
	}
	c.server.refresh(ctx)
	return c.none()
}

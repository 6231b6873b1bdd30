package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/seckill"
)

type merchantDoc struct {
	Merchant      seckill.MerchantID `json:"merchant"`
	Name          string             `json:"name"`
	PaymentSecret string             `json:"payment_secret,omitempty"` // once
	// FormerUntil is the time until which the former payment secret is valid.
	FormerUntil *stamp `json:"former_secret_until,omitempty"`
}

func newMerchantDoc(m *seckill.Merchant, now time.Time) merchantDoc {
	doc := merchantDoc{Merchant: m.ID, Name: m.Name}
	if now.Before(m.FormerUntil) {
		doc.FormerUntil = stampOf(m.FormerUntil)
	}
	return doc
}

// The bounds of a secret in a request, in bytes. A shorter secret can be guessed offline from one
// signed notice.
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
	part, next, err := cut(c, sorted(own(v.Merchants(), func(m *seckill.Merchant) bool { return c.token.mayMerchant(m.ID) }), name), name)
	if err != nil {
		return err
	}
	docs := make([]merchantDoc, len(part))
	for i := range part {
		docs[i] = newMerchantDoc(part[i], v.Now())
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
	return c.json(http.StatusOK, newMerchantDoc(m, v.Now()))
}

// merchantWish is the content of a PUT of a merchant.
type merchantWish struct {
	id      seckill.MerchantID
	name    string // empty: it stays
	secret  string // empty: it stays, or a new one is made
	roll    bool   // replace the secret; the old one stays valid for overlap
	overlap time.Duration
}

// putMerchant answers PUT /admin/v1/merchants/{merchant}. It makes a payment secret for a merchant
// without one, and when a secret is rolled and the request brings none.
func (c *call) putMerchant() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	wish := merchantWish{id: seckill.MerchantID(c.r.PathValue("merchant"))}
	if raw, given := o.raw["name"]; given && string(raw) != "null" {
		wish.name = o.checked("name", checkTitle)
	} else {
		o.take("name")
	}
	secret, given := o.optionalText("payment_secret")
	wish.overlap, wish.roll = o.optionalDuration("overlap", 0, maxOverlap)
	reason := c.reason(o, m, false)
	o.end()
	m.add("merchant", seckill.CheckName(string(wish.id)))
	if given {
		m.add("payment_secret", checkSecret(secret, "a merchant"))
		wish.secret = secret
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	var made string // shown once
	var now time.Time
	next, err := c.server.deps.Store.UpdateMerchant(ctx, wish.id, c.author(reason),
		func(old *seckill.Merchant, at time.Time) (next *seckill.Merchant, err error) {
			now = at
			next, made, err = c.server.changeMerchant(old, &wish, at)
			return next, err
		})
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	if err != nil {
		return failed("write the merchant", err)
	}
	c.server.refresh(ctx)
	doc := newMerchantDoc(next, now)
	doc.PaymentSecret = made
	return c.json(http.StatusOK, doc)
}

// changeMerchant computes the new record of a merchant; old is nil for a new merchant. made is a
// new secret, which is shown once.
func (s *Server) changeMerchant(old *seckill.Merchant, wish *merchantWish, now time.Time) (next *seckill.Merchant, made string, err error) {
	next = &seckill.Merchant{ID: wish.id}
	if old != nil {
		next = old
	}
	if wish.name != "" {
		next.Name = wish.name
	}
	if next.Name == "" {
		m := new(mistakes)
		m.add("name", "is required")
		return nil, "", m.err()
	}
	secret := wish.secret
	if secret == "" && (wish.roll || next.PaymentSecret == "") {
		made = newPaymentSecret()
		secret = made
	}
	if secret == "" {
		return next, "", nil
	}
	if known, err := s.deps.Secrets.Open(next.PaymentSecret, string(wish.id)); err != nil || known != secret {
		next.Roll(s.deps.Secrets.Seal(secret, string(wish.id)), now, wish.overlap)
	}
	return next, made, nil
}

// checkSecret returns what is wrong with a secret in a request, or "".
func checkSecret(s, owner string) string {
	switch {
	case len(s) < minPaymentSecret || !isVisible(s, maxPaymentSecret):
		return fmt.Sprintf("must be %d to %d random visible ASCII characters; without it, %s gets a new one",
			minPaymentSecret, maxPaymentSecret, owner)
	case vault.IsSealed(s):
		return "must not begin with " + vault.Prefix
	case strings.Trim(s, s[:1]) == "":
		return "must not be a single character repeated"
	}
	return ""
}

type callerDoc struct {
	Merchant  seckill.MerchantID `json:"merchant"`
	Caller    seckill.CallerID   `json:"caller"`
	Key       string             `json:"key,omitempty"` // once, like the two below
	KeyID     seckill.KeyID      `json:"key_id,omitempty"`
	Prefix    string             `json:"prefix,omitempty"`
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

// listCallers answers GET /admin/v1/merchants/{merchant}/callers. It includes revoked callers.
func (c *call) listCallers() error {
	v, merchant, err := c.pathMerchant()
	if err != nil {
		return err
	}
	name := func(c *seckill.Caller) string { return string(c.Caller) }
	part, next, err := cut(c, sorted(own(v.Callers(), func(c *seckill.Caller) bool { return c.Merchant == merchant }), name), name)
	if err != nil {
		return err
	}
	docs := make([]callerDoc, len(part))
	for i := range part {
		docs[i] = newCallerDoc(part[i])
	}
	return c.json(http.StatusOK, page[callerDoc]{docs, next})
}

// pathMerchant reads the catalog, and finds the merchant that the path names. If there is none, it
// returns a refusal.
func (c *call) pathMerchant() (*seckill.Catalog, seckill.MerchantID, error) {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return nil, "", err
	}
	merchant := seckill.MerchantID(c.r.PathValue("merchant"))
	if v.Merchant(merchant) == nil {
		return nil, "", refuse(problem.UnknownMerchant, "")
	}
	return v, merchant, nil
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

// revokeCaller answers DELETE /admin/v1/merchants/{merchant}/callers/{caller}. Revoking again
// changes nothing.
func (c *call) revokeCaller() error {
	by, err := c.bodilessAuthor()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	ref := c.pathCaller()
	_, err = c.changeCaller(ctx, ref, by, func(old *seckill.Caller, _ time.Time) (*seckill.Caller, error) {
		return seckill.SetRevoked(old, true)
	})
	if err != nil {
		return err
	}
	done := func(caller *seckill.Caller) bool { return caller.Revoked }
	return c.revoked(ctx, fmt.Sprintf("%s/%s is revoked,", ref.Merchant, ref.Caller), done)
}

// revoked answers a revocation: on which gateways it is in force. done reports whether a caller has
// it.
func (c *call) revoked(ctx context.Context, what string, done func(*seckill.Caller) bool) error {
	catalog := c.server.deps.Catalog()
	caller := catalog.NamedCaller(c.pathCaller())
	here := caller != nil && done(caller) // otherwise nobody knows which catalog has it
	p := c.server.deps.Settings.AwaitCatalog(ctx, catalog.Version.Number, func(status json.RawMessage) bool {
		var node struct{ Catalog settings.Version }
		return here && json.Unmarshal(status, &node) == nil && node.Catalog.ID == catalog.Version.Incarnation &&
			node.Catalog.Number >= catalog.Version.Number
	})
	return c.json(http.StatusOK, publishedDoc{p.Version, p.Recorded, p.Applied, p.Nodes, p.Lagging, what + " " + p.String()})
}

// changeCaller changes a caller that exists, and brings the change into force on this node.
func (c *call) changeCaller(ctx context.Context, ref seckill.CallerRef, by seckill.Author,
	change func(old *seckill.Caller, now time.Time) (*seckill.Caller, error)) (*seckill.Caller, error) {
	next, err := c.server.deps.Store.UpdateCaller(ctx, ref, by, change)
	if r, ok := errors.AsType[*refusal](err); ok {
		return nil, r
	}
	if errors.Is(err, seckill.ErrNotFound) {
		v, err := c.server.catalog(ctx)
		if err != nil {
			return nil, err
		}
		if v.Merchant(ref.Merchant) == nil {
			return nil, refuse(problem.UnknownMerchant, "")
		}
		return nil, refuse(problem.UnknownCaller, "")
	}
	if err != nil {
		return nil, failed("change the caller", err)
	}
	c.server.refresh(ctx)
	return next, nil
}

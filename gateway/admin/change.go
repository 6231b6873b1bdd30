package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/webhook"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// The kinds of changes that are settings.
const (
	kindSwitches = settings.Switches
	kindLimits   = settings.Limits
	kindWebhooks = settings.Webhooks
)

type changeDoc struct {
	Number int64  `json:"number"`
	At     stamp  `json:"at"`
	Actor  string `json:"actor"`
	// Token is the id of the token, and Address where the change was asked for; both are missing
	// for changes that the system makes itself.
	Token   string `json:"token_id,omitempty"`
	Address string `json:"address,omitempty"`
	Reason  string `json:"reason"`
	Kind    string `json:"kind"`
	Key     string `json:"key"`
	// Before and After have the object in the form in which this listener answers it; null if there
	// was, or is, none.
	Before any `json:"before"`
	After  any `json:"after"`
	// Revertible means that a revert will succeed unless a later change touched the same object.
	Revertible bool `json:"revertible"`
}

func newChangeDoc(ch *seckill.Change, who *identity) changeDoc {
	_, err := planRevert(ch)
	return changeDoc{
		Number: ch.Number, At: stamp(ch.At), Actor: ch.Actor, Token: ch.Token, Address: ch.Address, Reason: ch.Reason, Kind: ch.Kind, Key: ch.Key,
		Before: readChange(ch.Kind, ch.Before, who), After: readChange(ch.Kind, ch.After, who),
		Revertible: err == nil && who.role.Includes(revertRole(ch)),
	}
}

// The documents of changes that differ from the document of the object itself.
type (
	merchantChangeDoc struct {
		merchantDoc
		NewPaymentSecret bool `json:"new_payment_secret,omitempty"`
		Resealed         bool `json:"resealed,omitempty"`
	}
	callerChangeDoc struct {
		callerDoc
		Keys []keyChangeDoc `json:"keys,omitempty"`
	}
	keyChangeDoc struct {
		KeyID     seckill.KeyID `json:"key_id"`
		Prefix    string        `json:"prefix"`
		ExpiresAt *stamp        `json:"expires_at"`
		Revoked   bool          `json:"revoked"`
	}
	stockChangeDoc struct {
		Total int64  `json:"total"`
		Delta int64  `json:"delta,omitempty"`
		Key   string `json:"idempotency_key,omitempty"`
	}
	orderChangeDoc struct {
		Order  seckill.OrderID     `json:"order"`
		Status *seckill.OrderState `json:"status"` // null if it had no row
	}
	refundChangeDoc struct {
		Payment   seckill.PaymentID    `json:"payment"`
		Order     seckill.OrderID      `json:"order"`
		Merchant  seckill.MerchantID   `json:"merchant"`
		Amount    int64                `json:"amount"`
		Currency  string               `json:"currency"`
		State     seckill.PaymentState `json:"state"`
		Cause     seckill.RefundCause  `json:"cause"`
		Reference string               `json:"reference,omitempty"`
	}
	extensionChangeDoc struct {
		By     string `json:"by"`
		Orders int64  `json:"orders"`
	}
	nodeChangeDoc struct {
		Drain bool `json:"drain"`
	}
	tokenChangeDoc struct {
		TokenID   seckill.TokenID    `json:"token_id"`
		Name      string             `json:"name"`
		Role      string             `json:"role"`
		Merchant  seckill.MerchantID `json:"merchant,omitempty"`
		Session   bool               `json:"session,omitempty"`
		ExpiresAt *stamp             `json:"expires_at"`
	}
)

// readChange makes the answer for one side of a change. It copies known members only, so unexpected
// data in the store can't leak.
func readChange(kind, text string, who *identity) any {
	if text == "" {
		return nil
	}
	switch kind {
	case seckill.ChangeMerchant:
		return decoded(text, func(m *seckill.MerchantRecord) any {
			doc := merchantDoc{Merchant: m.ID, Name: m.Name, FormerUntil: stampOf(m.FormerUntil)}
			return merchantChangeDoc{doc, m.NewPaymentSecret, m.Resealed}
		})
	case seckill.ChangeCaller:
		return decoded(text, func(c *seckill.CallerRecord) any { return newCallerChangeDoc(c) })
	case seckill.ChangeActivity:
		return decoded(text, func(a *seckill.Activity) any { return newActivityDoc(a) })
	case seckill.ChangeStock:
		return decoded(text, func(s *seckill.StockRecord) any { return stockChangeDoc{s.Total, s.Delta, s.Key} })
	case seckill.ChangeToken:
		return decoded(text, func(t *seckill.TokenRecord) any {
			return tokenChangeDoc{t.ID, t.Name, roleName(t.Role), t.Merchant, t.Session, stampOf(t.Expires)}
		})
	case seckill.ChangeDeadLetters:
		return decoded(text, func(letters *[]seckill.DeadLetter) any {
			docs := make([]deadLetterDoc, len(*letters))
			for i := range *letters {
				docs[i] = newDeadLetterDoc(&(*letters)[i], who)
			}
			return docs
		})
	case seckill.ChangeOrder:
		return decoded(text, func(o *seckill.OrderRecord) any { return orderChangeDoc{o.ID, orNull(o.State)} })
	case seckill.ChangeRefund:
		return decoded(text, func(r *seckill.RefundRecord) any {
			return refundChangeDoc{r.Payment, r.Order, r.Merchant, r.Amount.Minor, r.Amount.Currency, r.State, r.Cause, r.Reference}
		})
	case seckill.ChangeExtension:
		return decoded(text, func(e *seckill.ExtensionRecord) any { return extensionChangeDoc{shortDuration(e.By), e.Orders} })
	case settings.KindNode:
		return decoded(text, func(d *nodeChangeDoc) any { return d })
	case kindLimits:
		return decoded(text, func(d *limiter.Document) any { return d })
	case kindWebhooks:
		return decoded(text, func(d *webhook.Document) any { return newHookChangeDocs(d, who) })
	case kindSwitches:
		return decoded(text, func(d *degrade.Document) any { return newSetDocs(d.Switches) })
	}
	return unreadable{true}
}

// unreadable is shown for a change that a later version wrote.
type unreadable struct {
	Unreadable bool `json:"unreadable"`
}

func decoded[T any](text string, doc func(*T) any) any {
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return unreadable{true}
	}
	return doc(&v)
}

func newCallerChangeDoc(c *seckill.CallerRecord) callerChangeDoc {
	doc := callerChangeDoc{callerDoc: newCallerDoc(&seckill.Caller{
		CallerRef: c.CallerRef, Name: c.Name, Rights: c.Rights, Shadow: c.Shadow, Revoked: c.Revoked,
	})}
	for _, k := range c.Keys {
		doc.Keys = append(doc.Keys, keyChangeDoc{k.ID, k.Prefix, stampOf(k.Expires), k.Revoked})
	}
	return doc
}

// The sizes of pages of changes; an activity may be twice in each.
const (
	defaultChanges = 50
	maxChanges     = 200
)

// listChanges answers GET /admin/v1/changes, newest first.
func (c *call) listChanges() error {
	m := new(mistakes)
	before := c.number(m, "before", 0, 0, maxID)
	limit := int(c.number(m, "limit", defaultChanges, 1, maxChanges))
	if err := m.err(); err != nil {
		return err
	}
	changes, more, err := c.someChanges(before, limit)
	if err != nil {
		return err
	}
	var next any
	if more {
		next = changes[len(changes)-1].Number
	}
	v := c.server.deps.Catalog()
	docs := make([]changeDoc, 0, len(changes))
	for i := range changes {
		if c.token.mayChange(v, &changes[i]) {
			docs = append(docs, newChangeDoc(&changes[i], &c.token))
		}
	}
	return c.json(http.StatusOK, page[changeDoc]{docs, next})
}

// The bounds of a page of changes: a document of limits may have a megabyte, and a change has two
// of them.
const (
	changesBytes   = 1 << 20
	changesAtATime = 8
)

// someChanges reads up to limit changes that are older than before, or fewer if they are large: the
// page ends with the change that fills it. more reports whether there are older ones.
func (c *call) someChanges(before int64, limit int) (all []seckill.Change, more bool, err error) {
	for size := 0; ; {
		want := min(limit-len(all), changesAtATime)
		some, err := c.server.deps.Store.Changes(c.context(), before, want+1)
		if err != nil {
			return nil, false, failed("read changes", err)
		}
		for i := range some[:min(len(some), want)] {
			all = append(all, some[i])
			before = some[i].Number
			if size += len(some[i].Before) + len(some[i].After); size >= changesBytes {
				return all, i+1 < len(some), nil
			}
		}
		if len(some) <= want || len(all) == limit {
			return all, len(some) > want, nil
		}
	}
}

// getChange answers GET /admin/v1/changes/{n}.
func (c *call) getChange() error {
	change, err := c.pathChange()
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newChangeDoc(&change, &c.token))
}

// pathChange finds the change that the path names.
func (c *call) pathChange() (seckill.Change, error) {
	n, ok := c.pathNumber("n", 1)
	if !ok {
		return seckill.Change{}, refuse(problem.UnknownChange, "")
	}
	change, err := c.server.deps.Store.FindChange(c.context(), n)
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		return seckill.Change{}, refuse(problem.UnknownChange, "")
	case err != nil:
		return seckill.Change{}, failed("find the change", err)
	case !c.token.mayChange(c.server.deps.Catalog(), &change):
		return seckill.Change{}, refuse(problem.UnknownChange, "")
	}
	return change, nil
}

package admin

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/internal/webhook"
	"github.com/penstock/penstock/seckill"
)

// sealedDoc counts the secrets that are encrypted by a key.
type sealedDoc struct {
	Key     string `json:"key"`     // its id; "" for secrets that are kept in the clear
	Secrets int    `json:"secrets"` // of merchants, those of a roll's overlap included, and of webhooks
	Known   bool   `json:"known"`   // this node has the key, and can read them
}

type secretsDoc struct {
	SealingKey string      `json:"sealing_key"` // "": new secrets are kept in the clear
	Keys       []string    `json:"keys"`        // the keys that this node has
	Sealed     []sealedDoc `json:"sealed"`
}

func (s *Server) describeSecrets(v *seckill.Catalog, hooks *webhook.Document) secretsDoc {
	doc := secretsDoc{Keys: append([]string{}, s.deps.Secrets.Keys()...), Sealed: []sealedDoc{}}
	if len(doc.Keys) > 0 {
		doc.SealingKey = doc.Keys[0]
	}
	counts := make(map[string]int)
	for i := range hooks.Webhooks {
		counts[vault.KeyOf(hooks.Webhooks[i].Secret)]++
	}
	for m := range v.Merchants() {
		for _, sealed := range []string{m.PaymentSecret, m.FormerSecret} {
			if sealed != "" {
				counts[vault.KeyOf(sealed)]++
			}
		}
	}
	for key, n := range counts {
		doc.Sealed = append(doc.Sealed, sealedDoc{key, n, key == "" || slices.Contains(doc.Keys, key)})
	}
	slices.SortFunc(doc.Sealed, func(a, b sealedDoc) int { return cmp.Compare(a.Key, b.Key) })
	return doc
}

// getSecrets answers GET /admin/v1/secrets.
func (c *call) getSecrets() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	_, hooks, err := c.currentWebhooks(c.context())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, c.server.describeSecrets(v, &hooks))
}

type rewrappedDoc struct {
	Rewrapped int `json:"rewrapped"` // merchants and webhooks
	secretsDoc
}

// rewrapSecrets answers POST /admin/v1/secrets/rewrap: every secret is encrypted by the first key
// afterwards. It changes one merchant after another, and may be repeated.
func (c *call) rewrapSecrets() error {
	reason, err := c.onlyReason()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	v, err := c.server.catalog(ctx)
	if err != nil {
		return err
	}
	secrets := c.server.deps.Secrets
	if secrets == nil {
		return refuse(problem.NotEditable, "This node has no key: set secrets-key-file or secrets-key first, on every node.")
	}
	doc := rewrappedDoc{}
	for m := range v.Merchants() {
		changed := false
		change := func(old *seckill.Merchant, _ time.Time) (_ *seckill.Merchant, err error) {
			changed, err = rewrap(secrets, old)
			return old, err
		}
		_, err := c.server.deps.Store.UpdateMerchant(ctx, m.ID, c.author(reason), change)
		if r, ok := errors.AsType[*refusal](err); ok {
			return r
		}
		if err != nil {
			return failed("encrypt a payment secret anew", err)
		}
		if changed {
			doc.Rewrapped++
		}
	}
	webhooks, err := c.rewrapWebhooks(ctx, c.author(reason))
	if err != nil {
		return err
	}
	doc.Rewrapped += webhooks
	if v, err = c.server.catalog(ctx); err != nil {
		return err
	}
	_, hooks, err := c.currentWebhooks(ctx)
	if err != nil {
		return err
	}
	doc.secretsDoc = c.server.describeSecrets(v, &hooks)
	return c.json(http.StatusOK, doc)
}

// rewrap encrypts a merchant's secrets by the first key.
func rewrap(secrets *vault.Vault, m *seckill.Merchant) (changed bool, err error) {
	if m == nil {
		return false, seckill.ErrNotFound
	}
	payment, err := secrets.Rewrap(m.PaymentSecret, string(m.ID))
	former, err2 := secrets.Rewrap(m.FormerSecret, string(m.ID))
	if err := errors.Join(err, err2); err != nil {
		return false, refuse(problem.NotEditable,
			"The payment secret of merchant "+string(m.ID)+" can't be decrypted: "+err.Error()+". The merchants before it are encrypted anew.")
	}
	if payment == m.PaymentSecret && former == m.FormerSecret {
		return false, nil
	}
	m.Reseal(payment, former)
	return true, nil
}

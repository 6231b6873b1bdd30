package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// addCaller answers POST /admin/v1/merchants/{merchant}/callers.
func (c *call) addCaller() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	caller := seckill.Caller{
		CallerRef: seckill.CallerRef{Merchant: seckill.MerchantID(c.r.PathValue("merchant"))},
		Name:      o.checked("name", checkTitle),
		Rights:    o.takeRights(),
		Shadow:    o.boolean("shadow"),
	}
	reason := c.reason(o, m, false)
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	secret, key := newCallerKey()
	made, err := c.nameCaller(ctx, caller, key, c.author(reason))
	if err != nil {
		return err
	}
	c.server.refresh(ctx)
	doc := newCallerDoc(made)
	doc.Key, doc.KeyID, doc.Prefix = secret, key.ID, key.Prefix
	c.w.Header().Set("Location", fmt.Sprintf("/admin/v1/merchants/%s/callers/%s", made.Merchant, made.Caller))
	return c.json(http.StatusCreated, doc)
}

// nameAttempts is how many ids are tried. All but the first have 30 random bits, so two are enough.
const nameAttempts = 4

// nameCaller adds a caller under an id made from its name. The id is the name itself, if that is a
// valid id and free. The name of a revoked caller is free: that caller comes back, with the new key
// only.
func (c *call) nameCaller(ctx context.Context, caller seckill.Caller, key seckill.CallerKey,
	by seckill.Author) (*seckill.Caller, error) {
	caller.Caller = seckill.CallerID(caller.Name)
	if seckill.CheckName(caller.Name) != "" {
		caller.Caller = newCallerID(caller.Name)
	}
	for range nameAttempts {
		add := func(old *seckill.Caller, now time.Time) (*seckill.Caller, error) {
			return seckill.NewCaller(old, &caller, key, now)
		}
		made, err := c.server.deps.Store.UpdateCaller(ctx, caller.CallerRef, by, add)
		switch {
		case err == nil:
			return made, nil
		case errors.Is(err, seckill.ErrNotFound):
			return nil, refuse(problem.UnknownMerchant, "")
		case !errors.Is(err, seckill.ErrExists):
			return nil, failed("add the caller", err)
		}
		caller.Caller = newCallerID(caller.Name)
	}
	return nil, refuse(problem.AlreadyExists, "")
}

// newCallerID makes an id of the letters and digits of a name and six random characters.
func newCallerID(name string) seckill.CallerID {
	const suffix = 6
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case b.Len() == seckill.MaxNameLength-suffix-1:
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("._~", r):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	slug := strings.TrimSuffix(b.String(), "-")
	if slug == "" {
		slug = "caller"
	}
	return seckill.CallerID(slug + "-" + randomLetters(suffix))
}

// randomLetters returns n random letters and digits, without those that look alike.
func randomLetters(n int) string {
	const letters = "0123456789abcdefghjkmnpqrstvwxyz"
	random := make([]byte, n)
	rand.Read(random) // never fails
	for i := range random {
		random[i] = letters[random[i]%byte(len(letters))]
	}
	return string(random)
}

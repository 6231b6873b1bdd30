package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"penstock/gateway/problem"
	"penstock/seckill"
)

// callerKeyPrefix tells a caller key from other secrets, for people and for scanners of repositories.
const callerKeyPrefix = "psk_"

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
	key := newSecret(callerKeyPrefix)
	caller.KeyHash = sha256.Sum256([]byte(key))
	if err := c.nameCaller(ctx, &caller, c.author(reason)); err != nil {
		return err
	}
	c.server.refresh(ctx)
	doc := newCallerDoc(&caller)
	doc.Key = key
	c.w.Header().Set("Location", fmt.Sprintf("/admin/v1/merchants/%s/callers/%s", caller.Merchant, caller.Caller))
	return c.json(http.StatusCreated, doc)
}

// nameAttempts is how many ids are tried: with 30 bits of chance in each but the first, two are enough.
const nameAttempts = 4

// nameCaller adds a caller under an id made of its name: the name itself where it may be one and is free.
func (c *call) nameCaller(ctx context.Context, caller *seckill.Caller, by seckill.Author) error {
	caller.Caller = seckill.CallerID(caller.Name)
	if seckill.CheckName(caller.Name) != "" {
		caller.Caller = newCallerID(caller.Name)
	}
	for range nameAttempts {
		err := c.server.deps.Store.AddCaller(ctx, *caller, by)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, seckill.ErrNotFound):
			return refuse(problem.UnknownMerchant, "")
		case !errors.Is(err, seckill.ErrExists):
			return failed("add the caller", err)
		}
		caller.Caller = newCallerID(caller.Name)
	}
	return refuse(problem.AlreadyExists, "")
}

// newCallerID makes an id of the letters and digits of a name and six random characters.
func newCallerID(name string) seckill.CallerID {
	const suffix, letters = 6, "0123456789abcdefghjkmnpqrstvwxyz"
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
	var random [suffix]byte
	rand.Read(random[:]) // never fails
	for i := range random {
		random[i] = letters[random[i]%byte(len(letters))]
	}
	return seckill.CallerID(slug + "-" + string(random[:]))
}

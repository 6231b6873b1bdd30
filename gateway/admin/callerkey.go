package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// callerKeyPrefix marks caller keys, for people and for scanners of repositories.
const callerKeyPrefix = "psk_"

// shownOfKey is how much of a key is kept and shown, in bytes: enough for people to recognize it,
// and too little to guess the rest.
const shownOfKey = len(callerKeyPrefix) + 6

// newCallerKey makes a key, and its record with the hash.
func newCallerKey() (secret string, key seckill.CallerKey) {
	secret = newSecret(callerKeyPrefix)
	return secret, seckill.CallerKey{
		ID: seckill.KeyID("k-" + randomLetters(10)), Prefix: secret[:shownOfKey], Hash: sha256.Sum256([]byte(secret)),
	}
}

// The states of a key. A key of a revoked caller counts as revoked.
const (
	keyActive  = "active"
	keyExpired = "expired"
	keyRevoked = "revoked"
)

type keyDoc struct {
	KeyID      seckill.KeyID `json:"key_id"`
	Prefix     string        `json:"prefix"`
	State      string        `json:"state"`
	CreatedAt  *stamp        `json:"created_at"`
	ExpiresAt  *stamp        `json:"expires_at"`   // null: never
	LastUsedAt *stamp        `json:"last_used_at"` // to the minute; null: never
}

func newKeyDoc(caller *seckill.Caller, k *seckill.CallerKey, used, now time.Time) keyDoc {
	doc := keyDoc{
		KeyID: k.ID, Prefix: k.Prefix, State: keyActive,
		CreatedAt: stampOf(k.Created), ExpiresAt: stampOf(k.Expires), LastUsedAt: lastUse(k.Created, used),
	}
	switch {
	case caller.Revoked || k.Revoked:
		doc.State = keyRevoked
	case k.Expired(now):
		doc.State = keyExpired
	}
	return doc
}

// lastUse is the time of the last use, null if there was none. It is known to the minute, so in the
// first minute it would be before the creation.
func lastUse(created, used time.Time) *stamp {
	if used.Equal(created.Truncate(time.Minute)) {
		return stampOf(created)
	}
	return stampOf(used)
}

// stampOf is null for the zero time.
func stampOf(t time.Time) *stamp {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// keyUses returns when the caller's keys were used last: from the store, or from this node if that
// is later.
func (c *call) keyUses(ctx context.Context, v *seckill.Catalog, caller *seckill.Caller) (map[seckill.KeyID]time.Time, error) {
	noted, err := c.server.deps.Store.KeyUses(ctx, caller.CallerRef)
	if err != nil {
		return nil, failed("read the use of keys", err)
	}
	used := make(map[seckill.KeyID]time.Time)
	for i := range noted {
		used[noted[i].Key] = noted[i].At
	}
	for i := range caller.Keys {
		key := &caller.Keys[i]
		if known := v.Credential(key.Hash); known != nil && known.LastUse().After(used[key.ID]) {
			used[key.ID] = known.LastUse()
		}
	}
	return used, nil
}

// namedCaller finds the caller that the path names.
func (c *call) namedCaller(v *seckill.Catalog) (*seckill.Caller, error) {
	ref := c.pathCaller()
	if v.Merchant(ref.Merchant) == nil {
		return nil, refuse(problem.UnknownMerchant, "")
	}
	caller := v.NamedCaller(ref)
	if caller == nil {
		return nil, refuse(problem.UnknownCaller, "")
	}
	return caller, nil
}

// listKeys answers GET /admin/v1/merchants/{merchant}/callers/{caller}/keys. It includes keys that
// are no longer valid.
func (c *call) listKeys() error {
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	caller, err := c.namedCaller(v)
	if err != nil {
		return err
	}
	used, err := c.keyUses(c.context(), v, caller)
	if err != nil {
		return err
	}
	docs := make([]keyDoc, len(caller.Keys))
	for i := range caller.Keys {
		docs[i] = newKeyDoc(caller, &caller.Keys[i], used[caller.Keys[i].ID], v.Now())
	}
	return c.json(http.StatusOK, struct {
		Keys []keyDoc `json:"keys"`
	}{docs})
}

// Bounds of the life of a key or a token, and of the time an old key stays valid beside a new one.
const (
	minLife    = time.Second
	maxLife    = 10 * 365 * 24 * time.Hour
	maxOverlap = 90 * 24 * time.Hour
)

// optionalDuration takes a duration from least to most that may be missing.
func (o *object) optionalDuration(name string, least, most time.Duration) (d time.Duration, given bool) {
	text, given := o.optionalText(name)
	if !given {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		o.add(o.at+name, fmt.Sprintf("must be a duration like 90s, 15m or 24h, from %v to %v", shortDuration(least), shortDuration(most)))
		return 0, true
	}
	return d, true
}

type madeKeyDoc struct {
	Merchant seckill.MerchantID `json:"merchant"`
	Caller   seckill.CallerID   `json:"caller"`
	Key      string             `json:"key"` // once
	keyDoc
}

// addKey answers POST /admin/v1/merchants/{merchant}/callers/{caller}/keys. With an overlap, the
// caller's other keys end after that time.
func (c *call) addKey() error {
	m := new(mistakes)
	o, err := c.body(m, true)
	if err != nil {
		return err
	}
	life, ends := o.optionalDuration("expires_in", minLife, maxLife)
	overlap, rolls := o.optionalDuration("overlap", 0, maxOverlap)
	reason := c.reason(o, m, false)
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	secret, key := newCallerKey()
	var now time.Time
	caller, err := c.changeCaller(ctx, c.pathCaller(), c.author(reason), func(old *seckill.Caller, at time.Time) (*seckill.Caller, error) {
		if old == nil {
			return nil, seckill.ErrNotFound
		}
		now, key.Expires = at, time.Time{}
		if ends {
			key.Expires = at.Add(life)
		}
		if rolls {
			old.Retire(key.ID, at, overlap)
		}
		return old, keyRefusal(old.AddKey(key, at))
	})
	if err != nil {
		return err
	}
	made := newKeyDoc(caller, caller.Key(key.ID), time.Time{}, now)
	c.w.Header().Set("Location", fmt.Sprintf("/admin/v1/merchants/%s/callers/%s/keys", caller.Merchant, caller.Caller))
	return c.json(http.StatusCreated, madeKeyDoc{caller.Merchant, caller.Caller, secret, made})
}

func keyRefusal(err error) error {
	switch {
	case errors.Is(err, seckill.ErrTooMany):
		return refuse(problem.NotEditable, fmt.Sprintf("The caller has %d valid keys, the maximum: revoke one first.", seckill.MaxKeys))
	case errors.Is(err, seckill.ErrRevoked):
		return refuse(problem.NotEditable, "The caller is revoked. Add it again under its name, or revert the revocation.")
	}
	return err
}

// revokeKey answers DELETE /admin/v1/merchants/{merchant}/callers/{caller}/keys/{key_id}. Revoking
// again changes nothing.
func (c *call) revokeKey() error {
	by, err := c.bodilessAuthor()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	id := seckill.KeyID(c.r.PathValue("key_id"))
	ref := c.pathCaller()
	_, err = c.changeCaller(ctx, ref, by, func(old *seckill.Caller, _ time.Time) (*seckill.Caller, error) {
		if old == nil {
			return nil, seckill.ErrNotFound
		}
		key := old.Key(id)
		if key == nil {
			return nil, refuse(problem.UnknownKey, "")
		}
		key.Revoked = true
		return old, nil
	})
	if err != nil {
		return err
	}
	return c.revoked(ctx, fmt.Sprintf("the key %s of %s/%s is revoked,", id, ref.Merchant, ref.Caller), func(caller *seckill.Caller) bool {
		key := caller.Key(id)
		return key == nil || key.Revoked
	})
}

type foundKeyDoc struct {
	Merchant seckill.MerchantID `json:"merchant"`
	Caller   seckill.CallerID   `json:"caller"`
	Name     string             `json:"name"`
	Rights   []string           `json:"rights"`
	Shadow   bool               `json:"shadow"`
	keyDoc
}

// findKey answers GET /admin/v1/keys?key=… and POST /admin/v1/keys with the key in the body, so
// that it isn't written into logs and histories.
func (c *call) findKey() error {
	m := new(mistakes)
	field, secret := "parameter key", c.r.URL.Query().Get("key")
	if c.r.Method == http.MethodPost {
		o, err := c.body(m, false)
		if err != nil {
			return err
		}
		field, secret = "key", o.text("key")
		o.end()
	}
	switch {
	case len(m.errs) > 0:
	case secret == "":
		m.add(field, "is required")
	case !isVisible(secret, maxToken):
		m.add(field, fmt.Sprintf("must be at most %d visible ASCII characters", maxToken))
	}
	if err := m.err(); err != nil {
		return err
	}
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	known := v.Credential(sha256.Sum256([]byte(secret)))
	if known == nil || !c.token.mayMerchant(known.Caller.Merchant) {
		return refuse(problem.UnknownKey, "")
	}
	used, err := c.keyUses(c.context(), v, known.Caller)
	if err != nil {
		return err
	}
	caller := known.Caller
	return c.json(http.StatusOK, foundKeyDoc{
		caller.Merchant, caller.Caller, caller.Name, rightNames(caller.Rights), caller.Shadow,
		newKeyDoc(caller, &known.CallerKey, used[known.ID], v.Now()),
	})
}

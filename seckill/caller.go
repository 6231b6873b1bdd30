package seckill

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// Caller is a program of a merchant that may call the public API. It is immutable once it is in a
// Catalog. Orders, idempotency keys and limits belong to the caller, whichever of its keys it uses.
type Caller struct {
	CallerRef
	Name    string
	Rights  Rights
	Shadow  bool // this caller sends a load test; under load, its requests are refused first
	Revoked bool // none of its keys is valid
	Created time.Time
	Keys    []CallerKey // in the order in which they were made
}

// KeyID names a key of a caller. It is not secret.
type KeyID string

// CallerKey is a key of a caller, without the key itself.
type CallerKey struct {
	ID      KeyID
	Prefix  string   // the beginning of the key, for people
	Hash    [32]byte // SHA-256 of the key
	Created time.Time
	Expires time.Time // zero: never
	Revoked bool
}

// same reports whether two keys are the same in everything.
func (k CallerKey) same(other CallerKey) bool {
	return k.ID == other.ID && k.Prefix == other.Prefix && k.Hash == other.Hash && k.Revoked == other.Revoked &&
		k.Created.Equal(other.Created) && k.Expires.Equal(other.Expires)
}

// Expired reports whether the key's time is over at now, on the database's clock.
func (k *CallerKey) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// Live reports whether the key is valid at now, provided that its caller is not revoked.
func (k *CallerKey) Live(now time.Time) bool { return !k.Revoked && !k.Expired(now) }

// Limits of a caller's keys (L8). Dead keys are kept for a while, so that the owner of a leaked key
// can be found.
const (
	MaxKeys     = 10 // live keys
	maxDeadKeys = 20
)

// Answers of a caller's changes that are decisions, not failures.
var (
	// ErrTooMany means that the maximum number is reached.
	ErrTooMany = errors.New("too many")
	// ErrRevoked means that the caller is revoked.
	ErrRevoked = errors.New("revoked")
)

// Clone copies a caller, with its keys. A nil caller gives nil.
func (c *Caller) Clone() *Caller {
	if c == nil {
		return nil
	}
	out := *c
	out.Keys = slices.Clone(c.Keys)
	return &out
}

// Same reports whether two callers are the same in everything.
func (c *Caller) Same(other *Caller) bool {
	return c.CallerRef == other.CallerRef && c.Name == other.Name && c.Rights == other.Rights && c.Shadow == other.Shadow &&
		c.Revoked == other.Revoked && c.Created.Equal(other.Created) && slices.EqualFunc(c.Keys, other.Keys, CallerKey.same)
}

// Key returns the key of that id, or nil.
func (c *Caller) Key(id KeyID) *CallerKey {
	for i := range c.Keys {
		if c.Keys[i].ID == id {
			return &c.Keys[i]
		}
	}
	return nil
}

// SetRevoked returns the caller with revoked set; ErrNotFound if old is nil.
func SetRevoked(old *Caller, revoked bool) (*Caller, error) {
	if old == nil {
		return nil, ErrNotFound
	}
	old.Revoked = revoked
	return old, nil
}

// AddKey gives the caller one more key, made at now. If there are too many dead keys, the oldest
// are forgotten.
func (c *Caller) AddKey(key CallerKey, now time.Time) error {
	live, dead := 0, 0
	for i := range c.Keys {
		if c.Keys[i].Live(now) {
			live++
		} else {
			dead++
		}
	}
	switch {
	case c.Revoked:
		return ErrRevoked
	case c.Key(key.ID) != nil:
		return ErrExists
	case live >= MaxKeys:
		return ErrTooMany
	}
	key.Created = now
	c.Keys = slices.DeleteFunc(append(c.Keys, key), func(k CallerKey) bool {
		forget := !k.Live(now) && dead > maxDeadKeys
		if forget {
			dead--
		}
		return forget
	})
	return nil
}

// Retire makes every live key except one expire after overlap at the latest; 0 ends them at once.
func (c *Caller) Retire(but KeyID, now time.Time, overlap time.Duration) {
	until := now.Add(overlap)
	for i := range c.Keys {
		k := &c.Keys[i]
		switch {
		case k.ID == but || !k.Live(now):
		case overlap == 0:
			k.Revoked = true
		case k.Expires.IsZero() || k.Expires.After(until):
			k.Expires = until
		}
	}
}

// NewCaller decides about a caller that is added with a key. old is the caller of that name, or
// nil. ErrExists: the name is in use. A revoked caller comes back, with the rights of wanted and
// only the new key. It is the same caller, so it finds its orders.
func NewCaller(old, wanted *Caller, key CallerKey, now time.Time) (*Caller, error) {
	next := *wanted
	switch {
	case old == nil:
		next.Keys, next.Created = nil, now
	case old.Revoked:
		next.Keys, next.Created = old.Keys, old.Created
		next.Retire("", now, 0)
	default:
		return nil, ErrExists
	}
	return &next, next.AddKey(key, now)
}

// AddCaller adds a caller with a key, as NewCaller decides; ErrNotFound without its merchant.
func AddCaller(ctx context.Context, store CatalogStore, c Caller, key CallerKey, by Author) error {
	_, err := store.UpdateCaller(ctx, c.CallerRef, by, func(old *Caller, now time.Time) (*Caller, error) {
		return NewCaller(old, &c, key, now)
	})
	return err
}

// PutMerchant creates or renames a merchant. An empty PaymentSecret keeps the present one; another
// one replaces it at once.
func PutMerchant(ctx context.Context, store CatalogStore, m Merchant, by Author) error {
	_, err := store.UpdateMerchant(ctx, m.ID, by, func(old *Merchant, now time.Time) (*Merchant, error) {
		if old == nil {
			return &m, nil
		}
		old.Name = m.Name
		if m.PaymentSecret != "" && m.PaymentSecret != old.PaymentSecret {
			old.Roll(m.PaymentSecret, now, 0)
		}
		return old, nil
	})
	return err
}

// MerchantEdit runs a change of a merchant, inside a store's transaction that has its row. It
// returns the change record; changed is false if there is nothing to write.
func MerchantEdit(old *Merchant, now time.Time, change func(*Merchant, time.Time) (*Merchant, error)) (
	next *Merchant, r ChangeRecord, changed bool, err error) {
	var own *Merchant
	if old != nil {
		copied := *old
		own = &copied
	}
	if next, err = change(own, now); err != nil {
		return nil, r, false, err
	}
	next.FormerUntil = settled(next.FormerUntil)
	if old != nil && next.same(old) {
		return next, r, false, nil
	}
	if !now.Before(next.FormerUntil) { // the former secret isn't valid any more
		next.FormerSecret, next.FormerUntil = "", time.Time{}
	}
	r, err = RecordMerchant(old, next)
	next.resealed = false
	return next, r, true, err
}

// CallerEdit is MerchantEdit for a caller.
func CallerEdit(old *Caller, now time.Time, change func(*Caller, time.Time) (*Caller, error)) (
	next *Caller, r ChangeRecord, changed bool, err error) {
	if next, err = change(old.Clone(), now); err != nil {
		return nil, r, false, err
	}
	next.Created = settled(next.Created)
	for i := range next.Keys {
		next.Keys[i].Created, next.Keys[i].Expires = settled(next.Keys[i].Created), settled(next.Keys[i].Expires)
	}
	if old != nil && next.Same(old) {
		return next, r, false, nil
	}
	r, err = RecordCaller(old, next)
	return next, r, true, err
}

// LostKeys returns the keys that before has and after doesn't have. before may be nil.
func LostKeys(before, after *Caller) (lost []KeyID) {
	if before == nil {
		return nil
	}
	for i := range before.Keys {
		if id := before.Keys[i].ID; after.Key(id) == nil {
			lost = append(lost, id)
		}
	}
	return lost
}

// settled rounds a time as stores do, to the microsecond.
func settled(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Credential is a key with its caller, for the hot path. Its methods are safe for concurrent use
// and take no lock.
type Credential struct {
	CallerKey
	Caller *Caller
	clock  *clock
	use    *keyUse
}

// keyUse has the times of a key's last use. Successive catalogs share it. Both are minutes since
// 1970 on the database's clock, 0 for never.
type keyUse struct{ last, noted atomic.Int64 }

// Valid reports whether the credential is valid at now, on this process's clock.
func (c *Credential) Valid(now time.Time) bool {
	return !c.Caller.Revoked && !c.Revoked && !c.Late(now)
}

// Late reports whether the key has expired at now, on this process's clock.
func (c *Credential) Late(now time.Time) bool {
	return !c.Expires.IsZero() && c.Expired(now.Add(c.clock.offset()))
}

// Use records that the key was used at now, on this process's clock. It writes at most once a
// minute.
func (c *Credential) Use(now time.Time) {
	if minute := now.Add(c.clock.offset()).Unix() / 60; c.use.last.Load() < minute {
		c.use.last.Store(minute)
	}
}

// LastUse returns the minute of the key's last use that this process knows; the zero time for
// never.
func (c *Credential) LastUse() time.Time { return minuteTime(c.use.last.Load()) }

func minuteTime(minute int64) time.Time {
	if minute == 0 {
		return time.Time{}
	}
	return time.Unix(minute*60, 0).UTC()
}

// KeyUse is the minute of a key's last use.
type KeyUse struct {
	CallerRef
	Key KeyID
	At  time.Time
}

// UnnotedUses returns up to limit uses of keys that are not stored yet. Call noted after a store
// has them.
func (c *Catalog) UnnotedUses(limit int) (uses []KeyUse, noted func()) {
	type seen struct {
		use    *keyUse
		minute int64
	}
	var all []seen
	for credential := range c.credentials() {
		last := credential.use.last.Load()
		if last <= credential.use.noted.Load() {
			continue
		}
		if len(uses) == limit {
			break
		}
		uses = append(uses, KeyUse{credential.Caller.CallerRef, credential.ID, minuteTime(last)})
		all = append(all, seen{credential.use, last})
	}
	return uses, func() {
		for _, s := range all {
			s.use.noted.Store(s.minute)
		}
	}
}

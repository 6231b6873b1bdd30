package seckill

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// Caller is a program that a merchant lets in. It is immutable once it is in a Catalog. Its orders,
// its idempotency keys and its limits are the caller's, whichever of its keys it shows.
type Caller struct {
	CallerRef
	Name    string
	Rights  Rights
	Shadow  bool // its traffic is load testing, shed first
	Revoked bool // none of its keys is valid
	Created time.Time
	Keys    []CallerKey // in the order in which they were made
}

// KeyID names a key of a caller. It is no secret.
type KeyID string

// CallerKey is a key of a caller, without the key itself.
type CallerKey struct {
	ID      KeyID
	Prefix  string   // how the key begins, for people
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

// Live reports whether the key is valid at now, where its caller is.
func (k *CallerKey) Live(now time.Time) bool { return !k.Revoked && !k.Expired(now) }

// Limits of a caller's keys (L8). Keys that are dead are kept for a while, so that one that turns
// up somewhere can still be told whose it was.
const (
	MaxKeys     = 10 // that are live
	maxDeadKeys = 20
)

// Answers of a caller's changes that are decisions.
var (
	// ErrTooMany means that there are as many as there may be.
	ErrTooMany = errors.New("too many")
	// ErrRevoked means that the caller is revoked.
	ErrRevoked = errors.New("revoked")
)

// Clone copies a caller, with its keys. It is nil for nil.
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

// SetRevoked decides whether a caller is revoked; ErrNotFound where there is none.
func SetRevoked(old *Caller, revoked bool) (*Caller, error) {
	if old == nil {
		return nil, ErrNotFound
	}
	old.Revoked = revoked
	return old, nil
}

// AddKey gives the caller one more key, made at now. The oldest of too many dead keys are
// forgotten.
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

// Retire ends every live key but one after overlap at the latest: at once where that is 0.
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

// NewCaller decides what becomes of a caller that is added with a key, where there is old or nil:
// ErrExists when the name is in use. A caller that was revoked comes back with the rights it is
// given now and with the new key only. It is the same caller, so it finds its orders.
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

// PutMerchant creates or renames a merchant. An empty PaymentSecret leaves the one there is;
// another one takes its place at once.
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

// MerchantEdit is a change of a merchant under way, inside a store's transaction that has its row.
// It says what is to be recorded; changed is false where there is nothing to write.
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
	if !now.Before(next.FormerUntil) { // it is of no use any more
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

// LostKeys returns the keys of before, which may be nil, that after doesn't have.
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

// settled is a time as stores keep it, to the microsecond.
func settled(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Credential is a key as the hot path sees it. Its methods are safe for concurrent use and take no
// lock.
type Credential struct {
	CallerKey
	Caller *Caller
	clock  *clock
	use    *keyUse
}

// keyUse is when a key was used; the catalogs before and after share it. Both are minutes since
// 1970 on the database's clock, 0 for never.
type keyUse struct{ last, noted atomic.Int64 }

// Valid reports whether the credential lets its caller in at now, on this process's clock.
func (c *Credential) Valid(now time.Time) bool {
	return !c.Caller.Revoked && !c.Revoked && !c.Late(now)
}

// Late reports whether the key has expired at now, on this process's clock.
func (c *Credential) Late(now time.Time) bool {
	return !c.Expires.IsZero() && c.Expired(now.Add(c.clock.offset()))
}

// Use notes that the key was used at now, on this process's clock. It writes once a minute.
func (c *Credential) Use(now time.Time) {
	if minute := now.Add(c.clock.offset()).Unix() / 60; c.use.last.Load() < minute {
		c.use.last.Store(minute)
	}
}

// LastUse returns the minute in which the key was used last as far as this process has seen, the
// zero time for never.
func (c *Credential) LastUse() time.Time { return minuteTime(c.use.last.Load()) }

func minuteTime(minute int64) time.Time {
	if minute == 0 {
		return time.Time{}
	}
	return time.Unix(minute*60, 0).UTC()
}

// KeyUse says in which minute a key was used last.
type KeyUse struct {
	CallerRef
	Key KeyID
	At  time.Time
}

// UnnotedUses returns the uses of keys that were not noted yet, up to limit. noted says that a
// store has them.
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

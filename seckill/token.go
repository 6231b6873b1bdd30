package seckill

import "time"

// Role is a set of rights in the admin API. The zero value has no rights.
type Role uint8

// The roles. A viewer reads, but sees no buyers' names. Support also finds and cancels orders. An
// operator also runs the sale: switches, limits, pause, resume, restock, revoke, and the revert of
// these. Finance reads like a viewer, and settles refunds. An admin does everything.
const (
	RoleViewer Role = iota + 1
	RoleSupport
	RoleOperator
	RoleFinance
	RoleAdmin
)

// Includes reports whether the role has all rights of need.
func (r Role) Includes(need Role) bool {
	switch need {
	case 0:
		return true
	case RoleViewer:
		return r != 0
	case RoleSupport:
		return r == RoleSupport || r == RoleOperator || r == RoleAdmin
	case RoleOperator:
		return r == RoleOperator || r == RoleAdmin
	case RoleFinance:
		return r == RoleFinance || r == RoleAdmin
	default:
		return r == RoleAdmin && need == RoleAdmin
	}
}

// TokenID names an admin token. It is no secret, and is never used again.
type TokenID string

// Token is a credential for the admin API.
type Token struct {
	ID   TokenID
	Name string
	Role Role
	// Merchant restricts it to one merchant; "" means all.
	Merchant MerchantID
	// Session means that it was made by a login. Name is the person's name then; a person may have
	// several sessions.
	Session bool
	Hash    [32]byte // SHA-256 of the token
	Created time.Time
	Expires time.Time // zero: never
	Used    time.Time // the minute in which it was used last; zero: never
}

// Expired reports whether the token's time is over at now, on the database's clock.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// MaxTokens is the most tokens of an installation: every request to the admin API is compared with
// all (L8).
const MaxTokens = 1_000

// AdmitToken decides whether the token t may be added to all at now. It sets the token's times, and
// returns the expired tokens to delete for it. ErrExists: the name is taken. ErrTooMany: there is
// no room. life is how long the token is valid; 0 is for ever.
func AdmitToken(all []Token, t *Token, life time.Duration, now time.Time) (drop []TokenID, err error) {
	t.Created, t.Expires, t.Used = now, time.Time{}, time.Time{}
	if life > 0 {
		t.Expires = settled(now.Add(life))
	}
	for i := range all {
		switch other := &all[i]; {
		case other.ID == t.ID, !t.Session && !other.Session && other.Name == t.Name && !other.Expired(now):
			return nil, ErrExists
		case other.Expired(now) && (other.Session || other.Name == t.Name || len(all) >= MaxTokens):
			drop = append(drop, other.ID)
		}
	}
	if len(all)-len(drop) >= MaxTokens {
		return nil, ErrTooMany
	}
	return drop, nil
}

// TokenUse is the minute of a token's last use.
type TokenUse struct {
	Token TokenID
	At    time.Time
}

package seckill

import "time"

// Merchant owns activities and callers.
type Merchant struct {
	ID            MerchantID
	Name          string
	PaymentSecret string // signs payment notices; never logged, never shown after it was made
}

// Rights is a set of what a caller may do.
type Rights uint8

// The rights. RightBuy places, reads and cancels the caller's own orders; RightMerchant reads the merchant's activities before
// they are published.
const (
	RightBuy Rights = 1 << iota
	RightMerchant
)

// Caller is a program that a merchant lets in. It is immutable once it is in a Catalog.
type Caller struct {
	CallerRef
	Name    string
	Rights  Rights
	Shadow  bool     // its traffic is load testing, shed first
	KeyHash [32]byte // SHA-256 of the caller key
	Revoked bool
	Created time.Time
}

// Role is what an admin token may do; a higher role includes the lower ones.
type Role uint8

// The roles: a viewer reads, an operator flips switches and limits, an admin does everything.
const (
	RoleViewer Role = iota + 1
	RoleOperator
	RoleAdmin
)

// Token lets somebody use the admin API.
type Token struct {
	Name    string
	Role    Role
	Hash    [32]byte // SHA-256 of the token
	Created time.Time
}

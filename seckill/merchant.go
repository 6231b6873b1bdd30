package seckill

import "time"

// Merchant owns activities and callers.
type Merchant struct {
	ID   MerchantID
	Name string
	// PaymentSecret signs payment notices. It is kept encrypted (see Secrets) and never logged; ""
	// means none.
	PaymentSecret string
	// FormerSecret is the former payment secret, which is valid until FormerUntil. While a secret
	// is rolled, the provider may sign with either.
	FormerSecret string
	FormerUntil  time.Time

	resealed bool // the same secrets were encrypted with another key; read by MerchantEdit
}

// Reseal replaces the merchant's secrets by the same secrets, encrypted with another key.
func (m *Merchant) Reseal(payment, former string) {
	m.PaymentSecret, m.FormerSecret, m.resealed = payment, former, true
}

// same reports whether two merchants are the same in everything.
func (m *Merchant) same(other *Merchant) bool {
	a, b := *m, *other
	a.FormerUntil, b.FormerUntil, a.resealed, b.resealed = time.Time{}, time.Time{}, false, false
	return a == b && m.FormerUntil.Equal(other.FormerUntil)
}

// Roll gives the merchant a new payment secret at now; sealed is its encrypted form. The present
// secret stays valid for overlap; 0 ends it at once. A former secret ends now.
func (m *Merchant) Roll(sealed string, now time.Time, overlap time.Duration) {
	m.FormerSecret, m.FormerUntil = "", time.Time{}
	if overlap > 0 && m.PaymentSecret != "" {
		m.FormerSecret, m.FormerUntil = m.PaymentSecret, now.Add(overlap)
	}
	m.PaymentSecret = sealed
}

// Secrets returns the sealed payment secrets that are valid at now, the newest first.
func (m *Merchant) Secrets(now time.Time) (sealed [2]string) {
	sealed[0] = m.PaymentSecret
	if now.Before(m.FormerUntil) {
		sealed[1] = m.FormerSecret
	}
	return sealed
}

// Rights is a set of rights of a caller.
type Rights uint8

// The rights. RightBuy places, reads and cancels the caller's own orders; RightMerchant reads the
// merchant's activities before they are published.
const (
	RightBuy Rights = 1 << iota
	RightMerchant
)

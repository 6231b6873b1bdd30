package desk

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// notice returns a signed notice of a payment of the order.
func notice(id seckill.OrderID, secret string, at time.Time) *seckill.Notice {
	n := &seckill.Notice{
		Payment:  seckill.Payment{ID: "pay-1", Order: id, Amount: seckill.Money{Minor: 100, Currency: "CNY"}},
		SignedAt: at.Unix(), Body: []byte(`{"payment":"pay-1"}`),
	}
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", n.SignedAt, n.Body)
	n.MACs = [][32]byte{[32]byte(mac.Sum(nil))}
	return n
}

// TestPay_WhileASecretIsRolled: the old secret stays valid for the announced time, and one matching
// signature is enough. A secret that can't be decrypted is a fault of the server.
func TestPay_WhileASecretIsRolled(t *testing.T) {
	id := orderOf(1, wish("u-1", "k-1"))
	broken := errors.New("no key")
	for _, c := range []struct {
		name    string
		secrets []string
		past    time.Duration // since the roll
		closed  string        // the secret that can't be decrypted
		code    seckill.Code
	}{
		{"with the new secret", []string{"secret"}, 0, "", ""},
		{"with the old one in time", []string{"old"}, 59 * time.Minute, "", ""},
		{"with the old one too late", []string{"old"}, time.Hour, "", seckill.CodeInvalidSignature},
		{"with both", []string{"old", "secret"}, 2 * time.Hour, "", ""},
		{"with others and the new one", []string{"x", "y", "secret"}, 0, "", ""},
		{"with others", []string{"x", "y"}, 0, "", seckill.CodeInvalidSignature},
		{"by nobody", nil, 0, "", seckill.CodeInvalidSignature},
		{"with the old one while the new one can't be opened", []string{"old"}, 0, "secret", ""},
		{"with the new one, which can't be opened", []string{"secret"}, 0, "secret", seckill.CodeUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openShop(t, holding(id, inventory.Fresh), &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
				s.store.pay = func(seckill.Payment) seckill.PaymentResult {
					return seckill.PaymentResult{Verdict: seckill.PaymentBooked, Order: seckill.Order{ID: id}}
				}
				edit := s.Catalog().Edit(false, time.Now())
				m := &seckill.Merchant{ID: "m", PaymentSecret: "sealed old"}
				m.Roll("sealed secret", time.Now(), time.Hour)
				if err := edit.Apply(seckill.CatalogChange{Merchant: m}); err != nil {
					t.Fatal(err)
				}
				s.catalog.Store(edit.Done(s.Catalog().Version))
				s.open = func(sealed, owner string) (string, error) {
					if owner != "m" || sealed == "sealed "+c.closed {
						return "", broken
					}
					return strings.TrimPrefix(sealed, "sealed "), nil
				}
				<-time.After(c.past)
				n := notice(id, "", time.Now())
				n.MACs = nil
				for _, secret := range c.secrets {
					n.MACs = append(n.MACs, notice(id, secret, time.Now()).MACs...)
				}
				_, err := s.Pay(t.Context(), n)
				if code := codeOf(t, err); code != c.code {
					t.Errorf("answered %q, %v, want %q", code, err, c.code)
				}
				if c.code == seckill.CodeUnavailable && !errors.Is(err, broken) {
					t.Errorf("the cause is missing: %v", err)
				}
			})
		})
	}
}

func TestPay(t *testing.T) {
	id := orderOf(1, wish("u-1", "k-1"))
	result := func(v seckill.PaymentVerdict) seckill.PaymentResult {
		return seckill.PaymentResult{Verdict: v, Order: seckill.Order{ID: id}}
	}
	booked, locked := result(seckill.PaymentBooked), result(seckill.PaymentLocked)
	none := seckill.PaymentResult{Verdict: seckill.PaymentNoOrder}
	early, repeated := seckill.PaymentResult{Verdict: seckill.PaymentEarly}, seckill.PaymentResult{Verdict: seckill.PaymentAgain}
	for _, c := range []struct {
		name    string
		secret  string
		age     time.Duration
		offset  time.Duration // of the database's clock
		results []seckill.PaymentResult
		code    seckill.Code
		state   seckill.OrderState // of the order in the answer
		refused int                // notices that are kept as refused
	}{
		{"booked", "secret", 0, 0, []seckill.PaymentResult{booked}, "", "", 0},
		{"late", "secret", 0, 0, []seckill.PaymentResult{result(seckill.PaymentLate)}, "", "", 0},
		{"again", "secret", 0, 0, []seckill.PaymentResult{result(seckill.PaymentAgain)}, "", "", 0},
		{"a wrong amount", "secret", 0, 0, []seckill.PaymentResult{result(seckill.PaymentMismatch)}, seckill.CodeAmountMismatch, "", 0},
		{"its id used before", "secret", 0, 0, []seckill.PaymentResult{result(seckill.PaymentOtherContent)}, seckill.CodeKeyReused, "", 0},
		{"a wrong signature", "another", 0, 0, nil, seckill.CodeInvalidSignature, "", 0},
		{"an old signature", "secret", time.Hour, 0, nil, seckill.CodeInvalidSignature, "", 1},
		{"a signature by the database's clock", "secret", time.Hour, -time.Hour, []seckill.PaymentResult{booked}, "", "", 0},
		{"of a queued order", "secret", 0, 0, []seckill.PaymentResult{none, early}, "", seckill.OrderQueued, 0},
		{"again of a queued order", "secret", 0, 0, []seckill.PaymentResult{repeated}, "", seckill.OrderQueued, 0},
		{"of an order that gets its row meanwhile", "secret", 0, 0, []seckill.PaymentResult{none, booked}, "", "", 0},
		{"its row is locked for a while", "secret", 0, 0, []seckill.PaymentResult{locked, locked, booked}, "", "", 0},
		{"its row stays locked", "secret", 0, 0, []seckill.PaymentResult{locked}, seckill.CodeUnavailable, "", 0},
		{"queued, then locked", "secret", 0, 0, []seckill.PaymentResult{none, locked, booked}, "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openShop(t, holding(id, inventory.Fresh), &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
				s.SetOffset(c.offset)
				asked := 0
				s.store.pay = func(p seckill.Payment) seckill.PaymentResult {
					if p.Merchant != "m" {
						t.Errorf("a payment of merchant %q", p.Merchant)
					}
					if asked++; p.Activity == "" || p.SKU == "" || p.Queued != (asked > 1 && c.results[0].Order.ID == "") {
						t.Errorf("asked for %+v", p)
					}
					return c.results[min(asked, len(c.results))-1]
				}
				began := time.Now()
				order, err := s.Pay(t.Context(), notice(id, c.secret, time.Now().Add(-c.age)))
				if codeOf(t, err) != c.code || order.State != c.state {
					t.Errorf("%v, %q; want %q, %q", err, order.State, c.code, c.state)
				}
				if len(s.store.refused) != c.refused {
					t.Errorf("refused %+v", s.store.refused)
				}
				if took := time.Since(began); took > s.cfg.AcceptDeadline {
					t.Errorf("answered after %v", took)
				}
			})
		})
	}
	t.Run("of an order that is nowhere", func(t *testing.T) {
		s := openShop(t, &stubStock{}, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
		s.store.pay = func(seckill.Payment) seckill.PaymentResult { return none }
		if _, err := s.Pay(t.Context(), notice(id, "secret", time.Now())); codeOf(t, err) != seckill.CodeUnknownOrder {
			t.Error(err)
		}
	})
}

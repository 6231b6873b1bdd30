package admin

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/seckill"
)

func secretRows() []row {
	const all, rewrap = "/admin/v1/secrets", "/admin/v1/secrets/rewrap"
	var before *vault.Vault
	keyed := func(keys ...string) func(*shop) {
		return func(s *shop) {
			v, err := vault.Parse(strings.Join(keys, ","))
			if err != nil {
				s.t.Fatal(err)
			}
			before, s.server.deps.Secrets = s.server.deps.Secrets, v
		}
	}
	plain := func(s *shop) { s.server.deps.Secrets = before }
	key := strings.Repeat("0f", 32)
	return []row{
		{name: "in the clear", pattern: all, method: "GET", status: 200,
			want: has("sealing_key", "", "keys", "[]", "sealed", "[map[key: known:true secrets:1]]")},
		{name: "without a key", pattern: rewrap, method: "POST", status: 409, code: problem.NotEditable},
		{name: "with a key", pattern: rewrap, method: "POST", body: `{"reason":"first key"}`, status: 200, before: keyed(key), after: plain,
			want: func(a *answer) {
				has("rewrapped", "1", "sealing_key", "f0d6abb0", "sealed", "[map[key:f0d6abb0 known:true secrets:1]]")(a)
			}},
		{name: "with another key", pattern: rewrap, method: "POST", status: 409, code: problem.NotEditable,
			before: keyed(strings.Repeat("aa", 32)), after: plain},
		{name: "that can't be read", pattern: all, method: "GET", status: 200,
			want: has("sealed", "[map[key:f0d6abb0 known:false secrets:1]]")},
	}
}

// vaultOf returns a vault with some keys. The first one encrypts.
func vaultOf(t *testing.T, keys ...string) *vault.Vault {
	t.Helper()
	v, err := vault.Parse(strings.Join(keys, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSecrets_AreSealedAndRewrapped(t *testing.T) {
	old, fresh := vault.NewKey(), vault.NewKey()
	s := open(t, func(_ *Config, d *Deps) { d.Secrets = vaultOf(t, old) })
	merchant := func() *seckill.Merchant {
		if err := s.desk.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.desk.Catalog().Merchant("m1")
	}
	opens := func(v *vault.Vault, sealed, want string) {
		t.Helper()
		if got, err := v.Open(sealed, "m1"); err != nil || got != want || !vault.IsSealed(sealed) {
			t.Errorf("%q opened as %q, %v, want %q", sealed, got, err, want)
		}
	}
	const one, two = "whsec-one-0123456789", "whsec-two-0123456789"
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop","payment_secret":"`+one+`"}`)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"payment_secret":"`+two+`","overlap":"1h"}`)
	changes := s.lastChange()
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"payment_secret":"`+two+`"}`)
	if s.lastChange() != changes {
		t.Error("putting the secret that is in force is a change")
	}
	opens(vaultOf(t, old), merchant().PaymentSecret, two)
	opens(vaultOf(t, old), merchant().FormerSecret, one)

	s.server.deps.Secrets = vaultOf(t, fresh, old)
	has("rewrapped", "1")(s.must(200, "POST", "/admin/v1/secrets/rewrap", `{"reason":"the yearly change"}`))
	opens(vaultOf(t, fresh), merchant().PaymentSecret, two)
	opens(vaultOf(t, fresh), merchant().FormerSecret, one)
	if _, err := vaultOf(t, old).Open(merchant().PaymentSecret, "m1"); !errors.Is(err, vault.ErrNoKey) {
		t.Errorf("the old key: %v", err)
	}
	has("kind", "merchant", "reason", "the yearly change", "revertible", "false")(s.must(200, "GET", "/admin/v1/changes/"+s.last(), ""))
	if a := s.must(200, "GET", "/admin/v1/changes/"+s.last(), ""); !strings.Contains(a.body, `"resealed":true`) ||
		strings.Contains(a.body, "new_payment_secret") || strings.Contains(a.body, vault.Prefix) {
		t.Errorf("the change: %s", a.body)
	}
	has("rewrapped", "0")(s.must(200, "POST", "/admin/v1/secrets/rewrap", ""))
	if keys := vaultOf(t, fresh, old).Keys(); !slices.Contains(keys, vault.KeyOf(merchant().PaymentSecret)) {
		t.Errorf("keys %v", keys)
	}
}

package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"penstock/seckill"
)

func adminCases() []testCase {
	return []testCase{
		{"Changes_NewestFirstPageByPage", changePages},
		{"FindChange", findChange},
		{"Changes_HaveNoSecrets", noSecrets},
		{"Tokens", tokens},
	}
}

func changePages(t *testing.T, open Open) {
	s := emptyShop(t, open)
	for i := range 7 {
		s.clock.advance(time.Second)
		by := seckill.Author{Actor: "ann", Reason: string(user(i))}
		s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: string(user(i))}, by))
	}
	all := s.changes()
	equal(s, "changes", len(all), 7)
	for i := range all {
		if i > 0 && (all[i].Number >= all[i-1].Number || !all[i].At.Before(all[i-1].At)) {
			t.Fatalf("change %d follows %d", all[i].Number, all[i-1].Number)
		}
		equal(s, "reason", all[i].Reason, string(user(6-i)))
	}
	var paged []seckill.Change
	for before := int64(0); ; before = paged[len(paged)-1].Number {
		page, err := s.store.Changes(s.ctx, before, 3)
		s.must(err)
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
	}
	equal(s, "pages", paged, all)
}

func findChange(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Phones"}, author))
	want := s.lastChange("merchant", string(merchant))
	got, err := s.store.FindChange(s.ctx, want.Number)
	s.must(err)
	equal(s, "change", got, want)
	_, err = s.store.FindChange(s.ctx, want.Number+1)
	s.wants(err, seckill.ErrNotFound)
}

func noSecrets(t *testing.T, open Open) {
	s := emptyShop(t, open)
	hash := [32]byte(bytes.Repeat([]byte{0xc5}, 32))
	for _, secret := range []string{"hush-one", "hush-two"} {
		s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: secret}, author))
	}
	s.must(s.addCaller(seckill.Caller{CallerRef: caller, Name: "App"}, seckill.CallerKey{ID: "k", Prefix: "psk", Hash: hash}))
	s.must(s.setRevoked(caller, true))
	for _, role := range []seckill.Role{seckill.RoleViewer, seckill.RoleAdmin} {
		s.must(s.store.PutToken(s.ctx, seckill.Token{Name: "t", Role: role, Hash: hash}, author))
	}
	s.must(s.store.DropToken(s.ctx, "t", author))
	numbers, err := json.Marshal(hash)
	s.must(err)
	secrets := []string{
		"hush", hex.EncodeToString(hash[:4]), base64.StdEncoding.EncodeToString(hash[:6]), strings.Trim(string(numbers), "[]")[:15],
	}
	changes := s.changes()
	equal(s, "changes", len(changes), 7)
	for _, c := range changes {
		for _, secret := range secrets {
			if text := strings.ToLower(c.Before + c.After); strings.Contains(text, strings.ToLower(secret)) {
				t.Errorf("change %d of %s shows a secret: %s", c.Number, c.Kind, text)
			}
		}
	}
}

func tokens(t *testing.T, open Open) {
	s := emptyShop(t, open)
	list := func() []seckill.Token {
		got, err := s.store.Tokens(s.ctx)
		s.must(err)
		return got
	}
	equal(s, "tokens", len(list()), 0)
	b := seckill.Token{Name: "bob", Role: seckill.RoleOperator, Hash: [32]byte{1}}
	a := seckill.Token{Name: "ann", Role: seckill.RoleViewer, Hash: [32]byte{2}}
	s.must(s.store.PutToken(s.ctx, b, author))
	s.must(s.store.PutToken(s.ctx, a, author))
	equal(s, "before it was made", s.lastChange("token", "ann").Before, "")
	a.Created, b.Created = s.clock.read(), s.clock.read()
	equal(s, "tokens", list(), []seckill.Token{a, b})

	s.clock.advance(time.Minute)
	s.unchanged(func() { s.must(s.store.PutToken(s.ctx, a, author)) })
	equal(s, "tokens", list(), []seckill.Token{a, b})
	a.Role, a.Hash = seckill.RoleAdmin, [32]byte{3}
	s.must(s.store.PutToken(s.ctx, a, author))
	change := s.lastChange("token", "ann")
	var before, after seckill.Token
	s.decode(change.Before, &before)
	s.decode(change.After, &after)
	equal(s, "recorded roles", []seckill.Role{before.Role, after.Role}, []seckill.Role{seckill.RoleViewer, seckill.RoleAdmin})
	a.Created = s.clock.read()
	equal(s, "tokens", list(), []seckill.Token{a, b})

	s.must(s.store.DropToken(s.ctx, "bob", author))
	equal(s, "after it was dropped", s.lastChange("token", "bob").After, "")
	equal(s, "tokens", list(), []seckill.Token{a})
	s.unchanged(func() { s.wants(s.store.DropToken(s.ctx, "bob", author), seckill.ErrNotFound) })
}

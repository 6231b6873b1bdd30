package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
)

func adminCases() []testCase {
	return []testCase{
		{"Changes_NewestFirstPageByPage", changePages},
		{"FindChange", findChange},
		{"AdminNews", adminNews},
		{"Changes_HaveNoSecrets", noSecrets},
		{"Tokens", tokens},
		{"Tokens_TellTheirLastUse", tokenUses},
		{"Changes_NameTheTokenAndTheAddress", authors},
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

// adminNews: the newest change by its number, and dead letters counted.
func adminNews(t *testing.T, open Open) {
	s := emptyShop(t, open)
	news, err := s.store.AdminNews(s.ctx)
	s.must(err)
	equal(s, "news of an empty shop", news, seckill.AdminNews{})
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Phones"}, author))
	news, err = s.store.AdminNews(s.ctx)
	s.must(err)
	equal(s, "news", news, seckill.AdminNews{Change: s.lastChange("merchant", string(merchant)).Number})
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
		s.addToken(seckill.Token{ID: "t", Name: "t", Role: role, Hash: hash}, 0)
		s.must(s.store.DropToken(s.ctx, "t", author))
	}
	numbers, err := json.Marshal(hash)
	s.must(err)
	secrets := []string{
		"hush", hex.EncodeToString(hash[:4]), base64.StdEncoding.EncodeToString(hash[:6]), strings.Trim(string(numbers), "[]")[:15],
	}
	changes := s.changes()
	equal(s, "changes", len(changes), 8)
	for _, c := range changes {
		for _, secret := range secrets {
			if text := strings.ToLower(c.Before + c.After); strings.Contains(text, strings.ToLower(secret)) {
				t.Errorf("change %d of %s shows a secret: %s", c.Number, c.Kind, text)
			}
		}
	}
}

// addToken adds a token, and returns it as it is stored.
func (s *shop) addToken(t seckill.Token, life time.Duration) seckill.Token {
	s.t.Helper()
	kept, err := s.store.AddToken(s.ctx, t, life, author)
	s.must(err)
	return kept
}

func (s *shop) tokens() []seckill.Token {
	s.t.Helper()
	got, err := s.store.Tokens(s.ctx)
	s.must(err)
	return got
}

func tokens(t *testing.T, open Open) {
	s := emptyShop(t, open)
	equal(s, "tokens", len(s.tokens()), 0)
	b := s.addToken(seckill.Token{ID: "t-1", Name: "bob", Role: seckill.RoleOperator, Hash: [32]byte{1}}, 0)
	a := s.addToken(seckill.Token{ID: "t-2", Name: "ann", Role: seckill.RoleSupport, Merchant: "m7", Hash: [32]byte{2}}, time.Hour)
	made := s.lastChange("token", "ann")
	equal(s, "before it was made", made.Before, "")
	var after seckill.TokenRecord
	s.decode(made.After, &after)
	equal(s, "recorded token", after,
		seckill.TokenRecord{ID: "t-2", Name: "ann", Role: seckill.RoleSupport, Merchant: "m7", Expires: a.Expires})
	equal(s, "times", []time.Time{a.Created, a.Expires, b.Created, b.Expires},
		[]time.Time{s.clock.read(), s.clock.read().Add(time.Hour), s.clock.read(), {}})
	equal(s, "tokens", s.tokens(), []seckill.Token{a, b})

	s.unchanged(func() {
		for _, taken := range []seckill.Token{{ID: "t-3", Name: "bob"}, {ID: "t-1", Name: "new"}, {ID: "t-1", Name: "new", Session: true}} {
			_, err := s.store.AddToken(s.ctx, taken, 0, author)
			s.wants(err, seckill.ErrExists)
		}
		s.wants(s.store.DropToken(s.ctx, "bob", author), seckill.ErrNotFound)
	})
	first := s.addToken(seckill.Token{ID: "s-1", Name: "bob", Role: seckill.RoleViewer, Session: true, Hash: [32]byte{3}}, time.Minute)
	second := s.addToken(seckill.Token{ID: "s-2", Name: "bob", Role: seckill.RoleViewer, Session: true, Hash: [32]byte{4}}, 2*time.Hour)
	equal(s, "with sessions", s.tokens(), []seckill.Token{a, first, second, b})

	s.must(s.store.DropToken(s.ctx, "t-1", author))
	equal(s, "after it was dropped", s.lastChange("token", "bob").After, "")
	s.clock.advance(time.Hour)
	// In the place of the expired one.
	again := s.addToken(seckill.Token{ID: "t-4", Name: "ann", Role: seckill.RoleViewer, Hash: [32]byte{5}}, 0)
	equal(s, "after an hour", s.tokens(), []seckill.Token{again, second})
}

// tokenUses: the last use only goes forward, and makes no record of changes.
func tokenUses(t *testing.T, open Open) {
	s := emptyShop(t, open)
	want := s.addToken(seckill.Token{ID: "t-1", Name: "bob", Role: seckill.RoleViewer, Hash: [32]byte{1}}, 0)
	want.Used = time.Unix(1_800_000_000, 0).UTC().Truncate(time.Minute)
	s.unchanged(func() {
		for _, at := range []time.Time{want.Used.Add(-time.Hour), want.Used, want.Used.Add(-time.Minute)} {
			s.must(s.store.NoteTokenUse(s.ctx, seckill.TokenUse{Token: "t-1", At: at}))
		}
		s.must(s.store.NoteTokenUse(s.ctx, seckill.TokenUse{Token: "gone", At: want.Used}))
	})
	equal(s, "tokens", s.tokens(), []seckill.Token{want})
}

// authors: a change names who made it, by which token and from where.
func authors(t *testing.T, open Open) {
	s := emptyShop(t, open)
	by := seckill.Author{Actor: "ann@example.com", Token: "t-0123456789", Address: "2001:db8::7", Reason: "a reason"}
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Phones"}, by))
	newest := s.changes()[0]
	equal(s, "author", newest.Author, by)
}

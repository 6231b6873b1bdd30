package vault

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parse(t testing.TB, keys ...string) *Vault {
	t.Helper()
	v, err := Parse("# keys\n\n" + strings.Join(keys, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func opens(t testing.TB, v *Vault, sealed, owner, want string) {
	t.Helper()
	if got, err := v.Open(sealed, owner); err != nil || got != want {
		t.Errorf("opened %q, %v, want %q", got, err, want)
	}
}

func TestVault_SealsAndOpens(t *testing.T) {
	v := parse(t, NewKey())
	rapid.Check(t, func(r *rapid.T) {
		secret, owner := rapid.String().Draw(r, "secret"), rapid.String().Draw(r, "owner")
		sealed := v.Seal(secret, owner)
		if len(secret) > 3 && strings.Contains(sealed, secret) || sealed == v.Seal(secret, owner) || !IsSealed(sealed) {
			r.Errorf("sealed %q as %q", secret, sealed)
		}
		if got, err := v.Open(sealed, owner); err != nil || got != secret {
			r.Errorf("opened %q, %v", got, err)
		}
	})
}

func TestVault_OpensNothingElse(t *testing.T) {
	v := parse(t, NewKey())
	sealed := v.Seal("whsec-1", "m1")
	if _, err := v.Open(sealed, "m2"); !errors.Is(err, ErrDamaged) {
		t.Errorf("of another owner: %v", err)
	}
	if _, err := parse(t, NewKey()).Open(sealed, "m1"); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), KeyOf(sealed)) {
		t.Errorf("without its key: %v", err)
	}
	if _, err := (*Vault)(nil).Open(sealed, "m1"); !errors.Is(err, ErrNoKey) {
		t.Errorf("without any key: %v", err)
	}
	for i := len(Prefix); i < len(sealed); i++ {
		flipped := []byte(sealed)
		flipped[i] ^= 1
		if got, err := v.Open(string(flipped), "m1"); err == nil && i != len(sealed)-1 { // the last character has spare bits
			t.Fatalf("with character %d changed: %q", i, got)
		}
	}
	for _, text := range []string{Prefix, Prefix + "x", Prefix + "a:b", sealed + ":x", sealed[:len(sealed)-4]} {
		if got, err := v.Open(text, "m1"); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestVault_ChangesItsKey(t *testing.T) {
	first, second := NewKey(), NewKey()
	old := parse(t, first)
	sealed := old.Seal("whsec-1", "m1")
	both := parse(t, second, first)
	opens(t, both, sealed, "m1", "whsec-1")
	again, err := both.Rewrap(sealed, "m1")
	if err != nil || KeyOf(again) != both.Keys()[0] {
		t.Fatalf("rewrapped as %q, %v", again, err)
	}
	opens(t, parse(t, second), again, "m1", "whsec-1")
	if _, err := old.Open(again, "m1"); !errors.Is(err, ErrNoKey) {
		t.Errorf("by the old key: %v", err)
	}
	if same, err := both.Rewrap(again, "m1"); err != nil || same != again {
		t.Errorf("rewrapped twice: %q, %v", same, err)
	}
	plain, err := both.Rewrap("in the clear", "m1")
	if err != nil || !IsSealed(plain) {
		t.Fatalf("sealed as %q, %v", plain, err)
	}
	opens(t, both, plain, "m1", "in the clear")
	if _, err := parse(t, second).Rewrap(sealed, "m1"); !errors.Is(err, ErrNoKey) {
		t.Errorf("without the old key: %v", err)
	}
}

func TestVault_NilKeepsWhatItIsGiven(t *testing.T) {
	var v *Vault
	if got := v.Seal("whsec-1", "m1"); got != "whsec-1" || len(v.Keys()) > 0 || KeyOf(got) != "" {
		t.Errorf("sealed as %q", got)
	}
	opens(t, v, "whsec-1", "m1", "whsec-1")
	if got, err := v.Rewrap("whsec-1", "m1"); err != nil || got != "whsec-1" {
		t.Errorf("rewrapped as %q, %v", got, err)
	}
}

func TestParse(t *testing.T) {
	one := NewKey()
	for name, c := range map[string]struct{ text, wrong string }{
		"one":                {one, ""},
		"hex":                {hex.EncodeToString(make([]byte, 32)), ""},
		"two with a comma":   {one + ", " + NewKey(), ""},
		"lines of Windows":   {"\r\n" + one + "\r\n", ""},
		"nothing":            {" \n# only a comment\n", "has no key"},
		"too short":          {one + "\nc2hvcnQ=", "key 2 is not 32 bytes"},
		"no base64":          {strings.Repeat("?", 44), "key 1 is not 32 bytes"},
		"the same one again": {one + "\n" + one, "key 2 is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.text)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v, want %q", err, c.wrong)
			}
			if err != nil && strings.Contains(err.Error(), one) {
				t.Errorf("the error has a key: %v", err)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	v := parse(f, NewKey())
	f.Add(v.Seal("whsec-1", "m1"))
	f.Add(Prefix + "::")
	f.Fuzz(func(t *testing.T, text string) {
		if secret, err := v.Open(text, "m2"); err == nil && IsSealed(text) {
			t.Errorf("%q opened as %q", text, secret)
		}
	})
}

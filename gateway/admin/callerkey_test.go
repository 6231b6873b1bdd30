package admin

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

func keyRows() []row {
	const all, one = "/admin/v1/merchants/{merchant}/callers/{caller}/keys",
		"/admin/v1/merchants/{merchant}/callers/{caller}/keys/{key_id}"
	const find, who = "/admin/v1/keys", "/admin/v1/merchants/who/callers/app/keys"
	var made *answer // of the row before
	maker := func(name string) func(*shop) {
		return func(s *shop) {
			made = s.must(201, "POST", "/admin/v1/merchants/m1/callers", fmt.Sprintf(`{"name":%q,"rights":["buy"]}`, name))
		}
	}
	revoke := func(s *shop) { s.must(200, "DELETE", "/admin/v1/merchants/m1/callers/"+made.member("caller"), "") }
	const life = "must be a duration like 90s, 15m or 24h, from "
	return []row{
		{name: "one", pattern: all, method: "GET", status: 200, want: func(a *answer) {
			if listed := a.keys(); len(listed) != 1 || listed[0]["state"] != "active" || listed[0]["expires_at"] != nil ||
				listed[0]["last_used_at"] != nil || strings.Contains(a.body, "hash") {
				a.t.Errorf("keys: %s", a.body)
			}
		}},
		{name: "of an unknown merchant", pattern: all, method: "GET", path: who, status: 404, code: problem.UnknownMerchant},
		{name: "added", pattern: all, method: "POST", body: "", status: 201, want: has("caller", "app", "state", "active",
			"expires_at", "<nil>")},
		{name: "added with an end", pattern: all, method: "POST", body: `{"expires_in":"24h","reason":"trial"}`, status: 201,
			want: func(a *answer) {
				expires, err := time.Parse(time.RFC3339, a.member("expires_at"))
				if left := time.Until(expires); err != nil || left < 23*time.Hour || left > 25*time.Hour {
					a.t.Errorf("%v: %s", err, a.body)
				}
				if key := a.member("key"); !strings.HasPrefix(key, a.member("prefix")) || len(key) < 40 {
					a.t.Errorf("key: %s", a.body)
				}
			}},
		{name: "wrong", pattern: all, method: "POST", body: `{"expires_in":"0s","overlap":"-1s","rights":["buy"]}`, status: 400,
			code: problem.InvalidRequest,
			want: wrong("expires_in: "+life+"1s to 87600h", "overlap: "+life+"0s to 2160h", "rights: is unknown")},
		{name: "to an unknown caller", pattern: all, method: "POST", path: "/admin/v1/merchants/m1/callers/who/keys", status: 404,
			code: problem.UnknownCaller},
		{name: "to an unknown merchant", pattern: all, method: "POST", path: who, status: 404, code: problem.UnknownMerchant},
		{name: "one too many", pattern: all, method: "POST", status: 409, code: problem.NotEditable,
			path: "/admin/v1/merchants/m1/callers/many/keys",
			before: func(s *shop) {
				maker("many")(s)
				for range seckill.MaxKeys - 1 {
					s.must(201, "POST", "/admin/v1/merchants/m1/callers/many/keys", "")
				}
			},
			after: revoke},
		{name: "to a revoked caller", pattern: all, method: "POST", status: 409, code: problem.NotEditable,
			path: "/admin/v1/merchants/m1/callers/many/keys"},
		{name: "revoked", pattern: one, method: "DELETE", status: 200, before: maker("short"), after: revoke,
			place: func([]int64) (path, body string) {
				return "/admin/v1/merchants/m1/callers/short/keys/" + made.member("key_id"), ""
			}},
		{name: "of an unknown caller", pattern: one, method: "DELETE", path: "/admin/v1/merchants/m1/callers/who/keys/k-1", status: 404,
			code: problem.UnknownCaller},
		{name: "unknown", pattern: one, method: "DELETE", status: 404, code: problem.UnknownKey},
		{name: "without a key", pattern: find, method: "GET", status: 400, code: problem.InvalidRequest,
			want: wrong("parameter key: is required")},
		{name: "a key that can be none", pattern: find, method: "POST", body: `{"key":"a b"}`, status: 400, code: problem.InvalidRequest,
			want: wrong("key: must be at most 256 visible ASCII characters")},
		{name: "an unknown key", pattern: find, method: "GET", path: find + "?key=psk_x", status: 404, code: problem.UnknownKey},
		{name: "an unknown key", pattern: find, method: "POST", body: `{"key":"psk_x"}`, status: 404, code: problem.UnknownKey},
		{name: "a key", pattern: find, method: "GET", status: 200, want: has("merchant", "m1", "caller", "found", "state", "active"),
			before: maker("found"), after: revoke,
			place: func([]int64) (path, body string) { return find + "?key=" + made.member("key"), "" }},
		{name: "a key in the body", pattern: find, method: "POST", status: 200, before: maker("found"), after: revoke,
			want:  has("merchant", "m1", "caller", "found", "rights", "[buy]"),
			place: func([]int64) (path, body string) { return find, fmt.Sprintf(`{"key":%q}`, made.member("key")) }},
	}
}

// keys returns the members of each key of a list of keys.
func (a *answer) keys() []map[string]any {
	a.t.Helper()
	var list struct{ Keys []map[string]any }
	a.read(&list)
	return list.Keys
}

// lets reports whether a key admits its caller.
func (s *shop) lets(key string) bool {
	known := s.desk.Catalog().Credential(sha256.Sum256([]byte(key)))
	return known != nil && known.Valid(time.Now())
}

func TestCallerKeys_AreRolledAndReverted(t *testing.T) {
	s := open(t, nil)
	s.sell()
	const caller = "/admin/v1/merchants/m1/callers/app"
	first := s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`).member("key")
	t.Run("another key leaves the first one alone", func(t *testing.T) {
		second := s.must(201, "POST", caller+"/keys", "").member("key")
		if !s.lets(first) || !s.lets(second) {
			t.Error("a key is not valid")
		}
		s.revert(s.lastChange()).reverted(true)
		s.revert(s.lastChange() - 1).reverted(false)
		if !s.lets(first) || s.lets(second) {
			t.Error("the reverted key is valid, or the first one is not")
		}
	})
	t.Run("an overlap ends the others later", func(t *testing.T) {
		third := s.must(201, "POST", caller+"/keys", `{"overlap":"1h"}`).member("key")
		known := s.desk.Catalog().Credential(sha256.Sum256([]byte(first)))
		if !s.lets(third) || !known.Valid(time.Now().Add(59*time.Minute)) || known.Valid(time.Now().Add(61*time.Minute)) {
			t.Errorf("the first key: %+v", known)
		}
		s.revert(s.lastChange()).reverted(true)
		if known := s.desk.Catalog().Credential(sha256.Sum256([]byte(first))); s.lets(third) || !known.Expires.IsZero() {
			t.Errorf("the first key after a revert: %+v", known)
		}
	})
	t.Run("no overlap ends them at once", func(t *testing.T) {
		fourth := s.must(201, "POST", caller+"/keys", `{"overlap":"0s"}`).member("key")
		if s.lets(first) || !s.lets(fourth) {
			t.Error("the first key is valid, or the new one is not")
		}
		s.revert(s.lastChange()).reverted(true)
		if !s.lets(first) || s.lets(fourth) {
			t.Error("the revert left the first key dead, or the new one valid")
		}
	})
	t.Run("a caller that was revoked comes back with the new key alone", func(t *testing.T) {
		s.must(200, "DELETE", caller, "")
		a := s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy","merchant"]}`)
		has("caller", "app", "rights", "[buy merchant]")(a)
		if s.lets(first) || !s.lets(a.member("key")) {
			t.Error("the old key is valid, or the new one is not")
		}
		var states []string
		for _, key := range s.must(200, "GET", caller+"/keys", "").keys() {
			states = append(states, fmt.Sprint(key["state"]))
		}
		if want := []string{"revoked", "revoked", "revoked", "revoked", "active"}; !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}

func TestCallerKeys_TellTheirLastUse(t *testing.T) {
	s := open(t, nil)
	s.sell()
	a := s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`)
	used := func() any {
		return s.must(200, "GET", "/admin/v1/merchants/m1/callers/app/keys", "").keys()[0]["last_used_at"]
	}
	if used() != nil {
		t.Fatalf("used before it was used: %v", used())
	}
	at := s.desk.Catalog().Now().Truncate(time.Minute).Add(-time.Hour).UTC()
	use := seckill.KeyUse{
		CallerRef: seckill.CallerRef{Merchant: "m1", Caller: "app"}, Key: seckill.KeyID(a.member("key_id")), At: at,
	}
	if err := s.store.NoteKeyUses(t.Context(), []seckill.KeyUse{use}); err != nil { // by another node
		t.Fatal(err)
	}
	if got := used(); got != at.Format(problem.TimeFormat) {
		t.Errorf("used at %v, want %v", got, at)
	}
	s.desk.Catalog().Credential(sha256.Sum256([]byte(a.member("key")))).Use(time.Now())
	made := s.must(200, "GET", "/admin/v1/merchants/m1/callers/app/keys", "").keys()[0]["created_at"].(string)
	if got := fmt.Sprint(used()); got < made || got != made && !strings.HasSuffix(got, ":00.000Z") {
		t.Errorf("made at %s, used at %s", made, got)
	}
	uses, noted := s.desk.Catalog().UnnotedUses(10)
	if len(uses) != 1 || uses[0].Key != use.Key {
		t.Errorf("to be noted: %+v", uses)
	}
	noted()
	if uses, _ := s.desk.Catalog().UnnotedUses(10); len(uses) != 0 {
		t.Errorf("noted twice: %+v", uses)
	}
}

package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// as returns the header fields of a request with a new token.
func (s *shop) as(body string) []string {
	s.t.Helper()
	return []string{"Authorization", "Bearer " + s.must(201, "POST", "/admin/v1/tokens", body).member("token")}
}

// TestAnOperatorRunsTheNight: an operator can limit, switch, pause, resume, restock, revoke and
// revert, without an admin.
func TestAnOperatorRunsTheNight(t *testing.T) {
	s := open(t, nil)
	s.sell()
	key := s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`)
	as := s.as(`{"name":"night","role":"operator"}`)
	must := func(status int, method, path, body string, fields ...string) *answer {
		t.Helper()
		a := s.must(status, method, "/admin/v1"+path, body, append(fields, as...)...)
		return a
	}
	revert := func() {
		t.Helper()
		must(200, "POST", "/changes/"+s.last()+"/revert", `{"reason":"night"}`).reverted(true)
	}
	const limits = `{"policies":[{"name":"caller","key":"caller","rate":40,"burst":20}],"reason":"crowd"}`
	must(200, "PUT", "/limits", limits, "If-Match", must(200, "GET", "/limits", "").Header.Get("ETag"))
	revert()
	must(200, "PUT", "/switches/orders", `{"value":"off","reason":"crowd"}`)
	revert()
	must(200, "POST", "/activities/618/pause", "")
	revert()
	must(200, "POST", "/activities/618/pause", "")
	must(200, "POST", "/activities/618/resume", "")
	s.beginDelivery()
	must(200, "POST", "/activities/618/items/phone-x/restock", `{"delta":5,"reason":"more"}`, "Idempotency-Key", "k1")
	revert()
	s.endDelivery()
	must(200, "DELETE", "/merchants/m1/callers/app/keys/"+key.member("key_id"), "")
	revert()
	must(200, "DELETE", "/merchants/m1/callers/app", "")
	revert()
	if !s.lets(key.member("key")) {
		t.Error("the key is not valid after both reverts")
	}

	refused := func(method, path, body string, fields ...string) {
		t.Helper()
		must(403, method, path, body, fields...).refused(problem.Forbidden)
	}
	refused("POST", "/activities/618/end", "")
	refused("POST", "/merchants/m1/callers/app/keys", "")
	refused("PUT", "/merchants/m1", `{"name":"x"}`)
	refused("POST", "/tokens", `{"name":"x","role":"viewer"}`)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Other"}`)
	refused("POST", "/changes/"+s.last()+"/revert", "")
	s.must(201, "POST", "/admin/v1/merchants/m1/callers/app/keys", `{"overlap":"1h"}`)
	refused("POST", "/changes/"+s.last()+"/revert", "") // it would make the old key valid again
	has("revertible", "false")(must(200, "GET", "/changes/"+s.last(), ""))
}

// TestRoles_AreAPartialOrder: for each pair of roles, whether one may do everything that the other
// may.
func TestRoles_AreAPartialOrder(t *testing.T) {
	for _, r := range roles {
		var got []string
		for _, need := range roles {
			if r.role.Includes(need.role) {
				got = append(got, need.name)
			}
		}
		want := map[string]string{
			"viewer": "viewer", "support": "viewer support", "operator": "viewer support operator", "finance": "viewer finance",
			"admin": "viewer support operator finance admin",
		}[r.name]
		if strings.Join(got, " ") != want {
			t.Errorf("%s includes %v, want %s", r.name, got, want)
		}
	}
	if seckill.Role(0).Includes(seckill.RoleViewer) || seckill.RoleAdmin.Includes(seckill.Role(99)) {
		t.Error("no role reads, or an unknown one is granted")
	}
}

// TestViewers_SeeNoBuyers: the record of a dead letter names the buyer.
func TestViewers_SeeNoBuyers(t *testing.T) {
	s := open(t, nil)
	s.letters(1)
	for role, sees := range map[seckill.Role]bool{
		seckill.RoleViewer: false, seckill.RoleFinance: false, seckill.RoleSupport: true, seckill.RoleOperator: true, seckill.RoleAdmin: true,
	} {
		a := s.must(200, "GET", "/admin/v1/dead-letters", "", "Authorization", "Bearer "+s.tokens[role])
		if got := strings.Contains(a.body, `"value"`); got != sees {
			t.Errorf("%s sees the record: %v", roleName(role), got)
		}
	}
}

func TestTokens_BoundToAMerchant(t *testing.T) {
	s := open(t, nil)
	s.sell()
	s.must(200, "PUT", "/admin/v1/merchants/m2", `{"name":"Other"}`)
	s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`)
	others := s.must(201, "POST", "/admin/v1/merchants/m2/callers", `{"name":"app","rights":["buy"]}`)
	othersChange := s.last()
	s.must(200, "PUT", "/admin/v1/activities/other", strings.Replace(activityBody, `"m1"`, `"m2"`, 1))
	as := s.as(`{"name":"shop","role":"admin","merchant":"m1"}`)
	must := func(status int, method, path, body string, fields ...string) *answer {
		t.Helper()
		return s.must(status, method, "/admin/v1"+path, body, append(fields, as...)...)
	}
	t.Run("it sees and changes what is its merchant's", func(t *testing.T) {
		keys("merchant", "m1")(must(200, "GET", "/merchants", ""))
		keys("activity", "618")(must(200, "GET", "/activities", ""))
		must(200, "GET", "/activities/618/audit", "")
		must(200, "PUT", "/merchants/m1", `{"name":"Renamed"}`)
		must(201, "POST", "/merchants/m1/callers/app/keys", "")
		must(200, "PUT", "/activities/own", activityBody)
		must(200, "PUT", "/switches/orders", `{"value":"off","scope":{"merchant":"m1"},"reason":"ours"}`)
		must(200, "PUT", "/switches/orders", `{"value":"off","scope":{"caller":"m1/app"},"reason":"ours"}`)
		must(200, "PUT", "/switches/orders", `{"value":"off","scope":{"sku":"618/phone-x"},"reason":"ours"}`)
		var changes struct{ Items []struct{ Kind, Key string } }
		must(200, "GET", "/changes", "").read(&changes)
		for _, change := range changes.Items {
			if strings.HasPrefix(change.Key, "m2") || change.Key == "other" || change.Kind == "token" || change.Kind == "switches" {
				t.Errorf("it sees a change of %s %s", change.Kind, change.Key)
			}
		}
		if len(changes.Items) < 5 {
			t.Errorf("it sees %d changes", len(changes.Items))
		}
	})
	t.Run("and nothing else", func(t *testing.T) {
		for _, path := range []string{"/merchants/m2", "/merchants/m2/callers", "/merchants/none", "/limits", "/tokens", "/dead-letters", "/settings"} {
			must(403, "GET", path, "").refused(problem.Forbidden)
		}
		must(404, "GET", "/activities/other", "").refused(problem.UnknownActivity)
		must(404, "GET", "/activities/none", "").refused(problem.UnknownActivity)
		must(404, "POST", "/activities/other/publish", "").refused(problem.UnknownActivity)
		must(403, "DELETE", "/merchants/m2/callers/app", "").refused(problem.Forbidden)
		must(404, "GET", "/keys?key="+others.member("key"), "").refused(problem.UnknownKey)
		must(404, "GET", "/changes/"+othersChange, "").refused(problem.UnknownChange)
		must(404, "POST", "/changes/"+othersChange+"/revert", "").refused(problem.UnknownChange)
		must(403, "PUT", "/activities/stolen", strings.Replace(activityBody, `"m1"`, `"m2"`, 1)).refused(problem.Forbidden)
		for _, path := range []string{
			"/orders?merchant=m2", "/orders?caller=m2/app", "/orders/export?activity=618&merchant=m2", "/refunds?merchant=m2", "/merchants/m2/statement",
		} {
			must(403, "GET", path, "").refused(problem.Forbidden)
		}
		must(403, "POST", "/refunds/p-1/done", `{"reference":"r","merchant":"m2"}`).refused(problem.Forbidden)
		must(404, "GET", "/orders/export?activity=other", "").refused(problem.UnknownActivity)
		must(404, "POST", "/activities/other/extend", `{"by":"1m"}`).refused(problem.UnknownActivity)
		for _, scope := range []string{"", `"scope":{"merchant":"m2"},`, `"scope":{"activity":"other"},`, `"scope":{"sku":"phone-x"},`, `"scope":{"caller":"m2/app"},`} {
			must(403, "PUT", "/switches/orders", `{"value":"off",`+scope+`"reason":"theirs"}`).refused(problem.Forbidden)
		}
		s.must(403, "GET", "/metrics", "", as...).refused(problem.Forbidden)
	})
}

func TestTokens_ExpireAndTellTheirLastUse(t *testing.T) {
	s := open(t, nil)
	as := s.as(`{"name":"brief","role":"viewer","expires_in":"1h"}`)
	var list struct{ Items []map[string]any }
	brief := func() map[string]any {
		s.must(200, "GET", "/admin/v1/tokens", "").read(&list)
		for _, item := range list.Items {
			if item["name"] == "brief" {
				return item
			}
		}
		return nil
	}
	if used := brief()["last_used_at"]; used != nil {
		t.Errorf("used at %v before it was used", used)
	}
	s.must(200, "GET", "/admin/v1/merchants", "", as...)
	made := fmt.Sprint(brief()["created_at"])
	if used := fmt.Sprint(brief()["last_used_at"]); used < made || used != made && !strings.HasSuffix(used, ":00.000Z") {
		t.Errorf("made at %s, used at %s", made, used)
	}
	if kept, err := s.store.Tokens(t.Context()); err != nil || kept[1].Name != "brief" || kept[1].Used.IsZero() {
		t.Errorf("the store has %+v, %v", kept, err)
	}
	s.desk.Catalog().SetClock(2 * time.Hour)
	a := s.must(401, "GET", "/admin/v1/merchants", "", as...)
	a.refused(problem.Unauthenticated)
	if detail := a.member("detail"); !strings.HasPrefix(detail, "The admin token brief expired at ") {
		t.Errorf("detail %q", detail)
	}
}

func TestChanges_NameTheTokenAndTheAddress(t *testing.T) {
	s := open(t, nil)
	a := s.must(201, "POST", "/admin/v1/tokens", `{"name":"ann","role":"admin"}`)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`, "Authorization", "Bearer "+a.member("token"))
	has("actor", "ann", "token_id", a.member("token_id"), "address", "127.0.0.1")(s.must(200, "GET", "/admin/v1/changes/"+s.last(), ""))
	s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"x"}`, "Authorization", "Bearer "+a.member("token"))
	has("kind", "switches", "token_id", a.member("token_id"), "address", "127.0.0.1")(s.must(200, "GET", "/admin/v1/changes/"+s.last(), ""))
}

package admin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/vault"
	"github.com/penstock/penstock/internal/webhook"
	"github.com/penstock/penstock/seckill"
)

func webhookRows() []row {
	const all, one, pager = "/admin/v1/webhooks", "/admin/v1/webhooks/{name}", "/admin/v1/webhooks/pager"
	const body = `{"url":"https://ops.example.com/hook","events":["change","alarm"],"reason":"on call"}`
	made := func(is bool) func(*answer) {
		return func(a *answer) {
			a.t.Helper()
			if got := len(a.member("secret")) == 64; got != is {
				a.t.Errorf("secret made: %v, want %v: %s", got, is, a.body)
			}
		}
	}
	version := func(want string) func(*answer) {
		return func(a *answer) {
			has("version", want, "missing", "")(a)
			if strings.Contains(a.body, "secret") {
				a.t.Errorf("shows a secret: %s", a.body)
			}
		}
	}
	var rows []row
	for i := range webhook.MaxHooks - 1 {
		rows = append(rows, row{name: fmt.Sprint("another ", i), pattern: one, path: fmt.Sprint("/admin/v1/webhooks/w", i), method: "PUT",
			body: body, status: 200})
	}
	return append([]row{
		{name: "none", pattern: all, method: "GET", status: 200, want: version("0")},
		{name: "new", pattern: one, path: pager, method: "PUT", body: body, status: 200, want: func(a *answer) {
			made(true)(a)
			has("name", "pager", "url", "https://ops.example.com/hook", "events", "[alarm change]", "waiting", "0", "last_ok", "<nil>")(a)
		}},
		{name: "again", pattern: one, path: pager, method: "PUT", body: body, status: 200, want: made(false)},
		{name: "the same is no change", pattern: all, method: "GET", status: 200, want: version("1")},
		{name: "with a secret", pattern: one, path: pager, method: "PUT", status: 200, want: made(false),
			body: `{"url":"http://127.0.0.1:9/","events":["alarm"],"secret":"own-0123456789abcdef"}`},
		{name: "one", pattern: all, method: "GET", status: 200, want: version("2")},
		{name: "everything wrong", pattern: one, path: "/admin/v1/webhooks/a%2Fb", method: "PUT", status: 400, code: problem.InvalidRequest,
			body: `{"url":"http://10.0.0.1/","events":["alarm","live","alarm"],"secret":"short","x":1}`,
			want: wrong("url: must not be the private address 10.0.0.1; webhook-networks names private networks of receivers",
				"events[1]: must be one of alarm, breaker, change, level, node, rebuild", "events[2]: is listed twice", "x: is unknown",
				"name: must consist of letters, digits and ._~-",
				"secret: must be 16 to 256 random visible ASCII characters; without it, a webhook gets a new one")},
		{name: "nothing", pattern: one, path: pager, method: "PUT", body: `{}`, status: 400, code: problem.InvalidRequest,
			want: wrong("url: is required", "events: is required")},
		{name: "of no event", pattern: one, path: pager, method: "PUT", body: `{"url":"https://x.example/","events":[]}`, status: 400,
			code: problem.InvalidRequest, want: wrong("events: must have at least one event")},
		{name: "unknown", pattern: one, path: "/admin/v1/webhooks/who", method: "DELETE", status: 404, code: problem.UnknownWebhook},
	}, append(rows,
		row{name: "one too many", pattern: one, path: "/admin/v1/webhooks/last", method: "PUT", body: body, status: 409, code: problem.NotEditable},
		row{name: "deleted", pattern: one, path: pager, method: "DELETE", status: 204})...)
}

// stored returns the webhooks as the database has them.
func (s *shop) stored() webhook.Document {
	s.t.Helper()
	stored, _, err := s.store.FindSettings(s.t.Context(), settings.Webhooks)
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := webhook.ParseDocument(stored.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func TestWebhooks_AreSealedRecordedAndReverted(t *testing.T) {
	old, fresh := vault.NewKey(), vault.NewKey()
	s := open(t, func(_ *Config, d *Deps) { d.Secrets = vaultOf(t, old) })
	const pager, one, two = "/admin/v1/webhooks/pager", "whsec-one-0123456789", "whsec-two-0123456789"
	put := func(url, secret string) int64 {
		s.must(200, "PUT", pager, fmt.Sprintf(`{"url":%q,"events":["alarm"],"secret":%q,"reason":"test"}`, url, secret))
		return s.lastChange()
	}
	is := func(keys, url, secret string) {
		t.Helper()
		d := s.stored()
		h := d.Find("pager")
		if h == nil || h.URL != url || !vault.IsSealed(h.Secret) {
			t.Fatalf("stored is %+v, want %s sealed", h, url)
		}
		if got, err := vaultOf(t, keys).Open(h.Secret, webhook.Owner("pager")); err != nil || got != secret {
			t.Fatalf("the secret is %q, %v, want %q", got, err, secret)
		}
	}
	made := put("https://a.example/token", one)
	moved := put("https://b.example/token", one)
	if again := put("https://b.example/token", one); again != moved {
		t.Error("the same again is a change")
	}
	is(old, "https://b.example/token", one)
	recorded, err := s.store.FindChange(t.Context(), moved)
	if err != nil || vault.IsSealed(recorded.Before) || strings.Contains(recorded.Before+recorded.After, "sealed") {
		t.Errorf("%v, recorded are %s and %s", err, recorded.Before, recorded.After)
	}

	shown := s.must(200, "GET", fmt.Sprint("/admin/v1/changes/", moved), "")
	if strings.Contains(shown.body, "sealed") || !strings.Contains(shown.body, "b.example/token") {
		t.Errorf("the change is shown as %s", shown.body)
	}
	seen := s.must(200, "GET", fmt.Sprint("/admin/v1/changes/", moved), "", "Authorization", "Bearer "+s.tokens[seckill.RoleViewer])
	if strings.Contains(seen.body, "token\"") || !strings.Contains(seen.body, "https://b.example/…") {
		t.Errorf("a viewer is shown %s", seen.body)
	}

	s.revert(moved).reverted(true)
	is(old, "https://a.example/token", one)
	s.revert(moved).reverted(false)

	s.server.deps.Secrets = vaultOf(t, fresh, old)
	has("rewrapped", "1")(s.must(200, "POST", "/admin/v1/secrets/rewrap", `{"reason":"the yearly change"}`))
	is(fresh, "https://a.example/token", one)
	s.revert(moved).reverted(false)
	s.revert(s.lastChange()).refused(problem.NotRevertible) // the record says that the secret has changed

	rolled := put("https://a.example/token", two)
	s.revert(rolled).refused(problem.NotRevertible)
	is(fresh, "https://a.example/token", two)
	away := put("https://c.example/", two)
	s.revert(moved).refused(problem.NotRevertible) // overtaken
	s.revert(away).reverted(true)
	is(fresh, "https://a.example/token", two) // which it had when that was reverted
	s.must(204, "DELETE", pager, "", "X-Reason", "moved away")
	s.revert(s.lastChange()).refused(problem.NotRevertible)

	put("https://a.example/token", one)
	s.revert(made).reverted(true)
	if d := s.stored(); d.Find("pager") != nil {
		t.Error("the revert of its making left it")
	}
}

// Without a key, secrets are unencrypted in the document, and never in the record of changes.
func TestWebhooks_RecordNoSecret(t *testing.T) {
	s := open(t, nil)
	const pager, one, two = "/admin/v1/webhooks/pager", "whsec-one-0123456789", "whsec-two-0123456789"
	for _, secret := range []string{one, two} {
		s.must(200, "PUT", pager, fmt.Sprintf(`{"url":"https://a.example/","events":["alarm"],"secret":%q}`, secret))
		recorded, err := s.store.FindChange(t.Context(), s.lastChange())
		if err != nil || strings.Contains(recorded.Before+recorded.After, "whsec") {
			t.Errorf("%v, recorded are %s and %s", err, recorded.Before, recorded.After)
		}
	}
	if d := s.stored(); d.Find("pager").Secret != two {
		t.Errorf("stored is %+v", d)
	}
}

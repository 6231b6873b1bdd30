package login

import (
	"strings"
	"testing"
	"time"
)

func TestConfig_Validate(t *testing.T) {
	good := Config{Issuer: "https://login.example.com/x", ClientID: "penstock", RedirectURL: "https://ops.example.com/login/callback", GroupsClaim: "groups"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"oidc-issuer":       func(c *Config) { c.Issuer = "http://login.example.com" },
		"oidc-redirect-url": func(c *Config) { c.RedirectURL = "ops.example.com" },
		"oidc-client-id":    func(c *Config) { c.ClientID = "" },
		"oidc-groups-claim": func(c *Config) { c.GroupsClaim = "" },
	} {
		bad := good
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFinish_NeedsItsAttempt(t *testing.T) {
	p, err := New(Config{Issuer: "http://127.0.0.1:1", ClientID: "c", RedirectURL: "http://127.0.0.1/cb", GroupsClaim: "groups"})
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"", "other"} {
		if _, err := p.Finish(t.Context(), Attempt{}, state, "code", time.Now()); err == nil || !strings.HasPrefix(err.Error(), "This login was not begun") {
			t.Errorf("state %q: %v", state, err)
		}
	}
	if _, _, err := p.Begin(t.Context()); err == nil {
		t.Error("a provider that is away lets people in")
	}
}

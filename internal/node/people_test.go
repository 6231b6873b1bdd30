package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/seckill"
)

func TestConfig_Login(t *testing.T) {
	good := defaultLoginConfig()
	good.Issuer, good.ClientID, good.RedirectURL = "https://login.example.com", "penstock", "https://ops.example.com/login/callback"
	good.Roles = []string{"night=operator", "shop=viewer@m1"}
	for _, c := range []struct {
		name   string
		change func(*LoginConfig)
		wrong  string
	}{
		{"good", func(*LoginConfig) {}, ""},
		{"none", func(c *LoginConfig) { *c = defaultLoginConfig() }, ""},
		{"half of it", func(c *LoginConfig) { c.Issuer = "" }, "oidc-issuer: is required"},
		{"in clear", func(c *LoginConfig) { c.Issuer = "http://login.example.com" }, "oidc-issuer: \"http://login"},
		{"without roles", func(c *LoginConfig) { c.Roles = nil }, "oidc-roles: is required"},
		{"with a wrong role", func(c *LoginConfig) { c.Roles = []string{"x=root"} }, "oidc-roles: \"x=root\": the role must be"},
		{"with a short session", func(c *LoginConfig) { c.Session = time.Second }, "oidc-session: must be from 1m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := testConfig(t)
			config.Login = good
			c.change(&config.Login)
			err := config.Validate()
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v, want %q", err, c.wrong)
			}
		})
	}
	got, err := good.admin()
	want := []admin.GroupRole{{Group: "night", Role: seckill.RoleOperator}, {Group: "shop", Role: seckill.RoleViewer, Merchant: "m1"}}
	if err != nil || got.Provider == nil || !got.Secure || len(got.GroupRoles) != 2 || got.GroupRoles[0] != want[0] || got.GroupRoles[1] != want[1] {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAdminHosts_AreNames(t *testing.T) {
	c := DefaultConfig()
	c.AdminListen, c.Login.RedirectURL, c.AdminHosts = "Ops:8081", "https://sso.example.com/login/callback", []string{"console.example.com"}
	hosts, err := c.adminHosts()
	if want := []string{"ops", "sso.example.com", "console.example.com"}; err != nil || !slices.Equal(hosts, want) {
		t.Errorf("%v, %v", hosts, err)
	}
	for _, wrong := range []string{"", "https://ops.example.com", "ops.example.com:443", "*", "a b"} {
		c.AdminHosts = []string{wrong}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "admin-hosts: ") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

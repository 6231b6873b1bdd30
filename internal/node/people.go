package node

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/gateway/admin/login"
)

// LoginConfig lets people log in to the admin listener by OpenID Connect. Without an issuer, that
// is off.
type LoginConfig struct {
	Issuer       string
	ClientID     string
	ClientSecret string
	RedirectURL  string
	GroupsClaim  string
	Scopes       []string
	Roles        []string // group=role or group=role@merchant
	Session      time.Duration
}

func defaultLoginConfig() LoginConfig {
	return LoginConfig{GroupsClaim: "groups", Scopes: []string{"profile", "email"}, Session: 8 * time.Hour}
}

// Bounds of a session.
const (
	minSession = time.Minute
	maxSession = 7 * 24 * time.Hour
)

// provider returns the settings of the identity provider.
func (c *LoginConfig) provider() login.Config {
	return login.Config{
		Issuer: c.Issuer, ClientID: c.ClientID, ClientSecret: c.ClientSecret, RedirectURL: c.RedirectURL,
		GroupsClaim: c.GroupsClaim, Scopes: c.Scopes,
	}
}

// mistakes returns the mistakes in the values, each with its key.
func (c *LoginConfig) mistakes() []error {
	var errs []error
	if c.Session < minSession || c.Session > maxSession {
		errs = append(errs, fmt.Errorf("oidc-session: must be from %v to %v", minSession, maxSession))
	}
	if c.Issuer == "" {
		if c.ClientID != "" || c.RedirectURL != "" || len(c.Roles) > 0 {
			errs = append(errs, errors.New("oidc-issuer: is required with the other settings of oidc"))
		}
		return errs
	}
	provider := c.provider()
	errs = append(errs, Apart(provider.Validate())...)
	if len(c.Roles) == 0 {
		errs = append(errs, errors.New("oidc-roles: is required with oidc-issuer: without it nobody would have a role"))
	}
	for _, text := range c.Roles {
		if _, err := admin.ParseGroupRole(text); err != nil {
			errs = append(errs, fmt.Errorf("oidc-roles: %w", err))
		}
	}
	return errs
}

// adminHosts are the names by which browsers reach the admin listener: its own address, the host to
// which the identity provider sends people back, and --admin-hosts.
func (c *Config) adminHosts() ([]string, error) {
	var hosts []string
	if host, _, err := net.SplitHostPort(c.AdminListen); err == nil && host != "" {
		hosts = append(hosts, strings.ToLower(host))
	}
	if u, err := url.Parse(c.Login.RedirectURL); err == nil && u.Hostname() != "" {
		hosts = append(hosts, strings.ToLower(u.Hostname()))
	}
	for _, host := range c.AdminHosts {
		if err := checkListen("admin-hosts", host+":0"); err != nil || host == "" {
			return nil, fmt.Errorf("admin-hosts: %q is not the name of a host, like ops.example.com, without scheme and port", host)
		}
		hosts = append(hosts, strings.ToLower(host))
	}
	return hosts, nil
}

// admin returns the parts of the admin listener. The settings must be valid.
func (c *LoginConfig) admin() (admin.LoginConfig, error) {
	out := admin.LoginConfig{Life: c.Session, Secure: strings.HasPrefix(c.RedirectURL, "https:")}
	if c.Issuer == "" {
		return out, nil
	}
	for _, text := range c.Roles {
		grant, err := admin.ParseGroupRole(text)
		if err != nil {
			return out, fmt.Errorf("oidc-roles: %w", err)
		}
		out.GroupRoles = append(out.GroupRoles, grant)
	}
	var err error
	out.Provider, err = login.New(c.provider())
	return out, err
}

package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Names of servers are logged, so they have no password, wherever the URL has it.
func TestDatabaseName_ShowsNoPassword(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://u:hush@db:5432/penstock?sslmode=require":       "postgres://db:5432/penstock",
		"postgres://db/penstock?user=u&password=hush":              "postgres://db/penstock",
		"postgres://u:hu@sh@db/penstock":                           "postgres://db/penstock",
		"postgresql://u:hush%40@[::1]:5432/a%20b#hush":             "postgresql://[::1]:5432/a%20b",
		"postgres://u:hush@one:5432,two:5433/x?target=read#":       "postgres://one:5432,two:5433/x",
		"postgres://u:hu#sh@db/penstock":                           "(unreadable URL)",
		"postgres://u:hush@one,two/x?target_session_attrs=primary": "postgres://one,two/x",
	} {
		if got := databaseName(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestConfig_TrustedProxies(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		c := Config{TrustedProxies: strings.Fields(in)}
		got, err := c.trustedProxies()
		if (err != nil) != (want == "error") || err == nil && fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", in, got, err, want)
		}
	}
	f("", "[]")
	f("10.1.2.3/8 192.0.2.7 2001:db8::1", "[10.0.0.0/8 192.0.2.7/32 2001:db8::1/128]")
	for _, bad := range []string{"proxy", "10.0.0.0/33", "::ffff:10.0.0.1/104", "fe80::1%eth0", "10.0.0.1:80"} {
		f(bad, "error")
	}
}

// Every error begins with the key of a setting.
func TestConfig_Validate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	real := func(c *Config) {
		c.Redis, c.Kafka, c.Database = []string{"r:1"}, []string{"k:1"}, "postgres://d/p"
	}
	replicated := DefaultConfig()
	real(&replicated)
	replicated.MinReplicas, replicated.Sale.ReplicaLag = 1, 2*time.Second
	if err := replicated.Validate(); err != nil {
		t.Errorf("a Redis with a replica: %v", err)
	}
	for _, c := range []struct {
		key    string
		change func(*Config)
	}{
		{"shards", func(c *Config) { c.Shards = -1 }},
		{"shards", func(c *Config) { c.Shards = inventory.MaxShards + 1 }},
		{"drain-delay", func(c *Config) { c.Gateway.DrainDelay = c.ShutdownTimeout }},
		{"redis-replica-lag", func(c *Config) { real(c); c.MinReplicas = 1 }},
		{"redis-replica-lag", func(c *Config) { c.Sale.ReplicaLag = -1 }},
		{"sweep-age", func(c *Config) { c.Sale.ReplicaLag = time.Minute }},
		{"listen", func(c *Config) { c.Listen = "8080" }},
		{"kafka", func(c *Config) { real(c); c.Kafka = nil }},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.key+":") {
			t.Errorf("%s: %v", c.key, err)
		}
	}
}

func TestConfig_Shards(t *testing.T) {
	embedded, real := DefaultConfig(), DefaultConfig()
	real.Redis, real.Kafka, real.Database = []string{"r:1"}, []string{"k:1"}, "postgres://d/p"
	chosen := real
	chosen.Shards = 64
	for want, c := range map[int]Config{4: embedded, 16: real, 64: chosen} {
		if got := c.Derive().Sale.Shards; got != want {
			t.Errorf("%d shards, want %d", got, want)
		}
	}
}

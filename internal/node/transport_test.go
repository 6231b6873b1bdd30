package node

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTransportConfig reads files that match, don't match, and have expired.
func TestTransportConfig(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := ca.issue(t, "client", time.Now().Add(time.Hour))
	other, otherKey := ca.issue(t, "other", time.Now().Add(time.Hour))
	old, oldKey := ca.issue(t, "old", time.Now().Add(-time.Minute))

	none, err := Transport{}.config("redis")
	if none != nil || err != nil {
		t.Errorf("without TLS: %v, %v", none, err)
	}
	config, err := Transport{TLS: true, CA: ca.file, Cert: cert, Key: key}.config("redis")
	if err != nil {
		t.Fatal(err)
	}
	if config.RootCAs == nil || config.InsecureSkipVerify || config.MinVersion != tls.VersionTLS12 {
		t.Errorf("TLS configuration: %+v", config)
	}
	// A renewed certificate is used without a restart.
	first, err := config.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, cert); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(otherKey, key); err != nil {
		t.Fatal(err)
	}
	second, err := config.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.Leaf.Equal(second.Leaf) {
		t.Error("the certificate was not read anew")
	}

	f := func(tr Transport, want string) {
		t.Helper()
		if _, err := tr.config("kafka"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s…", tr, err, want)
		}
	}
	f(Transport{CA: ca.file}, "kafka-ca: has no effect without kafka-tls")
	f(Transport{TLS: true, CA: filepath.Join(dir, "none")}, "kafka-ca: open ")
	f(Transport{TLS: true, CA: key}, "kafka-ca: "+key+": has no PEM certificate")
	f(Transport{TLS: true, Cert: cert}, "kafka-cert: needs kafka-key")
	f(Transport{TLS: true, Key: key}, "kafka-key: needs kafka-cert")
	f(Transport{TLS: true, Cert: cert, Key: oldKey}, "kafka-cert: tls: private key does not match public key")
	f(Transport{TLS: true, Cert: old, Key: oldKey}, "kafka-cert: "+old+": expired at ")
}

// TestExposed: connections without encryption are named, except those on this machine.
func TestExposed(t *testing.T) {
	f := func(c Config, want ...string) {
		t.Helper()
		got := c.Exposed()
		if len(got) != len(want) || !slices.EqualFunc(got, want, strings.Contains) {
			t.Errorf("exposed %q, want %q", got, want)
		}
	}
	secured := Transport{TLS: true}
	f(Config{})
	f(Config{Redis: []string{"127.0.0.1:6379", "localhost:6380"}, Kafka: []string{"[::1]:9092"}, Database: "postgres://u@127.0.0.1:5432/x"})
	f(Config{Redis: []string{"localhost:6379", "r2:6379"}, Kafka: []string{"k:9092"}, Database: "postgres://d/x"},
		"the connection to redis is not encrypted", "the connection to kafka is not encrypted", "connection to the database may be unencrypted")
	f(Config{
		Redis: []string{"r:6379"}, RedisTransport: secured, Kafka: []string{"k:9092"}, KafkaSASL: "plain",
		Database: "postgres://d/x?sslmode=require",
	}, "sasl plain shows its password", "certificate is not checked")
	f(Config{
		Redis: []string{"r:6379"}, RedisTransport: secured, Kafka: []string{"k:9092"}, KafkaTransport: secured, KafkaSASL: "plain",
		Database: "postgres://d/x?sslmode=verify-full",
	})
}

// A listener that other machines can reach is named. One that only this machine can reach is not.
func TestExposedListeners(t *testing.T) {
	for _, c := range []struct {
		listen, admin string
		role          Role
		want          []string
	}{
		{"127.0.0.1:8080", "localhost:8081", RoleGateway, nil},
		{"[::1]:8080", "127.0.0.1:0", RoleGateway, nil},
		{":8080", "10.0.0.1:8081", RoleGateway, []string{"listen :8080 ", "admin-listen 10.0.0.1:8081 "}},
		{"0.0.0.0:8080", "[::]:8081", RoleWorker, []string{"admin-listen [::]:8081 "}},
	} {
		config := Config{AdminListen: c.admin}
		config.Listen = c.listen
		if got := config.ExposedListeners(c.role); !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s and %s: %q, want %q", c.listen, c.admin, got, c.want)
		}
	}
}

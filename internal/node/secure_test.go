package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

const testSecret = "s3cret"

// secured has the certificates and passwords of servers and clients.
type secured struct {
	right, wrong            *authority
	serverCert, serverKey   string
	clientCert, clientKey   string
	strangeCert, strangeKey string // of a client with a certificate of the wrong authority
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // a server may run as another user
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	s := &secured{right: newAuthority(t, dir, "right"), wrong: newAuthority(t, dir, "wrong")}
	soon := time.Now().Add(time.Hour)
	s.serverCert, s.serverKey = s.right.issue(t, "server", soon)
	s.clientCert, s.clientKey = s.right.issue(t, "client", soon)
	s.strangeCert, s.strangeKey = s.wrong.issue(t, "stranger", soon)
	return s
}

// attempt is a try to connect to a server. refused is a part of the expected error, "" for success.
type attempt struct {
	name    string
	change  func(c *Config)
	refused []string
}

// check makes attempts, each with a changed copy of the right configuration.
func check(t *testing.T, good Config, open func(ctx context.Context, c *Config) error, attempts []attempt) {
	t.Helper()
	for _, a := range append([]attempt{{"AsItShouldBe", func(*Config) {}, nil}}, attempts...) {
		t.Run(a.name, func(t *testing.T) {
			c := good
			a.change(&c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := open(ctx, &c)
			switch {
			case a.refused == nil && err != nil:
				t.Fatal(err)
			case a.refused != nil && err == nil:
				t.Fatal("let in")
			case a.refused == nil:
				return
			}
			for _, part := range a.refused {
				if strings.Contains(err.Error(), part) {
					return
				}
			}
			t.Errorf("%v, want one of %q", err, a.refused)
		})
	}
}

// Go returns the first error. When the server hangs up, timing decides which one that is.
var (
	unknownAuthority = []string{"certificate signed by unknown authority"}
	clientRefused    = []string{"remote error: tls: ", "connection reset", "EOF", "broken pipe"}
)

// documentedUser is the Redis user of docs/production.md, with the test's password.
func documentedUser(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/production.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user (penstock on .*)$`).FindSubmatch(page)
	if line == nil {
		t.Fatal("docs/production.md has no Redis user")
	}
	return strings.Fields(strings.Replace(string(line[1]), "CHANGE-ME", testSecret, 1))
}

// useStock makes every call of a stock once, to prove that the user may run each script and each
// command.
func useStock(ctx context.Context, stock *inventory.Stock) error {
	ref := inventory.Ref{Shard: 1, Epoch: 1}
	name := func(n string) string { return n + strings.Repeat("-", 26) }
	hold := inventory.Hold{Item: 1, ID: name("h1"), Buyer: "u1", Quantity: 1}
	loaded := inventory.Hold{Item: 1, ID: name("h2"), Buyer: "u2", Quantity: 1}
	items := []inventory.Stocked{{Item: 1, Total: 6, Available: 5}}
	steps := []func() error{
		func() error { return stock.Close(ctx, ref) },
		func() error {
			return stock.Load(ctx, ref, items, []inventory.Entry{{Hold: loaded, State: inventory.Ordered}})
		},
		func() error { return stock.Open(ctx, ref, 1, 1) },
		func() error {
			call := &inventory.HoldCall{Ref: ref, Claims: []inventory.Claim{{Hold: hold, Limit: 1}}}
			stock.Hold(ctx, []*inventory.HoldCall{call})
			return call.Err
		},
		func() error { _, err := stock.Find(ctx, ref, 1, hold.ID); return err },
		func() error { return stock.Confirm(ctx, ref, []inventory.Hold{loaded}) },
		func() error {
			_, err := stock.Restock(ctx, ref, []inventory.Restock{{Item: 1, ID: "r1", Units: 3}})
			return err
		},
		func() error { _, err := stock.Note(ctx, ref); return err },
		func() error { _, _, _, err := stock.Old(ctx, ref, 1<<40, 0, 10); return err },
		func() error { _, err := stock.Doom(ctx, ref, 1<<40, []inventory.Hold{hold}); return err },
		func() error {
			return stock.Settle(ctx, ref, []inventory.Settlement{{Hold: hold, Kind: inventory.SettleVoid}, {Hold: loaded, Kind: inventory.SettleSold}})
		},
		func() error {
			_, levels, err := stock.ItemNumbers(ctx, ref.Shard, []inventory.ItemID{1})
			if err == nil && (len(levels) != 1 || levels[0].Available != 8 || levels[0].Sold != 1) {
				err = fmt.Errorf("levels %+v", levels)
			}
			return err
		},
		func() error { return stock.Forget(ctx, ref, []inventory.ItemID{1}, []string{inventory.Head(hold.ID)}) },
		func() error { return stock.Close(ctx, inventory.Ref{Shard: 1, Epoch: 2}) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// TestSecured_Redis connects to a Redis that requires certificates and a password.
func TestSecured_Redis(t *testing.T) {
	s := newSecured(t)
	port := servers.FreePort(t)
	servers.Redis(t, slices.Concat([]string{
		"--tls-port", port, "--tls-cert-file", s.serverCert, "--tls-key-file", s.serverKey, "--tls-ca-cert-file", s.right.file,
		"--tls-auth-clients", "yes", "--user",
	}, documentedUser(t))...)
	good := Config{
		Redis: []string{"127.0.0.1:" + port}, RedisUser: "penstock", RedisSecret: testSecret,
		RedisTransport: Transport{TLS: true, CA: s.right.file, Cert: s.clientCert, Key: s.clientKey},
	}
	check(t, good, func(ctx context.Context, c *Config) error {
		secure, err := c.redisTLS()
		if err != nil {
			return err
		}
		stock, err := inventory.Open(ctx, inventory.Config{Addrs: c.Redis, Username: c.RedisUser, Password: c.RedisSecret, TLS: secure})
		if err != nil {
			return err
		}
		defer stock.Stop()
		if err := stock.Ready(ctx); err != nil { // a server that can't be reached is not an error of Open
			return err
		}
		return useStock(ctx, stock)
	}, []attempt{
		{"WrongAuthority", func(c *Config) { c.RedisTransport.CA = s.wrong.file }, unknownAuthority},
		{"SystemAuthorities", func(c *Config) { c.RedisTransport.CA = "" }, unknownAuthority},
		{"NoCertificate", func(c *Config) { c.RedisTransport.Cert, c.RedisTransport.Key = "", "" }, clientRefused},
		{"StrangersCertificate", func(c *Config) { c.RedisTransport.Cert, c.RedisTransport.Key = s.strangeCert, s.strangeKey }, clientRefused},
		{"WrongPassword", func(c *Config) { c.RedisSecret = "guess" }, []string{"WRONGPASS"}},
		{"InClear", func(c *Config) { c.RedisTransport = Transport{} }, clientRefused},
	})
}

// TestSecured_Kafka connects to a broker that requires certificates, and a password by each
// mechanism.
func TestSecured_Kafka(t *testing.T) {
	s := newSecured(t)
	store := filepath.Join(s.right.dir, "server.pem")
	var pem []byte
	for _, file := range []string{s.serverKey, s.serverCert} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pem = append(pem, text...)
	}
	if err := os.WriteFile(store, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + servers.FreePort(t)
	const login = "listener.name.sasl_ssl."
	broker := servers.NewKafka(t, "SASL_SSL://"+addr, "ssl.keystore.type=PEM", "ssl.keystore.location="+store, "ssl.truststore.type=PEM",
		"ssl.truststore.location="+s.right.file, login+"ssl.client.auth=required", "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		login+"plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_penstock=\""+testSecret+"\";",
		login+"scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		login+"scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;")
	broker.ScramUser(t, "penstock", testSecret)
	good := Config{
		Kafka: []string{addr}, KafkaSASL: "scram-sha-512", KafkaUser: "penstock", KafkaSecret: testSecret,
		KafkaTransport: Transport{TLS: true, CA: s.right.file, Cert: s.clientCert, Key: s.clientKey},
	}
	noSASL := func(c *Config) { c.KafkaSASL, c.KafkaUser, c.KafkaSecret = "", "", "" }
	check(t, good, func(ctx context.Context, c *Config) error {
		n := &Node{cfg: *c, root: slog.New(slog.DiscardHandler)}
		config, err := n.queueConfig()
		if err != nil {
			return err
		}
		// The client tries again as long as its caller waits, because a broker that hangs up may be
		// starting.
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		config.Worker = true
		queue, err := kafka.Open(ctx, config, new(newBooks))
		if err != nil {
			return err
		}
		defer queue.Close(ctx)
		if problems := queue.Problems(); len(problems) > 0 { // it was not reached, and is waited for
			return errors.New(strings.Join(problems, "; "))
		}
		return nil
	}, []attempt{
		{"ScramSHA256", func(c *Config) { c.KafkaSASL = "scram-sha-256" }, nil},
		{"Plain", func(c *Config) { c.KafkaSASL = "plain" }, nil},
		{"WrongAuthority", func(c *Config) { c.KafkaTransport.CA = s.wrong.file }, unknownAuthority},
		{"NoCertificate", func(c *Config) { c.KafkaTransport.Cert, c.KafkaTransport.Key = "", "" }, clientRefused},
		{"StrangersCertificate", func(c *Config) { c.KafkaTransport.Cert, c.KafkaTransport.Key = s.strangeCert, s.strangeKey }, clientRefused},
		{"WrongPassword", func(c *Config) { c.KafkaSecret = "guess" }, []string{"SASL_AUTHENTICATION_FAILED"}},
		{"WrongPasswordPlain", func(c *Config) { c.KafkaSASL, c.KafkaSecret = "plain", "guess" }, []string{"SASL_AUTHENTICATION_FAILED"}},
		{"NoPassword", noSASL, []string{"is SASL missing?"}},
	})
}

// newBooks are books that know the partitions which a worker has registered.
type newBooks struct{ at []seckill.Position }

func (b *newBooks) Positions(context.Context) ([]seckill.Position, error) { return b.at, nil }

func (b *newBooks) AddPartitions(_ context.Context, topic seckill.TopicID, n int32) error {
	b.at = nil
	for p := range n {
		b.at = append(b.at, seckill.Position{Topic: topic, Partition: p, LeaderEpoch: -1})
	}
	return nil
}

// TestSecured_Postgres connects to a PostgreSQL that accepts its user over TLS only, with a
// certificate and a password.
func TestSecured_Postgres(t *testing.T) {
	s := newSecured(t)
	s.mayBeReadBy(t, "postgres", s.serverCert, s.serverKey, s.right.file)
	hba := filepath.Join(s.right.dir, "hba.conf")
	rules := "host all penstock 127.0.0.1/32 trust\nhostssl all shop 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
	if err := os.WriteFile(hba, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	server := servers.NewPostgres(t, "-c", "ssl=on", "-c", "ssl_cert_file="+s.serverCert, "-c", "ssl_key_file="+s.serverKey,
		"-c", "ssl_ca_file="+s.right.file, "-c", "hba_file="+hba)
	server.Execute(t, "CREATE ROLE shop LOGIN PASSWORD '"+testSecret+"'")
	server.Execute(t, "CREATE DATABASE shop OWNER shop")
	url := func(password, mode, ca, cert, key string) string {
		text := "postgres://shop:" + password + "@" + server.Addr + "/shop?sslmode=" + mode
		if ca != "" {
			text += "&sslrootcert=" + ca
		}
		if cert != "" {
			text += "&sslcert=" + cert + "&sslkey=" + key
		}
		return text
	}
	good := Config{Database: url(testSecret, "verify-full", s.right.file, s.clientCert, s.clientKey)}
	reaches := func(text string) func(*Config) { return func(c *Config) { c.Database = text } }
	check(t, good, func(ctx context.Context, c *Config) error {
		if errs := c.validateDatabase(); len(errs) > 0 {
			return errs[0]
		}
		store, err := postgres.Open(ctx, postgres.Config{URL: c.Database})
		if err != nil {
			return err
		}
		return store.Close()
	}, []attempt{
		{"WrongAuthority", reaches(url(testSecret, "verify-full", s.wrong.file, s.clientCert, s.clientKey)), unknownAuthority},
		{"SystemAuthorities", reaches(url(testSecret, "verify-full", "", s.clientCert, s.clientKey)), unknownAuthority},
		{"NoCertificate", reaches(url(testSecret, "verify-full", s.right.file, "", "")), []string{"requires a valid client certificate"}},
		{"StrangersCertificate", reaches(url(testSecret, "verify-full", s.right.file, s.strangeCert, s.strangeKey)), // it isn't even shown
			[]string{"requires a valid client certificate"}},
		{"WrongPassword", reaches(url("guess", "verify-full", s.right.file, s.clientCert, s.clientKey)), []string{"password authentication failed"}},
		{"InClear", reaches(url(testSecret, "disable", "", "", "")), []string{"no encryption"}},
	})
}

// mayBeReadBy gives files to the user of a server, where the tests run as root.
func (s *secured) mayBeReadBy(t *testing.T, name string, files ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Skipf("no user for the server to run as: %v", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := os.Chown(file, uid, -1); err != nil {
			t.Fatal(err)
		}
	}
}

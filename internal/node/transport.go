package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/internal/kafka"
)

// Transport configures TLS for the connections to a server. Its files are PEM.
type Transport struct {
	TLS  bool
	CA   string // the authority of the server's certificate; "" means those that the system trusts
	Cert string // our certificate, whose key is Key; "" means that the server gets none
	Key  string
}

// redisTLS returns the TLS configuration for the Redis and its Sentinels; nil if TLS is off.
func (c *Config) redisTLS() (*tls.Config, error) { return c.RedisTransport.config("redis") }

// kafkaTLS returns the TLS configuration for the Kafka brokers; nil if TLS is off.
func (c *Config) kafkaTLS() (*tls.Config, error) { return c.KafkaTransport.config("kafka") }

// kafkaSASL returns the login for the Kafka brokers.
func (c *Config) kafkaSASL() kafka.SASL {
	return kafka.SASL{Mechanism: kafka.Mechanism(c.KafkaSASL), Username: c.KafkaUser, Password: c.KafkaSecret}
}

// config reads the files. Each error begins with the setting's key, which begins with prefix.
func (t Transport) config(prefix string) (*tls.Config, error) {
	var errs []error
	if !t.TLS {
		for _, given := range []struct{ key, file string }{{"-ca", t.CA}, {"-cert", t.Cert}, {"-key", t.Key}} {
			if given.file != "" {
				errs = append(errs, fmt.Errorf("%s%s: has no effect without %s-tls", prefix, given.key, prefix))
			}
		}
		return nil, errors.Join(errs...)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pool, err := readCA(t.CA)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s-ca: %w", prefix, err))
		}
		config.RootCAs = pool
	}
	switch {
	case t.Cert != "" && t.Key != "":
		if _, err := readPair(t.Cert, t.Key); err != nil {
			errs = append(errs, fmt.Errorf("%s-cert: %w", prefix, err))
		}
		// The files are read again for each connection, so that a renewed certificate needs no
		// restart.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return readPair(t.Cert, t.Key) }
	case t.Cert != "":
		errs = append(errs, fmt.Errorf("%s-cert: needs %s-key", prefix, prefix))
	case t.Key != "":
		errs = append(errs, fmt.Errorf("%s-key: needs %s-cert", prefix, prefix))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return config, nil
}

// readCA reads a file of certificates that sign others.
func readCA(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: has no PEM certificate", file)
	}
	return pool, nil
}

// readPair reads a certificate and its key, and refuses a certificate that no server would accept.
func readPair(cert, key string) (*tls.Certificate, error) {
	pair, err := loadPair(cert, key)
	if err != nil {
		return nil, err
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		return nil, fmt.Errorf("%s: expired at %s", cert, end.UTC().Format(time.RFC3339))
	}
	return pair, nil
}

// loadPair reads a certificate and its key, expired or not.
func loadPair(cert, key string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// validateTransports checks how connections are secured, by reading every file that is named.
func (c *Config) validateTransports() []error {
	_, redis := c.redisTLS()
	_, brokers := c.kafkaTLS()
	errs := []error{redis, brokers, c.validateListeners()}
	if c.RedisMaster == "" && (c.SentinelUser != "" || c.SentinelSecret != "") {
		errs = append(errs, errors.New("redis-sentinel-username: has no effect without redis-master"))
	}
	switch mechanism := kafka.Mechanism(c.KafkaSASL); mechanism {
	case kafka.MechanismNone:
		if c.KafkaUser != "" {
			errs = append(errs, errors.New("kafka-username: has no effect without kafka-sasl"))
		}
		if c.KafkaSecret != "" {
			errs = append(errs, errors.New("kafka-password: has no effect without kafka-sasl"))
		}
	case kafka.MechanismPlain, kafka.MechanismScramSHA256, kafka.MechanismScramSHA512:
		if c.KafkaUser == "" {
			errs = append(errs, fmt.Errorf("kafka-username: is required by kafka-sasl %s", mechanism))
		}
		if c.KafkaSecret == "" {
			errs = append(errs, fmt.Errorf("kafka-password: is required by kafka-sasl %s", mechanism))
		}
	default:
		errs = append(errs, fmt.Errorf("kafka-sasl: %q is none of %s, %s and %s", c.KafkaSASL,
			kafka.MechanismPlain, kafka.MechanismScramSHA256, kafka.MechanismScramSHA512))
	}
	return append(errs, c.validateDatabase()...)
}

// sslModes are PostgreSQL's modes, from the one that protects nothing to the one that protects
// most.
func sslModes() []string {
	return []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
}

// validateDatabase checks the parts of the database's URL about TLS. Its errors never show the URL,
// which has a password.
func (c *Config) validateDatabase() []error {
	if c.Database == "" {
		return nil
	}
	u, err := url.Parse(c.Database)
	switch {
	case err != nil: // the error's text would show a part of the URL, often the password
		return []error{errors.New("database: is not a URL; in the user and password, percent-encode all characters except letters and digits")}
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return []error{errors.New("database: must be postgres://user:password@host:port/name")}
	}
	_, authority, _ := strings.Cut(c.Database, "//")
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	if strings.Count(authority, "@") > 1 { // the rest of the password would be taken for the host, and be shown
		return []error{errors.New("database: an @ in user or password must be written %40")}
	}
	var errs []error
	query := u.Query()
	if mode := query.Get("sslmode"); mode != "" && !slices.Contains(sslModes(), mode) {
		errs = append(errs, fmt.Errorf("database: sslmode is %q, must be one of %s", mode, strings.Join(sslModes(), ", ")))
	}
	if ca := query.Get("sslrootcert"); ca != "" && ca != "system" {
		if _, err := readCA(ca); err != nil {
			errs = append(errs, fmt.Errorf("database: sslrootcert: %w", err))
		}
	}
	cert, key := query.Get("sslcert"), query.Get("sslkey")
	switch {
	case (cert == "") != (key == ""):
		errs = append(errs, errors.New("database: sslcert and sslkey must be given together"))
	case cert != "" && query.Get("sslpassword") == "":
		if _, err := readPair(cert, key); err != nil {
			errs = append(errs, fmt.Errorf("database: sslcert: %w", err))
		}
	}
	return errs
}

// Exposed names the connections without TLS that leave this machine, because others on the network
// could read or change them.
func (c *Config) Exposed() []string {
	var out []string
	if !c.RedisTransport.TLS && !local(c.Redis...) {
		out = append(out, "the connection to redis is not encrypted: set redis-tls")
	}
	if !c.KafkaTransport.TLS && !local(c.Kafka...) {
		what := "the connection to kafka is not encrypted: set kafka-tls"
		if kafka.Mechanism(c.KafkaSASL) == kafka.MechanismPlain {
			what = "the connection to kafka is not encrypted, and sasl plain shows its password: set kafka-tls"
		}
		out = append(out, what)
	}
	u, err := url.Parse(c.Database)
	if err != nil || c.Database == "" || local(u.Host) {
		return out
	}
	switch mode := u.Query().Get("sslmode"); mode {
	case "verify-ca", "verify-full":
	case "require":
		if u.Query().Get("sslrootcert") == "" {
			out = append(out, "the database's certificate is not checked: set sslmode=verify-full in its URL")
		}
	default:
		out = append(out, "the connection to the database may be unencrypted: set sslmode=verify-full in its URL")
	}
	return out
}

// ExposedListeners names the listeners without TLS that other machines can reach.
func (c *Config) ExposedListeners(role Role) []string {
	var out []string
	add := func(key, addr string, secured ListenTLS, what string) {
		if host, _, err := net.SplitHostPort(addr); err == nil && secured.Cert == "" && (host == "" || !local(addr)) {
			out = append(out, fmt.Sprintf("%s %s is not encrypted, so %s by others: set its tls-cert, or end TLS in a proxy before it",
				key, addr, what))
		}
	}
	if role&RoleGateway != 0 {
		add("listen", c.Listen, c.ListenTLS, "callers' keys can be read")
	}
	add("admin-listen", c.AdminListen, c.AdminTLS, "admin tokens can be read")
	return out
}

// local reports whether all addresses are on this machine.
func local(addrs ...string) bool {
	return !slices.ContainsFunc(addrs, func(addr string) bool {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			host = addr
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		return host != "localhost" && host != "" && (ip == nil || !ip.IsLoopback())
	})
}

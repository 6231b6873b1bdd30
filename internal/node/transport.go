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
	CA   string // the authority of the server's certificate; "" is those that the system trusts
	Cert string // our certificate, with Key; "" shows the server none
	Key  string
}

// redisTLS returns the TLS configuration for the Redis and its Sentinels, nil without TLS.
func (c *Config) redisTLS() (*tls.Config, error) { return c.RedisTransport.config("redis") }

// kafkaTLS returns the TLS configuration for the Kafka brokers, nil without TLS.
func (c *Config) kafkaTLS() (*tls.Config, error) { return c.KafkaTransport.config("kafka") }

// kafkaSASL returns how to log in to the Kafka brokers.
func (c *Config) kafkaSASL() kafka.SASL {
	return kafka.SASL{Mechanism: kafka.Mechanism(c.KafkaSASL), Username: c.KafkaUser, Password: c.KafkaSecret}
}

// config reads the files. Each error begins with the setting's key, which prefix begins.
func (t Transport) config(prefix string) (*tls.Config, error) {
	var errs []error
	if !t.TLS {
		for _, given := range []struct{ key, file string }{{"-ca", t.CA}, {"-cert", t.Cert}, {"-key", t.Key}} {
			if given.file != "" {
				errs = append(errs, fmt.Errorf("%s%s: is of no use without %s-tls", prefix, given.key, prefix))
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
		// Read again for each connection: a certificate that is renewed in time needs no restart.
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

// readPair reads a certificate and its key, and refuses one that no server would take.
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
		errs = append(errs, errors.New("redis-sentinel-username: is of no use without redis-master"))
	}
	switch mechanism := kafka.Mechanism(c.KafkaSASL); mechanism {
	case kafka.MechanismNone:
		if c.KafkaUser != "" {
			errs = append(errs, errors.New("kafka-username: is of no use without kafka-sasl"))
		}
		if c.KafkaSecret != "" {
			errs = append(errs, errors.New("kafka-password: is of no use without kafka-sasl"))
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

// sslModes are PostgreSQL's, from the one that secures nothing to the one that leaves nothing open.
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
	case err != nil: // its text would show a part of the URL, and mostly that of the password
		return []error{errors.New("database: is not a URL; in user and password, percent-encode all but letters and digits")}
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return []error{errors.New("database: must be postgres://user:password@host:port/name")}
	}
	_, authority, _ := strings.Cut(c.Database, "//")
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	if strings.Count(authority, "@") > 1 { // the rest of the password would be taken for the host, and shown
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
		errs = append(errs, errors.New("database: sslcert and sslkey need each other"))
	case cert != "" && query.Get("sslpassword") == "":
		if _, err := readPair(cert, key); err != nil {
			errs = append(errs, fmt.Errorf("database: sslcert: %w", err))
		}
	}
	return errs
}

// Exposed names the connections without TLS that leave this machine: others on the network could
// read or change them.
func (c *Config) Exposed() []string {
	var out []string
	if !c.RedisTransport.TLS && !local(c.Redis...) {
		out = append(out, "redis is reached in clear: set redis-tls")
	}
	if !c.KafkaTransport.TLS && !local(c.Kafka...) {
		what := "kafka is reached in clear: set kafka-tls"
		if kafka.Mechanism(c.KafkaSASL) == kafka.MechanismPlain {
			what = "kafka is reached in clear, and sasl plain shows its password: set kafka-tls"
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
		out = append(out, "the database may be reached in clear: set sslmode=verify-full in its URL")
	}
	return out
}

// ExposedListeners names the listeners that other machines reach without TLS.
func (c *Config) ExposedListeners(role Role) []string {
	var out []string
	add := func(key, addr string, secured ListenTLS, what string) {
		if host, _, err := net.SplitHostPort(addr); err == nil && secured.Cert == "" && (host == "" || !local(addr)) {
			out = append(out, fmt.Sprintf("%s %s is reached in clear, and %s on the way: set its tls-cert, or end TLS in a proxy before it",
				key, addr, what))
		}
	}
	if role&RoleGateway != 0 {
		add("listen", c.Listen, c.ListenTLS, "callers' keys can be read")
	}
	add("admin-listen", c.AdminListen, c.AdminTLS, "admin tokens can be read")
	return out
}

// local reports whether all addresses are this machine's.
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

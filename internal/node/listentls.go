package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ListenTLS has the files for TLS on a listener; without them the listener doesn't encrypt.
type ListenTLS struct {
	Cert string // PEM: the certificate, and the intermediate certificates
	Key  string
}

// validate reads the files. Each error begins with the setting's key, which begins with prefix.
func (t ListenTLS) validate(prefix string) error {
	switch {
	case t.Cert == "" && t.Key == "":
		return nil
	case t.Key == "":
		return fmt.Errorf("%stls-cert: needs %stls-key", prefix, prefix)
	case t.Cert == "":
		return fmt.Errorf("%stls-key: needs %stls-cert", prefix, prefix)
	}
	if _, err := readPair(t.Cert, t.Key); err != nil {
		return fmt.Errorf("%stls-cert: %w", prefix, err)
	}
	return nil
}

// on returns l, or, with files, a listener that uses TLS on it. The handshake is a part of a
// connection's first read, so the deadline for a request's header bounds it.
func (t ListenTLS) on(l net.Listener) net.Listener {
	if t.Cert == "" {
		return l
	}
	pair := &renewed{files: t}
	_, _ = pair.get() // so that there is one if the files go before the first connection
	return tls.NewListener(l, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get() },
	})
}

// scheme returns the scheme of URLs of the listener.
func (t ListenTLS) scheme() string {
	if t.Cert == "" {
		return "http://"
	}
	return "https://"
}

// renewed is a certificate that is read again regularly. So a renewed certificate needs no restart.
// It is safe for concurrent use.
type renewed struct {
	files ListenTLS

	mu   sync.Mutex
	pair *tls.Certificate // guarded by mu
	read time.Time        // guarded by mu
}

// renewEvery is how long a certificate is used before it is read again.
const renewEvery = time.Second

// get returns the certificate. If the files can't be read any longer, it returns the last one.
func (r *renewed) get() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pair != nil && time.Since(r.read) < renewEvery {
		return r.pair, nil
	}
	pair, err := readPair(r.files.Cert, r.files.Key)
	if err == nil {
		r.pair = pair
	}
	r.read = time.Now()
	if r.pair == nil {
		return nil, err
	}
	return r.pair, nil
}

// validateListeners checks the files of both listeners.
func (c *Config) validateListeners() error {
	return errors.Join(c.ListenTLS.validate(""), c.AdminTLS.validate("admin-"))
}

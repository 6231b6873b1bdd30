package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/wait"
)

// Both listeners speak TLS where they have a certificate, and take a renewed one without a restart.
func TestListenersSpeakTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	c := testConfig(t)
	c.ListenTLS.Cert, c.ListenTLS.Key = ca.issue(t, "public", time.Now().Add(time.Hour))
	c.AdminTLS.Cert, c.AdminTLS.Key = ca.issue(t, "admin", time.Now().Add(time.Hour))
	n := start(t, c, RoleGateway|RoleWorker)

	roots := x509.NewCertPool()
	pem, err := os.ReadFile(ca.file)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	leaf := func(url string) *x509.Certificate {
		t.Helper()
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", url, response.Status, err)
		}
		return response.TLS.PeerCertificates[0]
	}
	for _, url := range []string{n.PublicURL(), n.AdminURL()} {
		if !strings.HasPrefix(url, "https://") {
			t.Fatalf("the address is %s", url)
		}
		leaf(url + "/readyz")
		if _, err := http.Get(url + "/readyz"); err == nil {
			t.Errorf("%s: a client that doesn't know the authority believed it", url)
		}
		response, err := http.Get("http" + strings.TrimPrefix(url, "https") + "/readyz")
		if err == nil && response.StatusCode == http.StatusOK {
			t.Errorf("%s answers in clear", url)
		}
		if err == nil {
			_ = response.Body.Close()
		}
	}

	before := leaf(n.PublicURL() + "/livez")
	cert, key := ca.issue(t, "renewed", time.Now().Add(time.Hour))
	for from, to := range map[string]string{cert: c.ListenTLS.Cert, key: c.ListenTLS.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	pause := wait.Backoff{First: 20 * time.Millisecond, Longest: 200 * time.Millisecond}
	for leaf(n.PublicURL() + "/livez").Equal(before) {
		if !pause.Wait(t.Context()) {
			t.Fatal("the renewed certificate was not read")
		}
	}
}

// A listener goes on with the certificate of its start, also where nobody has connected before the
// files were gone.
func TestListenTLS_KeepsItsCertificate(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	var files ListenTLS
	files.Cert, files.Key = ca.issue(t, "public", time.Now().Add(time.Hour))
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := files.on(plain)
	defer listener.Close()
	for _, file := range []string{files.Cert, files.Key} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = conn.(*tls.Conn).HandshakeContext(t.Context())
			conn.Close()
		}
		served <- err
	}()
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(ca.file)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", plain.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestListenTLS_Validate(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "ca")
	cert, key := ca.issue(t, "good", time.Now().Add(time.Hour))
	old, oldKey := ca.issue(t, "old", time.Now().Add(-time.Minute))
	for _, c := range []struct {
		files ListenTLS
		want  string
	}{
		{ListenTLS{}, ""},
		{ListenTLS{cert, key}, ""},
		{ListenTLS{cert, ""}, "admin-tls-cert: needs admin-tls-key"},
		{ListenTLS{"", key}, "admin-tls-key: needs admin-tls-cert"},
		{ListenTLS{cert, oldKey}, "admin-tls-cert: tls: private key does not match public key"},
		{ListenTLS{old, oldKey}, "admin-tls-cert: " + old + ": expired at "},
		{ListenTLS{filepath.Join(t.TempDir(), "none"), key}, "admin-tls-cert: open "},
	} {
		err := (&Config{AdminTLS: c.files}).validateListeners()
		if got := errors.Join(err); (c.want == "") != (got == nil) || got != nil && !strings.HasPrefix(got.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.files, err, c.want)
		}
	}
}

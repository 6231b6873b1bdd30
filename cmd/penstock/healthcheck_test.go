package main

import (
	"strings"
	"testing"
)

// TestProbed: the health check asks at the address on which the container listens.
func TestProbed(t *testing.T) {
	for listen, want := range map[string]string{
		"": "127.0.0.1:8080", "127.0.0.1:9000": "127.0.0.1:9000", ":9000": "127.0.0.1:9000", "0.0.0.0:9000": "127.0.0.1:9000",
		"[::]:9000": "[::1]:9000", "10.0.0.1:80": "10.0.0.1:80", "shop:80": "shop:80", "127.0.0.1:0": "", "9000": "",
	} {
		for cert, scheme := range map[string]string{"": "http://", "/etc/cert.pem": "https://"} {
			got, err := probed(func(name string) string {
				return map[string]string{"PENSTOCK_LISTEN": listen, "PENSTOCK_TLS_CERT": cert}[name]
			})
			switch {
			case want == "" && (err == nil || !strings.Contains(err.Error(), "PENSTOCK_LISTEN")), want != "" && err != nil,
				want != "" && got != scheme+want:
				t.Errorf("%q with certificate %q: %q, %v", listen, cert, got, err)
			}
		}
	}
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	neturl "net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultListen is the default address of the public listener.
const defaultListen = "127.0.0.1:8080"

// healthcheckBody is how much of a probe's answer is read, in bytes.
const healthcheckBody = 4096

// probed returns the address of the public listener, from the environment. If it listens on all
// addresses, probed returns the loopback address.
func probed(environ func(string) string) (string, error) {
	listen := cmp.Or(environ("PENSTOCK_LISTEN"), defaultListen)
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "", fmt.Errorf("environment PENSTOCK_LISTEN: %q doesn't say where to ask: use --url", listen)
	}
	switch address, err := netip.ParseAddr(host); {
	case host == "" || err == nil && address.IsUnspecified() && address.Is4():
		host = "127.0.0.1"
	case err == nil && address.IsUnspecified():
		host = "::1"
	}
	scheme := "http"
	if environ("PENSTOCK_TLS_CERT") != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}

func healthcheckCommand() *cobra.Command {
	var url string
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit 0 if a server is alive, 4 if not: a probe for containers",
		Long: `Ask a server whether it lives, at /livez; with --ready, whether it can answer buyers, at /readyz. Exits 0 when it says so,
and 4 when it does not, or does not answer. Without --url it is asked at PENSTOCK_LISTEN, as serve and gateway
take that (by https with PENSTOCK_TLS_CERT), else at http://` + defaultListen + `.

A container that is restarted when it isn't ready is restarted in vain: it may wait for a server that is away.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url := url
			switch base, err := probed(os.Getenv); {
			case url != "" && ready:
				return &exitError{exitUsage, errors.New("flag --ready: can't be used with --url, which names the whole URL")}
			case url != "":
			case err != nil:
				return &exitError{exitUsage, err}
			case ready:
				url = base + "/readyz"
			default:
				url = base + "/livez"
			}
			if u, err := neturl.Parse(url); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				return &exitError{exitUsage, fmt.Errorf("flag --url: %q is not an http URL", url)}
			}
			client := http.Client{Timeout: 3 * time.Second}
			request, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, url, nil)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("url: %w", err)}
			}
			response, err := client.Do(request)
			if err != nil {
				return &exitError{exitDependency, err}
			}
			defer response.Body.Close()
			body, err := io.ReadAll(io.LimitReader(response.Body, healthcheckBody))
			if err != nil {
				return &exitError{exitDependency, err}
			}
			if response.StatusCode != http.StatusOK {
				return &exitError{exitDependency, fmt.Errorf("%s: %s: %s", url, response.Status, strings.TrimSpace(string(body)))}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "URL to ask (default http://"+defaultListen+"/livez, or what PENSTOCK_LISTEN says)")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether the server can answer buyers")
	return cmd
}

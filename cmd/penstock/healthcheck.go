package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultProbe is the public listener where nothing else is said.
const defaultProbe = "http://127.0.0.1:8080"

// healthcheckBody bounds what is read of a probe's answer, in bytes.
const healthcheckBody = 4096

func healthcheckCommand() *cobra.Command {
	var url string
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit 0 when a server lives, 4 when it does not: a probe for containers",
		Long: `Ask a server whether it lives, at /livez; with --ready, whether it can answer buyers, at /readyz. Exits 0 when it says so,
and 4 when it does not, or does not answer.

A container that is restarted when it isn't ready is restarted in vain: it may wait for a server that is away.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url := url
			switch {
			case url == "" && ready:
				url = defaultProbe + "/readyz"
			case url == "":
				url = defaultProbe + "/livez"
			case ready:
				return &exitError{exitUsage, errors.New("flag --ready: is of no use with --url, which names what to ask")}
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
	cmd.Flags().StringVar(&url, "url", "", "what to ask (default "+defaultProbe+"/livez)")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether the server can answer buyers")
	return cmd
}

package main

import (
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthcheckBody bounds what is read of a probe's answer, in bytes.
const healthcheckBody = 4096

func healthcheckCommand() *cobra.Command {
	var url string
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit 0 when a server runs, 4 when it doesn't: a probe for containers",
		Long: `Ask a server's /livez, and exit 0 when it answers 200, 4 otherwise. A container that fails this probe may be replaced; with
--ready it asks /readyz, which tells a load balancer whether to send anybody there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ready && !cmd.Flags().Changed("url") {
				url = strings.TrimSuffix(url, "/livez") + "/readyz"
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
	cmd.Flags().StringVar(&url, "url", "http://127.0.0.1:8080/livez", "what to ask")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask /readyz instead, where --url says nothing")
	return cmd
}

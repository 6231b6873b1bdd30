package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// The environment variables of commands that talk to a running server. The token's variable is also
// that of the setting admin-token.
const (
	envAdmin      = "PENSTOCK_ADMIN"
	envAdminToken = "PENSTOCK_ADMIN_TOKEN"
)

// maxAdminAnswer is the largest answer that is read, in bytes: a page of activities with 200 items
// each is the largest.
const maxAdminAnswer = 64 << 20

// adminClient talks to the admin API of a running installation. It is used by one goroutine at a
// time.
type adminClient struct {
	urls   []string      // base URLs of admin listeners, without slashes at their ends
	at     int           // index of the listener to ask first: the last one that answered
	lives  string        // URL of the listener that has answered; "" is none yet
	wait   time.Duration // how long to wait for the first answer of one of several listeners
	token  string
	reason string // sent with every change
	http   http.Client
	follow http.Client // for answers that have no end, like streams of events
}

// dialTimeout is how long a connection to a listener, or its first answer, may take before the next
// listener is tried.
const dialTimeout = 5 * time.Second

// newClient makes a client for the listeners at urls. timeout bounds one request with its answer.
func newClient(urls []string, token string, timeout time.Duration) *adminClient {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: time.Minute,
	}
	// Redirects aren't followed: the token must not go to another server.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &adminClient{
		urls: urls, token: token, wait: dialTimeout, http: http.Client{Transport: transport, CheckRedirect: stay, Timeout: timeout},
		follow: http.Client{Transport: transport, CheckRedirect: stay},
	}
}

// adminURLs reads URLs of admin listeners, separated by commas. source names where the text comes
// from, for errors.
func adminURLs(text, source string) ([]string, error) {
	var urls []string
	for _, one := range strings.Split(text, ",") {
		one = strings.TrimSpace(one)
		u, err := url.Parse(one)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, &exitError{exitUsage, fmt.Errorf("%s: %q is not a URL like http://127.0.0.1:8081", source, one)}
		}
		urls = append(urls, strings.TrimRight(one, "/"))
	}
	return urls, nil
}

// send sends a request to the first listener that answers, beginning with the one that answered
// last. Once a connection is made, the request isn't sent to another listener, because the first
// one may have carried it out. build makes the request for a listener.
func (c *adminClient) send(client *http.Client, build func(base string) (*http.Request, error)) (*http.Request, *http.Response, error) {
	var unreached []error
	for range c.urls {
		base := c.urls[c.at]
		request, err := build(base)
		if err != nil {
			return nil, nil, err
		}
		if err := c.greet(request.Context(), base); err != nil {
			unreached = append(unreached, &exitError{exitDependency, err})
			c.at = (c.at + 1) % len(c.urls)
			continue
		}
		response, err := client.Do(request)
		if err == nil {
			return request, response, nil
		}
		failed := &exitError{exitDependency, err} // it names method and URL
		dial, isDial := errors.AsType[*net.OpError](err)
		if !isDial || dial.Op != "dial" || request.Context().Err() != nil {
			return nil, nil, failed
		}
		unreached = append(unreached, failed)
		c.at = (c.at + 1) % len(c.urls)
	}
	err := errors.Join(unreached...)
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = fmt.Errorf("%w; no process listens there: start one, or name another admin listener by --admin or %s", err, envAdmin)
	}
	return nil, nil, &exitError{exitDependency, err}
}

// greet asks one of several listeners whether it is alive, before the first request to it. A
// listener that takes connections but doesn't answer would delay the command until the request's
// timeout, and a request that was sent can't go to another listener. A single listener isn't asked.
func (c *adminClient) greet(ctx context.Context, base string) error {
	if len(c.urls) == 1 || c.lives == base {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/livez", http.NoBody)
	if err != nil {
		return err
	}
	response, err := c.follow.Do(request)
	if err != nil {
		return err
	}
	c.lives = base // whatever the answer is, the listener is alive
	return response.Body.Close()
}

// addAdminFlags declares the flags of every command that talks to a server.
func addAdminFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.String("admin", "http://127.0.0.1:8081",
		"URL of the server's admin listener, or several separated by commas: the first that answers is used (environment: "+envAdmin+")")
	flags.String("token-file", "", "file with the admin token, - for stdin (environment: "+envAdminToken+" has the token itself)")
	flags.Duration("timeout", 2*time.Minute, "how long one request may take")
	flags.StringP("output", "o", "table", "how to print the answer: table or json")
}

// newAdminClient makes a client from a command's flags and environment.
func newAdminClient(cmd *cobra.Command) (*adminClient, error) {
	flags := cmd.Flags()
	text, err := flags.GetString("admin")
	if err != nil {
		return nil, err
	}
	source := "flag --admin"
	if env := os.Getenv(envAdmin); env != "" && !flags.Changed("admin") {
		text, source = env, "environment "+envAdmin
	}
	urls, err := adminURLs(text, source)
	if err != nil {
		return nil, err
	}
	timeout, err := flags.GetDuration("timeout")
	if err != nil {
		return nil, err
	}
	if timeout <= 0 {
		return nil, &exitError{exitUsage, errors.New("flag --timeout: must be above zero")}
	}
	token, err := adminToken(cmd)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	c := newClient(urls, token, timeout)
	if f := flags.Lookup("reason"); f != nil {
		c.reason = f.Value.String()
	}
	return c, nil
}

// adminToken reads the token from the file that was named, or from the environment.
func adminToken(cmd *cobra.Command) (string, error) {
	file, err := cmd.Flags().GetString("token-file")
	if err != nil {
		return "", err
	}
	token := os.Getenv(envAdminToken)
	source := "environment " + envAdminToken
	if file != "" {
		text, err := readInput(cmd, file)
		if err != nil {
			return "", fmt.Errorf("flag --token-file: %w", err)
		}
		token, source = strings.TrimSpace(string(text)), "flag --token-file"
	}
	if token == "" {
		return "", fmt.Errorf("no admin token: set %s, or name a file with --token-file", envAdminToken)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%s: a token is visible ASCII characters without spaces", source)
	}
	return token, nil
}

// maxInput is the largest file or stdin that is read, in bytes.
const maxInput = 16 << 20

// readInput reads a file, or stdin for "-".
func readInput(cmd *cobra.Command, path string) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(text) > maxInput {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxInput)
	}
	return text, err
}

// problemError is an answer that isn't a success.
type problemError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Errors []struct {
		Field  string `json:"field"`
		Detail string `json:"detail"`
	} `json:"errors"`

	path []string // of the request
}

// Error implements error: one line, and one more for each field that is wrong.
func (p *problemError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (%d %s)", p.Title, p.Detail, p.Status, p.Code)
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "\n%s: %s", e.Field, e.Detail)
	}
	return b.String()
}

// adminRequest is one request.
type adminRequest struct {
	method string
	path   []string // segments after /admin/v1
	query  url.Values
	header http.Header
	body   any // nil: none
}

// call sends a request and returns the body of a successful answer. If the server can't be reached,
// or isn't ready, the error has exitDependency.
func (c *adminClient) call(ctx context.Context, r adminRequest) (json.RawMessage, http.Header, error) {
	request, response, err := c.ask(ctx, &c.http, r)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAdminAnswer+1))
	if err != nil {
		return nil, nil, &exitError{exitDependency, fmt.Errorf("%s %s: %w", r.method, request.URL, err)}
	}
	if len(text) > maxAdminAnswer {
		return nil, nil, &exitError{exitFailure, fmt.Errorf("%s %s: the answer is larger than %d MiB", r.method, request.URL, maxAdminAnswer>>20)}
	}
	if response.StatusCode/100 == 3 {
		err := fmt.Errorf("%s %s: %s to %s: redirects are not followed, name the admin listener itself",
			r.method, request.URL, response.Status, response.Header.Get("Location"))
		return nil, nil, &exitError{exitFailure, err}
	}
	if response.StatusCode < 300 {
		return text, response.Header, nil
	}
	return nil, nil, answerError(r, request, response, text)
}

// ask sends a request and returns the answer, successful or not; the caller closes its body.
func (c *adminClient) ask(ctx context.Context, client *http.Client, r adminRequest) (*http.Request, *http.Response, error) {
	return c.send(client, func(base string) (*http.Request, error) { return c.request(ctx, base, r) })
}

// read sends a request and decodes the successful answer.
func (c *adminClient) read(ctx context.Context, answer any, r adminRequest) (json.RawMessage, error) {
	text, _, err := c.call(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return nil, &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	return text, nil
}

// readError reads the rest of an answer that isn't a success, and returns it as an error.
func readError(r adminRequest, request *http.Request, response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxInput))
	if err != nil {
		return &exitError{exitDependency, err}
	}
	return answerError(r, request, response, text)
}

// answerError makes an error of an answer that isn't a success.
func answerError(r adminRequest, request *http.Request, response *http.Response, text []byte) error {
	problem := new(problemError)
	if err := json.Unmarshal(text, problem); err != nil || problem.Code == "" {
		err := fmt.Errorf("%s %s: %s: is this a Penstock admin listener?", r.method, request.URL, response.Status)
		return &exitError{exitFailure, err}
	}
	problem.path = r.path
	for i, e := range problem.Errors { // a person gives that member by a flag
		problem.Errors[i].Detail = strings.ReplaceAll(e.Detail, "With allow_unknown it", "With --"+allowUnknown+" it")
	}
	code := exitFailure
	if response.StatusCode == http.StatusServiceUnavailable {
		code = exitDependency
	}
	return &exitError{code, problem}
}

func (c *adminClient) request(ctx context.Context, base string, r adminRequest) (*http.Request, error) {
	var content io.Reader = http.NoBody
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.method, err)
		}
		content = bytes.NewReader(text)
	}
	var path strings.Builder
	path.WriteString("/admin/v1")
	for _, segment := range r.path {
		if segment == "" {
			return nil, &exitError{exitUsage, errors.New("an empty argument can't be a name")}
		}
		if segment == "." || segment == ".." { // a name that must not be taken for a step in the path
			segment = strings.ReplaceAll(segment, ".", "%2E")
		} else {
			segment = url.PathEscape(segment)
		}
		path.WriteByte('/')
		path.WriteString(segment)
	}
	if len(r.query) > 0 {
		path.WriteByte('?')
		path.WriteString(r.query.Encode())
	}
	request, err := http.NewRequestWithContext(ctx, r.method, base+path.String(), content)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	for name, values := range r.header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if r.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.reason != "" {
		request.Header.Set("X-Reason", c.reason)
	}
	return request, nil
}

// adminPage is a page of a list.
type adminPage struct {
	Items []json.RawMessage `json:"items"`
	Next  json.RawMessage   `json:"next"`
}

// list reads a list page by page, at most `most` entries (0: all). cursor is the query parameter
// for the next page.
func (c *adminClient) list(ctx context.Context, cursor string, most int, path ...string) ([]json.RawMessage, error) {
	var items []json.RawMessage
	query := url.Values{}
	for {
		if most > 0 {
			query.Set("limit", strconv.Itoa(min(most-len(items), 200))) // the largest page of every list
		}
		text, _, err := c.call(ctx, adminRequest{method: http.MethodGet, path: path, query: query})
		if err != nil {
			return nil, err
		}
		var page adminPage
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		items = append(items, page.Items...)
		if len(page.Next) == 0 || len(page.Items) == 0 || most > 0 && len(items) >= most {
			return items, nil
		}
		next := strings.Trim(string(page.Next), `"`) // ids have no characters that JSON escapes
		if next == query.Get(cursor) {
			return nil, &exitError{exitFailure, fmt.Errorf("read the list: the page after %s is followed by itself", shown(next))}
		}
		query.Set(cursor, next)
	}
}

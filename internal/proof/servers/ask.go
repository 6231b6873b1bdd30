package servers

import (
	"context"
	"io"
	"net/http"
	"strings"
)

// Ask makes a request to a process under test, and returns its whole answer. A body is JSON; header
// is name, value, name, value. The client's timeout applies.
func Ask(ctx context.Context, client *http.Client, method, url, body string, header ...string) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, text, err
}

package shop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// load is wrk's result.
type load struct {
	answers int64 // all
	refused int64 // of them, neither 2xx nor 3xx
	failed  int64 // no answer
	took    time.Duration
}

// buy makes wrk buy for a while over so many connections, each time as another buyer. It takes
// items evenly from the list of activity/sku.
func buy(t testing.TB, url, bearer string, connections int, d time.Duration, items []string) load {
	t.Helper()
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		t.Fatal("wrk is missing: make install gets it")
	}
	script := filepath.Join(t.TempDir(), "buy.lua")
	list := filepath.Join(t.TempDir(), "items")
	write(t, list, strings.Join(items, "\n"))
	write(t, script, fmt.Sprintf(buyScript, bearer, list, crowd.Add(1)))
	cmd := exec.Command(wrk, "-t1", "-c", strconv.Itoa(connections), "-d", fmt.Sprint(int(d.Seconds()), "s"),
		"--timeout", "10s", "-s", script, url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("wrk: %v\n%s", err, out)
	}
	at := bytes.LastIndex(out, []byte("SEEN "))
	if at < 0 {
		t.Fatalf("wrk said:\n%s", out)
	}
	var l load
	var micros int64
	if _, err := fmt.Sscanf(string(out[at:]), "SEEN %d %d %d %d", &l.answers, &l.refused, &l.failed, &micros); err != nil {
		t.Fatalf("wrk said:\n%s", out)
	}
	l.took = time.Duration(micros) * time.Microsecond
	return l
}

// crowd numbers the crowds of a run, so that no two have a buyer in common.
var crowd atomic.Int64

const buyScript = `
local bearer, file, crowd = %q, %q, %d
local items, n = {}, 0
for line in io.lines(file) do
  local activity, sku = line:match("^(.-)/(.*)$")
  items[#items + 1] = '{"activity":"' .. activity .. '","sku":"' .. sku .. '","quantity":1,"user":"'
end
local headers = {["Authorization"] = bearer, ["Content-Type"] = "application/json"}
local prefix = "u" .. crowd .. "-" .. os.time() .. "-"
function request()
  n = n + 1
  local id = prefix .. n
  headers["Idempotency-Key"] = id
  return wrk.format("POST", "/v1/orders", headers, items[n %% #items + 1] .. id .. '"}')
end
function done(summary)
  local e = summary.errors
  io.write(string.format("SEEN %%d %%d %%d %%d\n", summary.requests, e.status,
    e.connect + e.read + e.write + e.timeout, summary.duration))
end
`

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const adminToken = "shop-bench-admin-token-0123456789"

// desk is the admin API of a process.
type desk struct {
	t   testing.TB
	url string
}

// ask sends a request and returns the answer's body. It fails the test if the answer is no success.
func (d *desk) ask(method, path string, body any) []byte {
	d.t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			d.t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, bytes.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: patience}
	answer, err := client.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	out, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode/100 != 2 {
		d.t.Fatalf("%s %s: %d %.300s %v", method, path, answer.StatusCode, out, err)
	}
	return out
}

// open makes a merchant with a caller and returns the caller's key.
func (d *desk) open() (bearer string) {
	d.ask("PUT", "/admin/v1/merchants/acme", map[string]any{"name": "Acme"})
	var caller struct{ Key string }
	if err := json.Unmarshal(d.ask("POST", "/admin/v1/merchants/acme/callers",
		map[string]any{"name": "c" + strconv.FormatInt(crowd.Add(1), 10), "rights": []string{"buy"}}), &caller); err != nil {
		d.t.Fatal(err)
	}
	return "Bearer " + caller.Key
}

// item is an item of an activity.
type item struct {
	SKU      string `json:"sku"`
	Price    int    `json:"price"`
	Currency string `json:"currency"`
	Quantity int64  `json:"quantity"`
	PerUser  int    `json:"per_user"`
	Spread   int    `json:"spread,omitempty"`
}

// put makes a draft of an activity with n items that sells now, and returns activity/sku of each.
func (d *desk) put(activity string, n int, quantity int64, spread int) (names []string) {
	items := make([]item, n)
	for i := range items {
		items[i] = item{"s" + strconv.Itoa(i), 100, "CNY", quantity, 0, spread}
		names = append(names, activity+"/"+items[i].SKU)
	}
	now := time.Now().UTC()
	d.ask("PUT", "/admin/v1/activities/"+activity, map[string]any{
		"merchant": "acme", "name": activity, "starts_at": now.Add(-time.Minute), "ends_at": now.Add(24 * time.Hour),
		"payment_window": "15m", "items": items,
	})
	return names
}

// sell puts an activity and publishes it.
func (d *desk) sell(activity string, n int, quantity int64, spread int) []string {
	names := d.put(activity, n, quantity, spread)
	d.ask("POST", "/admin/v1/activities/"+activity+"/publish", nil)
	return names
}

// attempt buys once and returns the status.
func attempt(t testing.TB, url, bearer, name, user string) int {
	t.Helper()
	activity, sku, _ := strings.Cut(name, "/")
	body := fmt.Sprintf(`{"activity":%q,"sku":%q,"quantity":1,"user":%q}`, activity, sku, user)
	request, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/orders", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", bearer)
	request.Header.Set("Idempotency-Key", user)
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body) // only the status matters
	return answer.StatusCode
}

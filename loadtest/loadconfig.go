package loadtest

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// LoadConfig describes a load: requests that leave on a schedule, whatever the answers do.
// DefaultLoadConfig has a value for everything but the sale and the phases.
type LoadConfig struct {
	// Targets are the base URLs of public listeners of one shop; departures go to them in turn.
	Targets []string
	// CallerKeys are sent as bearer tokens: each purchase comes from one of the callers that see
	// its sale, each as often.
	CallerKeys []string
	// Items are what is bought, Quantity how many units at a time. Each activity is bought from as
	// often.
	Items    []Item
	Quantity int
	// Zipf says how unevenly the items of an activity are liked: the k-th of Items is bought in
	// proportion to k^-Zipf. 0 is evenly; in shops it is about 1.
	Zipf float64
	// PaymentSecrets of the items' merchants are needed to pay.
	PaymentSecrets []string

	// Users is how many there are; each purchase is one of theirs.
	Users int
	// Seed decides what each departure is, and whose. Names of users and keys contain it.
	Seed uint64
	// Phases are what leaves when.
	Phases []Phase

	// Connections is how many requests are under way at most; each target has as many connections
	// at most. Departures for which no place is free leave as soon as one is, and their latency has
	// counted since they were due.
	Connections int
	// RequestTimeout is how long a request may take before its outcome counts as not known. A
	// departure that could not leave within it is dropped.
	RequestTimeout time.Duration
	// Attempts is how often a payment or a cancellation is sent at most, while the answer says to
	// come again or doesn't come. Purchases are sent once: their departures are fixed.
	Attempts int
	// PollFor is how long a buyer asks for an order that isn't confirmed.
	PollFor time.Duration
	// VerifyWithin is how long orders may take after the load to read as settled.
	VerifyWithin time.Duration

	// Progress, when set, is called from one goroutine every ProgressEvery and once at the end of
	// each stage. It must not block.
	Progress      func(LoadProgress)
	ProgressEvery time.Duration
}

// DefaultLoadConfig returns a load without a sale and phases.
func DefaultLoadConfig() LoadConfig {
	return LoadConfig{
		Quantity: 1,
		Zipf:     1,
		Users:    100_000,
		// Enough for 5,000 answers a second that take 100 ms each; every place costs some 20 KB
		// with its connection.
		Connections:    512,
		RequestTimeout: 10 * time.Second, // longer than the accept deadline of two seconds: a slow answer is still an answer
		Attempts:       6,
		PollFor:        10 * time.Second,
		VerifyWithin:   30 * time.Second,
		ProgressEvery:  200 * time.Millisecond,
	}
}

// Limits of what a load may be (L8). What is kept grows with accepted orders, sockets and memory
// with connections.
const (
	maxTargets = 64
	maxCallers = 64     // each reads the page of each activity before the load
	maxItems   = 10_000 // all activities together
	maxZipf    = 10
	maxUsers   = 1_000_000_000
	maxPhases  = 1_000
	maxRate    = 1_000_000
	maxCount   = 1_000_000_000
)

// Validate reports everything that is wrong with the config, a line for each.
func (c *LoadConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Targets) < 1 || len(c.Targets) > maxTargets {
		bad("target: %d of them are not between 1 and %d", len(c.Targets), maxTargets)
	}
	for _, target := range c.Targets {
		if err := checkTarget(target); err != nil {
			errs = append(errs, err)
		}
	}
	if len(c.CallerKeys) < 1 || len(c.CallerKeys) > maxCallers {
		bad("caller-key: is required, and at most %d of them", maxCallers)
	}
	for i, key := range c.CallerKeys {
		if !plain(key) || key == "" { // not shown: it is a secret
			bad("caller-key: number %d is not visible ASCII without quotes and backslashes", i+1)
		}
	}
	if !(c.Zipf >= 0 && c.Zipf <= maxZipf) { // NaN too
		bad("zipf: %v is not between 0 and %d", c.Zipf, maxZipf)
	}
	errs = append(errs, c.validateItems()...)
	between := func(name string, value, low, high int) {
		if value < low || value > high {
			bad("%s: %d is not between %d and %d", name, value, low, high)
		}
	}
	between("quantity", c.Quantity, 1, 1_000_000)
	between("users", c.Users, 1, maxUsers)
	between("connections", c.Connections, 1, maxConcurrency)
	between("attempts", c.Attempts, 1, maxAttempts)
	duration := func(name string, value, low time.Duration) {
		if value < low || value > maxTime {
			bad("%s: %v is not between %v and %v", name, value, low, maxTime)
		}
	}
	duration("request-timeout", c.RequestTimeout, time.Millisecond)
	duration("poll-for", c.PollFor, time.Millisecond)
	duration("verify-within", c.VerifyWithin, time.Millisecond)
	duration("progress-every", c.ProgressEvery, time.Millisecond)
	errs = append(errs, c.validatePhases()...)
	return errors.Join(errs...)
}

// validateItems checks what is bought.
func (c *LoadConfig) validateItems() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Items) == 0 {
		bad("activity: is required")
	}
	if len(c.Items) > maxItems {
		bad("sku: %d items are more than %d", len(c.Items), maxItems)
	}
	seen := make(map[Item]bool)
	for i := range c.Items {
		item := &c.Items[i]
		name := Item{Activity: item.Activity, SKU: item.SKU}
		switch {
		case item.Activity == "":
			bad("activity: is required")
		case !plain(item.Activity):
			bad("activity: %q has characters other than visible ASCII without quotes and backslashes", item.Activity)
		case !utf8.ValidString(item.SKU) || strings.ContainsFunc(item.SKU, unicode.IsControl):
			bad("sku: %q has characters that nobody can read", item.SKU)
		case seen[name]:
			bad("sku: %s is there twice", &name)
		}
		seen[name] = true
		for _, n := range []struct {
			name  string
			value int64
			high  int64
		}{
			{"stock", int64(item.Stock), 1_000_000_000}, {"stock", int64(item.Available), 1_000_000_000},
			{"per-user", int64(item.PerUser), 1_000_000_000}, {"price", item.Price, 1 << 53},
		} {
			if n.value < 0 || n.value > n.high {
				bad("%s: %d is not between 0 and %d", n.name, n.value, n.high)
			}
		}
		if item.Price > 0 && (len(item.Currency) != 3 || !plain(item.Currency)) {
			bad("currency: %q is not three letters", item.Currency)
		}
	}
	return errs
}

func checkTarget(target string) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("target: %q is not a URL like http://127.0.0.1:8080", target)
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("target: %q has more than scheme, host and port", target)
	}
	return nil
}

func (c *LoadConfig) validatePhases() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Phases) < 1 || len(c.Phases) > maxPhases {
		bad("phases: %d of them are not between 1 and %d", len(c.Phases), maxPhases)
	}
	total, length := 0.0, time.Duration(0)
	for i := range c.Phases {
		p := &c.Phases[i]
		if p.Duration <= 0 || p.Duration > maxTime {
			bad("duration: %v is not above zero and up to %v", p.Duration, maxTime)
		}
		for _, rate := range []float64{p.From, p.To} {
			if !(rate >= 0 && rate <= maxRate) { // NaN too
				bad("rate: %v is not between 0 and %d a second", rate, maxRate)
			}
		}
		p.Mix.validate(bad)
		total += (p.From + p.To) / 2 * p.Duration.Seconds()
		length = min(length+p.Duration, 2*maxTime)
	}
	switch {
	case len(errs) > 0:
	case length > maxTime:
		bad("duration: all phases together are longer than %v", maxTime)
	case total < 1:
		bad("rate: nothing leaves: it is below one request in the whole time")
	case total > maxCount:
		bad("rate: %.0f requests are more than %d", total, maxCount)
	}
	if c.pays() && (len(c.PaymentSecrets) == 0 || slices.Contains(c.PaymentSecrets, "")) {
		bad("pay: needs the merchant's payment secret")
	}
	return errs
}

// Validate reports everything that is wrong with the mix, a line for each.
func (m *Mix) Validate() error {
	var errs []error
	m.validate(func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) })
	return errors.Join(errs...)
}

func (m *Mix) validate(bad func(format string, args ...any)) {
	for _, share := range []struct {
		name  string
		value float64
	}{
		{"browse", m.Browse}, {"repeat", m.Repeat}, {"double-click", m.DoubleClick}, {"poll", m.Poll}, {"pay", m.Pay}, {"cancel", m.Cancel},
	} {
		if !(share.value >= 0 && share.value <= 1) { // NaN too
			bad("%s: %v is not a share between 0 and 1", share.name, share.value)
		}
	}
	if m.Pay+m.Cancel > 1 {
		bad("pay and cancel: are %v together, more than all orders", m.Pay+m.Cancel)
	}
	// Something has to be repeated.
	if m.Repeat+m.DoubleClick > 0.9 {
		bad("repeat and double-click: are %v together, 0.9 is the most", m.Repeat+m.DoubleClick)
	}
}

// crowd returns the config as the parts see it that both kinds of load share.
func (c *LoadConfig) crowd() Config {
	out := DefaultConfig()
	out.Quantity, out.Buyers, out.Seed = c.Quantity, min(c.Users, maxBuyers), c.Seed
	out.Concurrency, out.RequestTimeout, out.Attempts = c.Connections, c.RequestTimeout, c.Attempts
	out.VerifyWithin = c.VerifyWithin
	return out
}

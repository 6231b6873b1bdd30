package loadtest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Config describes a crowd, its sale, and bounds for its resources. DefaultConfig has a value for
// everything but the sale.
type Config struct {
	// Target is the base URL of the public listener, such as http://127.0.0.1:8080.
	Target string
	// CallerKey is sent as the bearer token.
	CallerKey string
	// Activity and SKU name the item to buy, and Quantity is the number of units per purchase.
	Activity string
	SKU      string
	Quantity int
	// Stock is how many units this crowd can get at most. 0 means unknown: in that case overselling
	// and a "sold out" that comes too early are not judged.
	Stock int
	// PerUser is how many units one buyer may have. 0 means no limit, or unknown.
	PerUser int
	// PaymentSecret, Price (per unit, in minor units) and Currency are needed to pay.
	PaymentSecret string
	Price         int64
	Currency      string

	// Buyers is the number of buyers.
	Buyers int
	// Within is the time over which the first clicks of the buyers are spread evenly. The
	// departures are then fixed in advance, and latency counts from them. 0 means a closed model:
	// the next buyer comes when an earlier one is done, and latency counts from the sending.
	Within time.Duration
	// Seed decides what each buyer does. It is a part of all names of buyers and keys. So a second
	// run with the same seed at the same sale repeats all purchases of the first.
	Seed uint64
	// Habits are the shares of buyers that do certain things.
	Habits Habits

	// Concurrency is how many buyers are served at once. There are at most twice as many
	// connections, because a double click needs two.
	Concurrency int
	// RequestTimeout is how long a request may take before its outcome counts as unknown.
	RequestTimeout time.Duration
	// Attempts is how many times one key is sent at most, if the answers ask for a repeat or don't
	// come. The first time counts, double clicks don't.
	Attempts int
	// Patience is the longest Retry-After that a buyer waits for; a buyer that is told to wait
	// longer leaves.
	Patience time.Duration
	// Deadline bounds the crowd as a whole; buyers that are not served by then leave.
	Deadline time.Duration
	// VerifyWithin is how long orders may take after the crowd to read as settled.
	VerifyWithin time.Duration

	// Progress, if set, is called from one goroutine every ProgressEvery and once at the end of
	// each stage. It must not block.
	Progress      func(Progress)
	ProgressEvery time.Duration
}

// Habits are shares of buyers, from 0 to 1.
type Habits struct {
	DoubleClick float64 // send the same request twice at once
	Repeat      float64 // send it again after the answer, with the same key; and once more after paying or cancelling
	SecondTry   float64 // try again with another key, whatever the result of the first one
	Pay         float64 // share of accepted orders that are paid
	PayTwice    float64 // share of paid orders whose notice is sent twice
	Cancel      float64 // share of accepted orders that are cancelled; the rest is left unpaid
}

// DefaultHabits are the habits of an impatient but honest crowd. In shops, one to three buyers in
// ten press again before the page has changed, and most buyers pay for their unit. Bots behave
// differently.
func DefaultHabits() Habits {
	return Habits{DoubleClick: 0.25, Repeat: 0.2, SecondTry: 0.1, Pay: 0.7, PayTwice: 0.1, Cancel: 0.1}
}

// DefaultConfig returns a crowd without a sale.
func DefaultConfig() Config {
	return Config{
		Quantity: 1,
		Currency: "CNY",
		Buyers:   20_000,
		Habits:   DefaultHabits(),
		// On one machine, more places only make requests wait. Seven interleaved runs of the demo
		// on two busy cores, with 32 to 256 places, had equal rates, but the median of an accepted
		// purchase doubled with each doubling (14, 28, 58, 106 ms). A server behind a real network
		// needs more.
		Concurrency: 64,
		// Longer than the accept deadline of two seconds: a slow answer is still an answer.
		RequestTimeout: 10 * time.Second,
		Attempts:       6,
		Patience:       10 * time.Second,
		Deadline:       5 * time.Minute,
		VerifyWithin:   30 * time.Second,
		ProgressEvery:  200 * time.Millisecond,
	}
}

// Limits of a crowd (L8): its data grows with buyers, its sockets and memory with concurrency.
const (
	maxBuyers      = 10_000_000
	maxConcurrency = 10_000
	maxAttempts    = 1_000
	maxTime        = 24 * time.Hour
)

// Validate returns all mistakes in the config, one on each line.
func (c *Config) Validate() error {
	var wrong flaws
	wrong.target(c.Target)
	for _, field := range []struct{ name, value string }{{"caller key", c.CallerKey}, {"activity", c.Activity}, {"sku", c.SKU}} {
		if field.value == "" {
			wrong.add("%s: is required", field.name)
		} else if !plain(field.value) {
			wrong.add("%s: %q has characters other than visible ASCII without quotes and backslashes", field.name, field.value)
		}
	}
	wrong.between("quantity", c.Quantity, 1, 1_000_000)
	wrong.between("stock", c.Stock, 0, 1_000_000_000)
	wrong.between("per user", c.PerUser, 0, 1_000_000_000)
	wrong.between("buyers", c.Buyers, 1, maxBuyers)
	wrong.between("concurrency", c.Concurrency, 1, maxConcurrency)
	wrong.between("attempts", c.Attempts, 1, maxAttempts)
	wrong.duration("within", c.Within, 0)
	wrong.duration("request timeout", c.RequestTimeout, time.Millisecond)
	wrong.duration("patience", c.Patience, 0)
	wrong.duration("deadline", c.Deadline, time.Millisecond)
	wrong.duration("verify within", c.VerifyWithin, time.Millisecond)
	wrong.duration("progress every", c.ProgressEvery, time.Millisecond)
	c.Habits.validate(&wrong)
	if c.Habits.Pay > 0 {
		if c.PaymentSecret == "" || c.Price <= 0 || len(c.Currency) != 3 || !plain(c.Currency) {
			wrong.add("pay: needs the merchant's payment secret, a price above zero and a currency of three letters")
		}
	}
	return errors.Join(wrong...)
}

func (h *Habits) validate(wrong *flaws) {
	wrong.shares([]share{
		{"double click", h.DoubleClick}, {"repeat", h.Repeat}, {"second try", h.SecondTry},
		{"pay", h.Pay}, {"pay twice", h.PayTwice}, {"cancel", h.Cancel},
	})
	wrong.endings(h.Pay, h.Cancel)
}

// flaws are the mistakes in a config.
type flaws []error

func (f *flaws) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

func (f *flaws) target(target string) {
	u, err := url.Parse(target)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		f.add("target: %q is not a URL like http://127.0.0.1:8080", target)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.Trim(u.Path, "/") != "":
		f.add("target: %q has more than scheme, host and port", target)
	}
}

func (f *flaws) between(name string, value, low, high int) {
	if value < low || value > high {
		f.add("%s: %d is not between %d and %d", name, value, low, high)
	}
}

func (f *flaws) duration(name string, value, low time.Duration) {
	if value < low || value > maxTime {
		f.add("%s: %v is not between %v and %v", name, value, low, maxTime)
	}
}

// share is a share from 0 to 1, with its name.
type share struct {
	name  string
	value float64
}

func (f *flaws) shares(all []share) {
	for _, s := range all {
		if !(s.value >= 0 && s.value <= 1) { // this form refuses NaN, too
			f.add("%s: %v is not a share between 0 and 1", s.name, s.value)
		}
	}
}

// endings checks the shares of what buyers do with their accepted orders.
func (f *flaws) endings(pay, cancel float64) {
	if pay+cancel > 1 {
		f.add("pay and cancel: are %v together, which is more than all orders", pay+cancel)
	}
}

// plain reports whether s can be put unchanged into a URL path, a header field and a JSON string.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

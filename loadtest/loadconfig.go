package loadtest

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// LoadConfig describes a load: requests that leave on a schedule, whatever the answers are.
// DefaultLoadConfig has a value for everything but the sale and the phases.
type LoadConfig struct {
	// Targets are the base URLs of public listeners of one shop; departures use them in turn.
	Targets []string
	// CallerKeys are sent as bearer tokens. Each purchase comes from one of the callers that see
	// its sale, all equally often.
	CallerKeys []string
	// Items are the items to buy, and Quantity is the number of units per purchase. All activities
	// get the same number of purchases.
	Items    []Item
	Quantity int
	// Zipf is how uneven the demand for an activity's items is: the k-th of Items is bought in
	// proportion to k^-Zipf. 0 means that all are bought equally; in shops it is about 1.
	Zipf float64
	// PaymentSecrets are the payment secrets of the items' merchants. They are needed to pay.
	PaymentSecrets []string

	// Users is the number of users; each purchase is by one of them.
	Users int
	// Seed decides the kind and the user of each departure. It is a part of all names of users and
	// keys.
	Seed uint64
	// Phases have the rates and mixes over time.
	Phases []Phase

	// Connections is the most requests in flight, and the most connections to each target. A
	// departure without a free place leaves as soon as there is one. Its latency counts from the
	// time when it was due.
	Connections int
	// RequestTimeout is how long a request may take before its outcome counts as unknown. A
	// departure that could not leave within it is dropped.
	RequestTimeout time.Duration
	// Attempts is how many times a payment or a cancellation is sent at most, if the answers ask
	// for a repeat or don't come. Purchases are sent once, because their departures are fixed.
	Attempts int
	// PollFor is how long a buyer asks for an order that isn't confirmed.
	PollFor time.Duration
	// VerifyWithin is how long orders may take after the load to read as settled.
	VerifyWithin time.Duration

	// Progress, if set, is called from one goroutine every ProgressEvery and once at the end of
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
		RequestTimeout: 10 * time.Second, // longer than the accept deadline of two seconds, because a slow answer is still an answer
		Attempts:       6,
		PollFor:        10 * time.Second,
		VerifyWithin:   30 * time.Second,
		ProgressEvery:  200 * time.Millisecond,
	}
}

// Limits of a load (L8). Its data grows with accepted orders, its sockets and memory with
// connections.
const (
	maxTargets = 64
	maxCallers = 64     // each reads the page of each activity before the load
	maxItems   = 10_000 // of all activities together
	maxZipf    = 10
	maxUsers   = 1_000_000_000
	maxPhases  = 1_000
	maxRate    = 1_000_000
	maxCount   = 1_000_000_000
)

// Validate returns all mistakes in the config, one on each line.
func (c *LoadConfig) Validate() error {
	var wrong flaws
	if len(c.Targets) < 1 || len(c.Targets) > maxTargets {
		wrong.add("target: %d of them are not between 1 and %d", len(c.Targets), maxTargets)
	}
	for _, target := range c.Targets {
		wrong.target(target)
	}
	if len(c.CallerKeys) < 1 || len(c.CallerKeys) > maxCallers {
		wrong.add("caller-key: is required, and at most %d of them", maxCallers)
	}
	for i, key := range c.CallerKeys {
		if !plain(key) || key == "" { // the key is not shown, because it is secret
			wrong.add("caller-key: number %d is not visible ASCII without quotes and backslashes", i+1)
		}
	}
	if !(c.Zipf >= 0 && c.Zipf <= maxZipf) { // this form refuses NaN, too
		wrong.add("zipf: %v is not between 0 and %d", c.Zipf, maxZipf)
	}
	c.validateItems(&wrong)
	wrong.between("quantity", c.Quantity, 1, 1_000_000)
	wrong.between("users", c.Users, 1, maxUsers)
	wrong.between("connections", c.Connections, 1, maxConcurrency)
	wrong.between("attempts", c.Attempts, 1, maxAttempts)
	wrong.duration("request-timeout", c.RequestTimeout, time.Millisecond)
	wrong.duration("poll-for", c.PollFor, time.Millisecond)
	wrong.duration("verify-within", c.VerifyWithin, time.Millisecond)
	wrong.duration("progress-every", c.ProgressEvery, time.Millisecond)
	c.validatePhases(&wrong)
	return errors.Join(wrong...)
}

// validateItems checks the items to buy.
func (c *LoadConfig) validateItems(wrong *flaws) {
	if len(c.Items) == 0 {
		wrong.add("activity: is required")
	}
	if len(c.Items) > maxItems {
		wrong.add("sku: %d items are more than %d", len(c.Items), maxItems)
	}
	seen := make(map[Item]bool)
	for i := range c.Items {
		item := &c.Items[i]
		name := Item{Activity: item.Activity, SKU: item.SKU}
		switch {
		case item.Activity == "":
			wrong.add("activity: is required")
		case !plain(item.Activity):
			wrong.add("activity: %q has characters other than visible ASCII without quotes and backslashes", item.Activity)
		case !utf8.ValidString(item.SKU) || strings.ContainsFunc(item.SKU, unicode.IsControl):
			wrong.add("sku: %q has characters that nobody can read", item.SKU)
		case seen[name]:
			wrong.add("sku: %s occurs twice", &name)
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
				wrong.add("%s: %d is not between 0 and %d", n.name, n.value, n.high)
			}
		}
		if item.Price > 0 && (len(item.Currency) != 3 || !plain(item.Currency)) {
			wrong.add("currency: %q is not three letters", item.Currency)
		}
	}
}

func (c *LoadConfig) validatePhases(wrong *flaws) {
	before := len(*wrong)
	if len(c.Phases) < 1 || len(c.Phases) > maxPhases {
		wrong.add("phases: %d of them are not between 1 and %d", len(c.Phases), maxPhases)
	}
	total, length := 0.0, time.Duration(0)
	for i := range c.Phases {
		p := &c.Phases[i]
		if p.Duration <= 0 || p.Duration > maxTime {
			wrong.add("duration: %v is not above zero and up to %v", p.Duration, maxTime)
		}
		for _, rate := range []float64{p.From, p.To} {
			if !(rate >= 0 && rate <= maxRate) { // this form refuses NaN, too
				wrong.add("rate: %v is not between 0 and %d a second", rate, maxRate)
			}
		}
		p.Mix.validate(wrong)
		total += (p.From + p.To) / 2 * p.Duration.Seconds()
		length = min(length+p.Duration, 2*maxTime)
	}
	switch {
	case len(*wrong) > before:
	case length > maxTime:
		wrong.add("duration: all phases together are longer than %v", maxTime)
	case total < 1:
		wrong.add("rate: nothing leaves, because it is below one request in the whole time")
	case total > maxCount:
		wrong.add("rate: %.0f requests are more than %d", total, maxCount)
	}
	if c.pays() && (len(c.PaymentSecrets) == 0 || slices.Contains(c.PaymentSecrets, "")) {
		wrong.add("pay: needs the merchant's payment secret")
	}
}

// Validate returns all mistakes in the mix, one on each line.
func (m *Mix) Validate() error {
	var wrong flaws
	m.validate(&wrong)
	return errors.Join(wrong...)
}

func (m *Mix) validate(wrong *flaws) {
	wrong.shares([]share{
		{"browse", m.Browse}, {"repeat", m.Repeat}, {"double-click", m.DoubleClick}, {"poll", m.Poll}, {"pay", m.Pay}, {"cancel", m.Cancel},
	})
	wrong.endings(m.Pay, m.Cancel)
	// Some purchases must be new, so that there is something to repeat.
	if m.Repeat+m.DoubleClick > 0.9 {
		wrong.add("repeat and double-click: are %v together, 0.9 is the most", m.Repeat+m.DoubleClick)
	}
}

// crowd returns the part of the config that crowds and loads share.
func (c *LoadConfig) crowd() Config {
	out := DefaultConfig()
	out.Quantity, out.Buyers, out.Seed = c.Quantity, min(c.Users, maxBuyers), c.Seed
	out.Concurrency, out.RequestTimeout, out.Attempts = c.Connections, c.RequestTimeout, c.Attempts
	out.VerifyWithin = c.VerifyWithin
	return out
}

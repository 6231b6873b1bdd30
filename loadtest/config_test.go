package loadtest

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestConfig_ValidateNamesWhatIsWrong(t *testing.T) {
	sound := func() Config {
		cfg := DefaultConfig()
		cfg.Target, cfg.CallerKey, cfg.Activity, cfg.SKU = "http://127.0.0.1:8080", "key", "a", "s"
		cfg.PaymentSecret, cfg.Price = "secret", 1
		return cfg
	}
	cfg := sound()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"target":          func(c *Config) { c.Target = "127.0.0.1:8080" },
		"target: ":        func(c *Config) { c.Target = "http://host/path?q=1" },
		"caller key":      func(c *Config) { c.CallerKey = "" },
		"activity":        func(c *Config) { c.Activity = `a"b` },
		"sku":             func(c *Config) { c.SKU = "a\nb" },
		"quantity":        func(c *Config) { c.Quantity = 0 },
		"stock":           func(c *Config) { c.Stock = -1 },
		"per user":        func(c *Config) { c.PerUser = -1 },
		"buyers":          func(c *Config) { c.Buyers = maxBuyers + 1 },
		"concurrency":     func(c *Config) { c.Concurrency = 0 },
		"attempts":        func(c *Config) { c.Attempts = 0 },
		"within":          func(c *Config) { c.Within = -time.Second },
		"request timeout": func(c *Config) { c.RequestTimeout = 0 },
		"patience":        func(c *Config) { c.Patience = -1 },
		"deadline":        func(c *Config) { c.Deadline = 0 },
		"verify within":   func(c *Config) { c.VerifyWithin = 48 * time.Hour },
		"progress every":  func(c *Config) { c.ProgressEvery = 0 },
		"double click":    func(c *Config) { c.Habits.DoubleClick = 1.1 },
		"repeat":          func(c *Config) { c.Habits.Repeat = math.NaN() },
		"pay and cancel":  func(c *Config) { c.Habits.Pay, c.Habits.Cancel = 0.6, 0.6 },
		"pay: needs":      func(c *Config) { c.PaymentSecret = "" },
	} {
		cfg := sound()
		change(&cfg)
		if _, err := NewCrowd(cfg); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", want, err)
		}
	}
	bad := Config{}
	if got := strings.Count(bad.Validate().Error(), "\n"); got < 8 {
		t.Errorf("%d mistakes named of an empty config: all of them are wanted at once", got+1)
	}
}

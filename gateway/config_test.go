package gateway

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultConfigIsValid(t *testing.T) {
	for files, want := range map[uint64][3]int{0: {65536, 8192, 4096}, 1024: {512, 448, 224}, 20000: {10000, 8192,
		4096}, 1 << 20: {65536, 8192, 4096}} {
		cfg, err := DefaultConfig().derive(files)
		if err != nil {
			t.Errorf("%d files: %v", files, err)
		}
		if got := [3]int{cfg.MaxConnections, cfg.MaxInFlight, cfg.MaxWaiting}; got != want {
			t.Errorf("%d files: %v, want %v", files, got, want)
		}
	}
}

func TestBadConfigs(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		cfg := DefaultConfig()
		change(&cfg)
		if _, err := cfg.derive(1024); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f(func(c *Config) { c.MaxBody = 0 }, "max-body: must be at least 1024")
	f(func(c *Config) { c.ReadBuffer = 100 }, "read-buffer: must be at least 1024")
	f(func(c *Config) { c.WriteBuffer = 100 }, "write-buffer: must be at least 1024")
	f(func(c *Config) { c.ReadTimeout = 0 }, "read-timeout: must be above zero")
	f(func(c *Config) { c.WriteTimeout = 0 }, "write-timeout: must be above zero")
	f(func(c *Config) { c.IdleTimeout = -1 }, "idle-timeout: must be above zero")
	f(func(c *Config) { c.MaxWait = -1 }, "max-wait: must not be below zero")
	f(func(c *Config) { c.DrainDelay = -1 }, "drain-delay: must not be below zero")
	f(func(c *Config) { c.StockAge = -1 }, "stock-age: must not be below zero")
	f(func(c *Config) { c.RequestTimeout = 10 * time.Second }, "request-timeout: 10s must be longer than max-wait, 10s")
	f(func(c *Config) { c.MaxConnections = 513 }, "max-connections: 513 must be at most 512, half of the file limit")
	f(func(c *Config) { c.MaxConnections = -1 }, "max-connections: must be at least 0")
	f(func(c *Config) { c.MaxInFlight = 512 }, "max-in-flight: 512 must be below max-connections, 512")
	f(func(c *Config) { c.MaxInFlight, c.MaxWaiting = 10, 11 }, "max-waiting: 11 must not be above max-in-flight, 10")
	f(func(c *Config) { c.MaxPerAddress = -1 }, "max-connections-per-address: must be at least 0")
	f(func(c *Config) { c.MaxPerAddress = 513 }, "max-connections-per-address: 513 must not be above max-connections, 512")
	if _, err := DefaultConfig().derive(3); err == nil {
		t.Error("three files are enough")
	}
}

package node

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/inventory"
)

// The parts make these checks when they are opened. This file makes them earlier, because `config
// check` must refuse whatever `serve` refuses, with the key.

// checkListen returns the mistake in an address to listen on.
func checkListen(key, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port; an IPv6 address stands in brackets", key, addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: %q is not a port from 0 to 65535", key, port)
	} else if strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%s: port %q must be written without zeros in front", key, port)
	}
	name, _, _ := strings.Cut(host, "%") // an IPv6 zone may be any text
	odd := strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(".:_-", r)
	})
	if odd || strings.Contains(name, ":") && net.ParseIP(name) == nil {
		return fmt.Errorf("%s: %q is neither an address nor the name of a host", key, host)
	}
	return nil
}

// validateParts checks the values by the parts' own rules.
func (c *Config) validateParts() []error {
	_, gateway := c.Gateway.Resolve()
	errs := Apart(gateway)
	stock := inventory.Config{
		Addrs: []string{"any"}, Poll: c.Sale.Tick, MaxKnown: c.MaxKnown, MinReplicas: c.MinReplicas,
		MaxReplicaLag: max(c.Sale.ReplicaLag, 1), // a missing value has its own error
	}
	errs = append(errs, named(stock.Validate(), map[string]string{
		"poll": "tick", "max known": "max-known", "min replicas": "redis-min-replicas",
	})...)
	if c.Sale.BatchCap > inventory.MaxCall {
		errs = append(errs, fmt.Errorf("batch-cap: must be at most %d, not %d", inventory.MaxCall, c.Sale.BatchCap))
	}
	queue := kafka.Config{
		Brokers: []string{"any"}, Topic: c.KafkaTopic, Group: "any", Partitions: c.Partitions, Replication: c.Replication, Slots: c.Slots,
	}
	errs = append(errs, named(queue.Validate(), map[string]string{
		"slots": "slots", "partitions": "kafka-partitions", "replication": "kafka-replication", "topic": "kafka-topic",
	})...)
	errs = append(errs, Apart((admin.Config{Token: c.AdminToken}).ValidateToken())...)
	if short := c.ShortToken(); short != "" && !local(c.AdminListen) {
		errs = append(errs, fmt.Errorf("admin-token: %s; %s is reached from other machines", short, c.AdminListen))
	}
	// Breakers take these times as the longest that a call may take.
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"accept-deadline", c.Sale.AcceptDeadline}, {"store-timeout", c.Sale.StoreTimeout}} {
		if d.value > 0 && (d.value < time.Millisecond || d.value > time.Hour) {
			errs = append(errs, fmt.Errorf("%s: must be from 1ms to 1h, not %v", d.key, d.value))
		}
	}
	for _, t := range []struct{ key, topic string }{
		{"kafka-topic", c.KafkaTopic}, {"stock-status-topic", c.Announce.StockTopic}, {"order-events-topic", c.Announce.OrderTopic},
	} {
		if t.topic != "" && !isTopic(t.topic) {
			errs = append(errs, fmt.Errorf("%s: %q is not the name of a topic: 1 to 249 letters, digits and ._-", t.key, t.topic))
		}
	}
	if c.KafkaTopic == "" {
		errs = append(errs, fmt.Errorf("kafka-topic: is required"))
	}
	if len(c.validateDatabase()) == 0 && c.Database != "" {
		if err := (&postgres.Config{URL: c.Database}).Validate(); err != nil {
			errs = append(errs, fmt.Errorf("database: %w", err))
		}
	}
	return errs
}

// named replaces the field at the beginning of a part's mistake by the setting's key.
func named(err error, keys map[string]string) []error {
	var out []error
	for _, err := range Apart(err) {
		for field, key := range keys {
			if strings.HasPrefix(err.Error(), field+" ") || strings.HasPrefix(err.Error(), field+":") {
				err = fmt.Errorf("%s: %w", key, err)
				break
			}
		}
		if !slices.ContainsFunc(out, func(other error) bool { return other.Error() == err.Error() }) {
			out = append(out, err)
		}
	}
	return out
}

// isTopic reports whether Kafka accepts a name as a topic's name.
func isTopic(name string) bool {
	return len(name) <= 249 && name != "." && name != ".." && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("._-", r)
	})
}

// leastToken is the least length of an admin token that can't be guessed: 16 random hex characters
// are 64 bits, and guesses cost only requests.
const leastToken = 16

// ShortToken returns a warning if the configured admin token is too short, and "" otherwise.
func (c *Config) ShortToken() string {
	if c.AdminToken == "" || len(c.AdminToken) >= leastToken {
		return ""
	}
	return fmt.Sprintf("the admin token has fewer than %d characters and can be guessed: make one with openssl rand -hex 24", leastToken)
}

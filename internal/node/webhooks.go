package node

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/webhook"
)

// openWebhooks makes the sender of webhooks. Workers send nothing, but can report the state of the
// deliveries.
func (n *Node) openWebhooks() error {
	networks, err := n.cfg.webhookNetworks()
	if err != nil {
		return badSetting(err)
	}
	config := webhook.DefaultConfig()
	version, _, _ := strings.Cut(n.cfg.Version, " ")
	config.Node, config.Agent, config.Policy = n.name(), "penstock/"+strings.Trim(version, "()"), webhook.Policy{Networks: networks}
	config.Open = func(sealed, owner string) (string, error) { return n.vault.Open(sealed, owner) }
	config.Trace = n.trace
	var owners webhook.Owners
	if n.cfg.Real() { // the embedded parts serve only this node
		owners = n.servers.stock
	}
	n.control.webhooks, err = webhook.New(config, owners, n.servers.stock, part(n.root, "webhooks"))
	return err
}

// applyWebhooks puts the receivers in force.
func (n *Node) applyWebhooks(d settings.Document, _ settings.Moment) (next time.Time, err error) {
	document, err := webhook.ParseDocument(d.Body)
	if err != nil {
		return time.Time{}, err
	}
	n.control.webhooks.Apply(document)
	return time.Time{}, nil
}

// webhookNetworks returns the private networks of receivers.
func (c *Config) webhookNetworks() ([]netip.Prefix, error) {
	return networks("webhook-networks", c.WebhookNetworks)
}

// networks reads the addresses and networks in a setting.
func networks(key string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if addr, err2 := netip.ParseAddr(text); err2 == nil && addr.Zone() == "" {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || network.Addr().Is4In6() {
			return nil, fmt.Errorf("%s: %q is neither an address nor a network like 10.0.0.0/8", key, text)
		}
		out = append(out, network.Masked())
	}
	return out, nil
}

// webhookMetrics returns the metrics of this node's deliveries.
func (n *Node) webhookMetrics() []admin.Sample {
	var out []admin.Sample
	for name, s := range n.control.webhooks.Own() {
		label := admin.Label{Name: "webhook", Value: name}
		out = append(out,
			gauge("penstock_webhook_waiting_events", "Events that wait for a receiver, including those that another gateway will send.",
				int64(s.Waiting), label),
			counter("penstock_webhook_sent_total", "Events that a receiver accepted from this gateway.", s.Sent, label),
			counter("penstock_webhook_given_up_total", "Events that a receiver never got: refused, too old, or too many.", s.GivenUp, label))
	}
	return out
}

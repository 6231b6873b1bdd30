package node

import (
	"fmt"
)

// The values of the setting events.
const (
	eventsOn  = "on"
	eventsOff = "off"
)

// EventsConfig configures the events for other systems.
type EventsConfig struct {
	Events     string // eventsOn or eventsOff
	StockTopic string
	OrderTopic string
	Source     string
}

func defaultEventsConfig() EventsConfig {
	return EventsConfig{Events: eventsOn, StockTopic: "stock-status", OrderTopic: "order-events", Source: "/penstock"}
}

// announces reports whether events are published for other systems.
func (c *Config) announces() bool { return c.Real() && c.Announce.Events == eventsOn }

// validateEvents checks the settings of events.
func (c *Config) validateEvents() []error {
	var errs []error
	a := &c.Announce
	if a.Events != eventsOn && a.Events != eventsOff {
		errs = append(errs, fmt.Errorf("events: %q is neither on nor off", a.Events))
	}
	for _, required := range []struct{ key, value string }{
		{"events-source", a.Source}, {"stock-status-topic", a.StockTopic}, {"order-events-topic", a.OrderTopic},
	} {
		if required.value == "" {
			errs = append(errs, fmt.Errorf("%s: is required", required.key))
		}
	}
	if a.StockTopic == c.KafkaTopic {
		errs = append(errs, fmt.Errorf("stock-status-topic: %s is the topic of the accepted orders", a.StockTopic))
	}
	if a.OrderTopic == c.KafkaTopic || a.OrderTopic == a.StockTopic {
		errs = append(errs, fmt.Errorf("order-events-topic: %s is another topic already", a.OrderTopic))
	}
	return errs
}

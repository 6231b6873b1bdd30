package main

import (
	"context"
	"fmt"
	"time"

	"penstock/gateway/admin"
	"penstock/internal/kafka"
	"penstock/seckill"
)

// The values of the setting events.
const (
	eventsOn  = "on"
	eventsOff = "off"
)

// EventsConfig says whether and where other systems are told of a sale.
type EventsConfig struct {
	Events     string // eventsOn or eventsOff
	StockTopic string
	OrderTopic string
	Source     string
}

func defaultEventsConfig() EventsConfig {
	return EventsConfig{Events: eventsOn, StockTopic: "stock-status", OrderTopic: "order-events", Source: "/penstock"}
}

// eventSettings are about what other systems hear.
func eventSettings() []setting {
	return []setting{
		{key: "events", value: func(c *Config) any { return &c.Announce.Events },
			help: "on or off: publish stock status and orders' steps to Kafka for other systems; on real servers only"},
		{key: "events-source", value: func(c *Config) any { return &c.Announce.Source },
			help: "ce_source of these events: a URI reference that names this installation"},
		{key: "stock-status-topic", value: func(c *Config) any { return &c.Announce.StockTopic },
			help: "topic of the stock status; made where it is missing"},
		{key: "order-events-topic", value: func(c *Config) any { return &c.Announce.OrderTopic },
			help: "topic of orders' steps; made where it is missing"},
	}
}

// announces reports whether other systems are told.
func (c *Config) announces() bool { return c.real() && c.Announce.Events == eventsOn }

// validateEvents checks what is said of events.
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

// announcements are the parts of a worker that tell other systems.
type announcements struct {
	publisher *kafka.Events
	relay     *seckill.EventRelay
	herald    *seckill.Herald
}

// openEvents makes what publishes events to the brokers of queue. It asks nothing of them yet: a sale doesn't wait for who hears of it.
func (p *Process) openEvents(queue kafka.Config) error {
	if !p.cfg.announces() || p.role&RoleWorker == 0 {
		return nil
	}
	a := &p.cfg.Announce
	publisher, err := kafka.NewEvents(queue, kafka.EventsConfig{StockTopic: a.StockTopic, OrderTopic: a.OrderTopic, Source: a.Source})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	p.opened("events", publisher.Close)
	p.events = &announcements{publisher: publisher}
	return nil
}

// joinEvents joins what tells other systems with the sale.
func (p *Process) joinEvents() {
	if p.events == nil {
		return
	}
	if steps, ok := p.store.(seckill.EventStore); ok {
		p.events.relay = seckill.NewEventRelay(p.cfg.Sale, steps, p.events.publisher, p.log)
	}
	p.events.herald = seckill.NewHerald(p.cfg.Sale, p.desk.Catalog, p.stock.Seen, p.events.publisher, p.log)
	p.herald.Store(p.events.herald)
}

// crossed tells the herald that an item came or went.
func (p *Process) crossed() {
	if herald := p.herald.Load(); herald != nil {
		herald.Nudge()
	}
}

// runs are what works by itself.
func (a *announcements) runs() []func(context.Context) {
	if a == nil {
		return nil
	}
	runs := []func(context.Context){a.herald.Run}
	if a.relay != nil {
		runs = append(runs, a.relay.Run)
	}
	return runs
}

// eventMetrics are about what other systems were told.
func (p *Process) eventMetrics() []admin.Sample {
	if p.events == nil {
		return nil
	}
	var out []admin.Sample
	add := func(stream string, counts *seckill.AnnounceCounts) {
		label := admin.Label{Name: "stream", Value: stream}
		out = append(out,
			counter("penstock_events_announced_total", "Events published for other systems.", counts.Announced.Load(), label),
			counter("penstock_events_failed_total", "Announcements that failed and are repeated.", counts.Failed.Load(), label))
	}
	add("stock-status", p.events.herald.Counts())
	if p.events.relay == nil {
		return out
	}
	add("order-events", p.events.relay.Counts())
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	if steps, ok := p.store.(seckill.EventStore); ok {
		if waiting, err := steps.EventsWaiting(ctx); err == nil { // unknown is not zero
			out = append(out, seconds("penstock_order_events_waiting_seconds",
				"How long the oldest unpublished step of an order has waited.", waiting))
		}
	}
	return out
}

func seconds(name, help string, d time.Duration) admin.Sample {
	return admin.Sample{Name: name, Help: help, Kind: admin.Gauge, Value: d.Seconds()}
}

// lagMetrics say how far the workers are behind. What the broker doesn't tell is left out: unknown is not zero.
func (p *Process) lagMetrics() []admin.Sample {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var out []admin.Sample
	if lag, err := p.queue.Lag(ctx); err == nil {
		out = append(out, gauge("penstock_queue_lag_records", "Accepted records that no worker has committed.", lag))
	}
	if p.role&RoleWorker != 0 {
		var age time.Duration
		if oldest := p.queue.Stats().Oldest; !oldest.IsZero() {
			age = max(0, time.Since(oldest))
		}
		out = append(out, seconds("penstock_queue_oldest_record_age_seconds",
			"Age of the oldest record that this worker has taken and not committed, on its producer's clock.", age))
	}
	return out
}

// warnUnsafe names what is good enough for trying, and not for production.
func (p *Process) warnUnsafe() {
	for _, what := range append(p.cfg.exposed(), p.queue.Unsafe()...) {
		p.log.Warn("not for production", "what", what)
	}
}

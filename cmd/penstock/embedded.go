package main

import (
	"context"
	"fmt"

	"penstock/internal/embedded"
	"penstock/internal/kafka"
	"penstock/internal/sqlite"
	"penstock/inventory"
)

// openEmbedded opens the parts that stand in for the servers of a larger installation.
func (p *Process) openEmbedded(ctx context.Context) error {
	parts, err := embedded.Open(ctx, embedded.Config{DataDir: p.cfg.DataDir, Durable: p.cfg.Durable, Logger: p.log})
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("data-dir: %w", err)}
	}
	p.opened("embedded parts", func(context.Context) error { return parts.Close() })
	synchronous := "normal"
	if p.cfg.Durable {
		synchronous = "full"
	}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: parts.DatabasePath(), Synchronous: synchronous, Logger: p.log})
	if err != nil {
		return &exitError{exitDependency, fmt.Errorf("database: %w", err)}
	}
	p.store, p.documents = store, store
	p.opened("database", func(context.Context) error { return store.Close() })
	if p.queue, err = kafka.Open(ctx, parts.QueueConfig(p.cfg.Slots)); err != nil {
		return &exitError{exitDependency, fmt.Errorf("queue: %w", err)}
	}
	p.opened("queue", p.queue.Close)
	return p.openStock(ctx, inventory.Config{Addrs: []string{parts.RedisAddr()}, Password: parts.RedisPassword()})
}

// openStock opens the stock on the Redis that config names.
func (p *Process) openStock(ctx context.Context, config inventory.Config) error {
	config.Cap, config.Poll, config.MaxKnown, config.Logger = p.cfg.Sale.BatchCap, p.cfg.Sale.Tick, p.cfg.MaxKnown, p.log
	config.OnEpoch = func(inventory.ItemID, inventory.Epoch) { p.nudge() }
	config.OnCrossing = func(inventory.ItemID, bool) { p.crossed() }
	config.OnRing, config.Guard = p.rung, p.breakers.redis.Do
	config.OnLost = func(ref inventory.Ref) {
		select {
		case p.lost <- ref:
		default: // it will be seen lost again
		}
	}
	stock, err := inventory.Open(ctx, config)
	if err != nil {
		return &exitError{exitDependency, fmt.Errorf("stock: %w", err)}
	}
	p.stock = stock
	p.opened("stock", func(context.Context) error { stock.Stop(); return nil })
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"penstock/internal/kafka"
	"penstock/internal/postgres"
	"penstock/inventory"
)

// openReal opens the parts on real servers. One that is away is named and waited for.
func (p *Process) openReal(ctx context.Context) error {
	database := "database " + databaseName(p.cfg.Database)
	err := p.await(ctx, database, func(ctx context.Context) error {
		store, err := postgres.Open(ctx, postgres.Config{
			URL: p.cfg.Database, Events: p.cfg.announces(), KeepSchema: p.cfg.KeepSchema, Logger: p.log,
		})
		if err != nil {
			return err
		}
		p.store, p.documents = store, store
		p.opened("database", func(context.Context) error { return store.Close() })
		return nil
	})
	if err != nil {
		return err
	}
	queue, err := p.queueConfig()
	if err != nil {
		return err
	}
	err = p.await(ctx, "kafka "+strings.Join(p.cfg.Kafka, ","), func(ctx context.Context) (err error) {
		if p.queue, err = kafka.Open(ctx, queue); err == nil {
			p.opened("queue", p.queue.Close)
		}
		return err
	})
	if err != nil {
		return err
	}
	p.warnUnsafe()
	if err := p.openEvents(queue); err != nil {
		return err
	}
	secure, err := p.cfg.redisTLS()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	return p.await(ctx, "redis "+strings.Join(p.cfg.Redis, ","), func(ctx context.Context) error {
		return p.openStock(ctx, inventory.Config{
			Addrs: p.cfg.Redis, MasterName: p.cfg.RedisMaster, Username: p.cfg.RedisUser, Password: p.cfg.RedisSecret,
			SentinelUsername: p.cfg.SentinelUser, SentinelPassword: p.cfg.SentinelSecret, TLS: secure, MinReplicas: p.cfg.MinReplicas,
		})
	})
}

// queueConfig is how the queue reaches Kafka.
func (p *Process) queueConfig() (kafka.Config, error) {
	secure, err := p.cfg.kafkaTLS()
	if err != nil {
		return kafka.Config{}, &exitError{exitUsage, err}
	}
	return kafka.Config{
		TLS: secure, SASL: p.cfg.kafkaSASL(),
		Brokers: p.cfg.Kafka, Topic: p.cfg.KafkaTopic, Group: p.cfg.KafkaTopic + "-workers",
		Partitions: p.cfg.Partitions, Replication: p.cfg.Replication, Slots: p.cfg.Slots, Logger: p.log,
	}, nil
}

// tryTimeout bounds one try to open a server, and tryPause is the pause before the next.
const (
	tryTimeout = 10 * time.Second
	tryPause   = 500 * time.Millisecond
)

// await opens a server, again and again until it is there or cfg.Wait is over. What waiting can't mend ends it at once.
func (p *Process) await(ctx context.Context, name string, open func(context.Context) error) error {
	deadline := time.Now().Add(p.cfg.Wait)
	for tries := 0; ; tries++ {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := open(try)
		cancel()
		switch {
		case err == nil:
			if tries > 0 {
				p.log.Info("server is there", "server", name)
			}
			return nil
		case ctx.Err() != nil, hopeless(err), time.Now().After(deadline):
			return &exitError{exitDependency, fmt.Errorf("%s: %w", name, err)}
		case tries == 0:
			p.log.Warn("waiting for a server", "server", name, "wait", p.cfg.Wait, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(tryPause):
		}
	}
}

// hopeless reports whether a server answered, and will not answer otherwise for as long as it is set up like this.
func hopeless(err error) bool {
	var evicts *inventory.EvictionError
	if errors.As(err, &evicts) {
		return true
	}
	for _, final := range []error{kafka.ErrTopic, postgres.ErrNewerSchema, postgres.ErrServer} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// databaseName is where a database is, and what it is called: nothing else of its URL, since passwords have more than one place there.
func databaseName(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(unreadable URL)"
	}
	host := u.Host[strings.LastIndexByte(u.Host, '@')+1:]
	return u.Scheme + "://" + host + u.EscapedPath()
}

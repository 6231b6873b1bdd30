package inventory

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// EvictionError says that a Redis may throw keys away when its memory is full. Stock must not vanish: its maxmemory-policy has
// to be noeviction.
type EvictionError struct {
	Addr   string
	Policy string
}

// Error implements error.
func (e *EvictionError) Error() string {
	return fmt.Sprintf("redis %s has maxmemory-policy %s and may evict stock: set it to noeviction", e.Addr, e.Policy)
}

// Open reaches the Redis that cfg names and returns a Stock on it, which watches nothing yet. It fails where the Redis can't be
// reached, may evict keys (*EvictionError), or doesn't let it subscribe.
func Open(ctx context.Context, cfg Config) (*Stock, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	cfg = cfg.WithDefaults()
	scripts, err := loadScripts()
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(clientOption(cfg))
	if err != nil {
		return nil, fmt.Errorf("redis %v: %w", cfg.Addrs, err)
	}
	s := &Stock{
		cfg: cfg, client: client, scripts: scripts, channel: cfg.Prefix + ":crossings", bell: cfg.Prefix + ":rings", began: time.Now(),
		direct: make(chan struct{}, maxDirect), syncs: make(chan struct{}, maxSyncs), events: make(chan event, maxEvents),
		seen: make(map[Ref]uint64), dropping: make(map[*view]bool),
	}
	s.views.Store(&map[ItemID]*view{})
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("redis %v: %w", cfg.Addrs, err)
	}
	return s, nil
}

// clientOption is how the package uses rueidis.
func clientOption(cfg Config) rueidis.ClientOption {
	option := rueidis.ClientOption{
		InitAddress: cfg.Addrs,
		Username:    cfg.Username,
		Password:    cfg.Password,
		TLSConfig:   cfg.TLS,
		ClientName:  "penstock-inventory",
		// A second: by default a dead Redis is noticed after ten.
		ConnWriteTimeout: time.Second,
		// Without it a ctx that ends closes the connection, and a slow Redis gets a storm of new ones.
		AlwaysPipelining: true,
		// Nothing is repeated behind our back: the caller knows what may be.
		DisableRetry: true,
		// Nothing is cached by the client: views know better what is news.
		DisableCache: true,
		// RESP2 has a connection of its own for messages, so that they neither wait for replies nor hold them up.
		AlwaysRESP2: true,
	}
	option.ClusterOption.ShardsRefreshInterval = 10 * time.Second
	option.ClusterOption.MaxMovedRedirections = 3
	if cfg.MasterName != "" {
		option.Sentinel.MasterSet = cfg.MasterName
		option.Sentinel.Username, option.Sentinel.Password = cfg.SentinelUsername, cfg.SentinelPassword
		option.Sentinel.TLSConfig = cfg.TLS
		// A missed +switch-master would leave us on the old master for ever.
		option.Sentinel.TopologyRefreshInterval = 5 * time.Second
	}
	return option
}

// start checks the Redis and starts the background goroutines. ctx limits the checks, not the goroutines.
func (s *Stock) start(ctx context.Context) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.spawn = func(work func(ctx context.Context)) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.stopped {
			return false
		}
		s.wg.Go(func() { work(run) })
		return true
	}
	ctx, cancelChecks := context.WithTimeout(ctx, startTimeout)
	defer cancelChecks()
	if err := s.client.Do(ctx, s.client.B().Ping().Build()).Error(); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if err := s.checkEviction(ctx); err != nil {
		return err
	}
	ready := make(chan error, 1)
	s.spawn(func(ctx context.Context) { s.listen(ctx, ready) })
	s.spawn(s.deliver)
	s.spawn(s.poll)
	select {
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", s.channel, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("subscribe to %s: %w", s.channel, ctx.Err())
	}
}

// startTimeout is how long Open's checks may take.
const startTimeout = 5 * time.Second

// checkEviction refuses servers that may evict.
func (s *Stock) checkEviction(ctx context.Context) error {
	for addr, node := range s.client.Nodes() {
		values, err := node.Do(ctx, node.B().ConfigGet().Parameter("maxmemory-policy").Build()).AsStrMap()
		if refused, ok := rueidis.IsRedisErr(err); ok && unsupported(refused) {
			s.cfg.Logger.Warn("redis doesn't tell its maxmemory-policy; it must be noeviction", "addr", addr, "err", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("ask %s for its maxmemory-policy, which must be noeviction: %w", addr, err)
		}
		if policy := values["maxmemory-policy"]; policy != "noeviction" {
			return &EvictionError{Addr: addr, Policy: policy}
		}
	}
	return nil
}

// Stop ends the Stock: calls after it fail, those in flight finish, and it returns when no goroutine is left. It may be
// called more than once.
func (s *Stock) Stop() {
	s.mu.Lock()
	s.stopped = true
	views := *s.views.Swap(&map[ItemID]*view{})
	for _, v := range views {
		s.dropping[v] = true
	}
	s.mu.Unlock()
	for _, v := range views {
		v.drop()
	}
	s.cancel()
	still := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(still)
	}()
	select {
	case <-still:
	case <-time.After(2 * s.cfg.CallTimeout): // the client hasn't noticed: what it does ends with it
	}
	s.client.Close()
	<-still
}

package inventory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/rueidis"

	"github.com/penstock/penstock/internal/wait"
)

// Open returns a Stock on the Redis that cfg names. The Stock watches nothing yet. Open waits
// startTimeout for Redis to answer. If it can't be reached, or only in part, the Stock is returned
// anyway: it connects when it can, its calls fail until then, and Ready says what is missing. Open
// fails if cfg is invalid, or if Redis answers that it must not be used: it may evict keys, or it
// replicates less than cfg says (both *SafetyError), or this user may not log in or subscribe.
func Open(ctx context.Context, cfg Config) (*Stock, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	cfg = cfg.WithDefaults()
	scripts, err := loadScripts()
	if err != nil {
		return nil, err
	}
	s := &Stock{
		cfg: cfg, scripts: scripts, keys: newShardKeys(cfg.Prefix), channel: cfg.Prefix + ":crossings", bell: cfg.Prefix + ":rings",
		began: time.Now(), direct: make(chan struct{}, maxDirect), syncs: make(chan struct{}, maxSyncs),
		events: make(chan event, maxEvents), kicks: make(chan struct{}, 1), dropping: make(map[*view]bool),
	}
	s.lanes.Store(new(layout))
	s.views.Store(new([MaxShards]*view))
	s.health.init()
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("redis %v: %w", cfg.Addrs, err)
	}
	return s, nil
}

// startTimeout is how long Open waits for the Redis.
const startTimeout = 5 * time.Second

// start starts the background goroutines and waits for the first look at the Redis. ctx limits the
// wait, not the goroutines.
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
	first := make(chan error, 1)
	s.spawn(s.deliver)
	s.spawn(s.poll)
	s.spawn(func(ctx context.Context) { s.attend(ctx, first) })
	ctx, cancelWait := context.WithTimeout(ctx, startTimeout)
	defer cancelWait()
	var err error
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	if wrongly := wrong(err); wrongly != nil {
		return wrongly
	}
	s.cfg.Logger.Warn("the Redis is not ready; the start continues without it", "addrs", s.cfg.Addrs, "err", err)
	return nil
}

// wrong returns the part of err that says that the configuration is wrong, or nil. It is an answer
// of a server that will not change with time.
func wrong(err error) error {
	var safety *SafetyError
	if errors.As(err, &safety) || errors.Is(err, ErrForeign) {
		return err
	}
	var refused *rueidis.RedisError
	if errors.As(err, &refused) && ReplyOf(refused) == ReplyRefused {
		return err
	}
	return nil
}

// clientOption is how the package uses rueidis.
func clientOption(cfg Config) rueidis.ClientOption {
	option := rueidis.ClientOption{
		InitAddress: cfg.Addrs,
		Username:    cfg.Username,
		Password:    cfg.Password,
		TLSConfig:   cfg.TLS,
		ClientName:  "penstock-inventory",
		// One second, because by default a dead Redis is noticed only after ten.
		ConnWriteTimeout: time.Second,
		// Without it, a ctx that ends closes the connection, and a slow Redis gets very many new
		// connections.
		AlwaysPipelining: true,
		// The client must not repeat calls, because the caller decides which calls may be repeated.
		DisableRetry: true,
		// The client must not cache, because views know better when data is old.
		DisableCache: true,
		// With RESP2, messages have a connection of their own. So messages and replies don't wait
		// for each other.
		AlwaysRESP2: true,
	}
	option.Dialer.Timeout = dialTimeout
	if cfg.Dial != nil {
		option.ForceSingleClient = true
		option.DialCtxFn = func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return cfg.Dial(ctx)
		}
	}
	option.ClusterOption.ShardsRefreshInterval = attendEvery
	option.ClusterOption.MaxMovedRedirections = 3
	if cfg.MasterName != "" {
		option.Sentinel.MasterSet = cfg.MasterName
		option.Sentinel.Username, option.Sentinel.Password = cfg.SentinelUsername, cfg.SentinelPassword
		option.Sentinel.TLSConfig = cfg.TLS
		// Without it, a missed +switch-master would leave us on the old master for ever.
		option.Sentinel.TopologyRefreshInterval = 5 * time.Second
	}
	return option
}

// dialTimeout is how long a connection may take. Stop waits for a connection that is being made.
const dialTimeout = 2 * time.Second

// conn returns the client, or an error if the Redis was not reached yet.
func (s *Stock) conn() (rueidis.Client, error) {
	if client := s.client.Load(); client != nil {
		return *client, nil
	}
	return nil, fmt.Errorf("redis %v was not reached yet: %w", s.cfg.Addrs, s.health.why())
}

// attend connects to the Redis, subscribes, and looks at its servers regularly, until ctx ends. It
// sends the result of the first attempt to first.
func (s *Stock) attend(ctx context.Context, first chan<- error) {
	client := s.connect(ctx, first)
	if client == nil {
		return
	}
	s.client.Store(&client)
	heard := make(chan error, 1)
	if !s.spawn(func(ctx context.Context) { s.listen(ctx, client, heard) }) {
		return
	}
	var err error
	select {
	case err = <-heard:
	case <-ctx.Done():
		return
	}
	err = errors.Join(err, s.examine(ctx), s.checkOwner(ctx, client))
	select {
	case first <- err:
	default:
	}
	for {
		every := attendEvery
		if !s.health.well() {
			every = attendSoon
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.kicks:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		_ = s.examine(ctx) // the error is kept in health
		if err := s.checkOwner(ctx, client); err != nil {
			s.emit(event{kind: eventForeign, err: err}) // if there is no room for the event, the next look sends it
		}
		if !wait.For(ctx, attendPause) {
			return
		}
	}
}

// The pace of attend: how often it looks, also while a server isn't well, and its pause between two
// looks, no matter how often it is kicked.
const (
	attendEvery = 10 * time.Second
	attendSoon  = time.Second
	attendPause = 250 * time.Millisecond
)

// kick makes attend look at the servers soon.
func (s *Stock) kick() {
	select {
	case s.kicks <- struct{}{}:
	default:
	}
}

// connect tries to reach the Redis until it succeeds. It returns nil when ctx has ended.
func (s *Stock) connect(ctx context.Context, first chan<- error) rueidis.Client {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		client, err := rueidis.NewClient(clientOption(s.cfg))
		if ctx.Err() != nil {
			if err == nil {
				client.Close()
			}
			return nil
		}
		if err == nil {
			return client
		}
		s.health.away(err)
		select {
		case first <- err:
		default:
		}
		if !wait.For(ctx, pause) {
			return nil
		}
	}
}

// Stop ends the Stock: calls after it fail, those in flight finish, and it returns when no
// goroutine is left. It may be called more than once.
func (s *Stock) Stop() {
	s.mu.Lock()
	s.stopped = true
	views := s.views.Swap(new([MaxShards]*view))
	for _, v := range views {
		if v != nil {
			s.dropping[v] = true
		}
	}
	s.mu.Unlock()
	for _, v := range views {
		if v != nil {
			v.drop()
		}
	}
	s.cancel()
	still := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(still)
	}()
	select {
	case <-still:
	case <-time.After(2 * s.cfg.CallTimeout): // the client hasn't noticed the end yet: its calls end with it
	}
	if client := s.client.Load(); client != nil {
		(*client).Close()
	}
	<-still
}

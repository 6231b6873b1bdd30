package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/internal/wait"
)

// Config is a sender's. DefaultConfig gives the values for production.
type Config struct {
	Node    string // names this node in owners and on the board
	Agent   string // User-Agent of the posts
	Policy  Policy
	Queue   int           // events that may wait for a receiver
	Timeout time.Duration // of one post, from the dial to the header of the answer
	First   time.Duration // pause after an attempt that failed; the next ones are twice as long each, by half of chance
	Longest time.Duration // pause
	GiveUp  time.Duration // age at which an event is dropped
	Peek    time.Duration // how often a node asks whether another one has sent an event
	// Open decrypts the secret of a hook. It must not block.
	Open func(sealed, owner string) (string, error)
	// Trace records posts; nil records none.
	Trace *trace.Tracer
}

// DefaultConfig returns the values for production; Node, Policy and Open are the caller's.
func DefaultConfig() Config {
	return Config{
		Agent: "penstock", Queue: 256, Timeout: 5 * time.Second, First: time.Second, Longest: 2 * time.Minute, GiveUp: time.Hour,
		Peek: 2 * time.Second,
	}
}

// Validate checks the values.
func (c Config) Validate() error {
	if c.Node == "" || c.Open == nil || c.Queue <= 0 || c.Timeout <= 0 || c.First <= 0 || c.Longest < c.First || c.GiveUp <= 0 || c.Peek <= 0 {
		return errors.New("webhook: a node, a way to open secrets, and sizes and times above zero are needed")
	}
	return nil
}

// Owners gives each event to one node; *inventory.Stock has them in Redis. Methods are safe for
// concurrent use.
type Owners interface {
	// Own gives a name to owner for a time, or prolongs that where owner has it, and returns the
	// owner there is.
	Own(ctx context.Context, name, owner string, d time.Duration) (string, error)
	// Assign gives a name to owner, even if another one owns it.
	Assign(ctx context.Context, name, owner string, d time.Duration) error
	// Release ends the ownership of a name, whoever its owner is.
	Release(ctx context.Context, name string) error
}

// done is the owner of sent events. No node has that name: names of nodes have an @.
const done = "done"

// Board has records that nodes leave for one another; *inventory.Stock implements it in Redis.
type Board interface {
	Pin(ctx context.Context, board, name, text string) error
	Unpin(ctx context.Context, board string, names ...string) error
	Notes(ctx context.Context, board string) (map[string]string, error)
}

// boardStates has the states of each node, by its name.
const boardStates = "webhooks"

// Sender sends events to receivers. Its methods are safe for concurrent use.
type Sender struct {
	// fixed after New
	cfg     Config
	owners  Owners // nil: this node is alone
	board   Board
	post    *poster
	log     *slog.Logger
	changed chan struct{} // the lanes have changed; capacity 1

	mu    sync.Mutex
	lanes map[string]*lane // by name; guarded by mu
}

// New makes a sender without receivers. owners is nil if there is no other node.
func New(cfg Config, owners Owners, board Board, log *slog.Logger) (*Sender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Sender{
		cfg: cfg, owners: owners, board: board, log: log, post: newPoster(cfg.Policy, cfg.Timeout, cfg.Agent, cfg.Trace),
		changed: make(chan struct{}, 1), lanes: make(map[string]*lane),
	}, nil
}

// Apply puts a document in force. Waiting events of a receiver that stays are kept, and go to its
// new URL at once.
func (s *Sender) Apply(d Document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.lanes {
		if d.Find(name) == nil {
			delete(s.lanes, name)
		}
	}
	for i := range d.Webhooks {
		h := d.Webhooks[i]
		if l := s.lanes[h.Name]; l != nil {
			l.change(h)
			continue
		}
		s.lanes[h.Name] = newLane(h)
	}
	signal(s.changed)
}

// Send queues an event for every receiver that wants its kind. It never blocks.
func (s *Sender) Send(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if forgot := l.put(e, time.Now(), s.cfg.Queue); forgot != "" {
			s.log.Error("webhook's queue is full, its oldest event is forgotten", "webhook", l.name, "event", forgot)
		}
	}
}

// Run delivers until ctx ends. It is called once.
func (s *Sender) Run(ctx context.Context) {
	var lanes sync.WaitGroup
	defer lanes.Wait()
	running := make(map[*lane]context.CancelFunc)
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			s.takeOff(context.WithoutCancel(ctx))
			return
		case <-s.changed:
			s.reconcile(ctx, running, &lanes)
		case <-tick.C:
			told = s.tell(ctx, told)
		}
	}
}

// reconcile starts and stops the lanes' goroutines.
func (s *Sender) reconcile(ctx context.Context, running map[*lane]context.CancelFunc, lanes *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[*lane]bool)
	for _, l := range s.lanes {
		wanted[l] = true
		if running[l] == nil {
			own, stop := context.WithCancel(ctx)
			running[l] = stop
			lanes.Go(func() { s.deliver(own, l) })
		}
	}
	for l, stop := range running {
		if !wanted[l] {
			stop()
			delete(running, l)
		}
	}
}

// deliver sends what a lane has, one event after another.
func (s *Sender) deliver(ctx context.Context, l *lane) {
	backoff := wait.Backoff{First: s.cfg.First, Longest: s.cfg.Longest}
	for {
		e, h, queued := l.head()
		if e == nil {
			select {
			case <-ctx.Done():
				return
			case <-l.filled:
			}
			continue
		}
		if time.Since(queued) > s.cfg.GiveUp {
			s.log.Error("webhook event given up: the receiver did not take it in time", "webhook", h.Name, "event", e.ID)
			l.drop(e, true)
			continue
		}
		pause := s.attempt(ctx, l, &h, e, &backoff)
		if pause == 0 {
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-l.changed: // another URL or secret is worth a try
			backoff.Reset()
		case <-timer.C:
		}
		timer.Stop()
	}
}

// attempt sends an event once, if it is this node's to send, and returns the pause before the next
// attempt: 0 where the event is done.
func (s *Sender) attempt(ctx context.Context, l *lane, h *Hook, e *Event, backoff *wait.Backoff) time.Duration {
	claim := "webhook:" + h.Name + ":" + e.ID
	const margin = 5 * time.Second // for the calls around the post
	switch owner := s.claim(ctx, claim, s.cfg.Timeout+margin); owner {
	case s.cfg.Node:
	case done:
		l.drop(e, false)
		return 0
	default:
		return s.cfg.Peek
	}
	secret, err := s.cfg.Open(h.Secret, Owner(h.Name))
	if err == nil {
		err = s.post.post(ctx, h, secret, e)
	}
	refused, isRefused := errors.AsType[*refusedError](err)
	switch {
	case err == nil:
		backoff.Reset()
		l.sent(e)
	case isRefused:
		s.log.Error("webhook event refused by its receiver", "webhook", h.Name, "event", e.ID, "err", refused)
		l.failed(e, refused)
		l.drop(e, true)
		backoff.Reset()
	default:
		if ctx.Err() != nil { // this node stops: another one goes on
			return s.cfg.Peek
		}
		s.log.Warn("webhook event not taken, it is repeated", "webhook", h.Name, "event", e.ID, "err", withoutURL(err))
		l.failed(e, withoutURL(err))
		pause := backoff.Next()
		if later, ok := errors.AsType[*laterError](err); ok {
			pause = max(pause, min(later.after, s.cfg.Longest))
		}
		s.claim(ctx, claim, pause+s.cfg.Timeout+margin)
		return pause
	}
	s.conclude(ctx, claim)
	return 0
}

// claim returns the node that must send an event: this one, if there is no other or the owners
// can't be reached.
func (s *Sender) claim(ctx context.Context, name string, d time.Duration) string {
	if s.owners == nil {
		return s.cfg.Node
	}
	owner, err := s.owners.Own(ctx, name, s.cfg.Node, d)
	if err != nil {
		s.log.Warn("webhook event can't be claimed, each node may send it", "claim", name, "err", err)
		return s.cfg.Node
	}
	return owner
}

// conclude tells the other nodes that an event is done, for as long as they may have it.
func (s *Sender) conclude(ctx context.Context, name string) {
	if s.owners == nil {
		return
	}
	if err := s.owners.Assign(context.WithoutCancel(ctx), name, done, 2*s.cfg.GiveUp); err != nil {
		s.log.Warn("other nodes can't be told that a webhook event was sent, they may send it too", "claim", name, "err", err)
	}
}

// withoutURL is an error of net/http without the URL, which may have a token in it.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// CheckURL returns the mistake in the URL of a receiver, or "".
func (s *Sender) CheckURL(text string) string { return s.cfg.Policy.CheckURL(text) }

// Own returns the states of this node's deliveries, by hook.
func (s *Sender) Own() map[string]State {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]State, len(s.lanes))
	for name, l := range s.lanes {
		out[name] = l.now()
	}
	return out
}

// tell pins this node's states to the board, if they have changed.
func (s *Sender) tell(ctx context.Context, told string) string {
	states := s.Own()
	text, err := json.Marshal(states)
	if err != nil || string(text) == told || told == "" && len(states) == 0 {
		return told
	}
	if err := s.board.Pin(ctx, boardStates, s.cfg.Node, string(text)); err != nil {
		s.log.Debug("states of webhooks are not told", "err", err)
		return told
	}
	return string(text)
}

// takeOff takes this node's states off the board.
func (s *Sender) takeOff(ctx context.Context) {
	if err := s.board.Unpin(ctx, boardStates, s.cfg.Node); err != nil {
		s.log.Debug("states of webhooks stay on the board", "err", err)
	}
}

// States returns the last reported states by node and hook, and the present ones of this node. With
// an error it returns at least those of this node.
func (s *Sender) States(ctx context.Context) (map[string]map[string]State, error) {
	out := map[string]map[string]State{s.cfg.Node: s.Own()}
	notes, err := s.board.Notes(ctx, boardStates)
	if err != nil {
		return out, fmt.Errorf("read how the deliveries of other nodes go: %w", err)
	}
	for node, text := range notes {
		var states map[string]State
		if node != s.cfg.Node && json.Unmarshal([]byte(text), &states) == nil {
			out[node] = states
		}
	}
	return out, nil
}

// signal puts a value into a channel of capacity 1; one that is full has been signalled.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

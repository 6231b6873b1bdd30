package webhook

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "whsec-0123456789abcdef"

// bound is how long a test waits for an expected event.
const bound = 30 * time.Second

// got is a post that a receiver got.
type got struct {
	header http.Header
	body   string
}

func (g *got) id() string { return g.header.Get("Penstock-Delivery") }

// receiver is a running receiver. answer returns the response to the n-th post, from 1 on.
type receiver struct {
	t     *testing.T
	url   string
	posts chan got
	count atomic.Int64
}

func newReceiver(t *testing.T, answer func(n int64, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	r := &receiver{t: t, posts: make(chan got, 1000)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		text, err := io.ReadAll(q.Body)
		if err != nil {
			return // the sender has gone away
		}
		r.posts <- got{q.Header, string(text)}
		answer(r.count.Add(1), w, q)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func takes(int64, http.ResponseWriter, *http.Request) {}

// next returns the next post.
func (r *receiver) next() got {
	r.t.Helper()
	select {
	case g := <-r.posts:
		return g
	case <-time.After(bound):
		r.t.Fatal("no post came")
		return got{}
	}
}

// wants waits for posts of these events, in this order.
func (r *receiver) wants(ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		if g := r.next(); g.id() != id {
			r.t.Fatalf("posted %s, want %s", g.id(), id)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(bound); ; {
		if is() {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %v: %s", bound, what)
		}
	}
}

// memory is owners and a board in memory.
type memory struct {
	mu     sync.Mutex
	away   bool                       // guarded by mu
	owners map[string]string          // guarded by mu
	asked  map[string]map[string]bool // by name, who has claimed; guarded by mu
	notes  map[string]string          // guarded by mu
}

var errAway = errors.New("away")

func newMemory() *memory {
	return &memory{owners: map[string]string{}, asked: map[string]map[string]bool{}, notes: map[string]string{}}
}

func (m *memory) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// lapse ends all owners, as if their time was over.
func (m *memory) lapse() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, owner := range m.owners {
		if owner != done {
			delete(m.owners, name)
		}
	}
}

// isDone reports whether an event is done, and how many nodes have asked for it.
func (m *memory) isDone(claim string) (is bool, nodes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owners[claim] == done, len(m.asked[claim])
}

func (m *memory) Own(_ context.Context, name, owner string, _ time.Duration) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return "", errAway
	}
	if m.owners[name] == "" {
		m.owners[name] = owner
	}
	if m.asked[name] == nil {
		m.asked[name] = make(map[string]bool)
	}
	m.asked[name][owner] = true
	return m.owners[name], nil
}

func (m *memory) Assign(_ context.Context, name, owner string, _ time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errAway
	}
	m.owners[name] = owner
	return nil
}

func (m *memory) Release(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errAway
	}
	delete(m.owners, name)
	return nil
}

func (m *memory) Pin(_ context.Context, _, name, text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes[name] = text
	return nil
}

func (m *memory) Unpin(_ context.Context, _ string, names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		delete(m.notes, name)
	}
	return nil
}

func (m *memory) Notes(context.Context, string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, errAway
	}
	return maps.Clone(m.notes), nil
}

// start runs a sender, until the test ends or stop is called.
func start(t *testing.T, node string, m *memory, change func(*Config)) (s *Sender, stop func()) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Node, cfg.First, cfg.Longest, cfg.Peek = node, time.Millisecond, 10*time.Millisecond, time.Millisecond
	cfg.Timeout = bound
	cfg.Open = func(sealed, owner string) (string, error) {
		text, ok := strings.CutPrefix(sealed, owner)
		if !ok {
			return "", errors.New("no key")
		}
		return text, nil
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, m, m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return s, stop
}

func hooks(urls map[string]string) (d Document) {
	for name, url := range urls {
		d.Put(Hook{Name: name, URL: url, Events: []string{Alarm}, Secret: Owner(name) + secret})
	}
	return d
}

func alarm(id string) Event {
	return Event{ID: id, Kind: Alarm, At: time.Unix(1, 0), Data: json.RawMessage(`{"kind":"lag"}`)}
}

// checkSigned checks a post as a receiver does.
func checkSigned(t *testing.T, g *got) {
	t.Helper()
	signature := g.header.Get("Penstock-Signature")
	at, _, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || !hmac.Equal([]byte(signature), []byte(Sign(secret, time.Unix(seconds, 0), []byte(g.body)))) {
		t.Errorf("signature %q of %s: %v", signature, g.body, err)
	}
	if age := time.Since(time.Unix(seconds, 0)); age < -5*time.Minute || age > 5*time.Minute {
		t.Errorf("signed %v ago", age)
	}
}

// A receiver that hangs, one that refuses connections and one that answers 500 don't delay the
// others: the good one gets every event, in order.
func TestSender_BadReceiversDelayNoOther(t *testing.T) {
	end := make(chan struct{})
	hangs := newReceiver(t, func(_ int64, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	})
	defer close(end)
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.Close(); err != nil {
		t.Fatal(err)
	}
	fails := newReceiver(t, func(n int64, w http.ResponseWriter, _ *http.Request) {
		if n <= 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	good := newReceiver(t, takes)
	s, _ := start(t, "a@1", newMemory(), nil)
	s.Apply(hooks(map[string]string{
		"hangs": hangs.url, "refuses": "http://" + refused.Addr().String(), "fails": fails.url, "good": good.url,
	}))
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint("e", i))
		s.Send(alarm(ids[i]))
	}
	good.wants(ids...)
	first := fails.next()
	checkSigned(t, &first)
	if want := `{"id":"e0","event":"alarm","at":"1970-01-01T00:00:01Z","data":{"kind":"lag"}}`; first.body != want {
		t.Errorf("posted %s, want %s", first.body, want)
	}
	for range 3 {
		if again := fails.next(); again.body != first.body {
			t.Errorf("repeated as %s, was %s", again.body, first.body)
		}
	}
	fails.wants(ids[1:]...)
	hangs.wants("e0")
	eventually(t, "the states say so", func() bool {
		own := s.Own()
		return own["good"].Sent == 20 && own["good"].Waiting == 0 && own["good"].LastOK != nil && own["good"].LastError == nil &&
			own["fails"].Sent == 20 && own["fails"].LastError != nil && strings.Contains(own["fails"].LastError.Error, "500") &&
			own["refuses"].Waiting == 20 && own["refuses"].LastError != nil && own["refuses"].LastError.Event == "e0" &&
			own["hangs"].Waiting == 20
	})
}

func TestSender_Answers(t *testing.T) {
	for _, c := range []struct {
		status  int
		repeats bool
		says    string
	}{
		{200, false, ""}, {204, false, ""}, {302, true, "redirects are not followed"}, {400, false, "400"}, {404, false, "404"},
		{408, true, "408"}, {410, false, "410"}, {429, true, "429"}, {503, true, "503"},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			r := newReceiver(t, func(n int64, w http.ResponseWriter, _ *http.Request) {
				if n == 1 {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(c.status)
				}
			})
			s, _ := start(t, "a@1", newMemory(), nil)
			s.Apply(hooks(map[string]string{"one": r.url}))
			s.Send(alarm("e1"))
			s.Send(alarm("e2"))
			if r.wants("e1"); c.repeats {
				r.wants("e1")
			}
			r.wants("e2")
			eventually(t, "the state says so", func() bool {
				state, lost := s.Own()["one"], int64(0)
				if c.says != "" && !c.repeats {
					lost = 1
				}
				return state.GivenUp == lost && state.Sent == 2-lost && (state.LastError == nil) == (c.says == "") &&
					(c.says == "" || strings.Contains(state.LastError.Error, c.says))
			})
		})
	}
}

func TestSender_ForgetsTheOldest(t *testing.T) {
	gate := make(chan struct{})
	r := newReceiver(t, func(_ int64, _ http.ResponseWriter, q *http.Request) {
		select {
		case <-gate:
		case <-q.Context().Done():
		}
	})
	s, _ := start(t, "a@1", newMemory(), func(c *Config) { c.Queue = 3 })
	s.Apply(hooks(map[string]string{"one": r.url}))
	s.Send(alarm("e0"))
	r.wants("e0") // in progress
	for i := 1; i < 6; i++ {
		s.Send(alarm(fmt.Sprint("e", i)))
	}
	close(gate)
	r.wants("e3", "e4", "e5")
	eventually(t, "three are counted as forgotten", func() bool { return s.Own()["one"].GivenUp == 3 })
}

func TestSender_GivesUpWhatIsTooOld(t *testing.T) {
	r := newReceiver(t, func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	s, _ := start(t, "a@1", newMemory(), func(c *Config) { c.GiveUp = 50 * time.Millisecond })
	s.Apply(hooks(map[string]string{"one": r.url}))
	s.Send(alarm("e1"))
	eventually(t, "it is given up", func() bool { return s.Own()["one"].GivenUp == 1 && s.Own()["one"].Waiting == 0 })
}

// Waiting events go to a receiver's new URL at once. Waiting events of a deleted receiver are
// dropped.
func TestSender_FollowsChanges(t *testing.T) {
	broken := newReceiver(t, func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	good := newReceiver(t, takes)
	s, _ := start(t, "a@1", newMemory(), func(c *Config) { c.First, c.Longest = time.Hour, time.Hour })
	s.Apply(hooks(map[string]string{"one": broken.url, "two": broken.url}))
	s.Send(Event{ID: "change", Kind: Change}) // nobody has asked for it
	s.Send(alarm("e1"))
	broken.wants("e1", "e1")
	eventually(t, "both wait", func() bool { return s.Own()["one"].LastError != nil && s.Own()["two"].LastError != nil })
	s.Apply(hooks(map[string]string{"one": good.url}))
	good.wants("e1")
	if _, there := s.Own()["two"]; there {
		t.Error("the deleted one is still there")
	}
}

// Of two nodes that see the same events, one sends each.
func TestSender_OneOfManySendsEach(t *testing.T) {
	m, r := newMemory(), newReceiver(t, takes)
	a, _ := start(t, "a@1", m, nil)
	b, _ := start(t, "b@1", m, nil)
	for _, s := range []*Sender{a, b} {
		s.Apply(hooks(map[string]string{"one": r.url}))
	}
	for i := range 100 {
		a.Send(alarm(fmt.Sprint("e", i)))
		b.Send(alarm(fmt.Sprint("e", i)))
	}
	eventually(t, "both have nothing left", func() bool { return a.Own()["one"].Waiting == 0 && b.Own()["one"].Waiting == 0 })
	if n := r.count.Load(); n != 100 {
		t.Errorf("%d posts of 100 events", n)
	}
	states, err := a.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "each knows what both have sent", func() bool {
		states, err = a.States(t.Context())
		return err == nil && Merge(states["a@1"]["one"], states["b@1"]["one"]).Sent == 100
	})
}

// When a node dies while it sends, another node sends the event. The same id shows that it is the
// same event.
func TestSender_AnotherNodeTakesOver(t *testing.T) {
	m, hang := newMemory(), make(chan struct{})
	r := newReceiver(t, func(n int64, _ http.ResponseWriter, q *http.Request) {
		if n > 1 {
			return
		}
		select {
		case <-hang:
		case <-q.Context().Done():
		}
	})
	defer close(hang)
	a, stop := start(t, "a@1", m, nil)
	a.Apply(hooks(map[string]string{"one": r.url}))
	a.Send(alarm("e1"))
	r.wants("e1")
	b, _ := start(t, "b@1", m, nil)
	b.Apply(hooks(map[string]string{"one": r.url}))
	b.Send(alarm("e1"))
	stop()
	if n := b.Own()["one"].Sent; n != 0 {
		t.Fatalf("b has sent %d while the claim is a's", n)
	}
	m.lapse()
	r.wants("e1")
	eventually(t, "b has sent it", func() bool { return b.Own()["one"].Sent == 1 })
}

func TestSender_EachSendsWhileClaimsAreAway(t *testing.T) {
	m, r := newMemory(), newReceiver(t, takes)
	m.setAway(true)
	a, _ := start(t, "a@1", m, nil)
	b, _ := start(t, "b@1", m, nil)
	for _, s := range []*Sender{a, b} {
		s.Apply(hooks(map[string]string{"one": r.url}))
		s.Send(alarm("e1"))
	}
	r.wants("e1", "e1")
	if states, err := a.States(t.Context()); !errors.Is(err, errAway) || len(states) != 1 {
		t.Errorf("states: %v, %v", states, err)
	}
}

// When the secret can't be read, nothing is sent unsigned.
func TestSender_SendsNothingUnsigned(t *testing.T) {
	r := newReceiver(t, takes)
	s, _ := start(t, "a@1", newMemory(), nil)
	d := hooks(map[string]string{"one": r.url})
	d.Webhooks[0].Secret = "sealed by another key"
	s.Apply(d)
	s.Send(alarm("e1"))
	eventually(t, "it says why", func() bool { return s.Own()["one"].LastError != nil })
	if n := r.count.Load(); n != 0 || s.Own()["one"].Waiting != 1 {
		t.Errorf("%d posts, state %+v", n, s.Own()["one"])
	}
	s.Apply(hooks(map[string]string{"one": r.url}))
	g := r.next()
	checkSigned(t, &g)
}

func TestDocument(t *testing.T) {
	var d Document
	for _, name := range []string{"b", "a", "c", "b"} {
		d.Put(Hook{Name: name, URL: "https://" + name})
	}
	var names []string
	for _, h := range d.Webhooks {
		names = append(names, h.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) || d.Find("b") == nil || d.Find("x") != nil || !d.Remove("b") || d.Remove("b") {
		t.Errorf("names %v", names)
	}
	for _, text := range []string{`{"webhooks":[],"x":1}`, `[`, `{"webhooks":7}`} {
		if _, err := ParseDocument([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	if d, err := ParseDocument(nil); err != nil || len(d.Webhooks) != 0 {
		t.Errorf("nothing is %v, %v", d, err)
	}
}

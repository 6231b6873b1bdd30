package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/proof/stocktest"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/internal/webhook"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/backoffice"
	"github.com/penstock/penstock/seckill/desk"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// configuredToken is the token of every test's configuration.
const configuredToken = "token-of-the-configuration"

// shop is a live admin listener on a real office and a real database. Its stock is the model, its
// queue a slice.
type shop struct {
	t      *testing.T
	store  *sqlite.Store
	stock  *stocktest.Model
	queue  *memoryQueue
	desk   *desk.Desk
	relay  *backoffice.Relay
	server *Server
	client *http.Client
	url    string
	log    *logged
	live   *live.Hub
	tokens map[seckill.Role]string // one for each role, and the configured one under roleNone

	health atomic.Pointer[health]

	settings    *shopSettings
	webhooks    *webhook.Sender // doesn't run
	stopGateway func()          // it reports that it stops

	delivering, delivered chan struct{}
}

// logged is everything that was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// open starts a shop. change may change its configuration and its parts.
func open(t *testing.T, change func(*Config, *Deps)) *shop {
	t.Helper()
	s := &shop{t: t, stock: stocktest.NewModel(), queue: new(memoryQueue), log: new(logged), live: live.NewHub(),
		tokens: make(map[seckill.Role]string)}
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if s.store, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "db")}); err != nil {
		t.Fatal(err)
	}
	cfg := seckill.DefaultConfig()
	cfg.Shards = 4
	s.openShards()
	if s.desk, err = desk.New(cfg, desk.Parts{Stock: s.stock, Queue: s.queue, Store: s.store, Node: "test", Log: log}); err != nil {
		t.Fatal(err)
	}
	s.follow()
	owner := backoffice.NewOwnership(cfg.Shards, func() ([]int32, int) { return []int32{0}, 1 })
	s.relay = backoffice.NewRelay(cfg, s.stock, s.store, owner, nil, log)
	s.health.Store(&health{})
	deps := Deps{
		Office: desk.NewOffice(s.desk, s.stock), Store: s.store, Catalog: s.desk.Catalog,
		Refresh: s.desk.Refresh, Health: s, Limits: noLimits{}, Live: s.live,
		Queue: func(ctx context.Context) ([]Partition, error) {
			_, err := s.store.Positions(ctx)
			return []Partition{{Number: 0, Next: 3, End: 5, Behind: 2, State: "ok"}}, err
		},
		Log: s.queue,
	}
	s.gateway(&deps, log)
	config := DefaultConfig()
	config.Token = configuredToken
	if change != nil {
		change(&config, &deps)
	}
	if s.server, err = New(config, deps, log); err != nil {
		t.Fatal(err)
	}
	s.listen()
	s.tokens[roleNone] = config.Token
	for _, r := range roles {
		if config.Token == "" {
			break
		}
		made := s.must(http.StatusCreated, http.MethodPost, "/admin/v1/tokens", fmt.Sprintf(`{"name":%q,"role":%q}`, r.name, r.name))
		s.tokens[r.role] = made.member("token")
	}
	return s
}

// gateway makes the process a gateway for the settings: it accepts every document.
func (s *shop) gateway(deps *Deps, log *slog.Logger) {
	s.t.Helper()
	s.settings = &shopSettings{Store: s.store}
	config := webhook.DefaultConfig()
	config.Node, config.Open = "gateway-1", func(sealed, owner string) (string, error) { return s.server.deps.Secrets.Open(sealed, owner) }
	var err error
	if s.webhooks, err = webhook.New(config, nil, s.settings, log); err != nil {
		s.t.Fatal(err)
	}
	deps.Webhooks = s.webhooks
	take := func(settings.Document, settings.Moment) (next time.Time, err error) { return time.Time{}, nil }
	watcher, err := settings.NewWatcher(settings.Config{Node: "gateway-1", Enforces: true}, s.settings, s.settings, []settings.Part{
		{Name: settings.Limits, Apply: take}, {Name: settings.Webhooks, Apply: s.applyWebhooks}, {Name: settings.Switches, Apply: take, Amend: amendSwitches},
	}, func() json.RawMessage {
		v := deps.Catalog().Version
		return json.RawMessage(fmt.Sprintf(`{"catalog":{"version":%d,"id":%q}}`, v.Number, v.Incarnation))
	}, log)
	if err == nil {
		err = watcher.Start(s.t.Context())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	deps.Settings = &settings.Publisher{
		Store: s.settings, Board: s.settings, Watcher: watcher, Nudge: watcher.Nudge, NudgeCatalog: watcher.Nudge, Wait: time.Second,
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		watcher.Run(ctx)
	}()
	s.stopGateway = sync.OnceFunc(func() { stop(); <-stopped })
}

// applyWebhooks is settings.Part.Apply of the webhooks.
func (s *shop) applyWebhooks(d settings.Document, _ settings.Moment) (next time.Time, err error) {
	document, err := webhook.ParseDocument(d.Body)
	s.webhooks.Apply(document)
	return time.Time{}, err
}

// amendSwitches is settings.Part.Amend of the switches.
func amendSwitches(body []byte, a settings.Amendment) ([]byte, error) {
	amended, recorded, err := degrade.AmendDocument(body, a.ID, a.Body)
	if recorded {
		return nil, settings.ErrRecorded
	}
	return amended, err
}

// shopSettings is the store's settings, which may be away, and a board.
type shopSettings struct {
	*sqlite.Store
	away  atomic.Bool
	asked atomic.Pointer[time.Duration] // for how long FindSettings was asked to try; nil: without end
	mu    sync.Mutex
	notes map[string]string // guarded by mu: by board and name
}

var errAway = errors.New("the database is away")

func (s *shopSettings) ExchangeSettings(ctx context.Context, b settings.Beat) (settings.Update, error) {
	if s.away.Load() {
		return settings.Update{}, errAway
	}
	return s.Store.ExchangeSettings(ctx, b)
}

func (s *shopSettings) FindSettings(ctx context.Context, name string) (settings.Document, time.Time, error) {
	s.asked.Store(nil)
	if end, ends := ctx.Deadline(); ends {
		left := time.Until(end)
		s.asked.Store(&left)
	}
	if s.away.Load() {
		return settings.Document{}, time.Time{}, errAway
	}
	return s.Store.FindSettings(ctx, name)
}

func (s *shopSettings) Pin(_ context.Context, board, name, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notes == nil {
		s.notes = make(map[string]string)
	}
	s.notes[board+" "+name] = text
	return nil
}

func (s *shopSettings) Unpin(_ context.Context, board string, names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.notes, board+" "+name)
	}
	return nil
}

func (s *shopSettings) Notes(_ context.Context, board string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]string)
	for key, text := range s.notes {
		if name, ok := strings.CutPrefix(key, board+" "); ok {
			out[name] = text
		}
	}
	return out, nil
}

// health is the node's report of itself, set by the test.
type health struct {
	missing string
	asked   func() // called at each Missing; may be nil
}

func (s *shop) setHealth(h health) { s.health.Store(&h) }

// Missing implements Health.
func (s *shop) Missing() string {
	h := s.health.Load()
	if h.asked != nil {
		h.asked()
	}
	return h.missing
}

// AppendReport implements Health.
func (s *shop) AppendReport(dst []byte, ready, draining bool) []byte {
	return fmt.Appendf(dst, `{"ready":%v,"draining":%v,"servers":[{"server":"redis","instance":"r:1","state":"ok",`+
		`"since":"2026-06-18T00:00:00.000Z","detail":""},{"server":"settings","instance":"","state":"ok",`+
		`"since":"2026-06-18T00:00:00.000Z","detail":""}],"shards":{"open":4,"closed":0,"rebuilding":0}}`, ready, draining)
}

// openShards opens the shards as a rebuilder does in a new installation.
func (s *shop) openShards() {
	s.t.Helper()
	ctx := s.t.Context()
	incarnation, err := s.store.Incarnation(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	rows, err := s.store.Shards(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, row := range rows {
		epoch, err := s.store.NextEpoch(ctx, row.Ref.Shard)
		ref := inventory.Ref{Shard: row.Ref.Shard, Epoch: epoch}
		nothing := func([]inventory.Stocked, []inventory.Entry) error { return nil }
		if err := errors.Join(err, s.stock.Close(ctx, ref), s.store.Fence(ctx, ref, incarnation),
			s.store.Snapshot(ctx, ref, nil, nothing), s.stock.Open(ctx, ref, 0, 0)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// follow has the desk follow the shards.
func (s *shop) follow() {
	s.t.Helper()
	rows, err := s.store.Shards(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.desk.Follow(rows)
}

func (s *shop) listen() {
	s.t.Helper()
	listener, err := new(net.ListenConfig).Listen(s.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(listener) }()
	transport := &http.Transport{DisableCompression: true}
	s.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request,
		[]*http.Request) error {
		return http.ErrUseLastResponse
	}}
	s.url = "http://" + listener.Addr().String()
	s.t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.server.Shutdown(context.Background()); err != nil {
			s.t.Error(err)
		}
		if err := <-served; err != nil {
			s.t.Error(err)
		}
		s.stopGateway()
		s.desk.Close()
		if err := s.store.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

// answer is an answer that was read.
type answer struct {
	t       *testing.T
	request *http.Request
	*http.Response
	body string
}

// request makes a request. fields are names and values of header fields; an empty value removes the
// field.
func (s *shop) request(method, path, body string, fields ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.tokens[roleNone])
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for f := range slices.Chunk(fields, 2) {
		if r.Header.Set(f[0], f[1]); f[1] == "" {
			r.Header.Del(f[0])
		}
	}
	if host := r.Header.Get("Host"); host != "" { // net/http has it beside the header
		r.Host = host
		r.Header.Del("Host")
	}
	return r
}

func (s *shop) send(r *http.Request) *answer {
	s.t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return &answer{s.t, r, resp, string(body)}
}

func (s *shop) do(method, path, body string, fields ...string) *answer {
	s.t.Helper()
	return s.send(s.request(method, path, body, fields...))
}

// must is do for an answer that has to have a status.
func (s *shop) must(status int, method, path, body string, fields ...string) *answer {
	s.t.Helper()
	a := s.do(method, path, body, fields...)
	if a.StatusCode != status {
		s.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.StatusCode, status, a.body)
	}
	return a
}

func (a *answer) read(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
}

// member returns a member of the answer's object, as text.
func (a *answer) member(name string) string {
	a.t.Helper()
	var object map[string]any
	a.read(&object)
	return fmt.Sprint(object[name])
}

// refused checks that the answer is a problem.
func (a *answer) refused(code problem.Code) {
	a.t.Helper()
	if a.Header.Get("Content-Type") != problem.ContentType || a.member("code") != string(code) {
		a.t.Errorf("%s %s: %d %s, want %s", a.request.Method, a.request.URL.Path, a.StatusCode, a.body, code)
	}
}

// mistakes returns the errors of a 400, as "field: detail".
func (a *answer) mistakes() []string {
	a.t.Helper()
	var p struct {
		Errors []struct{ Field, Detail string }
	}
	a.read(&p)
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Field+": "+e.Detail)
	}
	return out
}

// activityBody is a valid activity, with an item phone-x of 10 units.
const activityBody = `{"merchant":"m1","name":"618 Phones","starts_at":"2026-06-18T20:00:00.1239+08:00",` +
	`"ends_at":"2096-06-18T22:00:00+08:00","payment_window":"15m","items":[{"sku":"phone-x","price":1999,"currency":"CNY","quantity":10,"per_user":2}]}`

// sell makes merchant m1 and activity 618, and publishes it.
func (s *shop) sell() {
	s.t.Helper()
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`)
	s.must(200, "PUT", "/admin/v1/activities/618", activityBody)
	s.publish("618")
}

// publish publishes an activity, and delivers its units to the stock.
func (s *shop) publish(id string) {
	s.t.Helper()
	s.beginDelivery()
	defer s.endDelivery()
	s.must(200, "POST", "/admin/v1/activities/"+id+"/publish", "")
}

// beginDelivery delivers the store's outbox to the stock, again and again, until endDelivery.
func (s *shop) beginDelivery() {
	s.delivering, s.delivered = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.delivered)
		for {
			select {
			case <-s.delivering:
				return
			case <-time.After(time.Millisecond):
			}
			if err := s.relay.Step(s.t.Context()); err != nil {
				s.t.Error(err)
			}
		}
	}()
}

func (s *shop) endDelivery() {
	close(s.delivering)
	<-s.delivered
}

// restock changes the stock of phone-x, and delivers the change.
func (s *shop) restock(delta int, key string) *answer {
	s.t.Helper()
	a := s.must(200, "POST", "/admin/v1/activities/618/items/phone-x/restock", fmt.Sprintf(`{"delta":%d,"reason":"test"}`,
		delta), "Idempotency-Key", key)
	s.deliver()
	return a
}

// deliver delivers the store's outbox to the stock.
func (s *shop) deliver() {
	s.t.Helper()
	if err := s.relay.Step(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// available returns the available units of phone-x, as the audit counts them.
func (s *shop) available() int64 {
	s.t.Helper()
	var doc auditDoc
	s.must(200, "GET", "/admin/v1/activities/618/audit", "").read(&doc)
	if len(doc.Items) != 1 || !doc.Balanced {
		s.t.Fatalf("audit: %+v", doc)
	}
	return doc.Items[0].Available
}

// lastChange is the number of the newest change.
func (s *shop) lastChange() int64 {
	s.t.Helper()
	changes, err := s.store.Changes(s.t.Context(), 0, 1)
	if err != nil || len(changes) == 0 {
		s.t.Fatal(changes, err)
	}
	return changes[0].Number
}

// last is the number of the newest change, as text.
func (s *shop) last() string { return strconv.FormatInt(s.lastChange(), 10) }

func (s *shop) revert(n int64) *answer {
	s.t.Helper()
	return s.do("POST", fmt.Sprintf("/admin/v1/changes/%d/revert", n), "")
}

// letters stores n dead letters that can't be read as records, and returns their ids.
func (s *shop) letters(n int) []int64 {
	s.t.Helper()
	if n == 0 {
		return nil
	}
	var letters []seckill.DeadLetter
	for i := range n {
		letters = append(letters, seckill.DeadLetter{Partition: 1, Offset: time.Now().UnixNano() + int64(i),
			Problem: "not an order record", Value: []byte{9}})
	}
	if _, err := s.store.Accept(s.t.Context(), seckill.Batch{Letters: letters}); err != nil {
		s.t.Fatal(err)
	}
	kept, err := s.store.DeadLetters(s.t.Context(), 0, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []int64
	for _, l := range kept[len(kept)-n:] {
		ids = append(ids, l.ID)
	}
	return ids
}

// memoryQueue is a queue that nobody reads.
type memoryQueue struct{}

func (*memoryQueue) Reserve() error { return nil }
func (*memoryQueue) Release(int)    {}

func (*memoryQueue) Put(_ inventory.ShardID, _ []byte, _ int, done func(error)) { done(nil) }

// Between implements desk.LogReader: nothing was kept.
func (*memoryQueue) Between(context.Context, seckill.Stretch) ([]seckill.Message, *seckill.LogPlace, error) {
	return nil, nil, nil
}

func (*memoryQueue) Mark(context.Context) ([]seckill.Position, error) {
	return nil, errors.New("nobody works here")
}

// takenNames is a store in which every caller's name is taken.
type takenNames struct{ Store }

func (takenNames) UpdateCaller(context.Context, seckill.CallerRef, seckill.Author,
	func(*seckill.Caller, time.Time) (*seckill.Caller, error)) (*seckill.Caller, error) {
	return nil, seckill.ErrExists
}

// stubborn is an office that refuses to end activities and to take units.
type stubborn struct {
	Office
	err error
}

func (o stubborn) End(context.Context, seckill.ActivityID, bool, seckill.Author) (*seckill.Activity, error) {
	return nil, o.err
}

// noLimits has no gateways.
type noLimits struct{}

func (noLimits) LimitHistory(context.Context) ([]limiter.Series, string) { return nil, "" }

func (noLimits) LimitReports(context.Context) ([]limiter.NodeReport, string) { return nil, "" }

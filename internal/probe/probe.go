// Package probe sends a buyer's requests to a public listener at intervals, and remembers the
// results.
//
//	p := probe.New(probe.Config{Every: 10 * time.Second, URL: url, Key: key, …})
//	go p.Run(ctx)
//	p.Results() // the last result of each step
//
// It promises that a probe ends within Config.Patience, that the other steps are tried after one
// has failed, and that refusals are distinguished from failures: a stopped sale is not a failing
// one. It doesn't know what is behind the listener, nor who reads its results.
package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/wait"
)

// Step is one of a probe's requests.
type Step string

// The steps, in their order.
const (
	Buy    Step = "buy"    // POST /v1/orders: as far as the hold and the page
	Status Step = "status" // GET /v1/orders/{order}: of the order that was not made, so 404
	Page   Step = "page"   // GET /v1/activities/{activity}
)

// Steps are all steps.
func Steps() []Step { return []Step{Buy, Status, Page} }

// Outcome is the outcome of a step.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // the listener decided to refuse: a switch, a limit, or overload
	Failed  Outcome = "failed"
)

// Config configures a Prober. All fields are needed.
type Config struct {
	Every    time.Duration
	Patience time.Duration // for one step
	URL      string        // of the listener
	Key      string
	Activity string // as it stands in a path
	SKU      string
	// Users is how many names of buyers are used in turn, because the buyer's name decides which
	// shard is asked.
	Users int
	// Missing is the problem code for an unknown order. Refusals are the codes that are decisions,
	// not failures.
	Missing  string
	Refusals []string
	// Skip reports whether to leave out this round.
	Skip func() bool
}

// Result is the result of a step.
type Result struct {
	Step    Step
	Outcome Outcome
	Took    time.Duration
	At      time.Time
	Error   string // of a result that isn't OK
}

// Count counts a step's outcomes, with the times of the successful ones.
type Count struct {
	Step     Step
	Outcomes map[Outcome]uint64
	Took     *timing.Histogram
}

// Prober probes one listener. It is safe for concurrent use; New makes one.
type Prober struct {
	// Fixed after New.
	cfg    Config
	client *http.Client
	took   map[Step]*timing.Histogram

	mu     sync.Mutex
	rounds int                         // guarded by mu
	last   map[Step]Result             // guarded by mu
	counts map[Step]map[Outcome]uint64 // guarded by mu
}

// New makes a prober.
func New(cfg Config) *Prober {
	p := &Prober{
		cfg: cfg, took: make(map[Step]*timing.Histogram), last: make(map[Step]Result), counts: make(map[Step]map[Outcome]uint64),
		client: &http.Client{
			Timeout: cfg.Patience,
			// The listener is this process's own, reached by an address that its certificate
			// needn't name; and the key that goes there is good for nothing else.
			Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}},
		},
	}
	for _, step := range Steps() {
		p.took[step], p.counts[step] = new(timing.Histogram), make(map[Outcome]uint64)
	}
	return p
}

// Run probes until ctx ends. The first probe comes after Every.
func (p *Prober) Run(ctx context.Context) {
	defer p.client.CloseIdleConnections()
	for wait.For(ctx, p.cfg.Every) {
		p.Round(ctx)
	}
}

// Round probes once, on a new connection, so that it also notices when the listener accepts no
// connections.
func (p *Prober) Round(ctx context.Context) {
	if p.cfg.Skip() {
		p.mu.Lock()
		defer p.mu.Unlock()
		clear(p.last)
		return
	}
	p.client.CloseIdleConnections()
	p.mu.Lock()
	p.rounds++
	round := p.rounds
	p.mu.Unlock()
	body := fmt.Sprintf(`{"activity":%q,"sku":%q,"user":"probe-%d","quantity":1}`, p.cfg.Activity, p.cfg.SKU, round%p.cfg.Users)
	order := ""
	p.step(ctx, Buy, func(ctx context.Context) error {
		answer, err := p.ask(ctx, "POST", "/v1/orders", body, round)
		if err != nil {
			return err
		}
		if order = answer.header.Get("Location"); answer.status != http.StatusOK || order == "" {
			return answer.odd()
		}
		return nil
	})
	if order != "" {
		p.step(ctx, Status, func(ctx context.Context) error {
			answer, err := p.ask(ctx, "GET", order, "", round)
			if err == nil && answer.code != p.cfg.Missing {
				err = answer.odd()
			}
			return err
		})
	}
	p.step(ctx, Page, func(ctx context.Context) error {
		answer, err := p.ask(ctx, "GET", "/v1/activities/"+p.cfg.Activity, "", round)
		if err == nil && answer.status != http.StatusOK {
			err = answer.odd()
		}
		return err
	})
}

// step runs one step and records its result.
func (p *Prober) step(ctx context.Context, step Step, run func(context.Context) error) {
	began := time.Now()
	err := run(ctx)
	if ctx.Err() != nil {
		return // the process stops
	}
	r := Result{Step: step, Outcome: OK, Took: time.Since(began), At: began.UTC()}
	if err != nil {
		r.Outcome, r.Error = Failed, err.Error()
		for _, code := range p.cfg.Refusals {
			if problem, ok := err.(*problem); ok && problem.code == code {
				r.Outcome = Refused
			}
		}
	}
	if r.Outcome == OK {
		p.took[step].Observe(r.Took)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[step] = r
	p.counts[step][r.Outcome]++
}

// problem is an unexpected answer.
type problem struct{ code, text string }

// Error implements error.
func (p *problem) Error() string { return p.text }

// answer is the listener's answer.
type answer struct {
	status int
	header http.Header
	code   string // of a problem
	detail string
}

func (a *answer) odd() error {
	return &problem{a.code, strings.TrimSpace(fmt.Sprintf("answered %d %s: %s", a.status, a.code, cmp.Or(a.detail, "no reason given")))}
}

// mostRead is how much of an answer is read.
const mostRead = 64 << 10

func (p *Prober) ask(ctx context.Context, method, path, body string, round int) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, p.cfg.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+p.cfg.Key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "probe-"+strconv.Itoa(round))
	response, err := p.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, mostRead))
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	out := &answer{status: response.StatusCode, header: response.Header}
	if response.StatusCode >= http.StatusBadRequest {
		var said struct{ Code, Detail string }
		if err := json.Unmarshal(text, &said); err != nil {
			return nil, fmt.Errorf("answered %d without a problem: %w", response.StatusCode, err)
		}
		out.code, out.detail = said.Code, said.Detail
	}
	return out, nil
}

// Results returns the last result of each step, in the order of the steps; none before the first
// round.
func (p *Prober) Results() (out []Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, step := range Steps() {
		if r, ok := p.last[step]; ok {
			out = append(out, r)
		}
	}
	return out
}

// Counts returns the counts of each step since New.
func (p *Prober) Counts() (out []Count) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, step := range Steps() {
		c := Count{Step: step, Outcomes: make(map[Outcome]uint64), Took: p.took[step]}
		for _, outcome := range []Outcome{OK, Refused, Failed} {
			c.Outcomes[outcome] = p.counts[step][outcome]
		}
		out = append(out, c)
	}
	return out
}

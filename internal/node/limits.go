package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/internal/leases"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/limiter"
)

// limitReports are the gateways' reports of their limits. They are stored in Redis, so that every
// node can show all of them. It is safe for concurrent use.
type limitReports struct {
	node    string
	meter   *limiter.Meter   // nil without RoleGateway, like the next field
	history *limiter.History // the purchases that came to the limits
	pool    *leases.Pool     // nil with the embedded parts
	ring    func(string)     // makes all gateways leave their history; nil with the embedded parts
	wanted  chan struct{}    // gets a value when another process has rung; capacity 1
}

// reportEvery is how often a gateway stores its report, and historyEvery how often it stores the
// history of its limits.
const (
	reportEvery  = time.Second
	historyEvery = 10 * time.Second
)

// ringHistory is rung for a preview of limits: it needs what came to the last second.
const ringHistory = "limit-history"

// historyWait is how long a preview waits for the other gateways, and historyLook how often it
// looks whether they have answered.
const (
	historyWait = 500 * time.Millisecond
	historyLook = 50 * time.Millisecond
)

// The boards that have them.
func reportBoard() leases.Board  { return leases.Board{Name: "limit-reports", Life: 10 * time.Second} }
func historyBoard() leases.Board { return leases.Board{Name: "limit-history", Life: 3 * historyEvery} }

// run stores this gateway's reports until ctx ends, and then removes its last one.
func (l *limitReports) run(ctx context.Context) {
	var told, reported time.Time
	for {
		woken := wait.ForOrWoken(ctx, reportEvery, l.wanted)
		if ctx.Err() != nil {
			break
		}
		now := time.Now()
		if !woken || now.Sub(reported) >= reportEvery {
			reported = now
			report := l.meter.Report(now)
			if l.pool == nil {
				continue
			}
			l.leave(ctx, reportBoard(), report)
		}
		if woken || now.Sub(told) >= historyEvery {
			told = now
			l.leave(ctx, historyBoard(), l.history.Series(now))
		}
	}
	if l.pool != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportEvery)
		defer cancel()
		_, _ = l.pool.Share(ctx, reportBoard(), l.node, "") // without this call it would age out
		_, _ = l.pool.Share(ctx, historyBoard(), l.node, "")
	}
}

// leave stores a text on the board. If that fails, the next one follows soon, and readers are told
// what is missing.
func (l *limitReports) leave(ctx context.Context, board leases.Board, what any) {
	if text, err := json.Marshal(what); err == nil {
		_, _ = l.pool.Share(ctx, board, l.node, string(text))
	}
}

// histories returns the histories of all gateways. It asks for new ones, and waits for them.
func (l *limitReports) histories(ctx context.Context) ([]leases.Report, error) {
	began := time.Now()
	l.ring(ringHistory)
	for {
		shared, err := l.pool.Share(ctx, historyBoard(), "", "")
		waited := time.Since(began)
		old := func(s leases.Report) bool { return s.Node != l.node && s.Age > waited }
		if err != nil || !slices.ContainsFunc(shared, old) || waited >= historyWait || !wait.For(ctx, historyLook) {
			return shared, err
		}
	}
}

// LimitHistory implements admin.LimitReports. It says which gateway's last seconds are missing.
func (l *limitReports) LimitHistory(ctx context.Context) (series []limiter.Series, missing string) {
	var nodes [][]limiter.Series
	var ages []int
	if l.history != nil {
		nodes, ages = append(nodes, l.history.Series(time.Now())), append(ages, 0)
	}
	if l.pool == nil {
		return limiter.MergeSeries(nodes, ages), ""
	}
	shared, err := l.histories(ctx)
	if err != nil {
		missing = "Redis can't be asked for the purchases of the other gateways."
	}
	for _, s := range shared {
		if s.Node == l.node && l.history != nil {
			continue
		}
		var one []limiter.Series
		if err := json.Unmarshal([]byte(s.Text), &one); err != nil {
			missing = "What came to " + s.Node + " can't be read."
			continue
		}
		if s.Age >= 2*historyWait {
			missing = fmt.Sprintf("What came to %s in the last %.0f s is missing.", s.Node, s.Age.Seconds())
		}
		nodes, ages = append(nodes, one), append(ages, int(s.Age/time.Second))
	}
	return limiter.MergeSeries(nodes, ages), missing
}

// LimitReports implements admin.LimitReports.
func (l *limitReports) LimitReports(ctx context.Context) (reports []limiter.NodeReport, missing string) {
	if l.meter != nil {
		reports = append(reports, limiter.NodeReport{Node: l.node, Report: l.meter.Report(time.Now())})
	}
	if l.pool == nil {
		return reports, ""
	}
	shared, err := l.pool.Share(ctx, reportBoard(), "", "")
	if err != nil {
		return reports, "Redis can't be asked for the reports of the other gateways."
	}
	for _, s := range shared {
		r := limiter.NodeReport{Node: s.Node, Age: s.Age}
		if s.Node == l.node && l.meter != nil {
			continue
		}
		if err := json.Unmarshal([]byte(s.Text), &r.Report); err != nil {
			missing = "The report of " + s.Node + " can't be read."
			continue
		}
		reports = append(reports, r)
	}
	return reports, missing
}

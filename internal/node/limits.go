package node

import (
	"context"
	"encoding/json"
	"time"

	"penstock/internal/leases"
	"penstock/internal/wait"
	"penstock/limiter"
)

// limitReports are what the gateways say of their limits. They leave their reports in Redis, so that every
// node can tell all of them. It is safe for concurrent use.
type limitReports struct {
	node  string
	meter *limiter.Meter // nil without RoleGateway
	pool  *leases.Pool   // nil with the embedded parts
}

// reportEvery is how often a gateway leaves its report.
const reportEvery = time.Second

// run leaves this gateway's reports until ctx ends, and then takes the last one away.
func (l *limitReports) run(ctx context.Context) {
	for wait.For(ctx, reportEvery) {
		report := l.meter.Report(time.Now())
		if l.pool == nil {
			continue
		}
		if text, err := json.Marshal(report); err == nil {
			_, _ = l.pool.Share(ctx, l.node, string(text)) // the next one is soon; who asks is told what is missing
		}
	}
	if l.pool != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportEvery)
		defer cancel()
		_, _ = l.pool.Share(ctx, l.node, "") // else it ages
	}
}

// LimitReports implements admin.LimitReports.
func (l *limitReports) LimitReports(ctx context.Context) (reports []limiter.NodeReport, missing string) {
	if l.meter != nil {
		reports = append(reports, limiter.NodeReport{Node: l.node, Report: l.meter.Report(time.Now())})
	}
	if l.pool == nil {
		return reports, ""
	}
	shared, err := l.pool.Share(ctx, "", "")
	if err != nil {
		return reports, "Redis can't be asked what the other gateways say."
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

package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/penstock/penstock/seckill"
)

// TestLogDetail: with the switch log-detail on, one line per request has the caller, the answer,
// and the limit that refused it. With the switch off, which is normal, there is no such line.
func TestLogDetail(t *testing.T) {
	const limits = `{"policies":[{"name":"users","key":"user","rate":1,"burst":1,"mode":"enforce"}]}`
	const on = `{"switches":[{"name":"log-detail","value":"on","reason":"x","by":"ann","since":"2026-06-18T12:00:00Z"}]}`
	for switches, want := range map[string]int{"": 0, on: 2} {
		gate, _, log := gated(t, limits, switches)
		gate.visits.log = slog.New(slog.NewJSONHandler(log, nil))
		s := start(t, func(c *Config) { c.Gate = gate })
		s.sales.become(func(s *stubSales) {
			s.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
				p.OrderID(1)
				if p.Closed != nil {
					return seckill.Receipt{}, p.Closed
				}
				return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
			}
		})
		for _, id := range []string{"ticket-1", "ticket-2"} {
			do(t, s.request(t, "POST", "/v1/orders", goodBody, "X-Request-Id", id, "Idempotency-Key", id))
		}
		var lines []map[string]any
		for line := range strings.Lines(log.String()) {
			one := make(map[string]any)
			if json.Unmarshal([]byte(line), &one) == nil && one["msg"] == "visit" {
				lines = append(lines, one)
			}
		}
		if len(lines) != want {
			t.Fatalf("%d lines, want %d: %s", len(lines), want, log.String())
		}
		if want == 0 {
			continue
		}
		for i, fields := range []map[string]any{
			{"request_id": "ticket-1", "user": "u-42", "status": float64(http.StatusAccepted), "code": "", "limit": "", "caller": "web"},
			{"request_id": "ticket-2", "user": "u-42", "status": float64(http.StatusTooManyRequests), "code": "rate-limited", "limit": "users"},
		} {
			for name, value := range fields {
				if lines[i][name] != value {
					t.Errorf("line %d: %s is %v, want %v", i, name, lines[i][name], value)
				}
			}
			if order, ok := lines[i]["order"].(string); !ok || order == "" {
				t.Errorf("line %d names no order: %v", i, lines[i])
			}
		}
	}
}

package admin

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/penstock/penstock/limiter"
)

// twoGateways reports what two gateways admit and refuse.
type twoGateways struct{ missing string }

func (twoGateways) LimitHistory(context.Context) ([]limiter.Series, string) {
	return []limiter.Series{{Merchant: "m1", Caller: "web", Counts: []uint32{0, 500, 100}}, {Merchant: "m2", Caller: "app", Counts: []uint32{0, 10, 10}}}, ""
}

func (g twoGateways) LimitReports(context.Context) ([]limiter.NodeReport, string) {
	report := func(node string, allowed, refused, share float64, top uint64) limiter.NodeReport {
		return limiter.NodeReport{Node: node, Age: 40 * time.Millisecond, Report: limiter.Report{
			Policies: []limiter.PolicyUsage{{Name: "web", Allowed: allowed, Refused: refused, Share: share}, {Name: "gone", Allowed: 1}},
			Top:      []limiter.Hot{{Policy: "web", Key: "m1/web", Refused: top}}, Span: 70,
		}}
	}
	return []limiter.NodeReport{report("gw-2", 100, 0, 0.25, 1), report("gw-1", 300, 20.5, 0.75, 41)}, g.missing
}

func TestLimitUsage(t *testing.T) {
	for _, missing := range []string{"", "Redis can't be asked for the reports of the other gateways."} {
		s := open(t, func(_ *Config, d *Deps) { d.Limits = twoGateways{missing} })
		policies := `{"policies":[{"name":"idle","key":"user","rate":1,"burst":1},{"name":"web","key":"caller","match":"m1/web","rate":400,"burst":400}],` +
			`"reason":"a test","allow_unknown":true}`
		s.must(http.StatusOK, http.MethodPut, "/admin/v1/limits", policies, "If-Match", "*")
		got := s.must(http.StatusOK, http.MethodGet, "/admin/v1/limits/usage", "").body
		rates := func(allowed, refused string) string {
			return fmt.Sprintf(`"allowed_per_second":%s,"refused_per_second":%s,"shadowed_per_second":0`, allowed, refused)
		}
		want := fmt.Sprintf(`{"complete":%v,"missing":%q,"nodes":[{"node":"gw-1","age_ms":40,"alone":false},{"node":"gw-2","age_ms":40,"alone":false}],`+
			`"policies":[{"name":"web","key":"caller","match":"m1/web","rate":400,"burst":400,"mode":"enforce",`+rates("400", "20.5")+
			`,"nodes":[{"node":"gw-1",`+rates("300", "20.5")+`,"share":0.75,"effective_rate":300},`+
			`{"node":"gw-2",`+rates("100", "0")+`,"share":0.25,"effective_rate":100}]},`+
			`{"name":"idle","key":"user","rate":1,"burst":1,"mode":"enforce",`+rates("0", "0")+`,"nodes":[]}],`+
			`"top":[{"policy":"web","key":"m1/web","refused":42,"uncertain":0,"nodes":[{"node":"gw-1","refused":41},{"node":"gw-2","refused":1}]}],`+
			`"top_span_seconds":70}`, missing == "", missing)
		if got != want && got != want+"\n" {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

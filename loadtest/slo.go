package loadtest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// SLO is a threshold that a load is measured against, such as p99(accepted)<50ms.
type SLO struct {
	text   string
	metric string // p, max, error_rate, achieved_rate, accepted, orders_created, errors
	share  float64
	scope  string
	op     string
	bound  float64 // seconds, a share, a rate or a number
}

// SLOResult is an SLO with what was measured.
type SLOResult struct {
	SLO      string `json:"slo"`
	Met      bool   `json:"met"`
	Measured string `json:"measured"`
}

var (
	sloForm    = regexp.MustCompile(`^([a-z0-9_.]+)(?:\(([a-z_-]+)\))?\s*(<=|>=|<|>)\s*(\S+)$`)
	percentile = regexp.MustCompile(`^p([0-9]{1,2}(?:\.[0-9]+)?)$`)
	shorthand  = regexp.MustCompile(`^p(999+)$`)
)

// The scopes of a latency that are neither an outcome nor an action.
const (
	scopeAll       = "all"
	scopeConfirmed = "click_to_confirmed"
	scopeService   = "service"
)

// ParseSLOs reads thresholds with commas between:
//   - p50 to p99.99 and max of a scope in parentheses, against a duration. A scope is an outcome
//     such as accepted or sold-out, an action such as buy or poll, click_to_confirmed, service, or
//     all, which may be left out.
//   - error_rate against a share.
//   - achieved_rate, accepted, orders_created and errors against a number.
//
// It reports everything that is wrong, a line for each.
func ParseSLOs(text string) ([]SLO, error) {
	var out []SLO
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		one, err := parseSLO(part)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("slo: %q has no threshold like p99(accepted)<50ms", text)
	}
	return out, nil
}

func parseSLO(text string) (SLO, error) {
	m := sloForm.FindStringSubmatch(text)
	if m == nil {
		return SLO{}, fmt.Errorf("slo: %q is not like p99(accepted)<50ms or error_rate<0.1%%", text)
	}
	s := SLO{text: text, metric: m[1], scope: m[2], op: m[3]}
	var err error
	switch {
	case percentile.MatchString(s.metric) || shorthand.MatchString(s.metric) || s.metric == "max":
		s.share = 1
		if s.metric != "max" {
			digits := s.metric[1:]
			if shorthand.MatchString(s.metric) { // p999 is 99.9
				digits = digits[:2] + "." + digits[2:]
			}
			if s.share, err = strconv.ParseFloat(digits, 64); err == nil {
				s.share /= 100
			}
			s.metric = "p"
		}
		if s.scope == "" {
			s.scope = scopeAll
		}
		if !knownScope(s.scope) {
			return SLO{}, fmt.Errorf("slo: %q: %q is neither an outcome, an action, click_to_confirmed, service nor all", text, s.scope)
		}
		d, wrong := time.ParseDuration(m[4])
		if wrong != nil || d <= 0 {
			return SLO{}, fmt.Errorf("slo: %q: %q is not a duration like 50ms", text, m[4])
		}
		s.bound = d.Seconds()
	case s.metric == "error_rate":
		s.bound, err = ParseShare(m[4])
	case s.metric == "achieved_rate":
		s.bound, err = ParseRate(m[4])
	case s.metric == "accepted" || s.metric == "orders_created" || s.metric == "errors":
		s.bound, err = strconv.ParseFloat(m[4], 64)
	default:
		return SLO{}, fmt.Errorf("slo: %q: %q is not pNN, max, error_rate, achieved_rate, accepted, orders_created or errors", text, s.metric)
	}
	if err != nil || !(s.bound >= 0) {
		return SLO{}, fmt.Errorf("slo: %q: %q can't be compared with %s", text, m[4], m[1])
	}
	if m[2] != "" && s.scope != "" && s.metric != "p" && s.metric != "max" {
		return SLO{}, fmt.Errorf("slo: %q: %s has no scope", text, s.metric)
	}
	return s, nil
}

func knownScope(scope string) bool {
	for a := range actions {
		if a.String() == scope && a != Read {
			return true
		}
	}
	for o := range outcomes {
		if o.String() == scope {
			return true
		}
	}
	return scope == scopeAll || scope == scopeConfirmed || scope == scopeService
}

// Measure compares an SLO with a load's result. If there was no answer of that kind, its latency is
// missed, since nothing shows that it is kept.
func (s SLO) Measure(r *LoadResult) SLOResult {
	out := SLOResult{SLO: s.text}
	var value float64
	switch s.metric {
	case "p", "max":
		l := s.latency(r)
		if l.Count() == 0 {
			out.Measured = "no answers"
			return out
		}
		d := l.Max()
		if s.metric == "p" {
			d = l.Quantile(s.share)
		}
		value, out.Measured = d.Seconds(), d.Round(time.Microsecond).String()
	case "error_rate":
		value = r.ErrorRate()
		out.Measured = strconv.FormatFloat(100*value, 'f', 4, 64) + "%"
	case "achieved_rate":
		value = r.AchievedRate()
		out.Measured = strconv.FormatFloat(value, 'f', 1, 64) + "/s"
	default:
		value = map[string]float64{
			"accepted": float64(r.Buy.Count(Accepted)), "orders_created": float64(r.Created), "errors": float64(r.Errors()),
		}[s.metric]
		out.Measured = strconv.FormatFloat(value, 'f', -1, 64)
	}
	switch s.op {
	case "<":
		out.Met = value < s.bound
	case "<=":
		out.Met = value <= s.bound
	case ">":
		out.Met = value > s.bound
	default:
		out.Met = value >= s.bound
	}
	return out
}

func (s SLO) latency(r *LoadResult) *Latency {
	switch s.scope {
	case scopeAll:
		return r.Scheduled
	case scopeConfirmed:
		return r.Confirmed
	case scopeService:
		return r.Service
	}
	for o := range outcomes {
		if o.String() == s.scope {
			return MergeLatency(r.Buy.Latency[o], r.Browse.Latency[o], r.Poll.Latency[o], r.Pay.Latency[o], r.Cancel.Latency[o])
		}
	}
	for a, t := range map[Action]*Tally{Buy: &r.Buy, Browse: &r.Browse, Poll: &r.Poll, Pay: &r.Pay, Cancel: &r.Cancel} {
		if a.String() == s.scope {
			return t.LatencyOf(everyOutcome()...)
		}
	}
	return nil
}

func everyOutcome() []Outcome {
	all := make([]Outcome, 0, outcomes)
	for o := range outcomes {
		all = append(all, o)
	}
	return all
}

// ParseShare reads a share: 10% or 0.1.
func ParseShare(text string) (float64, error) {
	digits, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(digits, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("%q is not a share like 10%% or 0.1", text)
	}
	return share, nil
}

// ParseRate reads a rate: 5000/s, 300/m, or 5000, which is per second.
func ParseRate(text string) (float64, error) {
	digits, per := strings.TrimSuffix(text, "/s"), 1.0
	if m, ok := strings.CutSuffix(text, "/m"); ok {
		digits, per = m, 60
	}
	rate, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(rate >= 0 && rate <= maxRate) {
		return 0, fmt.Errorf("%q is not a rate like 5000/s, up to %d/s", text, maxRate)
	}
	return rate / per, nil
}

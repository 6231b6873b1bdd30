package loadtest

import (
	"strings"
	"testing"
	"time"
)

func TestParseSLOs_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "no threshold",
		" , ":                       "no threshold",
		"p99":                       "is not like",
		"p99(accepted)":             "is not like",
		"p99(accepted)=50ms":        "is not like",
		"p99(accepted)<50":          "not a duration",
		"p99(accepted)<-5ms":        "not a duration",
		"p99(somebody)<50ms":        "neither an outcome",
		"p99(read)<50ms":            "neither an outcome",
		"p100.5<50ms":               "is not pNN",
		"q99<50ms":                  "is not pNN",
		"error_rate<101%":           "can't be compared",
		"error_rate<x":              "can't be compared",
		"error_rate(accepted)<0.1%": "has no scope",
		"achieved_rate>-5/s":        "can't be compared",
		"accepted>many":             "can't be compared",
		"errors>NaN":                "can't be compared",
	} {
		if _, err := ParseSLOs(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSLO_Measure(t *testing.T) {
	r := &LoadResult{Length: 10 * time.Second, Left: 1000, Created: 90}
	r.Scheduled, r.Confirmed = newLatency(), newLatency()
	record := func(o Outcome, from, to int) {
		r.Buy.Latency[o] = newLatency()
		for ms := from; ms <= to; ms++ {
			d := time.Duration(ms) * time.Millisecond
			r.Buy.Latency[o].record(d)
			r.Scheduled.record(d)
			r.Buy.Counts[o]++
			r.Buy.Sent++
		}
	}
	record(Accepted, 1, 100)
	record(SoldOut, 1001, 1899)
	record(Failed, 1, 1)
	for text, want := range map[string]struct {
		met      bool
		measured string
	}{
		"p99(accepted)<100ms":          {true, "99.007ms"},
		"p99(accepted)<99ms":           {false, "99.007ms"},
		"p50(accepted)<=50.015ms":      {true, "50.015ms"},
		"max(accepted)>=100ms":         {true, "100.031ms"},
		"p99.9(sold-out)<2s":           {true, "1.898495s"},
		"p999(sold-out)<2s":            {true, "1.898495s"},
		"p1<50ms":                      {true, "9.007ms"},
		"p50(buy)>1s":                  {true, "1.399807s"},
		"error_rate<0.1%":              {false, "0.1000%"},
		"error_rate<=0.001":            {true, "0.1000%"},
		"achieved_rate>=100/s":         {true, "100.0/s"},
		"achieved_rate>6001/m":         {false, "100.0/s"},
		"accepted>=100":                {true, "100"},
		"orders_created>90":            {false, "90"},
		"errors<1":                     {false, "1"},
		"p50(limited)<1s":              {false, "no answers"},
		"p99(click_to_confirmed)<1s":   {false, "no answers"},
		" p99( accepted )<1s":          {},
		"p99(accepted) < 100ms":        {true, "99.007ms"},
		"p99.99(all)<2s,errors<2":      {true, "1.899519s"},
		"p50(service)<10h":             {false, "no answers"},
		"p90(accepted)<1s, accepted>0": {true, "90.047ms"},
	} {
		slos, err := ParseSLOs(text)
		if strings.Contains(text, "( ") {
			if err == nil {
				t.Errorf("%q: no error", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		got := slos[0].Measure(r)
		if got.Met != want.met || got.Measured != want.measured {
			t.Errorf("%q: %v, measured %s, want %+v", text, got.Met, got.Measured, want)
		}
	}
}

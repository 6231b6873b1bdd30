package node

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/internal/live"
)

// TestSymptoms_Webhook: a receiver that refuses is named, with its answer, until it takes events.
func TestSymptoms_Webhook(t *testing.T) {
	var well atomic.Bool
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer receiver.Close()
	s := openLiveShop(t)
	s.call("PUT", s.AdminURL()+"/admin/v1/webhooks/pager", `{"url":"`+receiver.URL+`","events":["change"],"reason":"on call"}`, liveToken)
	s.call("POST", s.AdminURL()+"/admin/v1/activities/618/pause", `{"reason":"an event"}`, liveToken)
	find := func(v *live.Snapshot) *live.Finding {
		for i := range v.Abnormal {
			if v.Abnormal[i].Kind == live.KindWebhookFails {
				return &v.Abnormal[i]
			}
		}
		return nil
	}
	f := find(s.see("the alarm of a receiver that refuses", func(v *live.Snapshot) bool { return find(v) != nil }))
	if f.Subject != "pager" || !strings.Contains(f.Text, "502") || !strings.HasSuffix(f.Text, ".") {
		t.Errorf("%+v", f)
	}
	well.Store(true)
	s.see("no such alarm any more", func(v *live.Snapshot) bool { return find(v) == nil })
}

func TestClockSymptom(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		0: "", time.Second: "", -time.Second: "",
		40 * time.Second:         "The clock of g is 40.0 seconds behind the database's.",
		-2500 * time.Millisecond: "The clock of g is 2.5 seconds ahead of the database's.",
	} {
		got := clockSymptom(nil, "g", ahead)
		if want == "" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || got[0].Text != want || got[0].Subject != "g" {
			t.Errorf("%v: %+v, want %q", ahead, got, want)
		}
	}
}

func TestCertificateSymptoms(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "ca")
	now := time.Now()
	issue := func(name string, life time.Duration) namedPair {
		cert, key := ca.issue(t, name, now.Add(life))
		return namedPair{name, cert, key}
	}
	gone := issue("gone", 1000*time.Hour)
	if err := os.Remove(gone.cert); err != nil {
		t.Fatal(err)
	}
	files := []namedPair{issue("good", 1000*time.Hour), gone, issue("soon", 100*time.Hour), issue("old", -time.Hour)}
	want := map[string]string{
		"gone on g": "can't be read (open " + gone.cert, "soon on g": "soon on g expires at ", "old on g": "old on g has expired at ",
	}
	got := *certificateSymptoms(files, "g", now)
	for _, one := range got {
		if text := want[one.Subject]; text == "" || !strings.Contains(one.Text, text) || (one.Severity == live.Critical) != (one.Subject == "old on g") {
			t.Errorf("%+v", one)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%+v", got)
	}
}

// TestNotices: refused payment notices are told for a minute. Those that strangers can send are
// told where they are most of all.
func TestNotices(t *testing.T) {
	var w notices
	now := time.Now()
	counts := map[string]uint64{}
	look := func(after time.Duration, code string, more uint64) string {
		now = now.Add(after)
		counts[code] += more
		pay := gateway.RouteStats{Route: "pay"}
		for code, n := range counts {
			status := 200
			switch code {
			case "amount-mismatch":
				status = 409
			case "invalid-signature":
				status = 401
			case "unavailable":
				status = 503
			}
			pay.Answers = append(pay.Answers, gateway.Answers{Status: status, Code: code, Count: n})
		}
		return w.look([]gateway.RouteStats{{Route: "buy", Answers: []gateway.Answers{{Status: 409, Code: "sold-out", Count: 9}}}, pay}, now)
	}
	for i, c := range []struct {
		after time.Duration
		code  string
		more  uint64
		want  string
	}{
		{0, "", 100, ""},
		{time.Second, "", 10, ""},
		{time.Second, "unavailable", 50, ""}, // other alarms name it
		{time.Second, "amount-mismatch", 1, "1 of 61 payment notices in the last minute, mostly with amount-mismatch"},
		{59 * time.Second, "", 0, "1 of 1 payment notices in the last minute, mostly with amount-mismatch"},
		{2 * time.Second, "", 10, ""},
		{10 * time.Second, "invalid-signature", 4, ""},
		{10 * time.Second, "invalid-signature", 6, ""}, // half of them
		{10 * time.Second, "invalid-signature", 1, "11 of 21 payment notices in the last minute, mostly with invalid-signature"},
		{2 * time.Minute, "", 0, ""},
	} {
		if got := look(c.after, c.code, c.more); got != c.want {
			t.Errorf("look %d: %q, want %q", i, got, c.want)
		}
	}
}

// TestSymptomMetrics: each kind is counted. It reads 0 before the first look, and if there is none.
func TestSymptomMetrics(t *testing.T) {
	n := &Node{live: new(liveView)}
	read := func() map[string]float64 {
		out := make(map[string]float64)
		for _, s := range n.symptomMetrics() {
			out[s.Labels[0].Value] = s.Value
		}
		return out
	}
	want := make(map[string]float64)
	for _, kind := range live.SymptomKinds() {
		want[kind] = 0
	}
	if got := read(); !maps.Equal(got, want) {
		t.Errorf("before the first look: %v", got)
	}
	n.live.symptoms.Store(&[]live.Symptom{{Kind: live.KindWebhookFails}, {Kind: live.KindClockOff}, {Kind: live.KindWebhookFails}})
	want[live.KindWebhookFails], want[live.KindClockOff] = 2, 1
	if got := read(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	n.live.symptoms.Store(new([]live.Symptom))
	want[live.KindWebhookFails], want[live.KindClockOff] = 0, 0
	if got := read(); !maps.Equal(got, want) {
		t.Errorf("when they are over: %v", got)
	}
}

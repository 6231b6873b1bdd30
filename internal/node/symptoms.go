package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/wait"
)

// Bounds beyond which a node tells a symptom.
const (
	clockTolerated = 2 * time.Second     // from the database's clock
	certificateEnd = 14 * 24 * time.Hour // before its end
	postFailedFor  = 150 * time.Second   // after a failed post: the longest pause between two, and a post
	noticesSpan    = time.Minute         // of refused payment notices
	noticesLeast   = 5                   // refusals of what may come from strangers
)

// collectSymptoms collects what isn't normal and what only this node can see.
func (n *Node) collectSymptoms(now time.Time) (out []live.Symptom) {
	out = clockSymptom(out, n.name(), time.Duration(n.sale.ahead.Load()))
	if seen := n.live.certificates.Load(); seen != nil {
		out = append(out, *seen...)
	}
	out = n.bookSymptoms(out)
	out = n.webhookSymptoms(out, now)
	if edge := n.live.edge.Load(); edge != nil {
		if text := n.live.collector.notices.look(edge.Stats().Routes, now); text != "" {
			out = append(out, live.Symptom{Kind: live.KindPayRefused, Subject: n.name(), Text: n.name() + " has refused " + text + "."})
		}
	}
	return out
}

// bookSymptoms are promises that a worker can't put into the books, while others can be.
func (n *Node) bookSymptoms(out []live.Symptom) []live.Symptom {
	if n.sale.Worker == nil {
		return out
	}
	if stuck := n.sale.Worker.Counts().Stuck.Load(); stuck > 0 {
		out = append(out, live.Symptom{Kind: live.KindStuck, Subject: n.name(), Text: fmt.Sprintf(
			"%s can't read a record: %s until a worker that can read it takes over.", n.name(),
			counted(stuck, "partition stands still", "partitions stand still"))})
	}
	named := n.servers.database.refused(refusedFor, refusedLeast) != nil // as a server that is away
	if partition, why := n.sale.Worker.Aside(); why != nil && !named {
		out = append(out, live.Symptom{Kind: live.KindRowsLocked, Subject: n.name(), Text: fmt.Sprintf(
			"%s can't commit what came in partition %d, and tries it again: %v.", n.name(), partition, why)})
	} else if parked := n.sale.Unparker.Waiting(); parked > 0 {
		out = append(out, live.Symptom{Kind: live.KindRowsLocked, Subject: n.name(), Text: fmt.Sprintf(
			"%s for a row of the database that somebody has locked, as %s sees it.", counted(parked, "order waits", "orders wait"), n.name())})
	}
	return out
}

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// clockSymptom is about a node's clock. The database's, which is the one that counts, is ahead of
// it.
func clockSymptom(out []live.Symptom, node string, ahead time.Duration) []live.Symptom {
	side := "behind"
	if ahead < 0 {
		ahead, side = -ahead, "ahead of"
	}
	if ahead < clockTolerated {
		return out
	}
	return append(out, live.Symptom{Kind: live.KindClockOff, Subject: node, Text: fmt.Sprintf(
		"The clock of %s is %.1f seconds %s the database's.", node, ahead.Seconds(), side)})
}

// webhookSymptoms are the receivers whose last post from here has failed lately.
func (n *Node) webhookSymptoms(out []live.Symptom, now time.Time) []live.Symptom {
	if n.control.webhooks == nil {
		return out
	}
	states := n.control.webhooks.Own()
	for _, name := range slices.Sorted(maps.Keys(states)) {
		s := states[name]
		bad := s.LastError
		if bad == nil || now.Sub(bad.At) > postFailedFor || s.LastOK != nil && s.LastOK.After(bad.At) {
			continue
		}
		out = append(out, live.Symptom{Kind: live.KindWebhookFails, Subject: name, Text: fmt.Sprintf(
			"The webhook %s isn't told what happens, and %s: %s.", name, counted(int64(s.Waiting), "event waits", "events wait"), bad.Error)})
	}
	return out
}

// watchCertificates looks at the files of certificates each second until ctx ends. A file system
// may hang, so it is no part of a loop that others need.
func (n *Node) watchCertificates(ctx context.Context) {
	files := n.cfg.certificates()
	for {
		n.live.certificates.Store(certificateSymptoms(files, n.name(), time.Now()))
		if !wait.ForTick(ctx, time.Second) {
			return
		}
	}
}

// namedPair is a certificate with its key, and the setting that names it.
type namedPair struct{ setting, cert, key string }

// certificates are those that the settings name.
func (c *Config) certificates() (out []namedPair) {
	for _, p := range []namedPair{
		{"tls-cert", c.ListenTLS.Cert, c.ListenTLS.Key}, {"admin-tls-cert", c.AdminTLS.Cert, c.AdminTLS.Key},
		{"redis-cert", c.RedisTransport.Cert, c.RedisTransport.Key}, {"kafka-cert", c.KafkaTransport.Cert, c.KafkaTransport.Key},
	} {
		if p.cert != "" {
			out = append(out, p)
		}
	}
	return out
}

// certificateSymptoms are the certificates that can't be read, or end soon.
func certificateSymptoms(files []namedPair, node string, now time.Time) *[]live.Symptom {
	var out []live.Symptom
	for _, p := range files {
		one := live.Symptom{Kind: live.KindCertificate, Subject: p.setting + " on " + node}
		pair, err := loadPair(p.cert, p.key)
		switch {
		case err != nil:
			one.Text = fmt.Sprintf("The certificate of %s can't be read (%v): the last one that was read is used.", one.Subject, err)
		case now.After(pair.Leaf.NotAfter):
			one.Severity = live.Critical
			one.Text = fmt.Sprintf("The certificate of %s has expired at %s.", one.Subject, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
		case pair.Leaf.NotAfter.Sub(now) < certificateEnd:
			one.Text = fmt.Sprintf("The certificate of %s expires at %s.", one.Subject, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
		default:
			continue
		}
		out = append(out, one)
	}
	return &out
}

// notices has the answers to payment notices of the last minute. The zero value has none.
type notices struct{ past []noticeCounts }

// noticeCounts are counts since the start, at a moment.
type noticeCounts struct {
	at      time.Time
	all     uint64
	refused map[string]uint64 // by problem code
}

// look takes the counters, and says what was refused in the last minute, "" where nothing was that
// matters. A notice with a right signature matters always. One without may come from strangers: it
// matters where most are so.
func (w *notices) look(routes []gateway.RouteStats, now time.Time) string {
	is := noticeCounts{at: now, refused: make(map[string]uint64)}
	for i := range routes {
		if routes[i].Route != "pay" {
			continue
		}
		for _, a := range routes[i].Answers {
			is.all += a.Count
			if a.Status >= 400 && a.Status < 500 {
				is.refused[a.Code] += a.Count
			}
		}
	}
	w.past = append(w.past, is)
	w.past = slices.DeleteFunc(w.past, func(c noticeCounts) bool { return now.Sub(c.at) > noticesSpan })
	was := &w.past[0]
	var signed, others uint64
	most, times := "", uint64(0)
	for _, code := range slices.Sorted(maps.Keys(is.refused)) {
		refused := is.refused[code] - was.refused[code]
		if code == string(problem.AmountMismatch) || code == string(problem.KeyReused) {
			signed += refused
		} else {
			others += refused
		}
		if refused > times {
			most, times = code, refused
		}
	}
	all, refused := is.all-was.all, signed+others
	if signed == 0 && (others < noticesLeast || 2*others <= all) {
		return ""
	}
	return fmt.Sprintf("%d of %d payment notices in the last minute, mostly with %s", refused, all, cmp.Or(most, "no code"))
}

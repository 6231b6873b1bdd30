package live

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Alarms raises and clears findings: a condition must hold for a while before it is raised, and be
// over for a while before it is cleared. It is used by one goroutine; NewAlarms makes one.
type Alarms struct {
	kinds map[string]Kind
	ranks map[string]int       // of the kinds, the causes first
	open  map[[2]string]*alarm // by kind and subject
}

// alarm is a condition that holds, or has just held.
type alarm struct {
	finding Finding
	since   time.Time // when it began to hold
	over    time.Time // when it was last seen
	raised  bool
}

// maxAlarms bounds how many conditions are followed. Find returns at most 20 of each kind.
const maxAlarms = 1_000

// NewAlarms returns an Alarms without raised alarms.
func NewAlarms() *Alarms {
	a := &Alarms{kinds: make(map[string]Kind), ranks: make(map[string]int), open: make(map[[2]string]*alarm)}
	for i, k := range Kinds() {
		a.kinds[k.Kind], a.ranks[k.Kind] = k, i
	}
	return a
}

// Step takes the findings of now. It returns the raised alarms, the worst first, and the changes:
// alarms that were raised or cleared just now.
func (a *Alarms) Step(found []Finding, now time.Time) (raised []Finding, news []Alarm) {
	for i := range found {
		key := [2]string{found[i].Kind, found[i].Subject}
		one := a.open[key]
		if one == nil {
			if len(a.open) >= maxAlarms {
				continue
			}
			one = &alarm{since: now}
			a.open[key] = one
		}
		one.over = now
		one.finding = found[i]
		if one.finding.Since == nil {
			since := one.since
			one.finding.Since = &since
		}
	}
	raised = []Finding{}
	for key, one := range a.open {
		kind := a.kinds[key[0]]
		holds := one.over.Equal(now)
		switch {
		case holds && !one.raised && now.Sub(one.since) >= kind.Raise:
			one.raised = true
			news = append(news, Alarm{now, AlarmRaised, one.finding})
		case !holds && (!one.raised || now.Sub(one.over) >= kind.Clear):
			delete(a.open, key)
			if one.raised {
				news = append(news, Alarm{now, AlarmCleared, one.finding})
			}
			continue
		}
		if one.raised {
			raised = append(raised, one.finding)
		}
	}
	a.sort(raised)
	slices.SortFunc(news, func(x, y Alarm) int { return a.worseFirst(x.Finding, y.Finding) })
	return raised, news
}

// sort sorts raised alarms, the worst first. Within a severity one of each kind comes before the
// second of any kind: only a few lines may be shown, and ten lost nodes must not hide other alarms.
func (a *Alarms) sort(raised []Finding) {
	slices.SortFunc(raised, a.worseFirst)
	met := make(map[string]int)
	turn := make(map[[2]string]int, len(raised))
	for i := range raised {
		f := &raised[i]
		turn[[2]string{f.Kind, f.Subject}] = met[f.Kind]
		met[f.Kind]++
	}
	slices.SortStableFunc(raised, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(severityRank(x.Severity), severityRank(y.Severity)),
			cmp.Compare(turn[[2]string{x.Kind, x.Subject}], turn[[2]string{y.Kind, y.Subject}]))
	})
}

// worseFirst sorts findings. Within a severity, a cause comes before its consequences: a missing
// server before the answers that fail.
func (a *Alarms) worseFirst(x, y Finding) int {
	return cmp.Or(cmp.Compare(severityRank(x.Severity), severityRank(y.Severity)), cmp.Compare(a.ranks[x.Kind], a.ranks[y.Kind]),
		strings.Compare(x.Subject, y.Subject))
}

func severityRank(severity string) int {
	switch severity {
	case Critical:
		return 0
	case Warning:
		return 1
	}
	return 2
}

package loadtest

import (
	"math"
	"sort"
	"time"
)

// Phase is a part of a load. During Duration, the rate of departures changes evenly from From to
// To, per second.
type Phase struct {
	Name     string
	Duration time.Duration
	From, To float64
	Mix      Mix
}

// Mix has the kinds of departures of a phase, as shares from 0 to 1.
type Mix struct {
	Browse      float64 // share of departures that read the sale's page; the others are purchases
	Repeat      float64 // share of purchases that repeat one from a few seconds before, with its key
	DoubleClick float64 // share of purchases that repeat the one just before, with its key
	Poll        float64 // of accepted orders: are asked for until they are confirmed
	Pay         float64 // of accepted orders: are paid
	Cancel      float64 // of accepted orders: are cancelled; the rest is left alone
}

// DefaultMix is a crowd that only buys. One press in ten is repeated after a moment, and one in
// twenty is a double click.
func DefaultMix() Mix { return Mix{Repeat: 0.1, DoubleClick: 0.05} }

// plan has the due time and the kind of each departure of a load. It depends only on phases and
// seed, and needs no memory for departures or users. It is fixed before the first departure leaves,
// so that a slow answer delays no other request.
type plan struct {
	segments []segment // those with departures
	count    int64
	length   time.Duration
	seed     uint64
	users    uint64
	taste    taste
}

// segment is a phase, and the sums of the phases before it.
type segment struct {
	phase *Phase
	start time.Duration
	base  float64 // departures before it
	end   float64 // departures up to its end
}

func newPlan(phases []Phase, seed uint64, users int, of taste) *plan {
	p := &plan{seed: seed, users: uint64(users), taste: of}
	total := 0.0
	for i := range phases {
		phase := &phases[i]
		count := (phase.From + phase.To) / 2 * phase.Duration.Seconds()
		if count > 0 {
			p.segments = append(p.segments, segment{phase, p.length, total, total + count})
		}
		total += count
		p.length += phase.Duration
	}
	p.count = int64(math.Ceil(total - 1e-6)) // departures 0, 1, 2 … leave when the sum of the rate reaches their number
	return p
}

// at returns the segment of departure i.
func (p *plan) at(i int64) *segment {
	n := sort.Search(len(p.segments), func(s int) bool { return p.segments[s].end > float64(i) })
	return &p.segments[min(n, len(p.segments)-1)]
}

// due returns when departure i must leave, counted from the start.
func (p *plan) due(i int64) time.Duration {
	s := p.at(i)
	// The sum of the rate is from·t + slope·t²/2; solved for t in the form that stays exact for a
	// small slope.
	n, from := max(float64(i)-s.base, 0), s.phase.From
	slope := (s.phase.To - from) / s.phase.Duration.Seconds()
	if root := from + math.Sqrt(max(from*from+2*slope*n, 0)); root > 0 {
		return min(s.start+time.Duration(2*n/root*float64(time.Second)), s.start+s.phase.Duration)
	}
	return s.start
}

// rate returns the departures per second at a time from the start.
func (p *plan) rate(t time.Duration) float64 {
	for i := range p.segments {
		s := &p.segments[i]
		if t >= s.start && t < s.start+s.phase.Duration {
			return s.phase.From + (s.phase.To-s.phase.From)*float64(t-s.start)/float64(s.phase.Duration)
		}
	}
	return 0
}

// The dice of a departure. Each decides one thing.
const (
	dieCaller uint64 = iota
	dieKind
	dieBack
	dieUser
	dieAfter
	dieThink
	diePoll
	dieItem // the eighth, and the last
)

// dice returns 64 random bits that depend only on the seed, a number and a die (splitmix64).
func (p *plan) dice(i int64, die uint64) uint64 {
	x := p.seed + (uint64(i)*8+die)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// share returns these bits as a number that is at least 0 and below 1.
func (p *plan) share(i int64, die uint64) float64 { return float64(p.dice(i, die)>>11) / (1 << 53) }

// kind is the kind of a departure.
type kind uint8

const (
	buying   kind = iota // a purchase with a key of its own
	doubling             // the last such purchase again
	coming               // an earlier one again
	browsing
)

func (p *plan) kind(i int64) kind {
	mix := &p.at(i).phase.Mix
	die := p.share(i, dieKind)
	if die < mix.Browse {
		return browsing
	}
	switch die = (die - mix.Browse) / (1 - mix.Browse); {
	case die < mix.DoubleClick:
		return doubling
	case die < mix.DoubleClick+mix.Repeat:
		return coming
	}
	return buying
}

// comesBackWithin is the greatest age of a purchase that is repeated.
const comesBackWithin = 3 * time.Second

// maxLookBack bounds the search for a purchase to repeat.
const maxLookBack = 1000

// origin returns the departure whose key departure i uses: its own, or an earlier one's. If there
// is no earlier one, the departure is the first with its key.
func (p *plan) origin(i int64) int64 {
	from := i - 1
	switch p.kind(i) {
	case coming:
		if near := int64(p.rate(p.due(i)) * comesBackWithin.Seconds()); near > 1 {
			from -= int64(p.dice(i, dieBack) % uint64(min(near, i+1)))
		}
	case doubling:
	default:
		return i
	}
	for back := 0; from >= 0 && back < maxLookBack; back++ {
		if p.kind(from) == buying {
			return from
		}
		from--
	}
	return i
}

// user returns the user of departure i, which is below the number of users.
func (p *plan) user(i int64) uint64 { return p.dice(i, dieUser) % p.users }

// goods returns the item that departure i buys or reads, and the caller that does it.
func (p *plan) goods(i int64) (g *goods, caller int) {
	g = p.taste.of(p.share(i, dieItem))
	return g, g.callers[p.dice(i, dieCaller)%uint64(len(g.callers))]
}

// sum returns how many departures are due within a time from the start.
func (p *plan) sum(t time.Duration) float64 {
	total := 0.0
	for i := range p.segments {
		s := &p.segments[i]
		in := min(max(t-s.start, 0), s.phase.Duration).Seconds()
		total += s.phase.From*in + (s.phase.To-s.phase.From)/s.phase.Duration.Seconds()*in*in/2
	}
	return total
}

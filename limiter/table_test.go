package limiter

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/raced"
)

func (s *Stats) table(key Kind) TableStats {
	for _, t := range s.Tables {
		if t.Key == key {
			return t
		}
	}
	return TableStats{}
}

// A hundred thousand invented users come to a table with room for a thousand. Memory doesn't grow,
// and those without room share.
func TestL8_TableIsBounded(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: User, Rate: 1, Burst: 2}), 1)
	before := len(l.tables[user].slots)
	allowed := 0
	for i := range 100_000 {
		if l.Allow(&Request{Merchant: "m", User: fmt.Sprint("invented", i)}, at(0)).Allowed {
			allowed++
		}
	}
	s := l.Stats(at(0))
	users := s.table(User)
	if len(l.tables[user].slots) != before || users.Capacity != before || users.Live > before || users.Live < before*9/10 {
		t.Errorf("%d slots, %+v", before, users)
	}
	if users.Strangers < 90_000 || users.Evictions != 0 {
		t.Errorf("%+v", users)
	}
	// Each slot lets one pass, and each segment's strangers two more.
	if allowed > before+minSegments*2 {
		t.Errorf("%d invented users were admitted, there are %d slots", allowed, before)
	}
	if s := l.Stats(at(2 * time.Second)); s.table(User).Live != 0 {
		t.Errorf("two seconds later: %+v", s.table(User))
	}
	for i := range 1000 { // their slots are free for real users, each with its own bucket
		if req := (&Request{Merchant: "m", User: fmt.Sprint("real", i)}); !l.Allow(req, at(3*time.Second)).Allowed {
			t.Fatalf("user %d is refused", i)
		}
	}
	if got := l.Stats(at(3 * time.Second)); got.table(User).Evictions == 0 || got.table(User).Strangers > users.Strangers+20 {
		t.Errorf("%+v", got.table(User))
	}
}

// A million users at once fit the default. Nearly all have their own bucket, and they take no
// memory beyond the table.
func TestL8_AMillionUsersFit(t *testing.T) {
	raced.Skip(t)
	l := newLimiter(t, DefaultConfig(), enforced(Policy{Key: User, Rate: 1, Burst: 3}), 1)
	var name [16]byte
	key := func(i int) string {
		for j := range name {
			name[j] = "0123456789abcdef"[i>>(4*j)&15]
		}
		return string(name[:])
	}
	const users = 1_000_000
	for i := range users {
		l.Allow(&Request{Merchant: "m", User: key(i)}, at(0))
	}
	got := l.Stats(at(0)).Tables[0]
	if got.Capacity != 1<<21 || got.Live < users*999/1000 || got.Strangers > users/1000 {
		t.Errorf("%+v", got)
	}
	allowed := 0
	for i := 0; i < users; i += 100 {
		for range 5 {
			if l.Allow(&Request{Merchant: "m", User: key(i)}, at(0)).Allowed {
				allowed++
			}
		}
	}
	if allowed < users/100*2*999/1000 || allowed > users/100*2 {
		t.Errorf("%d admitted, two for each of %d are left", allowed, users/100)
	}
}

// In any flood, a bucket that isn't full is never dropped, so no key gets a second full one.
func TestEvictionGivesNobodyABucket(t *testing.T) {
	raced.Skip(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	l := newLimiter(t, Config{Users: 1, IPs: 1, SKUs: 1, Activities: 1, Merchants: 1, Callers: 1}, enforced(Policy{Key: User, Rate: 0.5, Burst: 20}), 1)
	const watched, seconds = 50, 400
	admitted := make([]int, watched)
	for i := range seconds * 4 {
		when := time.Duration(i) * time.Second / 4
		for range 300 { // two or three slots' worth a second, for ever: the table is always full of live ones
			l.Allow(&Request{Merchant: "m", User: fmt.Sprint("flood", r.Uint32())}, at(when))
		}
		for u := range admitted {
			for range r.IntN(4) {
				if l.Allow(&Request{Merchant: "m", User: fmt.Sprint("u", u)}, at(when)).Allowed {
					admitted[u]++
				}
			}
		}
	}
	s := l.Stats(at(seconds * time.Second)).Tables[0]
	if s.Evictions < 10_000 || s.Strangers == 0 {
		t.Fatalf("nothing was evicted: %+v", s)
	}
	for u, n := range admitted {
		// A user that was a stranger first has used some of the strangers' tokens.
		if n > 20+seconds/2+20 {
			t.Errorf("user %d: %d admitted in %d s at 0.5/s, burst 20 (seed %d)", u, n, seconds, seed)
		}
	}
}

// Strangers of a segment share one bucket, whatever their own policies are.
func TestStrangersShare(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: User, Rate: 0.001, Burst: 4}), 1)
	table, rules := l.tables[user], l.snapshot.Load().steps[0].rules
	now := l.clock.at(at(0))
	segment := &table.segments[0]
	for i := range segment.slots {
		segment.slots[i] = slot{uint64(i + 1), now + int64(time.Hour)}
	}
	var g grant
	for i := range 10 {
		if !table.take(rules, uint64(1000+i), new(Request), now, nil, &g) || (g.wait > 0) != (i >= 4) || !g.stranger {
			t.Errorf("stranger %d: %+v", i, g)
		}
	}
	g = grant{limit: rules.template, key: 1000, stranger: true, taken: 1}
	table.giveBack(&g)
	if table.take(rules, 2000, new(Request), now, nil, &g); g.wait > 0 {
		t.Errorf("a token that was given back is gone: %+v", g)
	}
	if table.take(rules, 5, new(Request), now, nil, &g); g.stranger {
		t.Errorf("who has a slot is a stranger: %+v", g)
	}
}

// A bucket may be full again, and then be given to another key. A late return of tokens finds no
// bucket then, and changes no other key's.
func TestGiveBackAfterTheSlotWent(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: User, Rate: 1, Burst: 4, Cost: &Cost{Unit: 1}}), 1)
	table, rules := l.tables[user], l.snapshot.Load().steps[0].rules
	now := l.clock.at(at(0))
	var g, other grant
	table.take(rules, 77, new(Request), now, nil, &g)
	later := now + int64(time.Minute)
	table.take(rules, 77+uint64(len(table.segments[0].slots)), &Request{Quantity: 3}, later, nil, &other) // the same home
	table.giveBack(&g)
	if table.take(rules, 77+uint64(len(table.segments[0].slots)), &Request{Quantity: 2}, later, nil, &other); other.wait == 0 {
		t.Errorf("another key got the tokens: %+v", other)
	}
}

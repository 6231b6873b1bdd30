package storetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/internal/settings"
	"penstock/seckill"
)

func settingsCases() []testCase {
	return []testCase{
		{"Put_MakesVersionsAndRecordsThem", putSettings},
		{"Put_OnlyOnTheNewestVersion", putConflict},
		{"Put_OneOfManyWins", putTogether},
		{"Exchange_GivesWhatIsNew", exchangeNew},
		{"Exchange_CountsWhoIsAlive", exchangeCounts},
		{"Members_UntilTheyLeave", membersLeave},
		{"Members_GiveWayToTheirSuccessors", membersSuccessors},
	}
}

// settingsShop is a shop whose store keeps settings.
type settingsShop struct {
	*shop
	settings settings.Store
}

func newSettingsShop(t *testing.T, open Open) *settingsShop {
	t.Helper()
	s := emptyShop(t, open)
	store, ok := s.store.(settings.Store)
	if !ok {
		t.Fatalf("a %T keeps no settings", s.store)
	}
	return &settingsShop{s, store}
}

var settingsAuthor = settings.Author(author)

func (s *settingsShop) put(name string, version int64, body string) {
	s.t.Helper()
	made, err := s.settings.PutSettings(s.ctx, name, version, []byte(body), settingsAuthor)
	s.must(err)
	equal(s.shop, "version", made, version+1)
}

func (s *settingsShop) find(name string) settings.Document {
	s.t.Helper()
	d, now, err := s.settings.FindSettings(s.ctx, name)
	s.must(err)
	equal(s.shop, "the time", now, s.clock.read())
	return d
}

// beat tells of a node that knows everything there is.
func (s *settingsShop) beat(instance, node string) settings.Update {
	s.t.Helper()
	seen := settings.Versions{settings.Limits: 1 << 40, settings.Switches: 1 << 40}
	u, err := s.settings.ExchangeSettings(s.ctx, settings.Beat{Instance: instance, Node: node, Seen: seen})
	s.must(err)
	return u
}

func (s *settingsShop) members() []string {
	s.t.Helper()
	members, err := s.settings.SettingsMembers(s.ctx)
	s.must(err)
	var out []string
	for i := range members {
		out = append(out, fmt.Sprint(members[i].Node, " ", members[i].Silent))
	}
	return out
}

func putSettings(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	equal(s.shop, "nothing yet", s.find(settings.Limits), settings.Document{Name: settings.Limits})
	s.put(settings.Limits, 0, `{"a":1}`)
	s.put(settings.Limits, 1, `{"a":2}`)
	s.put(settings.Switches, 0, `{"b":1}`)
	equal(s.shop, "limits", s.find(settings.Limits), settings.Document{Name: settings.Limits, Version: 2, Body: []byte(`{"a":2}`)})
	equal(s.shop, "switches", s.find(settings.Switches), settings.Document{Name: settings.Switches, Version: 1, Body: []byte(`{"b":1}`)})
	changes := s.changes()
	equal(s.shop, "changes", len(changes), 3)
	second := changes[1]
	equal(s.shop, "second change", second, seckill.Change{
		Number: second.Number, At: s.clock.read(), Author: author, Kind: settings.Limits, Key: "2", Before: `{"a":1}`, After: `{"a":2}`,
	})
	equal(s.shop, "before the first", changes[2].Before, "")
}

func putConflict(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	s.put(settings.Limits, 0, `{"a":1}`)
	for _, version := range []int64{0, 2, 7, -1} {
		_, err := s.settings.PutSettings(s.ctx, settings.Limits, version, []byte(`{"a":9}`), settingsAuthor)
		s.wants(err, settings.ErrConflict)
	}
	equal(s.shop, "limits", string(s.find(settings.Limits).Body), `{"a":1}`)
	equal(s.shop, "changes", len(s.changes()), 1)
}

func putTogether(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			_, err := s.settings.PutSettings(s.ctx, settings.Limits, 0, fmt.Appendf(nil, `{"a":%d}`, i), settingsAuthor)
			if err == nil {
				won.Add(1)
			} else {
				s.wants(err, settings.ErrConflict)
			}
		})
	}
	all.Wait()
	equal(s.shop, "winners", won.Load(), 1)
}

func exchangeNew(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	s.put(settings.Limits, 0, `{"a":1}`)
	s.put(settings.Limits, 1, `{"a":2}`)
	s.put(settings.Switches, 0, `{"b":1}`)
	for _, c := range []struct {
		seen settings.Versions
		want []int64 // limits, switches; 0 is nothing
	}{
		{nil, []int64{2, 1}}, {settings.Versions{settings.Limits: 1}, []int64{2, 1}}, {settings.Versions{settings.Limits: 2}, []int64{0, 1}},
		{settings.Versions{settings.Limits: 2, settings.Switches: 1}, []int64{0, 0}},
	} {
		u, err := s.settings.ExchangeSettings(s.ctx, settings.Beat{Instance: "i1", Node: "n1", Seen: c.seen})
		s.must(err)
		got := make([]int64, 2)
		for _, d := range u.Documents {
			got[slices.Index([]string{settings.Limits, settings.Switches}, d.Name)] = d.Version
			equal(s.shop, "body", string(d.Body), string(s.find(d.Name).Body))
		}
		equal(s.shop, fmt.Sprint("versions for ", c.seen), got, c.want)
		equal(s.shop, "the time", u.Now, s.clock.read())
	}
}

func exchangeCounts(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	equal(s.shop, "alive", s.beat("i1", "n1").Nodes, 1)
	equal(s.shop, "alive", s.beat("i2", "n2").Nodes, 2)
	s.clock.advance(settings.AliveFor)
	equal(s.shop, "alive at the limit", s.beat("i1", "n1").Nodes, 2)
	s.clock.advance(time.Millisecond)
	equal(s.shop, "alive behind it", s.beat("i1", "n1").Nodes, 1)
	equal(s.shop, "members", s.members(), []string{"n1 0s", fmt.Sprint("n2 ", settings.AliveFor+time.Millisecond)})
	equal(s.shop, "alive again", s.beat("i2", "n2").Nodes, 2)
	s.clock.advance(settings.CountedFor + time.Millisecond)
	equal(s.shop, "members", s.members(), nil)
}

func membersLeave(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	beat := settings.Beat{
		Instance: "i1", Node: "n1", Applied: settings.Versions{settings.Limits: 3}, Rejected: settings.Versions{settings.Switches: 4},
	}
	_, err := s.settings.ExchangeSettings(s.ctx, beat)
	s.must(err)
	s.clock.advance(time.Second)
	members, err := s.settings.SettingsMembers(s.ctx)
	s.must(err)
	equal(s.shop, "members", members, []settings.Member{{Node: "n1", Applied: beat.Applied, Rejected: beat.Rejected, Silent: time.Second}})
	s.must(s.settings.LeaveSettings(s.ctx, "i1"))
	s.must(s.settings.LeaveSettings(s.ctx, "nobody"))
	equal(s.shop, "members", s.members(), nil)
}

// A process that was killed is forgotten when one of its name is there, and not before it has been
// silent.
func membersSuccessors(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	s.beat("i1", "n1")
	s.beat("i2", "n1")
	equal(s.shop, "two of one name", len(s.members()), 2)
	s.clock.advance(settings.AliveFor + time.Millisecond)
	s.beat("i2", "n1")
	equal(s.shop, "members", s.members(), []string{"n1 0s"})
}

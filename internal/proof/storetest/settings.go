package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
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
		{"Members_AreRemoved", membersRemoved},
		{"Members_AreDrained", membersDrained},
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
	s.must(s.settings.PutSettings(s.ctx, versionOf(name, version+1, body), settingsAuthor))
}

// versionOf returns a version with an id made from its number.
func versionOf(name string, version int64, body string) settings.Document {
	return settings.Document{Name: name, Version: version, ID: fmt.Sprint(name, "-", version, "-", body), Body: []byte(body)}
}

func (s *settingsShop) find(name string) settings.Document {
	s.t.Helper()
	d, now, err := s.settings.FindSettings(s.ctx, name)
	s.must(err)
	equal(s.shop, "the time", now, s.clock.read())
	return d
}

// beat tells of a node that enforces.
func (s *settingsShop) beat(instance, node string) settings.Update {
	s.t.Helper()
	u, err := s.settings.ExchangeSettings(s.ctx, settings.Beat{Instance: instance, Node: node, Enforces: true})
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
	equal(s.shop, "limits", s.find(settings.Limits), versionOf(settings.Limits, 2, `{"a":2}`))
	equal(s.shop, "switches", s.find(settings.Switches), versionOf(settings.Switches, 1, `{"b":1}`))
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
		err := s.settings.PutSettings(s.ctx, versionOf(settings.Limits, version+1, `{"a":9}`), settingsAuthor)
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
			err := s.settings.PutSettings(s.ctx, versionOf(settings.Limits, 1, fmt.Sprintf(`{"a":%d}`, i)), settingsAuthor)
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

// A node gets every document whose newest version differs from its own. A node may also know a
// later version, or another one with the same number, from a database that was restored since.
func exchangeNew(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	s.put(settings.Limits, 0, `{"a":1}`)
	s.put(settings.Limits, 1, `{"a":2}`)
	known := func(name string, version int64, body string) settings.Version {
		d := versionOf(name, version, body)
		return d.Identity()
	}
	limits := known(settings.Limits, 2, `{"a":2}`)
	for _, c := range []struct {
		name string
		seen settings.Versions
		want string
	}{
		{"nothing", nil, "limits 2"},
		{"the one before", settings.Versions{settings.Limits: known(settings.Limits, 1, `{"a":1}`)}, "limits 2"},
		{"the newest", settings.Versions{settings.Limits: limits}, ""},
		{"another one of its number", settings.Versions{settings.Limits: known(settings.Limits, 2, `{"a":3}`)}, "limits 2"},
		{"a later one", settings.Versions{settings.Limits: known(settings.Limits, 7, `{"a":7}`)}, "limits 2"},
		{"one that there isn't", settings.Versions{settings.Limits: limits, settings.Switches: known(settings.Switches, 1, "{}")}, "switches 0"},
	} {
		u, err := s.settings.ExchangeSettings(s.ctx, settings.Beat{Instance: "i1", Node: "n1", Seen: c.seen})
		s.must(err)
		got := ""
		for _, d := range u.Documents {
			got += fmt.Sprint(d.Name, " ", d.Version)
			equal(s.shop, "document", d, s.find(d.Name))
		}
		equal(s.shop, "told who knows "+c.name, got, c.want)
		equal(s.shop, "the time", u.Now, s.clock.read())
	}
}

func exchangeCounts(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	equal(s.shop, "alive", s.beat("i1", "n1").Nodes, 1)
	equal(s.shop, "alive", s.beat("i2", "n2").Nodes, 2)
	u, err := s.settings.ExchangeSettings(s.ctx, settings.Beat{Instance: "w1", Node: "worker"})
	s.must(err)
	equal(s.shop, "alive, and a worker", u.Nodes, 2)
	s.must(s.settings.LeaveSettings(s.ctx, "w1"))
	s.clock.advance(settings.AliveFor)
	equal(s.shop, "alive at the limit", s.beat("i1", "n1").Nodes, 2)
	s.clock.advance(time.Millisecond)
	equal(s.shop, "alive behind it", s.beat("i1", "n1").Nodes, 1)
	equal(s.shop, "members", s.members(), []string{"n1 0s", fmt.Sprint("n2 ", settings.AliveFor+time.Millisecond)})
	equal(s.shop, "alive again", s.beat("i2", "n2").Nodes, 2)
	s.clock.advance(1000 * time.Hour)
	equal(s.shop, "members that were cut off for long", s.members(), []string{"n1 1000h0m0s", "n2 1000h0m0s"})
}

func membersLeave(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	version := settings.Version{Number: 3, ID: "x"}
	beat := settings.Beat{
		Instance: "i1", Node: "n1", Enforces: true, Applied: settings.Versions{settings.Limits: version},
		Rejected: settings.Versions{settings.Switches: version}, Status: []byte(`{"role":"gateway"}`),
	}
	_, err := s.settings.ExchangeSettings(s.ctx, beat)
	s.must(err)
	s.clock.advance(time.Second)
	members, err := s.settings.SettingsMembers(s.ctx)
	s.must(err)
	equal(s.shop, "members", members, []settings.Member{{
		Instance: "i1", Node: "n1", Enforces: true, Applied: beat.Applied, Rejected: beat.Rejected, Silent: time.Second, Status: beat.Status,
	}})
	s.must(s.settings.LeaveSettings(s.ctx, "i1"))
	s.must(s.settings.LeaveSettings(s.ctx, "nobody"))
	equal(s.shop, "members", s.members(), nil)
}

// A killed process is forgotten when another one with its name has come, and not before it has been
// silent for a while.
func membersSuccessors(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	s.beat("i1", "n1")
	s.beat("i2", "n1")
	equal(s.shop, "two of one name", len(s.members()), 2)
	s.clock.advance(settings.AliveFor + time.Millisecond)
	s.beat("i2", "n1")
	equal(s.shop, "members", s.members(), []string{"n1 0s"})
}

// A person removes a node that will not come back. If it does come back, it is known again.
func membersRemoved(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	s.beat("i1", "n1")
	s.beat("i2", "n2")
	s.must(s.settings.RemoveMember(s.ctx, "n1", settingsAuthor))
	equal(s.shop, "members", s.members(), []string{"n2 0s"})
	s.wants(s.settings.RemoveMember(s.ctx, "n1", settingsAuthor), settings.ErrNoMember)
	equal(s.shop, "a removed node that lives", s.beat("i1", "n1").Nodes, 2)
	changes := s.changes()
	equal(s.shop, "changes", len(changes), 1)
	equal(s.shop, "change", changes[0], seckill.Change{
		Number: changes[0].Number, At: s.clock.read(), Author: author, Kind: settings.KindNode, Key: "n1", Before: `{"drain":false}`,
	})
}

// A drained node learns of it with its next beat. Its successor is not drained.
func membersDrained(t *testing.T, open Open) {
	s := newSettingsShop(t, open)
	equal(s.shop, "drained", s.beat("i1", "n1").Drain, false)
	s.must(s.settings.DrainMember(s.ctx, "n1", true, settingsAuthor))
	equal(s.shop, "drained", s.beat("i1", "n1").Drain, true)
	equal(s.shop, "drained, in its successor", s.beat("i2", "n1").Drain, false)
	s.must(s.settings.DrainMember(s.ctx, "n1", false, settingsAuthor))
	equal(s.shop, "drained", s.beat("i1", "n1").Drain, false)
	s.wants(s.settings.DrainMember(s.ctx, "n9", true, settingsAuthor), settings.ErrNoMember)
	equal(s.shop, "changes", len(s.changes()), 2)
}

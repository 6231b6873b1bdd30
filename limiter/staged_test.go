package limiter

import (
	"slices"
	"testing"
	"time"
)

// TestDocument_On: a staged change is in force on the named nodes, and on all nodes after the stage
// has ended. A node that has refused it uses the same policies as the others.
func TestDocument_On(t *testing.T) {
	now := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	old, soon, later := Policy{Name: "old", ExpiresAt: End{now.Add(2 * time.Hour)}}, now.Add(time.Minute), now.Add(time.Hour)
	d := Document{Policies: []Policy{old}, Staged: &Staged{
		ID: "s1", Nodes: []string{"a", "b"}, Policies: []Policy{{Name: "new", ExpiresAt: End{later}}}, CompletesAt: End{soon},
	}}
	for _, c := range []struct {
		name, node, refused string
		at                  time.Time
		want                []string
		tries               bool
		next                time.Time
	}{
		{"one that tries", "a", "", now, []string{"new"}, true, soon},
		{"one that doesn't", "c", "", now, []string{"old"}, false, soon},
		{"one that refuses it", "a", "s1", now, []string{"old"}, false, soon},
		{"one that has refused another", "a", "s0", now, []string{"new"}, true, soon},
		{"one that doesn't, at the end", "c", "", soon, []string{"new"}, false, later},
		{"when the new one is over", "c", "", later, []string{}, false, time.Time{}},
	} {
		out, tried, next := d.On(c.node, c.refused, c.at)
		names := []string{}
		for _, p := range out.Policies {
			names = append(names, p.Name)
		}
		if !slices.Equal(names, c.want) || (tried != nil) != c.tries || !next.Equal(c.next) || out.Staged != nil {
			t.Errorf("%s: %v, tries %v, next %v", c.name, names, tried, next)
		}
	}
	if len(d.Policies) != 1 || d.Policies[0].Name != "old" || d.Staged == nil {
		t.Errorf("the document is changed: %+v", d)
	}
	d.Prune(now)
	if d.Staged == nil {
		t.Error("it is dropped before its end")
	}
	if d.Prune(soon); d.Staged != nil || d.Policies[0].Name != "new" {
		t.Errorf("after its end: %+v", d)
	}
}

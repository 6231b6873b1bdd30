package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Publisher makes changes and waits for the nodes. Its fields are fixed before its first use.
type Publisher struct {
	Store Store
	// Board and Watcher are for changes while the database is away; they may be nil.
	Board   Board
	Watcher *Watcher
	// Nudge, if set, makes all watchers look now.
	Nudge func()
	// NudgeCatalog, if set, makes all nodes look for a newer catalog now, and report that.
	NudgeCatalog func()
	// Took, if set, is called with the time until a change was in force on every gateway that is
	// alive; all is false if it took longer than Wait.
	Took func(d time.Duration, all bool)
	// Wait bounds how long Publish waits for the nodes; the contract says one second.
	Wait time.Duration
}

// Published is a change that was made, and the nodes on which it is in force.
type Published struct {
	Version  int64
	Recorded bool     // it is in the database; otherwise it is an amendment of that version
	Applied  int      // nodes that have it in force
	Nodes    int      // known gateways; 0 is an error of the installation
	Lagging  []string // the others, by name: behind, silent, or refusing it; never nil
	Why      []string // the reason for each node that lags
}

// String says on which nodes it is in force, for people.
func (p *Published) String() string {
	var b strings.Builder
	switch {
	case p.Nodes == 0:
		b.WriteString("in force nowhere: no gateway is known")
	case p.Applied == p.Nodes && p.Nodes == 1:
		b.WriteString("in force on the only gateway")
	case p.Applied == p.Nodes:
		fmt.Fprintf(&b, "in force on all %d gateways", p.Nodes)
	default:
		fmt.Fprintf(&b, "in force on %d of %d gateways", p.Applied, p.Nodes)
		for i, name := range p.Lagging {
			fmt.Fprintf(&b, "; not on %s: %s", name, p.Why[i])
		}
	}
	if !p.Recorded {
		b.WriteString("; not recorded yet, because the database can't be reached")
	}
	return b.String()
}

// lag records a node that lags.
func (p *Published) lag(node, why string) {
	i, _ := slices.BinarySearch(p.Lagging, node)
	p.Lagging, p.Why = slices.Insert(p.Lagging, i, node), slices.Insert(p.Why, i, why)
}

// lookEvery is the pause between two checks of which nodes have the new version.
const lookEvery = 25 * time.Millisecond

// Publish writes body as the version after the given one, and returns when every node that is alive
// has it in force or has refused it, or after Wait. An error means that the version was not
// written. A written version is published, even if some nodes lag.
func (p *Publisher) Publish(ctx context.Context, name string, version int64, body []byte, by Author) (Published, error) {
	made := Version{version + 1, newID()}
	if err := p.Store.PutSettings(ctx, Document{name, made.Number, made.ID, body}, by); err != nil {
		return Published{}, err
	}
	p.nudge()
	written := Published{Version: made.Number, Recorded: true, Lagging: []string{}}
	return p.await(ctx, written, func(ctx context.Context) (Published, int, error) { return p.look(ctx, name, made) }), nil
}

// AwaitCatalog returns when the catalog is in force of which has is true on every node that is
// alive, or after Wait. has is given a node's last report. The version is for people.
func (p *Publisher) AwaitCatalog(ctx context.Context, version int64, has func(status json.RawMessage) bool) Published {
	if p.NudgeCatalog != nil {
		p.NudgeCatalog()
	}
	written := Published{Version: version, Recorded: true, Lagging: []string{}}
	return p.await(ctx, written, func(ctx context.Context) (out Published, pending int, err error) {
		members, err := p.Store.SettingsMembers(ctx)
		if err != nil {
			return Published{}, 0, err
		}
		out = written
		for i := range members {
			switch m := &members[i]; {
			case !m.Enforces:
				continue
			case m.Silent > AliveFor:
				out.lag(m.Node, silence(m))
			case has(m.Status):
				out.Applied++
			default:
				out.lag(m.Node, "it has not taken this change yet")
				pending++
			}
			out.Nodes++
		}
		return out, pending, nil
	})
}

// silence says of a node that is silent what that means.
func silence(m *Member) string {
	return "silent for " + m.Silent.Round(time.Second).String() +
		"; it goes on with what it has, and is named until it is back, stops in order, or is removed"
}

func (p *Publisher) nudge() {
	if p.Nudge != nil {
		p.Nudge()
	}
}

// await looks until every node has answered, or Wait is over. It ignores a failed look, because the
// change is written.
func (p *Publisher) await(ctx context.Context, out Published, look func(context.Context) (Published, int, error)) Published {
	ctx, cancel := context.WithTimeout(ctx, p.Wait)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		if seen, pending, err := look(ctx); err == nil {
			if out = seen; pending == 0 {
				p.took(began, true)
				return out
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.took(began, false)
			return out
		}
	}
}

func (p *Publisher) took(began time.Time, all bool) {
	if p.Took != nil {
		p.Took(time.Since(began), all)
	}
}

// look returns where a version is in force, and how many nodes may still apply it. A node with a
// newer version counts as having it.
func (p *Publisher) look(ctx context.Context, name string, made Version) (Published, int, error) {
	members, err := p.Store.SettingsMembers(ctx)
	if err != nil {
		return Published{}, 0, err
	}
	newest := made
	if slices.ContainsFunc(members, func(m Member) bool { return m.Applied[name].Number > made.Number }) {
		d, _, err := p.Store.FindSettings(ctx, name)
		if err != nil {
			return Published{}, 0, err
		}
		newest = d.Identity()
	}
	out, pending := count(name, made, newest, members)
	return out, pending, nil
}

// count says where a version, or the newest one, is in force; pending is how many nodes may still
// apply it.
func count(name string, made, newest Version, members []Member) (out Published, pending int) {
	out = Published{Version: made.Number, Recorded: true, Lagging: []string{}}
	for i := range members {
		m := &members[i]
		if !m.Enforces {
			continue
		}
		out.Nodes++
		applied, rejected := m.Applied[name], m.Rejected[name]
		switch {
		case m.Silent > AliveFor:
			out.lag(m.Node, silence(m))
		case applied == made || applied == newest:
			out.Applied++
		case rejected == made || rejected == newest:
			out.lag(m.Node, "it refuses this version")
		default:
			out.lag(m.Node, "it has not taken this version yet")
			pending++
		}
	}
	return out, pending
}

// ErrNoWay means that a change can't be made: neither the database nor the board can be reached,
// and this node is no gateway.
var ErrNoWay = errors.New("neither the database nor Redis can be asked, and this process is no gateway")

// Amend makes a change while the database can't be reached: through the board on all nodes, or, if
// the board can't be reached either, on this node alone. It is recorded when the database is back.
// It returns the same as Publish.
func (p *Publisher) Amend(ctx context.Context, name string, body []byte, by Author) (Published, error) {
	if p.Watcher == nil || p.Board == nil {
		return Published{}, ErrNoWay
	}
	if p.Watcher.State().Waiting >= MaxAmendments {
		return Published{}, ErrTooManyAmendments
	}
	base, _, now := p.Watcher.InForce(name)
	a := Amendment{ID: newID(), Document: name, At: now.UTC(), Node: p.Watcher.cfg.Node, Author: by, Body: body}
	short, cancel := context.WithTimeout(ctx, p.Wait)
	err := pinAmendment(short, p.Board, &a)
	cancel()
	if err != nil && !p.Watcher.cfg.Enforces {
		return Published{}, fmt.Errorf("%w: %w", ErrNoWay, err)
	}
	if err := p.Watcher.order(ctx, a); err != nil {
		return Published{}, err
	}
	if err != nil {
		return p.Watcher.alone(base.Version), nil
	}
	p.nudge()
	out := p.await(ctx, p.Watcher.alone(base.Version), func(ctx context.Context) (Published, int, error) {
		return p.lookAtBoard(ctx, base.Version, a.ID)
	})
	return out, nil
}

// lookAtBoard says on which nodes an amendment is in force.
func (p *Publisher) lookAtBoard(ctx context.Context, version int64, id string) (out Published, pending int, err error) {
	notes, err := p.Board.Notes(ctx, boardNodes)
	if err != nil {
		return Published{}, 0, err
	}
	out = Published{Version: version, Lagging: []string{}}
	for _, text := range notes {
		var n nodeNote
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			continue
		}
		out.Nodes++
		if slices.Contains(n.Amended, id) {
			out.Applied++
			continue
		}
		out.lag(n.Node, "it has not reported that it has this change in force")
		pending++
	}
	return out, pending, nil
}

// alone returns the result for an amendment that is in force here, when the other nodes can't be
// asked.
func (w *Watcher) alone(version int64) Published {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := Published{Version: version, Lagging: []string{}}
	if w.cfg.Enforces {
		out.Applied, out.Nodes = 1, 1
	}
	for instance, node := range w.roll {
		if instance != w.instance {
			out.Nodes++
			out.lag(node, "it can't be asked, because Redis can't be reached; make the change there as well")
		}
	}
	return out
}

// Remove forgets a node by its name, in the database and on the board; ErrNoMember if there is
// none.
func (p *Publisher) Remove(ctx context.Context, node string, by Author) error {
	if err := p.Store.RemoveMember(ctx, node, by); err != nil {
		return err
	}
	if p.Board == nil {
		return nil
	}
	notes, err := p.Board.Notes(ctx, boardNodes)
	if err != nil { // it is listed there until it is removed again
		return nil
	}
	for instance, text := range notes {
		var n nodeNote
		if json.Unmarshal([]byte(text), &n) != nil || n.Node != node {
			continue
		}
		if err := p.Board.Unpin(ctx, boardNodes, instance); err != nil {
			return nil
		}
	}
	return nil
}

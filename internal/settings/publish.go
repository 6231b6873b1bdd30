package settings

import (
	"context"
	"slices"
	"time"
)

// Publisher makes changes and waits for the nodes. Its fields are fixed before its first use.
type Publisher struct {
	Store Store
	// Nudge, if there is one, makes this process's own watcher look now.
	Nudge func()
	// Wait bounds how long Publish waits for the nodes; the contract says one second.
	Wait time.Duration
}

// Published is a change that was made, and where it is in force.
type Published struct {
	Version int64
	Applied int      // nodes that have it in force
	Nodes   int      // nodes there are
	Lagging []string // the others, by name: behind, silent, or refusing it; never nil
}

// lookEvery is the pause between two looks at who has the new version.
const lookEvery = 25 * time.Millisecond

// Publish writes body as the version after the given one, and returns when every node that is alive has it in force or has
// refused it, or after Wait. The error is about the writing alone: once it is written it is published, whoever lags.
func (p *Publisher) Publish(ctx context.Context, name string, version int64, body []byte, by Author) (Published, error) {
	made, err := p.Store.PutSettings(ctx, name, version, body, by)
	if err != nil {
		return Published{}, err
	}
	if p.Nudge != nil {
		p.Nudge()
	}
	out := Published{Version: made, Lagging: []string{}}
	ctx, cancel := context.WithTimeout(ctx, p.Wait)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		// An error is no reason to fail: the version stands, and the nodes may be asked again.
		if members, err := p.Store.SettingsMembers(ctx); err == nil {
			pending := 0
			if out, pending = count(name, made, members); pending == 0 {
				return out, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return out, nil
		}
	}
}

// count says where a version is in force; pending is how many nodes may still be on their way to it.
func count(name string, version int64, members []Member) (out Published, pending int) {
	out = Published{Version: version, Nodes: len(members), Lagging: []string{}}
	for i := range members {
		m := &members[i]
		if m.Applied[name] >= version && m.Silent <= AliveFor {
			out.Applied++
			continue
		}
		out.Lagging = append(out.Lagging, m.Node)
		if m.Silent <= AliveFor && m.Rejected[name] < version {
			pending++
		}
	}
	slices.Sort(out.Lagging)
	return out, pending
}

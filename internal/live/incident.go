package live

import (
	"fmt"
	"maps"
	"slices"
)

// The states of an Incident.
const (
	NodeCame       = "came"
	NodeLost       = "lost"
	NodeBack       = "back"
	NodeDrains     = "drains"
	NodeServes     = "serves"
	NodeGone       = "gone"
	RebuildBegan   = "began"
	RebuildEnded   = "ended"
	closedBreaker  = "closed"
	normalLevel    = "D0"
	unknownVersion = "an unknown version"
)

// TypedIncident is an incident with the type of its event.
type TypedIncident struct {
	Type string
	Incident
}

// Incidents returns the changes between two snapshots, of nodes, breakers, levels and shards.
func Incidents(before, now *Snapshot) (out []TypedIncident) {
	add := func(kind, node, subject, state, text string) {
		out = append(out, TypedIncident{kind, Incident{At: now.At, Node: node, Subject: subject, State: state, Text: text}})
	}
	old := make(map[string]*Node)
	for i := range before.Nodes {
		old[before.Nodes[i].Node] = &before.Nodes[i]
	}
	for i := range now.Nodes {
		n := &now.Nodes[i]
		was := old[n.Node]
		delete(old, n.Node)
		nodeIncidents(was, n, add)
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		add(EventNode, name, "", NodeGone, name+" has gone.")
	}
	switch was, is := before.Shards.Rebuilding, now.Shards.Rebuilding; {
	case was == 0 && is > 0:
		add(EventRebuild, "", "shards", RebuildBegan, countOf(is, "shard is", "shards are")+" being rebuilt.")
	case was > 0 && is == 0:
		add(EventRebuild, "", "shards", RebuildEnded, fmt.Sprintf("No shard is being rebuilt now; %d are open.", now.Shards.Open))
	}
	return out
}

// nodeIncidents compares a node with its former state; nil if it is new.
func nodeIncidents(was, n *Node, add func(kind, node, subject, state, text string)) {
	if was == nil {
		version := n.Version
		if version == "" {
			version = unknownVersion
		}
		add(EventNode, n.Node, "", NodeCame, fmt.Sprintf("%s has come: %s, %s.", n.Node, n.Role, version))
		was = &Node{Level: normalLevel}
	}
	switch {
	case n.Lost && !was.Lost:
		add(EventNode, n.Node, "", NodeLost, n.Node+" isn't heard from any longer.")
	case !n.Lost && was.Lost:
		add(EventNode, n.Node, "", NodeBack, n.Node+" is heard again.")
	}
	if n.Lost {
		return // its last report is old
	}
	switch {
	case n.Draining && !was.Draining:
		add(EventNode, n.Node, "", NodeDrains, n.Node+" takes no new buyers, because it is drained.")
	case !n.Draining && was.Draining:
		add(EventNode, n.Node, "", NodeServes, n.Node+" takes buyers again.")
	}
	for _, name := range slices.Sorted(maps.Keys(n.Breakers)) {
		if state := n.Breakers[name]; was.Breakers[name] != state {
			add(EventBreaker, n.Node, name, state, fmt.Sprintf("The breaker before %s is %s on %s.", name, state, n.Node))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was.Breakers)) {
		if _, still := n.Breakers[name]; !still {
			add(EventBreaker, n.Node, name, closedBreaker, fmt.Sprintf("The breaker before %s is closed again on %s.", name, n.Node))
		}
	}
	if n.Level != "" && was.Level != "" && n.Level != was.Level {
		add(EventLevel, n.Node, "", n.Level, fmt.Sprintf("%s went from the degrade level %s to %s.", n.Node, was.Level, n.Level))
	}
}

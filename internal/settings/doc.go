// Package settings brings versioned documents, the limits and the switches, into force on every
// node.
//
// A document is JSON with a version, kept in the database: a change makes a new version, and none
// is ever rewritten. What a document means is known to the parts that apply it. Every node runs a
// Watcher. It asks for newer versions at least four times a second, and at once when it is nudged,
// with the same call that says which versions it runs. So a change is in force within a second,
// also where nobody nudges, and whoever makes one (Publish) can say on how many nodes it is.
//
// It promises:
//   - A version is in force as a whole or not at all. One that a part refuses, or panics on, leaves
//     the one before it in force, and the node says which it refused.
//   - What was in force last is kept on disk, and is in force again after a start for which the
//     database is away.
//   - Two changes of one version never both succeed.
//   - What ends at a time ends on every node at that time of the database's clock, with nobody's
//     help; no two machines' clocks are compared.
//
// It doesn't promise that a change reaches a node that is cut off: such a node goes on with what it
// has, and is named.
package settings

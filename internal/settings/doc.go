// Package settings brings versioned documents, the limits and the switches, into force on every
// node.
//
// A document is JSON with a version, kept in the database: a change makes a new version, and none
// is ever rewritten. What a document means is known to the parts that apply it. Every node runs a
// Watcher. It asks for newer versions at least four times a second, and at once when it is nudged,
// with the same call that says which versions it runs. So a change is in force within a second,
// even without a nudge, and Publish can say on how many nodes it is in force.
//
// It promises:
//   - A version is in force as a whole or not at all. If a part refuses a version, or panics, the
//     version before stays in force, and the node reports which one it refused.
//   - The last documents in force are kept on disk. If the database can't be reached at a start,
//     they are in force again.
//   - Two changes on top of one version never both succeed.
//   - A setting with an end ends on every node at that time of the database's clock, without any
//     message. No clocks of two machines are compared.
//
// It doesn't promise that a change reaches a node that is cut off. Such a node goes on with what it
// has, and Publish names it.
package settings

// Package live has the live view of a running installation: the types that nodes, the admin
// listener, `penstock top` and the console share.
//
// It imports none of the parts that make a sale, so a program can show a sale without them.
package live

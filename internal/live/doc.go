// Package live has what an operator sees of a running installation, by the second: the words that
// nodes, the admin listener, `penstock top` and the console share.
//
// It imports nothing of ours, so that whoever shows a sale needs none of the parts that make it.
package live

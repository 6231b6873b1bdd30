package protocol

import "strings"

// Mutant is a rule that can be left out: a simpler design that looks right.
type Mutant struct {
	Name string
	Rule string // the law that holds with it
	Walk string // a small walk, as Parse reads it, in which a law breaks without the rule
}

// Mutants returns every rule.
func Mutants() []Mutant {
	return []Mutant{
		{"undo", "a purchase that failed after its hold gives nothing back", "faults=none"},
		{"nodoom", "a hold is doomed before it is decided", ""},
		{"nodoomwait", "a doom is replicated before it counts", ""},
		{"nodoomout", "after a doom the accept deadline is waited out, then comes the second barrier", ""},
		{"nobarrier", "a barrier is written; the log's end is not read", ""},
		{"barrierearly", "a barrier serves no shard whose close came after its marker", "shards=2 attempts=0 epochs=2 faults=suspect=2"},
		{"barrierdoom", "a barrier serves no hold whose doom came after its marker", "shards=2 attempts=0 epochs=2 faults=suspect=2"},
		{"barriernowait", "a barrier serves no shard whose wait-out ended after its marker", "shards=2 attempts=0 epochs=2 faults=suspect=2"},
		{"noposition", "the position is committed with the rows", "faults=restore"},
		{"nocas", "a worker's transaction compares the position with where it read", "faults=restore orders=0a,1b attempts=01"},
		{"nosettlefromrow", "the sweeper settles the hold of an ended order from its row", ""},
		{"nofence", "records and tombstones of an older epoch do not count", "faults=suspect"},
		{"noshardlock", "the worker's transaction has the shard's row while it decides", "faults=suspect"},
		{"snapshotfirst", "the snapshot is taken after the epoch is set, or with it", "faults=suspect"},
		{"noepoch", "the shard refuses calls of another epoch", "faults=suspect"},
		{"nowaitout", "a rebuild waits out the accept deadline", "faults=suspect"},
		{"noclosewait", "a close is replicated before it counts", "faults=failover,suspect"},
		{"nolag", "a wait-out lasts until an isolated primary takes no more writes", "faults=split gateways=2"},
		{"nomarker", "a hold that was given back leaves a marker", "faults=none"},
		{"earlyopen", "a desk that cancels an order without a row makes it cancelled at once", "faults=restore,early"},
		{"nolook", "a desk that cancels makes a row for a hold that it saw", "faults=early orders=0a,0b attempts=01"},
		{"nowithdrawfence", "a withdrawal is committed under the epoch of its hold", "faults=suspect orders=0s attempts=0"},
		{"nomovefence", "a move is committed under the epoch of its hold", "shards=2 spread units=1,0 orders=0m attempts=0 faults=suspect"},
		{"nomovehold", "the shop holds a unit before it moves it", "shards=2 spread units=1,0 orders=0m,0a attempts=01 faults=none"},
		{"nomovekey", "a move is committed once", "shards=2 spread units=2,0 orders=0m attempts=00 faults=none"},
		{"nomovecheck", "each row of a spread item has a CHECK of its own", "shards=2 spread units=1,0 orders=0m,0a attempts=01"},
		{"moveparts", "one transaction moves both totals", "shards=2 spread units=1,0 orders=0m attempts=0 faults=none"},
		{"moveearly", "the restock of a move waits for its transaction", "shards=2 spread units=1,0 orders=0m,1b attempts=01 faults=none"},
		{"settlefirst", "a move is settled when its unit is on the other shard",
			"shards=2 spread units=1,0 orders=0m,1b attempts=01 faults=none"},
		{"soldoutown", "sold-out is told when every shard of the item is empty", "shards=2 spread units=1,0 orders=1b attempts=0 faults=none"},
		{"soldoutclosed", "a shard that is closed does not count as empty", "shards=2 spread units=1,0 orders=1b attempts=0 faults=suspect"},
		{"soldoutmoving", "a shard with the hold of a move does not count as empty",
			"shards=2 spread units=1,0 orders=0m,1b attempts=01 faults=none"},
		{"noparkrow", "a record at fault leaves a row", "faults=park"},
		{"noparkunit", "a snapshot counts the unit of a parked row", "faults=park,suspect orders=0a,0b attempts=01"},
		{"nodedupe", "a restock id is applied once in an epoch", "faults=restock"},
		{"noabsorb", "a fence takes stock that it counts out of the outbox", "faults=restock,suspect"},
		{"noaheadheal", "a shard ahead of the books is rebuilt", "faults=restore,suspect"},
		{"noaheadaccept", "a record ahead of the books counts", "faults=restore,suspect"},
		{"reuse", "no epoch is given out twice, even by a restored database", "faults=restore,empty=2 epochs=4"},
		{"oldbury", "a tombstone needs a barrier of this incarnation of the database", "faults=restore"},
		{"olddoom", "it needs a doom of this incarnation, too", "faults=restore,suspect"},
		{"notlast", "a fence is of the last epoch that was given out", "faults=empty,suspect=2 rebuilders=2 epochs=4"},
		{"oldfence", "a fence needs a barrier of this incarnation of the database", "faults=restore,suspect"},
		{"notruncate", "a position behind the log's end is taken back", "faults=tail orders=0a,1b attempts=01"},
		{"stuckbarrier", "a barrier that the log lost is written again", "faults=tail,suspect"},
		{"noaudit", "an audit that finds a difference asks for a rebuild", ""},
		{"auditcounts", "the audit compares holds with rows, not only their counts", "orders=0a,0b attempts=01"},
		{"notouch", "a repeat renews its hold's age", "faults=none"},
	}
}

// Without returns the options of the mutant's walk, with the rule left out.
func (m Mutant) Without() string {
	text := m.Walk + " fair without=" + m.Name
	if m.Name == "notouch" { // nothing else needs it: the wait after a doom covers the same case
		text += ",nodoomout"
	}
	return strings.TrimSpace(text)
}

// With returns the options of the same walk, with every rule.
func (m Mutant) With() string { return strings.TrimSpace(m.Walk + " fair") }

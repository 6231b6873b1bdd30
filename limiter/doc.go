// Package limiter decides whether a request is within its rate limits. It keeps token buckets in
// memory: one for all requests, and one for each merchant, caller, user, IP address, activity and
// SKU, as the policies say. All of them decide together.
//
// It promises:
//
//   - In any time t, a bucket admits at most burst + rate·t tokens, if the callers' clocks don't
//     jump. A jump ahead gives at most one full bucket. A jump back by less than a minute stops
//     refills for that time; a larger one is ignored.
//
//   - All or nothing: buckets are asked from narrow to wide, and after a refusal all of them get
//     their tokens back. A client that floods is refused by the narrowest limit, so it takes
//     nothing from limits that others share.
//
//   - While the global bucket is nearly empty, its tokens are divided by guaranteed rates and fair
//     shares, so that no merchant takes tokens from the others. Tokens that no share needs are free
//     for all merchants.
//
//   - An edit gives no tokens. A bucket keeps its tokens, as far as they fit. A document is applied
//     as a whole or not at all.
//
//   - Memory is fixed by Config, even if clients invent keys. A bucket is forgotten only when it is
//     full, which is the same as never seen. A key without room shares a bucket with others.
//
//   - A decision uses one snapshot, and allocates only if it asks the pool. Buckets have locks of
//     their own or of a small segment; only the global bucket is shared by all requests.
//
//   - A policy in shadow counts what it would refuse if it were the only enforced policy. It
//     refuses nothing.
//
//   - A limit holds over all nodes of a pool. For the keys that it sees, each node leases tokens
//     from the cluster's bucket, by demand. A limit of at most 20 per second is asked for each
//     request. In any time t all nodes together admit at most
//
//     max(burst, rate × 200 ms) + rate × t + rate × 100 ms × nodes
//
//     The last part is what nodes may hold when t begins. For limits up to 20 per second it is
//     burst + rate × t. No single node admits more than burst + rate × t. Tokens that nodes admit
//     while the pool is late or unreachable are added to that, until the pool has charged them.
//
//   - The pool is told which tokens a node admitted alone. It charges them once, in the first
//     exchanges after it is reachable again. So repeated late or lost exchanges don't add up over
//     time.
//
//   - A key takes its quota of tokens in a calendar day, over all nodes, by the pool's clock.
//     Tokens that a lost node held are lost. Without the pool, a key continues at the average rate
//     of its quota, beginning with the tokens of one hour.
//
//   - The requests in flight of a key on this node are at most the policy's Concurrency. Leave
//     gives a place back, only once.
//
//   - Without the pool, each node continues with its former part of the tokens, or with an even
//     part for a key that it has not seen. When the pool becomes unreachable, a request waits for
//     it at most once, for at most 200 ms; after that none waits. When the pool is back, there is
//     no second burst.
//
//   - A node that joins, leaves or fails takes nothing from the others, except the tokens that it
//     held.
//
// It does not promise:
//
//   - That everything is charged: a node that dies while it is alone reports nothing. A node that
//     alone was cut off for long is charged with its last second, and with at most one bucket.
//   - A fair share in the first tenth of a second in which merchants compete: shares depend on what
//     was asked for before. A guaranteed rate is split evenly over nodes until they know where it
//     is used.
//   - That a pool which has lost its data never gives tokens twice: if the burst is below rate ×
//     200 ms, it may give that many twice.
//   - That a request never fails because of another one that is refused in the same microsecond:
//     the other one takes tokens and then gives them back, and in between they are missing.
//   - That strangers (keys without room) get all that their policy allows: they get less. A
//     stranger that gets room later starts with a full bucket.
//   - Anything before the first Apply: without policies, everything is allowed. So a server must
//     call Apply before it serves.
//   - That tokens survive when a policy is removed and added again: in between, there was no limit.
//
// Callers pass times, and all times must come from one clock; with a pool it must be the process's
// own. Locks: a directory's lock is taken before a bucket's, and the cluster's last. No other two
// locks are held together.
package limiter

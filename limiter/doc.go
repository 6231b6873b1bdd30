// Package limiter decides whether a request is within its rate limits. It keeps token buckets in
// memory: one for all requests, and one for each merchant, caller, user, IP address, activity and
// SKU, as the policies say. All of them decide together.
//
// It promises:
//
//   - In any time t, a bucket lets pass at most burst + rate·t, whatever its callers' clocks do
//     short of a jump. A jump ahead gives at most one full bucket; a jump back by less than a
//     minute stops refills for that time, a larger one is ignored.
//
//   - All or nothing: buckets are asked from narrow to wide, and after a refusal each has its
//     tokens again. A client that floods is refused by the narrowest limit, and touches none that
//     others share.
//
//   - While the global bucket is short, its tokens are divided by merchants' guaranteed rates and
//     fair shares, so that one merchant takes nothing from the others. Tokens that no merchant's
//     share needs are free for all.
//
//   - An edit gives no tokens. A bucket keeps its tokens, as far as they fit. A document is applied
//     as a whole or not at all.
//
//   - Memory is fixed by Config, whatever keys are invented. A bucket is forgotten only when it is
//     full, which is the same as never seen; a key without room shares a bucket with others.
//
//   - A decision uses one snapshot, and allocates only if it asks the pool. Buckets have locks of
//     their own or of a small segment; only the global bucket is shared by all requests.
//
//   - A policy in shadow counts what it would refuse if it alone were enforced, and refuses
//     nothing.
//
//   - A limit holds over all nodes of a pool. Each node leases tokens of the cluster's bucket for
//     the keys that it sees, by demand; a limit of at most 20 per second is asked for request by
//     request. In any time t all nodes together let pass at most
//
//     max(burst, rate × 200 ms) + rate × t + rate × 100 ms × nodes
//
//     where the last part is what nodes may hold when t begins, and for limits up to 20 per second
//     burst + rate × t. No single node lets pass more than burst + rate × t. What nodes let pass
//     while the pool is late or away comes on top, until the pool has charged it.
//
//   - The pool is told the tokens that a node has spent alone, and charges them once, in the first
//     exchanges after it is back. So exchanges that are always late or lost add nothing in the
//     long run.
//
//   - A key takes its quota of tokens in a calendar day, over all nodes, by the pool's clock;
//     tokens that a lost node held are lost. Without the pool a key goes on at the quota's average
//     rate, from the tokens of an hour.
//
//   - The requests in flight of a key on this node are at most the policy's Concurrency. A place is
//     given back by Leave, once.
//
//   - Without the pool each node goes on with its part of the tokens as it was, or an even one of a
//     key that it has not seen. A request waits for the pool for 200 ms at most, once, when it goes
//     away; while it is away none does. When it is back there is no second burst.
//
//   - A node that joins, leaves or fails takes nothing from the others, except the tokens that it
//     held.
//
// It does not promise:
//
//   - That all is charged: a node that dies alone tells nothing, and one that alone was cut off for
//     long is charged with its last second and one bucket at most.
//   - A fair share in the first tenth of a second in which merchants compete: shares are of what
//     was asked for before. A guaranteed rate is split evenly over nodes until they know where it
//     is used.
//   - That a pool that has lost its data gives no token twice if the burst is below rate × 200 ms:
//     it gives up to that many.
//   - That a request never loses its token to one that is refused in the same microsecond: tokens
//     that are taken and given back are missing for that long.
//   - That strangers (keys without room) get what their policy says; they get less. A stranger that
//     gets room later starts with a full bucket.
//   - Anything before the first Apply: without policies, everything is allowed. A server of
//     requests applies first.
//   - That tokens survive when a policy is removed and added again: in between, there was no limit.
//
// Times are handed in, and all come from one clock; with a pool it is the process's own. Locks: a
// directory's is taken before a bucket's, and the cluster's last; no other two are held at once.
package limiter

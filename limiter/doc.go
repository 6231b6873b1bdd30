// Package limiter answers: may this caller, now? It keeps token buckets in memory, for everybody
// together, each merchant, caller, user, IP address, activity and SKU, as policies say, and decides
// each request by all of them at once.
//
// It promises:
//
//   - In any time t, a bucket lets pass at most burst + rate·t, whatever its callers' clocks do
//     short of a jump. A jump ahead is worth one full bucket; one back by less than a minute is
//     waited out, by more is ignored.
//
//   - All or nothing: buckets are asked from narrow to wide, and after a refusal each has its
//     tokens again. A client that floods is refused by the narrowest limit, and touches none that
//     others share.
//
//   - While the global bucket is short, its tokens go by merchants' guaranteed rates and fair
//     shares, so that one merchant takes nothing from the others; what nobody of those needs is for
//     whoever asks.
//
//   - An edit gives nobody a token. A bucket keeps what it has, as far as it fits. A document is
//     applied as a whole or not at all.
//
//   - Memory is fixed by Config, whatever keys are invented. A bucket is forgotten only when it is
//     full, which is the same as never seen; a key without room shares a bucket with others, never
//     gets one for nothing.
//
//   - A decision takes one look at a snapshot and allocates nothing, but where it asks the pool.
//     Buckets have locks of their own or of a small segment; only the bucket of everybody is shared
//     by all requests.
//
//   - A policy in shadow decides like an enforced one that stood alone, and refuses nothing.
//
//   - A limit holds over all nodes of a pool. Each node leases tokens of the cluster's bucket for
//     the keys that it sees, by demand; a limit of at most 20 per second is asked for request by
//     request. In any time t all nodes together let pass at most
//
//     max(burst, rate × 200 ms) + rate × t + rate × 100 ms × nodes
//
//     where the last part is what nodes may hold when t begins, and for limits up to 20 per second
//     burst + rate × t. No single node lets pass more than burst + rate × t.
//
//   - A key takes its quota of tokens in a calendar day, over all nodes, by the pool's clock; a
//     node that is gone takes what it held of it. Without the pool a key goes on at the quota's
//     even pace, from the tokens of an hour.
//
//   - What is in flight at once, of a key and on this node, is at most what the policy says. A
//     place is given back by Leave, once.
//
//   - Without the pool each node goes on with its part of the tokens as it was, or an even one of a
//     key that it has not seen. A request waits for the pool for 200 ms at most, once, when it goes
//     away; while it is away none does. When it is back there is no second burst.
//
//   - A node that joins, leaves or is gone takes nothing from the others but what it held.
//
// It does not promise:
//
//   - A fair share in the first tenth of a second in which merchants compete: shares are of what
//     was asked for before. A guaranteed rate is split evenly over nodes until they know where it
//     is used.
//   - That a pool that has forgotten everything gives no token twice, where the burst is below
//     rate × 200 ms: it gives that much.
//   - That a request never loses its token to one that is refused in the same microsecond: tokens
//     that are taken and given back are missing for that long.
//   - That strangers (keys without room) get what their policy says; they get less. One that finds
//     room later starts with a full bucket.
//   - Anything before the first Apply: without policies, everything is allowed. A server of
//     requests applies first.
//   - That removing a policy and adding it again is no edit: in between, there was no limit.
//
// Times are handed in, and all come from one clock; with a pool it is the process's own. Locks: a
// directory's is taken before a bucket's, and the cluster's last; no other two are held at once.
package limiter

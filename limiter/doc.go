// Package limiter answers: may this caller, now? It keeps token buckets in memory, for everybody together, each merchant, caller, user,
// IP address, activity and SKU, as policies say, and decides each request by all of them at once.
//
// It promises:
//
//   - In any time t, a bucket lets pass at most burst + rate·t, whatever its callers' clocks do short of a jump. A jump ahead is worth
//     one full bucket; one back by less than a minute is waited out, by more is ignored.
//   - All or nothing: buckets are asked from narrow to wide, and after a refusal each has its tokens again. Who floods is refused by
//     the narrowest limit, and touches none that others share.
//   - An edit gives nobody a token. A bucket keeps what it has, as far as it fits. A document is applied as a whole or not at all.
//   - Memory is fixed by Config, whatever keys are invented. A bucket is forgotten only when it is full, which is the same as never
//     seen; a key without room shares a bucket with others, never gets one for nothing.
//   - A decision takes one look at a snapshot, allocates nothing, and no lock that all requests share: buckets have locks of their own
//     or of a small segment, and the global one has none.
//   - A policy in shadow decides like an enforced one that stood alone, and refuses nothing.
//
// It does not promise:
//
//   - One limit over several nodes, exactly. Each node has its even share, so a limit is reached early where a balancer isn't even,
//     and a burst below the number of nodes is exceeded by their sum. A node that starts has full buckets.
//   - That a request never loses its token to one that is refused in the same microsecond: tokens that are taken and given back are
//     missing for that long.
//   - That strangers (keys without room) get what their policy says; they get less. One that finds room later starts with a full
//     bucket.
//   - Anything before the first Apply: without policies, everything is allowed. Whoever serves requests applies first.
//   - That removing a policy and adding it again is no edit: in between, there was no limit.
//
// Times are handed in, and all come from one clock. Locks: a directory's is taken before a bucket's; no other two are held at once.
package limiter

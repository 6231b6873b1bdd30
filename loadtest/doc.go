// Package loadtest sends crowds against a sale and judges from the answers whether the sale kept
// its promises.
//
// It treats the server as a black box: it uses HTTP only, and imports no other package of Penstock,
// so it can test any server with the same contract. The meaning of an answer is an Outcome
// (accepted, sold out, limited, shed, …). Status codes are not enough: in a flash sale a correct
// "sold out" is a success, and a second order for one key is a failure.
//
// A Crowd has buyers who press, repeat, pay and cancel. They come as fast as the server answers, or
// spread over a time. A Load has requests that leave on a schedule; it has a Summary, a report and
// thresholds (SLO). Both judge in the same way.
//
// It promises:
//   - The verdict comes from the answers alone; the server's own counters are never used (a caller
//     who has them may add them with Summary.Audit). Every accepted order is read back until it is
//     settled. An Invariant that does not hold names the order, key or buyer that proves it.
//   - An invariant counts as broken only if the answers prove it. If something may have happened
//     unseen (a lost answer, or an order that timed out in between), the server gets the benefit of
//     the doubt.
//   - With a schedule (Load, or Config.Within) departures are fixed in advance, and latency counts
//     from the scheduled departure. So if a server stalls, the delay counts for every buyer who
//     would have come meanwhile. Nothing is corrected afterwards. If the generator itself was late,
//     it says so.
//   - The seed decides what it does. Its resources are bounded: requests at once, connections,
//     requests per key, and time.
//
// It does not promise:
//   - The same order of requests in two runs with one seed: the decisions of a buyer are the same,
//     but the timing is not.
//   - That nobody else is buying. If Stock is set, it is the most that this crowd may buy. If other
//     buyers exist, they can be the reason for a "sold out" that seems too early.
//   - Without a schedule, that the latency shows what a crowd would feel: buyers then come only as
//     fast as earlier ones are answered.
//
// Invariants of the package: every answer is counted once, under one action and one outcome, with
// its latency; only one goroutine at a time uses a buyer's state; a key is sent by one buyer only.
package loadtest

// Package loadtest sends crowds against a sale and judges, from the answers they got, whether the
// sale kept its promises.
//
// It is a black box: it speaks HTTP and imports no other package of ours, so it can be pointed at
// any server of the same contract. What an answer means is an Outcome (accepted, sold out, limited,
// shed, …), because to a flash sale a correct "sold out" is a success and a second order for one
// key is a failure, whatever their status codes are.
//
// A Crowd is buyers who press, insist, pay and cancel, and come as fast as the server lets them or
// spread over a time. A Load is requests that leave on a schedule, for which it has a Summary, a
// report and thresholds (SLO). Both judge alike.
//
// It promises:
//   - The verdict comes from the answers alone; the server's own counters are never asked (who has
//     them may add them, with Summary.Audit). Every accepted order is read back until it is
//     settled, and each Invariant that does not hold comes with the order, key or buyer that proves
//     it.
//   - An invariant is broken only where the answers prove it. What could have happened out of sight
//     (an answer that was lost, an order that timed out in between) counts in the server's favour.
//   - With a schedule (Load, or Config.Within) departures are fixed in advance and latency counts
//     from the scheduled departure: a server that stalls is charged for everybody who would have
//     come meanwhile. Nothing is corrected afterwards, and where the generator itself was late it
//     says so.
//   - What it does is a function of the seed; what it costs is bounded: requests at once,
//     connections, requests per key, and time.
//
// It does not promise:
//   - The same order of requests in two runs with one seed: the decisions of a buyer are repeated,
//     the races are not.
//   - That nobody else is buying. Stock, where it is given, is what this crowd may buy at most, and
//     with other buyers about a "sold out" that comes too early can be theirs.
//   - Without a schedule, that latency shows what a crowd would feel: buyers then come as fast as
//     earlier ones are answered.
//
// Invariants of the package: every answer is counted once, under one action and one outcome, with
// its latency; a buyer's state is touched by one goroutine at a time; a key is sent by one buyer
// only.
package loadtest

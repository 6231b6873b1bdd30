// Package degrade decides whether the system may take on a visit now: by switches that people set,
// by how many visits are under way, and by whether what it depends on answers.
//
// It promises:
//   - Controller.Enter looks at one snapshot of all switches, takes no lock and allocates nothing.
//   - Where several switches of one name are in force for a visit, that of the narrowest scope
//     decides: SKU, activity, caller, merchant, everybody. Only orders: off can't be overridden by
//     a narrower on: an emergency stop must stop.
//   - When there is too much to do, browsing and load tests are sent away first, then new orders. A
//     fifth of the places is left to what concerns orders that exist: their status, their
//     cancellation and their payment.
//   - What is sent away for want of room is sent away at once up to a rate; above it, it waits for
//     its turn, and so does its client (Pacer): else a flood of refusals would take what those need
//     who were let in.
//   - A switch with an end is out of force from that moment on, on the clock that Apply is given.
//   - A Breaker of a dependency that fails or is slow refuses calls before any work, at the cost of
//     an atomic load while all is well. It lets so many through as it has probes after each pause,
//     closes when they succeed, and can't stay half-open because of one that never ended. It
//     doesn't bound how long a call takes: that is for the call's own timeout.
//
// It doesn't know what a visit is for, beyond its class and its names; and it never decides about
// idempotency, the limit per buyer, the verification of payments or the audit: there is no switch
// for those.
package degrade

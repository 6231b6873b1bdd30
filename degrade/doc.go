// Package degrade decides whether the system may take on a visit now: from the switches that people
// set, the number of visits in flight, and the state of its dependencies.
//
// It promises:
//   - Controller.Enter looks at one snapshot of all switches, takes no lock and allocates nothing.
//   - If several values of a switch apply to a visit, that of the narrowest scope decides: SKU,
//     activity, caller, merchant, everybody. Only orders: off can't be overridden by a narrower on:
//     an emergency stop must stop.
//   - Under overload, browsing and load tests are refused first, then new orders. A fifth of the
//     places is reserved for existing orders: status, cancellation and payment.
//   - Refusals for lack of room are sent at once up to a rate; above it they wait for their turn,
//     and so does the client (Pacer). Otherwise a flood of refusals would use up what accepted
//     requests need.
//   - A switch with an end isn't in force from that moment on, by the clock of Apply.
//   - A Breaker of a dependency that fails or is slow refuses calls before any work, at the cost of
//     an atomic load while all is well. After each pause it lets its probes through, closes when
//     they succeed, and can't stay half-open because of a probe that never ends. It doesn't bound a
//     call's time: calls need their own timeout.
//
// It doesn't know what a visit is for, beyond its class and its names; and it never decides about
// idempotency, the limit per buyer, the verification of payments or the audit: no switch turns
// these off.
package degrade

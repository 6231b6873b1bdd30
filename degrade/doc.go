// Package degrade decides whether the system may work on a visit now. It uses the switches that
// people have set, the number of visits in flight, and the state of its dependencies.
//
// It promises:
//   - Controller.Enter looks at one snapshot of all switches, takes no lock and allocates nothing.
//   - If several values of a switch apply to a visit, that of the narrowest scope decides: SKU,
//     activity, caller, merchant, everybody. There is one exception: a narrower on does not
//     override orders: off, because an emergency stop must stop everything.
//   - Under overload, browsing and load tests are refused first, then new orders. A fifth of the
//     places is reserved for existing orders: status, cancellation and payment.
//   - Refusals for lack of room are sent at once up to a rate. Above the rate they are delayed, and
//     so is the client (Pacer). Otherwise a flood of refusals would use up what accepted requests
//     need.
//   - A switch with an end is not in force after that moment, by the clock of Apply.
//   - A Breaker of a dependency that fails or is slow refuses calls before any work. While all is
//     well, that costs one atomic load. After each pause it lets its probes begin, and closes when
//     they succeed. A probe that never ends can't keep it half-open. It doesn't bound a call's
//     time, so calls need their own timeout.
//
// It only knows a visit's class and names. It never decides about idempotency, the limit per buyer,
// the verification of payments or the audit: no switch can turn these off.
package degrade

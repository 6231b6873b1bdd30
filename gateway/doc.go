// Package gateway is the public listener: HTTP and nothing but. It decodes, asks a Gate and package
// seckill, and encodes. No decision about a sale is made here.
//
// A request's path:
//   - The listener takes the connection. It survives a lack of file descriptors, and knows every
//     connection, so that a drain is bounded.
//   - fasthttp reads the request within the limits of Config.
//   - handle gives it an exchange from the pool and a request id.
//   - A head that two servers could read differently is refused. The route is matched.
//   - The in-flight limit lets it in, and the caller key is looked up in the catalog.
//   - Headers and body are decoded, all mistakes at once.
//   - The Gate (limits, switches, shedding) lets it in, and Sales decides.
//   - The answer is appended to a buffer and copied into the response.
//
// Package problem writes every answer that isn't a success, those that fasthttp makes itself
// included.
//
// What is never kept of a request: fasthttp uses its buffers again as soon as the handler returns.
// Strings in a seckill.Purchase point into them (and into the exchange's JSON parser), which its
// contract allows; everything else that is handed on (order ids, payments) is copied. RequestCtx
// never leaves this package and is never used as a context.Context: a request has a deadline of its
// own, whose timer exists only once somebody waits on it.
//
// Invariants:
//   - a request is answered, or its connection is closed; a panic costs one request;
//   - a refusal from memory allocates one small object here (the request's context), whatever the
//     refusal;
//   - every limit is a field of Config and a number in Stats (L8). A request above a limit gets a
//     503, 413, 408 or 431 of ours, and a connection above one, too. Only connections that come
//     faster than the lobby can answer are closed without a word;
//   - nobody outside can fill the log: each kind of message is written at most once in ten seconds,
//     with a count of the rest.
//
// What is not promised: a client that goes away is not noticed before its answer is written;
// Shutdown leaves handlers that are still running when its context ends to their own deadlines.
package gateway

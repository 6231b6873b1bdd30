// Package admin is the second listener: what a shop and its operators ask for (merchants, callers,
// activities, stock, dead letters, changes, tokens), and what machines read (metrics, profiles,
// health). It uses net/http, because speed isn't important here, and it needs the features of
// net/http: disconnects, timeouts per answer, protection against other sites.
//
// A request's path: the in-flight limit lets it in; the route is matched; the token and its role
// are checked; the body is decoded, all mistakes at once; an Office or a Store decides; the answer
// is encoded in memory and written. Every answer that isn't a success is written by package
// problem.
//
// What holds:
//   - one table (routes) says which role a path needs; there is no other way in;
//   - a secret (caller key, payment secret, token) leaves once, in the answer that made it; it is
//     in no list, no change and no log, and keys and tokens are kept as SHA-256 only;
//   - a person's browser keeps a session in place of a token; it is taken by the hosts that are
//     known, and for a change only with a field that no page of another site can send;
//   - every change carries who made it (the token's name) and why; a change that has begun is
//     finished, also when the client goes away;
//   - reads see every write that was answered before, on every node: they ask the store for the
//     catalog's version;
//   - every limit is a field of Config and a metric (L8); nobody outside can fill the log.
//
// What is not promised:
//   - A revert does not check and write in one transaction. A change between the two is seen in the
//     list of changes.
//   - An answer made by net/http itself (417) is no problem document.
//   - Where two people make the same token at the same moment, the later one stands.
package admin

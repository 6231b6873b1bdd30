// Package admin is the second listener: what a shop and its operators ask for (merchants, callers,
// activities, stock, dead letters, changes, tokens), and what machines read (metrics, profiles,
// health). It uses net/http, because speed isn't important here, and it needs the features of
// net/http: disconnects, timeouts per answer, protection against other sites.
//
// A request's path: the in-flight limit admits it; the route is matched; the token and its role are
// checked; the body is decoded, all mistakes at once; an Office or a Store decides; the answer is
// encoded in memory and written. Every answer that isn't a success is written by package problem.
//
// What holds:
//   - one table (routes) says which role a path needs; no path is outside of it;
//   - a secret (caller key, payment secret, token) is shown once, in the answer of the request that
//     made it; it is in no list, no change and no log, and keys and tokens are kept as SHA-256
//     only;
//   - a person's browser keeps a session instead of a token; a session is accepted only under the
//     known host names, and a change also needs a header field that no page of another site can
//     send;
//   - every change carries who made it (the token's name) and why; a change that has begun is
//     finished, also when the client goes away;
//   - a read on any node includes all writes that were answered before: they ask the store for the
//     catalog's version;
//   - every limit is a field of Config and a metric (L8); nobody outside can fill the log.
//
// What is not promised:
//   - A revert does not check and write in one transaction. If another change comes between the
//     two, the list of changes shows it.
//   - An answer made by net/http itself (417) is no problem document.
//   - If two people make the same token at the same moment, the later one is kept.
package admin

package inventory

import (
	"errors"
	"strings"

	"github.com/redis/rueidis"
)

// Reply is the meaning of an error reply of Redis for its call.
type Reply uint8

// The meanings. A call with ReplyWait or ReplyRefused has done nothing, and its error says so.
const (
	// ReplyNone is no error reply.
	ReplyNone Reply = iota
	// ReplyWait is a server that can't do it now: nothing was done, and a little later it may do
	// it.
	ReplyWait
	// ReplyRefused: the server refuses this process. Nothing was done, and waiting doesn't help. A
	// person has to change a setting or a right.
	ReplyRefused
	// ReplyUnknown came from within a script, which may have written something before.
	ReplyUnknown
)

// String returns the meaning's name.
func (r Reply) String() string { return [...]string{"none", "wait", "refused", "unknown"}[r] }

// replies has the meanings of error replies, by their first word. An unlisted reply is
// ReplyUnknown: after an unforeseen reply it must not be claimed that nothing happened.
//
// Redis checks all of ReplyWait before it runs a script, or before the first write of one: a script
// that has written is never stopped by them. So they say that nothing was done, whether they name
// the script or not.
var replies = map[string]Reply{
	"LOADING":     ReplyWait, // it reads its data
	"BUSY":        ReplyWait, // a script runs for too long
	"OOM":         ReplyWait, // maxmemory is reached
	"MISCONF":     ReplyWait, // it can't save, or its disk is full
	"READONLY":    ReplyWait, // it became a replica
	"NOREPLICAS":  ReplyWait, // too few replicas follow it
	"MASTERDOWN":  ReplyWait, // a replica whose primary is away
	"CLUSTERDOWN": ReplyWait, // slots without a node, or no majority
	"TRYAGAIN":    ReplyWait, // a slot is on its way to another node
	"MOVED":       ReplyWait, // it is another node's, more often in a row than the client follows
	"ASK":         ReplyWait,
	"NOSCRIPT":    ReplyWait, // it has forgotten the script, twice in a row
	"NOAUTH":      ReplyRefused,
	"WRONGPASS":   ReplyRefused,
	"NOPERM":      ReplyRefused,
	"DENIED":      ReplyRefused, // protected mode
	"CROSSSLOT":   ReplyRefused,
	"NOPROTO":     ReplyRefused,
}

// ReplyOf says what an error reply of Redis means; ReplyNone for any other error.
func ReplyOf(err error) Reply {
	refused := new(rueidis.RedisError)
	if !errors.As(err, &refused) || refused.IsNil() {
		return ReplyNone
	}
	text := refused.Error()
	word, _, _ := strings.Cut(text, " ")
	switch {
	case strings.Contains(text, "max number of clients"):
		return ReplyWait
	case replies[word] != ReplyNone:
		return replies[word]
	case strings.ToUpper(word) == word, isOfScript(text):
		return ReplyUnknown
	}
	return ReplyRefused // the client has taken "ERR" off: a plain error of the command itself
}

// isOfScript reports whether an error reply was raised within a script.
func isOfScript(text string) bool {
	return strings.Contains(text, "user_script") || strings.Contains(text, "running script") ||
		strings.Contains(text, "compiling script") // miniredis says so of each error of a script
}

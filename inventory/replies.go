package inventory

import (
	"errors"
	"strings"

	"github.com/redis/rueidis"
)

// Reply is what an error reply of Redis says about its call.
type Reply uint8

// The meanings. A call that got ReplyWait or ReplyRefused has done nothing, and its error says so.
const (
	// ReplyNone means that there is not an error reply.
	ReplyNone Reply = iota
	// ReplyWait means that the server can't do it now. Nothing was done, and a later attempt may
	// succeed.
	ReplyWait
	// ReplyRefused means that the server refuses this process. Nothing was done, and waiting
	// doesn't help: a person has to change a setting or a right.
	ReplyRefused
	// ReplyUnknown means that the error came from a running script, which may have written
	// something before.
	ReplyUnknown
)

// String returns the meaning's name.
func (r Reply) String() string { return [...]string{"none", "wait", "refused", "unknown"}[r] }

// replies has the meanings of error replies, by their first word. An unlisted reply is
// ReplyUnknown, because an unforeseen reply doesn't prove that nothing happened.
//
// Redis checks the conditions of ReplyWait before it runs a script, or before the script's first
// write. It never stops a script that has written. So these replies prove that nothing was done,
// whether they name the script or not.
var replies = map[string]Reply{
	"LOADING":     ReplyWait, // it still reads its data
	"BUSY":        ReplyWait, // a script runs for too long
	"OOM":         ReplyWait, // maxmemory is reached
	"MISCONF":     ReplyWait, // it can't save its data, for example because its disk is full
	"READONLY":    ReplyWait, // it became a replica
	"NOREPLICAS":  ReplyWait, // too few replicas follow it
	"MASTERDOWN":  ReplyWait, // a replica that has lost its primary
	"CLUSTERDOWN": ReplyWait, // some slots have no node, or there is no majority
	"TRYAGAIN":    ReplyWait, // a slot is moving to another node
	"MOVED":       ReplyWait, // another node has it, more often in a row than the client follows
	"ASK":         ReplyWait,
	"NOSCRIPT":    ReplyWait, // it doesn't know the script, twice in a row
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
	return ReplyRefused // the client has removed "ERR": it is a plain error of the command itself
}

// isOfScript reports whether an error reply came from within a script.
func isOfScript(text string) bool {
	return strings.Contains(text, "user_script") || strings.Contains(text, "running script") ||
		strings.Contains(text, "compiling script") // miniredis says so of each error of a script
}

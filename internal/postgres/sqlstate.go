package postgres

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Fault is the cause of an error, which decides what to do about it.
type Fault uint8

// The faults. A record is never given up because of FaultWait or FaultAgain: the server was at
// fault, or another transaction was faster. FaultData means that the data itself is wrong: the same
// call would fail for ever. FaultInvariant means that a rule of the tables would have been broken.
// The decisions of package seckill exclude that, so it is a bug, and must be noticed.
const (
	FaultNone Fault = iota
	FaultWait
	FaultAgain
	FaultData
	FaultInvariant
)

// String returns the fault's name.
func (f Fault) String() string { return [...]string{"none", "wait", "again", "data", "invariant"}[f] }

// states maps an SQLSTATE (appendix A of PostgreSQL's manual), or its class, the first two
// characters, to the kind of fault. An unlisted code waits: an unforeseen code must not cost a
// promise.
//
//	08  the connection broke                     wait
//	22  a value is none of its type              data: text that is no UTF-8, a number out of range
//	23  a constraint                             data; but for the two below
//	40  deadlock, serialization                  again
//	42  no such table, no right                  wait: a schema that is behind, a grant that is missing
//	53  no memory, no disk, no connection        wait
//	54  a limit of the server                    wait
//	55  a lock was not to be had                 wait
//	57  an operator or a restart intervened      wait
//	58, XX, F0  the server or its disk is broken wait
var states = map[string]Fault{
	"22": FaultData,
	"23": FaultData,
	// Another transaction has made the same row in the meantime: the next try finds it.
	"23505": FaultAgain,
	// A CHECK: L1, a quantity, a length. Decisions under the row's lock can't break one.
	"23514": FaultInvariant,
	// A merchant or a shard is missing: a restored database knows less than its callers. It comes
	// back.
	"23503": FaultWait,
	"40001": FaultAgain,
	"40P01": FaultAgain,
	// The server is read-only, for example a former primary after a failover: see demoted.
	"25006": FaultAgain,
	// The prepared statement is gone, and is prepared again.
	"26000": FaultAgain,
}

// FaultOf returns the cause of an error of this package.
func FaultOf(err error) Fault {
	var failed *pgconn.PgError
	switch {
	case err == nil:
		return FaultNone
	case !errors.As(err, &failed):
		if pgconn.SafeToRetry(err) {
			return FaultAgain
		}
		return FaultWait
	case failed.Code == "0A000" && strings.HasPrefix(failed.Message, "cached plan must not change result type"):
		return FaultAgain // the schema changed under the plan
	}
	if fault, ok := states[failed.Code]; ok {
		return fault
	}
	if len(failed.Code) == 5 {
		if fault, ok := states[failed.Code[:2]]; ok {
			return fault
		}
	}
	return FaultWait
}

// The codes that this package itself checks.
const (
	insufficientPrivilege = "42501"
	readOnlyTransaction   = "25006"
	lockNotAvailable      = "55P03"
)

// isState reports whether an error is the server's, with one of these codes.
func isState(err error, codes ...string) bool {
	var failed *pgconn.PgError
	if !errors.As(err, &failed) {
		return false
	}
	for _, code := range codes {
		if failed.Code == code {
			return true
		}
	}
	return false
}

// Unreachable reports whether an error of Open or Migrate may pass by itself: the server can't be
// reached, is starting up or shutting down, is out of connections, memory or disk, or the
// connection broke. Nothing was done, and a later attempt may succeed. Errors about this process
// are not of that kind: a wrong password, no such database, a missing right.
func Unreachable(err error) bool {
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		return len(failed.Code) == 5 && (passing[failed.Code[:2]] || failed.Code == readOnlyTransaction)
	}
	var (
		connect *pgconn.ConnectError
		network net.Error
		errno   syscall.Errno
	)
	return errors.As(err, &connect) || errors.As(err, &network) || errors.As(err, &errno) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err)
}

// passing are the classes of SQLSTATE about the server's state, not about the client.
var passing = map[string]bool{"08": true, "40": true, "53": true, "54": true, "55": true, "57": true, "58": true, "F0": true, "XX": true}

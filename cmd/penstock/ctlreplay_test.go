package main

import "testing"

// TestCtl_Replay: ctl asks before it reads the log of a process again, and refuses times that make
// no sense.
func TestCtl_Replay(t *testing.T) {
	operated(t)
	for _, s := range []step{
		{args: "ctl replay --from 1h --dry-run", stdout: `^records +\d+\ndamaged +0\npromises +\d+\nexisted +\d+\nmade +0\nmissing +0\n`},
		{args: "ctl replay --from 1h --yes", stdout: `made +0\n`},
		{args: "ctl replay --from 1h", code: 2, stderr: `Read the log again .* or --yes`},
		{args: "ctl replay --from yesterday --dry-run", code: 2, stderr: `flag --from: "yesterday" is neither a time`},
		{args: "ctl replay --from 1h --to 2h --dry-run", code: 1, stderr: `to: must be after from`},
	} {
		s.run(t)
	}
}

// Package servers starts real servers for tests: PostgreSQL, Redis and its Sentinel, a Kafka
// broker, by deploy/local-stack, on free ports of 127.0.0.1 and with data of their own. For pages
// it has a real browser.
//
// What it promises: a server is ready when its function returns. It is ended by its process id
// before the test binary exits, also when the binary panics or is killed, and its data is removed.
// Its log is shown when a test has failed. Where a server's program is not installed, tests are
// skipped with a line that says how to get it. With CI=true or PENSTOCK_TEST_SERVERS=1 they fail
// instead. With -short all of them are skipped.
//
// What it does not: it needs Unix, and /proc to pause a PostgreSQL. Servers are unsafe: a shared
// PostgreSQL doesn't wait for its disk. A crash of the machine can't be tested with them.
//
// A test package that uses it says so once:
//
//	func TestMain(m *testing.M) { os.Exit(servers.Main{M: m}.Run()) }
package servers

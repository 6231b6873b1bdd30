// Package servers starts real servers for tests: PostgreSQL, Redis and its Sentinel, a Kafka
// broker, by deploy/local-stack, on free ports of 127.0.0.1 and with data of their own. For pages
// it has a real browser.
//
// What it promises: a server is ready when its function returns; it is ended, by its process id,
// before the test binary exits, also when the binary panics or is killed; its data goes with it.
// What it wrote is shown where a test failed. Where a server's program is not installed, tests are
// skipped with a line that says how to get it; with CI=true or PENSTOCK_TEST_SERVERS=1 they fail.
// With -short all of them are skipped.
//
// What it does not: it needs Unix, and /proc to pause a PostgreSQL. Servers are unsafe: a
// PostgreSQL that is shared doesn't wait for its disk. What must survive a machine is not tested
// here.
//
// A test package that uses it says so once:
//
//	func TestMain(m *testing.M) { os.Exit(servers.Main{M: m}.Run()) }
package servers

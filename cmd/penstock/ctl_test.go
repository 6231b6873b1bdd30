package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/node"
)

const ctlToken = "token-of-the-test"

// typed runs a command line as main does.
func typed(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	root := rootCommand()
	var out, messages bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&messages)
	code = run(t.Context(), root, args)
	return out.String(), messages.String(), code
}

// step is what a user types and sees.
type step struct {
	args   string // split at spaces; + in a word stands for a space
	stdin  string
	code   int
	stdout string // regular expressions; "" is nothing at all
	stderr string
}

func (s *step) run(t *testing.T) {
	t.Helper()
	args := strings.Fields(s.args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "+", " ")
	}
	stdout, stderr, code := typed(t, s.stdin, args...)
	if code != s.code {
		t.Errorf("penstock %s: exit code %d, want %d\n%s%s", s.args, code, s.code, stdout, stderr)
	}
	for _, stream := range []struct{ name, got, want string }{{"stdout", stdout, s.stdout}, {"stderr", stderr, s.stderr}} {
		if stream.want == "" && stream.got != "" || !regexp.MustCompile("(?ms)"+stream.want).MatchString(stream.got) {
			t.Errorf("penstock %s: %s is\n%swant %q", s.args, stream.name, stream.got, stream.want)
		}
	}
}

// TestCtlPassesOverAListenerThatHangs: a listener that takes connections and doesn't answer delays
// the command only by the wait for its first answer.
func TestCtlPassesOverAListenerThatHangs(t *testing.T) {
	hang := make(chan struct{})
	asked := make(chan string, 10)
	stuck := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		<-hang
	}))
	defer stuck.Close()
	defer close(hang)
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"path":"` + r.URL.Path + `"}`)) // the client reports an invalid answer
	}))
	defer good.Close()
	c := newClient([]string{stuck.URL, good.URL}, ctlToken, time.Minute)
	c.wait = 50 * time.Millisecond
	for range 2 {
		text, _, err := c.call(t.Context(), get("me"))
		if err != nil || string(text) != `{"path":"/admin/v1/me"}` {
			t.Fatalf("%s, %v", text, err)
		}
	}
	if len(asked) != 1 || <-asked != "/livez" {
		t.Error("the listener that hangs was asked more than whether it lives")
	}
	c = newClient([]string{stuck.URL, stuck.URL + "/"}, ctlToken, time.Minute)
	c.wait = 50 * time.Millisecond
	if _, _, err := c.call(t.Context(), get("me")); codeOf(err) != exitDependency {
		t.Errorf("where all hang: %v", err)
	}
}

// TestCtlListsEndWhereAServerRepeatsItself: a cursor that leads to itself is an error, not a list
// without an end.
func TestCtlListsEndWhereAServerRepeatsItself(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked > 10 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte(`{"items":[{"merchant":"m1"}],"next":"same"}`)) // the client reports the missing end
	}))
	defer s.Close()
	items, err := newClient([]string{s.URL}, ctlToken, time.Minute).list(t.Context(), "after", 0, "merchants")
	if codeOf(err) != exitFailure || asked != 2 {
		t.Errorf("%d items after %d requests, %v", len(items), asked, err)
	}
}

const ctlActivity = `
merchant: m1
name: 618 Phones
starts_at: 2026-06-18T20:00:00+08:00
ends_at: 2096-06-18T22:00:00+08:00
payment_window: 15m
items:
  - {sku: phone-x, price: 199900, currency: CNY, quantity: 10, per_user: 2}
`

// operated starts a whole process for the commands of this test.
func operated(t *testing.T) *node.Node {
	t.Helper()
	if testing.Short() {
		t.Skip("starts the whole process")
	}
	cfg := defaultConfig()
	cfg.Listen, cfg.AdminListen, cfg.DataDir, cfg.AdminToken = "127.0.0.1:0", "127.0.0.1:0", t.TempDir(), ctlToken
	p := running(t, cfg, node.RoleGateway|node.RoleWorker)
	t.Setenv(envAdmin, p.AdminURL())
	t.Setenv(envAdminToken, ctlToken)
	return p
}

// TestCtl runs every command against a running process, in the order of a shop's work.
func TestCtl(t *testing.T) {
	operated(t)
	for _, s := range append([]step{
		{args: "ctl merchants put m1 --name 618+Phones", stdout: `^merchant +m1\nname +618 Phones\npayment secret +[0-9a-f]{64}\n$`},
		{args: "ctl merchants put m1 --name Phones --reason shorter", stdout: `^merchant +m1\nname +Phones\n$`},
		{args: "ctl merchants put m2 --name Two --payment-secret-file -", stdin: "own-0123456789abcdef\n", stdout: `^merchant +m2\nname +Two\n$`},
		{args: "ctl merchants put m/1 --name a\x07b", code: 1, stderr: `^penstock: The request is not valid: .* \(400 invalid-request\)
penstock: name: must have no control characters
penstock: merchant: must consist of letters, digits and \._~-\n$`},
		{args: "ctl merchants list", stdout: `^MERCHANT  NAME\nm1 +Phones\nm2 +Two\n$`},
		{args: "ctl merchants list -o json", stdout: `^\{\n  "items": \[\n    \{\n      "merchant": "m1",`},
		{args: "ctl merchants show m1", stdout: `^merchant +m1\nname +Phones\n$`},
		{args: "ctl merchants show who", code: 1, stderr: `^penstock: The merchant is unknown: .* \(404 unknown-merchant\)\n$`},

		{args: "ctl callers add m1 app --rights buy,merchant", stdout: `caller +app\nkey +psk_\S{43}\nname +app\nrights +buy,merchant\nshadow +false\n$`},
		{args: "ctl callers add m1 load --rights buy --shadow -o json", stdout: `"shadow": true`},
		{args: "ctl callers add m1 x", code: 2, stderr: `required flag\(s\) "rights" not set`},
		{args: "ctl callers revoke m1 load", stdout: `\napplied +1\nnodes +1\n`, stderr: `^m1/load is revoked, in force on the only gateway\nthe list of changes can`},
		{args: "ctl callers list m1", stdout: `app +app +buy,merchant +false +false +2\S+Z\nload +load +buy +true +true `},

		{args: "ctl activities put 618 -f -", stdin: ctlActivity,
			stdout: `state +draft\nstarts at +2026-06-18T\S+\nends at +2096-06-18T\S+ \(in [0-9]+ y\)\n.*\n\n` +
				`SKU +PRICE.*\nphone-x +1999\.00 CNY +10 +2 +1\n$`},
		{args: "ctl activities put 618 -f -", stdin: "a: [", code: 2, stderr: `^penstock: flag --file: -:2: is not YAML: `},
		{args: "ctl activities put 618 -f -", stdin: "a: 1\n---\nb: 2", code: 2, stderr: `--file: -:2: has more than one document`},
		{args: "ctl activities put 618 -f -", stdin: "a: 1\na: 2", code: 2, stderr: `--file: -:.* is not YAML: `},
		{args: "ctl activities put 618 -f -", stdin: "- a", code: 2, stderr: `--file: -:1: has to be members`},
		{args: "ctl activities put 618 -f -", stdin: "starts_at: 2026-06-18 20:00:00", code: 1, stderr: `starts_at: must be a time like`},
		{args: "ctl activities put 618 -f -", stdin: "starts_at: 2026-06-18", code: 1, stderr: `starts_at: must be a time like`},
		{args: "ctl activities put 618 -f -", stdin: "", code: 2, stderr: `^penstock: flag --file: -: has no members\n$`},
		{args: "ctl activities put 618 -f -", stdin: "merchant: m1\nprice: 3", code: 1, stderr: `\npenstock: items: is required\npenstock: price: is unknown\n$`},
		{args: "ctl activities publish 618", stdout: `^activity +618\nstate +published\n$`, stderr: `^618 is published: it sells until 2096-`},
		{args: "ctl activities list", stdout: `\n618 +m1 +published +2\S+ +2\S+ \(in [0-9]+ y\) +618 Phones\n$`},
		{args: "ctl activities pause 618", stdout: `state +paused\n$`, stderr: `^618 is paused: it sells nothing until it is resumed`},
		{args: "ctl activities resume 618", stdout: `state +published\n$`, stderr: `^618 is published`},
		{args: "ctl activities show 617", code: 1, stderr: `unknown-activity\); there is no "617", did you mean "618"\?`},
		{args: "ctl merchants show m11", code: 1, stderr: `there is no "m11", did you mean "m1"\?`},
		{args: "__complete ctl activities show 6", stdout: `^618\n:4\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl callers revoke m1 a", stdout: `^app\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl stock restock 618 p", stdout: `^phone-x\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl switches set ord", stdout: `^orders\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl switches set orders o", stdout: `^off\non\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl switches set orders off --scope m", stdout: `^merchant=m1\nmerchant=m2\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete check --activity 6", stdout: `^618\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete audit 6", stdout: `^618\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "ctl activities show 618", stdout: `\nphone-x +1999\.00 CNY +10 +2 +1\n$`},

		{args: "ctl stock restock 618 phone-x --delta 5 --reason more --key k1", stdout: `^activity +618\nsku +phone-x\ndelta +5\ntotal +15\n$`},
		{args: "ctl stock restock 618 phone-x --delta 5 --reason more --key k1", stdout: `total +15\n$`, stderr: `^this key was used before`},
		{args: "ctl stock restock 618 phone-x --delta -3 --reason less", stdout: `total +12\n$`},
		{args: "ctl stock restock 618 phone-x --delta -13 --reason less", code: 1, stderr: `^penstock: .*\(409 insufficient-stock\)\n$`},
		{args: "ctl stock restock 618 phone-x --delta 1", code: 2, stderr: `^penstock: flag --reason: is required\n$`},
		{args: "ctl audit", stdout: `618  phone-x +12  =  +[0-9]+  \+ +[0-9]+  \+ +0 `},
		{args: "audit 618 -o json", stdout: `"balanced": true`},
		{args: "audit who", code: 1, stderr: `unknown-activity`},
		{args: "audit --deep", stdout: `^SHARD +FINDING +ITEM +DETAIL +MENDED\n$`,
			stderr: `^4 shards with [1-9][0-9]* stock rows?, .* not read yet\nno finding: orders, stock and counters agree\n$`},
		{args: "audit --deep --mend --reason a+look -o json", stdout: `"findings": \[\]`, stderr: `^4 shards`},

		{args: "ctl changes list --limit 2", stdout: `^NUMBER .*\n[0-9]+ .* configured +127\.0\.0\.1 +stock +618/phone-x +true +less\n[0-9]+ .* more\n$`, stderr: `^there are more`},
		{args: "ctl changes list --limit 0", code: 2, stderr: `--limit: must be above zero`},
		{args: "ctl changes show 2", stdout: `reason +shorter\nrevertible +true\nbefore +\{"merchant":"m1","name":"618 Phones"\}\n`},
		{args: "ctl changes revert 2 --reason longer", stdout: `^reverted +2\nkind +merchant\nkey +m1\nchanged +true\n$`},
		{args: "ctl changes revert 2", stdout: `changed +false\n$`, stderr: `^change 2 was undone before: nothing was changed now\n$`},
		{args: "ctl changes revert 1", code: 1, stderr: `not-revertible`},

		{args: "ctl limits show", stdout: `^NAME +KEY +MATCH +RATE +BURST +MODE\n$`, stderr: `^version 0\n$`},
		{args: "ctl limits put --file - --reason sale", stdin: `{"version":0,"policies":[{"name":"caller","key":"caller","rate":40,"burst":20}]}`,
			stdout: `^version +1\napplied +1\nnodes +1\nlagging +\n$`, stderr: `^the limits are in force on the only gateway\n$`},
		{args: "ctl limits put --file - --reason sale", stdin: `{"version":1,"policies":[]}`, code: 2, stderr: `removes all limits.* or --yes`},
		{args: "ctl limits put --file - --yes --reason sale", stdin: `{"version":0,"policies":[]}`, code: 1, stderr: `precondition-failed`},
		{args: "ctl limits put --file - --version 1 --reason sale", stdin: `{"policies":[{"name":"a","key":"caller","rate":0,"burst":1}]}`, code: 1,
			stderr: `policies\[0\].rate: must be above 0`},
		{args: "ctl limits put --file - --reason sale --yes", stdin: `{"policies":[]}`, code: 2, stderr: `the version that this changes is missing`},
		{args: "ctl limits put --file - --reason sale", stdin: `policies:`, code: 2, stderr: `flag --file`},
		{args: "ctl limits show", stdout: `\ncaller +caller +40 +20 +enforce\n$`, stderr: `^version 1\n$`},
		{args: "ctl limits show -o json", stdout: `"version": 1,`},
		{args: "ctl limits usage", stdout: `^NAME +RATE +GATEWAY .*\ncaller +40 +all +0 +0 +0 `},
		{args: "ctl limits usage -o json", stdout: `"complete": true,`},
		{args: "ctl switches set admission 40 --scope merchant=m1 --expires-in 1h --reason crowd",
			stdout: `^version +1\napplied +1\nnodes +1\nlagging +\n$`, stderr: `^admission is 40 for merchant m1, in force on the only gateway\n$`},
		{args: "ctl switches set admission 40 --scope merchant=m4 --reason crowd", code: 1,
			stderr: `scope: there is no merchant m4; did you mean m1, m2\? With --allow-unknown it is set anyway\n$`},
		{args: "ctl switches list", stdout: `^NAME .*\norders +on +on +off, on .*\nadmission +100 +100 `},
		{args: "ctl switches active", stdout: `^NAME .*\nadmission +merchant=m1 +40 +configured +2\S+ +2\S+ \(in \d+ \w\) +crowd\n$`},
		{args: "ctl switches set admission - --scope merchant=m1 --reason over", stdout: `^version +2\n`,
			stderr: `^admission is not set for merchant m1, in force on the only gateway\n$`},
		{args: "ctl switches active", stdout: `^NAME [^\n]*\n$`, stderr: `^no switch is set: all have their defaults\n$`},
		{args: "ctl settings show", stdout: `^NODE +STATE .*\n`, stderr: `^limits: version \d+\nswitches: version \d+\nwebhooks: version \d+\n$`},
		{args: "ctl settings show -o json", stdout: `"documents":`},
		{args: "ctl switches set admission 40", code: 2, stderr: `^penstock: flag --reason: is required\n$`},
		{args: "ctl switches set admission 40 --reason x --scope everybody", code: 2, stderr: `is not like merchant=m1`},
		{args: "ctl switches set colour red --reason x", code: 1, stderr: `unknown-switch`},

		{args: "ctl levels show", stdout: `^LEVEL +NAME .*\nD0 +normal .*\nD5 +closed `, stderr: `^at D\d; the node's own signals ask for D\d`},
		{args: "ctl nodes list", stdout: `^NODE .*\n\S+@127\.0\.0\.1:\d+ +gateway and worker +current +\d+ +false `},
		{args: "ctl nodes list -o json", stdout: `"role": "gateway and worker"`},
		{args: "ctl nodes drain nobody", code: 1, stderr: `unknown-node`},
		{args: "ctl limits put --file - --reason sale --version 2", stdin: `{"policies":[]}`, code: 2, stderr: `removes all limits.* or --yes`},
		{args: "ctl dead-letters discard --all", code: 2, stderr: `Discard all dead letters\? .* or --yes`},
		{args: "ctl activities delete 618", code: 2, stderr: `Delete the draft 618 .* or --yes`},
		{args: "ctl nodes undrain nobody", code: 1, stderr: `unknown-node`},
		{args: "ctl nodes remove nobody", code: 1, stderr: `unknown-node`},
		{args: "ctl switches set admission 40 --scope merchant=m4 --reason later --allow-unknown", stdout: `^version +3\n`, stderr: `m4`},

		{args: "ctl dead-letters list", stdout: `^ID +AT +PARTITION +OFFSET +ORDER +PROBLEM\n$`},
		{args: "ctl dead-letters replay --all", stdout: `^letters +0\nreplayed +0\nopened +0\nrejected +0\nparked +0\n$`},
		{args: "ctl dead-letters discard 7 8", code: 1, stderr: `unknown-dead-letter`},
		{args: "ctl dead-letters discard seven", code: 2, stderr: `"seven" is not the id of a dead letter`},
		{args: "ctl dead-letters discard", code: 2, stderr: `or give --all`},
		{args: "ctl dead-letters replay 1 --all", code: 2, stderr: `or give --all`},

		{args: "ctl tokens add night --role operator", stdout: `^name +night\nrole +operator\ntoken +pst_\S{43}\ntoken id +t-\S{10}\nexpires at +\n$`},
		{args: "ctl tokens list", stdout: `^TOKEN ID +NAME .*\nconfigured +configured +admin .*\nt-\S{10} +night +operator +2\S+Z`},
		{args: "ctl tokens delete night", stderr: `^deleted night\n$`},
		{args: "ctl activities end 618", code: 2, stderr: `^penstock: End 618 for good\? .* or --yes\n$`},
		{args: "ctl activities end 618 --yes", stdout: `state +ended\n$`, stderr: `^618 is ended: it has stopped selling for good`},
		{args: "ctl activities resume 618", code: 1, stderr: `activity-state`},
	}, keySteps()...) {
		s.run(t)
	}
}

// TestCtl_SaysHowItIsCalled: ctl shows its usage without a command, and with a wrong one.
func TestCtl_SaysHowItIsCalled(t *testing.T) {
	operated(t)
	for _, s := range []step{
		{args: "ctl", stdout: `Available Commands`},
		{args: "ctl merchants", stdout: `Available Commands`},
		{args: "ctl merchants list x", code: 2, stderr: `unknown command "x"`},
		{args: "ctl merchants list -o yaml", code: 2, stderr: `"yaml" is neither table nor json`},
		{args: "ctl merchants list --timeout 0s", code: 2, stderr: `--timeout: must be above zero`},
		{args: "ctl merchants list --token-file -", stdin: "pst_wrong", code: 1, stderr: `401 unauthenticated`},
	} {
		s.run(t)
	}
}

// TestCtlKnowsWhomToAsk finds the server and the token, or says what is missing.
func TestCtlKnowsWhomToAsk(t *testing.T) {
	var sent []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization")+" "+r.URL.RequestURI())
		if _, err := w.Write([]byte(`{"items":[]}`)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(envAdmin, server.URL+"/")
	t.Setenv(envAdminToken, "")
	for _, s := range []step{
		{args: "audit", code: 2, stderr: `^penstock: no admin token: set PENSTOCK_ADMIN_TOKEN, or name a file with --token-file\n$`},
		{args: "audit --token-file /no/such/file", code: 2, stderr: `^penstock: flag --token-file: open /no/such/file: `},
		{args: "audit --token-file " + file, stdout: "ACTIVITY"},
		{args: "ctl audit --admin localhost:8081 --token-file " + file, code: 2, stderr: `^penstock: flag --admin: "localhost:8081" is not a URL`},
		{args: "ctl audit --admin http://127.0.0.1:1 --token-file " + file, code: 4,
			stderr: `connection refused; no process listens there: start one, or name another admin listener by --admin or PENSTOCK_ADMIN\n$`},
	} {
		s.run(t)
	}
	t.Setenv(envAdminToken, "from-the-environment")
	(&step{args: "ctl merchants list", stdout: "MERCHANT"}).run(t)
	(&step{args: "ctl merchants list --token-file " + file, stdout: "MERCHANT"}).run(t)
	t.Setenv(envAdminToken, "a b")
	(&step{args: "ctl merchants list", code: 2, stderr: `environment PENSTOCK_ADMIN_TOKEN: a token is visible`}).run(t)
	t.Setenv(envAdmin, "ftp://x")
	t.Setenv(envAdminToken, "x")
	(&step{args: "ctl merchants list", code: 2, stderr: `environment PENSTOCK_ADMIN: "ftp://x" is not a URL`}).run(t)
	want := "Bearer from-a-file /admin/v1/activities\nBearer from-the-environment /admin/v1/merchants\nBearer from-a-file /admin/v1/merchants"
	if got := strings.Join(sent, "\n"); got != want {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
}

// answering starts a server that gives the answers of a map, by path.
func answering(t *testing.T, answers map[string]string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusTeapot)
		}
		if strings.Contains(text, `"status":503`) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv(envAdmin, server.URL)
	t.Setenv(envAdminToken, ctlToken)
}

// L1 and L3 can't be broken on purpose, so this server lies.
func TestAuditTellsABrokenEquation(t *testing.T) {
	item := func(sku, rest string) string {
		return `{"sku":"` + sku + `","total":10,"available":8,"held":1,"sold":2,"in_flight":0,` + rest + `}`
	}
	good, broken := item("good", `"balanced":true`), item("broken", `"balanced":false`)
	rebuilding := item("rebuilding", `"balanced":false,"rebuilding":true`)
	answering(t, map[string]string{
		"/admin/v1/activities":         `{"items":[{"activity":"a"}],"next":"a"}`,
		"/admin/v1/activities?after=a": `{"items":[{"activity":"b"}]}`,
		"/admin/v1/activities/a/audit": `{"activity":"a","items":[` + good + `]}`,
		"/admin/v1/activities/b/audit": `{"activity":"b","items":[` + broken + `,` + rebuilding + `]}`,
		"/admin/v1/activities/c/audit": `{"activity":"c","items":[` + rebuilding + `]}`,
		"/admin/v1/activities/d/audit": `{"type":"/problems/unavailable","title":"Not now","status":503,"detail":"Away.","code":"unavailable"}`,
		"/admin/v1/activities/e/audit": `what`,
	})
	for _, s := range []step{
		{args: "audit", code: 98, stdout: `a +good +10 .* balanced *\n +b +broken .* BROKEN *\n +b +rebuilding .* rebuilding *\n$`,
			stderr: `^penstock: b/broken: the stock equation does not hold: total 10, available 8, held 1, sold 2, in flight 0\npenstock: b/rebuilding: `},
		{args: "audit -o json", code: 98, stdout: `"balanced": false\n\}\n$`, stderr: `b/broken`},
		{args: "audit a", stdout: `balanced`},
		{args: "audit a c", code: 4, stdout: `rebuilding`, stderr: `^penstock: c/rebuilding: its stock is being rebuilt, ask again\n$`},
		{args: "audit d", code: 4, stderr: `^penstock: Not now: Away\. \(503 unavailable\)\n$`},
		{args: "audit e", code: 1, stderr: `^penstock: read the answer: `},
		{args: "audit f", code: 1, stderr: `418 I'm a teapot: is this a Penstock admin listener\?`},
	} {
		s.run(t)
	}
}

// TestCtl_CompletesWords: the values of a flag are completed without a server.
func TestCtl_CompletesWords(t *testing.T) {
	for _, one := range []step{
		{args: "__complete ctl limits set x --key u", stdout: `^global\n.*user\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl limits set x --mode s", stdout: `^enforce\nshadow\noff\npercent\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl refunds list --state d", stdout: `^due\ndone\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl orders find --state p", stdout: `^pending_payment\npaid\n`, stderr: "ShellCompDirectiveNoFileComp"},
		{args: "__complete ctl tokens add x --role o", stdout: `^viewer\nsupport\noperator\n`, stderr: "ShellCompDirectiveNoFileComp"},
	} {
		one.run(t)
	}
}

// Terminal commands in a name are shown as text and not executed.
func TestCtlShowsNoEscapeSequences(t *testing.T) {
	answering(t, map[string]string{"/admin/v1/merchants": `{"items":[{"merchant":"m1","name":"\u001b[2J\u009bA\nB"}]}`})
	(&step{args: "ctl merchants list", stdout: "^MERCHANT +NAME\nm1 +\uFFFD\\[2J\uFFFDA\uFFFDB\n$"}).run(t)
}

// A restock whose answer is lost can be repeated: ctl prints its key.
func TestCtlTellsTheKeyOfALostRestock(t *testing.T) {
	answering(t, map[string]string{
		"/admin/v1/activities/a/items/x/restock": `{"type":"/problems/unavailable","title":"Not now","status":503,"detail":"Away.","code":"unavailable"}`,
	})
	(&step{args: "ctl stock restock a x --delta 1 --reason r", code: 4, stderr: `^the outcome is unknown: repeat the command with --key [A-Z2-7]{26};`}).run(t)
}

// Terminal commands in a server's answer are shown as text and not executed: in errors, in JSON and
// in messages.
func TestCtlShowsNoCommandsOfTheServer(t *testing.T) {
	answering(t, map[string]string{
		"/admin/v1/merchants":       `{"items":[{"merchant":"m1","name":"a\u202eb` + "\u009b\u2066" + `"}]}`,
		"/admin/v1/merchants/m1":    `{"code":"unavailable","title":"\u001b]0;x\u0007","detail":"\u202eA","status":503,"errors":[{"field":"\u001b[2J","detail":"x"}]}`,
		"/admin/v1/switches/orders": `{"version":1,"applied":0,"nodes":1,"lagging":["n\u001b[31m"],"message":"not on n\u001b[31m"}`,
	})
	for _, one := range []step{
		{args: "ctl merchants list", stdout: "^MERCHANT +NAME\nm1 +a\uFFFDb\uFFFD\uFFFD\n$"},
		{args: "ctl merchants list -o json", stdout: `"name": "a\\u202eb\\u009b\\u2066"`},
		{args: "ctl merchants show m1", code: 4, stderr: "^penstock: \uFFFD\\]0;x\uFFFD: \uFFFDA \\(503 unavailable\\)\npenstock: \uFFFD\\[2J: x\n$"},
		{args: "ctl switches set orders off --reason x", stderr: "^not on n\uFFFD\\[31m\n$", stdout: "lagging +n\uFFFD"},
	} {
		one.run(t)
	}
}

// A redirect is reported and not followed: the token is for the named server only.
func TestCtlFollowsNoRedirect(t *testing.T) {
	asked := make(chan string, 8)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header.Get("Authorization") }))
	defer other.Close()
	here := httptest.NewServer(http.RedirectHandler(other.URL+"/admin/v1/merchants", http.StatusTemporaryRedirect))
	defer here.Close()
	t.Setenv("PENSTOCK_ADMIN", here.URL)
	t.Setenv("PENSTOCK_ADMIN_TOKEN", "pst_secret")
	(&step{args: "ctl merchants list", code: 1, stderr: `307 Temporary Redirect to http://127.0.0.1:\d+/admin/v1/merchants: redirects are not followed`}).run(t)
	if len(asked) > 0 {
		t.Errorf("another server got %q", <-asked)
	}
}

// A finding of a deep audit stays until it is repaired. A part that can't be read is no finding.
func TestDeepAuditTellsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, shard, queue string
		code               int
		stdout, stderr     string
	}{
		{"in order", `"findings":[]`, `{"partition":0,"state":"ok"}`, 0, `MENDED\n$`, `^1 shard`},
		{"counters", `"findings":[{"kind":"counters","activity":"a","sku":"x","item":7,"detail":"other"}]`, `{"partition":0,"state":"ok"}`, 98,
			`counters +a/x +other`, `shard 0, counters of a/x: other`},
		{"mended", `"findings":[{"kind":"digests","detail":"other","mended":"set"}]`, `{"partition":0,"state":"ok"}`, 0, `digests +all +other +set`, `^1 shard`},
		{"a lost log", `"findings":[]`, `{"partition":3,"next":9,"start":0,"end":5,"state":"lost"}`, 98, `MENDED`,
			`partition 3: the workers are at 9, the log has 0 to 5`},
		{"rebuilding", `"findings":[],"rebuilding":true`, `{"partition":0,"state":"ok"}`, 4, `MENDED`, `shard 0 is being rebuilt`},
		{"no leader", `"findings":[]`, `{"partition":3,"state":"unknown","detail":"no leader"}`, 4, `MENDED`, `partition 3 can't be looked at: no leader`},
	} {
		t.Run(c.name, func(t *testing.T) {
			answering(t, map[string]string{
				"/admin/v1/shards/0/audit": `{"shard":0,"shards":1,` + c.shard + `}`,
				"/admin/v1/queue":          `{"partitions":[` + c.queue + `]}`,
			})
			(&step{args: "audit --deep", code: c.code, stdout: c.stdout, stderr: c.stderr}).run(t)
			(&step{args: "audit --deep 618", code: 2, stderr: `^penstock: flag --deep: `}).run(t)
			(&step{args: "audit --mend", code: 2, stderr: `^penstock: flag --mend: `}).run(t)
		})
	}
}

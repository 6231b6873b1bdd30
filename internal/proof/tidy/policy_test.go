package tidy

// This file is policy: what the rules allow, as data with reasons. "It makes the build pass" is no
// reason.

// topLevel lists everything that may be in the root directory. Not all of it has to exist.
var topLevel = map[string]string{
	"cmd":       "what a person starts",
	"gateway":   "HTTP and nothing else",
	"limiter":   "may this caller, now?",
	"degrade":   "may the system, now?",
	"seckill":   "activities, purchases, orders",
	"inventory": "holds on units, in Redis",
	"loadtest":  "a black-box load generator",
	"internal":  "adapters and tools",
	"docs":      "for people",
	"deploy":    "for machines",

	"README.md":       "what it is",
	"ARCHITECTURE.md": "how it is built",
	"CONVENTIONS.md":  "how we build it",
	"CHANGELOG.md":    "what changed for users",
	"CONTRIBUTING.md": "how to change it",
	"SECURITY.md":     "how to report a fault",
	"LICENSE":         "what others may do with it",
	"Makefile":        "what a developer types",
	"go.mod":          "the module",
	"go.sum":          "its dependencies",

	".ci":            "what has to pass",
	".gitignore":     "what stays out",
	".gitattributes": "what git has to know about files",
	".golangci.yml":  "how it is linted",
}

const module = "github.com/penstock/penstock"

// arrow lists what a package may import of ours: its product files from may, its tests from may and
// tests.
type arrow struct {
	may   []string
	tests []string
	why   string
}

// arrows is the whole list; a package that isn't in it may not be. Test packages may be imported by
// tests.
var arrows = map[string]arrow{
	"internal/batch":      {why: "natural batching knows nothing of what it carries"},
	"internal/atomicfile": {why: "how a file is replaced; what is in it is unknown here"},
	"internal/field":      {why: "mistakes in a document, field by field; which document is unknown here"},
	"internal/quietlog":   {why: "it counts messages; what they say is unknown here"},
	"internal/list":       {why: "a list knows nothing of what is in it"},
	"internal/vault":      {why: "it encrypts texts at rest, and knows nothing of what they are for"},
	"internal/timing":     {why: "how long something took, in few numbers; what took it is unknown here"},
	"internal/webhook": {
		may: []string{"internal/live", "internal/trace", "internal/wait"},
		why: "it posts the events of the live view, and knows nothing of the parts that make them",
	},
	"internal/live": {
		may: []string{"internal/timing"},
		why: "the words of the live view; a program that shows a sale needs none of the parts that make it",
	},
	"internal/probe": {
		may: []string{"internal/timing", "internal/wait"},
		why: "it asks a listener from outside, and knows nothing of what is behind it",
	},
	"internal/trace":    {why: "spans of what was traced; what the parts are is unknown here"},
	"internal/wait":     {why: "how to wait and to back off knows nothing of what is waited for"},
	"internal/settings": {may: []string{"internal/atomicfile", "internal/wait"}, why: "versioned documents; what they mean is known to the parts that apply them"},
	"degrade":           {why: "it decides by switches and measurements alone, so that it can't fall with what it protects"},
	"loadtest":          {why: "a black box: it trusts nothing of ours, or its verdict would be ours"},
	"inventory": {
		may: []string{"internal/batch", "internal/timing", "internal/wait"},
		why: "holds are names and numbers; what they are for is unknown here, so Redis can be rebuilt and proven alone",
	},
	"limiter": {may: []string{"internal/field"}, why: "the owner of a bucket is a string, and the cluster's buckets are behind its Pool"},
	"internal/leases": {
		may: []string{"limiter", "inventory", "internal/atomicfile"},
		why: "it is the limiter's pool on the connection to the Redis that inventory owns",
	},
	"seckill": {
		may: []string{"inventory", "internal/field"},
		why: "the sale declares the seams Stock, Queue and Store, and imports no adapter",
	},
	"seckill/desk": {
		may: []string{"seckill", "internal/batch", "internal/list", "internal/timing", "internal/trace", "internal/wait", "inventory"},
		why: "what people ask for, on the seams; it knows neither adapters nor what works by itself",
	},
	"seckill/backoffice": {
		may: []string{"seckill", "internal/wait", "internal/timing", "internal/trace", "inventory"},
		why: "what works by itself, on the seams; it knows neither adapters nor what people ask for",
	},
	"internal/kafka": {
		may: []string{"seckill", "inventory", "internal/list"},
		why: "it implements seckill.Queue, whose pages are of inventory's shards",
	},
	"internal/sqlite": {
		may: []string{"seckill", "internal/settings", "internal/wait", "inventory"},
		why: "it implements seckill.Store, whose methods speak of inventory's items, epochs and holds",
	},
	"internal/postgres": {
		may: []string{"seckill", "internal/settings", "internal/timing", "internal/wait", "inventory"},
		why: "it implements seckill.Store, whose methods speak of inventory's items, epochs and holds",
	},
	"gateway/problem": {
		may: []string{"seckill", "internal/field"},
		why: "the catalogue says what seckill's codes are in HTTP; as constants, the compiler checks their spelling",
	},
	"gateway": {
		may:   []string{"gateway/problem", "limiter", "degrade", "seckill", "internal/quietlog", "internal/timing", "internal/trace"},
		tests: []string{"inventory"}, // a stub of the sale makes items
		why:   "it asks in the order of the picture, and knows neither Redis nor Kafka nor SQL nor stock",
	},
	"gateway/admin/login":   {why: "people by OpenID Connect; others decide about their rights"},
	"docs":                  {why: "pages for people as files; it needs nothing of ours"},
	"gateway/admin/console": {why: "the pages as files; they ask the admin API like everybody, so the package needs nothing of ours"},
	"gateway/admin": {
		may: []string{
			"gateway/problem", "limiter", "degrade", "seckill", "seckill/desk", "internal/settings", "internal/vault", "internal/live",
			"gateway/admin/login", "gateway/admin/console", "internal/webhook", "internal/field", "internal/quietlog", "docs",
		},
		tests: []string{"inventory", "seckill/backoffice", "internal/sqlite"}, // a shop on a real store
		why:   "the other listener: other rights, other failure budget",
	},
	"internal/embedded": {
		may:   []string{"internal/kafka", "internal/atomicfile"},
		tests: []string{"seckill", "inventory"}, // what a durable promise costs
		why:   "it opens the parts that run in the process, and says in the adapters' own configuration how they are reached",
	},
	"internal/node": {
		may: []string{everything},
		why: "the only place where parts are joined; the simulator joins them by it, too",
	},
	"cmd/penstock": {
		may: []string{
			"internal/node", "internal/postgres", "loadtest", "seckill", "gateway/problem", "internal/live", "internal/wait",
			"internal/atomicfile",
		},
		tests: []string{"degrade"}, // the page of switches
		why:   "commands: flags, help, exit codes. It starts a node, migrates a database, loads a server, and has no policy",
	},

	"internal/proof/kafkatest": {
		may: []string{"seckill", "inventory", "internal/kafka"},
		why: "the suite of the queue, for kfake and for real brokers",
	},
	"internal/proof/protocol":  {why: "the design as a model; it imports nothing, so that it can't be made to agree with the code"},
	"internal/proof/tidy":      {why: "it reads the others as text"},
	"internal/proof/stocktest": {may: []string{"inventory"}, why: "the model and the suite of the stock"},
	"internal/proof/storetest": {may: []string{"seckill", "inventory", "internal/settings"}, why: "the suite of the stores"},
	"internal/proof/sim":       {may: []string{everything}, why: "the simulator drives the real code"},
	"internal/proof/e2e":       {may: []string{everything}, why: "it drives real processes"},
	"internal/proof/shop": {
		may: []string{"internal/proof/servers", "internal/proof/stocktest", "internal/wait"},
		why: "it measures processes from outside, beside their peers",
	},
	"internal/proof/faults": {
		may: []string{"internal/proof/servers", "internal/wait"},
		why: "it harms servers and processes, and judges by what can be seen from outside",
	},
	"internal/proof/raced":   {why: "whether a test runs under the race detector"},
	"internal/proof/servers": {why: "it starts the real servers for tests, and knows nothing of what is done with them"},
}

// everything means every package.
const everything = "*"

// testPackages are imported by test files and by one another only.
var testPackages = []string{
	"internal/proof/stocktest", "internal/proof/kafkatest", "internal/proof/storetest", "internal/proof/sim", "internal/proof/e2e",
	"internal/proof/protocol", "internal/proof/raced", "internal/proof/servers", "internal/proof/shop", "internal/proof/faults", "internal/proof/tidy",
}

// owner says who may import a package: owners in all files, tests in test files and test packages.
type owner struct {
	owners []string
	tests  []string
	why    string
}

// owners is every module that we import, by prefix of the import path; a longer prefix wins.
// docs/adr/0009 has the choices.
var owners = map[string]owner{
	"github.com/valyala/fasthttp": {
		owners: []string{"gateway", "loadtest"}, tests: []string{"internal/proof/shop"}, why: "HTTP at the sale edge",
	},
	"github.com/valyala/fastjson":         {owners: []string{"gateway"}, why: "decodes what buyers send"},
	"github.com/alicebob/miniredis/v2":    {owners: []string{"internal/embedded"}, tests: []string{everything}, why: "Redis in the process"},
	"github.com/twmb/franz-go/pkg/kfake":  {owners: []string{"internal/embedded"}, tests: []string{everything}, why: "Kafka in the process"},
	"github.com/jackc/pgx/v5":             {owners: []string{"internal/postgres"}, tests: []string{"internal/proof/servers", "internal/proof/faults"}, why: "PostgreSQL"},
	"modernc.org/sqlite":                  {owners: []string{"internal/sqlite"}, why: "SQLite, without cgo"},
	"github.com/pressly/goose/v3":         {owners: []string{"internal/sqlite", "internal/postgres"}, why: "migrations"},
	"github.com/sony/gobreaker/v2":        {owners: []string{"degrade"}, why: "breakers"},
	"golang.org/x/time":                   {owners: []string{"limiter"}, why: "token buckets"},
	"golang.org/x/sys":                    {owners: []string{"loadtest"}, why: "a sharp timer"},
	"charm.land/bubbletea/v2":             {owners: []string{"cmd/penstock"}, why: "penstock top: keys, sizes and the terminal's own screen"},
	"github.com/charmbracelet/x":          {owners: []string{"cmd/penstock"}, why: "bubbletea's: how wide a text is, and a terminal"},
	"github.com/spf13/cobra":              {owners: []string{"cmd/penstock"}, why: "commands and flags"},
	"github.com/spf13/pflag":              {owners: []string{"cmd/penstock"}, why: "cobra's flags"},
	"github.com/prometheus/client_golang": {owners: []string{"gateway/admin"}, tests: []string{"cmd/penstock"}, why: "writes /metrics, and lints them"},
	"github.com/coreos/go-oidc/v3":        {owners: []string{"gateway/admin/login"}, why: "OpenID Connect: discovery, keys, ID tokens"},
	"golang.org/x/oauth2":                 {owners: []string{"gateway/admin/login"}, why: "the authorization code flow with PKCE"},
	"go.opentelemetry.io": {
		owners: []string{"internal/trace"}, tests: []string{"internal/node", "internal/proof/e2e"}, why: "spans, and the way to a collector; a test is one",
	},
	"google.golang.org/protobuf":      {tests: []string{"internal/trace", "internal/node", "internal/proof/e2e"}, why: "reads what a collector gets"},
	"github.com/HdrHistogram":         {owners: []string{"loadtest"}, why: "latency percentiles"},
	"github.com/rogpeppe/go-internal": {tests: []string{everything}, why: "scripts of what a user types"},
	"pgregory.net/rapid":              {tests: []string{everything}, why: "random commands against models"},
	"go.uber.org/goleak":              {tests: []string{everything}, why: "no goroutine is left behind"},
	"github.com/redis/rueidis": {
		owners: []string{"inventory"}, tests: []string{everything}, why: "Redis",
	},
	"github.com/twmb/franz-go": {
		owners: []string{"internal/kafka", "internal/embedded"},
		tests:  []string{"internal/proof/kafkatest", "internal/proof/servers", "internal/proof/shop", "internal/proof/faults"}, why: "Kafka; kfake speaks its errors",
	},
	"go.yaml.in/yaml/v4": {
		owners: []string{"cmd/penstock"}, tests: []string{"gateway", "gateway/admin"}, why: "configuration files",
	},
	"github.com/chromedp":         {tests: []string{"internal/proof/e2e"}, why: "drives a browser through the console"},
	"github.com/pb33f/jsonschema": {tests: []string{"cmd/penstock"}, why: "holds the chart's values against their schema"},
	"github.com/pb33f/libopenapi": {
		tests: []string{"gateway", "gateway/admin"}, why: "checks openapi.yaml against answers",
	},
}

// standard says who may import some packages of the standard library in product files; without
// owners, nobody.
var standard = map[string]owner{
	"net/http": {
		owners: []string{"gateway/admin", "gateway/admin/login", "internal/webhook", "internal/probe", "cmd/penstock", "internal/proof/servers"},
		why:    "the sale edge is fasthttp; everything else speaks no HTTP",
	},
	"net/http/pprof": {owners: []string{"gateway/admin"}, why: "profiles are the admin listener's"},
	"database/sql":   {owners: []string{"internal/sqlite", "internal/postgres"}, why: "SQL is the stores'"},
	"os/signal":      {owners: []string{"cmd/penstock"}, why: "only the command decides when to stop"},
	"testing":        {owners: testPackages, why: "only suites of tests are handed a *testing.T"},
	"crypto/sha1":    {owners: []string{"inventory"}, why: "broken; but Redis names scripts by it"},
	"unsafe":         {owners: []string{"gateway"}, why: "only the edge may look at a request's bytes as strings without copying them"},
	"runtime/debug":  {owners: []string{"cmd/penstock", "gateway", "gateway/admin"}, why: "build information, the stack of a recovered panic"},

	"flag":           {why: "commands and flags are cobra's, in cmd/penstock; tests may have flags of their own"},
	"log":            {why: "logs are structured: log/slog, on a logger that was handed in"},
	"os/exec":        {owners: []string{"internal/proof/servers"}, why: "the product starts no processes"},
	"html/template":  {why: "it keeps the linker from dropping unused methods; pages are static and answers are JSON"},
	"text/template":  {why: "it keeps the linker from dropping unused methods"},
	"plugin":         {why: "one binary"},
	"encoding/gob":   {why: "what is stored has a documented, versioned form"},
	"expvar":         {why: "it registers itself in a package-level map"},
	"math/rand":      {why: "math/rand/v2 is better seeded and faster"},
	"container/list": {why: "it boxes its values; a slice or a typed list is clearer"},
	"io/ioutil":      {why: "deprecated"},
	"crypto/md5":     {why: "broken"},
}

// exempt is a name in a package that a rule would refuse. Its entry says why it is allowed.
type exempt struct{ dir, name string }

// stateExempt are package variables that are allowed, though the rule can't see that they never
// change.
var stateExempt = map[exempt]string{
	{"internal/proof/servers", "all"}: "the servers that all tests of a binary share: started once, ended by Main",

	{"cmd/penstock", "release"}: "set by the linker, which knows no constants; nothing else changes it",
	{"cmd/penstock", "commit"}:  "the same",

	{"internal/wait", "phase"}: "drawn once, so that two processes differ, and never changed",

	{"gateway/problem", "byCode"}: "an index of the catalogue, made of it once and never changed",
}

// clockExempt are scripts that may read the server's clock.
var clockExempt = map[string]string{
	"internal/leases/lua/lease.lua":  "no two nodes' clocks are compared, so tokens flow by the server's; replicas get what was written",
	"internal/leases/lua/report.lua": "reports are as old as the server says",
}

// backgroundExempt are functions outside cmd and tests that may use context.Background.
var backgroundExempt = map[exempt]string{
	{"internal/trace", "End"}:     "a span that has ended waits for nothing: the context has its ids alone",
	{"internal/trace", "Span"}:    "like End",
	{"internal/batch", "fly"}:     "a batch belongs to all of its items, so it can end with the context of none; its own timeout bounds it",
	{"internal/kafka", "send"}:    "a record outlives its request, and the client fails a whole partition with the first record's context",
	{"seckill/desk", "hold"}:      "a round belongs to all of its purchases, so it can end with the context of none; its own timeout bounds it",
	{"internal/kafka", "Level"}:   "the client's log has no context to hand on",
	{"internal/kafka", "Log"}:     "the client's log has no context to hand on",
	{"internal/embedded", "Logf"}: "the broker's log has no context to hand on",
}

// contextFieldExempt are types that may keep a context.
var contextFieldExempt = map[exempt]string{
	{"gateway", "requestContext"}: "it is a context itself, around one that is made only when somebody waits",
}

// banned is a call that is allowed in some packages only.
type banned struct {
	pkg   string
	names []string // nil means every name
	dirs  []string // product packages that may use it
	tests bool     // tests may
	why   string
}

var bannedCalls = []banned{
	{
		"os", []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, []string{"cmd/penstock"}, true,
		"only cmd reads the environment; tests may be told by it where real servers are",
	},
	{
		"os", []string{"Setenv", "Unsetenv"}, nil, false,
		"the environment belongs to the whole process; tests use t.Setenv",
	},
	{
		"os", []string{"Exit"}, []string{"cmd/penstock"}, true,
		"only cmd ends the process",
	},
	{
		"context", []string{"Background"}, []string{"cmd/penstock"}, true,
		"a context comes from the caller, or the work can't be stopped",
	},
	{
		"context", []string{"TODO"}, nil, false,
		"a context comes from the caller, or the work can't be stopped",
	},
	{
		"fmt", []string{"Print", "Printf", "Println"}, []string{"cmd/penstock"}, true,
		"cmd prints, to the writer it was given; the others log or return",
	},
	{
		"time", []string{"Sleep", "Tick"}, nil, false,
		"a sleep can't be cancelled, and in a test it is too short or too long: wait on a signal, or use testing/synctest",
	},
	{
		"net/http", []string{"Handle", "HandleFunc", "ListenAndServe", "DefaultServeMux", "Get", "Post", "DefaultClient"}, nil, true,
		"net/http's package-level mux and client belong to everybody and have no limits",
	},
	{
		"github.com/prometheus/client_golang/prometheus",
		[]string{"MustRegister", "Register", "DefaultRegisterer", "DefaultGatherer"}, nil, false,
		"a global registry can't hold two Processes",
	},
	{
		"github.com/prometheus/client_golang/prometheus/promauto", nil, nil, false,
		"a global registry can't hold two Processes",
	},
	{
		"log/slog", []string{
			"Debug", "Info", "Warn", "Error", "Log", "LogAttrs", "DebugContext", "InfoContext", "WarnContext", "ErrorContext",
			"Default", "SetDefault",
		}, nil, false,
		"a logger is handed in, so that a test can read it and two Processes can differ",
	},
	{
		"runtime", []string{"GC", "Gosched"}, nil, true,
		"the runtime knows better",
	},
}

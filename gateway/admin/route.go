package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// route is one method of one path.
type route struct {
	method  string
	pattern string       // as in openapi.yaml; a wildcard ends with a slash
	role    seckill.Role // the needed role, or one that includes it; roleNone needs no token
	handle  func(*call) error
}

const (
	roleNone    seckill.Role = 0
	noRoute                  = "none"
	metricsPath              = "/metrics"
	logoutPath               = "/logout"
)

// routes lists all paths of the listener, with the role that each needs.
func routes() []route {
	const (
		merchant = "/admin/v1/merchants/{merchant}"
		activity = "/admin/v1/activities/{activity}"
		switches = "/admin/v1/switches"
		limits   = "/admin/v1/limits"
		tokens   = "/admin/v1/tokens"
		nodes    = "/admin/v1/nodes"

		get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
		viewer, admin       = seckill.RoleViewer, seckill.RoleAdmin
		operator            = seckill.RoleOperator
	)
	return append(slices.Concat(processRoutes(), peopleRoutes(), orderRoutes(), recordRoutes()), []route{
		{get, "/admin/v1/merchants", viewer, (*call).listMerchants},
		{get, merchant, viewer, (*call).getMerchant},
		{put, merchant, admin, (*call).putMerchant},
		{get, merchant + "/callers", viewer, (*call).listCallers},
		{post, merchant + "/callers", admin, (*call).addCaller},
		{get, merchant + "/callers/{caller}", viewer, (*call).getCaller},
		{del, merchant + "/callers/{caller}", operator, (*call).revokeCaller},
		{get, merchant + "/callers/{caller}/keys", viewer, (*call).listKeys},
		{post, merchant + "/callers/{caller}/keys", admin, (*call).addKey},
		{del, merchant + "/callers/{caller}/keys/{key_id}", operator, (*call).revokeKey},
		{get, "/admin/v1/keys", viewer, (*call).findKey},
		{post, "/admin/v1/keys", viewer, (*call).findKey},

		{get, "/admin/v1/secrets", admin, (*call).getSecrets},
		{post, "/admin/v1/secrets/rewrap", admin, (*call).rewrapSecrets},

		{get, "/admin/v1/activities", viewer, (*call).listActivities},
		{get, activity, viewer, (*call).getActivity},
		{put, activity, admin, (*call).putActivity},
		{del, activity, admin, (*call).deleteActivity},
		{post, activity + "/items/{sku}", admin, (*call).editItem},
		{post, activity + "/publish", admin, (*call).publish},
		{post, activity + "/pause", operator, (*call).pause},
		{post, activity + "/resume", operator, (*call).resume},
		{post, activity + "/end", admin, (*call).end},
		{post, activity + "/archive", admin, (*call).archive},
		{post, activity + "/items/{sku}/restock", operator, (*call).restock},
		{get, activity + "/audit", viewer, (*call).audit},
		{get, activity + "/preflight", viewer, (*call).getPreflight},

		{get, switches, viewer, (*call).listSwitches},
		{put, switches + "/{name}", operator, (*call).putSwitch},
		{get, limits, viewer, (*call).getLimits},
		{put, limits, operator, (*call).putLimits},
		{get, limits + "/usage", viewer, (*call).limitUsage},
		{post, limits + "/preview", viewer, (*call).previewLimits},
		{put, limits + "/staged", operator, (*call).stageLimits},
		{post, limits + "/staged/complete", operator, (*call).completeLimits},
		{del, limits + "/staged", operator, (*call).takeBackLimits},
		{get, "/admin/v1/settings", viewer, (*call).getSettings},
		{get, "/admin/v1/levels", viewer, (*call).getLevels},
		{get, nodes, viewer, (*call).listNodes},
		{del, nodes + "/{node}", operator, (*call).removeNode},
		{post, nodes + "/{node}/drain", operator, (*call).drainNode},
		{post, nodes + "/{node}/undrain", operator, (*call).undrainNode},

		{get, tokens, admin, (*call).listTokens},
		{post, tokens, admin, (*call).addToken},
		{del, tokens + "/{token}", admin, (*call).dropToken},
	}...)
}

// recordRoutes are the routes of dead letters and changes.
func recordRoutes() []route {
	const (
		letters = "/admin/v1/dead-letters"
		changes = "/admin/v1/changes"

		get, post               = http.MethodGet, http.MethodPost
		viewer, operator, admin = seckill.RoleViewer, seckill.RoleOperator, seckill.RoleAdmin
	)
	return []route{
		{get, letters, viewer, (*call).listDeadLetters},
		{post, letters + "/replay", admin, (*call).replayMany},
		{post, letters + "/discard", admin, (*call).discardMany},
		{post, letters + "/{id}/replay", admin, (*call).replayOne},
		{post, letters + "/{id}/discard", admin, (*call).discardOne},

		{get, changes, viewer, (*call).listChanges},
		{get, changes + "/{n}", viewer, (*call).getChange},
		{post, changes + "/{n}/revert", operator, (*call).revertChange},
	}
}

// orderRoutes returns the routes of orders and of money.
func orderRoutes() []route {
	const (
		orders  = "/admin/v1/orders"
		refunds = "/admin/v1/refunds"

		get, post = http.MethodGet, http.MethodPost
	)
	return []route{
		{get, orders, seckill.RoleSupport, (*call).searchOrders},
		{get, orders + "/export", seckill.RoleSupport, (*call).exportOrders},
		{get, orders + "/{order}", seckill.RoleSupport, (*call).getOrder},
		{post, orders + "/{order}/cancel", seckill.RoleSupport, (*call).cancelOrder},
		{get, refunds, seckill.RoleViewer, (*call).listRefunds},
		{post, refunds + "/{payment}/done", seckill.RoleFinance, (*call).settleRefund},
		{get, "/admin/v1/merchants/{merchant}/statement", seckill.RoleFinance, (*call).statement},
		{post, "/admin/v1/activities/{activity}/extend", seckill.RoleOperator, (*call).extend},
	}
}

// processRoutes are the routes of this process, its servers, and webhooks.
func processRoutes() []route {
	const (
		webhooks = "/admin/v1/webhooks"

		get, post     = http.MethodGet, http.MethodPost
		viewer, admin = seckill.RoleViewer, seckill.RoleAdmin
	)
	return []route{
		{get, "/", roleNone, (*call).index},
		{get, "/console/{version}/{file}", roleNone, (*call).asset},
		{get, "/livez", roleNone, (*call).live},
		{get, "/readyz", roleNone, (*call).ready},
		{get, "/openapi.yaml", roleNone, (*call).openAPI},
		{get, "/runbook", roleNone, (*call).runbook},
		{get, "/problems", roleNone, (*call).problemPage},
		{get, "/problems/{code}", roleNone, (*call).problemPage},
		{get, metricsPath, viewer, (*call).scrape},
		{get, "/debug/pprof/", admin, (*call).profile},

		{get, "/admin/v1/shards/{shard}/audit", viewer, (*call).auditShard},
		{post, "/admin/v1/shards/{shard}/mend", admin, (*call).mendShard},
		{get, "/admin/v1/queue", viewer, (*call).getQueue},
		{post, "/admin/v1/replay", admin, (*call).replayLog},
		{get, "/admin/v1/live", viewer, (*call).getLive},
		{get, "/admin/v1/events", viewer, (*call).events},

		{get, webhooks, admin, (*call).listWebhooks},
		{http.MethodPut, webhooks + "/{name}", admin, (*call).putWebhook},
		{http.MethodDelete, webhooks + "/{name}", admin, (*call).deleteWebhook},
	}
}

// peopleRoutes are the routes of logins.
func peopleRoutes() []route {
	return []route{
		{http.MethodGet, "/login", roleNone, (*call).beginLogin},
		{http.MethodGet, "/login/callback", roleNone, (*call).endLogin},
		{http.MethodPost, "/login", roleNone, (*call).logIn},
		{http.MethodPost, logoutPath, seckill.RoleViewer, (*call).logout},
		{http.MethodGet, "/admin/v1/me", seckill.RoleViewer, (*call).getHolder},
	}
}

// resource is everything that one path takes, by method.
type resource struct {
	server  *Server
	methods map[string]*route
	allow   string
}

// newMux makes a mux of paths: methods are matched here, so that a wrong one is answered with a
// problem document.
func newMux(s *Server, all []route) *http.ServeMux {
	resources := make(map[string]*resource)
	for i := range all {
		r := &all[i]
		res := resources[r.pattern]
		if res == nil {
			res = &resource{server: s, methods: make(map[string]*route)}
			resources[r.pattern] = res
		}
		res.methods[r.method] = r
		if r.method == http.MethodGet {
			res.methods[http.MethodHead] = r
		}
	}
	mux := http.NewServeMux()
	for pattern, res := range resources {
		var names []string
		for name := range res.methods {
			names = append(names, name)
		}
		slices.Sort(names)
		res.allow = strings.Join(names, ", ")
		if pattern == "/" {
			pattern = "/{$}"
		}
		mux.Handle(strings.Replace(pattern, "{file}", "{file...}", 1), res) // files have folders
	}
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		if c := callOf(r.Context()); c != nil {
			c.nothing()
		}
	})
	return mux
}

// ServeHTTP implements http.Handler.
func (res *resource) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	if c == nil {
		return
	}
	route, ok := res.methods[r.Method]
	if !ok {
		c.w.Header().Set("Allow", res.allow)
		c.problem(&problem.Problem{Code: problem.MethodNotAllowed})
		return
	}
	c.route = route
	res.server.serve(c, r)
}

// callKey is the context key of the call, for the mux's handlers.
type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/internal/webhook"
	"github.com/penstock/penstock/seckill"
)

// Webhooks are the methods of *webhook.Sender that the listener uses.
type Webhooks interface {
	// CheckURL returns what is wrong with the URL of a receiver, or "".
	CheckURL(text string) string
	// States returns the states of the deliveries, by node and hook. With an error it has at least
	// those of this node.
	States(ctx context.Context) (map[string]map[string]webhook.State, error)
}

// webhookDoc is a receiver, and the state of its deliveries.
type webhookDoc struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events"`
	Secret string   `json:"secret,omitempty"` // shown once, when it was made
	webhook.State
	LastOK    *stamp      `json:"last_ok"` // the state's, as the listener writes times
	LastError *attemptDoc `json:"last_error"`
}

type attemptDoc struct {
	At    stamp  `json:"at"`
	Event string `json:"event"`
	Error string `json:"error"`
}

// newWebhookDoc makes the document of a receiver. secret is "" but where it was just made.
func newWebhookDoc(name, url string, events []string, secret string, state webhook.State) webhookDoc {
	doc := webhookDoc{Name: name, URL: url, Events: events, Secret: secret, State: state}
	if state.LastOK != nil {
		doc.LastOK = stampOf(*state.LastOK)
	}
	if e := state.LastError; e != nil {
		doc.LastError = &attemptDoc{stamp(e.At), e.Event, e.Error}
	}
	return doc
}

type webhooksDoc struct {
	Version  int64        `json:"version"`
	Missing  string       `json:"missing"` // which states aren't known; "" if all are
	Webhooks []webhookDoc `json:"webhooks"`
}

// currentWebhooks reads the hooks.
func (c *call) currentWebhooks(ctx context.Context) (settings.Document, webhook.Document, error) {
	stored, _, err := c.document(ctx, settings.Webhooks)
	if err != nil {
		return stored, webhook.Document{}, err
	}
	document, err := webhook.ParseDocument(stored.Body)
	if err != nil {
		return stored, document, fmt.Errorf("read version %d of the webhooks: %w", stored.Version, err)
	}
	return stored, document, nil
}

// deliveries returns the state of the deliveries to each hook, over all nodes.
func (c *call) deliveries() (states map[string]webhook.State, missing string) {
	nodes, err := c.server.deps.Webhooks.States(c.context())
	if err != nil {
		missing = "Redis can't be reached: the deliveries of other gateways are unknown."
	}
	states = make(map[string]webhook.State)
	for _, hooks := range nodes {
		for name, state := range hooks {
			states[name] = webhook.Merge(states[name], state)
		}
	}
	return states, missing
}

// listWebhooks answers GET /admin/v1/webhooks.
func (c *call) listWebhooks() error {
	stored, document, err := c.currentWebhooks(c.context())
	if err != nil {
		return err
	}
	doc := webhooksDoc{Version: stored.Version, Webhooks: []webhookDoc{}}
	var states map[string]webhook.State
	states, doc.Missing = c.deliveries()
	for i := range document.Webhooks {
		h := &document.Webhooks[i]
		doc.Webhooks = append(doc.Webhooks, newWebhookDoc(h.Name, h.URL, h.Events, "", states[h.Name]))
	}
	return c.json(http.StatusOK, doc)
}

// putWebhook answers PUT /admin/v1/webhooks/{name}. A hook that has no secret yet gets one.
func (c *call) putWebhook() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	name := c.r.PathValue("name")
	wish := webhook.Hook{Name: name, URL: o.checked("url", c.server.deps.Webhooks.CheckURL), Events: o.takeKinds("events")}
	secret, given := o.optionalText("secret")
	reason := c.reason(o, m, false)
	o.end()
	m.add("name", seckill.CheckName(name))
	if given {
		m.add("secret", checkSecret(secret, "a webhook"))
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	made := ""
	_, err = c.changeWebhooks(ctx, c.author(reason), func(d *webhook.Document) error {
		made = ""
		old := d.Find(name)
		switch {
		case given:
			wish.Secret = c.server.deps.Secrets.Seal(secret, webhook.Owner(name))
			if old != nil && c.sameSecret(old, &wish) {
				wish.Secret = old.Secret // so that the record says that it is the same
			}
		case old != nil:
			wish.Secret = old.Secret
		default:
			made = newPaymentSecret()
			wish.Secret = c.server.deps.Secrets.Seal(made, webhook.Owner(name))
		}
		if c.sameHook(old, &wish) {
			return errSame
		}
		if old == nil && len(d.Webhooks) >= webhook.MaxHooks {
			return refuse(problem.NotEditable, fmt.Sprintf("There are %d webhooks already, the maximum: delete one first.", webhook.MaxHooks))
		}
		d.Put(wish)
		return nil
	})
	if err != nil {
		return err
	}
	states, _ := c.deliveries()
	return c.json(http.StatusOK, newWebhookDoc(name, wish.URL, wish.Events, made, states[name]))
}

// takeKinds takes the kinds of events.
func (o *object) takeKinds(name string) []string {
	raw := o.raw[name]
	kinds, seen := o.texts(name), make(map[string]bool)
	for i, kind := range kinds {
		switch at := fmt.Sprintf("%s%s[%d]", o.at, name, i); {
		case !slices.Contains(webhook.Kinds(), kind):
			o.add(at, "must be one of "+strings.Join(webhook.Kinds(), ", "))
		case seen[kind]:
			o.add(at, "is listed twice")
		}
		seen[kind] = true
	}
	if string(raw) == "[]" {
		o.add(o.at+name, "must have at least one event")
	}
	slices.Sort(kinds)
	return kinds
}

// deleteWebhook answers DELETE /admin/v1/webhooks/{name}. Its waiting deliveries are dropped.
func (c *call) deleteWebhook() error {
	by, err := c.bodilessAuthor()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	_, err = c.changeWebhooks(ctx, by, func(d *webhook.Document) error {
		if !d.Remove(c.r.PathValue("name")) {
			return refuse(problem.UnknownWebhook, "")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.none()
}

// changeWebhooks changes the hooks, on top of whatever others change at the same time. changed is
// false if change returns errSame.
func (c *call) changeWebhooks(ctx context.Context, by seckill.Author, change func(d *webhook.Document) error) (changed bool, err error) {
	for range maxTries {
		stored, document, err := c.currentWebhooks(ctx)
		if err != nil {
			return false, err
		}
		if err := change(&document); errors.Is(err, errSame) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		body, err := json.Marshal(document)
		if err != nil {
			return false, fmt.Errorf("encode the webhooks: %w", err)
		}
		_, err = c.server.deps.Settings.Publish(ctx, settings.Webhooks, stored.Version, body, settings.Author(by))
		switch {
		case errors.Is(err, settings.ErrConflict):
			continue
		case err != nil:
			return false, failed("write the webhooks", err)
		}
		return true, nil
	}
	return false, refuseOverloaded()
}

// sameHook reports whether two hooks are equal, even if different keys encrypt their secrets. nil
// is none.
func (c *call) sameHook(a, b *webhook.Hook) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.URL == b.URL && slices.Equal(a.Events, b.Events) && c.sameSecret(a, b)
}

func (c *call) sameSecret(a, b *webhook.Hook) bool {
	if a.Secret == b.Secret {
		return true
	}
	one, err := c.server.deps.Secrets.Open(a.Secret, webhook.Owner(a.Name))
	two, err2 := c.server.deps.Secrets.Open(b.Secret, webhook.Owner(b.Name))
	return err == nil && err2 == nil && one == two
}

// sameShown reports whether two hooks are equal except for their secrets. nil is none.
func sameShown(a, b *webhook.Hook) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.URL == b.URL && slices.Equal(a.Events, b.Events)
}

// planWebhooks reverts a change for the hooks that it changed. Later changes of other hooks stay.
// Secrets are not recorded, so a hook keeps its present secret. A changed secret, or a deleted
// hook, can't be reverted.
func planWebhooks(ch *seckill.Change) (undo, error) {
	before, after, _, err := sides[webhook.Document](ch)
	if err != nil {
		return nil, err
	}
	names := hookNames(&before, &after)
	for _, name := range names {
		was, made := before.Find(name), after.Find(name)
		switch {
		case was != nil && made == nil:
			return nil, notRevertible(fmt.Sprintf("The webhook %s was deleted with its secret, which is not recorded: put it again.", name))
		case was != nil && was.Secret != made.Secret:
			return nil, notRevertible(fmt.Sprintf("The secret of the webhook %s was changed, and the one before is not recorded: put one.", name))
		}
	}
	return func(ctx context.Context, c *call, by seckill.Author) (bool, error) {
		return c.changeWebhooks(ctx, by, func(d *webhook.Document) error {
			same := true
			for _, name := range names {
				is, was, made := d.Find(name), before.Find(name), after.Find(name)
				switch {
				case sameShown(was, made) || sameShown(is, was):
					continue
				case !sameShown(is, made):
					return overtaken()
				}
				same = false
				if was == nil {
					d.Remove(name)
					continue
				}
				restored := *was
				restored.Secret = is.Secret
				d.Put(restored)
			}
			if same {
				return errSame
			}
			return nil
		})
	}, nil
}

// hookNames returns the names of all hooks of some documents.
func hookNames(documents ...*webhook.Document) (names []string) {
	for _, d := range documents {
		for i := range d.Webhooks {
			if !slices.Contains(names, d.Webhooks[i].Name) {
				names = append(names, d.Webhooks[i].Name)
			}
		}
	}
	return names
}

// hookChangeDoc is a hook in a change.
type hookChangeDoc struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events"`
}

// newHookChangeDocs shows hooks without secrets. The path of a URL may be secret, so only admins
// see it.
func newHookChangeDocs(d *webhook.Document, who *identity) []hookChangeDoc {
	docs := make([]hookChangeDoc, len(d.Webhooks))
	for i := range d.Webhooks {
		h := &d.Webhooks[i]
		docs[i] = hookChangeDoc{h.Name, h.URL, h.Events}
		if !who.role.Includes(seckill.RoleAdmin) {
			docs[i].URL = ""
			if u, err := url.Parse(h.URL); err == nil {
				docs[i].URL = u.Scheme + "://" + u.Host + "/…"
			}
		}
	}
	return docs
}

// rewrapWebhooks encrypts the secrets of all hooks with the first key, and returns how many it
// changed.
func (c *call) rewrapWebhooks(ctx context.Context, by seckill.Author) (rewrapped int, err error) {
	_, err = c.changeWebhooks(ctx, by, func(d *webhook.Document) error {
		rewrapped = 0
		for i := range d.Webhooks {
			h := &d.Webhooks[i]
			sealed, err := c.server.deps.Secrets.Rewrap(h.Secret, webhook.Owner(h.Name))
			if err != nil {
				return refuse(problem.NotEditable, "The secret of the webhook "+h.Name+" can't be read: "+err.Error()+".")
			}
			if sealed != h.Secret {
				h.Secret = sealed
				rewrapped++
			}
		}
		if rewrapped == 0 {
			return errSame
		}
		return nil
	})
	return rewrapped, err
}

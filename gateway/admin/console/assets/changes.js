// Changes: the recorded changes as sentences, with alarms and other events on one time line. Each
// change has the values before and after, and a button to revert it.
import { html, useState } from './lib.js';
import { get, post, segments } from './api.js';
import { live, useLive } from './live.js';
import { Loaded, Section, Tag, useBound, useGet } from './ui.js';
import { Action, reason } from './action.js';
import { flag, plural, policyWords, time } from './text.js';

const revert = (c, again) => ({
  title: `Take change ${c.number} back`,
  verb: 'Take back',
  role: 'operator',
  effect: () => `A new change restores the values from before this one: ${sentence(c)}.`,
  fields: [reason],
  ctl: (v) => ['changes', 'revert', c.number, flag('reason', v.reason)],
  send: (v) => post(segments('changes', String(c.number), 'revert'), { reason: v.reason }),
  done: (a) =>
    a.changed
      ? `Change ${a.reverted} is taken back.`
      : `Change ${a.reverted} was already taken back: nothing was changed.`,
  after: again,
});

const list = (doc, ...keys) => (Array.isArray(doc) ? doc : (keys.map((k) => doc?.[k]).find(Array.isArray) ?? []));

// switched describes a change of switches. It compares the two lists, and describes the entries
// that only one of them has.
function switched(c) {
  const id = (w) => `${w.name} ${w.value} ${JSON.stringify(w.scope ?? {})} ${w.since}`;
  const before = list(c.before, 'switches', 'items'),
    after = list(c.after, 'switches', 'items');
  const scope = (w) =>
    Object.entries(w.scope ?? {})
      .map(([k, v]) => ` for ${k} ${v}`)
      .join('') || ' for everybody';
  const set = after.filter((w) => !before.some((b) => id(b) === id(w)));
  const place = (w) => w.name + scope(w);
  const out = before.filter((w) => !after.some((a) => id(a) === id(w)) && !set.some((s) => place(s) === place(w)));
  const parts = [
    ...set.map((w) => `set ${w.name} to ${w.value}${scope(w)}`),
    ...out.map((w) => `took ${w.name} ${w.value}${scope(w)} out`),
  ];
  return parts.join(', ') || 'changed the switches';
}

// bounds are the bounds of a limit, its mode if that isn't enforce, and its temporary values.
const bounds = (p) =>
  policyWords(p).join(', ') +
  (p.mode && p.mode !== 'enforce' ? `, ${p.mode}` : '') +
  (p.temporary ? ` (for now ${bounds(p.temporary) || p.temporary.mode})` : '');

// limited describes a change of limits.
function limited(c) {
  const id = (p) => `${p.name} ${p.key} ${p.match ?? ''}`;
  const before = list(c.before, 'policies'),
    after = list(c.after, 'policies');
  const parts = [];
  for (const p of after) {
    const old = before.find((b) => id(b) === id(p));
    if (!old) parts.push(`added the limit ${p.name}: ${bounds(p)}`);
    else if (JSON.stringify(old) !== JSON.stringify(p))
      parts.push(
        `changed the limit ${p.name}: ${bounds(old)} → ${bounds(p)}`,
      );
  }
  for (const p of before) if (!after.some((a) => id(a) === id(p))) parts.push(`removed the limit ${p.name}`);
  return parts.join(', ') || 'changed the limits';
}

// sentence describes a change.
export function sentence(c) {
  const { before: b, after: a, key } = c;
  switch (c.kind) {
    case 'switches':
      return switched(c);
    case 'limits':
      return limited(c);
    case 'stock':
      return `${a?.delta < 0 ? 'took' : 'added'} ${plural(Math.abs(a?.delta ?? 0), 'unit')} ${a?.delta < 0 ? 'off' : 'to'} ${key}: ${a?.total ?? '?'} in total`;
    case 'activity':
      return !b
        ? `made the activity ${key}`
        : !a
          ? `deleted the activity ${key}`
          : b.state !== a.state
            ? `moved ${key} from ${b.state} to ${a.state}`
            : `changed the activity ${key}`;
    case 'token':
      return !b
        ? `${a?.session ? 'logged in as' : 'made the token'} ${a?.name ?? key}`
        : !a
          ? `${b.session ? 'ended the session of' : 'deleted the token'} ${b.name ?? key}`
          : `changed the token ${key}`;
    case 'merchant':
      return b ? `changed the merchant ${key}` : `added the merchant ${key}`;
    case 'caller':
      return !b ? `let ${key} in` : !b.revoked && a?.revoked ? `revoked ${key}` : `changed the caller ${key}`;
    case 'refund':
      return `recorded that payment ${key} went back`;
    case 'extension':
      return `gave the open orders of ${key} more time`;
    case 'order':
      return `changed the order ${key}`;
    case 'dead-letters':
      return a ? 'replayed dead letters' : 'discarded dead letters';
    case 'node':
      return a?.drain === undefined
        ? `forgot the node ${key}`
        : `asked ${key} to take ${a.drain ? 'no new buyers' : 'buyers again'}`;
    default:
      return `changed ${c.kind} ${key}`;
  }
}

// differences are the members whose values before and after differ.
function differences(before, after) {
  if (Array.isArray(before) || Array.isArray(after)) return [['all', before, after]];
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  return names.map((n) => [n, before?.[n], after?.[n]]).filter(([, x, y]) => JSON.stringify(x) !== JSON.stringify(y));
}

const shown = (v) =>
  v === undefined || v === null ? '–' : typeof v === 'object' ? JSON.stringify(v, null, 1) : String(v);

const Diff = ({ of: c }) =>
  html`<dl class="facts">${differences(c.before, c.after).map(([name, x, y]) => html`<div><dt>${name}</dt><dd><del>${shown(x)}</del> → <ins>${shown(y)}</ins></dd></div>`)}</dl>`;

function Change({ of: c, again, open }) {
  return html`<article id=${`change-${c.number}`}><p><time datetime=${c.at}>${time(c.at)}</time> <b>${c.actor}</b> ${sentence(c)}${c.reason && html` <span class="why">“${c.reason}”</span>`}</p>
    <details open=${open}><summary>Change ${c.number}</summary><p class="note">${c.kind} ${c.key}${c.address && `, from ${c.address}`}${c.token_id && `, by ${c.token_id}`}</p><${Diff} of=${c} /></details>
    ${c.revertible ? html`<${Action} role="operator" kind="small" action=${revert(c, again)} />` : ''}</article>`;
}

// said makes a sentence from an event of the stream.
const said = ({ data }) =>
  data.finding ? `${data.state === 'cleared' ? 'over: ' : ''}${data.finding.text}` : data.text;

// kindOf is the style of an event. An alarm that has ended gets the style of good news.
const kindOf = ({ kind, data }) =>
  data.state === 'cleared' ? 'good' : (eventKinds[data.finding?.severity] ?? eventKinds[kind] ?? 'plain');

const eventKinds = { critical: 'critical', warning: 'warning', info: 'plain', breaker: 'warning', level: 'warning', rebuild: 'warning' };

export function Changes({ rest }) {
  useLive();
  const bound = useBound();
  const [limit, setLimit] = useState(50);
  const of = useGet((signal) => get(`${segments('changes')}?limit=${limit}`, { signal }), 5, `changes ${limit}`);
  const chosen = Number(rest[0]);
  const one = useGet(chosen ? segments('changes', String(chosen)) : '');
  return html`${chosen > 0 && html`<${Section} title=${`Change ${chosen}`}><${Loaded} of=${one}>${(c) => html`<${Change} of=${c} open=${true} again=${one.again} />`}<//><//>`}
    <${Section} title="What happened" note=${bound ? '' : 'Changes by people, and recent events of the machines, newest first.'}><${Loaded} of=${of}>${(
      doc,
    ) => {
      const events = live.log.filter((e) => e.kind !== 'change').map((e) => ({ at: e.at, event: e }));
      const oldest = doc.items.length ? Date.parse(doc.items.at(-1).at) : 0;
      const rows = [
        ...doc.items.map((c) => ({ at: c.at, change: c })),
        ...events.filter((e) => !doc.next || Date.parse(e.at) >= oldest),
      ].sort((x, y) => Date.parse(y.at) - Date.parse(x.at));
      return html`<ol class="timeline">${rows.map(
        (r) =>
          html`<li key=${r.change ? `c${r.change.number}` : `e${r.event.kind}${r.event.id}`}>${
            r.change
              ? html`<${Change} of=${r.change} again=${of.again} />`
              : html`<p><time datetime=${r.at}>${time(r.at)}</time> <${Tag} kind=${kindOf(r.event)}>${r.event.kind}<//> ${said(r.event)}</p>`
          }</li>`,
      )}</ol>
      ${rows.length === 0 && html`<p class="note">Nothing yet.</p>`}
      ${doc.next && limit < 200 && html`<button type="button" onClick=${() => setLimit(200)}>Show more</button>`}`;
    }}<//><//>`;
}

// Switches: their values, scopes, ends and reasons.
import { html, useState } from './lib.js';
import { get, put, segments } from './api.js';
import { live, useLive } from './live.js';
import { Left, Loaded, Section, Table, Tag, useBound, useGet } from './ui.js';
import { Action, published, reason, until } from './action.js';
import { flag, time } from './text.js';

// scopeText is a scope in the form of `penstock ctl`; "" means everybody.
export const scopeText = (scope) => Object.entries(scope ?? {}).map(([kind, name]) => `${kind}=${name}`)[0] ?? '';

// scopeOf turns such a text into the form of the API.
const scopeOf = (text) => {
  const at = text.indexOf('=');
  return at < 0 ? undefined : { [text.slice(0, at)]: text.slice(at + 1) };
};

// names returns the known names, by kind, from the live view.
function names(s) {
  const all = { activity: [], merchant: [], caller: [], sku: [] };
  for (const a of s?.activities ?? []) {
    all.activity.push(a.activity);
    if (!all.merchant.includes(a.merchant)) all.merchant.push(a.merchant);
    for (const i of a.items) all.sku.push(`${a.activity}/${i.sku}`);
  }
  all.caller = (s?.callers ?? []).map((c) => c.caller);
  return all;
}

// scopeFields are the fields for a scope: a kind, and a name with the known ones.
export function scopeFields(s, bound, kinds = ['activity', 'merchant', 'caller', 'sku']) {
  const known = names(s);
  const labels = {
    activity: 'One activity',
    merchant: 'One merchant',
    caller: 'One caller',
    sku: 'One SKU of an activity',
  };
  const forms = {
    activity: 'like 618-phones',
    merchant: 'like acme',
    caller: 'like acme/web',
    sku: 'like 618-phones/phone-x',
  };
  const options = [...(bound ? [] : [['', 'Everybody']]), ...kinds.map((k) => [k, labels[k]])];
  return [
    {
      name: 'kind',
      label: 'For',
      type: 'select',
      required: true,
      value: bound ? 'merchant' : '',
      options,
      sets: (kind) => ({
        scope: known[kind]?.length === 1 ? known[kind][0] : kind === 'merchant' ? bound : '',
      }),
    },
    ...kinds.map((k) => ({
      name: 'scope',
      label: labels[k].replace('One', 'Which'),
      required: true,
      options: known[k],
      when: (v) => v.kind === k,
      help: forms[k],
      value: bound,
    })),
  ];
}

const picked = (v) => (v.kind ? `${v.kind}=${v.scope}` : '');

// setSwitch sets the value of a switch; null removes it.
const setSwitch = (name, value, v, scope) =>
  put(segments('switches', name), {
    value,
    reason: v.reason,
    ...(scope && { scope: scopeOf(scope) }),
    ...(v.expires && { expires_in: v.expires }),
    ...(v.starts && { starts_at: v.starts }),
  });

const ctlSet = (name, value, v, scope) => [
  'switches',
  'set',
  name,
  value ?? '-',
  flag('scope', scope),
  flag('starts-at', v.starts),
  flag('expires-in', v.expires),
  flag('reason', v.reason || 'WHY'),
];

// stopOrders is the red button.
export const stopOrders = (s, bound, scope) => ({
  title: 'Stop orders',
  verb: 'Stop orders',
  role: 'operator',
  danger: true,
  effect: (v) =>
    `New orders ${v.kind ? `of ${v.kind} ${v.scope || '…'}` : 'of everybody'} get 503 degraded, on every node within a second. ` +
    'Existing orders go on: status, payment and cancellation work.',
  fields: [
    ...scopeFields(s, bound).map((f) =>
      scope && f.name === 'scope'
        ? { ...f, value: scope.name }
        : scope && f.name === 'kind'
          ? { ...f, value: scope.kind }
          : f,
    ),
    until(),
    reason,
  ],
  ctl: (v) => ctlSet('orders', 'off', v, picked(v)),
  send: (v) => setSwitch('orders', 'off', v, picked(v)),
  done: published,
});

// letIn ends a stop of orders.
export const letIn = (scope) => ({
  title: 'Let orders in again',
  verb: 'Let orders in',
  role: 'operator',
  effect: () => `New orders ${scope ? `of ${scope}` : 'of everybody'} are accepted again.`,
  fields: [reason],
  ctl: (v) => ctlSet('orders', null, v, scope),
  send: (v) => setSwitch('orders', null, v, scope),
  done: published,
});

// choices are the values of a switch with words; null for a switch with numbers.
const choices = (sw) => (typeof sw.default === 'number' ? null : sw.values.split(', '));

// change sets one switch.
export function change(sw, s, bound, again) {
  const values = choices(sw);
  const kinds =
    sw.name.endsWith('-breaker') || sw.name === 'automatic'
      ? []
      : sw.name === 'level'
        ? ['activity']
        : sw.name === 'timeouts'
          ? ['activity', 'merchant']
          : undefined;
  const value = (v) => (typeof sw.default === 'number' ? Number(v.value) : v.value);
  return {
    title: `Set ${sw.name}`,
    verb: 'Set',
    role: 'operator',
    danger: sw.name === 'orders',
    effect: () => `${sw.effect} It is ${sw.value} for everybody now; the default is ${sw.default}.`,
    fields: [
      values
        ? {
            name: 'value',
            label: 'Value',
            type: 'select',
            required: true,
            value: values.find((x) => x !== sw.value) ?? values[0],
            options: values.map((x) => [x, x]),
          }
        : { name: 'value', label: 'Value', type: 'number', required: true, value: String(sw.value), help: sw.values },
      ...(kinds?.length === 0 ? [] : scopeFields(s, bound, kinds)),
      {
        name: 'starts',
        label: 'Begins later',
        placeholder: 'start-30s',
        help: 'A time, or a time relative to the start of the activity in its scope, like start-30s.',
      },
      until('30m'),
      reason,
    ],
    ctl: (v) => ctlSet(sw.name, v.value, v, picked(v)),
    send: (v) => setSwitch(sw.name, value(v), v, picked(v)),
    done: published,
    after: again,
  };
}

// takeOut removes the value that a scope has.
const takeOut = (set, again) => ({
  title: `Take ${set.name} out`,
  verb: 'Take out',
  role: 'operator',
  effect: () =>
    `${set.name} is no longer ${set.value} for ${scopeText(set.scope) || 'everybody'}: the former value, or the default, is in force again.`,
  fields: [reason],
  ctl: (v) => ctlSet(set.name, null, v, scopeText(set.scope)),
  send: (v) => setSwitch(set.name, null, v, scopeText(set.scope)),
  done: published,
  after: again,
});

const day = 24 * 3600 * 1000;

// stale is a switch that somebody may have forgotten: it has been set for more than a day, and has
// no end.
const stale = (set) => !set.expires_at && Date.now() - Date.parse(set.since) > day;

export function Switches() {
  useLive();
  const bound = useBound();
  const of = useGet(segments('switches'), 3);
  return html`<${Loaded} of=${of}>${(doc) => {
    const set = doc.items.flatMap((i) => i.set);
    return html`<${Section} title="What is set" note=${doc.unrecorded ? `${doc.unrecorded} changes were made while the database was away, and are not recorded yet.` : ''}>
      <${Table} label="Switches that are set" rows=${set} empty="No switch is set: all have their defaults." rowClass=${(w) => (stale(w) ? 'amber' : '')} columns=${[
        { head: 'Switch', cell: (w) => html`<b>${w.name}</b> ${w.value}` },
        { head: 'For', cell: (w) => scopeText(w.scope) || 'everybody' },
        {
          head: 'Ends in',
          cell: (w) => html`<${Left} until=${w.expires_at} />${stale(w) && html` <${Tag} kind="warning">stale<//>`}`,
        },
        {
          head: 'Since',
          cell: (w) =>
            w.starts_at && Date.parse(w.starts_at) > Date.now()
              ? html`begins in <${Left} until=${w.starts_at} />`
              : time(w.since),
        },
        { head: 'By', cell: (w) => html`${w.by}${w.unrecorded && html` <${Tag} kind="warning">not recorded<//>`}` },
        { head: 'Why', wide: true, cell: (w) => w.reason },
        { head: '', cell: (w) => html`<${Action} role="operator" kind="small" action=${takeOut(w, of.again)} />` },
      ]} /><//>
      <${Section} title="All switches">
      <${Table} label="All switches" rows=${doc.items} rowKey=${(i) => i.name} columns=${[
        { head: 'Switch', cell: (i) => html`<b>${i.name}</b>` },
        { head: 'Is', cell: (i) => html`<${Tag} kind=${i.value === i.default ? 'plain' : 'warning'}>${i.value}<//>` },
        { head: 'What it does', wide: true, cell: (i) => i.effect },
        { head: 'Values', wide: true, cell: (i) => i.values },
        {
          head: '',
          cell: (i) =>
            html`<${Action} role="operator" kind="small" action=${change(i, live.snapshot, bound, of.again)}>Set</${Action}>`,
        },
      ]} /><//><${History} />`;
  }}<//>`;
}

// History lists the changes of switches.
function History() {
  const [open, set] = useState(false);
  const of = useGet(
    open ? (signal) => get(`${segments('changes')}?limit=200`, { signal }) : '',
    0,
    open ? 'history' : '',
  );
  return html`<${Section} title="History" actions=${html`<button type="button" aria-expanded=${open} onClick=${() => set(!open)}>${open ? 'Hide' : 'Show'}</button>`}>
    ${
      open &&
      html`<${Loaded} of=${of}>${(
        doc,
      ) => html`<${Table} label="Changes of switches" rows=${doc.items.filter((c) => c.kind === 'switches')}
      empty="None among the last 200 changes." columns=${[
        { head: 'When', cell: (c) => time(c.at) },
        { head: 'Who', cell: (c) => c.actor },
        { head: 'Why', wide: true, cell: (c) => c.reason },
        { head: '', cell: (c) => html`<a href=${`#/changes/${c.number}`}>change ${c.number}</a>` },
      ]} />`}<//>`
    }<//>`;
}

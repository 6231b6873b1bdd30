// Flow: the limits and the levels. The screen shows what is configured, what each gateway may admit
// now, and which callers are refused.
import { html } from './lib.js';
import { call, get, segments } from './api.js';
import { live, useLive } from './live.js';
import { Left, Loaded, Section, Table, Tag, useBound, useGet } from './ui.js';
import { Action, published, reason, until } from './action.js';
import { change } from './switches.js';
import { count, percent, policyWords, rate, unknown } from './text.js';

const of = (p) => (p.match ? `${p.key} ${p.match}` : p.key === 'global' ? 'all purchases' : `each ${p.key}`);

const modes = [
  ['enforce', 'enforce'],
  ['shadow', 'shadow: only count'],
  ['off', 'off'],
];

// readForChange reads the limits as they are written back: raw, and with their version.
async function readForChange() {
  const { doc, header } = await call('GET', segments('limits'), { raw: true, full: true });
  return { policies: doc.policies, tag: header.get('ETag') };
}

// replace writes all limits, unless somebody has changed them since they were read.
const replace = (policies, tag, why, confirm) =>
  call('PUT', segments('limits'), {
    body: { policies, reason: why, ...(confirm && { confirm }) },
    header: { 'If-Match': tag },
  });

// In a shell, one changes a file of all limits: the first command writes the file, the second one
// reads it.
const before = 'First: penstock ctl limits show -o json > limits.json, and change the file.';

const ctlPut = (v) => ['limits', 'put', '--file', 'limits.json', '--reason', v.reason || 'WHY'];

// bounds are the bounds that a policy may have. Each may be left out if there is another one.
const bounds = ['rate', 'burst', 'concurrency', 'quota'];

// boundFields ask for the bounds; p has those in force.
const boundFields = (p) => [
  { name: 'rate', label: 'Rate a second', type: 'number', value: shown(p?.rate), min: 0.00001, step: 'any' },
  { name: 'burst', label: 'Burst', type: 'number', value: shown(p?.burst), min: 1, step: 1 },
  { name: 'concurrency', label: 'In flight at once, on each gateway', type: 'number', value: shown(p?.concurrency), min: 1, step: 1 },
  { name: 'quota', label: 'In a day', type: 'number', value: shown(p?.quota), min: 1, step: 1 },
];

const shown = (n) => (n === undefined || n === null ? '' : String(n));

// bounded are the bounds that a person typed; null if there are none.
const bounded = (v) => Object.fromEntries(bounds.map((k) => [k, v[k] ? Number(v[k]) : null]));

// inWords describes bounds in words.
const inWords = (v) => policyWords(bounded(v)).join('; ') || '…';

// Diff shows how a change changes a policy.
const Diff = ({ before, after }) => {
  const changed = [...bounds, 'mode'].filter((k) => shown(before?.[k]) !== shown(after[k]));
  if (!changed.length) return html`<p class="note">Nothing is changed yet.</p>`;
  return html`<ul class="diff" aria-label="What changes">${changed.map((k) => html`<li><b>${k}</b> ${before && html`<del>${shown(before[k]) || 'none'}</del> → `}<ins>${shown(after[k]) || 'none'}</ins></li>`)}</ul>`;
};

// canEnd says whether this server can let limits end by themselves. A server that has previews can.
// Behind a load balancer, an older server may answer.
const canEnd = (signal) =>
  get(segments('limits', 'preview'), { signal }).then(
    () => true,
    (problem) => problem.status === 405,
  );

// edit changes one policy. It reads the newest version when the change is sent, and stops if the
// policy is no longer as the dialog has shown it.
function edit(p, again, ends) {
  const asShown = (x) => x.name === p.name && x.key === p.key && (x.match ?? '') === (p.match ?? '');
  const wanted = (v) => ({ ...bounded(v), mode: v.mode });
  return {
    title: `Limit ${p.name} (${of(p)})`,
    verb: 'Change the limit',
    role: 'operator',
    danger: false,
    effect: (v) =>
      `${of(p)}: ${inWords(v)}. ${
        v.mode === 'enforce'
          ? 'Requests above the limit are refused.'
          : v.mode === 'shadow'
            ? 'Requests above the limit are counted, but not refused.'
            : 'The limit is not used.'
      }`,
    fields: [
      ...boundFields(p),
      {
        name: 'mode',
        label: 'Mode',
        type: 'select',
        required: true,
        value: p.mode,
        options: modes.some(([m]) => m === p.mode) ? modes : [...modes, [p.mode, p.mode]],
      },
      ...(ends ? [{ ...until('', [['', 'no end']]), help: 'Only the rate, the burst and the mode can end by themselves.' }] : []),
      reason,
    ],
    diff: (v) => html`<${Diff} before=${p} after=${wanted(v)} />`,
    ctl: ctlPut,
    ctlNote: before,
    send: async (v) => {
      const lasting = ['concurrency', 'quota'].filter((k) => shown(p[k]) !== shown(wanted(v)[k]));
      if (v.expires && lasting.length) {
        throw Object.assign(new Error(`A change of the ${lasting.join(' and the ')} can't end by itself: choose no end.`), {
          title: 'Not changed',
        });
      }
      const { policies, tag } = await readForChange();
      const i = policies.findIndex(asShown);
      if (i < 0 || bounds.some((k) => shown(policies[i][k]) !== shown(p[k])) || (policies[i].mode ?? 'enforce') !== p.mode) {
        throw Object.assign(new Error('Somebody has changed this limit in the meantime. Close this dialog, and look at the limit again.'), {
          title: 'Not changed',
        });
      }
      policies[i] = v.expires
        ? { ...policies[i], temporary: { rate: wanted(v).rate, burst: wanted(v).burst, mode: v.mode, expires_in: v.expires } }
        : { ...policies[i], ...wanted(v) };
      return replace(policies, tag, v.reason);
    },
    done: published,
    after: again,
  };
}

const keys = ['global', 'merchant', 'caller', 'user', 'ip', 'activity', 'sku'];

// add makes a policy.
const add = (again) => ({
  title: 'Add a limit',
  verb: 'Add the limit',
  role: 'operator',
  effect: (v) =>
    `${v.match ? `${v.key} ${v.match}` : v.key === 'global' ? 'All purchases' : `Each ${v.key}`}: ${inWords(v)}.`,
  fields: [
    { name: 'name', label: 'Name', required: true, most: 64 },
    {
      name: 'key',
      label: 'Of each',
      type: 'select',
      required: true,
      value: 'caller',
      options: keys.map((k) => [k, k]),
    },
    {
      name: 'match',
      label: 'Only for this one',
      when: (v) => v.key !== 'global',
      help: 'A caller or user as merchant/name, a SKU as activity/sku. Empty means each of them.',
    },
    ...boundFields(),
    { name: 'mode', label: 'Mode', type: 'select', required: true, value: 'shadow', options: modes },
    reason,
  ],
  ctl: ctlPut,
  ctlNote: before,
  send: async (v) => {
    const { policies, tag } = await readForChange();
    const p = { name: v.name, key: v.key, ...bounded(v), mode: v.mode };
    return replace([...policies, v.match && v.key !== 'global' ? { ...p, match: v.match } : p], tag, v.reason);
  },
  done: published,
  after: again,
});

// remove takes a policy away.
const remove = (p, again, ends) => ({
  title: `Remove the limit ${p.name}`,
  verb: 'Remove',
  role: 'operator',
  danger: true,
  effect: () => `${of(p)} is no longer limited by ${p.name}.`,
  confirm: p.name,
  fields: [reason],
  ctl: ctlPut,
  ctlNote: before,
  send: async (v) => {
    const { policies, tag } = await readForChange();
    const rest = policies.filter((x) => !(x.name === p.name && x.key === p.key && (x.match ?? '') === (p.match ?? '')));
    return replace(rest, tag, v.reason, ends && !rest.length);
  },
  done: published,
  after: again,
});

export function Flow() {
  const usage = useGet(segments('limits', 'usage'), 2);
  const levels = useGet(segments('levels'), 2);
  const again = () => usage.again();
  const ends = useGet(canEnd, 0, 'limits end').doc;
  return html`<${Section} title="Limits" note=${`A change here changes one limit, on the version that is in force.${ends ? '' : ' To open limits for a while, set the switch “limits” to shadow or off with an end.'}`}
      actions=${html`<${Action} role="operator" action=${add(again)}>Add a limit</${Action}>`}>
    <${Loaded} of=${usage}>${(doc) => html`${!doc.complete && html`<p class="warning" role="status">${doc.missing}</p>`}
      <${Table} label="Limits" rows=${doc.policies} rowKey=${(p) => `${p.name} ${p.key} ${p.match}`} empty="There is no limit." columns=${[
        { head: 'Limit', cell: (p) => html`<b>${p.name}</b>` },
        { head: 'Of', cell: of },
        {
          head: 'Mode',
          cell: (p) =>
            html`<${Tag} kind=${p.mode === 'enforce' ? 'good' : 'warning'}>${p.mode}<//>${p.percent && ` ${p.percent} %`}${
              p.temporary &&
              html`<br />for now ${p.temporary.rate ? rate(p.temporary.rate) : 'no rate'}, ${p.temporary.mode ?? 'enforce'}: <${Left} until=${p.temporary.expires_at} />`
            }${p.expires_at && html`<br />ends in <${Left} until=${p.expires_at} />`}`,
        },
        { head: 'Configured', cell: (p) => html`<ul class="plainList">${policyWords(p).map((text) => html`<li key=${text}>${text}</li>`)}</ul>` },
        { head: 'Passes', number: true, cell: (p) => rate(p.allowed_per_second) },
        {
          head: 'Used',
          number: true,
          cell: (p) => (p.key === 'global' || p.match ? percent(p.allowed_per_second, p.rate) : null),
        },
        {
          head: 'Refused',
          number: true,
          cell: (p) => rate(p.mode === 'shadow' ? p.shadowed_per_second : p.refused_per_second),
        },
        {
          head: 'Admitted on each gateway',
          cell: (p) =>
            html`<ul class="plainList">${p.nodes.map(
              (n) =>
                html`<li key=${n.node}>${n.node}: ${
                  n.effective_rate === null
                    ? rate(n.allowed_per_second)
                    : `${rate(n.allowed_per_second)} of ${rate(n.effective_rate)}`
                }</li>`,
            )}</ul>`,
        },
        {
          head: '',
          cell: (
            p,
          ) => html`<div class="actions"><${Action} role="operator" kind="small" action=${edit(p, again, ends)}>Edit</${Action}>
          <${Action} role="operator" kind="small" action=${remove(p, again, ends)}>Remove</${Action}></div>`,
        },
      ]} />
      <h3>At the limit</h3><${Table} label="Refused most" rows=${doc.top} empty="Nobody is refused now." columns=${[
        { head: 'Who', cell: (t) => html`<b>${t.key}</b>` },
        { head: 'By', cell: (t) => t.policy },
        {
          head: `Refused in ${doc.top_span_seconds} s`,
          number: true,
          cell: (t) => `${count(t.refused)}${t.uncertain ? ` (± ${count(t.uncertain)})` : ''}`,
        },
        { head: 'On', cell: (t) => t.nodes.map((n) => `${n.node}: ${count(n.refused)}`).join(', ') },
      ]} />`}<//><//>
    <${Callers} /><${Levels} of=${levels} />`;
}

// refusals lists how many requests per second are refused for each caller, the most first.
const refusals = (refused) =>
  Object.entries(refused)
    .filter(([, n]) => n > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([code, n]) => `${code} ${rate(n)}`)
    .join(', ') || unknown;

// Callers are the programs that buy now, the busiest first.
function Callers() {
  useLive();
  return html`<${Section} title="Callers"><${Table} label="Callers, the busiest first" rows=${live.snapshot?.callers ?? []} rowKey=${(c) => c.caller} empty="No program buys now." columns=${[
    { head: 'Caller', cell: (c) => html`<b>${c.caller}</b>` },
    { head: 'Asked', number: true, cell: (c) => rate(c.rates.requests) },
    { head: 'Orders', number: true, cell: (c) => rate(c.rates.accepted) },
    { head: 'Paid', number: true, cell: (c) => rate(c.rates.paid) },
    { head: 'Refused, by reason', wide: true, cell: (c) => refusals(c.rates.refused) },
  ]} /><//>`;
}

// setLevel pins a level.
const setLevel = (name, s, bound, again) => {
  const sw = {
    name: 'level',
    value: 'auto',
    default: 'auto',
    values: 'auto, D0, D1, D2, D3, D4, D5',
    effect: 'The degrade level; with auto, each node finds its own.',
  };
  const action = change(sw, s, bound, again);
  return {
    ...action,
    title: `Set the level to ${name}`,
    fields: action.fields.map((f) => (f.name === 'value' ? { ...f, value: name } : f)),
  };
};

function Levels({ of: read }) {
  useLive();
  const bound = useBound();
  return html`<${Section} title="Levels"><${Loaded} of=${read}>${(doc) => html`
    <p>This node is at <b>${doc.level}</b>${doc.pinned ? ', set by a person' : ''}. Its own signals ask for <b>${doc.found}</b>${doc.why && ` (${doc.why})`}; automatic is ${doc.automatic}.
      ${live.snapshot && html` The highest of all gateways is <b>${live.snapshot.level}</b>.`}</p>
    <${Table} label="Degrade levels" rows=${doc.levels} rowKey=${(l) => l.level} rowClass=${(l) => (l.level === doc.level ? 'current' : '')} columns=${[
      {
        head: 'Level',
        cell: (l) => html`<b>${l.level}</b> ${l.name}${l.level === doc.level && html` <${Tag} kind="warning">now<//>`}`,
      },
      { head: 'Turns off', wide: true, cell: (l) => l.turns_off || '–' },
      { head: 'Buyers see', wide: true, cell: (l) => l.buyers },
      { head: 'Sets', cell: (l) => l.sets.map((x) => `${x.switch} ${x.value}`).join(', ') || '–' },
      {
        head: '',
        cell: (l) =>
          html`<${Action} role="operator" kind="small" action=${setLevel(l.level, live.snapshot, bound, read.again)}>Set</${Action}>`,
      },
    ]} />`}<//><//>`;
}

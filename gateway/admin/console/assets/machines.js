// Machines: gateways and workers, their servers, the lag of the workers, and records that no worker
// can use.
import { html, useState } from './lib.js';
import { del, pages, post, segments } from './api.js';
import { live, useLive } from './live.js';
import { Loaded, Section, Table, Tag, Tiles, useGet, useMay } from './ui.js';
import { Action, reason } from './action.js';
import { Chart } from './chart.js';
import { bytes, count, flag, millis, plural, rate, span, time } from './text.js';

const drain = (verb, node, effect, again) => ({
  title: `${verb} ${node}`,
  verb,
  role: 'operator',
  effect: () => effect,
  fields: [reason],
  ctl: (v) => ['nodes', verb.toLowerCase(), node, flag('reason', v.reason)],
  send: (v) => post(segments('nodes', node, verb.toLowerCase()), { reason: v.reason }),
  done: (a) => (a.drained ? `${a.node} takes no new buyers from now on.` : `${a.node} takes buyers again.`),
  after: again,
});

const forget = (node, again) => ({
  title: `Forget ${node}`,
  verb: 'Forget',
  role: 'operator',
  effect: () =>
    "For a machine that won't come back: changes no longer wait for it. If the node still runs, it registers again at once.",
  fields: [reason],
  ctl: (v) => ['nodes', 'remove', node, flag('reason', v.reason)],
  send: (v) => del(segments('nodes', node), v.reason),
  done: () => `${node} is forgotten.`,
  after: again,
});

const states = { current: 'good', behind: 'warning', refusing: 'critical', silent: 'critical' };

const breakers = (of) =>
  Object.entries(of ?? {}).map(
    ([name, state]) =>
      html`<${Tag} kind=${state === 'open' ? 'critical' : 'warning'}>${name} ${String(state?.state ?? state)}<//> `,
  );

function Nodes() {
  const of = useGet(segments('nodes'), 2);
  const seen = new Map((live.snapshot?.nodes ?? []).map((n) => [n.node, n]));
  return html`<${Section} title="Nodes"><${Loaded} of=${of}>${(doc) =>
    html`<${Table} label="Nodes" rows=${doc.nodes} rowKey=${(n) => n.node} empty="No node is known." columns=${[
      { head: 'Node', cell: (n) => html`<b>${n.node}</b>` },
      { head: 'Role', cell: (n) => n.status?.role ?? seen.get(n.node)?.role },
      {
        head: 'Settings',
        cell: (
          n,
        ) => html`<${Tag} kind=${states[n.state] ?? 'plain'}>${n.state}<//>${n.not_yet.length > 0 && ` lacks ${n.not_yet.join(', ')}`}
      ${n.drained && html` <${Tag} kind="warning">drained<//>`}`,
      },
      { head: 'Heard', number: true, cell: (n) => `${span(n.silent_ms / 1000)} ago` },
      { head: 'Level', cell: (n) => seen.get(n.node)?.level },
      { head: 'In flight', number: true, cell: (n) => count(n.status?.in_flight ?? seen.get(n.node)?.in_flight) },
      { head: 'Orders', number: true, cell: (n) => rate(seen.get(n.node)?.accepted) },
      { head: 'Cores', number: true, cell: (n) => seen.get(n.node)?.cpu?.toFixed(2) },
      { head: 'Memory', number: true, cell: (n) => bytes(seen.get(n.node)?.memory) },
      {
        head: 'Breakers',
        cell: (n) => {
          const b = breakers(seen.get(n.node)?.breakers ?? n.status?.breakers);
          return b.length ? b : 'closed';
        },
      },
      { head: 'Version', cell: (n) => n.status?.version },
      { head: 'Up since', cell: (n) => time(n.status?.started) },
      {
        head: '',
        cell: (n) => html`<div class="actions">${
          !(n.status?.role ?? 'gateway').includes('gateway')
            ? '' // buyers don't use this one
            : n.drained
              ? html`<${Action} role="operator" kind="small go" action=${drain('Undrain', n.node, 'Its /readyz answers again whether it can serve buyers.', of.again)} />`
              : html`<${Action} role="operator" kind="small" action=${drain('Drain', n.node, 'Within a second its /readyz answers 503, so that a load balancer sends no new buyers there. It still answers every request.', of.again)} />`
        }
      ${n.state === 'silent' && html`<${Action} role="operator" kind="small" action=${forget(n.node, of.again)} />`}</div>`,
      },
    ]} />`}<//><//>`;
}

// hops describes each step of an order's way, with the server that it waits for.
const hops = {
  hold: 'from the arrival of a purchase until its unit is held (Redis)',
  page: 'from the hold until Kafka has the promise; then the buyer is answered',
  row: 'from the promise until a worker has written the order (database)',
  confirm: 'from the written order until Redis knows of it',
  settle: 'from the end of an order until its units are counted as sold or free (database, Redis)',
  event: "from a step of an order until other systems are told (Kafka)",
  settings: 'from the change of a limit or switch until it is in force on every gateway',
};

// probeState is a probe's last answer. A switch, a limit or overload may refuse it as they refuse a
// buyer. That is no fault.
const probeState = (x) =>
  !x.ok
    ? html`<${Tag} kind="critical">fails<//> ${x.error}`
    : x.error
      ? html`<${Tag} kind="warning">refused<//> ${x.error}`
      : html`<${Tag} kind="good">ok<//>`;

function Servers() {
  const s = live.snapshot;
  if (!s) return html`<p class="note">No live data.</p>`;
  const kind = { ok: 'good', degraded: 'warning', away: 'critical' };
  return html`<${Section} title="Servers"><${Table} label="Servers" rows=${s.servers} rowKey=${(x) => `${x.server} ${x.instance} ${x.state} ${x.detail}`} empty="No server is known yet." columns=${[
    { head: 'Server', cell: (x) => html`<b>${x.server}</b> ${x.instance}` },
    { head: 'State', cell: (x) => html`<${Tag} kind=${kind[x.state] ?? 'plain'}>${x.state}<//>` },
    { head: 'Detail', wide: true, cell: (x) => x.detail || '–' },
    { head: 'As seen by', wide: true, cell: (x) => x.nodes.join(', ') },
  ]} />
  <${Tiles} of=${[
    ['shards open', count(s.shards.open)],
    ['closed', count(s.shards.closed), s.shards.closed ? 'warning' : ''],
    ['being rebuilt', count(s.shards.rebuilding), s.shards.rebuilding ? 'warning' : ''],
  ]} />
  <h3>The way of an order</h3><${Table} label="Steps of an order's way" rows=${s.hops} rowKey=${(x) => x.hop} empty="Nothing was measured yet." columns=${[
    { head: 'Step', cell: (x) => html`<b>${x.hop}</b>` },
    { head: 'From, to', wide: true, cell: (x) => hops[x.hop] },
    { head: 'p50', number: true, cell: (x) => millis(x.p50) },
    { head: 'p99', number: true, cell: (x) => millis(x.p99) },
    { head: 'Deadline', number: true, cell: (x) => millis(x.deadline) },
    { head: 'Late', number: true, cell: (x) => (x.late ? html`<${Tag} kind="warning">${count(x.late)}<//>` : '0') },
  ]} />
  <h3>Probes</h3><${Table} label="Probes" rows=${s.probes} rowKey=${(x) => `${x.node} ${x.probe}`} empty="No gateway probes itself." columns=${[
    { head: 'Probe', cell: (x) => x.probe },
    { head: 'On', cell: (x) => x.node },
    { head: 'State', cell: probeState },
    { head: 'Took', number: true, cell: (x) => millis(x.took) },
    { head: 'At', cell: (x) => time(x.at) },
  ]} />
  <h3>Objectives</h3><${Table} label="Objectives" rows=${s.objectives} rowKey=${(x) => `${x.objective} ${x.of}`} empty="No gateway reports." columns=${[
    { head: 'Objective', cell: (x) => (x.limit === null ? x.objective : `${x.objective} ≤ ${millis(x.limit)}`) },
    { head: 'Of', cell: (x) => x.of },
    { head: 'Target', number: true, cell: (x) => `${x.target} %` },
    { head: 'Is', number: true, cell: (x) => (x.actual === null ? '–' : `${x.actual.toFixed(3)} %`) },
    {
      head: 'Budget left',
      number: true,
      cell: (x) => (x.budget === null ? '–' : html`<${Tag} kind=${x.budget < 0 ? 'critical' : x.budget < 25 ? 'warning' : 'good'}>${x.budget < 0 ? 'used up' : `${x.budget.toFixed(0)} %`}<//>`),
    },
    { head: 'Bad', number: true, cell: (x) => `${count(x.bad)} of ${count(x.asked)}` },
    { head: 'Since', cell: (x) => time(x.since) },
  ]} /><//>`;
}

function Queue() {
  const q = live.snapshot?.queue;
  const of = useGet(segments('queue'), 5);
  return html`<${Section} title="Queue">${
    q &&
    html`<${Tiles} of=${[
      ['workers behind', q.lag === null ? '–' : plural(q.lag, 'record'), 'big'],
      ['oldest record', q.oldest === null ? '–' : span(q.oldest)],
      ['caught up in', q.lag === 0 ? 'now' : q.catch_up === null ? (q.lag > 100 ? 'not at this rate' : 'moments') : span(q.catch_up)],
      ['dead letters', count(q.dead_letters), q.dead_letters ? 'warning' : ''],
    ]} /><${Chart} title="Records behind" points=${live.history} unit=${count} series=${[{ label: 'behind', colour: 'c3', of: (p) => p.lag }]} />`
  }
  <details><summary>Partitions</summary><${Loaded} of=${of}>${(doc) =>
    html`<${Table} label="Partitions" rows=${doc.partitions} rowKey=${(p) => p.partition} columns=${[
      { head: 'Partition', number: true, cell: (p) => p.partition },
      { head: 'Next', number: true, cell: (p) => count(p.next) },
      { head: 'End', number: true, cell: (p) => count(p.end) },
      { head: 'Behind', number: true, cell: (p) => count(p.behind) },
      {
        head: 'State',
        cell: (p) => html`<${Tag} kind=${p.state === 'ok' ? 'good' : 'critical'}>${p.state}<//> ${p.detail ?? ''}`,
      },
    ]} />`}<//></details><//>`;
}

const letters = (verb, ids, effect, again, more = {}) => ({
  title: `${verb} ${plural(ids.length, 'dead letter')}`,
  verb,
  role: 'admin',
  effect: () => effect,
  fields: [reason],
  ctl: (v) => ['dead-letters', verb.toLowerCase(), ids, flag('reason', v.reason)],
  send: (v) => post(segments('dead-letters', verb.toLowerCase()), { ids, reason: v.reason }),
  after: again,
  ...more,
});

// decoded shows the readable texts in a binary record, and its length.
function decoded(value) {
  try {
    const raw = atob(value);
    const texts = raw.match(/[\x20-\x7e]{3,}/g) ?? [];
    return html`<p>${plural(raw.length, 'byte')}; its texts:</p><code class="line">${texts.join(' · ') || '–'}</code>`;
  } catch {
    return html`<code class="line">${value}</code>`;
  }
}

function Letters() {
  const not = useMay('support');
  const of = useGet((signal) => pages(segments('dead-letters'), { signal }), 10, 'letters');
  const [chosen, choose] = useState([]);
  const toggle = (id) => choose(chosen.includes(id) ? chosen.filter((x) => x !== id) : [...chosen, id]);
  const again = () => {
    choose([]);
    of.again();
  };
  return html`<${Section} title="Dead letters" note="Records that no worker can use. Their orders keep their units until you decide.">
    <${Loaded} of=${of}>${(list) => {
      const some = chosen.filter((id) => list.some((l) => l.id === id));
      return html`${
        some.length > 0 &&
        html`<div class="actions chosen" role="group" aria-label="The chosen dead letters"><b>${some.length} chosen</b>
        <${Action} role="admin" action=${letters('Replay', some, 'Their orders are tried again.', again, { done: (a) => `Of ${plural(a.letters, 'letter')}: ${plural(a.opened, 'order')} opened, ${a.rejected} rejected, ${a.parked} still fit no item.` })} />
        <${Action} role="admin" kind="danger" action=${letters('Discard', some, "Their orders are rejected and their units come back. This can't be undone.", again, { danger: true, confirm: 'discard', done: (a) => `${plural(a.discarded, 'letter')} discarded.` })} /></div>`
      }
      <${Table} label="Dead letters" rows=${list} rowKey=${(l) => l.id} empty="There are none." columns=${[
        {
          head: 'Choose',
          cell: (l) =>
            html`<input type="checkbox" aria-label=${`Choose dead letter ${l.id}`} checked=${chosen.includes(l.id)} onChange=${() => toggle(l.id)} />`,
        },
        { head: 'Id', number: true, cell: (l) => l.id },
        { head: 'At', cell: (l) => time(l.at) },
        { head: 'Record', cell: (l) => `${l.partition}/${l.offset}` },
        { head: 'What is wrong', wide: true, cell: (l) => l.problem },
        {
          head: 'Orders',
          cell: (l) =>
            (l.orders ?? [l.order]).filter(Boolean).map((o) => html`<a class="id" href=${`#/orders/${o}`}>${o}</a> `),
        },
        {
          head: 'Content',
          cell: (l) =>
            l.value
              ? html`<details><summary>Show</summary>${decoded(l.value)}</details>`
              : html`<span class="note">${not || 'none'}</span>`,
        },
      ]} />`;
    }}<//><//>`;
}

export function Machines() {
  useLive();
  return html`<${Nodes} /><${Servers} /><${Queue} /><${Letters} />`;
}

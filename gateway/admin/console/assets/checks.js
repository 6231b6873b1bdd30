// Before and after a sale: the preflight checks of an activity, its audit, and the statement of a
// merchant.
import { html, useState } from './lib.js';
import { get, pages, post, query, segments } from './api.js';
import { secondsTo } from './live.js';
import { Copy, Loaded, ProblemBox, Section, Table, Tag, useBound, useGet, useMay } from './ui.js';
import { Action, reason } from './action.js';
import { Ledger, end, pause, resume } from './tonight.js';
import { count, ctlLine, flag, money, plural, time } from './text.js';

const marks = { ok: 'good', warn: 'warning', fail: 'critical' };

const publish = (id, again) => ({
  title: `Publish ${id}`,
  verb: 'Publish',
  role: 'admin',
  effect: () => 'Its units go into the stock. The sale begins at its start.',
  fields: [reason],
  ctl: (v) => ['activities', 'publish', id, flag('reason', v.reason)],
  send: (v) => post(segments('activities', id, 'publish'), { reason: v.reason }),
  done: (a) => `${a.activity} is ${a.state} now.`,
  after: again,
});

// Pick lets a person choose one entry of a list.
const Pick = ({
  label,
  list,
  value,
  set,
}) => html`<label class="pick">${label} <select value=${value} onChange=${(e) => set(e.currentTarget.value)}>
  ${list.map(([v, text]) => html`<option value=${v} selected=${v === value}>${text}</option>`)}</select></label>`;

const useActivities = () => useGet((signal) => pages(segments('activities'), { signal }), 15, 'activities');

const named = (list) => list.map((a) => [a.activity, `${a.name} (${a.activity}, ${a.state})`]);

// Preflight shows the server's own checks.
export function Preflight() {
  const all = useActivities();
  const [chosen, choose] = useState('');
  return html`<${Loaded} of=${all}>${(list) => {
    const open = list
      .filter((a) => a.state !== 'ended')
      .sort((a, b) => Date.parse(a.starts_at) - Date.parse(b.starts_at));
    if (!open.length) return html`<p class="note">Every activity has ended.</p>`;
    const a = open.find((x) => x.activity === chosen) ?? open.find((x) => secondsTo(x.starts_at) > 0) ?? open[0];
    return html`<${Pick} label="Activity" list=${named(open)} value=${a.activity} set=${choose} />
      <${Section} title=${a.name} note=${`${a.activity} of ${a.merchant}, ${a.state}, ${time(a.starts_at)} to ${time(a.ends_at)}; ${plural(a.items.length, 'item')}, ${plural(
        a.items.reduce((n, i) => n + i.quantity, 0),
        'unit',
      )}; payment window ${a.payment_window}`}
        actions=${html`${a.state === 'draft' && html`<${Action} role="admin" kind="first" action=${publish(a.activity, all.again)} />`}
          ${a.state === 'published' && html`<${Action} role="operator" action=${pause(a.activity)} />`}${a.state === 'paused' && html`<${Action} role="operator" kind="go" action=${resume(a.activity)} />`}
          ${(a.state === 'published' || a.state === 'paused') && html`<${Action} role="admin" kind="danger" action=${end(a.activity)} />`}`}>
      <${Checks} key=${a.activity} of=${a} /><//>`;
  }}<//>`;
}

function Checks({ of: a }) {
  const of = useGet(segments('activities', a.activity, 'preflight'), 15);
  if (of.problem?.status === 404 && of.problem.code === 'not-found') {
    return html`<p class="note">This server has no preflight checks; its audit shows whether every unit is accounted for.</p><${Audit} activity=${a.activity} />`;
  }
  return html`<${Loaded} of=${of}>${(doc) => {
    const worst = doc.checks.some((c) => c.state === 'fail')
      ? 'fail'
      : doc.checks.some((c) => c.state === 'warn')
        ? 'warn'
        : 'ok';
    return html`<p><${Tag} kind=${marks[worst]}>${worst === 'ok' ? 'ready' : worst === 'warn' ? 'ready, with warnings' : 'not ready'}<//></p>
      <${Table} label="Checks" rows=${doc.checks} rowKey=${(c) => c.check} columns=${[
        { head: 'Check', cell: (c) => html`<b>${c.check}</b>` },
        { head: 'State', cell: (c) => html`<${Tag} kind=${marks[c.state] ?? 'plain'}>${c.state}<//>` },
        { head: 'Detail', wide: true, cell: (c) => c.detail },
        { head: 'What to do', wide: true, cell: (c) => c.hint || '–' },
      ]} />`;
  }}<//>`;
}

// verdict is the result of an item's equation, in a word.
const verdict = (i) =>
  i.rebuilding
    ? ['warning', 'rebuilding']
    : !i.balanced
      ? ['critical', 'BROKEN']
      : i.in_flight > 0
        ? ['warning', `${count(i.in_flight)} in flight`]
        : ['good', 'balanced'];

// Audit shows every unit of every item, from the stock and the database at once.
function Audit({ activity }) {
  const of = useGet(segments('activities', activity, 'audit'));
  return html`<${Loaded} of=${of}>${(doc) => {
    const sum = (f) => doc.items.reduce((n, i) => n + f(i), 0);
    return html`<p><${Tag} kind=${doc.balanced ? 'good' : 'critical'}>${doc.balanced ? 'balanced' : 'NOT balanced'}<//> as of ${time(of.at)} <button type="button" class="small" onClick=${of.again}>Audit again</button></p>
      <${Ledger} label=${`All units of ${activity}`} of=${{ total: sum((i) => i.total), available: sum((i) => i.available), held: sum((i) => i.held), sold: sum((i) => i.sold), at: true }} />
      <${Table} label=${`Audit of ${activity}`} rows=${doc.items} rowKey=${(i) => i.sku} columns=${[
        { head: 'SKU', cell: (i) => html`<b>${i.sku}</b>` },
        { head: 'Total', number: true, cell: (i) => count(i.total) },
        { head: 'Left', number: true, cell: (i) => count(i.available) },
        { head: 'Held', number: true, cell: (i) => count(i.held) },
        { head: 'Sold', number: true, cell: (i) => count(i.sold) },
        {
          head: 'Orders open / parked / sold',
          number: true,
          cell: (i) => `${count(i.orders.open)} / ${count(i.orders.parked)} / ${count(i.orders.sold)}`,
        },
        { head: 'Verdict', cell: (i) => html`<${Tag} kind=${verdict(i)[0]}>${verdict(i)[1]}<//>` },
      ]} /><p class="ctl">The same from a shell: <${Copy} of="the line" text=${ctlLine(['audit', activity])} /></p>`;
  }}<//>`;
}

// After is the screen for a sale that is over.
export function After() {
  const all = useActivities();
  const [chosen, choose] = useState('');
  return html`<${Section} title="Audit" note="total = left + held + sold, of every item, from the stock and the database at once."><${Loaded} of=${all}>${(
    list,
  ) => {
    const done = list.filter((a) => a.state !== 'draft').sort((a, b) => Date.parse(b.ends_at) - Date.parse(a.ends_at));
    if (!done.length) return html`<p class="note">No activity was published.</p>`;
    const over = done.find((a) => a.state === 'ended' || secondsTo(a.ends_at) <= 0); // the last one
    const begun = done.findLast((a) => secondsTo(a.starts_at) <= 0); // or the one that ends first
    const id = done.some((a) => a.activity === chosen) ? chosen : (over ?? begun ?? done[0]).activity;
    return html`<${Pick} label="Activity" list=${named(done)} value=${id} set=${choose} /><${Audit} key=${id} activity=${id} />`;
  }}<//><//><${Statement} />`;
}

// days ago, in UTC, because the days of a statement are in UTC.
const daysAgo = (n) => new Date(Date.now() - n * 86400e3).toISOString().slice(0, 10);

const tally = (t, currency) => `${count(t.units ?? t.payments)} · ${money(t.amount, currency)}`;

function Statement() {
  const not = useMay('finance');
  const bound = useBound();
  const merchants = useGet(not ? '' : (signal) => pages(segments('merchants'), { signal }), 0, not ? '' : 'merchants');
  const [wanted, want] = useState({ merchant: bound, from: daysAgo(7), to: daysAgo(0) });
  const [state, set] = useState({});
  if (not) return html`<${Section} title="Statement"><p class="note">A statement ${not}.</p><//>`;
  const read = async (merchant) => {
    try {
      set({
        doc: await get(`${segments('merchants', merchant, 'statement')}${query({ from: wanted.from, to: wanted.to })}`),
      });
    } catch (problem) {
      set({ problem });
    }
  };
  return html`<${Section} title="Statement" note="Units and money by day (UTC), activity and item."><${Loaded} of=${merchants}>${(
    list,
  ) => {
    const merchant = wanted.merchant || list[0]?.merchant;
    if (!merchant) return html`<p class="note">There is no merchant.</p>`;
    const path = `${segments('merchants', merchant, 'statement')}${query({ from: wanted.from, to: wanted.to, format: 'csv' })}`;
    return html`<form class="row" onSubmit=${(e) => {
      e.preventDefault();
      read(merchant);
    }}>
      <${Pick} label="Merchant" list=${list.map((m) => [m.merchant, m.name])} value=${merchant} set=${(m) => want({ ...wanted, merchant: m })} />
      <label>From <input type="date" value=${wanted.from} onInput=${(e) => want({ ...wanted, from: e.currentTarget.value })} /></label>
      <label>To <input type="date" value=${wanted.to} onInput=${(e) => want({ ...wanted, to: e.currentTarget.value })} /></label>
      <button type="submit">Show</button> <a href=${path} download=${`statement-${merchant}.csv`}>CSV</a></form>
      <p class="ctl">The same from a shell: <${Copy} of="the line" text=${ctlLine(['merchants', 'statement', merchant, flag('from', wanted.from), flag('to', wanted.to)])} /></p>`;
  }}<//><${ProblemBox} problem=${state.problem} />
  ${
    state.doc &&
    html`<${Table} label="Statement" rows=${[...state.doc.lines, ...state.doc.total.map((t) => ({ ...t, day: 'all', activity: '', sku: '' }))]} empty="Nothing in these days." columns=${[
      { head: 'Day', cell: (l) => l.day },
      { head: 'Activity', cell: (l) => l.activity },
      { head: 'SKU', cell: (l) => l.sku },
      { head: 'Sold', number: true, cell: (l) => tally(l.sold, l.currency) },
      { head: 'Cancelled', number: true, cell: (l) => tally(l.cancelled, l.currency) },
      { head: 'Refund due', number: true, cell: (l) => tally(l.refund_due, l.currency) },
      { head: 'Refunded', number: true, cell: (l) => tally(l.refunded, l.currency) },
    ]} />`
  }<//>`;
}

// Tonight: a strip for each activity, with purchases, refusals and their reasons, units, and buttons.
import { html, useRef, useState } from './lib.js';
import { pages, post, segments } from './api.js';
import { live, secondsTo, useLive } from './live.js';
import { Left, Loaded, Section, Table, Tag, Tiles, calm, rank, still, useBound, useGet } from './ui.js';
import { Action, reason } from './action.js';
import { Chart, RefusedChart } from './chart.js';
import { change, stopOrders } from './switches.js';
import { count, flag, millis, money, percent, plural, rate, span, time } from './text.js';

const activityPath = (id, ...more) => segments('activities', id, ...more);

// state is the action that moves an activity to another state.
const state = (verb, role, id, effect, more = {}) => ({
  title: `${verb} ${id}`,
  verb,
  role,
  effect: () => effect,
  fields: [reason],
  ...more,
  ctl: (v) => ['activities', verb.toLowerCase(), id, flag('reason', v.reason)],
  send: (v) => post(activityPath(id, verb.toLowerCase()), { reason: v.reason, ...more.body }),
  done: (a) => `${a.activity} is ${a.state} now.`,
});

export const pause = (id) =>
  state('Pause', 'operator', id, 'Buyers get 503 degraded until you resume it. Existing orders go on.');
export const resume = (id) => state('Resume', 'operator', id, 'Buyers can buy again.');
export const end = (id) =>
  state('End', 'admin', id, "It ends for good and can't be started again. Existing orders go on.", {
    danger: true,
    confirm: id,
    body: { confirm: true },
  });

// restock changes the number of units. The dialog's key makes sure that it happens only once, even
// if it is sent again.
export function restock(id, skus, sku = skus[0]) {
  return {
    title: `Restock ${id}`,
    verb: 'Restock',
    role: 'operator',
    effect: (v) => {
      const n = Number(v.delta);
      return !n
        ? 'Adds units for sale, or takes available units back.'
        : n > 0
          ? `${plural(n, 'more unit')} of ${v.sku} can be sold.`
          : `${plural(-n, 'available unit')} of ${v.sku} ${n === -1 ? 'is' : 'are'} taken off sale.`;
    },
    fields: [
      { name: 'sku', label: 'SKU', required: true, value: sku ?? '', options: skus },
      {
        name: 'delta',
        label: 'Units',
        type: 'number',
        required: true,
        value: '',
        step: 1,
        help: 'A number below zero takes units back.',
      },
      reason,
    ],
    ctl: (v, key) => [
      'stock',
      'restock',
      id,
      v.sku,
      flag('delta', v.delta),
      flag('key', key),
      flag('reason', v.reason || 'WHY'),
    ],
    send: (v, key) =>
      post(
        activityPath(id, 'items', v.sku, 'restock'),
        { delta: Number(v.delta), reason: v.reason },
        { header: { 'Idempotency-Key': key } },
      ),
    done: (a) => `${a.sku} has ${plural(a.total, 'unit')} in total now.`,
  };
}

// extend gives buyers of open orders more time.
export const extend = (id) => ({
  title: `More time to pay for ${id}`,
  verb: 'Extend',
  role: 'operator',
  effect: (v) => `Every order of ${id} that is open now has ${v.by} longer to be paid.`,
  fields: [{ name: 'by', label: 'By', required: true, value: '30m', help: 'Like 90s, 30m or 1h30m.' }, reason],
  ctl: (v) => ['activities', 'extend', id, flag('by', v.by), flag('reason', v.reason)],
  send: (v) => post(activityPath(id, 'extend'), { by: v.by, reason: v.reason }),
  done: (a) => `${plural(a.orders, 'order')} got ${a.by} more.`,
});

// Ledger shows where the units are: three parts and their sum.
export function Ledger({ of, label }) {
  if (!of.at) return html`<p class="note">The ledger was not read yet.</p>`;
  const sum = of.available + of.held + of.sold;
  const parts = [
    ['sold', of.sold],
    ['held', of.held],
    ['left', of.available],
  ];
  let x = 0;
  return html`<div class="ledger"><svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img"
      aria-label=${`${label}: ${parts.map(([name, n]) => `${n} ${name}`).join(', ')} of ${of.total}`}>${parts.map(
        ([name, n]) => {
          const width = of.total ? (100 * n) / of.total : 0;
          x += width;
          return html`<rect class=${name} x=${x - width} y="0" width=${width} height="8" />`;
        },
      )}</svg>
    <p class="sum">${parts.map(([name, n], i) => html`${i > 0 && ' + '}<i class=${`dot ${name}`}></i>${count(n)} ${name}`)}${' = '}<b>${count(sum)}</b>${
      sum === of.total
        ? html` of ${count(of.total)} <${Tag} kind="good">adds up<//>`
        : html` <${Tag} kind="warning">${count(Math.abs(of.total - sum))} of ${count(of.total)} on their way<//>`
    }</p></div>`;
}

const tags = { 'on-sale': 'good', paused: 'warning', scheduled: 'plain', ended: 'plain' };

const total = (refused) => Object.values(refused).reduce((a, b) => a + b, 0);

// soldOut says when nothing is left, at the rate of the last minute.
const soldOut = (a) =>
  a.ledger.at && a.ledger.available === 0
    ? 'sold out'
    : a.sold_out_in !== null && a.sold_out_in > secondsTo(a.ends_at)
      ? 'after its end'
      : span(a.sold_out_in);

// Strip is one activity.
function Strip({ of: a, open, toggle, wall }) {
  const points = live.histories.get(a.activity) ?? [];
  const bound = useBound();
  const skus = a.items.map((i) => i.sku);
  const level = {
    name: 'admission',
    value: 100,
    default: 100,
    values: '0 to 100',
    effect:
      'The share of buyers, in percent, whose new orders are accepted. The others get 503 degraded. They are always the same buyers.',
  };
  const scoped = (action) => ({
    ...action,
    fields: action.fields.map((f) =>
      f.name === 'kind' ? { ...f, value: 'activity' } : f.name === 'scope' ? { ...f, value: a.activity } : f,
    ),
  });
  return html`<article class=${`strip ${a.state}`} aria-labelledby=${`strip-${a.activity}`}>
    <div class="partHead"><h2 id=${`strip-${a.activity}`}>${a.name || a.activity}</h2><${Tag} kind=${tags[a.state] ?? 'plain'}>${a.state}<//>
      <p class="note">${a.activity} of ${a.merchant} · ${
        a.state === 'scheduled'
          ? html`starts in <${Left} until=${a.starts_at} over="a moment" />`
          : a.state === 'ended'
            ? `ended ${time(a.ends_at)}`
            : html`ends in <${Left} until=${a.ends_at} />`
      }</p>
      ${toggle && html`<div class="actions"><button type="button" class="small" aria-expanded=${open} onClick=${toggle}>Charts of ${a.activity}</button></div>`}</div>
    <${Tiles} of=${[
      ['orders', rate(a.rates.accepted), 'big'],
      ['refused', rate(total(a.rates.refused))],
      ['paid', rate(a.rates.paid)],
      ['paid of all taken', a.ledger.at ? percent(a.ledger.sold, a.ledger.sold + a.ledger.held) : '–'],
      ['sold out in', soldOut(a), 'big'],
    ]} />
    <${Ledger} of=${a.ledger} label=${`Units of ${a.activity}`} />
    ${
      open &&
      html`<div class="charts">
      <${Chart} title="Orders a second" points=${points} height=${wall ? 200 : 130} series=${[
        { label: 'orders', colour: 'c1', of: (p) => p.accepted },
        { label: 'paid', colour: 'c2', of: (p) => p.paid },
      ]} />
      <${RefusedChart} title="Refused a second, by reason" points=${points} height=${wall ? 200 : 130} /></div>`
    }
    ${
      !wall &&
      a.state !== 'ended' &&
      html`<div class="actions">
      ${
        a.state === 'paused'
          ? html`<${Action} role="operator" action=${resume(a.activity)} kind="go" />`
          : html`<${Action} role="operator" action=${pause(a.activity)} />`
      }
      <${Action} role="operator" action=${restock(a.activity, skus)} />
      <${Action} role="operator" action=${scoped(change(level, live.snapshot, bound))}>Admission</${Action}>
      <${Action} role="operator" action=${extend(a.activity)} />
      <${Action} role="operator" kind="danger" action=${stopOrders(live.snapshot, bound, { kind: 'activity', name: a.activity })}>Stop orders</${Action}>
      <${Action} role="admin" kind="danger" action=${end(a.activity)} /></div>`
    }
    ${!wall && html`<${Items} of=${a} />`}</article>`;
}

// useStill keeps the order of rows for as long as the pointer or the focus is on them, so that a
// button is still there when it is pressed.
function useStill(rows, key) {
  const box = useRef(null);
  const order = useRef([]);
  const out = box.current?.matches(':hover, :focus-within') ? still(rows, order.current, key) : rows;
  order.current = out.map(key);
  return [box, out];
}

// Items are the hottest SKUs of an activity.
function Items({ of: a }) {
  const [box, rows] = useStill(a.items, (i) => i.sku);
  return html`<div ref=${box}><${Table} label=${`Items of ${a.activity}, the hottest first`} rows=${rows} rowKey=${(i) => i.sku} empty="No item was asked for yet." columns=${[
    { head: 'SKU', cell: (i) => html`<b>${i.sku}</b>${i.sold_out && html` <${Tag} kind="plain">sold out<//>`}` },
    { head: 'Orders', number: true, cell: (i) => rate(i.accepted) },
    { head: 'Left', number: true, cell: (i) => (i.ledger.at ? count(i.ledger.available) : null) },
    { head: 'Held', number: true, cell: (i) => (i.ledger.at ? count(i.ledger.held) : null) },
    { head: 'Sold', number: true, cell: (i) => (i.ledger.at ? count(i.ledger.sold) : null) },
    { head: 'Price', number: true, cell: (i) => money(i.price, i.currency) },
    {
      head: '',
      cell: (i) =>
        html`<${Action} role="operator" kind="small" action=${restock(
          a.activity,
          a.items.map((x) => x.sku),
          i.sku,
        )} />`,
    },
  ]} />${a.more_items > 0 && html`<p class="note">and ${plural(a.more_items, 'more item')}</p>`}</div>`;
}

const shown = 4; // only the charts of the first strips are open at the start

export function Tonight({ wall = false }) {
  useLive();
  const [opened, setOpened] = useState({});
  const s = live.snapshot;
  if (live.state === 'refused') return html`<${Books} />`;
  if (!s) return html`<p class="note">Waiting for the first data …</p>`;
  // The wall has room for two: the hottest of those that run, in the order of the server.
  const sales = calm(
    wall ? [...s.activities].filter((a) => a.state !== 'ended').sort((a, b) => rank(a) - rank(b)).slice(0, 2) : s.activities,
  );
  return html`${!wall && html`<${Installation} of=${s} />`}
    ${sales.length === 0 && html`<p class="note">There is no published activity. <code>penstock ctl activities publish</code> opens one.</p>`}
    ${sales.map((a, i) => {
      const open = opened[a.activity] ?? (i < shown && a.state !== 'scheduled');
      return html`<${Strip} key=${a.activity} of=${a} open=${open} wall=${wall}
        toggle=${!wall && (sales.length > shown || a.state === 'scheduled') && (() => setOpened({ ...opened, [a.activity]: !open }))} />`;
    })}`;
}

// Installation shows the totals of all activities.
function Installation({ of: s }) {
  return html`<${Section} title="All together"><${Tiles} of=${[
    ['asked', rate(s.totals.requests)],
    ['orders', rate(s.totals.accepted), 'big'],
    ['refused', rate(total(s.totals.refused))],
    ['paid', rate(s.totals.paid)],
    ['answered in, p50 / p99', `${millis(s.latency.p50)} / ${millis(s.latency.p99)}`],
    ['workers behind', s.queue.lag === null ? '–' : plural(s.queue.lag, 'record')],
  ]} /><details><summary>Charts of all activities</summary><div class="charts">
    <${Chart} title="All orders a second" points=${live.history} series=${[
      { label: 'orders', colour: 'c1', of: (p) => p.accepted },
      { label: 'paid', colour: 'c2', of: (p) => p.paid },
    ]} />
    <${RefusedChart} title="All refused a second, by reason" points=${live.history} height=${130} /></div></details><//>`;
}

// Books is shown to a token that is bound to a merchant, in place of the live view: its activities
// and their books.
function Books() {
  const of = useGet((signal) => pages(segments('activities'), { signal }), 10, 'activities');
  return html`<${Section} title="Activities" note="Live rates cover all merchants, so they are not shown here. These are the books.">
    <${Loaded} of=${of}>${(list) => (list.length ? list.map((a) => html`<${Book} key=${a.activity} of=${a} />`) : html`<p class="note">There is no activity.</p>`)}<//><//>`;
}

function Book({ of: a }) {
  const audit = useGet(a.state === 'draft' ? '' : activityPath(a.activity, 'audit'), 5);
  const skus = a.items.map((i) => i.sku);
  const started = secondsTo(a.starts_at) <= 0;
  return html`<article class="strip"><div class="partHead"><h3>${a.name}</h3><${Tag} kind="plain">${a.state}<//>
    <p class="note">${a.activity} · ${started ? `since ${time(a.starts_at)}` : `starts ${time(a.starts_at)}`}, ends ${time(a.ends_at)}</p></div>
    ${
      a.state !== 'draft' &&
      html`<div class="actions">${
        a.state === 'paused'
          ? html`<${Action} role="operator" action=${resume(a.activity)} kind="go" />`
          : html`<${Action} role="operator" action=${pause(a.activity)} />`
      }<${Action} role="operator" action=${restock(a.activity, skus)} />
      <${Action} role="admin" kind="danger" action=${end(a.activity)} /></div>
    <${Loaded} of=${audit}>${(doc) =>
      doc.items.map(
        (i) => html`<p key=${i.sku}><b>${i.sku}</b></p>
      <${Ledger} label=${`Units of ${i.sku}`} of=${{ ...i, at: true }} />`,
      )}<//>`
    }</article>`;
}

// Orders: one box finds an order by anything that a buyer may know. The order is shown with its
// timeline, its payments and its cancellation.
import { html, useState } from './lib.js';
import { get, post, query, segments } from './api.js';
import { Copy, Loaded, Section, Table, Tag, useGet, useMay } from './ui.js';
import { Action, reason } from './action.js';
import { ctlLine, flag, money, time } from './text.js';

const orderID = /^[0-9a-hjkmnp-tv-z]{40}$/;

// find searches for the text in every role that it may have, all at once.
async function find(text, signal) {
  if (orderID.test(text))
    return { orders: (await get(`${segments('orders')}${query({ order: text })}`, { signal })).orders, by: 'order' };
  const ask = (kind) =>
    get(`${segments('orders')}${query({ [kind]: text, limit: 100 })}`, { signal }).then((d) => ({
      orders: d.orders,
      by: kind,
      more: Boolean(d.next),
    }));
  const answers = await Promise.allSettled(['user', 'payment', 'request_id'].map(ask));
  const found = answers.filter((a) => a.status === 'fulfilled').map((a) => a.value);
  if (!found.length) throw answers[0].reason;
  const hits = found.filter((f) => f.orders.length);
  return {
    orders: hits.flatMap((f) => f.orders),
    by: hits.map((f) => f.by).join(', '),
    more: hits.some((f) => f.more),
  };
}

const states = {
  paid: 'good',
  pending_payment: 'warning',
  queued: 'warning',
  parked: 'critical',
  refund_due: 'critical',
  rejected: 'critical',
};

export const OrderState = ({ of }) =>
  html`<${Tag} kind=${states[of.status] ?? 'plain'}>${of.status}<//>${of.reason && html` <span class="note">${of.reason}</span>`}`;

// cancel cancels an unpaid order.
const cancel = (order, again) => ({
  title: 'Cancel the order',
  verb: 'Cancel the order',
  role: 'support',
  danger: true,
  effect: () =>
    `The order of ${order.user} for ${order.quantity} × ${order.sku} is cancelled, and its units are on sale again.`,
  fields: [reason],
  ctl: (v) => ['orders', 'cancel', order.order, flag('reason', v.reason)],
  send: (v) => post(segments('orders', order.order, 'cancel'), { reason: v.reason }),
  done: (a) => `The order is ${a.status} now.`,
  after: again,
});

export function Orders({ rest }) {
  const not = useMay('support');
  if (not) return html`<p class="warning">Orders name buyers: to find them ${not}.</p>`;
  const id = decodeURIComponent(rest[0] ?? '');
  return html`<${Search} key=${id} given=${id.startsWith('find:') ? id.slice(5) : ''} />${id && !id.startsWith('find:') && html`<${Order} key=${id} id=${id} />`}`;
}

function Search({ given }) {
  const [text, set] = useState(given);
  const of = useGet(given ? (signal) => find(given, signal) : '', 0, given);
  const go = (e) => {
    e.preventDefault();
    const t = text.trim();
    if (t) location.hash = orderID.test(t) ? `#/orders/${t}` : `#/orders/${encodeURIComponent(`find:${t}`)}`;
  };
  return html`<form class="search" role="search" onSubmit=${go}><label for="find">Order, user, payment or request id</label>
    <div class="row"><input id="find" type="search" value=${text} onInput=${(e) => set(e.currentTarget.value)} maxlength="128" autocomplete="off" spellcheck=${false} />
    <button type="submit" class="first">Find</button></div></form>
    ${
      given &&
      html`<${Loaded} of=${of}>${(doc) => html`<${Section} title="Found" note=${
        doc.orders.length
          ? `by ${doc.by}, newest first${doc.more ? '; there are more: name the activity or a time with penstock ctl orders find' : ''}`
          : `No order has ${given} as its user, payment or request id. An order that is still queued is found only by its id.`
      }>
      ${doc.orders.length > 0 && html`<${OrderList} of=${doc.orders} />`}
      <p class="ctl">The same from a shell: <${Copy} of="the line" text=${ctlLine(['orders', 'find', flag({ request_id: 'request-id' }[doc.by.split(', ')[0]] ?? (doc.by.split(', ')[0] || 'user'), given)])} /></p><//>`}<//>`
    }`;
}

const OrderList = ({ of }) =>
  html`<${Table} label="Orders" rows=${of} rowKey=${(o) => o.order} columns=${[
    { head: 'Order', cell: (o) => html`<a class="id" href=${`#/orders/${o.order}`}>${o.order}</a>` },
    { head: 'State', cell: (o) => html`<${OrderState} of=${o} />` },
    { head: 'User', cell: (o) => o.user },
    { head: 'Activity', cell: (o) => o.activity },
    { head: 'SKU', cell: (o) => `${o.quantity} × ${o.sku}` },
    { head: 'Amount', number: true, cell: (o) => money(o.amount, o.currency) },
    { head: 'Made', cell: (o) => time(o.created_at) },
  ]} />`;

function Order({ id }) {
  const of = useGet(segments('orders', id), 5);
  return html`<${Loaded} of=${of}>${(o) => html`<${Section} title="Order" actions=${
    ['queued', 'parked', 'pending_payment'].includes(o.status) &&
    html`<${Action} role="support" kind="danger" action=${cancel(o, of.again)} />`
  }>
    <p><${Copy} text=${o.order} of="the order's id" /> <${OrderState} of=${o} /></p>
    <dl class="facts">${[
      ['User', o.user],
      ['Merchant and caller', `${o.merchant}/${o.caller || '–'}`],
      ['Activity', o.activity],
      ['SKU', `${o.quantity} × ${o.sku}`],
      ['Amount', money(o.amount, o.currency)],
      ['Made', time(o.created_at)],
      ['To be paid by', time(o.pay_by)],
      ['Request id', o.request_id],
      ['Gateway', o.node],
    ].map(([name, value]) => html`<div><dt>${name}</dt><dd>${value ?? '–'}</dd></div>`)}</dl>
    <h3>Timeline</h3><ol class="timeline">${o.timeline.map(
      (
        s,
        i,
      ) => html`<li key=${i}><time datetime=${s.at}>${time(s.at)}</time> <b>${s.step}</b>${s.seen && html` <span class="note">(as it is now)</span>`}${' '}<span>${s.detail}</span>${s.node && html` <span class="note">on ${s.node}</span>`}${s.request_id && html` <span class="note id">${s.request_id}</span>`}</li>`,
    )}</ol>
    <h3>Payments</h3><${Table} label="Payments" rows=${o.payments} rowKey=${(p) => `${p.payment} ${p.state} ${p.problem}`} empty="No payment came." columns=${[
      { head: 'Payment', cell: (p) => html`<b>${p.payment}</b>` },
      { head: 'Amount', number: true, cell: (p) => money(p.amount, p.currency) },
      {
        head: 'State',
        cell: (p) =>
          html`<${Tag} kind=${{ booked: 'good', due: 'critical', refused: 'warning' }[p.state] ?? 'plain'}>${p.state}<//> ${p.cause ?? p.problem ?? ''}${p.count > 1 ? ` ${p.count} times` : ''}`,
      },
      { head: 'At', cell: (p) => time(p.at) },
      {
        head: 'Went back',
        cell: (p) => (p.done_at ? `${time(p.done_at)} by ${p.done_by ?? '–'}, ${p.reference ?? ''}` : null),
      },
    ]} /><//>`}<//>`;
}

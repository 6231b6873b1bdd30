// Money: refunds that are due, refunds that are done, and the time that buyers have to pay.
import { html, useState } from './lib.js';
import { get, post, query, segments } from './api.js';
import { live, useLive } from './live.js';
import { Loaded, Section, Table, Tag, calm, useBound, useGet } from './ui.js';
import { Action, reason } from './action.js';
import { extend } from './tonight.js';
import { change } from './switches.js';
import { count, flag, money, plural, rate, time } from './text.js';

const causes = {
  late: 'came for a cancelled order',
  second: 'a second payment for a paid order',
  'wrong-amount': "not the order's price",
  rejected: 'its order was rejected',
};

// done records that the provider sent money back. It sends the amount that is shown, so the API can
// refuse another one.
const done = (r, again) => ({
  title: `Payment ${r.payment} went back`,
  verb: 'Mark as refunded',
  role: 'finance',
  effect: () => `It moves no money. It records that the provider sent ${money(r.amount, r.currency)} back.`,
  fields: [
    {
      name: 'reference',
      label: 'Reference of the refund',
      required: true,
      most: 200,
      help: "The provider's reference.",
    },
    reason,
  ],
  ctl: (v) => [
    'refunds',
    'done',
    r.payment,
    flag('reference', v.reference || 'REFERENCE'),
    flag('merchant', r.merchant),
    flag('amount', r.amount),
    flag('currency', r.currency),
    flag('reason', v.reason),
  ],
  send: (v) =>
    post(segments('refunds', r.payment, 'done'), {
      reference: v.reference,
      merchant: r.merchant,
      amount: r.amount,
      currency: r.currency,
      reason: v.reason,
    }),
  done: (a) => `${a.payment} is ${a.state}${a.order_status ? `; its order is ${a.order_status}` : ''}.`,
  after: again,
});

function Refunds() {
  const [state, set] = useState('due');
  const of = useGet(
    async (signal) => {
      const first = await get(`${segments('refunds')}${query({ state })}`, { signal });
      return { sum: first.sum, rows: first.refunds, more: Boolean(first.next) };
    },
    10,
    `refunds ${state}`,
  );
  return html`<${Section} title=${state === 'due' ? 'Due back' : 'Went back'} actions=${html`<div class="tabs" role="group" aria-label="Which refunds">${[
    ['due', 'due'],
    ['done', 'done'],
  ].map(
    ([v, text]) => html`
      <button type="button" aria-pressed=${state === v} onClick=${() => set(v)}>${text}</button>`,
  )}</div>`}>
    <${Loaded} of=${of}>${(doc) => html`
      ${
        doc.sum.length
          ? html`<ul class="sums">${doc.sum.map(
              (s) =>
                html`<li key=${s.currency}><b>${money(s.amount, s.currency)}</b> in ${plural(s.count, 'payment')}: ${s.by
                  .map(
                    (b) =>
                      `${b.merchant}, ${causes[b.cause] ?? b.cause}: ${money(b.amount, s.currency)} (${count(b.count)})`,
                  )
                  .join('; ')}</li>`,
            )}</ul>`
          : html`<p class="note">Nothing.</p>`
      }
      <${Table} label="Refunds" rows=${doc.rows} rowKey=${(r) => `${r.merchant} ${r.payment}`} empty="" columns=${[
        { head: 'Payment', cell: (r) => html`<b>${r.payment}</b>` },
        { head: 'Merchant', cell: (r) => r.merchant },
        { head: 'Amount', number: true, cell: (r) => money(r.amount, r.currency) },
        {
          head: 'Because',
          wide: true,
          cell: (r) => html`<${Tag} kind="plain">${r.cause}<//> ${causes[r.cause] ?? ''}`,
        },
        { head: 'Since', cell: (r) => time(r.since) },
        { head: 'Order', cell: (r) => html`<a class="id" href=${`#/orders/${r.order}`}>${r.order}</a>` },
        state === 'due'
          ? {
              head: '',
              cell: (r) =>
                html`<${Action} role="finance" kind="small" action=${done(r, of.again)}>Mark as refunded</${Action}>`,
            }
          : { head: 'Went back', cell: (r) => `${time(r.done_at)} by ${r.done_by ?? '–'}, ${r.reference ?? ''}` },
      ]} />${doc.more && html`<p class="note">There are more: penstock ctl refunds list shows all.</p>`}`}<//><//>`;
}

const timeouts = {
  name: 'timeouts',
  value: 'on',
  default: 'on',
  values: 'on, held',
  effect:
    "While it is held, no order is cancelled for lack of payment. Use it while a payment provider can't be reached.",
};

function Timeouts() {
  const bound = useBound();
  const set = live.snapshot?.switches.filter((w) => w.switch === 'timeouts') ?? [];
  const sales = calm(live.snapshot?.activities ?? []);
  return html`<${Section} title="Time to pay" note="While a payment provider is away, hold the timeouts, and give open orders more time when it is back."
      actions=${html`<${Action} role="operator" action=${change(timeouts, live.snapshot, bound)}>Hold timeouts</${Action}>`}>
    ${set.length > 0 && html`<ul>${set.map((w) => html`<li><${Tag} kind="warning">${w.value}<//> for ${w.scope || 'everybody'}, by ${w.by}: ${w.reason}</li>`)}</ul>`}
    <div class="actions">${sales
      .filter((a) => a.state !== 'scheduled')
      .slice(0, 10)
      .map(
        (a) =>
          html`<${Action} key=${a.activity} role="operator" action=${extend(a.activity)}>More time for ${a.activity}</${Action}>`,
      )}</div><//>`;
}

// Paid shows paid and unpaid units, from the live view.
function Paid() {
  const s = live.snapshot;
  if (!s) return null;
  return html`<${Section} title="Now"><${Table} label="Paid and held units" rows=${calm(s.activities)} rowKey=${(a) => a.activity} empty="No activity." columns=${[
    { head: 'Activity', cell: (a) => html`<b>${a.name || a.activity}</b>` },
    { head: 'Units paid', number: true, cell: (a) => (a.ledger.at ? count(a.ledger.sold) : null) },
    { head: 'Units not paid yet', number: true, cell: (a) => (a.ledger.at ? count(a.ledger.held) : null) },
    { head: 'Paid', number: true, cell: (a) => rate(a.rates.paid) },
    { head: 'Cancelled', number: true, cell: (a) => rate(a.rates.cancelled) },
  ]} /><//>`;
}

export function Money() {
  useLive();
  return html`<${Paid} /><${Refunds} /><${Timeouts} />`;
}

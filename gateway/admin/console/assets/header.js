// The top of every screen: the clock, everything that isn't normal, the last change, the age of the
// data, and the red button.
import { html, useState } from './lib.js';
import { age, live, now, secondsTo, useLive } from './live.js';
import { Left, Tag, calm, useBound } from './ui.js';
import { Action } from './action.js';
import { letIn, stopOrders } from './switches.js';
import { count, countdown, millis, span, time } from './text.js';

// SaleClock counts down to the next sale, and up from the start of the running one.
function SaleClock() {
  const all = calm(live.snapshot?.activities ?? []);
  const until = (a, at) => secondsTo(a[at]);
  const running = all.find((a) => a.state === 'on-sale' || a.state === 'paused');
  const next = all.find((a) => a.state === 'scheduled');
  const one = running ?? next;
  return html`<div class="clock"><span class="wallTime">${time(now())}</span>
    ${
      one &&
      html`<span class="tee" role="timer">${one === running ? 'T+' : 'T−'} ${countdown(until(one, 'starts_at'))}</span>
      <span class="of">${one.name || one.activity}${one === running && html`, ends in <${Left} until=${one.ends_at} />`}</span>`
    }
    ${running && next && html`<span class="of">next: ${next.name || next.activity} T− ${countdown(until(next, 'starts_at'))}</span>`}</div>`;
}

// Freshness shows the age of the numbers, and the nodes whose numbers are missing.
function Freshness() {
  const s = live.snapshot;
  const old = age();
  if (live.state === 'refused') return html`<p class="fresh warning" role="status">No live data: ${live.problem}</p>`;
  if (!s)
    return html`<p class="fresh note" role="status">${live.problem ? `No live data yet: ${live.problem}` : 'Waiting for live data …'}</p>`;
  const broken = live.state === 'broken' || old > 3;
  return html`<p class=${`fresh ${broken ? 'warning' : 'note'}`}>
    ${broken ? html`<strong>The data is ${span(old)} old.</strong> ${live.problem} Trying again.` : html`Data: ${old < 1 ? 'now' : `${Math.floor(old)} s old`}`}
    ${s.missing.length > 0 && html` · <strong>Missing: ${s.missing.join(', ')}.</strong>`}
    ${!s.complete && s.missing.length === 0 && html` <strong>Not complete.</strong>`}</p>`;
}

const words = { critical: 'critical', warning: 'warning', info: 'note' };

// Runbook is a link to the entry for a finding.
export const Runbook = ({ of }) =>
  of && html` <a href=${`#/runbook/${encodeURIComponent(of.split('#')[1] ?? '')}`}>runbook</a>`;

// said reports whether a finding's text names its subject, whole or in part.
const said = ({ subject, text }) => !subject || subject.split(/[/ ]/).every((part) => text.includes(part));

function Finding({ of }) {
  return html`<li class=${of.severity}><${Tag} kind=${of.severity}>${words[of.severity] ?? of.severity}<//>
    <span>${of.text}${!said(of) && html` <span class="note">(${of.subject})</span>`}
    ${of.since && html` <span class="note">since ${time(of.since)}</span>`}
    ${of.until && html` · ends in <${Left} until=${of.until} />`}<${Runbook} of=${of.runbook} />
    ${of.ctl && html` <code class="line">${of.ctl}</code>`}</span></li>`;
}

// stops are the switches that stop orders. They are shown separately from the others.
const stops = (s) => s?.switches.filter((w) => w.switch === 'orders' && w.value === 'off') ?? [];

// Findings are the things that aren't normal, the worst first.
function Findings() {
  const [all, setAll] = useState(false);
  if (!live.snapshot) return null;
  const shownAbove = (f) => f.kind === 'switch-set' && stops(live.snapshot).some((w) => f.subject === `orders ${w.scope}`.trim());
  const found = live.snapshot.abnormal.filter((f) => !shownAbove(f)); // the server has the worst first
  if (!found.length) return html`<p class="well"><${Tag} kind="good">normal<//> Nothing is out of the ordinary.</p>`;
  const room = matchMedia('(max-width: 40rem)').matches ? 2 : 3; // on a phone the screen begins below
  const some = all ? found : found.slice(0, room);
  return html`<ul class="findings" aria-label="What isn't normal">${some.map((f) => html`<${Finding} key=${`${f.kind} ${f.subject}`} of=${f} />`)}
    ${
      found.length > room &&
      html`<li><button type="button" class="small" aria-expanded=${all} onClick=${() => setAll(!all)}>
      ${all ? 'fewer' : `${found.length - room} more`}</button></li>`
    }</ul>`;
}

// Announce tells a screen reader when the findings change. It does not speak every second.
function Announce() {
  const s = live.snapshot;
  const kinds = s?.abnormal.filter((f) => f.severity !== 'info').map((f) => f.text) ?? [];
  const text =
    live.state === 'broken'
      ? 'Live data has stopped.'
      : kinds.length
        ? `${kinds.length} not normal: ${kinds[0]}`
        : s
          ? 'All is normal.'
          : '';
  return html`<p class="quiet" role="status" aria-live="polite">${text}</p>`;
}

// Stopped is one scope whose orders are stopped.
const Stopped = ({ of }) => html`<div class="stopped" role="group" aria-label="Orders are stopped">
  <p><strong>Orders are stopped ${of.scope ? `for ${of.scope.replace('=', ' ')}` : 'for everybody'}</strong>${of.since && ` since ${time(of.since)}`}${of.by && ` by ${of.by}`}${
    of.reason && `: ${of.reason}`
  }. ${of.expires ? html`They go on by themselves in <${Left} until=${of.expires} />.` : 'It has no end.'}</p>
  <${Action} role="operator" action=${letIn(of.scope)} kind="go">Let orders in</${Action}></div>`;

export function Header() {
  useLive();
  const s = live.snapshot;
  const bound = useBound();
  const stopped = stops(s);
  return html`<div class="now">
    <div class="nowTop"><${SaleClock} />
      ${
        s &&
        html`<p class="totals"><b>${count(s.totals.accepted)}</b> orders/s · level <b>${s.level || 'D0'}</b> · answered in <b>${
          s.latency.p99 === null ? '–' : millis(s.latency.p99)
        }</b> (p99)</p>`
      }
      <div class="stop"><${Action} role="operator" kind="danger stopButton" action=${stopOrders(s, bound)}>Stop orders</${Action}></div></div>
    ${stopped.map((w) => html`<${Stopped} key=${w.scope} of=${w} />`)}
    <${Findings} />
    <div class="nowBottom"><${Freshness} />
      ${
        s?.last_change &&
        html`<p class="note">Last change: <a href="#/changes">${s.last_change.text}</a> by ${s.last_change.by}, ${span(
          -secondsTo(s.last_change.at),
        )} ago</p>`
      }</div>
    <${Announce} /></div>`;
}

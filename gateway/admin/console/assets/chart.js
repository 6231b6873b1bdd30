// Charts of the last 15 minutes. A chart is a picture, with a sentence that says the same, and a
// table of the numbers.
import uPlot from './vendor/uplot.js';
import { html, useEffect, useRef } from './lib.js';
import { count, rate, time, unknown } from './text.js';

// colour is the present value of a CSS variable, in light or dark.
function colour(name) {
  const probe = document.createElement('span');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// faint is a colour that lets the grid through.
const faint = (rgb) => rgb.replace('rgb(', 'rgba(').replace(')', ', 0.6)');

const clock = new Intl.DateTimeFormat('sv', { timeStyle: 'medium' });

// incrs are the steps of the time axis, in seconds.
const incrs = [1, 2, 5, 10, 15, 30, 60, 120, 180, 300, 600];

// options returns the options of uPlot. series: [{ label, colour, fill }].
function options(width, height, series, stacked) {
  const size = Math.round(0.8 * parseFloat(getComputedStyle(document.body).fontSize)); // the text of the wall view is larger
  const axis = {
    stroke: colour('quiet'),
    grid: { stroke: colour('line'), width: 1 },
    ticks: { stroke: colour('line') },
    font: `${size}px system-ui`,
  };
  return {
    width,
    height,
    padding: [10, 30, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [
      { ...axis, space: 7 * size, size: 3 * size, incrs, values: (_, at) => at.map((s) => clock.format(s * 1000)) },
      { ...axis, size: 4.4 * size, values: (_, ns) => ns.map((n) => (Number.isInteger(n) ? count(n) : n.toFixed(1))) },
    ],
    series: [
      {},
      ...series.map((s) => ({
        stroke: colour(s.colour),
        width: stacked ? 0 : 2, // in a stack, the line of a zero value would cover the lines below it
        fill: stacked ? faint(colour(s.colour)) : undefined,
        points: { show: false },
      })),
    ],
    bands: stacked ? series.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })) : undefined,
  };
}

// Chart draws lines, or a stack. points come from the live history. series: [{ label, colour,
// of(point) }]; in a stack, the lowest comes first.
export function Chart({ title, points, series, stacked = false, height = 140, unit = rate }) {
  const box = useRef(null);
  const plot = useRef(null);
  const columns = series.map((s) => points.map((p) => s.of(p) ?? null));
  const data = stacked ? stack(columns) : columns;
  const latest = useRef(null);
  latest.current = [points.map((p) => p.at), ...data];
  const shape = series.map((s) => s.label).join('|');
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(
        options(Math.max(200, box.current.clientWidth), height, series, stacked),
        [[], ...series.map(() => [])],
        box.current,
      );
    };
    make();
    const resized = new ResizeObserver(
      () => box.current && plot.current?.setSize({ width: Math.max(200, box.current.clientWidth), height }),
    );
    resized.observe(box.current);
    const redrawn = () => {
      make();
      plot.current.setData(latest.current);
    };
    document.addEventListener('theme', redrawn);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', redrawn);
    return () => {
      resized.disconnect();
      document.removeEventListener('theme', redrawn);
      dark.removeEventListener('change', redrawn);
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape, height, stacked]);
  useEffect(() => {
    plot.current?.setData(latest.current);
  });
  const last = points.at(-1);
  const says = last
    ? series.map((s, i) => `${s.label} ${unit(s.of(last))} now, at most ${unit(most(columns[i]))}`).join('; ')
    : 'no data yet';
  return html`<figure class="chart"><figcaption>${title}<span class="legend">${series.map(
    (s) => html`
      <span><i class=${`dot ${s.colour}`}></i>${s.label} <b>${last ? unit(s.of(last)) : unknown}</b></span>`,
  )}</span></figcaption>
    <div ref=${box} class="plot" role="img" aria-label=${`${title}: ${says}. The table has the numbers.`}></div>
    <details><summary>${title} as a table</summary><${Numbers} title=${title} points=${points} series=${series} unit=${unit} /></details></figure>`;
}

const most = (values) => values.reduce((a, b) => (b === null ? a : Math.max(a, b)), 0);

// stack adds each column to those below it.
function stack(columns) {
  const sums = columns[0]?.map(() => 0) ?? [];
  return columns.map((column) => column.map((v, i) => (sums[i] += v ?? 0)));
}

// RefusedChart is the stack of refusals, by reason.
export function RefusedChart({ title, points, height }) {
  const series = reasons(points);
  if (!series.length)
    return html`<figure class="chart"><figcaption>${title}</figcaption><p class="note">Nothing was refused in the last 15 minutes.</p></figure>`;
  return html`<${Chart} title=${title} points=${points} height=${height} stacked=${true} series=${series} />`;
}

// Numbers is the table of a chart: the last ten seconds.
function Numbers({ title, points, series, unit }) {
  return html`<div class="scroll" role="region" aria-label=${`${title}, the last ten seconds`} tabindex="0"><table>
    <thead><tr><th scope="col">time</th>${series.map((s) => html`<th scope="col" class="number">${s.label}</th>`)}</tr></thead>
    <tbody>${points
      .slice(-10)
      .reverse()
      .map(
        (p) => html`<tr key=${p.at}><td>${time(p.at * 1000)}</td>
      ${series.map((s) => html`<td class="number">${unit(s.of(p))}</td>`)}</tr>`,
      )}</tbody></table></div>`;
}

// usual are the colours of frequent reasons. Each has the same colour in every chart.
const usual = { 'sold-out': 'c6', 'rate-limited': 'c4', 'purchase-limit': 'c3', overloaded: 'c5', unavailable: 'c1', degraded: 'c2' };

// colourOf is the colour of a reason: its own colour, or one that no other reason in this chart
// has.
function colourOf(code, taken) {
  const mine = taken.has(usual[code]) || !usual[code] ? ['c1', 'c2', 'c5', 'c4', 'c3', 'c6'].find((c) => !taken.has(c)) : usual[code];
  taken.add(mine);
  return mine;
}

// reasons are the series of refusals by reason that occur in these points.
function reasons(points) {
  const known = new Map();
  for (const p of points)
    for (const [code, n] of Object.entries(p.refused ?? {})) known.set(code, (known.get(code) ?? 0) + n);
  const sorted = [...known]
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([code]) => code);
  const shown = sorted.length > 6 ? sorted.slice(0, 5) : sorted;
  const taken = new Set();
  const series = shown.map((code) => ({ label: code, colour: colourOf(code, taken), of: (p) => p.refused?.[code] ?? 0 }));
  if (shown.length < sorted.length) {
    series.push({
      label: 'others',
      colour: colourOf('others', taken),
      of: (p) => sorted.slice(5).reduce((n, code) => n + (p.refused?.[code] ?? 0), 0),
    });
  }
  return series;
}

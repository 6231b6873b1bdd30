// The runbook: the entry for a finding, from the server.
import { html } from './lib.js';
import { clean } from './text.js';
import { Loaded, useGet } from './ui.js';

// slug is the anchor of a heading in links.
const slug = (heading) =>
  heading
    .toLowerCase()
    .replaceAll('`', '')
    .replace(/[^a-z0-9 _-]/g, '')
    .trim()
    .replaceAll(' ', '-');

// entries splits the text at its headings.
function entries(text) {
  const parts = text.split(/^(?=#{2,3} )/m).slice(1);
  return parts.map((part) => {
    const end = part.indexOf('\n');
    const heading = part.slice(0, end).replace(/^#+ /, '');
    return { heading, slug: slug(heading), body: part.slice(end).trim() };
  });
}

const read = async (signal) => {
  const response = await fetch('/runbook', { signal });
  if (!response.ok) throw new Error(`The runbook can't be read: HTTP ${response.status}.`);
  return entries(clean(await response.text()));
};

// words shows a text with its bold and code parts. Links to other pages are shown as their text.
const words = (line) =>
  line
    .replace(/\[([^\]]+)\]\([^)]+\)/g, '$1')
    .split(/(\*\*[^*]+\*\*|`[^`]+`)/)
    .map((w) =>
      w.startsWith('**')
        ? html`<b>${w.slice(2, -2)}</b>`
        : w.startsWith('`')
          ? html`<code>${w.slice(1, -1)}</code>`
          : w,
    );

// blocks splits an entry into texts, lists, tables and code. Lines that were only wrapped are
// joined.
export function blocks(text) {
  const out = [];
  let last = null;
  let fenced = false;
  const add = (kind, line) => (last?.kind === kind ? last.lines.push(line) : out.push((last = { kind, lines: [line] })));
  for (const line of text.split('\n')) {
    if (/^\s*```/.test(line)) {
      fenced = !fenced;
      last = null;
    } else if (fenced) add('code', line.replace(/^ {2}/, ''));
    else if (!line.trim()) last = null;
    else if (line.startsWith('- ')) add('list', line.slice(2));
    else if (line.startsWith('|')) add('table', line);
    else if (last?.kind === 'list' || last?.kind === 'text') last.lines.push(`${last.lines.pop()} ${line.trim()}`);
    else add('text', line.trim());
  }
  return out;
}

const cells = (row) => row.split('|').slice(1, -1).map((c) => c.trim());

// Block shows a part of an entry.
function Block({ of: { kind, lines } }) {
  if (kind === 'code') return html`<pre class="line">${lines.join('\n')}</pre>`;
  if (kind === 'list') return html`<ul>${lines.map((l) => html`<li>${words(l)}</li>`)}</ul>`;
  if (kind !== 'table') return html`<p>${words(lines[0])}</p>`;
  const rows = lines.filter((l) => !/^[|\s:-]+$/.test(l)).map(cells);
  return html`<div class="scroll" role="region" aria-label="Table" tabindex="0"><table>
    <thead><tr>${rows[0].map((c) => html`<th scope="col">${words(c)}</th>`)}</tr></thead>
    <tbody>${rows.slice(1).map((r) => html`<tr>${r.map((c) => html`<td>${words(c)}</td>`)}</tr>`)}</tbody></table></div>`;
}

export function RunbookScreen({ rest }) {
  const of = useGet(read, 0, 'runbook');
  const wanted = slug(decodeURIComponent(rest[0] ?? ''));
  return html`<${Loaded} of=${of}>${(all) => {
    const found =
      all.find((e) => e.slug === wanted) ??
      all.find((e) => e.slug.includes(wanted)) ??
      all.find((e) => e.body.includes(wanted));
    return html`${wanted && !found && html`<p class="warning" role="status">There is no entry ${wanted}.</p>`}
      ${wanted && found && html`<section class="part"><h2>${words(found.heading)}</h2>${blocks(found.body).map((b) => html`<${Block} of=${b} />`)}</section>`}
      <section class="part"><h2>All entries</h2><ul>${all.map((e) => html`<li><a href=${`#/runbook/${encodeURIComponent(e.slug)}`}>${words(e.heading)}</a></li>`)}</ul></section>`;
  }}<//>`;
}

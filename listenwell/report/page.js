"use strict";
// What a page does: tables sort, terms and points say what they mean, the contents fold on a phone, and on a report the
// threshold moves. All numbers come from the page itself.

// ---- Sortable tables: every head becomes a button. It sorts by its column, then the other way round, then as reported.
// Numbers sort by the first number of a cell, texts by the reader's alphabet; cells without a value stand last.
const ORDERS = ["ascending", "descending", null];
const alphabet = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const NUMBER = /[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?/;

function valueOf(row, column, isNumber) {
  const text = row.cells[column].textContent.trim().replaceAll("\u2212", "-");
  if (!isNumber) return text === "\u2013" ? "" : text;
  const found = text.match(NUMBER);
  return found === null ? null : Number(found[0].replaceAll(",", ""));
}

function compare(a, b) {
  return typeof a === "number" ? a - b : alphabet.compare(a, b);
}

function sorted(rows, column, isNumber, order) {
  if (order === null) return rows;
  const sign = order === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [valueOf(row, column, isNumber), row]);
  const isEmpty = (value) => value === null || value === "";
  keyed.sort(([a], [b]) => isEmpty(a) || isEmpty(b) ? isEmpty(a) - isEmpty(b) : sign * compare(a, b));
  return keyed.map(([, row]) => row);
}

function makeSortable(table) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length < 2) return;
  heads.forEach((head, column) => {
    if (head.textContent.trim() === "") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = ORDERS[(ORDERS.indexOf(head.getAttribute("aria-sort")) + 1) % ORDERS.length];
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (order !== null) head.setAttribute("aria-sort", order);
      body.append(...sorted(rows, column, head.classList.contains("number"), order));
    });
  });
}

// A share with its interval, "0.639 [0.476, 0.775]", gets a bar.
function addBar(cell) {
  const found = cell.textContent.match(/^\s*([\d.]+)\s+\[([\d.]+), ([\d.]+)\]\s*$/);
  if (found === null) return;
  const bar = document.createElement("i"), [value, low, high] = found.slice(1).map((share) => `${100 * share}%`);
  bar.className = "interval";
  ["--value", "--low", "--high"].forEach((name, i) => bar.style.setProperty(name, [value, low, high][i]));
  cell.append(bar);
}

document.querySelectorAll("[aria-labelledby=groups] td.number").forEach(addBar);
document.querySelectorAll("table").forEach(makeSortable);

// ---- The terms of the glossary: a link where one first stands in a section, a tip on a table's head. The glossary keeps
// those that the page uses.
const glossary = new Map([...document.querySelectorAll(".glossary > div")].map((entry) =>
  [entry.querySelector("dt").textContent.toLowerCase(), { entry, meaning: entry.querySelector("dd").textContent }]));
const named = [...glossary.keys()].sort((a, b) => b.length - a.length).join("|");
const used = new Set();

function findTerm(text, from = 0) {
  const pattern = new RegExp(`\\b(${named})s?\\b`, "gi");
  pattern.lastIndex = from;
  const found = pattern.exec(text);
  return found && { term: found[1].toLowerCase(), start: found.index, end: pattern.lastIndex };
}

function linkTerms(node, linked) {
  for (let found = findTerm(node.data); found; found = findTerm(node.data, found.end)) {
    if (linked.has(found.term)) continue;
    const { entry, meaning } = glossary.get(found.term), rest = node.splitText(found.start), link = document.createElement("a");
    const after = rest.splitText(found.end - found.start);
    Object.assign(link, { className: "term", href: `#${entry.id}` });
    link.dataset.tip = meaning;
    rest.replaceWith(link);
    link.append(rest);
    linked.add(found.term);
    used.add(entry);
    return linkTerms(after, linked);
  }
}

document.querySelectorAll("main section:not([aria-labelledby=glossary])").forEach((section) => {
  const linked = new Set(), texts = [];
  section.querySelectorAll("p:not(.verdict), .card li, .card small").forEach((each) =>
    texts.push(...[...each.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)));
  texts.forEach((node) => linkTerms(node, linked));
  section.querySelectorAll("thead th span").forEach((head) => {
    const found = findTerm(head.textContent);
    if (!found) return;
    head.dataset.tip = glossary.get(found.term).meaning;
    used.add(glossary.get(found.term).entry);
  });
});
glossary.forEach(({ entry }) => { entry.hidden = !used.has(entry); });
document.querySelectorAll("section[aria-labelledby=glossary], nav li:last-child").forEach((each) => { each.hidden = used.size === 0; });

// ---- What a term or a point means, at the pointer or below what has the focus; Escape takes it away.
const tip = document.getElementById("tip");
let explained = null;

function placeTip() {
  tip.hidden = !explained;
  if (tip.hidden) return;
  tip.textContent = explained.dataset.tip;
  const place = explained.getBoundingClientRect(), below = place.bottom + 6;
  tip.style.left = `${Math.max(8, Math.min(place.left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${below + tip.offsetHeight > innerHeight ? place.top - tip.offsetHeight - 6 : below}px`;
}

function explain(element) {
  explained = element;
  placeTip();
}

const explainedIn = (target) => target.closest("[data-tip]") ?? target.querySelector(":scope > [data-tip]");
document.addEventListener("pointerover", (event) => explain(event.target.closest("[data-tip]")));
document.addEventListener("focusin", (event) => explain(explainedIn(event.target)));
document.addEventListener("focusout", () => explain(null));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") explain(null); });
document.addEventListener("scroll", placeTip, true);

// ---- The contents stand open where there is room beside the text.
const isWide = matchMedia("(min-width: 72rem)"), contents = document.querySelector("nav details");
const openContents = () => { contents.open = isWide.matches; };
isWide.addEventListener("change", openContents);
openContents();

// ---- The threshold. A clip counts as speech where its score is at least the threshold.
const SHOWN_ERRORS = 15, N_BINS = 40;
const sum = (values) => values.reduce((a, b) => a + b, 0);
const percent = (n, of) => `${(100 * n / of).toFixed(1)} %`;
const signed = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;

function make(tag, attributes = {}, ...children) {
  const isDrawing = ["svg", "g", "path", "rect", "circle", "line", "text"].includes(tag);
  const made = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

// The scored clips of a condition; "noisy" is all conditions with noise together.
function rowsOf(set, name) {
  const chosen = set.conditions.filter((each) => name === "noisy" ? each.is_noisy : each.name === name);
  return chosen.flatMap((condition) => condition.scores.map((score, i) => {
    const [clip, group, isSpeech] = set.clips[i];
    return { score, clip, group, isSpeech, condition };
  })).filter((row) => row.score !== null);
}

function count(rows, threshold) {
  const counts = { hits: 0, misses: 0, alarms: 0, rejections: 0 };
  rows.forEach(({ score, isSpeech }) => {
    counts[score >= threshold ? (isSpeech ? "hits" : "alarms") : (isSpeech ? "misses" : "rejections")] += 1;
  });
  const speech = counts.hits + counts.misses, others = counts.alarms + counts.rejections;
  const tpr = counts.hits / speech, fpr = counts.alarms / others;
  return { ...counts, speech, others, tpr, fpr, balanced: (tpr + 1 - fpr) / 2 };
}

// The corners of the operating curve, clips of equal score together: [fpr, tpr].
function curveOf(rows) {
  const ranked = [...rows].sort((a, b) => b.score - a.score), points = [[0, 0]];
  const speech = rows.filter((row) => row.isSpeech).length, others = rows.length - speech;
  let hits = 0, alarms = 0;
  ranked.forEach((row, i) => {
    if (row.isSpeech) hits += 1; else alarms += 1;
    if (i + 1 === ranked.length || ranked[i + 1].score !== row.score) points.push([alarms / others, hits / speech]);
  });
  return points;
}

// The normal deviate of a rate, to 0.0005 (Abramowitz & Stegun 26.2.23): DET scales, Martin et al. 1997.
function deviate(rate) {
  const t = Math.sqrt(-2 * Math.log(Math.min(rate, 1 - rate)));
  const z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  return rate < 0.5 ? -z : z;
}

// A square plot. x, y: value -> share of the width and height; marks: drawn from the values' places.
function plot(title, xLabel, yLabel, ticks, x, y, marks) {
  const px = (value) => 44 + 248 * x(value), py = (value) => 258 - 240 * y(value);
  const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${px(a).toFixed(1)},${py(b).toFixed(1)}`).join("");
  const drawn = [
    make("text", { x: 44, y: 12, class: "title" }, title),
    make("path", { class: "axis", d: "M44,18V258H292" }),
    make("text", { x: 168, y: 292, "text-anchor": "middle" }, xLabel),
    make("text", { x: -138, y: 2, "text-anchor": "middle", transform: "rotate(-90)" }, yLabel),
    ...ticks.x.map(([value, label]) => make("text", { x: px(value), y: 274, "text-anchor": "middle" }, label)),
    ...ticks.y.map(([value, label]) => make("text", { x: 39, y: py(value) + 4, "text-anchor": "end" }, label)),
    ...marks.map((mark) => mark(path, px, py)),
  ];
  const figure = make("figure");
  figure.append(make("svg", { viewBox: "-10 0 316 300", role: "img", "aria-label": title }, ...drawn));
  return figure;
}

const dot = ([a, b], line, name, tipText) => (path, px, py) =>
  make("circle", { cx: px(a), cy: py(b), r: name ? 6 : 4, class: name, fill: `var(--line-${line})`, "data-tip": tipText });
const curve = (points, line, dash) => (path) =>
  make("path", { d: path(points), class: "curve", stroke: `var(--line-${line})`, "stroke-dasharray": dash });

function drawRoc(shown, now, delivered) {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((value) => [value, value]);
  const same = (value) => value;
  return plot("ROC", "False-alarm rate", "Speech found", { x: ticks, y: ticks }, same, same, [
    curve([[0, 0], [1, 1]], 1, "1 4"),
    ...shown.opponents.map((each) => curve(each.fpr.map((fpr, i) => [fpr, each.tpr[i]]), each.line, "5 3")),
    ...shown.opponents.map((each) => dot(each.mark, each.line, "", each.title)),
    curve(shown.curve, 2, "none"),
    dot([delivered.fpr, delivered.tpr], 2, "delivered", "Delivered threshold"),
    dot([now.fpr, now.tpr], 2, "now", "Threshold of the slider"),
  ]);
}

function drawDet(shown, now, delivered) {
  const clip = (rate, n) => Math.min(Math.max(rate, 0.5 / n), 1 - 0.5 / n);
  const low = deviate(0.4 / Math.max(now.speech, now.others)), high = deviate(0.97);
  const share = (z) => Math.min(1, (z - low) / (high - low));
  const place = ([fpr, tpr]) => [deviate(clip(fpr, now.others)), deviate(clip(1 - tpr, now.speech))];
  const rates = [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95].filter((rate) => deviate(rate) > low);
  const ticks = rates.map((rate) => [deviate(rate), 100 * rate]);
  const wanted = (points) => points.map(place).filter(([a, b]) => a <= high && b <= high);
  return plot("DET: lower left is better", "False-alarm rate (%)", "Miss rate (%)", { x: ticks, y: ticks }, share, share, [
    ...shown.opponents.map((each) => curve(wanted(each.fpr.map((fpr, i) => [fpr, each.tpr[i]])), each.line, "5 3")),
    ...shown.opponents.map((each) => dot(place(each.mark), each.line, "", each.title)),
    curve(wanted(shown.curve), 2, "none"),
    dot(place([delivered.fpr, delivered.tpr]), 2, "delivered", "Delivered threshold"),
    dot(place([now.fpr, now.tpr]), 2, "now", "Threshold of the slider"),
  ]);
}

function drawScores(shown, threshold, delivered) {
  const { low, high } = shown, width = (high - low) / N_BINS;
  const bins = [true, false].map((isSpeech) => {
    const counts = new Array(N_BINS).fill(0), scores = shown.rows.filter((row) => row.isSpeech === isSpeech);
    scores.forEach(({ score }) => { counts[Math.min(N_BINS - 1, Math.floor((score - low) / width))] += 1 / scores.length; });
    return counts;
  });
  const most = Math.max(...bins.flat());
  const step = Math.ceil((high - low) / 6), from = Math.ceil(low / step), ticks = [];
  for (let k = from; k * step <= high; k += 1) ticks.push([k * step, k * step]);
  const bars = bins.flatMap((counts, k) => counts.map((share, i) => (path, px, py) => make("rect", {
    x: px(low + i * width), width: 248 / N_BINS - 0.5, class: "bar", fill: `var(--line-${k ? 3 : 2})`,
    y: k ? py(0) : py(share), height: 120 * share / most,
    "data-tip": `${percent(share, 1)} of the ${k ? "other" : "speech"} clips`,
  })));
  const upright = (value, name) => (path, px) => make("line", { x1: px(value), x2: px(value), y1: 18, y2: 258, class: name });
  const y = { x: ticks, y: [[most / 2, "speech"], [-most / 2, "other"]] };
  return plot("Scores of both classes", "Score (logit)", "", y, (score) => (score - low) / (high - low),
    (share) => 0.5 + share / most / 2, [...bars, upright(delivered, "delivered"), upright(threshold, "now")]);
}

// The share of speech in every bin of the probabilities that the map of dev gives: honest ones lie on the dotted line.
function drawReliability(bins) {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((value) => [value, value]), same = (value) => value;
  const points = bins.map((bin) => [bin.mean_probability, bin.speech_share]);
  return plot("Reliability on clean clips", "Probability of speech given", "Share that was speech", { x: ticks, y: ticks },
    same, same, [
      curve([[0, 0], [1, 1]], 1, "1 4"),
      curve(points, 2, "none"),
      ...bins.map((bin) => curve([[bin.mean_probability, bin.share_low], [bin.mean_probability, bin.share_high]], 2, "none")),
      ...bins.map((bin, i) => dot(points[i], 2, "", `${bin.n} clips: ${percent(bin.speech_share, 1)} were speech`)),
    ]);
}

function tableOf(caption, heads, rows) {
  const line = (tag, cells) => make("tr", {}, ...cells.map((cell, i) =>
    make(i === 0 && tag === "td" ? "th" : tag, tag === "th" ? { scope: "col" } : i === 0 ? { scope: "row" } : {}, cell)));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, line("th", heads)),
    make("tbody", {}, ...rows.map((cells) => line("td", cells))));
}

function drawCounts({ hits, misses, alarms, rejections, speech, others }) {
  return tableOf("Confusion matrix", ["Clips", "called speech", "called other"], [
    [`${speech} of speech`, `${hits} (${percent(hits, speech)})`, `${misses} (${percent(misses, speech)})`],
    [`${others} of others`, `${alarms} (${percent(alarms, others)})`, `${rejections} (${percent(rejections, others)})`],
  ]);
}

// The errors, the one furthest beyond the threshold first; a sound that is on the page plays here.
function drawErrors(set, rows, threshold) {
  const players = new Map([...document.querySelectorAll("audio[data-key]")].map((each) => [each.dataset.key, each]));
  const wrong = rows.filter((row) => (row.score >= threshold) !== row.isSpeech)
    .sort((a, b) => Math.abs(b.score - threshold) - Math.abs(a.score - threshold));
  const cells = wrong.slice(0, SHOWN_ERRORS).map((row) => {
    const player = players.get(`${set.name}/${row.condition.name}/${row.clip}`);
    const button = make("button", { type: "button", "aria-label": `Play ${row.clip}` }, "\u25b6");
    button.addEventListener("click", () => player.paused ? player.play() : player.pause());
    return [row.clip, row.group, row.isSpeech ? "speech" : "other", row.condition.title, signed(row.score),
      player === undefined ? "" : button];
  });
  const shown = wrong.length > SHOWN_ERRORS ? `, the first ${SHOWN_ERRORS}` : "";
  return tableOf(`${wrong.length} errors of ${rows.length}${shown}`, ["Clip", "Group", "Is", "Condition", "Score", "Sound"], cells);
}

function startExplorer(root) {
  const { sets } = JSON.parse(root.querySelector("script").textContent);
  const field = (name) => root.querySelector(`[name=${name}]`), place = (name) => root.querySelector(`.${name}`);
  const option = (value, text) => make("option", { value }, text);
  let shown, threshold;

  function draw() {
    const delivered = shown.set.threshold, now = count(shown.rows, threshold), then = count(shown.rows, delivered);
    field("threshold").value = threshold;
    if (document.activeElement !== field("value")) field("value").value = Number(threshold.toFixed(4));
    place("reading").textContent = `Balanced accuracy ${now.balanced.toFixed(3)} at ${signed(threshold)}, ` +
      `${then.balanced.toFixed(3)} at the delivered threshold ${signed(delivered)}. ` +
      `Speech found ${now.tpr.toFixed(3)}, other sounds rejected ${(1 - now.fpr).toFixed(3)}.`;
    place("plots").replaceChildren(drawScores(shown, threshold, delivered), drawRoc(shown, now, then), drawDet(shown, now, then));
    place("counts").replaceChildren(drawCounts(now), shown.legend,
      ...(shown.set.reliability.length ? [drawReliability(shown.set.reliability)] : []));
    place("wrong").replaceChildren(drawErrors(shown.set, shown.rows, threshold));
  }

  function choose() {
    const set = sets[field("set").value], name = field("condition").value, rows = rowsOf(set, name);
    const opponents = set.opponents.filter((each) => each.condition === name);
    const scores = rows.map((row) => row.score);
    const low = Math.min(...scores, set.threshold) - 0.01, high = Math.max(...scores, set.threshold) + 0.01;
    const legend = make("ul", { class: "legend" }, ...[{ title: "Fine-tuned model", line: 2 }, ...opponents].map((each) =>
      make("li", { style: `--line: var(--line-${each.line})` }, each.title)));
    shown = { set, rows, opponents, low, high, legend, curve: curveOf(rows) };
    Object.assign(field("threshold"), { min: low, max: high });
    threshold ??= set.threshold;
    draw();
  }

  function chooseSet() {
    const { conditions } = sets[field("set").value], before = field("condition").value;
    const noisy = conditions.filter((each) => each.is_noisy).length > 0 ? [{ name: "noisy", title: "noisy, all levels" }] : [];
    field("condition").replaceChildren(...[...conditions, ...noisy].map((each) => option(each.name, each.title)));
    if ([...field("condition").options].some((each) => each.value === before)) field("condition").value = before;
    choose();
  }

  field("set").replaceChildren(...sets.map((set, i) => option(i, set.title)));
  field("set").addEventListener("change", chooseSet);
  field("condition").addEventListener("change", choose);
  ["threshold", "value"].forEach((name) => field(name).addEventListener("input", (event) => {
    if (event.target.value !== "") { threshold = Number(event.target.value); draw(); }
  }));
  field("delivered").addEventListener("click", () => { threshold = shown.set.threshold; draw(); });
  root.hidden = false;
  chooseSet();
}

document.querySelectorAll(".explorer").forEach(startExplorer);

"use strict";

const report = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["--first", "--second", "--third", "--fourth", "--fifth"]; // of the best runs; all others are muted
const SWAY = 0.618034; // multiples of the golden ratio spread points evenly over a category's width

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const plain = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;"); // plotly reads texts as HTML
const shortened = text => plain(text.length > 20 ? "…" + text.slice(-19) : text);

function sortBy(head) {
  const column = head.cellIndex, body = head.closest("table").tBodies[0];
  const direction = head.ariaSort === "ascending" ? "descending" : "ascending";
  const sign = direction === "ascending" ? 1 : -1;
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...body.rows].map(row => [key(row), row]);
  rows.sort(([a], [b]) => a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b));
  body.append(...rows.map(([, row]) => row));
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
}

function compare(a, b) {
  const difference = Number(a) - Number(b);
  return Number.isNaN(difference) ? a.localeCompare(b, undefined, { numeric: true }) : difference;
}

async function copy(button) {
  const code = button.nextElementSibling;
  getSelection().selectAllChildren(code); // what can be copied by hand where the browser refuses
  await navigator.clipboard.writeText(code.textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

document.addEventListener("click", event => {
  if (event.target.matches("th button")) sortBy(event.target.closest("th"));
  if (event.target.matches(".copy")) copy(event.target);
});

const charts = []; // { element, traces(), layout(), highlighted(job): [x, y] }

function addChart(parent, title, chart) {
  const card = document.createElement("div"), head = document.createElement("h3");
  head.textContent = title;
  chart.element = document.createElement("div");
  chart.element.className = "chart";
  card.append(head, chart.element);
  parent.append(card);
  charts.push(chart);
}

/** Runs as one trace, which stays fast for hundreds; a null ends each run's line. */
function joined(curve, jobs, style) {
  const trace = { ...style, x: [], y: [], text: [], customdata: [], hovertemplate: "%{text}<br>epoch %{x}: %{y}<extra></extra>" };
  for (const job of jobs) {
    const [epochs, values] = curve.jobs[job];
    trace.x.push(...epochs, null);
    trace.y.push(...values, null);
    trace.text.push(...epochs.map(() => plain(report.jobs[job])), "");
    trace.customdata.push(...epochs.map(() => job), null);
  }
  return trace;
}

function curveChart(curve) {
  const longest = Math.max(...curve.jobs.map(([epochs]) => epochs.length));
  const mode = longest > 20 ? "lines" : "lines+markers";
  const line = (name, width) => ({ mode, line: { color: colour(name), width }, marker: { size: 4 } });
  const all = [...curve.jobs.keys()];
  const traces = () => [
    joined(curve, all.slice(COLOURS.length), line("--muted", all.length > 100 ? 0.4 : 1)),
    ...COLOURS.map((name, job) => joined(curve, all.slice(job, job + 1), line(name, 2))).reverse(),
    { ...line("--strong", 3), x: [], y: [], hoverinfo: "skip" },
  ];
  const whole = longest <= 10 ? { dtick: 1 } : {}; // no ticks between epochs
  const layout = () => withAxes({ title: { text: "epoch" }, ...whole }, { range: curve.range });
  return { traces, layout, highlighted: job => curve.jobs[job] };
}

/** Points of runs in their colours; those that were pruned are grey and hollow. */
function markers(jobs, pruned) {
  return {
    size: jobs.length > 100 ? 6 : 8, opacity: 0.8, symbol: pruned.map(one => one ? "circle-open" : "circle"),
    color: jobs.map((job, at) => colour(pruned[at] ? "--muted" : COLOURS[job] ?? "--muted")),
  };
}

const ring = () => ({ x: [], y: [], mode: "markers", marker: { size: 14, color: "rgba(0,0,0,0)", line: { width: 2, color: colour("--strong") } }, hoverinfo: "skip" });

function historyChart({ jobs, x, y, pruned, best }) {
  const text = jobs.map(job => plain(report.jobs[job]));
  const traces = () => [
    { x: best.map(([number]) => number), y: best.map(([, value]) => value), mode: "lines", line: { color: colour("--text"), width: 1.5, shape: "hv" }, hoverinfo: "skip" },
    { x, y, text, customdata: jobs, mode: "markers", marker: markers(jobs, pruned), hovertemplate: "%{text}<br>%{y}<extra></extra>" },
    ring(),
  ];
  const place = job => jobs.indexOf(job);
  return { traces, layout: () => withAxes({ title: { text: "trial" } }, {}), highlighted: job => place(job) < 0 ? [[], []] : [[x[place(job)]], [y[place(job)]]] };
}

function importanceChart(shares) {
  const rows = [...shares].reverse();
  const traces = () => [
    { type: "bar", orientation: "h", x: rows.map(([, share]) => share), y: rows.map(([key]) => plain(key)), marker: { color: colour("--first") }, hovertemplate: "%{x:.0%}<extra></extra>" },
    { x: [], y: [], hoverinfo: "skip" },
  ];
  return { traces, layout: () => withAxes({ tickformat: ".0%", rangemode: "tozero" }, {}), highlighted: () => [[], []] };
}

function parallelChart({ axes, lines, history }) {
  const along = axes.map((_, at) => at);
  const drawn = (jobs, style) => {
    const trace = { ...style, mode: "lines", x: [], y: [], text: [], customdata: [], connectgaps: false, hovertemplate: "%{text}<extra></extra>" };
    for (const job of jobs) {
      trace.x.push(...along, null);
      trace.y.push(...lines[history.jobs.indexOf(job)], null);
      trace.text.push(...along.map(() => plain(report.jobs[job])), "");
      trace.customdata.push(...along.map(() => job), null);
    }
    return trace;
  };
  const full = history.jobs.filter((_, at) => !history.pruned[at]), stopped = history.jobs.filter((_, at) => history.pruned[at]);
  const line = (name, width, dash = "solid") => ({ line: { color: colour(name), width, dash } });
  const traces = () => [
    drawn(stopped, line("--muted", 0.8, "dot")),
    drawn(full.filter(job => job >= COLOURS.length), line("--muted", 1.2)),
    ...COLOURS.map((name, job) => drawn(full.filter(one => one === job), line(name, 2))).reverse(),
    { ...line("--strong", 3), mode: "lines", x: [], y: [], hoverinfo: "skip" },
  ];
  const annotations = () => axes.flatMap(({ labels }, x) => labels.map(([y, text]) => ({
    x, y, text: shortened(text), showarrow: false, xanchor: x === axes.length - 1 ? "right" : "left", xshift: x === axes.length - 1 ? -5 : 5, yshift: y === 0 ? -9 : 9,
    font: { size: 11, color: colour("--text") },
  })));
  const lined = () => ({
    ...withAxes({ tickvals: along, ticktext: axes.map(({ name }) => shortened(name)), ticklabeloverflow: "allow", range: [-0.05, axes.length - 0.95] }, { range: [-0.1, 1.1], showticklabels: false, showgrid: false }),
    annotations: annotations(),
  });
  const place = job => history.jobs.indexOf(job);
  return { traces, layout: lined, highlighted: job => place(job) < 0 ? [[], []] : [along, lines[place(job)]] };
}

function frontChart({ front, points, objectives }) {
  const jobs = Object.keys(points).map(Number), at = job => points[job];
  const traces = () => [
    { x: front.map(job => at(job)[0]), y: front.map(job => at(job)[1]), mode: "lines", line: { color: colour("--text"), width: 1.5, dash: "dot" }, hoverinfo: "skip" },
    { x: jobs.map(job => at(job)[0]), y: jobs.map(job => at(job)[1]), text: jobs.map(job => plain(report.jobs[job])), customdata: jobs, mode: "markers",
      marker: { ...markers(jobs, jobs.map(() => false)), color: jobs.map(job => colour(front.includes(job) ? "--first" : "--muted")) },
      hovertemplate: "%{text}<br>%{x}, %{y}<extra></extra>" },
    ring(),
  ];
  const layout = () => withAxes({ title: { text: plain(objectives[0]) } }, { title: { text: plain(objectives[1]) } });
  return { traces, layout, highlighted: job => points[job] ? [[at(job)[0]], [at(job)[1]]] : [[], []] };
}

function addSearch(search) {
  const parent = document.getElementById("searched");
  const { history, importance, axes, front, objectives } = search;
  if (!history.jobs.length) return;
  const told = importance.length ? " Importance is the share of a key in being among the best tenth (PED-ANOVA)." : "";
  note(parent).textContent = `Trials in the colours of the learning curves; hollow and dotted: pruned.${told}`;
  addChart(parent, `${objectives[0]} by trial, and the best so far`, historyChart(history));
  if (importance.length) addChart(parent, "Importance", importanceChart(importance));
  if (front.length) addChart(parent, "Pareto front", frontChart(search));
  if (axes.length > 1) {
    addChart(parent, "Parallel coordinates", parallelChart(search));
    parent.lastElementChild.className = "wide";
  }
}

function parameterChart(parameter) {
  const category = parameter.scale === "category";
  const x = parameter.x.map((one, place) => category ? one + 0.5 * ((parameter.jobs[place] * SWAY) % 1 - 0.5) : one);
  const text = parameter.jobs.map(job => plain(report.jobs[job]));
  const traces = () => [
    {
      x, y: parameter.y, text, customdata: parameter.jobs, mode: "markers",
      marker: markers(parameter.jobs, parameter.pruned),
      hovertemplate: "%{text}<br>%{y}<extra></extra>",
    },
    { ...medianLine(parameter), line: { color: colour("--text"), width: 1.5, dash: category ? "solid" : "dot" }, hoverinfo: "skip" },
    ring(),
  ];
  const ticks = parameter.ticks.length ? { tickvals: parameter.ticks, ticktext: parameter.labels.map(shortened) } : {};
  const range = category ? { range: [-0.6, parameter.ticks.length - 0.4] } : {};
  const layout = () => withAxes({ type: category ? "linear" : parameter.scale, ...ticks, ...range }, { range: parameter.range });
  const place = job => parameter.jobs.indexOf(job);
  return { traces, layout, highlighted: job => place(job) < 0 ? [[], []] : [[x[place(job)]], [parameter.y[place(job)]]] };
}

function medianLine({ medians, scale }) {
  const pairs = scale === "category" ? medians.flatMap(([x, y]) => [[x - 0.32, y], [x + 0.32, y], [null, null]]) : medians;
  const few = pairs.length <= 36 && (scale === "category" || !report.search) ? pairs : []; // a search has a value a run
  return { mode: "lines", x: few.map(([x]) => x), y: few.map(([, y]) => y) };
}

function withAxes(xaxis, yaxis) {
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true, exponentformat: "e" };
  return {
    margin: { l: 52, r: 14, t: 8, b: 40 }, showlegend: false, hovermode: "closest",
    paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--soft") },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--soft"), font: { color: colour("--text") }, namelength: -1 },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis },
  };
}

let marked = null;
function highlight(job) {
  if (job === marked || job === undefined || job === null) return;
  marked = job;
  for (const { element, highlighted } of charts) {
    const [x, y] = highlighted(job);
    Plotly.restyle(element, { x: [x], y: [y] }, [element.data.length - 1]);
  }
}

function drawAll() {
  const config = { responsive: true, displayModeBar: false };
  for (const { element, traces, layout } of charts) Plotly.react(element, traces(), layout(), config);
  marked = null;
}

function addLegend() {
  const legend = document.getElementById("legend");
  const add = (name, text, job) => {
    const item = document.createElement("li"), line = document.createElement("i"), label = document.createElement("span");
    line.style.background = `var(${name})`;
    label.textContent = label.title = text;
    if (job !== undefined) item.dataset.job = job;
    item.append(line, label);
    legend.append(item);
  };
  report.jobs.slice(0, COLOURS.length).forEach((job, place) => add(COLOURS[place], `${place + 1}. ${job}`, place));
  const others = report.jobs.length - COLOURS.length;
  if (others > 0) add("--muted", others === 1 ? "1 other" : `${others} others`);
}

const note = section => section.parentElement.querySelector("p");
const curves = document.getElementById("curves"), parameters = document.getElementById("parameters");
for (const curve of report.curves) addChart(curves, curve.name, curveChart(curve));
if (report.search) addSearch(report.search);
for (const parameter of report.parameters) addChart(parameters, `${report.monitor} by ${parameter.key}`, parameterChart(parameter));
if (report.curves.length) addLegend();
else note(curves).textContent = "No run has finished an epoch yet.";
if (!report.parameters.length) note(parameters).textContent = "No two completed runs with a value differ in a hyperparameter.";

drawAll();
for (const { element } of charts) element.on("plotly_hover", event => highlight(event.points[0].customdata));
document.addEventListener("mouseover", event => {
  const of = event.target.closest("[data-job]");
  if (of) highlight(Number(of.dataset.job));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

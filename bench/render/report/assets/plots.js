// Plotly's pictures: curves, thresholds and costs of a system; accuracy against carried bytes of a board.
"use strict";

// Okabe and Ito's colours, told apart by all; dashes and markers tell the ninth class from the first.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#8a7a00"]; // black is kept for means
const DASHES = ["solid", "dash", "dot", "dashdot"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star", "cross", "triangle-down"];
const CONFIG = { responsive: true, displayModeBar: false }; // drag to zoom, double click to come back
const parsed = (id) => JSON.parse(document.getElementById(id).textContent);

function layout(xtitle, ytitle, more = {}) {
  const axis = { gridcolor: "#e3e7eb", zerolinecolor: "#c3cad1", automargin: true };
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: "#1c2128" },
    margin: { l: 56, r: 12, t: 12, b: 52 }, hovermode: "closest", plot_bgcolor: "#fff", paper_bgcolor: "#fff",
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, ...more,
    xaxis: { ...axis, title: { text: xtitle }, ...more.xaxis }, yaxis: { ...axis, title: { text: ytitle }, ...more.yaxis },
  };
}

function line(name, y, index, more = {}) {
  const dash = DASHES[Math.floor(index / COLOURS.length) % DASHES.length];
  return {
    name, y, x: y.map((_, t) => t + 1), mode: "lines+markers", connectgaps: false,
    line: { color: COLOURS[index % COLOURS.length], dash, width: 1.8 },
    marker: { symbol: SYMBOLS[index % SYMBOLS.length], size: 7 }, ...more,
  };
}

const steps = (count) => ({ dtick: count > 20 ? 5 : 1, range: [0.7, count + 0.3] });

function system() {
  const data = parsed("cells"), runs = data.runs.filter((run) => run.matrices.image_auroc?.length);
  const chosen = document.getElementById("run"), metric = document.getElementById("metric");
  const whole = runs.filter((run) => run.whole);
  if (whole.length > 1) element(chosen, "option", `mean of ${whole.length} seeds`, { value: "mean" });
  runs.forEach((run, i) => element(chosen, "option", `seed ${run.seed}`, { value: i }));
  const pick = (read) => (chosen.value === "mean" ? joined(whole.map(read)) : read(runs[Number(chosen.value)]));
  const draw = () => {
    const R = pick((run) => run.matrices[metric.value]);
    const learned = runs[0].learned_at;
    const over = runs[0].over[metric.value]; // classes that have the metric: a pixel metric needs masks
    if (R?.length) heat(document.getElementById("heat"), data, R, learned, over);
    curves(data, R ?? [], learned, over, data.metrics[metric.value]);
    threshold(pick);
    cost(pick);
    table(pick);
  };
  chosen.form.addEventListener("input", draw);
  chosen.form.addEventListener("submit", (event) => event.preventDefault());
  draw();
}

const joined = (lists) => (lists.every((list) => list?.length) ? mean(lists) : null); // null: one of them lacks it

function curves(data, R, learned, over, title) {
  const traces = data.classes.map((name, c) => line(name, R.map((row) => row[c]), c));
  const seen = R.map((row, t) => row.filter((_, c) => learned[c] <= t && over.includes(data.classes[c])));
  const means = seen.map((values) => (values.includes(null) || !values.length ? null : mean(values)));
  traces.push({ ...line("mean of seen", means, 6), line: { color: "#000", width: 4 }, marker: { size: 1 } });
  Plotly.react("curves", traces, layout("after step", title, { xaxis: steps(R.length) }), CONFIG);
}

// What is told per step besides R: heading -> list of the run.
const ONE_LINE = {
  "pooled AUROC": (run) => run.pooled.image_auroc,
  F1: (run) => run.threshold.f1,
  precision: (run) => run.threshold.precision,
  recall: (run) => run.threshold.recall,
  "false alarms": (run) => run.threshold.false_alarm,
  routing: (run) => run.routing_accuracy,
};
const DRIFT = (run) => run.threshold.value;
const seconds = {
  "training itself": (run) => run.cost.train_s.map((value, t) => (value === null ? null : value - run.cost.extra_s[t])),
  "method's own work": (run) => run.cost.extra_s,
  evaluation: (run) => run.cost.eval_s,
};

function threshold(pick) {
  const traces = Object.entries(ONE_LINE).map(([name, read], i) => line(name, pick(read) ?? [], i)).filter((t) => t.y.length);
  const values = pick(DRIFT) ?? [];
  const share = { xaxis: steps(values.length), yaxis: { range: [-0.03, 1.03] } };
  Plotly.react("threshold", traces, layout("after step", "share", share), CONFIG);
  const ratio = values.map((value) => (values[0] ? value / values[0] : null));
  plotFromZero("drift", ratio, "times the first threshold");
}

function cost(pick) {
  const bars = Object.entries(seconds).map(([name, read], i) => {
    const y = pick(read) ?? [];
    return { type: "bar", name, y, x: y.map((_, t) => t + 1), marker: { color: COLOURS[[0, 4, 5][i]], line: { color: "#fff", width: 1 } } };
  });
  const known = bars.some((bar) => bar.y.some((value) => value !== null));
  const why = { text: "no times: others used the machine meanwhile", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 };
  const more = { barmode: "stack", xaxis: steps(bars[0].y.length), annotations: known ? [] : [why] };
  Plotly.react("cost", bars, layout("step", "seconds", more), CONFIG);
  const carried = (pick((run) => run.cost.carried_bytes) ?? []).map((value) => value / 1e6);
  plotFromZero("carried", carried, "MB");
}

function plotFromZero(id, values, title) {
  const axes = { xaxis: steps(values.length), yaxis: { rangemode: "tozero" } };
  Plotly.react(id, [line(title, values, 0)], layout("after step", title, axes), CONFIG);
}

function table(pick) {
  const columns = { ...ONE_LINE, threshold: DRIFT };
  for (const name of ["train_s", "eval_s", "extra_s", "train_images", "eval_images", "carried_bytes"]) columns[name] = (run) => run.cost[name];
  const filled = Object.entries(columns).map(([name, read]) => [name, pick(read)]).filter(([, list]) => list?.length);
  const made = document.getElementById("steps"), body = made.tBodies[0];
  made.tHead.replaceChildren();
  body.replaceChildren();
  const top = made.tHead.insertRow();
  ["step", ...filled.map(([name]) => name)].forEach((text) => element(top, "th", text, { scope: "col" }));
  filled[0]?.[1].forEach((_, t) => {
    const row = body.insertRow();
    element(row, "th", String(t + 1), { scope: "row" });
    for (const [, list] of filled) element(row, "td", shown(list[t]), { class: "n", "data-v": list[t] ?? "" });
  });
}

const shown = (value) => (value === null || value === undefined ? "—" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4)));

function pareto() {
  const data = parsed("fields"), board = document.getElementById("board"), metric = document.getElementById("metric");
  const draw = () => {
    const { points } = data.boards[board.value];
    const known = points.filter((p) => p.scores[metric.value] !== null && p.carried_mb !== null);
    const front = frontier(known.filter((p) => p.races), metric.value);
    scatter(known, front, metric.value, data.metrics[metric.value]);
    frontTable(front, metric.value);
  };
  if (!data.boards.length) return;
  board.form.addEventListener("input", draw);
  draw();
}

// Those that no other beats at as few bytes.
function frontier(points, metric) {
  let best = -Infinity;
  return [...points].sort((a, b) => a.carried_mb - b.carried_mb || b.scores[metric] - a.scores[metric])
    .filter((p) => p.scores[metric] > best && ((best = p.scores[metric]), true));
}

function scatter(points, front, metric, title) {
  const least = Math.min(...points.map((p) => p.carried_mb).filter((mb) => mb > 0), 1);
  const zero = Math.floor(Math.log10(least)) - 1; // 0 has no logarithm: it stands one decade to the left of all
  const x = (p) => (p.carried_mb > 0 ? Math.log10(p.carried_mb) : zero);
  const top = Math.ceil(Math.max(...points.map(x), zero + 2));
  const ticks = Array.from({ length: top - zero + 1 }, (_, i) => zero + i);
  const name = (p) => `${p.method} + ${p.detector}`;
  const trace = (label, chosen, marker, more = {}) => ({
    name: label, x: chosen.map(x), y: chosen.map((p) => p.scores[metric]), mode: "markers", marker, customdata: chosen.map((p) => [p.carried_mb, p.href]),
    text: chosen.map(name), hovertemplate: "%{text}<br>%{y:.3f}, %{customdata[0]:.3g} MB<extra></extra>", ...more,
  });
  const rest = points.filter((p) => p.races && !front.includes(p));
  const numbers = { mode: "lines+markers+text", texttemplate: front.map((_, i) => String(i + 1)), textposition: "top left" };
  Plotly.react("pareto", [
    trace("not ranked", points.filter((p) => !p.races), { symbol: "x-thin-open", size: 9, color: "#57606a" }),
    trace("beaten at as few bytes", rest, { symbol: "circle-open", size: 9, color: "#56b4e9" }),
    trace("the front", front, { symbol: "diamond", size: 12, color: "#d55e00" }, { ...numbers, line: { shape: "hv", color: "#d55e00", width: 1.5 } }),
  ], layout("carried MB, logarithmic", title, { xaxis: { zeroline: false, tickvals: ticks, ticktext: ticks.map((t) => (t === zero ? "0" : String(+(10 ** t).toPrecision(3)))), range: [zero - 0.6, top + 0.2] } }), CONFIG)
    .then((plot) => { plot.removeAllListeners("plotly_click"); plot.on("plotly_click", ({ points: [hit] }) => (location.href = encodeURI(hit.customdata[1]))); });
}

function frontTable(front, metric) {
  const body = document.getElementById("front").tBodies[0];
  body.replaceChildren();
  for (const [i, p] of front.entries()) {
    const row = body.insertRow();
    element(row, "td", String(i + 1));
    element(element(row, "th", "", { scope: "row" }), "a", `${p.method} + ${p.detector}`, { href: encodeURI(p.href) });
    element(row, "td", shown(p.carried_mb), { class: "n" });
    element(row, "td", fixed(p.scores[metric]), { class: "n" });
  }
}

if (document.getElementById("cells") && document.getElementById("heat")) system();
// Two systems class by class, over the runs that both have.
function duel() {
  const { boards } = parsed("fields"), [board, a, b] = ["duel-board", "duel-a", "duel-b"].map((id) => document.getElementById(id));
  if (!boards.length) return;
  const draw = () => {
    const { points, classes, scenario } = boards[board.value], [first, second] = [a, b].map((select) => points[select.value]);
    const shared = Object.keys(first.runs).filter((run) => run in second.runs), body = document.getElementById("duel").tBodies[0];
    const scores = [first, second].map((system) => (shared.length ? mean(shared.map((run) => system.runs[run])) : classes.map(() => null)));
    body.replaceChildren();
    [["mean", ...scores.map(mean)], ...classes.map((name, c) => [name, scores[0][c], scores[1][c]])].forEach(([name, x, y]) => {
      const row = body.insertRow();
      element(row, "th", name, { scope: "row" });
      const lead = x === null || y === null ? null : x - y;
      [x, y, lead].forEach((value) => element(row, "td", fixed(value), { class: "n" }));
    });
    const count = shared.length === 1 ? "1 run" : `${shared.length} runs`;
    document.getElementById("duel-told").textContent = `Over ${count} that both have. Whether the difference is more than chance:`;
    document.getElementById("duel-command").textContent = `python -m bench compare '${first.system}' '${second.system}' --scenario ${scenario}`;
  };
  const fill = () => { // the best first
    const { points } = boards[board.value], order = [...points.keys()];
    order.sort((i, j) => points[j].scores.image_auroc - points[i].scores.image_auroc);
    for (const [select, place] of [[a, 0], [b, 1]]) {
      select.replaceChildren();
      order.forEach((i) => element(select, "option", `${points[i].method} + ${points[i].detector}`, { value: i }));
      select.selectedIndex = Math.min(place, order.length - 1);
    }
    draw();
  };
  board.value = boards.indexOf([...boards].sort((x, y) => y.points.length - x.points.length)[0]);
  board.addEventListener("input", fill);
  for (const select of [a, b]) select.addEventListener("input", draw);
  fill();
}

if (document.getElementById("fields")) {
  pareto();
  duel();
}

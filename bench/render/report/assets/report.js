// Sorting and filtering of the tables. Without it the pages still show every row.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const by = (id) => document.getElementById(id);
const fixed = (value, digits = 3) => (value === null || value === undefined ? "—" : value.toFixed(digits));

function element(parent, name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}

function sort(button, descending) {
  const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentNode.children].indexOf(head);
  all("th", head.parentNode).forEach((th) => th.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const value = (row) => row.children[column].dataset.v;
  const missing = (text) => text === undefined || text === "";
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y); // last, whichever way
    const difference = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return descending ? -difference : difference;
  };
  body.append(...[...body.rows].sort(order));
}

function toggle(button) {
  const now = button.closest("th").getAttribute("aria-sort");
  const first = button.dataset.better === "high";
  sort(button, now ? now === "ascending" : first);
}

function showMetric(metric) {
  all("[data-m]").forEach((cell) => (cell.hidden = cell.dataset.m !== metric));
  all("table.ranking").forEach((table) => sort(table.querySelector(`thead [data-m="${metric}"] button`), true));
}

function showColumns(group) {
  all("[data-g]").forEach((cell) => (cell.hidden = group !== "all" && cell.dataset.g !== group));
}

function filter() {
  const detector = by("detector").value, rows = all(".board tbody tr");
  const words = by("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const text = `${row.cells[0].textContent} ${row.dataset.detector}`.toLowerCase();
    row.hidden = (detector && row.dataset.detector !== detector) || !words.every((w) => text.includes(w));
  }
  const shown = rows.filter((row) => !row.hidden).length;
  by("count").textContent = `${shown} of ${rows.length} rows`;
  by("nothing").hidden = shown > 0;
}

const FILTERS = ["detector", "metric", "columns", "search"];

function remember() {
  const state = new URLSearchParams(FILTERS.map((id) => [id, by(id).value]).filter(([, value]) => value));
  history.replaceState(null, "", `#${state}`);
}

function recall() {
  for (const [id, value] of new URLSearchParams(location.hash.slice(1))) if (FILTERS.includes(id)) by(id).value = value;
}

function leaderboard() {
  recall();
  FILTERS.forEach((id) => by(id).addEventListener("input", () => {
    if (id === "metric") showMetric(by("metric").value);
    showColumns(by("columns").value);
    filter();
    remember();
  }));
  by("reset").addEventListener("click", () => {
    by("detector").value = by("search").value = "";
    filter();
    remember();
  });
  by("search").form.addEventListener("submit", (event) => event.preventDefault());
  showMetric(by("metric").value || "image_auroc");
  showColumns(by("columns").value);
  filter();
}

all("table.sortable th button").forEach((button) => button.addEventListener("click", () => toggle(button)));
if (document.querySelector(".board")) leaderboard();

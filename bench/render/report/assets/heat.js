// The matrix R as a table whose cells are coloured by cividis, which reads alike with and without colour blindness.
"use strict";

const CIVIDIS = ["00204d", "00336f", "39486b", "575c6d", "707173", "8a8779", "a69d75", "c4b56c", "e4cf5b", "ffea46"]
  .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
  const low = CIVIDIS[Math.floor(place)], high = CIVIDIS[Math.ceil(place)];
  const rgb = low.map((value, i) => Math.round(value + (place % 1) * (high[i] - value)));
  const [r, g, b] = rgb.map((value) => (value / 255) ** 2.2); // the text that contrasts more, by relative luminance
  return { background: `rgb(${rgb})`, color: 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff" };
}

// Mean over runs of a list or of lists of lists; null where one of them is missing.
function mean(values) {
  if (Array.isArray(values[0])) return values[0].map((_, i) => mean(values.map((value) => value[i])));
  return values.some((v) => v === null || v === undefined) ? null : values.reduce((a, b) => a + b, 0) / values.length;
}

function heat(table, data, R, learned, over) {
  const finite = R.flat().filter((value) => value !== null);
  const low = Math.floor(10 * Math.min(...finite)) / 10, high = Math.ceil(10 * Math.max(...finite)) / 10;
  const head = table.tHead, body = table.tBodies[0];
  head.replaceChildren();
  body.replaceChildren();
  const top = head.insertRow();
  ["after step", ...data.classes, "seen so far"].forEach((text) => element(top, "th", text, { scope: "col" }));
  R.forEach((values, step) => {
    const row = body.insertRow();
    element(row, "th", String(step + 1), { scope: "row" });
    values.forEach((value, c) => {
      const cell = element(row, "td", fixed(value), { "data-v": value ?? "" });
      if (value === null) cell.className = "none";
      else Object.assign(cell.style, colour((value - low) / (high - low || 1)));
      if (learned[c] === step) cell.classList.add("fresh");
    });
    const seen = values.filter((_, c) => learned[c] <= step && over.includes(data.classes[c]));
    element(row, "td", fixed(seen.includes(null) || !seen.length ? null : mean(seen)), { class: "mean" });
  });
  table.caption.textContent = `Framed: just learned. Colours from ${low.toFixed(1)} (dark) to ${high.toFixed(1)} (light); hatched: not evaluated.`;
}

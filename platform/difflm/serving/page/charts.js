// Charts: shares of the rows drawn over real ones, as inline SVG for numbers and as bars for categories.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [300, 90];

/** A histogram; `drawn` and `real` (or null) are shares per bin. */
export function histogramChart(name, { rows, ends, drawn, real, notes }) {
  const top = Math.max(...drawn, ...(real ?? []), 1e-9);
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", `${name}, ${ends[0]} to ${ends[1]}: ${summary(rows, drawn, real)}`);
  if (real) svg.append(node("path", { class: "real", d: steps(real, top) }));
  svg.append(node("path", { class: "drawn", d: steps(drawn, top) }));
  const axis = element("div", "axis");
  axis.append(...ends.map((text) => element("span", "", text)));
  const figure = figureOf(name, real && summary(rows, drawn, real));
  figure.append(svg, axis, ...notes.map((text) => element("p", "hint", text)));
  return figure;
}

/** One row per category, with the share of the rows drawn over the real one. */
export function barsChart(name, rows, bars) {
  const top = Math.max(...bars.flatMap(({ drawn, real }) => [drawn, real ?? 0]), 1e-9);
  const list = element("ul", "bars");
  list.append(...bars.map((bar) => barOf(bar, top)));
  const figure = figureOf(name, summary(rows, bars.map(({ drawn }) => drawn), realOf(bars)));
  figure.append(list);
  return figure;
}

function barOf({ label, real, drawn }, top) {
  const row = element("li");
  const track = node("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  track.append(
    node("rect", { class: "real", y: 0, width: (100 * (real ?? 0)) / top, height: 10 }),
    node("rect", { class: "drawn", y: 3, width: (100 * drawn) / top, height: 4 }),
  );
  const shares = element("span", "shares", `${(100 * drawn).toFixed(1)} %`);
  if (real !== null) shares.append(element("span", "hint", ` real ${(100 * real).toFixed(1)} %`));
  row.append(Object.assign(element("span", "label", label), { title: label }), shares, track);
  return row;
}

function realOf(bars) {
  return bars.some(({ real }) => real === null) ? null : bars.map(({ real }) => real);
}

function summary(rows, drawn, real) {
  if (!rows) return "no rows yet";
  if (!real) return "no real distribution is known";
  // the total variation distance; what no bin shows (missing, outside of the real range) is one more bin
  const apart = drawn.map((part, place) => part - real[place]);
  const unseen = apart.reduce((sum, part) => sum - part, 0);
  const moved = apart.reduce((sum, part) => sum + Math.abs(part), Math.abs(unseen)) / 2;
  return `${(100 * moved).toFixed(1)} % apart`;
}

function steps(shares, top) {
  const width = WIDTH / shares.length;
  const up = (part) => (HEIGHT - (part / top) * (HEIGHT - 2)).toFixed(2);
  const parts = shares.map((part, place) => `V${up(part)}H${((place + 1) * width).toFixed(2)}`);
  return `M0 ${HEIGHT}${parts.join("")}V${HEIGHT}Z`;
}

function figureOf(name, apart) {
  const figure = element("figure");
  figure.dataset.column = name;
  const caption = element("figcaption", "", name);
  if (apart) caption.append(element("span", "hint", apart));
  figure.append(caption);
  return figure;
}

function node(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

function element(tag, className = "", textContent = "") {
  return Object.assign(document.createElement(tag), { className, textContent });
}

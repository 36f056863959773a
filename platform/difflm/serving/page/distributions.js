// Distributions of the rows drawn, counted as they come, over those of the real table in the bundle's evaluation.

import { barsChart, histogramChart } from "./charts.js";
import { plainNumber } from "./dress.js";

const CATEGORIES = 10;
const BINS = 20;

/** One tally per column that has a distribution; `pictures` are those of the evaluation's marginals, by column. */
export function talliesOf(fields, pictures) {
  return fields.flatMap((field) => {
    const picture = pictures.get(field.name);
    if (field.kind === "categorical" || field.kind === "boolean") {
      return [new CategoryTally(field.name, picture?.bars ?? barsOf(field))];
    }
    const number = numberOf(field);
    if (number === null) return [];
    const edges = picture?.edges?.length ? picture.edges : edgesOf(field, number);
    return edges.length < 2 ? [] : [new NumberTally(field, number, edges, picture?.real ?? null)];
  });
}

class CategoryTally {
  constructor(name, bars) {
    this.name = name;
    this.bars = bars.map(({ label, real }) => ({ label, real, count: 0 }));
    this.rows = 0;
    this.places = new Map(this.bars.map(({ label }, place) => [label, place]));
  }

  count(value) {
    this.rows += 1;
    this.bars[this.placeOf(value)].count += 1;
  }

  placeOf(value) {
    if (value === null) return this.named("missing");
    const place = this.places.get(String(value));
    if (place !== undefined) return place;
    const others = this.bars.findLastIndex(({ label }) => /^\d+ others$/.test(label));
    return others >= 0 ? others : this.named("not in the real table");
  }

  named(label) {
    const place = this.bars.findLastIndex((bar) => bar.label === label);
    return place >= 0 ? place : this.bars.push({ label, real: this.bars[0]?.real === null ? null : 0, count: 0 }) - 1;
  }

  chart() {
    const bars = this.bars.map(({ label, real, count }) => ({ label, real, drawn: share(count, this.rows) }));
    return barsChart(this.name, this.rows, bars);
  }
}

class NumberTally {
  constructor(field, number, edges, real) {
    [this.field, this.number, this.edges, this.real] = [field, number, edges, real];
    this.counts = new Array(edges.length - 1).fill(0);
    [this.rows, this.missing, this.others] = [0, 0, 0];
  }

  get name() {
    return this.field.name;
  }

  count(value) {
    this.rows += 1;
    if (value === null) {
      this.missing += 1;
      return;
    }
    const { edges, counts } = this;
    const number = this.number(value);
    if (Number.isNaN(number)) this.others += 1;
    const past = edges.findIndex((edge) => number < edge);
    const last = number === edges.at(-1) ? counts.length - 1 : -1;
    const place = past > 0 ? past - 1 : last;
    if (place >= 0) counts[place] += 1;
  }

  chart() {
    const drawn = this.counts.map((count) => share(count, this.rows));
    const ends = [this.edges[0], this.edges.at(-1)].map((edge) => this.spelled(edge));
    const notes = this.field.kind === "text" || this.field.kind === "json" ? ["length in characters"] : [];
    if (this.field.nullable) {
      notes.push(`missing: ${percent(share(this.missing, this.rows))}, real ${percent(this.field.missing_share)}`);
    }
    if (this.others) notes.push(`words beside: ${percent(share(this.others, this.rows))}`);
    return histogramChart(this.name, { rows: this.rows, ends, drawn, real: this.real, notes });
  }

  spelled(edge) {
    if (this.field.kind === "datetime") {
      const date = new Date(edge * 1000);
      if (Number.isNaN(date.getTime())) return String(edge);
      const text = date.toISOString();
      return /%[HIMS]/.test(this.field.format) ? text.slice(0, 16).replace("T", " ") : text.slice(0, 10);
    }
    const inside = Math.min(Math.max(edge, this.field.minimum ?? edge), this.field.maximum ?? edge);
    return inside.toLocaleString("en", { maximumSignificantDigits: 12 });
  }
}

export function percent(part) {
  return `${(100 * part).toFixed(part > 0 && part < 0.0995 ? 1 : 0)} %`;
}

function share(count, rows) {
  return rows ? count / rows : 0;
}

/** The values of a column without real shares, for bundles without an evaluation: a schema counts no rows. */
function barsOf(field) {
  const labels = field.kind === "boolean" ? [field.true_text, field.false_text] : field.values;
  const bars = labels.slice(0, CATEGORIES).map((label) => ({ label, real: null }));
  if (labels.length > CATEGORIES) bars.push({ label: `${labels.length - CATEGORIES} others`, real: null });
  if (field.nullable) bars.push({ label: "missing", real: null });
  return bars;
}

/** How a column's value becomes a number, NaN for words beside them; null where it has none. */
function numberOf(field) {
  switch (field.kind) {
    case "integer":
    case "decimal":
      return (text) => (field.words?.includes(text) ? NaN : plainNumber(field.dress, text));
    case "datetime":
      return secondsOf(field);
    case "text":
    case "json":
      return (text) => [...text].length;
    default:
      return null;
  }
}

function edgesOf(field, number) {
  const bounds = "max_characters" in field ? [0, field.max_characters] : [field.minimum, field.maximum];
  const [low, high] = bounds.map((bound) => (typeof bound === "number" ? bound : number(bound)));
  if (!(high > low)) return [];
  return Array.from({ length: BINS + 1 }, (_, place) => low + ((high - low) * place) / BINS);
}

/** Seconds since 1970 of a text in one of a column's formats, NaN for none; null where no format is of digits alone. */
function secondsOf(field) {
  const patterns = [field.format, ...(field.others ?? [])].map(patternOf).filter((pattern) => pattern !== null);
  if (!patterns.length) return null;
  return (text) => {
    const groups = patterns.map((pattern) => pattern.exec(text)).find((found) => found !== null)?.groups;
    if (groups === undefined) return NaN;
    const { Y = "1900", m = "1", d = "1", H = "0", M = "0", S = "0" } = groups;
    return Date.UTC(Y, m - 1, d, H, M, S) / 1000;
  };
}

/** A strptime format as a pattern with a group per directive; null for formats with names or zones. */
function patternOf(format) {
  if (/%[^YmdHMSf%]/.test(format)) return null;
  const source = format.replace(/%(.)|[.*+?^${}()|[\]\\]/g, (found, letter) => {
    if (letter === undefined) return `\\${found}`;
    if (letter === "%") return "%";
    return letter === "f" ? "\\d+" : `(?<${letter}>\\d${letter === "Y" ? "{4}" : "{1,2}"})`;
  });
  return new RegExp(`^${source}$`);
}

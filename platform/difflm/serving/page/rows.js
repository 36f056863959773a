// The rows that were drawn: all of them kept for downloads, the first of them in a table.

export const MAX_SHOWN = 200;

export class Rows {
  constructor(head, body) {
    [this.head, this.body] = [head, body];
    this.clear([]);
  }

  /** Forget all rows; the next ones have these columns. */
  clear(columns) {
    this.columns = columns;
    this.kept = [];
    const row = document.createElement("tr");
    row.append(...columns.map((name) => cell("th", name)));
    for (const place of row.children) place.scope = "col";
    this.head.replaceChildren(...(columns.length ? [row] : []));
    this.body.replaceChildren();
  }

  add(rows) {
    const room = Math.max(0, MAX_SHOWN - this.kept.length);
    for (const row of rows) this.kept.push(row);
    this.body.append(
      ...rows.slice(0, room).map(({ cells }) => {
        const shown = document.createElement("tr");
        shown.append(...this.columns.map((name) => valueCell(cells[name])));
        return shown;
      }),
    );
  }

  get json() {
    return `[\n${this.kept.map(({ line }) => line).join(",\n")}\n]\n`;
  }

  /** For spreadsheets, so that none of them runs a text of a model as a formula. */
  get csv() {
    const lines = this.kept.map(({ cells }) => this.columns.map((name) => quoted(cells[name])).join(","));
    return [this.columns.map(quoted).join(","), ...lines, ""].join("\r\n");
  }
}

/** Let the browser save a text, or a Blob, as a file. */
export function download(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function valueCell(value) {
  if (value === null || value === undefined) return cell("td", "missing", "missing");
  return cell("td", String(value));
}

function cell(tag, textContent, className = "") {
  return Object.assign(document.createElement(tag), { textContent, className });
}

// what the server's `safe_csv` does: an apostrophe before a text that a spreadsheet would run; numbers stay numbers
function harmless(value) {
  const text = String(value);
  if (typeof value !== "string" || /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text)) return text;
  const later = /([,;\t\r\n][ \u00a0\ufeff\u200b-\u200d\u2060]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g;
  const runs = /^[ \u00a0\ufeff\u200b-\u200d\u2060]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]/.test(text);
  return `${runs ? "'" : ""}${text.replace(later, "$1'")}`;
}

// a missing value is nothing at all, empty text is quoted: that is how the server's own files tell them apart
function quoted(value) {
  if (value === null || value === undefined) return "";
  const text = harmless(value);
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

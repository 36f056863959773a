// Dress: the number behind a cell that is spelled with a currency, grouped thousands, a comma, or as a clock.

/** The number that a text spells; NaN where it spells none. */
export function plainNumber(dress, text) {
  const { prefix = "", suffix = "", group = "", mark = ".", minus = "-", negative = "before", clock = "" } = dress ?? {};
  if (clock !== "") return clockNumber(clock, text);
  let [body, sign] = signed(String(text), minus, negative);
  if (!body.startsWith(prefix) || !body.endsWith(suffix)) return NaN;
  body = body.slice(prefix.length, body.length - suffix.length);
  if (negative === "inside" && sign === 1) [body, sign] = signed(body, minus, "before");
  if (group !== "") body = body.replaceAll(group, "");
  body = body.replace(mark, ".");
  return /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(body) ? sign * Number(body) : NaN;
}

function signed(text, minus, negative) {
  if (negative === "parentheses" && text.startsWith("(") && text.endsWith(")")) return [text.slice(1, -1), -1];
  if (negative === "behind" && text.endsWith(minus)) return [text.slice(0, -minus.length), -1];
  if (text.startsWith(minus)) return [text.slice(minus.length), -1];
  return [text.startsWith("+") ? text.slice(1) : text, 1];
}

/** Seconds of `27:38:55`, minutes of `27:38`. */
function clockNumber(clock, text) {
  const parts = /^(\d+):(\d\d)(?::(\d\d))?$/.exec(text)?.slice(1).filter((part) => part !== undefined) ?? [];
  if (parts.length !== clock.split(":").length) return NaN;
  return parts.reduce((sum, part) => 60 * sum + Number(part), 0);
}

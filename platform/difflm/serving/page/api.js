// The server's interface as this page calls it: JSON answers, streams of rows, and problems that name a field.

export class ApiProblem extends Error {
  constructor(status, error, retryAfterSeconds) {
    super(error.message);
    this.status = status;
    this.field = error.field;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** The answer to a request that succeeded. Throws ApiProblem. */
export async function ask(path, { key, body, signal, method = body === undefined ? "GET" : "POST" } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiProblem(0, { message: "the server cannot be reached", field: null });
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  const error = said?.error ?? { message: `the server answered ${answer.status}`, field: null };
  throw new ApiProblem(answer.status, error, Number(answer.headers.get("Retry-After")) || null);
}

/** Rows of an NDJSON answer, in arrays as they come: `line` as it was sent, `cells` with numbers in their digits. */
export async function* streamedRows(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    const rows = lines.filter((line) => line !== "").map(parsed);
    const broken = rows.findIndex(({ cells }) => isProblem(cells.error));
    if (broken >= 0) {
      yield rows.slice(0, broken);
      throw new ApiProblem(200, rows[broken].cells.error);
    }
    if (rows.length) yield rows;
    if (done) return;
  }
}

function parsed(line) {
  // numbers stay as they are spelled, where the browser tells: whole numbers of 64 bits are not exact in JavaScript
  const digits = (_, value, context) => (typeof value === "number" ? (context?.source ?? String(value)) : value);
  return { line, cells: JSON.parse(line, digits) };
}

function isProblem(value) {
  return value !== null && typeof value === "object" && "code" in value && "message" in value && "field" in value;
}

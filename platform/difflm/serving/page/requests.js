// A request for rows as text: the body that is sent, and the same as a curl command and as Python.

/** The JSON body. Numbers are put in as they were typed: 64 bits are not exact in JavaScript. */
export function bodyOf(request) {
  const parts = [["n", written(request.n)]];
  if (request.bundle !== null) parts.push(["bundle", JSON.stringify(request.bundle)]);
  if (request.seed !== "") parts.push(["seed", written(request.seed)]);
  if (request.temperature !== null) parts.push(["temperature", written(request.temperature)]);
  if (request.where !== null) parts.push(["where", JSON.stringify(request.where)]);
  if (request.columns !== null) parts.push(["columns", JSON.stringify(request.columns)]);
  parts.push(["format", '"ndjson"']);
  return `{${parts.map(([name, value]) => `"${name}": ${value}`).join(", ")}}`;
}

/** A command for a shell; a key is left to the variable DIFFLM_KEY. */
export function curlOf(request, url, withKey) {
  const key = withKey ? ' \\\n  -H "Authorization: Bearer $DIFFLM_KEY"' : "";
  const body = bodyOf(request).replaceAll("'", "'\\''");
  return `curl -N -H 'Content-Type: application/json'${key} \\\n  -d '${body}' \\\n  '${url}v1/samples'`;
}

/** Python with the project's client. */
export function pythonOf(request, url, withKey) {
  const options = [];
  if (request.bundle !== null) options.push(`bundle=${JSON.stringify(request.bundle)}`);
  if (request.seed !== "") options.push(`seed=${written(request.seed)}`);
  if (request.temperature !== null) options.push(`temperature=${written(request.temperature)}`);
  if (request.where !== null) options.push(`where=${JSON.stringify(request.where)}`);
  if (request.columns !== null) options.push(`columns=${JSON.stringify(request.columns)}`);
  const key = withKey ? ', key=os.environ["DIFFLM_KEY"]' : "";
  return [
    ...(withKey ? ["import os", ""] : []),
    "from difflm.client import Client",
    "",
    `with Client(${JSON.stringify(url)}${key}) as client:`,
    `    rows = client.sample(${[written(request.n), ...options].join(", ")})`,
  ].join("\n");
}

/** What is no number is sent as text, so that the server names the field. */
function written(text) {
  return /^-?(0|[1-9]\d*)(\.\d+)?$/.test(text) ? text : JSON.stringify(text);
}

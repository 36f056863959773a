// Conditions: form fields made from a bundle's schema, and the expression that they state.

const MAX_VALUES = 300;
const KEYWORDS = new Set(
  ("False None True and as assert async await break class continue def del elif else except finally for from global " +
    "if import in is lambda nonlocal not or pass raise return try while with yield null true false").split(" "),
);
const MISSING = [
  ["", "no preference"],
  ["too", "missing too"],
  ["never", "never missing"],
  ["only", "only missing"],
];

/** Fill `container` with one disclosure per column; each has `data-column`. */
export function showConditions(container, fields) {
  container.replaceChildren(...fields.map((field, place) => columnOf(field, place)));
}

/** The expression that the fields state, or null. */
export function whereOf(container) {
  const parts = [...container.querySelectorAll("details")].map(refresh).filter((part) => part !== null);
  return parts.length ? parts.join(" and ") : null;
}

/** Show a problem with the condition at the columns that it names; whether there was one. */
export function showAtColumn(container, message) {
  const about = message.slice(message.search(/['"]: /) + 1); // what comes first is the condition itself
  const named = [...container.querySelectorAll("details")].filter(
    (details) => partOf(details) !== null && about.includes(`'${details.dataset.column}'`),
  );
  for (const details of named) {
    details.open = true;
    details.querySelector(".error").textContent = message;
  }
  return named.length > 0;
}

function columnOf(field, place) {
  const details = element("details", { className: "column" });
  details.dataset.column = field.name;
  const summary = element("summary");
  summary.append(
    element("span", { textContent: field.name }),
    element("span", { className: "hint kind", textContent: hintOf(field) }),
    element("span", { className: "set" }),
  );
  const inside = element("div", { className: "inside" });
  if (field.name.includes("`")) inside.append(note("A name with a backtick takes no condition."));
  else inside.append(...inputsOf(field, `column-${place}`));
  inside.append(element("p", { className: "error", id: `column-${place}-error` }));
  details.append(summary, inside);
  return details;
}

function hintOf(field) {
  if (field.kind === "categorical") return `${field.values.length} values`;
  if ("minimum" in field) return [`${field.minimum} to ${field.maximum}`, ...besides(field)].join(", ");
  if (field.kind === "code") return `such as ${field.shapes[0].map(([first]) => first).join("")}`;
  return field.kind;
}

function inputsOf(field, id) {
  const inputs = kindInputs(field, id);
  if (field.nullable) {
    const select = element("select", { id: `${id}-missing` });
    select.dataset.part = "missing";
    select.append(...optionsOf(MISSING));
    inputs.push(labelled("Missing values", select));
  }
  return inputs;
}

function kindInputs(field, id) {
  switch (field.kind) {
    case "integer":
    case "decimal":
      return [pair(field, id, { type: "text", inputMode: field.minimum < 0 || field.dress ? "text" : "decimal" }),
        ...besidesOf(field, id)];
    case "datetime": {
      const days = field.format === "%Y-%m-%d" && !field.others?.length;
      return [pair(field, id, { type: days ? "date" : "text" }), ...besidesOf(field, id)];
    }
    case "boolean": {
      const select = element("select", { id: `${id}-is` });
      select.dataset.part = "is";
      select.append(...optionsOf([["", "any"], ["true", field.true_text], ["false", field.false_text]]));
      return [labelled("Value", select)];
    }
    case "categorical":
      return field.ordered ? [steps(field, id), ...valuesOf(field, id)] : valuesOf(field, id);
    case "constant":
      return [note(`Always ${field.value}.`)];
    case "identifier":
      return [note("Names the rows, each its own: takes no condition.")];
    case "code":
      return [note("Codes take no condition on their letters.")];
    default:
      return [note("Text takes no condition on its letters.")];
  }
}

/** Single numbers or dates far from the others, and words that stand in their place. */
function besides(field) {
  return [...(field.points ?? []), ...(field.words ?? [])];
}

function besidesOf(field, id) {
  const values = besides(field);
  if (!values.length) return [];
  const list = groupOf(`Of ${field.name} beside these`);
  list.append(
    ...values.map((value, place) => {
      const box = element("input", { type: "checkbox", id: `${id}-beside-${place}`, value });
      Object.assign(box.dataset, { part: "beside", literal: JSON.stringify(value) });
      return boxed(box, value);
    }),
  );
  return [list];
}

/** From one to another of values that have an order. */
function steps(field, id) {
  const box = element("div", { className: "pair" });
  for (const [part, word] of [["from", "From"], ["to", "To"]]) {
    const select = element("select", { id: `${id}-${part}` });
    Object.assign(select.dataset, { part, kind: field.kind });
    select.append(...optionsOf([["", "any"], ...field.values.map((value) => [value, value])]));
    box.append(labelled(word, select));
  }
  return box;
}

function groupOf(name) {
  const list = element("div", { className: "values" });
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", name);
  return list;
}

function boxed(box, value) {
  const label = element("label");
  label.append(box, ` ${value === "" ? "(empty text)" : value}`);
  return label;
}

function pair(field, id, properties) {
  const box = element("div", { className: "pair" });
  for (const [part, word, bound] of [["from", "From", field.minimum], ["to", "To", field.maximum]]) {
    const input = element("input", { id: `${id}-${part}`, placeholder: bound, autocomplete: "off", ...properties });
    input.dataset.part = part;
    input.dataset.kind = field.kind;
    input.setAttribute("aria-describedby", `${id}-error`);
    box.append(labelled(word, input));
  }
  return box;
}

function valuesOf(field, id) {
  const list = groupOf(`Values of ${field.name}`);
  list.append(
    ...field.values.slice(0, MAX_VALUES).map((value, place) => {
      const box = element("input", { type: "checkbox", id: `${id}-value-${place}`, value });
      box.dataset.part = "value";
      return boxed(box, value);
    }),
  );
  if (field.values.length <= MAX_VALUES) return [list];
  return [list, note(`The ${MAX_VALUES} most frequent of ${field.values.length} values.`)];
}

/** Say in a column's summary whether it is restricted; what it states. */
function refresh(details) {
  const part = partOf(details);
  details.querySelector(".set").textContent = part === null ? "" : "set";
  return part;
}

function partOf(details) {
  const inputs = (part) => [...details.querySelectorAll(`[data-part=${part}]`)];
  const first = (part) => inputs(part)[0]?.value.trim() ?? "";
  const name = columnName(details.dataset.column);
  const chosen = inputs("value").filter((box) => box.checked).map((box) => JSON.stringify(box.value));
  const beside = oneOf(name, inputs("beside").filter((box) => box.checked).map((box) => box.dataset.literal));
  const tests = oneOf(name, chosen);
  for (const [part, sign] of [["from", ">="], ["to", "<="]]) {
    const value = first(part);
    const plain = isNumber(value) && !["datetime", "categorical"].includes(inputs(part)[0].dataset.kind);
    if (value !== "") tests.push(`${name} ${sign} ${plain ? value : JSON.stringify(value)}`);
  }
  if (first("is") !== "") tests.push(`${name} == ${first("is")}`);
  const both = tests.length && beside.length ? [`(${[tests.join(" and "), ...beside].join(" or ")})`] : [...tests, ...beside];
  return withMissing(name, both.join(" and "), first("missing"));
}

function oneOf(name, literals) {
  if (!literals.length) return [];
  return [literals.length === 1 ? `${name} == ${literals[0]}` : `${name} in [${literals.join(", ")}]`];
}

function withMissing(name, test, missing) {
  if (missing === "only") return `${name} is null`;
  if (missing === "too" && test !== "") return `(${test} or ${name} is null)`;
  if (missing === "never" && test === "") return `${name} is not null`;
  return test === "" ? null : test;
}

function isNumber(text) {
  return /^[+-]?(0|[1-9]\d*|\d*\.\d+|\d+\.)(e[+-]?\d+)?$/i.test(text);
}

function columnName(name) {
  return /^[A-Za-z_]\w*$/.test(name) && !KEYWORDS.has(name) ? name : `\`${name}\``;
}

function optionsOf(pairs) {
  return pairs.map(([value, textContent]) => element("option", { value, textContent }));
}

function labelled(text, input) {
  const label = element("label", { textContent: text });
  label.append(input);
  return label;
}

function note(textContent) {
  return element("p", { className: "hint", textContent });
}

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

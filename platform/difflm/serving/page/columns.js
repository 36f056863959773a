// Columns: which of a bundle's the rows are to have, as checkboxes in a disclosure.

/** Fill `container` with a box per column, all checked. */
export function showColumns(container, fields) {
  container.replaceChildren(
    ...fields.map(({ name }) => {
      const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name, defaultChecked: true });
      const label = document.createElement("label");
      label.append(box, ` ${name}`);
      return label;
    }),
  );
}

/** The names of the checked ones; null where they are all. */
export function columnsOf(container) {
  const boxes = [...container.querySelectorAll("input")];
  const chosen = boxes.filter(({ checked }) => checked);
  return chosen.length === boxes.length ? null : chosen.map(({ value }) => value);
}

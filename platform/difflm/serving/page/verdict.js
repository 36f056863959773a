// The verdict of a bundle's evaluation: three questions, each with a colour, a word, a sentence and its figures.

const TITLES = {
  faithful: "Faithful: are the rows like real ones?",
  useful: "Useful: does a model learn the same from them?",
  private: "Private: do they give training rows away?",
};

/** Show a verdict of `v1/quality` in a section, or hide it where there is none. */
export function showVerdict(section, place, verdict) {
  section.hidden = !verdict;
  place.replaceChildren(...(verdict?.answers ?? []).map(answered));
}

function answered({ question, colour, word, sentence, figures }) {
  const card = element("div", "", `answer ${colour}`);
  const told = element("p", word, "word");
  card.append(element("h3", TITLES[question] ?? question), told, element("p", sentence));
  if (figures.length) {
    const list = document.createElement("dl");
    for (const { title, text, beside } of figures) {
      const value = element("dd", text);
      value.append(element("span", ` beside ${beside}`, "hint"));
      list.append(element("dt", title), value);
    }
    card.append(list);
  }
  return card;
}

function element(tag, text, kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

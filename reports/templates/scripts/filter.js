// Filtering the rows of a table by words, all of which a row must have, and by how its trial ended.
const OUTCOMES = {
  all: () => true,
  "fastest or tied": (row) => row.classList.contains("mark"),
  passed: (row) => !row.dataset.outcome,
};

function watchFilter(table, group) {
  const { rows } = group;
  const endings = new Set(rows.map((row) => row.dataset.outcome).filter(Boolean));
  const words = element("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const outcome = element("select");
  const known = Object.keys(OUTCOMES).filter((name) => rows.some(OUTCOMES[name]));
  for (const name of [...known, ...[...endings].sort()]) outcome.append(element("option", {}, name));
  const count = element("output", { "aria-live": "polite" });
  const texts = new Map();

  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };

  function filter() {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const ended = OUTCOMES[outcome.value] ?? ((row) => row.dataset.outcome === outcome.value);
    showRows(group, (row) => ended(row) && asked.every((word) => textOf(row).includes(word)));
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  }

  words.addEventListener("input", filter);
  outcome.addEventListener("change", filter);
  const tools = element("div", { class: "tools", role: "search", "aria-label": "Rows of the table" });
  tools.append(element("label", {}, "Rows with", words), element("label", {}, "Outcome", outcome), count);
  table.closest(".scroll").before(tools);
  filter();
}

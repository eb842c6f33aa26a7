// Sorting a table by a click on a heading: ascending, descending, as it was. What is missing is last either way, numbers
// come before words, and rows that are equal stay in order.
const collator = new Intl.Collator("en", { numeric: true });

// Returns the number at the beginning of a text, or the text where there is none, or null where nothing is said.
function sortKey(text) {
  const plain = text.trim().replaceAll("\u202f", "");
  if (plain === "" || plain === "–") return null;
  const number = /^-?\d/.test(plain) ? Number.parseFloat(plain) : Number.NaN;
  return Number.isNaN(number) ? plain : number;
}

function compared(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return collator.compare(one, other);
}

function sortRows(group, column, direction) {
  const keyed = group.rows.map((row) => [sortKey(cellText(row, column)), row]);
  if (direction) {
    const sign = direction === "ascending" ? 1 : -1;
    keyed.sort(([one], [other]) => {
      if (one === null || other === null) return (one === null) - (other === null);
      return sign * compared(one, other);
    });
  }
  putRows(
    group,
    keyed.map(([, row]) => row),
  );
}

// Groups of rows, each under a title of its own, are sorted within themselves.
function watchSorting(table, groups) {
  const headings = [...table.tHead.rows[0].cells];
  if (groups.every(({ rows }) => rows.length < 2)) return;
  for (const heading of headings) {
    heading.dataset.heading = heading.textContent;
    const button = element("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => {
      const was = heading.getAttribute("aria-sort");
      const direction = was === "ascending" ? "descending" : was === "descending" ? null : "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      if (direction) heading.setAttribute("aria-sort", direction);
      for (const group of groups) sortRows(group, heading.cellIndex, direction);
    });
    heading.append(button);
  }
}

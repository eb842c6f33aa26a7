// What the table says of a record: its row holds the text, the heads of its columns and its caption the names.
const rowOf = (number) => document.getElementById(`record-${number}`);
const nameOf = (heading) => heading.dataset.heading ?? heading.textContent;

// Returns [name, text] of a row: all columns that are facts, and the one whose heading is `also`.
function facts(row, also = "") {
  const table = row.closest("table");
  const found = [];
  for (const heading of table.tHead.rows[0].cells) {
    const wanted = "fact" in heading.dataset || nameOf(heading) === also;
    const text = wanted ? cellText(row, heading.cellIndex) : "";
    if (text && text !== "–") found.push([nameOf(heading), text]);
  }
  for (const said of table.caption?.querySelectorAll("[data-shared]") ?? []) {
    const { shared, fact } = said.dataset;
    if (fact !== undefined || shared === also) found.push([shared, said.querySelector("b").textContent]);
  }
  const why = row.querySelector(".why");
  if (why) found.push(["outcome", why.textContent]);
  return found.map(withUnit);
}

// Moves a unit from the end of a name to the end of the text: "median (ms)", "1.2" reads "median", "1.2 ms".
function withUnit([name, text]) {
  const unit = /^(.*) \(([^()]+)\)$/.exec(name);
  return unit && /^[-\d]/.test(text) ? [unit[1], `${text} ${unit[2]}`] : [name, text];
}

// Returns the text of a row's cell in a column without the rank before it, "" where one cell stands for several columns
// or has a word in place of a figure.
function cellText(row, column) {
  const cell = row.cells[column];
  if (!cell || cell.colSpan > 1 || cell.matches(".why, .quiet")) return "";
  const fold = cell.querySelector(".fold");
  const rank = cell.querySelector(":scope > small:first-child");
  const part = fold ? fold.lastChild : rank ? cell.lastChild : cell;
  return part.textContent;
}

function kernelOf(row) {
  const [name, outcome] = [row.querySelector("th a").textContent, row.querySelector("th small")?.textContent];
  return outcome ? `${name} (${outcome})` : name;
}

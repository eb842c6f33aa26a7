// Rows of a table. Boxes of a table are all laid out, however many, so a long one is made of bodies of a few rows on a
// grid, of which a browser draws those in sight (long_tables.css). All rows stay in the page: to be found and printed.
const LONG_TABLE = 250; // rows above which it pays
const ROWS_OF_BODY = 50;
const WIDEST = 23; // characters, about what cells.py leaves unfolded

// Returns the groups of rows of a table as {rows, bodies}. Several bodies are groups, each under a title of its own.
function groupsOf(table) {
  const groups = [...table.tBodies].map((body) => ({ rows: [...body.querySelectorAll("tr:not(.place)")], bodies: [body] }));
  if (groups.length === 1 && groups[0].rows.length > LONG_TABLE) cutIntoBodies(table, groups[0]);
  return groups;
}

function cutIntoBodies(table, group) {
  const { rows, bodies } = group;
  setColumns(table, rows);
  while (bodies.length < rows.length / ROWS_OF_BODY) bodies.push(element("tbody"));
  bodies[0].after(...bodies.slice(1));
  putRows(group, rows);
  table.classList.add("long");
}

// Puts the rows of a group into its bodies in an order.
function putRows({ bodies }, rows) {
  const size = Math.ceil(rows.length / bodies.length);
  for (const [order, body] of bodies.entries()) body.append(...rows.slice(order * size, (order + 1) * size));
  showRows({ rows, bodies });
}

// Shows the rows of a group that are wanted; a body says how many it shows, from which its height is guessed.
function showRows({ rows, bodies }, wanted = (row) => !row.hidden) {
  for (const row of rows) row.hidden = !wanted(row);
  if (bodies.length === 1) return;
  for (const body of bodies) {
    const shown = [...body.rows].filter((row) => !row.hidden).length;
    body.hidden = !shown;
    body.style.setProperty("--rows", shown);
  }
}

// Sets the width of the columns after the first from their headings and from a sample of rows, without a layout.
function setColumns(table, rows) {
  const every = Math.ceil(rows.length / LONG_TABLE);
  const sample = rows.filter((_, order) => order % every === 0).map((row) => [...row.cells]);
  const headings = [...table.tHead.rows[0].cells].slice(1);
  const columns = headings.map((heading, after) => {
    const words = heading.textContent.split(" ").map((word) => word.length + 2); // and the arrow of sorting
    const texts = sample.map((cells) => (cells[after + 1]?.colSpan === 1 ? cells[after + 1].textContent.length : 0));
    const width = Math.min(WIDEST, Math.max(...words, ...texts));
    const needed = heading.className === "text" ? `min(${width}ch, var(--words))` : `${width}ch`;
    return { least: `(${needed} + 2 * var(--beside))`, share: `${width}fr` };
  });
  const tracks = columns.map(({ least, share }) => `minmax(calc${least}, ${share})`);
  table.style.setProperty("--columns", tracks.join(" "));
  table.style.setProperty("--least", columns.map(({ least }) => least).join(" + "));
  table.style.setProperty("--why", (table.querySelector(".why")?.cellIndex ?? 0) + 1);
}

const SHORT = 4; // rows that need no filter
const LARGE = 2000; // rows of a page of which sections are drawn only in sight

document.body.classList.toggle("large", document.querySelectorAll("tbody tr").length > LARGE);
watchTip();
watchRecords();
watchLegends();
for (const panel of document.querySelectorAll(".panel")) watchPanel(panel, panel.closest("figure"));
for (const figure of document.querySelectorAll("figure[data-measures]")) watchMeasures(figure);
for (const table of document.querySelectorAll("table")) {
  const groups = groupsOf(table);
  watchSorting(table, groups);
  if (table.matches(".trials") && groups[0].rows.length > SHORT) watchFilter(table, groups[0]);
}
watchPrinting();

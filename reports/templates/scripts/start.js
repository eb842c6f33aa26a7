const SHORT = 4; // rows that need no filter

watchTip();
watchRecords();
watchLegends();
for (const panel of document.querySelectorAll(".panel")) watchPanel(panel, panel.closest("figure"));
for (const figure of document.querySelectorAll("figure[data-measures]")) watchMeasures(figure);
for (const table of document.querySelectorAll("table")) {
  watchSorting(table);
  if (table.matches(".trials") && table.tBodies[0].rows.length > SHORT) watchFilter(table);
}
watchPrinting();

// The legend: choosing entries shows their series alone, in all plots of the page; choosing none shows all.
const chosen = new Set();
const NOT_CHOSEN = ".apart [data-series]:not(.chosen)"; // as in live.css

function choose(series) {
  if (!chosen.delete(series)) chosen.add(series);
  showChosen(document);
}

// Shows what is chosen within an element, also where it has just come into the page.
function showChosen(within) {
  document.body.classList.toggle("apart", chosen.size > 0);
  for (const drawn of within.querySelectorAll("[data-series]")) {
    drawn.classList.toggle("chosen", chosen.has(drawn.dataset.series));
  }
  for (const button of within.querySelectorAll("button.key")) {
    button.setAttribute("aria-pressed", chosen.has(button.dataset.key));
  }
  for (const button of within.querySelectorAll(".all")) button.hidden = !chosen.size;
  for (const panel of within.querySelectorAll(".panel")) panel.dispatchEvent(new Event("chosen"));
}

function watchLegends() {
  for (const keys of document.querySelectorAll(".keys")) {
    for (const key of keys.querySelectorAll("span[data-key]")) {
      const series = key.dataset.key;
      const attributes = { type: "button", class: "key", "data-key": series, "aria-pressed": "false" };
      key.replaceWith(element("button", { ...attributes, onclick: () => choose(series) }, ...key.childNodes));
    }
    const all = element("button", { type: "button", class: "plain all", hidden: "" }, "Show all");
    all.addEventListener("click", () => {
      chosen.clear();
      showChosen(document);
      keys.querySelector("button").focus();
    });
    keys.append(element("li", {}, all));
  }
}

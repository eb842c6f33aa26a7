// The choice of a measure: the plots of the others are in a block of the figure until one is asked for.
function watchMeasures(figure) {
  const names = JSON.parse(figure.dataset.measures);
  const [title, panels, caption] = ["h3", ".panels", "figcaption"].map((part) => figure.querySelector(part));
  const first = { title: title.textContent, alt: panels.getAttribute("aria-label"), caption: caption.textContent };
  const firstPanels = [...panels.children];
  const choice = element("select", {}, ...names.map((name) => element("option", {}, name)));
  let others = null;

  function panelOf(svg, order, all, words) {
    const label = `${words.title}, panel ${order + 1} of ${all.length}; the table holds the numbers`;
    const panel = element("div", { class: "panel", role: "img", "aria-label": label });
    panel.append(document.importNode(new DOMParser().parseFromString(svg, "text/html").querySelector("svg"), true));
    watchPanel(panel, figure);
    return panel;
  }

  async function show() {
    const at = choice.selectedIndex;
    others ??= decompressed(figure.querySelector("script.measures")).then(JSON.parse);
    const words = at ? (await others)[at - 1] : first;
    if (choice.selectedIndex !== at) return; // another was chosen meanwhile
    figure.dataset.measure = names[at];
    title.textContent = words.title;
    caption.textContent = words.caption;
    panels.setAttribute("aria-label", words.alt);
    panels.replaceChildren(...(at ? words.panels.map((svg, order, all) => panelOf(svg, order, all, words)) : firstPanels));
    showChosen(panels);
  }

  choice.addEventListener("change", show);
  title.after(element("div", { class: "tools" }, element("label", {}, "Measure", choice)));
}

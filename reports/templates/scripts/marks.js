// Marks of a plot: pointing at one or moving to one with the arrow keys says what it is, a click or Enter opens its
// record. A plot is one stop of the Tab key.
const NEAR = 22; // pixels from a mark within which the pointer means it

// Returns the marks of a panel as {shape, number, group}, in the order in which they were drawn.
function marksOf(panel) {
  return [...panel.querySelectorAll("[data-records]")].flatMap((group, order) => {
    const drawn = [...group.querySelectorAll("use, path")].filter((shape) => !shape.closest("defs"));
    const numbers = group.dataset.records.split(" ").filter(Boolean).map(Number);
    return numbers.flatMap((number, at) => (drawn[at] ? [{ shape: drawn[at], number, group: order }] : []));
  });
}

function markContent(figure, mark) {
  const row = rowOf(mark.number);
  if (!row) return [`Record ${mark.number}`];
  return [element("strong", {}, kernelOf(row)), definitions(facts(row, figure.dataset.measure))];
}

// Adds the whole configuration to the tooltip of a mark, which the record has, where its row says only a part.
async function tellConfiguration(mark) {
  const text = await recordText(mark.number);
  const config = text && JSON.parse(text).config;
  if (!config || !Object.keys(config).length || pointedAt !== mark.shape) return;
  const words = configuration(config);
  if ([...tip.querySelectorAll("dd")].some((said) => said.textContent === words)) return;
  tip.append(definitions([["configuration", words]]));
  place();
}

function watchPanel(panel, figure) {
  const marks = marksOf(panel);
  if (!marks.length) return;
  panel.setAttribute("role", "group");
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ring.setAttribute("class", "ring");
  let active = null;
  let places = null;

  const shown = (mark) => !mark.shape.closest(NOT_CHOSEN);

  function reachable(mark) {
    if (active) for (const name of ["tabindex", "role", "aria-label", "aria-describedby"]) active.shape.removeAttribute(name);
    active = mark;
    const [title, list] = markContent(figure, mark);
    const words = list ? [...list.children].map((part) => part.textContent).join(" ") : "";
    mark.shape.setAttribute("tabindex", "0");
    mark.shape.setAttribute("role", "button");
    mark.shape.setAttribute("aria-haspopup", "dialog");
    mark.shape.setAttribute("aria-label", `${title.textContent ?? title}: ${words}`);
  }

  function point(mark) {
    const box = mark.shape.getBBox();
    const size = { x: box.x - 3, y: box.y - 3, width: box.width + 6, height: box.height + 6, rx: 3 };
    for (const [name, value] of Object.entries(size)) ring.setAttribute(name, value);
    mark.shape.parentNode.append(ring);
    showTip(mark.shape, markContent(figure, mark));
    tellConfiguration(mark);
  }

  function leave() {
    ring.remove();
    hideTipSoon();
  }

  function nearest(event) {
    const direct = marks.find((mark) => mark.shape === event.target);
    if (direct) return direct;
    places ??= marks.filter(shown).map((mark) => {
      const box = mark.shape.getBoundingClientRect();
      return { mark, x: box.x + box.width / 2, y: box.y + box.height / 2 };
    });
    const far = ({ x, y }) => Math.hypot(x - event.clientX, y - event.clientY);
    const found = places.reduce((best, place) => (best && far(best) <= far(place) ? best : place), null);
    return found && far(found) <= NEAR ? found.mark : null;
  }

  function beside(key) {
    const at = marks.indexOf(active);
    const same = (mark) => mark.group === active.group;
    const [before, after] = [marks.slice(0, at).filter(shown).reverse(), marks.slice(at + 1).filter(shown)];
    switch (key) {
      case "ArrowRight":
        return after.find(same);
      case "ArrowLeft":
        return before.find(same);
      case "ArrowDown":
        return after.find((mark) => !same(mark));
      case "ArrowUp":
        return before.find((mark) => !same(mark));
      case "Home":
        return marks.find(shown);
      case "End":
        return marks.findLast(shown);
    }
  }

  panel.addEventListener("pointerenter", () => (places = null));
  panel.addEventListener("chosen", () => {
    places = null;
    if (!shown(active)) reachable(marks.find(shown) ?? active); // what is hidden takes no focus
  });
  panel.addEventListener("pointermove", (event) => {
    const mark = nearest(event);
    if (mark) point(mark);
    else leave();
  });
  panel.addEventListener("pointerleave", leave);
  panel.addEventListener("click", (event) => {
    places = null;
    const mark = nearest(event);
    if (!mark) return;
    reachable(mark);
    mark.shape.focus({ preventScroll: true });
    openRecord(mark.number);
  });
  panel.addEventListener("focusin", () => point(active));
  panel.addEventListener("focusout", leave);
  panel.addEventListener("keydown", (event) => {
    const next = beside(event.key);
    if (next) {
      event.preventDefault();
      reachable(next);
      next.shape.focus({ preventScroll: true });
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      openRecord(active.number);
    }
  });
  reachable(marks[0]);
}

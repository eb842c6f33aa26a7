// The tooltip of a mark. Escape hides it; the pointer may move onto it.
const tip = element("div", { class: "tip", id: "tip", role: "tooltip", hidden: "" });
let leaving = 0;

async function showTip(mark, content) {
  clearTimeout(leaving);
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { computePosition, offset, flip, shift } = FloatingUIDOM;
  const middleware = [offset(10), flip(), shift({ padding: 8 })];
  const { x, y } = await computePosition(mark, tip, { strategy: "fixed", placement: "top", middleware });
  Object.assign(tip.style, { left: `${x}px`, top: `${y}px` });
}

function hideTip() {
  clearTimeout(leaving);
  tip.hidden = true;
}

function hideTipSoon() {
  clearTimeout(leaving);
  leaving = setTimeout(hideTip, 150);
}

function watchTip() {
  document.body.append(tip);
  tip.addEventListener("pointerenter", () => clearTimeout(leaving));
  tip.addEventListener("pointerleave", hideTipSoon);
  addEventListener("scroll", hideTip, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
  });
}

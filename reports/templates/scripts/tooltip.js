// The tooltip of a mark. Escape hides it; the pointer may move onto it.
const tip = element("div", { class: "tip", id: "tip", role: "tooltip", hidden: "" });
let leaving = 0;
let pointedAt = null;

async function place() {
  const { computePosition, offset, flip, shift } = FloatingUIDOM;
  const middleware = [offset(10), flip(), shift({ padding: 8 })];
  const { x, y } = await computePosition(pointedAt, tip, { strategy: "fixed", placement: "top", middleware });
  Object.assign(tip.style, { left: `${x}px`, top: `${y}px` });
}

function showTip(mark, content) {
  clearTimeout(leaving);
  if (pointedAt === mark && !tip.hidden) return;
  pointedAt = mark;
  tip.replaceChildren(...content);
  tip.hidden = false;
  place();
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
  const follow = () => tip.hidden || place();
  addEventListener("scroll", follow, { passive: true, capture: true });
  addEventListener("resize", follow);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
  });
}

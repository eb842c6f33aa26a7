// The dialog of a raw record. A link to #record-12 opens it, so does the address of the page.
const NOT_HELD =
  "The page does not hold this record, it would be too large: see the file that it was made from, one trial a line.";

const recordTitle = element("h2", { id: "record-title" });
const recordFacts = element("div");
const recordRaw = element("pre", { tabindex: "0", "aria-label": "Raw record" });
const recordDialog = element(
  "dialog",
  { class: "record", "aria-labelledby": "record-title" },
  element("form", { method: "dialog" }, element("button", { class: "plain" }, "Close")),
  recordTitle,
  recordFacts,
  recordRaw,
);

function configuration(config) {
  const words = ([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`;
  return Object.entries(config).map(words).join(" ") || "default";
}

async function openRecord(number) {
  const row = rowOf(number);
  hideTip();
  recordTitle.textContent = row ? kernelOf(row) : `Record ${number}`;
  recordFacts.replaceChildren(row ? definitions(facts(row)) : "");
  recordRaw.textContent = "…";
  if (!recordDialog.open) recordDialog.showModal();
  recordDialog.scrollTop = 0;
  history.replaceState(null, "", `#record-${number}`);
  try {
    const text = await recordText(number);
    recordRaw.textContent = text ?? NOT_HELD;
    if (text) recordFacts.append(definitions([["configuration", configuration(JSON.parse(text).config)]]));
  } catch (error) {
    recordRaw.textContent = `The record could not be read: ${error.message}`;
  }
}

function numberIn(address) {
  const found = /^#record-(\d{1,9})$/.exec(address);
  return found && (rowOf(found[1]) || found[1] < RECORDS_IN_BLOCK * document.querySelectorAll("script.records").length)
    ? Number(found[1])
    : null;
}

function watchRecords() {
  document.body.append(recordDialog);
  recordDialog.addEventListener("close", () => {
    history.replaceState(null, "", location.pathname + location.search);
  });
  recordDialog.addEventListener("click", (event) => {
    const { left, right, top, bottom } = recordDialog.getBoundingClientRect();
    const within = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
    if (event.target === recordDialog && !within) recordDialog.close(); // on what is behind it
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#record-"]');
    const number = link && numberIn(link.getAttribute("href"));
    if (number === null || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    openRecord(number);
  });
  const follow = () => {
    const number = numberIn(location.hash);
    if (number !== null) openRecord(number);
  };
  addEventListener("hashchange", follow);
  follow();
}

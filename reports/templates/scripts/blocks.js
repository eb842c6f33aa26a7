// Reads a block of data: the base64 of gzip in a JSON string.
async function decompressed(block) {
  const bytes = Uint8Array.from(atob(JSON.parse(block.textContent)), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const RECORDS_IN_BLOCK = 250; // as in embedded.py
const opened = new Map();

// Returns the text of a record, or null where the page does not hold it.
async function recordText(number) {
  const blocks = document.querySelectorAll("script.records");
  const order = Math.floor(number / RECORDS_IN_BLOCK);
  if (order >= blocks.length) return null;
  if (!opened.has(order)) opened.set(order, decompressed(blocks[order]).then((text) => text.split("\x1e")));
  return (await opened.get(order))[number % RECORDS_IN_BLOCK] ?? null;
}

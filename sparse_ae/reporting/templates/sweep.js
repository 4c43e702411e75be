"use strict";

const table = document.getElementById("runs");
const dialog = document.getElementById("details");
const content = document.getElementById("details-content");

/** Returns the sort key of a cell: [0, number], [1, text], or null if it is empty. */
function valueOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.number !== undefined) return [0, Number(cell.dataset.number)];
  const text = cell.textContent.trim();
  return text === "" ? null : [1, text];
}

/** Orders numbers by size, then text; empty cells come last in both directions. */
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (a[0] !== b[0]) return sign * (a[0] - b[0]);
  return sign * (a[0] === 0 ? a[1] - b[1] : a[1].localeCompare(b[1], "en", { numeric: true }));
}

function sortBy(header) {
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const column = header.cellIndex;
  const rows = Array.from(table.tBodies[0].rows, (row) => [row, valueOf(row, column)]);
  rows.sort(([, a], [, b]) => compare(a, b, ascending ? 1 : -1));
  table.tBodies[0].append(...rows.map(([row]) => row));
}

/** Opens the details of a run. The browser reads the figures in its template only now. */
function show(button) {
  content.replaceChildren(document.getElementById(button.dataset.details).content.cloneNode(true));
  dialog.showModal();
  dialog.scrollTop = 0;
}

table.tHead.addEventListener("click", (event) => {
  const header = event.target.closest("th");
  if (header) sortBy(header);
});
table.tBodies[0].addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row && getSelection().isCollapsed) show(row.querySelector("button"));
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => content.replaceChildren());
